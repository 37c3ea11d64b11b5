package schemas_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"time"

	. "github.com/foreshift/foreshift/schemas"
)

// The samples: one full message of each kind, every field set.

const sampleBase = 5 * time.Minute

var (
	sampleTime = At(time.Date(2026, 3, 14, 9, 26, 53, 589793238, time.UTC))
	sampleStep = StepAt(sampleTime, sampleBase)
)

// vmOf gives the n-th VM of the samples.
func vmOf(n int) VMID {
	v, err := ParseVMID(fmt.Sprintf("3f1c8a52-0000-4000-8000-%012x", n))
	if err != nil {
		panic(err)
	}
	return v
}

// vmsIn gives n VMs of one partition.
func vmsIn(partition, n int) []VMID {
	var vs []VMID
	for i := 0; len(vs) < n; i++ {
		if v := vmOf(i); v.Partition() == partition {
			vs = append(vs, v)
		}
	}
	return vs
}

func sampleMetrics(n int) *Metrics {
	r := rand.New(rand.NewPCG(1, uint64(n)))
	m := &Metrics{Host: "host-7", Site: "private", Agent: "agent-5f2", Seq: 42}
	for i := 0; i < n; i++ {
		v := vmOf(i)
		if i == 0 {
			v = VMID{}
		}
		m.VM = append(m.VM, v)
		m.Time = append(m.Time, sampleTime.Add(time.Duration(i)*time.Millisecond))
		m.IntervalS = append(m.IntervalS, 10)
		m.Flags = append(m.Flags, Flags(i)&15)
		m.AllocCPU = append(m.AllocCPU, 2000)
		m.AllocMem = append(m.AllocMem, 4<<30)
	}
	m.AllocCPU[0], m.AllocMem[0] = NaN(), NaN()
	for c := range m.Cols {
		if Column(c) == ColCPUMax || Column(c) == ColMemMax {
			continue
		}
		if Column(c) == ColPSI {
			continue // no VM of the host tells it
		}
		m.Cols[c] = make([]float32, n)
		for i := range m.Cols[c] {
			m.Cols[c][i] = float32(math.Round(r.Float64() * 1e4))
			if Column(c) == ColAppMs && i%3 == 1 {
				m.Cols[c][i] = NaN()
			}
		}
	}
	return m
}

func sampleSteps(n int) *Steps {
	r := rand.New(rand.NewPCG(2, uint64(n)))
	m := &Steps{Partition: 17, Step: sampleStep, Revision: 1, Lease: 9, Base: sampleBase, Metrics: 4711, VM: vmsIn(17, n)}
	for i := 0; i < n; i++ {
		m.Host = append(m.Host, HostID(fmt.Sprintf("host-%d", i%3)))
		m.Coverage = append(m.Coverage, 1-float32(i%4)/4)
		m.Flags = append(m.Flags, Flags(i)&15)
		m.AllocCPU = append(m.AllocCPU, 2000)
		m.AllocMem = append(m.AllocMem, NaN())
	}
	for c := range m.Cols {
		m.Cols[c] = make([]float32, n)
		for i := range m.Cols[c] {
			m.Cols[c][i] = float32(math.Round(r.Float64() * 1e6))
		}
	}
	return m
}

func sampleForecasts(n, k int) *Forecasts {
	r := rand.New(rand.NewPCG(3, uint64(n)))
	f := &Forecasts{Partition: 17, Chunk: 1, Chunks: 3, Issued: sampleStep, Grid: Grid{Start: sampleStep + 1}, Base: sampleBase,
		Lease: 9, Model: "empirical", K: k, VM: vmsIn(17, n)}
	for i := 0; i < k; i++ {
		f.Origins = append(f.Origins, sampleStep-Step(i*7))
		for slot := 0; slot < Slots; slot++ {
			f.Weight = append(f.Weight, 1/float32(k))
		}
	}
	unit := [NumResources]float64{4000, 8 << 30, 1e8, 5e7}
	for i := 0; i < n; i++ {
		f.Host = append(f.Host, "host-1")
		f.AllocCPU = append(f.AllocCPU, 4000)
		f.AllocMem = append(f.AllocMem, 8<<30)
		for res := range f.Q {
			for slot := 0; slot < Slots; slot++ {
				v := r.Float64() * unit[res] / 100
				for range NumLevels {
					f.Q[res] = append(f.Q[res], float32(v))
					v += r.Float64() * unit[res] / 20
				}
			}
		}
		for j := 0; j < k*Slots; j++ {
			f.D = append(f.D, float32(r.Float64()*unit[CPU]), float32(r.Float64()*unit[Memory]))
		}
	}
	return f
}

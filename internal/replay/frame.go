package replay

import (
	"slices"

	"github.com/foreshift/foreshift/schemas"
)

// epoch is the step of t = 0: any multiple of a week far from 0 will do.
const epoch = schemas.Step(1000 * 7 * day)

// K is the number of scenarios of a frame.
const K = schemas.NumScenarios

// Frame is what is foreseen after step T for all VMs of a history.
type Frame struct {
	T    int
	Msg  *schemas.Forecasts // of all VMs
	CPU  []float32          // VM x scenario x slot, whole mCPU
	Mean float64            // demand of a VM in the first slot, mCPU
}

// Source foresees. After is asked for rising steps t and may use the history up to and
// including t, unless it is the oracle.
type Source interface {
	After(t int, f *Frame) error
}

// newFrame makes room for a frame of all VMs; memory demand is what each VM reserves.
func newFrame(h *History) *Frame {
	n := len(h.VMs)
	m := &schemas.Forecasts{Chunks: 1, Base: schemas.DefaultBase, Lease: 1, K: K, Weight: make([]float32, K*schemas.Slots),
		D: make([]float32, n*K*schemas.Slots*schemas.ScenarioResources)}
	none := make([]float32, n*schemas.Slots*schemas.NumLevels)
	for r := range m.Q {
		m.Q[r] = none
	}
	for i := range h.VMs {
		m.VM, m.Host = append(m.VM, id(h.VMs[i].Name)), append(m.Host, "")
		m.AllocCPU, m.AllocMem = append(m.AllocCPU, whole(float32(1000*h.VMs[i].Cores))), append(m.AllocMem, float32(h.VMs[i].GiB*(1<<30)))
		per := K * schemas.Slots
		for j := range per {
			m.D[(i*per+j)*schemas.ScenarioResources+1] = float32(h.VMs[i].GiB * (1 << 30))
		}
	}
	return &Frame{Msg: m, CPU: make([]float32, n*K*schemas.Slots)}
}

// seal stamps the frame and copies its paths into the message.
func (f *Frame) seal(t int) {
	f.T, f.Msg.Issued, f.Msg.Grid = t, epoch+schemas.Step(t), schemas.Grid{Start: epoch + schemas.Step(t) + 1}
	f.Mean = 0
	for j, x := range f.CPU {
		if most := f.Msg.AllocCPU[j/(K*schemas.Slots)]; x > most { // as the fleet's fold has it
			x = most
			f.CPU[j] = x
		}
		f.Msg.D[j*schemas.ScenarioResources] = x
		if j%schemas.Slots == 0 {
			f.Mean += float64(x) * float64(f.Msg.Weight[j%(K*schemas.Slots)])
		}
	}
	f.Mean /= float64(len(f.Msg.VM))
}

// whole rounds to the mCPU that the placer adds in.
func whole(mcpu float32) float32 {
	if !(mcpu > 0) {
		return 0
	}
	return float32(int64(mcpu + .5))
}

// persist foresees that the last value lasts.
type persist struct{ h *History }

// After implements [Source].
func (p persist) After(t int, f *Frame) error {
	for v := range p.h.VMs {
		x := whole(float32(1000 * p.h.At(v, t)))
		row := f.CPU[v*K*schemas.Slots : (v+1)*K*schemas.Slots]
		for j := range row {
			row[j] = x
		}
	}
	alike(f.Msg.Weight)
	f.seal(t)
	return nil
}

// alike weighs all scenarios the same. That they are all there for a certain future
// too keeps to one shape; sums over equal paths are exact.
func alike(w []float32) {
	for i := range w {
		w[i] = 1. / K
	}
}

// oracle knows what comes: scenario k of a slot of several steps is one of them, so
// that the mean over scenarios is the mean over the slot. Of a slot of one step the
// scenarios are all the same.
type oracle struct{ h *History }

// oracleK is how many scenarios the oracle uses: what 3 and 12 steps divide.
const oracleK = 12

// After implements [Source].
func (o oracle) After(t int, f *Frame) error {
	for v := range o.h.VMs {
		row := f.CPU[v*K*schemas.Slots : (v+1)*K*schemas.Slots]
		for s := range schemas.Slots {
			from, n := t+1+schemas.SlotOffset(s), schemas.SlotLen(s)
			for k := range oracleK {
				x := float32(0) // beyond the end nothing is to be saved
				if at := from + k%n; at < o.h.Steps {
					x = whole(float32(1000 * o.h.At(v, at)))
				}
				row[k*schemas.Slots+s] = x
			}
			row[oracleK*schemas.Slots+s] = row[s]
		}
	}
	for k := range K {
		for s := range schemas.Slots {
			f.Msg.Weight[k*schemas.Slots+s] = 1. / oracleK
			if k == oracleK {
				f.Msg.Weight[k*schemas.Slots+s] = 0
			}
		}
	}
	f.seal(t)
	return nil
}

// held is the frame with another weight of the scenario in which the last ten minutes
// last, within the hour; the others share the rest. All but the weights is shared.
func (f *Frame) held(weight float64) *Frame {
	g, m := *f, *f.Msg
	m.Weight = slices.Clone(m.Weight)
	for s := range schemas.SlotsWithin(perHour) {
		for k := range K {
			m.Weight[k*schemas.Slots+s] = float32((1 - weight) / (K - 1))
		}
		m.Weight[(K-1)*schemas.Slots+s] = float32(weight)
	}
	g.Msg = &m
	return &g
}

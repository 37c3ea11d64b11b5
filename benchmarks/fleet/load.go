package fleet

import (
	"encoding/binary"
	"fmt"
	"runtime/metrics"

	"github.com/foreshift/foreshift/forecaster/lstm"
	"github.com/foreshift/foreshift/forecaster/window"
	"github.com/foreshift/foreshift/schemas"
)

// load is the synthetic demand of the sample: each VM's resources follow series of a
// pool of a few hundred, at a level of its own.
type load struct {
	seed  uint64
	hosts int
	vms   []schemas.VMID
	parts [schemas.Partitions][]int // index of VMs
	pool  [schemas.NumResources][]lstm.Series
	rows  int
	steps schemas.Steps // scratch
}

// poolSize is how many different series there are.
const poolSize = 320

// firstStep is the step of row 0.
const firstStep = schemas.Step(schemas.StepsPerDay * 20000)

func newLoad(seed uint64, vms, hosts, rows int) *load {
	l := &load{seed: seed, hosts: hosts, rows: rows}
	for _, s := range lstm.Generate(seed, poolSize, rows/schemas.StepsPerDay+1) {
		l.pool[s.Resource] = append(l.pool[s.Resource], s)
	}
	for n := range vms {
		var id schemas.VMID
		binary.LittleEndian.PutUint64(id[:], uint64(n)*0x9e3779b97f4a7c15+seed)
		id[15] = 1
		l.vms = append(l.vms, id)
		l.parts[id.Partition()] = append(l.parts[id.Partition()], n)
	}
	return l
}

func (l *load) step(k int) schemas.Step { return firstStep + schemas.Step(k) }

// unit is what 1 of a series of the pool stands for.
var unit = [schemas.NumResources]float32{schemas.CPU: 2000, schemas.Memory: 4e9, schemas.Net: 1e6, schemas.Disk: 1e6}

// at is the demand of VM n for a resource at row k, NaN where it is missing.
func (l *load) at(n int, r schemas.Resource, k int) float32 {
	p := l.pool[r]
	return p[(n*7+int(r))%len(p)].Y[k] * unit[r] * (.5 + float32(n%97)/97)
}

// columns writes row k of VM n: its demand by column.
func (l *load) columns(n, k int, cols *[schemas.NumColumns][]float32) {
	add := func(c schemas.Column, v float32) { cols[c] = append(cols[c], v) }
	net, disk := l.at(n, schemas.Net, k), l.at(n, schemas.Disk, k)
	add(schemas.ColCPU, l.at(n, schemas.CPU, k))
	add(schemas.ColMem, l.at(n, schemas.Memory, k))
	add(schemas.ColNetRx, .7*net)
	add(schemas.ColNetTx, .3*net)
	add(schemas.ColDiskRd, .4*disk)
	add(schemas.ColDiskWr, .6*disk)
	add(schemas.ColSteal, 0)
	add(schemas.ColDirtyRate, .001*l.at(n, schemas.Memory, k))
}

func (l *load) host(n int) schemas.HostID {
	return schemas.HostID(fmt.Sprintf("h%d", n%l.hosts))
}

// history makes the messages of row k, one a partition; they are used again.
func (l *load) history(k int, f func(*schemas.Steps) error) error {
	for p, vms := range l.parts {
		if len(vms) == 0 {
			continue
		}
		m := &l.steps
		*m = schemas.Steps{Partition: p, Step: l.step(k), Base: schemas.DefaultBase, VM: m.VM[:0], Host: m.Host[:0],
			Coverage: m.Coverage[:0], Flags: m.Flags[:0], AllocCPU: m.AllocCPU[:0], AllocMem: m.AllocMem[:0], Cols: m.Cols}
		for c := range m.Cols {
			m.Cols[c] = m.Cols[c][:0]
		}
		for _, n := range vms {
			m.VM, m.Host = append(m.VM, l.vms[n]), append(m.Host, l.host(n))
			m.Coverage, m.Flags = append(m.Coverage, 1), append(m.Flags, 0)
			m.AllocCPU, m.AllocMem = append(m.AllocCPU, 4000), append(m.AllocMem, 16e9)
			l.columns(n, k, &m.Cols)
			m.Cols[schemas.ColCPUMax] = append(m.Cols[schemas.ColCPUMax], l.at(n, schemas.CPU, k))
			m.Cols[schemas.ColMemMax] = append(m.Cols[schemas.ColMemMax], l.at(n, schemas.Memory, k))
		}
		if err := f(withColumns(m)); err != nil {
			return err
		}
	}
	return nil
}

// withColumns is the message without the columns that nobody wrote.
func withColumns(m *schemas.Steps) *schemas.Steps {
	c := *m
	for k := range c.Cols {
		if len(c.Cols[k]) == 0 {
			c.Cols[k] = nil
		}
	}
	return &c
}

// samples makes the messages of row k, one a host: the mean of the step.
func (l *load) samples(k int, f func(*schemas.Metrics) error) error {
	for h := range l.hosts {
		m := &schemas.Metrics{Host: l.host(h), Site: "a", Agent: "bench", Seq: uint64(k)}
		for n := h; n < len(l.vms); n += l.hosts {
			m.VM, m.Time = append(m.VM, l.vms[n]), append(m.Time, l.step(k).End(schemas.DefaultBase))
			m.IntervalS, m.Flags = append(m.IntervalS, float32(schemas.DefaultBase.Seconds())), append(m.Flags, 0)
			m.AllocCPU, m.AllocMem = append(m.AllocCPU, 4000), append(m.AllocMem, 16e9)
			l.columns(n, k, &m.Cols)
		}
		if err := f(m); err != nil {
			return err
		}
	}
	return nil
}

// fill writes the rows up to k of VM n into a window.
func (l *load) fill(w *window.Window, n, from, to int) {
	var cols [schemas.NumColumns][]float32
	for k := from; k < to; k++ {
		for c := range cols {
			cols[c] = cols[c][:0]
		}
		l.columns(n, k, &cols)
		r := window.Row{Step: l.step(k), Coverage: 1}
		for c := range r.V {
			r.V[c] = schemas.NaN()
			if len(cols[c]) > 0 {
				r.V[c] = cols[c][0]
			}
		}
		w.Put(&r)
	}
}

// gc is the processor time that collecting took so far, in seconds.
func gc() float64 {
	s := []metrics.Sample{{Name: "/cpu/classes/gc/total:cpu-seconds"}}
	metrics.Read(s)
	if s[0].Value.Kind() != metrics.KindFloat64 {
		return 0
	}
	return s[0].Value.Float64()
}

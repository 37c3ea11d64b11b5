package sim

import (
	"github.com/foreshift/foreshift/internal/sim/load"
	"github.com/foreshift/foreshift/internal/sim/world"
	"github.com/foreshift/foreshift/schemas"
)

// StartStep is the step in which the fleet began: everything before it is history.
func (f *Fleet) StartStep() schemas.Step { return f.start }

// Demand is what a VM wants over a step, past or to come.
func (f *Fleet) Demand(vm schemas.VMID, step schemas.Step) (load.Demand, bool) {
	i, ok := f.byVM[vm]
	if !ok {
		return load.Demand{}, false
	}
	return f.demand.At(i, step), true
}

// History is what STEPS would have held for a past step: one message for each
// partition that has VMs, in the order of partitions, rows marked
// [schemas.FlagImported]. Every VM stands on its first host; demand is the very
// function that the live fleet follows, so that history and present join without
// a seam.
func (f *Fleet) History(step schemas.Step) []*schemas.Steps {
	demand := make([]load.Demand, len(f.vms))
	wanted := make([]float64, len(f.hosts))
	home := make([]int, len(f.vms))
	for i := range f.vms {
		demand[i] = f.demand.At(i, step)
		home[i] = f.byHost[f.vms[i].Host]
		wanted[home[i]] += demand[i].CPU
	}
	var byPartition [schemas.Partitions][]int
	for i := range f.vms {
		p := f.vms[i].ID.Partition()
		byPartition[p] = append(byPartition[p], i)
	}
	var out []*schemas.Steps
	for p, members := range byPartition {
		if len(members) == 0 {
			continue
		}
		s := &schemas.Steps{Partition: p, Step: step, Base: f.cfg.Base}
		n := len(members)
		for c := schemas.ColCPU; c <= schemas.ColMemMax; c++ {
			s.Cols[c] = make([]float32, 0, n)
		}
		for _, i := range members {
			v, d := &f.vms[i], &demand[i]
			served := 1.0
			if capacity := float64(f.hosts[home[i]].Capacity.CPU); wanted[home[i]] > capacity {
				served = capacity / wanted[home[i]]
			}
			s.VM = append(s.VM, v.ID)
			s.Host = append(s.Host, v.Host)
			s.Coverage = append(s.Coverage, 1)
			s.Flags = append(s.Flags, schemas.FlagImported)
			s.AllocCPU = append(s.AllocCPU, float32(v.AllocCPU))
			s.AllocMem = append(s.AllocMem, float32(v.AllocMem))
			row := [...]float64{d.CPU, d.Mem, d.NetRx, d.NetTx, d.DiskRd, d.DiskWr, d.CPU * (1 - served), d.Dirty * served, d.CPU, d.Mem}
			for c, x := range row {
				s.Cols[c] = append(s.Cols[c], float32(x))
			}
		}
		out = append(out, s)
	}
	return out
}

// Copy is one copy of a VM as an all-knowing observer sees it.
type Copy struct {
	Host schemas.HostID
	world.Copy
}

// Truth is the truth about a VM.
type Truth struct {
	Copies     []Copy
	Running    []schemas.HostID // hosts on which a copy runs now
	MaxRunning int              // most copies that ever ran at one time: must be 1
	StaleRuns  int              // how often a copy ran after the VM had run elsewhere: must be 0
	Lost       bool             // there was a moment without any intact copy: must be false
}

// Truth tells where copies of a VM are and what has ever happened to them.
func (f *Fleet) Truth(vm schemas.VMID) Truth {
	i, ok := f.byVM[vm]
	if !ok {
		return Truth{}
	}
	f.lock()
	defer f.unlock()
	w := f.w.Truth(i)
	t := Truth{MaxRunning: w.MaxRunning, StaleRuns: w.StaleRuns, Lost: w.Lost}
	for _, c := range w.Copies {
		t.Copies = append(t.Copies, Copy{f.hosts[c.Host].ID, c})
	}
	for _, h := range w.Running {
		t.Running = append(t.Running, f.hosts[h].ID)
	}
	return t
}

// Running are the hosts on which a copy of the VM runs now: exactly one, unless
// something went wrong or a handover is at its switch.
func (f *Fleet) Running(vm schemas.VMID) []schemas.HostID { return f.Truth(vm).Running }

// Violations are the VMs whose safety was ever broken, in the order of [Fleet.VMs].
func (f *Fleet) Violations() (out []schemas.VMID) {
	for i := range f.vms {
		if t := f.Truth(f.vms[i].ID); t.MaxRunning > 1 || t.StaleRuns > 0 || t.Lost {
			out = append(out, f.vms[i].ID)
		}
	}
	return out
}

// Load is what a host wants and has now.
type Load struct {
	Wanted   schemas.MilliCPU
	Capacity schemas.MilliCPU
	Used     schemas.Bytes
	VMs      int // active copies
}

// Load tells how busy a host is now.
func (f *Fleet) Load(h schemas.HostID) (Load, bool) {
	i, ok := f.byHost[h]
	if !ok {
		return Load{}, false
	}
	f.lock()
	defer f.unlock()
	u := f.w.Host(i).Usage()
	l := Load{Wanted: schemas.MilliCPU(u.Demand), Capacity: f.hosts[i].Capacity.CPU, Used: schemas.Bytes(u.Used)}
	for _, g := range f.w.Host(i).Guests() {
		if g.Active() {
			l.VMs++
		}
	}
	return l, true
}

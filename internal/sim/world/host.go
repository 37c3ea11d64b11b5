package world

import (
	"github.com/foreshift/foreshift/internal/sim/load"
	"github.com/foreshift/foreshift/schemas"
)

// preCopyCost is what an outgoing pre-copy takes of its source, in mCPU.
const preCopyCost = 100

// counters are cumulative quantities: core-ns, core-ns, then bytes.
type counters struct{ CPU, Delay, NetRx, NetTx, DiskRd, DiskWr, Dirty float64 }

// grown is c after dt ns at rates r a ns.
func (c counters) grown(r *counters, dt float64) counters {
	return counters{c.CPU + r.CPU*dt, c.Delay + r.Delay*dt, c.NetRx + r.NetRx*dt, c.NetTx + r.NetTx*dt,
		c.DiskRd + r.DiskRd*dt, c.DiskWr + r.DiskWr*dt, c.Dirty + r.Dirty*dt}
}

// Host is one host with the copies it holds.
type Host struct {
	HostSpec
	w      *World
	index  int
	guests []*Guest
	nextID int32
	down   bool // its libvirt daemon is dead

	// The current segment: rates are constant from segment until end at the latest.
	segment, end int64
	busy         float64 // core-ns served until segment
	busyRate     float64
	demand       float64 // mCPU wanted now
}

func (h *Host) add(v *vm) *Guest {
	g := &Guest{VM: &v.VMSpec, vm: v, host: h, ID: -1, State: Shutoff, memory: baseMemory * v.Mem}
	h.guests = append(h.guests, g)
	v.copies = append(v.copies, g)
	return g
}

func (h *Host) newID() int32 { h.nextID++; return h.nextID - 1 }

// to commits all whole segments that ended by t.
func (h *Host) to(t int64) {
	for h.end <= t {
		h.commit(h.end)
		h.begin(h.end)
	}
}

// commit moves the counters to t, inside the current segment.
func (h *Host) commit(t int64) {
	dt := float64(t - h.segment)
	if dt <= 0 {
		return
	}
	for _, g := range h.guests {
		g.count = g.count.grown(&g.rate, dt)
	}
	h.busy += h.busyRate * dt
	h.segment = t
}

// change makes fn's change of the host at the present time.
func (h *Host) change(fn func()) {
	t := h.w.now
	h.to(t)
	h.commit(t)
	fn()
	h.begin(t)
}

// begin starts a segment at t: it asks every guest's demand for the step and
// shares the cores out.
func (h *Host) begin(t int64) {
	base := h.w.cfg.Base
	step := schemas.StepAt(schemas.Time(t), base)
	h.segment, h.end = t, int64(step.End(base))
	h.demand = 0
	for _, g := range h.guests {
		g.want = load.Demand{}
		if !g.executes() {
			continue
		}
		d := h.w.cfg.Demand(g.vm.index, step)
		if g.out != nil && g.out.flow != nil {
			d.CPU *= 1 - g.out.flow.throttle
			d.Dirty *= 1 - g.out.flow.throttle
			h.demand += preCopyCost
		}
		g.want, g.memory = d, d.Mem
		h.demand += d.CPU
	}
	served := 1.0
	if h.demand > h.CPU {
		served = h.CPU / h.demand
	}
	h.busyRate = h.demand * served / 1000 / h.Speed
	for _, g := range h.guests {
		d := &g.want
		cores := d.CPU / 1000 / h.Speed
		g.rate = counters{cores * served, cores * (1 - served), d.NetRx / 1e9, d.NetTx / 1e9,
			d.DiskRd / 1e9, d.DiskWr / 1e9, d.Dirty * served / 1e9}
	}
}

// HostUsage is a host's own counters.
type HostUsage struct {
	Busy   float64 // core-ns served since the world began
	Idle   float64 // core-ns not served
	Used   float64 // bytes of memory in use
	Demand float64 // mCPU wanted now
}

// Usage reads the host's counters at the present time.
func (h *Host) Usage() HostUsage {
	t := h.w.now
	h.to(t)
	u := HostUsage{Busy: h.busy + h.busyRate*float64(t-h.segment), Used: HostMemory, Demand: h.demand}
	u.Idle = float64(t-h.w.cfg.Start)*h.CPU/1000/h.Speed - u.Busy
	for _, g := range h.guests {
		if g.Active() {
			u.Used += g.resident()
		}
	}
	u.Used = min(u.Used, h.Mem)
	return u
}

// HostMemory is what a host's own system takes.
const HostMemory = 512 << 20

// allocated is the memory promised to active guests, in bytes.
func (h *Host) allocated() (sum float64) {
	for _, g := range h.guests {
		if g.Active() {
			sum += g.VM.Mem
		}
	}
	return sum
}

// Index is the host's number.
func (h *Host) Index() int { return h.index }

// Guests are the copies on the host, in the order in which they came; the caller
// must not keep the slice.
func (h *Host) Guests() []*Guest { h.to(h.w.now); return h.guests }

// Find is the copy of a VM, or nil.
func (h *Host) Find(id [16]byte) *Guest {
	h.to(h.w.now)
	for _, g := range h.guests {
		if g.VM.ID == id {
			return g
		}
	}
	return nil
}

// FindName is the copy of the VM of that name, or nil.
func (h *Host) FindName(name string) *Guest {
	h.to(h.w.now)
	for _, g := range h.guests {
		if g.VM.Name == name {
			return g
		}
	}
	return nil
}

package fleet

import (
	"slices"

	"github.com/foreshift/foreshift/schemas"
)

// ReadFrom are the sequences from which on the streams of telemetry have to be read
// to fold the present picture again; 0: an hour of stream time before now, since
// something stands in the picture that hangs on more than the last reports.
type ReadFrom struct{ Capacity, Forecasts, Pressure uint64 }

// ReadFrom finds them.
func (f *Fleet) ReadFrom(now schemas.Time) ReadFrom {
	var r ReadFrom
	least := func(to *uint64, seq uint64) {
		if *to == 0 || seq < *to {
			*to = seq
		}
	}
	for _, h := range f.hosts {
		least(&r.Capacity, h.Seq)
	}
	for _, l := range f.links {
		if now.Sub(l.At) <= goneAfter {
			least(&r.Capacity, l.Seq)
		}
	}
	for _, d := range f.dirty {
		if now.Sub(d.At) <= dirtyFor {
			least(&r.Capacity, d.Seq)
		}
	}
	for _, row := range f.forecasts {
		least(&r.Forecasts, row.Seq)
	}
	for _, o := range f.ownLimit {
		if now.Sub(o.At) <= 4*f.cfg.ForecastAge {
			least(&r.Pressure, o.Seq)
		}
	}
	if f.twice() { // who had the VM first is told by the reports before the last
		r.Capacity = 0
	}
	return r
}

// twice reports whether any VM is running on two hosts.
func (f *Fleet) twice() bool {
	seen := make(map[schemas.VMID]bool)
	for _, h := range f.hosts {
		for v := range h.Since {
			if seen[v] {
				return true
			}
			seen[v] = true
		}
	}
	return false
}

// Basis is the part of a decision's basis that the fleet knows: what earlier
// decisions left behind, without the ranking of each planned action.
func (f *Fleet) Basis() schemas.PlanBasis {
	m := &f.Memory
	b := schemas.PlanBasis{Persistence: m.Trust.Weights(), Rungs: slices.Clone(m.Ladder.Rungs), Base: schemas.Seconds(f.cfg.Base.Seconds()), SiteBandwidth: f.cfg.SiteBandwidth, Step: m.Step, Load: m.Load, VMs: m.VMs,
		Held: make(map[schemas.HostID]Held, len(m.Held)), Skipped: make(map[schemas.VMID]schemas.Time, len(m.Skip)), Planned: make([]schemas.Action, len(m.Plan))}
	for h, held := range m.Held {
		b.Held[h] = held
	}
	for v, at := range m.Skip {
		b.Skipped[v] = at
	}
	for i := range m.Plan {
		b.Planned[i] = m.Plan[i]
		b.Planned[i].WhyNot = nil
	}
	for _, mv := range f.sortedMoves() {
		if mv.Epoch == 0 {
			b.Sent = append(b.Sent, mv.Command)
		}
	}
	return b
}

// Recall gives the fleet what Basis told of: the streams must be folded up to the
// decision's cut already.
func (f *Fleet) Recall(b *schemas.PlanBasis) {
	f.Memory = Memory{Step: b.Step, Load: b.Load, VMs: b.VMs, Held: map[schemas.HostID]Held{}, Skip: map[schemas.VMID]schemas.Time{}, Plan: append([]schemas.Action{}, b.Planned...)}
	f.Memory.Trust.Give(b.Persistence)
	f.Memory.Ladder.Rungs = slices.Clone(b.Rungs)
	for h, held := range b.Held {
		f.Memory.Held[h] = held
	}
	for v, at := range b.Skipped {
		f.Memory.Skip[v] = at
	}
	for i := range b.Sent {
		f.Sent(b.Sent[i])
	}
}

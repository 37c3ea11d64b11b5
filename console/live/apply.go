package live

import (
	"slices"
	"time"

	"github.com/foreshift/foreshift/console"
	"github.com/foreshift/foreshift/placer/fleet"
	"github.com/foreshift/foreshift/placer/policy"
	"github.com/foreshift/foreshift/schemas"
	"github.com/foreshift/foreshift/streams"
)

// Apply folds one event. Told twice, it changes nothing.
func (m *Model) Apply(e streams.Event) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if f := m.feeds[e.Stream]; f != nil {
		f.Last, f.Count = schemas.Time(e.Time), f.Count+1
	}
	switch x := e.Msg.(type) {
	case *schemas.CapacityHost:
		m.capacity(x)
	case *schemas.CapacityLink:
		// An agent that measures the same link does not know who uses it: the word of
		// the tunnel's role goes first while it is fresh.
		key := policy.LinkOf(x.A, x.B)
		if old := m.links[key]; old != nil && old.Shared && !x.Shared && x.Time.Sub(old.Time) < tunnelSilent {
			return
		}
		m.links[key] = x
	case *schemas.Forecasts:
		m.forecasts(x, schemas.Time(e.Time))
	case *schemas.Steps:
		m.steps(x, schemas.Time(e.Time))
	case *schemas.PressureHost:
		h := m.hostOf(x.Host)
		h.Host.Pressure, h.touched = x, schemas.Time(e.Time)
	case *schemas.PressureVM:
		v := m.vmOf(x.VM)
		v.touched = schemas.Time(e.Time)
		if x.Cause == schemas.CauseOwnLimit {
			v.own = m.compact(x)
		} else {
			v.contention = m.compact(x)
		}
	case *schemas.Benefit:
		v := m.vmOf(x.VM)
		v.touched, v.benefit = schemas.Time(e.Time), nil
		if x.Destination != "" || x.Reason.Code != schemas.ReasonNoPressure {
			v.benefit = m.slim(x)
		}
	case *schemas.Shortfall:
		m.shortfalls[x.Site] = x
		if x.Onset == 0 {
			delete(m.shortfalls, x.Site)
		}
	case *schemas.Command, *schemas.Outcome, *schemas.Effect, *schemas.Progress:
		m.move(e)
	case *schemas.Plan:
		m.notePlan(x)
	case *schemas.Act:
		m.act(e, x)
	case *schemas.Policy:
		m.tell(e)
		m.policies = append(m.policies, PolicyLine{Time: schemas.Time(e.Time), Policy: *x})
		m.policies = m.policies[max(0, len(m.policies)-maxPolicy):]
	case *schemas.Calendar:
		m.calendar[x.ID] = x
		if x.Removed {
			delete(m.calendar, x.ID)
		}
	case *schemas.Model:
		m.models = append(m.models, *x)
		m.models = m.models[max(0, len(m.models)-maxModels):]
	default:
		return
	}
	m.bump()
}

// tunnelSilent is how long the role of a tunnel may be silent: it speaks every 2 s.
const tunnelSilent = 15 * time.Second

// tell gives the placer's own fold an event; what it refuses, the placer has put
// among the dead letters.
func (m *Model) tell(e streams.Event) error {
	return m.words.Apply(fleet.Input{Seq: e.Seq, Time: schemas.Time(e.Time), Lease: e.Lease, Msg: e.Msg})
}

func (m *Model) capacity(x *schemas.CapacityHost) {
	h := m.hostOf(x.Host)
	if x.Time < h.Seen {
		return
	}
	id, pressure := h.ID, h.Pressure
	h.Host = console.Host{ID: id, Site: x.Site, Capacity: x.Capacity, Used: x.Used, VMs: len(x.VMs), Seen: x.Time, Pressure: pressure, Domain: x.Domain, Simulated: x.Simulated}
	h.touched = x.Time
	h.report = *x
	h.report.VMs, h.report.CPUModels = nil, nil
	for _, v := range h.vms {
		if o := m.vms[v]; o != nil {
			o.running = without(o.running, id)
		}
	}
	h.vms = h.vms[:0]
	for i := range x.VMs {
		in := &x.VMs[i]
		v := m.vmOf(in.VM)
		h.vms = append(h.vms, in.VM)
		if in.State == schemas.VMRunning {
			v.running = append(v.running, id)
		}
		if x.Time < v.seen && in.State != schemas.VMRunning {
			continue // known to be elsewhere since
		}
		if v.name != in.Name {
			v.name = in.Name
		}
		v.host, v.state, v.seen, v.touched = id, in.State, x.Time, x.Time
		v.vcpus, v.allocCPU, v.allocMem, v.resident = in.VCPUs, in.AllocCPU, in.AllocMem, in.Resident
		v.dirty, v.dirtyHigh, v.labels, v.pinned = in.DirtyRate, in.DirtyHigh, m.internLabels(in.Labels), ""
		if !in.Movable {
			v.pinned = in.WhyPinned
			if v.pinned == "" {
				v.pinned = "its host says that it cannot"
			}
		}
	}
}

func without(list []schemas.HostID, h schemas.HostID) []schemas.HostID {
	return slices.DeleteFunc(list, func(x schemas.HostID) bool { return x == h })
}

func (m *Model) forecasts(x *schemas.Forecasts, at schemas.Time) {
	if x.Base > 0 {
		m.base = x.Base
	}
	for i, id := range x.VM {
		v := m.vmOf(id)
		if x.Issued < v.fan.issued || x.Issued == v.fan.issued && x.Lease <= v.fan.lease && v.fan.lease != 0 {
			continue // older, or told already
		}
		again := x.Issued == v.fan.issued
		v.touched = at
		v.fan.fill(x, i)
		if !again {
			m.learnt.say(v, x, i)
		}
		if again {
			continue // a second owner of the partition: the sum has it already
		}
		host := x.Host[i]
		if v.host != "" {
			host = v.host
		}
		h := m.hostOf(host)
		h.sum.add(x, i, at)
		if h.sum.open && h.sum.n >= m.running(h) {
			h.sum.close()
		}
	}
}

// running is how many VMs run on the host.
func (m *Model) running(h *host) (n int) {
	for _, v := range h.vms {
		if x := m.vms[v]; x != nil && slices.Contains(x.running, h.ID) {
			n++
		}
	}
	return n
}

func (m *Model) steps(x *schemas.Steps, at schemas.Time) {
	if x.Base > 0 {
		m.base = x.Base
	}
	for i, id := range x.VM {
		v := m.vmOf(id)
		v.touched = max(v.touched, at)
		h := m.hostOf(x.Host[i])
		for r, col := range [tracked]schemas.Column{schemas.ColCPU, schemas.ColMem} {
			y := schemas.NaN()
			if x.Cols[col] != nil {
				y = x.Cols[col][i]
			}
			if x.Flags == nil || x.Flags[i]&schemas.FlagMigrating == 0 {
				m.learnt.came(v, x.Step, r, y)
			}
			before := v.actual.put(x.Step, r, y)
			h.actual.add(x.Step, r, float64(y), before)
		}
	}
}

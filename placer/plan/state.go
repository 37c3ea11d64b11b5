package plan

import (
	"fmt"
	"time"

	"github.com/foreshift/foreshift/placer/fleet"
	"github.com/foreshift/foreshift/placer/policy"
	"github.com/foreshift/foreshift/schemas"
)

// State is the fleet at the moment of a decision with all that the decision needs
// worked out: sums, pressures, limits, and why VMs and hosts are out of the
// question. Make one with [Prepare]; it holds until the fleet's next Apply.
type State struct {
	V        *fleet.View
	P        policy.Policy
	Cut      schemas.Cut
	Pressure []Pressure // by host
	Gate     schemas.Reason
	Evals    int // deltas evaluated so far

	f          *fleet.Fleet
	sums       *sums
	before     float64
	tally      *policy.Tally
	minBenefit float64
	mode       []schemas.Mode   // by host
	vmWhy      []schemas.Reason // by VM: why it may not move at all
	hostWhy    []schemas.Reason // by host: why it may take nobody
	full       []bool           // by host: its moves in are taken
	at         []int32          // by VM: where it is or will be
	apart      map[int32][]int32
	together   map[int32][]int32
	planned    map[int32]*schemas.Action // by VM: what the last plan wanted
	meanLoad   float64
}

// Prepare works out a fleet at a cut under a policy.
func Prepare(f *fleet.Fleet, p policy.Policy, c schemas.Cut) *State {
	now := schemas.Time(c.Now)
	v := f.View(now)
	s := &State{V: v, P: p, Cut: c, f: f, sums: newSums(v, p), minBenefit: policy.MinBenefit(p, v.Base)}
	s.before = s.sums.total()
	s.tally = policy.NewTally(p, v.Attempts, now, v.Base, v.Resumed)
	s.Pressure = make([]Pressure, len(v.Hosts))
	s.mode = make([]schemas.Mode, len(v.Hosts))
	s.full = make([]bool, len(v.Hosts))
	for h := range v.Hosts {
		s.Pressure[h] = s.sums.assess(h)
		s.full[h] = !s.tally.Destination(v.Hosts[h].ID).OK()
		s.mode[h] = policy.HostMode(p, v.Hosts[h].ID, v.Hosts[h].Msg.Simulated)
	}
	s.planned = map[int32]*schemas.Action{}
	old := f.Planned()
	for i := range old {
		a := &old[i]
		if vm := v.VMIndex(a.VM); vm >= 0 && v.Hosts[v.VMs[vm].Host].ID == a.Source {
			s.planned[vm] = a
		}
	}
	s.places()
	s.forbid()
	s.Gate = s.gate()
	return s
}

// places notes who is or will be where, and the groups of the policy.
func (s *State) places() {
	s.at = make([]int32, len(s.V.VMs))
	for i := range s.V.VMs {
		m := &s.V.VMs[i]
		s.at[i] = m.Host
		if m.Dest >= 0 {
			s.at[i] = m.Dest
		}
	}
	group := func(gs [][]schemas.VMID) map[int32][]int32 {
		out := map[int32][]int32{}
		for _, g := range gs {
			var ids []int32
			for _, id := range g {
				if i := s.V.VMIndex(id); i >= 0 {
					ids = append(ids, i)
				}
			}
			for _, i := range ids {
				for _, j := range ids {
					if i != j {
						out[i] = append(out[i], j)
					}
				}
			}
		}
		return out
	}
	s.apart, s.together = group(s.P.Apart), group(s.P.Together)
}

// forbid finds the VMs that may not move at all and the hosts that may take nobody.
func (s *State) forbid() {
	s.vmWhy = make([]schemas.Reason, len(s.V.VMs))
	s.hostWhy = make([]schemas.Reason, len(s.V.Hosts))
	pinned := map[schemas.VMID]bool{}
	for _, id := range s.P.Pinned {
		pinned[id] = true
	}
	for i := range s.V.VMs {
		s.vmWhy[i] = s.vmReason(&s.V.VMs[i], pinned[s.V.VMs[i].ID])
	}
	cordoned := map[schemas.HostID]bool{}
	for _, h := range s.P.Cordoned {
		cordoned[h] = true
	}
	for h := range s.V.Hosts {
		host := &s.V.Hosts[h]
		switch {
		case !host.Fresh:
			s.hostWhy[h] = no(schemas.ReasonStale, "%s has not been heard of for over a minute", host.ID)
		case cordoned[host.ID]:
			s.hostWhy[h] = no(schemas.ReasonCordoned, "%s takes no VM while cordoned", host.ID)
		}
	}
}

func no(code schemas.ReasonCode, format string, args ...any) schemas.Reason {
	return schemas.Reason{Code: code, Detail: fmt.Sprintf(format, args...)}
}

func (s *State) vmReason(m *fleet.VM, pinned bool) schemas.Reason {
	host := &s.V.Hosts[m.Host]
	switch {
	case m.Duplicate && m.Certain:
		return no(schemas.ReasonDuplicate, "%s runs on two hosts: frozen until a person has looked", m.Name)
	case m.Duplicate:
		return no(schemas.ReasonDuplicate, "two hosts report %s as running; later reports will tell", m.Name)
	case m.Move != nil:
		return no(schemas.ReasonMoving, "command %s to %s is under way or not yet seen to have ended", m.Move.Command.ID, m.Move.Command.Destination)
	case !m.Running:
		return no(schemas.ReasonNotRunning, "%s is %s", m.Name, m.Inv.State)
	case m.Inv.Migrating:
		return no(schemas.ReasonForeignJob, "a migration that is not ours runs on %s", m.Name)
	case pinned:
		return no(schemas.ReasonPinned, "the policy pins %s", m.Name)
	case !m.Inv.Movable:
		return no(schemas.ReasonPinned, "%s cannot move live: %s", m.Name, m.Inv.WhyPinned)
	case !host.Fresh:
		return no(schemas.ReasonStale, "%s has not been heard of for over a minute", host.ID)
	case !m.Known:
		return no(schemas.ReasonNoForecast, "%s has no forecast yet", m.Name)
	case !m.Fresh:
		return no(schemas.ReasonStale, "the forecast of %s is too old", m.Name)
	}
	for j := range m.Inv.Disks {
		if d := &m.Inv.Disks[j]; !d.Shared {
			return no(schemas.ReasonStorage, "disk %s of %s is on local storage", d.Target, m.Name)
		}
	}
	if at, ok := s.f.Memory.Skip[m.ID]; ok && s.V.Now.Sub(at) < steps(float64(max(s.P.CoolDownSteps, 1)), s.V.Base) {
		return no(schemas.ReasonSkipped, "an operator skipped its move")
	}
	return s.tally.VM(m.ID)
}

// Limits of the sanity gates.
const (
	gateJump  = 2.0 // the mean demand of a VM may not change by this factor in one step
	gateVMs   = 8   // in fleets of at least so many VMs
	gateStale = .5  // share of hosts or VMs that may be without fresh telemetry
)

// gate is the reason for which nothing at all may move, ok when there is none.
func (s *State) gate() schemas.Reason {
	load := 0.0
	n := 0
	for i := range s.V.VMs {
		if s.V.VMs[i].Known {
			load += s.sums.demandAt(i, schemas.CPU, 0)
			n++
		}
	}
	if n > 0 {
		load /= float64(n)
	}
	s.meanLoad = load
	nh := len(s.V.Hosts)
	mem := &s.f.Memory
	switch {
	case s.P.Paused:
		return no(schemas.ReasonPaused, "moves are paused; `foreshift resume` allows them again")
	case len(s.V.Unknown) > 0:
		m := s.V.Unknown[0]
		return no(schemas.ReasonUnknownMove, "nobody knows how move %s of %s ended; `foreshift resolve` once you have looked", m.Command.ID, m.Command.VM)
	case nh == 0 || s.V.Running == 0:
		return no(schemas.ReasonNoForecast, "no host has reported a running VM")
	case s.V.Issued == 0:
		return no(schemas.ReasonNoForecast, "no forecast has come yet")
	case float64(s.V.StaleHosts) > gateStale*float64(nh):
		return no(schemas.ReasonStale, "%d of %d hosts are silent", s.V.StaleHosts, nh)
	case float64(s.V.Unforecast) > gateStale*float64(s.V.Running):
		return no(schemas.ReasonStale, "%d of %d running VMs have no fresh forecast", s.V.Unforecast, s.V.Running)
	case min(n, mem.VMs) >= gateVMs && s.V.Issued > mem.Step && mem.Load > 0 && load > 0 && (load > gateJump*mem.Load || load < mem.Load/gateJump):
		return no(schemas.ReasonSanity, "the mean demand of a VM went from %.2f to %.2f cores in one step: waiting for another look", mem.Load/1000, load/1000)
	}
	return s.tally.Fleet()
}

// Remember notes this decision for the next: how long each host's pressure has
// held, and the load. It is called once per newly closed step, before Decide.
func (s *State) Remember() {
	m := &s.f.Memory
	if s.V.Issued <= m.Step {
		return
	}
	held := map[schemas.HostID]fleet.Held{}
	for h := range s.Pressure {
		if s.Pressure[h].Look < s.trigger(int32(h)) || !s.V.Hosts[h].Fresh {
			continue
		}
		id := s.V.Hosts[h].ID
		before, ok := m.Held[id]
		now := fleet.Held{Steps: 1, Last: s.V.Issued}
		// A decision that skipped a step or two does not break the hold.
		if ok && s.V.Issued-before.Last <= 3 {
			now.Steps = before.Steps + 1
		}
		held[id] = now
	}
	m.Held, m.Step = held, s.V.Issued
	m.Load, m.VMs = s.meanLoad, s.V.Running-s.V.Unforecast
}

// trigger is the pressure above which a host gives VMs away: a little less for one
// that a plan already wants to relieve, so that plans do not flap.
func (s *State) trigger(h int32) float64 {
	t := max(1e-9, float64(s.P.Trigger))
	for vm := range s.planned {
		if s.V.VMs[vm].Host == h {
			return sticky * t
		}
	}
	return t
}

// Pressed reports whether a host's pressure within the look-ahead is above the
// trigger.
func (s *State) Pressed(h int32) bool { return s.Pressure[h].Look >= s.trigger(h) }

// Now is the moment of the decision.
func (s *State) Now() schemas.Time { return s.V.Now }

func (s *State) link(a, b int32) policy.Link { return policy.LinkOf(s.V.Sites[a], s.V.Sites[b]) }

func steps(n float64, base time.Duration) time.Duration { return time.Duration(n * float64(base)) }

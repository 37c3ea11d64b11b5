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
	rules      *rules
	limits     *limits
	before     float64
	tally      *policy.Tally
	hosts      *policy.HostRules
	scale      float64 // length of the base step relative to 5 minutes
	minBenefit float64
	ruleCost   float64                    // of a broken soft rule, core-seconds
	rttCost    float64                    // of a ms between two VMs that talk
	mode       []schemas.Mode             // by host
	trig       []float64                  // by host: the pressure from which it gives VMs away
	vmWhy      []schemas.Reason           // by VM: why it may not move at all
	hostWhy    []schemas.Reason           // by host: why it may take nobody
	at         []int32                    // by VM: where it is or will be
	planned    map[int32]*schemas.Action  // by VM: what the last plan wanted
	taken      map[schemas.CommandID]bool // started on this very state
	left       map[left]bool              // hosts that VMs left within a day
	copies     []int                      // by host: VMs that bring their disks in this plan
	meanLoad   float64
	free       bool           // judge as if there were no budgets
	helpless   map[int32]bool // pressed hosts that no move relieves, once a plan was made
}

// left is a host that a VM has moved away from.
type left struct{ vm, host int32 }

// Prepare works out a fleet at a cut under a policy.
func Prepare(f *fleet.Fleet, p policy.Policy, c schemas.Cut) *State {
	now := schemas.Time(c.Now)
	p = policy.Complete(p)
	v := f.View(now)
	s := &State{V: v, P: p, Cut: c, f: f, sums: newSums(v, p), minBenefit: policy.MinBenefit(p, v.Base), scale: v.Base.Seconds() / schemas.DefaultBase.Seconds(),
		taken: map[schemas.CommandID]bool{}, left: map[left]bool{}, copies: make([]int, len(v.Hosts))}
	s.ruleCost, s.rttCost = s.scale*p.RuleWeight, s.scale*p.LatencyWeight
	s.before = s.sums.total()
	s.tally = policy.NewTally(p, v.Attempts, now, v.Base, v.Resumed)
	s.hosts = policy.NewHostRules(p, now, v.Base)
	s.limits = newLimits(v, p, s.tally)
	s.at = make([]int32, len(v.VMs))
	for i := range v.VMs {
		s.at[i] = v.VMs[i].Host
		if v.VMs[i].Dest >= 0 {
			s.at[i] = v.VMs[i].Dest
		}
	}
	s.rules = s.newRules()
	s.Pressure = make([]Pressure, len(v.Hosts))
	s.mode = make([]schemas.Mode, len(v.Hosts))
	s.trig = make([]float64, len(v.Hosts))
	for h := range v.Hosts {
		s.Pressure[h] = s.sums.assess(h)
		s.mode[h] = policy.HostMode(p, v.Hosts[h].ID, v.Hosts[h].Msg.Simulated)
		s.trig[h] = max(1e-9, float64(p.Trigger))
	}
	s.remembered()
	s.forbid()
	s.Gate = s.gate()
	return s
}

// remembered reads what earlier decisions and moves left behind. A host that a plan
// already wants to relieve has a lower trigger, so that plans do not flap.
func (s *State) remembered() {
	s.planned = map[int32]*schemas.Action{}
	old := s.f.Planned()
	for i := range old {
		a := &old[i]
		if vm := s.V.VMIndex(a.VM); vm >= 0 && s.V.Hosts[s.V.VMs[vm].Host].ID == a.Source {
			s.planned[vm] = a
		}
	}
	for vm := range s.planned {
		h := s.V.VMs[vm].Host
		s.trig[h] = min(s.trig[h], sticky*max(1e-9, float64(s.P.Trigger)))
	}
	for i := range s.V.Attempts {
		a := &s.V.Attempts[i]
		if a.Result != schemas.ResultSucceeded || s.V.Now.Sub(a.Ended) > schemas.StepsPerDay*s.V.Base {
			continue
		}
		if vm, h := s.V.VMIndex(a.VM), s.V.HostIndex(a.Source); vm >= 0 && h >= 0 {
			s.left[left{vm, h}] = true
		}
	}
}

// forbid finds the VMs that may not move at all and the hosts that may take nobody.
func (s *State) forbid() {
	s.vmWhy = make([]schemas.Reason, len(s.V.VMs))
	s.hostWhy = make([]schemas.Reason, len(s.V.Hosts))
	pinned, excluded := map[schemas.VMID]bool{}, map[schemas.VMID]bool{}
	for _, id := range s.P.Pinned {
		pinned[id] = true
	}
	for _, id := range s.P.Excluded {
		excluded[id] = true
	}
	for i := range s.V.VMs {
		m := &s.V.VMs[i]
		switch {
		case excluded[m.ID]:
			s.vmWhy[i] = no(schemas.ReasonExcluded, "the policy leaves %s out", m.Name)
		case pinned[m.ID]:
			s.vmWhy[i] = no(schemas.ReasonPinned, "the policy pins %s", m.Name)
		default:
			s.vmWhy[i] = s.vmReason(int32(i))
		}
	}
	for h := range s.V.Hosts {
		host := &s.V.Hosts[h]
		switch frozen := s.hosts.Frozen(host.ID); {
		case !host.Fresh:
			s.hostWhy[h] = host.Stale
		case !frozen.OK():
			s.hostWhy[h] = frozen
		default:
			s.hostWhy[h] = s.hosts.Takes(host.ID)
		}
	}
}

func no(code schemas.ReasonCode, format string, args ...any) schemas.Reason {
	return schemas.Reason{Code: code, Detail: fmt.Sprintf(format, args...)}
}

func (s *State) vmReason(i int32) schemas.Reason {
	m := &s.V.VMs[i]
	host := &s.V.Hosts[m.Host]
	switch frozen := s.hosts.Frozen(host.ID); {
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
	case !m.Inv.Movable:
		return no(schemas.ReasonPinned, "%s cannot move live: %s", m.Name, m.Inv.WhyPinned)
	case !host.Fresh:
		return host.Stale
	case !m.Fresh:
		return m.Stale
	case !frozen.OK():
		return frozen
	}
	if !s.P.CopyDisks {
		for j := range m.Inv.Disks {
			if d := &m.Inv.Disks[j]; !d.Shared {
				return no(schemas.ReasonStorage, "disk %s of %s is on local storage", d.Target, m.Name)
			}
		}
	}
	if at, ok := s.f.Memory.Skip[m.ID]; ok && s.V.Now.Sub(at) < steps(float64(max(s.P.CoolDownSteps, 1)), s.V.Base) {
		return no(schemas.ReasonSkipped, "an operator skipped its move")
	}
	return s.tally.VM(m.ID)
}

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
	nh, stale := len(s.V.Hosts), float64(s.P.GateStale)
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
	case float64(s.V.StaleHosts) > stale*float64(nh):
		return no(schemas.ReasonStale, "%d of %d hosts are silent", s.V.StaleHosts, nh)
	case float64(s.V.Lagging) > stale*float64(s.V.Running):
		return no(schemas.ReasonLag, "the forecasts of %d of %d running VMs came too late: a forecaster cannot keep up", s.V.Lagging, s.V.Running)
	case float64(s.V.Unforecast) > stale*float64(s.V.Running):
		return no(schemas.ReasonStale, "%d of %d running VMs have no fresh forecast", s.V.Unforecast, s.V.Running)
	case min(n, mem.VMs) >= s.P.GateVMs && s.V.Issued > mem.Step && mem.Load > 0 && load > 0 && (load > s.P.GateJump*mem.Load || load < mem.Load/s.P.GateJump):
		return no(schemas.ReasonSanity, "the mean demand of a VM went from %.2f to %.2f cores in one step: waiting for another look", mem.Load/1000, load/1000)
	case !s.hosts.Fleet().OK():
		return s.hosts.Fleet()
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
		if !s.Pressed(int32(h)) || !s.V.Hosts[h].Fresh {
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
	s.compare(&m.Trust)
	s.verify(&m.Ladder)
	m.Load, m.VMs = s.meanLoad, s.V.Running-s.V.Unforecast
}

// Pressed reports whether a host's pressure within the look-ahead is above the
// trigger.
func (s *State) Pressed(h int32) bool { return s.Pressure[h].Look >= s.trig[h] }

// Now is the moment of the decision.
func (s *State) Now() schemas.Time { return s.V.Now }

func (s *State) link(a, b int32) policy.Link { return policy.LinkOf(s.V.Sites[a], s.V.Sites[b]) }

func steps(n float64, base time.Duration) time.Duration { return time.Duration(n * float64(base)) }

// limits are the budgets as numbers: how many more moves may begin now. The policy's
// tally is asked once, and the words for a refusal are its own.
type limits struct {
	sites   int
	in, out []int // by host
	link    []int // by pair of sites
	flying  []int // by pair of sites: under way
	cluster int   // of all, at a time
	hour    int   // of all, in 12 steps
}

func (l *limits) left() int { return min(l.cluster, l.hour) }

func newLimits(v *fleet.View, p policy.Policy, t *policy.Tally) *limits {
	n := len(v.Sites)
	l := &limits{sites: n, in: make([]int, len(v.Hosts)), out: make([]int, len(v.Hosts)), link: make([]int, n*n), flying: make([]int, n*n)}
	for h := range v.Hosts {
		l.in[h], l.out[h] = p.MaxPerHost-t.In[v.Hosts[h].ID], p.MaxPerHost-t.Out[v.Hosts[h].ID]
	}
	for a := 0; a < n; a++ {
		for b := a + 1; b < n; b++ {
			flying := t.Link[policy.LinkOf(v.Sites[a], v.Sites[b])]
			l.link[a*n+b], l.flying[a*n+b] = p.MaxPerLink-flying, flying
		}
	}
	l.cluster, l.hour = p.MaxPerCluster-t.Cluster, p.MaxPerHour-t.Hour
	return l
}

// linkIndex numbers the link between two sites, -1 within one.
func (s *State) linkIndex(a, b int32) int {
	switch {
	case a == b:
		return -1
	case a > b:
		a, b = b, a
	}
	return int(a)*s.limits.sites + int(b)
}

// book reserves (n 1) or frees (n -1) the places of a move from host a to host b.
func (s *State) book(a, b int32, n int) {
	l := s.limits
	l.out[a] -= n
	l.in[b] -= n
	l.cluster -= n
	l.hour -= n
	if i := s.linkIndex(s.V.Hosts[a].Site, s.V.Hosts[b].Site); i >= 0 {
		l.link[i] -= n
	}
}

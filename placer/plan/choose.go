package plan

import (
	"time"

	"github.com/foreshift/foreshift/placer/fleet"
	"github.com/foreshift/foreshift/placer/policy"
	"github.com/foreshift/foreshift/schemas"
)

// sticky is how much of the usual demands a move that is already planned must
// still meet: a plan is kept unless another is clearly better.
const sticky = .7

// choice is one (VM, destination) pair, judged. Why is ok when it may be done; its
// words are made by explain, for the few that are shown.
type choice struct {
	vm, dest int32
	timing
	gain  schemas.Gain
	saved float64
	rank  float64
	why   schemas.ReasonCode
	res   schemas.Resource // that does not fit
	other int32            // VM that stands against it
}

// timing is when a move of a VM would start, and what it would take.
type timing struct {
	due, latest, end schemas.Time
	transfer         Transfer
	from             int // first slot in which the VM is there
}

// early is how many base steps before the latest start a move is due: one hour of
// 5-minute steps. A forecast of a steep rise tends to see the onset come nearer
// more slowly than time passes, and a move that waits for the last moment is late.
const early = 12

// when sets the time of VM i's move from a to b: it must end a margin before the
// onset (Latest); it starts (Due) an hour of steps before that, at least twice its
// own duration: early enough for one more try, and not hours ahead on a forecast
// that may change.
func (s *State) when(i, a, b int) (timing, schemas.ReasonCode) {
	t, bps, ok := s.transfer(i, a, b)
	switch {
	case !ok:
		return timing{}, schemas.ReasonStale
	case bps <= 0 || !t.Converges:
		return timing{transfer: t}, schemas.ReasonCannotConverge
	}
	w := timing{transfer: t}
	slack := max(2*t.Duration, early*s.V.Base)
	w.latest, w.due = s.V.Now, s.V.Now
	if p := &s.Pressure[a]; p.OnsetSlot >= 0 {
		w.latest = p.Onset.Add(-t.Duration - steps(s.P.MarginSteps, s.V.Base))
		w.due = max(s.V.Now, w.latest.Add(-slack))
	}
	w.end = w.due.Add(t.Duration)
	w.from = fleet.SlotAfter(s.V.Grid, s.V.Base, w.end)
	return w, schemas.ReasonOK
}

// pair judges the move of VM i from a to b.
func (s *State) pair(i, a, b int) choice {
	c := choice{vm: int32(i), dest: int32(b)}
	if s.allowed(&c, a); c.why != schemas.ReasonOK {
		return c
	}
	if c.timing, c.why = s.when(i, a, b); c.why != schemas.ReasonOK {
		return c
	}
	if r, fits := s.sums.trafficFits(i, b, c.from); !fits {
		c.why, c.res = schemas.ReasonNoRoom, r
		return c
	}
	s.Evals++
	s.judge(&c, a)
	return c
}

// judge fills in gain and rank and, where the gain is too small, the reason.
func (s *State) judge(c *choice, a int) {
	i, b := int(c.vm), int(c.dest)
	before := s.sums.cost[a] + s.sums.cost[b]
	c.saved = -s.sums.delta(i, a, b, c.from)
	cost := s.moveCost(i, c.transfer) + c.transfer.Failing*max(0, c.saved)
	c.gain = schemas.Gain{Before: before, After: max(0, before-c.saved), Cost: cost, Benefit: c.saved - cost}
	if before > 0 {
		c.gain.Ratio = schemas.Ratio(min(1, max(0, c.gain.Benefit/before)))
	}
	least := s.minBenefit
	c.rank = s.rank(c.gain.Benefit, cost)
	if p := s.planned[c.vm]; p != nil && p.Destination == s.V.Hosts[b].ID {
		least *= sticky
		c.rank /= sticky
	}
	switch {
	case c.saved <= 0:
		c.why = schemas.ReasonWorse
	case c.gain.Benefit <= 0:
		c.why = schemas.ReasonNoBenefit
	case c.gain.Benefit < least:
		c.why = schemas.ReasonBelowMinimum
	}
}

// rank orders moves by benefit per cost. The least benefit is also the fixed price
// of any move: it keeps many small moves of little memory from going before one
// that settles the matter.
func (s *State) rank(benefit, cost float64) float64 {
	return benefit / (cost + s.minBenefit + 1e-9)
}

// allowed holds the rules that do not depend on demand over time, but for memory.
func (s *State) allowed(c *choice, a int) {
	b := int(c.dest)
	host, from := &s.V.Hosts[b], &s.V.Hosts[a]
	c.why = schemas.ReasonOK
	switch {
	case a == b:
		c.why = schemas.ReasonSelf
	case !s.hostWhy[b].OK():
		c.why = s.hostWhy[b].Code
	case s.site(c.vm) != "" && s.site(c.vm) != host.Msg.Site:
		c.why = schemas.ReasonSite
	case from.Msg.CPUModel != "" && host.Msg.CPUModel != "" && from.Msg.CPUModel != host.Msg.CPUModel:
		c.why = schemas.ReasonCPUModel
	case s.parted(c), s.joined(c):
	case s.mode[b] == schemas.ModeObserve && s.modeOf(int(c.vm), a) != schemas.ModeObserve:
		c.why = schemas.ReasonMode
	case s.full[b]:
		c.why = schemas.ReasonBudgetHost
	case host.Site != from.Site && !s.tally.Between(s.link(from.Site, host.Site)).OK():
		c.why = schemas.ReasonBudgetLink
	case !s.sums.memFits(int(c.vm), b):
		c.why, c.res = schemas.ReasonNoRoom, schemas.Memory
	}
}

// site is where the VM's label binds it to; empty when anywhere.
func (s *State) site(vm int32) schemas.SiteID {
	return schemas.SiteID(s.V.VMs[vm].Inv.Labels["foreshift.site"])
}

func (s *State) parted(c *choice) bool {
	for _, j := range s.apart[c.vm] {
		if s.at[j] == c.dest || s.V.VMs[j].Host == c.dest {
			c.why, c.other = schemas.ReasonAntiAffinity, j
			return true
		}
	}
	return false
}

func (s *State) joined(c *choice) bool {
	for _, j := range s.together[c.vm] {
		if s.at[j] != c.dest {
			c.why, c.other = schemas.ReasonAffinity, j
			return true
		}
	}
	return false
}

// explain puts a choice's reason into words.
func (s *State) explain(c *choice) schemas.Reason {
	host, m := &s.V.Hosts[c.dest], &s.V.VMs[c.vm]
	from := &s.V.Hosts[m.Host]
	switch c.why {
	case schemas.ReasonStale:
		if host.Fresh {
			return no(c.why, "the link to %s was not measured lately", host.Msg.Site)
		}
		return s.hostWhy[c.dest]
	case schemas.ReasonCordoned:
		return s.hostWhy[c.dest]
	case schemas.ReasonSite:
		return no(c.why, "%s must stay at site %s", m.Name, s.site(c.vm))
	case schemas.ReasonCPUModel:
		return no(c.why, "CPU %s, not %s", host.Msg.CPUModel, from.Msg.CPUModel)
	case schemas.ReasonAntiAffinity:
		return no(c.why, "%s is there and must be apart", s.V.VMs[c.other].Name)
	case schemas.ReasonAffinity:
		return no(c.why, "%s must be on the same host and is not there", s.V.VMs[c.other].Name)
	case schemas.ReasonMode:
		return no(c.why, "mode observe: nothing is planned to go to %s", host.ID)
	case schemas.ReasonBudgetHost:
		return s.tally.Destination(host.ID)
	case schemas.ReasonBudgetLink:
		return s.tally.Between(s.link(from.Site, host.Site))
	case schemas.ReasonNoRoom:
		if c.res == schemas.Memory {
			return no(c.why, "%s has not the memory at the %.3g quantile", host.ID, s.sums.q)
		}
		return no(c.why, "%s has not enough %s", host.ID, c.res)
	case schemas.ReasonCannotConverge:
		if c.transfer.Lambda == 0 {
			return no(c.why, "the link to %s has nothing free", host.Msg.Site)
		}
		return no(c.why, "memory is dirtied at %.0f %% of what the way to %s carries", 100*c.transfer.Lambda, host.ID)
	case schemas.ReasonWorse:
		return no(c.why, "%s would be worse off by more than is gained", host.ID)
	case schemas.ReasonNoBenefit:
		return no(c.why, "saves %.3g core-seconds, costs %.3g", c.saved, c.gain.Cost)
	case schemas.ReasonBelowMinimum:
		return no(c.why, "benefit %.3g core-seconds, least %.3g", c.gain.Benefit, s.minBenefit)
	case schemas.ReasonOK:
		return schemas.Reason{Code: c.why}
	}
	return schemas.Reason{Code: c.why, Detail: "it is there"}
}

func (s *State) modeOf(i, a int) schemas.Mode {
	return policy.VMMode(s.P, s.V.VMs[i].ID, s.mode[a])
}

// ModeOf is the mode under which a move falls: the most careful of VM, source and
// destination.
func (s *State) ModeOf(vm, source, destination int32) schemas.Mode {
	return policy.Careful(s.modeOf(int(vm), int(source)), s.mode[destination])
}

// apply takes a choice: sums, places and budgets then see it.
func (s *State) apply(c *choice) {
	a, b := s.V.VMs[c.vm].Host, c.dest
	s.sums.move(int(c.vm), int(a), int(b), c.from)
	s.sums.refresh(int(a))
	s.sums.refresh(int(b))
	s.at[c.vm] = b
	s.tally.Add(s.V.VMs[c.vm].ID, s.V.Hosts[a].ID, s.V.Hosts[b].ID, s.link(s.V.Hosts[a].Site, s.V.Hosts[b].Site))
	s.full[b] = !s.tally.Destination(s.V.Hosts[b].ID).OK()
}

// undo takes a choice back.
func (s *State) undo(c *choice) {
	a, b := s.V.VMs[c.vm].Host, c.dest
	s.sums.add(int(c.vm), int(b), -1, c.from, 0)
	s.sums.add(int(c.vm), int(a), 1, c.from, c.from)
	s.sums.refresh(int(a))
	s.sums.refresh(int(b))
	s.at[c.vm] = a
	s.tally.Remove(s.V.VMs[c.vm].ID, s.V.Hosts[a].ID, s.V.Hosts[b].ID, s.link(s.V.Hosts[a].Site, s.V.Hosts[b].Site))
	s.full[b] = !s.tally.Destination(s.V.Hosts[b].ID).OK()
}

// span writes a duration for people.
func span(d time.Duration) string {
	switch {
	case d >= 10*time.Second:
		return d.Round(time.Second).String()
	default:
		return d.Round(10 * time.Millisecond).String()
	}
}

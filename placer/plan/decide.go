// Package plan decides which VMs move where and when, and says why for all that
// stay.
//
// What comes in: the fleet as a fold ([fleet.Fleet]), the policy in force, the cut
// up to which everything was folded, a budget of evaluations and a seed. What goes
// out: a [schemas.Plan], and on the way the pressure of every host and the benefit
// of every VM on a pressed one.
//
// What is promised:
//
//   - Decide is a pure function of its arguments: replay repeats it to the byte.
//   - A host's demand is the sum of its VMs' joint scenarios, path by path, so that
//     VMs that burst together are seen to. What is minimised is the expected unmet
//     demand over the look-ahead plus a little for load near capacity; a move is
//     charged for its transfer, its downtime and its chance to fail.
//   - A move is planned only for a VM of a host whose pressure has held above the
//     trigger, only if its benefit is above the minimum, and only within every
//     limit; each choice is reserved before the next is made, so that no two of
//     them count on the same room. The most benefit per cost goes first.
//   - Memory fits at a high quantile wherever a VM is sent.
//   - Every VM on a pressed host that does not move has a typed reason, and so has
//     a plan without moves. "No beneficial move" is an answer.
//
// Why sums of scenarios and not of means and variances: on recorded traces it
// leaves about a third of the unmet demand, and a sum is cheaper than an erfc.
package plan

import (
	"math"
	"math/rand/v2"
	"slices"

	"github.com/foreshift/foreshift/placer/fleet"
	"github.com/foreshift/foreshift/placer/policy"
	"github.com/foreshift/foreshift/placer/search"
	"github.com/foreshift/foreshift/schemas"
)

// Bounds of what a plan says.
const (
	maxWhyNot   = 16   // hosts explained for one VM, the best first
	maxDeclined = 2000 // VMs explained in one plan
)

// Decision is a plan with what the search knew of each VM on a pressed host.
type Decision struct {
	Plan     schemas.Plan
	Benefits []schemas.Benefit // in order of the VMs
}

// Decide makes the plan of a fleet at a cut. It is [Prepare] and [State.Decide].
func Decide(f *fleet.Fleet, p policy.Policy, c schemas.Cut, b search.Budget, seed uint64) schemas.Plan {
	return Prepare(f, p, c).Decide(b, seed).Plan
}

// candidate is a VM of a pressed host on its way through the search.
type candidate struct {
	vm     int32
	why    schemas.Reason // why it does not move, ok while it may
	saves  float64        // no destination saves more than this, core-seconds
	bound  float64        // nor ranks higher than this
	judged bool           // against all hosts, as they are now
	best   choice
	has    bool // best is a choice that may be done
	chosen bool
	whyNot []choice // the other hosts, best first
	counts map[schemas.ReasonCode]int
	score  float64 // best benefit over hosts, done or not
}

// Decide searches for the moves of this state: the greedy choice first, then its
// refinement within the budget. Judging a VM against every host is put off until
// its bound makes it the next choice; what is left of the budget explains VMs that
// never were.
func (s *State) Decide(b search.Budget, seed uint64) Decision {
	cands := s.candidates()
	var chosen []*candidate
	for s.Gate.OK() {
		if stop := s.tally.Fleet(); !stop.OK() {
			settle(cands, stop)
			break
		}
		c := s.pick(cands)
		if c == nil {
			break
		}
		c.chosen = true
		chosen = append(chosen, c)
		s.apply(&c.best)
		s.after(cands, c)
	}
	s.refine(chosen, b, seed)
	chosen = s.prune(chosen)
	for i := range cands {
		// One that is only held back is judged too: what a move would bring is told
		// in every mode.
		if c := &cands[i]; !c.judged && s.vmWhy[c.vm].OK() && s.Evals < b.Evaluations {
			s.evaluate(c)
		}
	}
	return s.write(cands, chosen, seed)
}

// candidates are the VMs of pressed hosts in order, each with what already speaks
// against it and the most that any destination could bring.
func (s *State) candidates() []candidate {
	var out []candidate
	for i := range s.V.VMs {
		m := &s.V.VMs[i]
		if !s.Pressed(m.Host) {
			continue
		}
		c := candidate{vm: int32(i), why: s.vmWhy[i]}
		host := &s.V.Hosts[m.Host]
		if c.why.OK() {
			c.why = s.Gate
		}
		if held := s.f.Memory.Held[host.ID]; c.why.OK() && held.Steps < s.P.HoldSteps && s.planned[int32(i)] == nil {
			c.why = no(schemas.ReasonHold, "pressure of %s has held for %d of %d steps", host.ID, held.Steps, s.P.HoldSteps)
		}
		if c.why.OK() {
			c.why = s.tally.Source(host.ID)
		}
		if c.why.OK() && s.modeOf(i, int(m.Host)) == schemas.ModeObserve {
			c.why = no(schemas.ReasonMode, "mode observe: nothing is planned")
		}
		if c.why.OK() {
			s.hope(&c)
		}
		out = append(out, c)
	}
	return out
}

// hope bounds what any destination can bring: all that the source would gain at
// once, without cost, from a host that feels nothing.
func (s *State) hope(c *candidate) {
	a := int(s.V.VMs[c.vm].Host)
	s.Evals++
	c.judged, c.saves = false, s.sums.cost[a]-s.sums.hostCost(a, int(c.vm), -1, 0)
	c.bound = s.rank(c.saves, 0)
	if s.planned[c.vm] != nil {
		c.bound /= sticky
	}
}

// evaluate judges a candidate against every host: never only against the coolest,
// since the best destination is the one whose peaks lie elsewhere.
func (s *State) evaluate(c *candidate) {
	a := int(s.V.VMs[c.vm].Host)
	c.judged, c.has, c.counts, c.score, c.whyNot = true, false, map[schemas.ReasonCode]int{}, 0, c.whyNot[:0]
	for b := range s.V.Hosts {
		if b == a {
			continue
		}
		ch := s.pair(int(c.vm), a, b)
		c.score = max(c.score, ch.gain.Benefit)
		if ch.why != schemas.ReasonOK {
			c.counts[ch.why]++
		} else if !c.has || ch.rank > c.best.rank {
			if c.has {
				c.list(c.best)
			}
			c.best, c.has = ch, true
			continue
		}
		c.list(ch)
	}
}

// list keeps the best of the other hosts, in order of benefit and then of name.
func (c *candidate) list(ch choice) {
	at := len(c.whyNot)
	for at > 0 && (ch.gain.Benefit > c.whyNot[at-1].gain.Benefit || ch.gain.Benefit == c.whyNot[at-1].gain.Benefit && ch.dest < c.whyNot[at-1].dest) {
		at--
	}
	if at < maxWhyNot {
		if len(c.whyNot) == maxWhyNot {
			c.whyNot = c.whyNot[:maxWhyNot-1]
		}
		c.whyNot = slices.Insert(c.whyNot, at, ch)
	}
}

// explained are the other hosts and why not each.
func (s *State) explained(c *candidate) []schemas.Decline {
	out := make([]schemas.Decline, 0, len(c.whyNot))
	for i := range c.whyNot {
		ch := &c.whyNot[i]
		if c.has && ch.dest == c.best.dest {
			continue
		}
		why := s.explain(ch)
		if why.OK() {
			why = no(schemas.ReasonWorse, "benefit %.3g core-seconds, %s gives %.3g", ch.gain.Benefit, s.V.Hosts[c.best.dest].ID, c.best.gain.Benefit)
		}
		out = append(out, schemas.Decline{VM: s.V.VMs[c.vm].ID, Host: s.V.Hosts[ch.dest].ID, Reason: why, Score: ch.gain.Benefit})
	}
	return out
}

// pick is the candidate with the most benefit per cost; the first of equals. The
// rank of one that was judged before later choices only falls, so the highest is
// judged anew until it stays the highest.
func (s *State) pick(cands []candidate) *candidate {
	for {
		var best *candidate
		top := 0.0
		for i := range cands {
			c := &cands[i]
			if c.chosen || !c.why.OK() || c.judged && !c.has || c.saves < sticky*s.minBenefit {
				continue
			}
			if best == nil || c.top() > top {
				best, top = c, c.top()
			}
		}
		if best == nil || best.judged {
			return best
		}
		s.evaluate(best)
	}
}

func (c *candidate) top() float64 {
	if c.judged {
		return c.best.rank
	}
	return c.bound
}

// after marks those whom a choice concerns to be judged anew: the VMs of its
// source, those that wanted its destination or its link, and groups. What could
// have become better, VMs of its destination, which is fuller now, gets a new bound.
func (s *State) after(cands []candidate, done *candidate) {
	a := s.V.VMs[done.vm].Host
	full := s.tally.Source(s.V.Hosts[a].ID)
	link := s.link(s.V.Hosts[a].Site, s.V.Hosts[done.best.dest].Site)
	for i := range cands {
		c := &cands[i]
		if c.chosen || !c.why.OK() {
			continue
		}
		from := s.V.VMs[c.vm].Host
		switch {
		case from == a && !full.OK():
			c.why = full
		case from == done.best.dest || len(s.together[c.vm]) > 0 || len(s.apart[c.vm]) > 0:
			s.hope(c)
		case c.has && (from == a || c.best.dest == done.best.dest || link != (policy.Link{}) && s.link(s.V.Hosts[from].Site, s.V.Hosts[c.best.dest].Site) == link):
			c.judged, c.bound = false, c.best.rank
		}
	}
}

func settle(cands []candidate, why schemas.Reason) {
	for i := range cands {
		if c := &cands[i]; !c.chosen && c.why.OK() && (c.has || !c.judged) {
			c.why = why
		}
	}
}

// refine tries to send the chosen VMs elsewhere, now that all choices are known.
func (s *State) refine(chosen []*candidate, b search.Budget, seed uint64) {
	if len(chosen) < 2 {
		return
	}
	b.Evaluations = min(b.Evaluations, 2*len(chosen)*len(s.V.Hosts))
	r := &retarget{s: s, chosen: chosen}
	search.Climb(r, rand.New(rand.NewPCG(seed, uint64(s.V.Issued))), b, s.minBenefit)
}

// prune takes back, worst first, each choice that no longer pays now that the
// others are made; what is left has its gain on that ground.
func (s *State) prune(chosen []*candidate) []*candidate {
	for {
		worst, low := -1, 0.0
		for i, c := range chosen {
			s.undo(&c.best)
			a := int(s.V.VMs[c.vm].Host)
			c.best.why = schemas.ReasonOK
			s.judge(&c.best, a)
			s.apply(&c.best)
			if c.best.why != schemas.ReasonOK && (worst < 0 || c.best.gain.Benefit < low) {
				worst, low = i, c.best.gain.Benefit
			}
		}
		if worst < 0 {
			return chosen
		}
		c := chosen[worst]
		s.undo(&c.best)
		c.chosen, c.has, c.score = false, false, c.best.gain.Benefit
		c.why = no(schemas.ReasonBelowMinimum, "with the other moves of this plan it brings only %.3g core-seconds, least %.3g", c.best.gain.Benefit, s.minBenefit)
		chosen = slices.Delete(chosen, worst, worst+1)
	}
}

// retarget is the problem of refine: item i is the i-th chosen move.
type retarget struct {
	s      *State
	chosen []*candidate
}

// Propose draws one of the moves and another host for it.
func (r *retarget) Propose(rng *rand.Rand) search.Move {
	return search.Move{Item: int32(rng.IntN(len(r.chosen))), To: int32(rng.IntN(len(r.s.V.Hosts)))}
}

// Delta is minus what the other destination gains.
func (r *retarget) Delta(m search.Move) float64 {
	c := r.chosen[m.Item]
	if m.To == c.best.dest {
		return math.Inf(1)
	}
	next := r.s.other(c, m.To)
	if next.why != schemas.ReasonOK {
		return math.Inf(1)
	}
	return c.best.gain.Benefit - next.gain.Benefit
}

// Apply sends the VM there instead.
func (r *retarget) Apply(m search.Move) {
	c := r.chosen[m.Item]
	next := r.s.other(c, m.To)
	r.s.undo(&c.best)
	c.best = next
	r.s.apply(&c.best)
}

// other judges another destination of a chosen move as if it were not yet made,
// and its present one on the same ground.
func (s *State) other(c *candidate, to int32) choice {
	a := int(s.V.VMs[c.vm].Host)
	s.undo(&c.best)
	now := c.best
	s.judge(&now, a)
	next := s.pair(int(c.vm), a, int(to))
	s.apply(&c.best)
	c.best.gain = now.gain
	return next
}

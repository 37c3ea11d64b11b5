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
//     demand over the look-ahead, a little for load near capacity, and what soft
//     rules and distance cost; a move is charged for its transfer, its downtime, its
//     brown-out and its chance to fail.
//   - Hosts are emptied for drains and maintenance first, broken hard rules mended
//     second, load balanced last. Every move is within every limit.
//   - For balance a VM moves only from a host whose pressure has held above the
//     trigger, or to make room for such a VM, and only if its benefit, given all the
//     others of the plan, is above the minimum. The most benefit per cost goes first.
//   - Memory fits at a high quantile wherever a VM is sent, also while others are
//     still on their way out; moves that need the room of others wait for them.
//   - Every VM on a pressed host that does not move has a typed reason, and so has
//     a plan without moves. "No beneficial move" is an answer.
//
// Why sums of scenarios and not of means and variances: on recorded traces it
// leaves about a third of the unmet demand, and a sum is cheaper than an erfc.
package plan

import (
	"cmp"
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

// Decide searches for the moves of this state: what must move, then the greedy choice
// for balance, then its refinement within the budget, then the order of them all. What
// is left of the budget explains VMs that were never judged.
func (s *State) Decide(b search.Budget, seed uint64) Decision {
	rng := rand.New(rand.NewPCG(seed, uint64(s.V.Issued)))
	cands := s.candidates()
	board := s.newBoard(cands, rng)
	searched := 0
	if s.Gate.OK() {
		board.duties()
		if s.P.RulesOnly {
			board.settle(no(schemas.ReasonRulesOnly, "the policy moves VMs for rules only"))
		} else {
			board.greedy()
			searched = s.Evals
			board.refine(b)
			board.prune()
			board.pack()
		}
		board.order()
	}
	s.retally(board.moves)
	board.account(searched + b.Evaluations)
	return board.write(seed)
}

// candidates are the VMs that must move and those of pressed hosts, in order, each
// with what already speaks against it.
func (s *State) candidates() []*candidate {
	var out []*candidate
	for i := range s.V.VMs {
		m := &s.V.VMs[i]
		host := &s.V.Hosts[m.Host]
		duty := schemas.Reason{}
		if m.Dest < 0 && m.Running && s.vmWhy[i].Code != schemas.ReasonExcluded {
			if duty = s.hosts.Leave(host.ID); duty.OK() {
				duty = s.breach(int32(i))
			}
		}
		if duty.OK() && !s.Pressed(m.Host) {
			continue
		}
		c := s.candidate(int32(i))
		c.duty = duty
		if c.why.OK() {
			c.why = s.Gate
		}
		if c.why.OK() && !c.must() {
			c.why = s.balanced(int32(i))
		}
		if c.why.OK() && s.modeOf(i, int(m.Host)) == schemas.ModeObserve {
			c.why = no(schemas.ReasonMode, "mode observe: nothing is planned")
		}
		out = append(out, c)
	}
	return out
}

// balanced is what speaks against moving a VM of a pressed host for balance.
func (s *State) balanced(i int32) schemas.Reason {
	host := &s.V.Hosts[s.V.VMs[i].Host]
	if held := s.f.Memory.Held[host.ID]; held.Steps < s.P.HoldSteps && s.planned[i] == nil {
		return no(schemas.ReasonHold, "pressure of %s has held for %s of %s", host.ID, s.steps(held.Steps), s.steps(s.P.HoldSteps))
	}
	return s.tally.Source(host.ID)
}

// board is the placement being searched: a state with the moves made so far.
type board struct {
	s     *State
	cands []*candidate // those that a plan speaks of, in order of the VMs
	moves []*candidate // those sent somewhere
	first int          // of them the ones that must move, which the search leaves alone
	index *index
	rng   *rand.Rand
}

func (s *State) newBoard(cands []*candidate, rng *rand.Rand) *board {
	return &board{s: s, cands: cands, index: s.newIndex(), rng: rng}
}

// put and lift are those of the state, with the list of moves.
func (b *board) put(c *candidate, to int32) float64 {
	c.order = len(b.moves)
	b.moves = append(b.moves, c)
	d := b.s.put(c, to)
	b.index.renew(c.home)
	b.index.renew(to)
	return d
}

func (b *board) lift(c *candidate) float64 {
	last := len(b.moves) - 1
	b.moves[last].order = c.order
	b.moves[c.order] = b.moves[last]
	b.moves = b.moves[:last]
	to := c.dest
	d := b.s.lift(c)
	b.index.renew(c.home)
	b.index.renew(to)
	return d
}

// duties sends those that must move where they do least harm: for drains and
// maintenance the largest first, while there is most room; then for rules, as long as
// the rule is still broken, the cheapest first, so that the fewest move.
func (b *board) duties() {
	s := b.s
	var drains, mends []*candidate
	for _, c := range b.cands {
		switch {
		case !c.must() || !c.why.OK():
		case !s.hosts.Leave(s.V.Hosts[c.home].ID).OK():
			drains = append(drains, c)
		default:
			mends = append(mends, c)
		}
	}
	slices.SortStableFunc(drains, func(x, y *candidate) int { return cmp.Compare(s.sums.vpeak[y.vm], s.sums.vpeak[x.vm]) })
	slices.SortStableFunc(mends, func(x, y *candidate) int { return cmp.Compare(s.resident(int(x.vm)), s.resident(int(y.vm))) })
	for _, c := range append(drains, mends...) {
		if s.limits.hour <= 0 || s.P.MaxPerCluster <= 0 || s.P.MaxPerHost <= 0 {
			c.why = no(schemas.ReasonBudgetHour, "the moves that may begin within %s are used up", s.steps(schemas.StepsPerDay/24))
			continue
		}
		if s.hosts.Leave(s.V.Hosts[c.home].ID).OK() && s.breach(c.vm).OK() {
			c.why = no(schemas.ReasonOK, "another move mends the rule")
			c.duty = schemas.Reason{}
			continue
		}
		if b.evaluate(c); c.has {
			b.put(c, c.best.dest)
		}
	}
	b.first = len(b.moves)
}

// settle gives a reason to all that are still in question.
func (b *board) settle(why schemas.Reason) {
	for _, c := range b.cands {
		if c.dest < 0 && c.why.OK() && !c.must() && (c.has || !c.judged) {
			c.why = why
		}
	}
}

// retally counts the moves of the board, for the words of a refusal.
func (s *State) retally(moves []*candidate) {
	s.tally = policy.NewTally(s.P, s.V.Attempts, s.V.Now, s.V.Base, s.V.Resumed)
	for _, c := range moves {
		src, dst := &s.V.Hosts[c.home], &s.V.Hosts[c.dest]
		s.tally.Add(s.V.VMs[c.vm].ID, src.ID, dst.ID, s.link(src.Site, dst.Site))
	}
}

// prune takes back, worst first, each move that no longer pays now that the others
// are made; what is left has its gain on that ground.
func (b *board) prune() {
	s := b.s
	for {
		var bad []*candidate
		for i := b.first; i < len(b.moves); i++ {
			c := b.moves[i]
			if s.rejudge(c); c.best.why != schemas.ReasonOK {
				bad = append(bad, c)
			}
		}
		if len(bad) == 0 {
			return
		}
		slices.SortFunc(bad, func(x, y *candidate) int {
			return cmp.Or(cmp.Compare(x.best.gain.Benefit, y.best.gain.Benefit), cmp.Compare(x.vm, y.vm))
		})
		touched := map[int32]bool{}
		for _, c := range bad {
			if touched[c.home] || touched[c.dest] {
				continue // judged on a ground that has changed: the next round will tell
			}
			touched[c.home], touched[c.dest] = true, true
			b.drop(c, no(schemas.ReasonBelowMinimum, "with the other moves of this plan it brings only %.3g core-seconds, least %.3g", c.best.gain.Benefit, s.least(c, c.dest)))
		}
	}
}

// drop takes a move back for good.
func (b *board) drop(c *candidate, why schemas.Reason) {
	if c.order < b.first {
		b.first--
	}
	b.lift(c)
	c.has, c.score, c.why = false, c.best.gain.Benefit, why
}

// rejudge gives a move its gain given all the others.
func (s *State) rejudge(c *candidate) {
	to := c.dest
	s.lift(c)
	w := s.way(c, to)
	ch := choice{vm: c.vm, dest: to, timing: w.timing, price: w.price, why: w.why}
	if ch.why == schemas.ReasonOK {
		s.judge(c, &ch)
	}
	c.best, c.has = ch, true
	s.put(c, to)
}

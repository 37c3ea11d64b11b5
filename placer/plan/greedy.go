package plan

import (
	"container/heap"
	"slices"

	"github.com/foreshift/foreshift/schemas"
)

// hope bounds what any destination can bring: all that the source would gain at
// once, without cost, from a host that feels nothing.
func (b *board) hope(c *candidate) {
	s := b.s
	s.Evals++
	c.judged, c.tight, c.saves = false, false, -s.sums.leaving(int(c.vm), int(c.home), 0)
	c.saves += s.wishable(c.vm)
	c.bound = s.rank(c.saves, 0)
	if s.planned[c.vm] != nil {
		c.bound /= sticky
	}
}

// tighten lowers the bounds to what is left when the ways are paid for, which takes
// working out when the VM would move.
func (b *board) tighten(c *candidate) {
	s, most, top, ways := b.s, 0.0, 0.0, 0
	for site := range s.V.Sites {
		s.Evals++
		if w := s.wayTo(c, int32(site)); w.why == schemas.ReasonOK {
			benefit, rank := s.most(c, w)
			most, top, ways = max(most, benefit), max(top, rank), ways+1
		}
	}
	if s.planned[c.vm] != nil {
		top /= sticky
	}
	if c.tight = true; ways > 0 { // a VM without a way is judged, so that it has its reason
		c.saves, c.bound = min(c.saves, most), min(c.bound, top)
	}
}

// evaluate judges a candidate against the hosts worth a look: in a small fleet all of
// them, in a large one those with most room when the VM wants it and some at random.
// Never only the coolest: the best destination is the one whose peaks lie elsewhere.
func (b *board) evaluate(c *candidate) { b.look(c, false) }

// look is evaluate; in haste it stops at a destination that feels nothing of the VM,
// since none can be better, and leaves the other hosts to be explained later.
func (b *board) look(c *candidate, haste bool) {
	c.near = c.near[:0]
	targets, good := b.targets(c), float64(nearly)
	c.judged, c.has, c.partly, c.counts, c.score, c.whyNot = true, false, false, map[schemas.ReasonCode]int{}, 0, c.whyNot[:0]
	for _, to := range targets {
		if to == c.home {
			continue
		}
		if haste && c.has {
			if w := b.s.way(c, to); w.why == schemas.ReasonOK && b.s.planned[c.vm] == nil {
				if _, top := b.s.most(c, w); top <= c.best.rank {
					c.partly = true
					continue
				}
			}
		}
		ch := b.s.pair(c, to)
		good -= .02
		c.score = max(c.score, ch.gain.Benefit)
		if ch.why != schemas.ReasonOK {
			c.counts[ch.why]++
		} else if !c.has || ch.rank > c.best.rank {
			if c.has {
				c.list(c.best)
			}
			c.best, c.has = ch, true
			if haste {
				if _, top := b.s.most(c, b.s.way(c, to)); ch.rank >= good*top {
					c.partly = true
					return
				}
			}
			continue
		}
		c.list(ch)
	}
}

// nearly is how close to the best imaginable a destination must be to be taken in haste;
// a little less with every one that was not.
const nearly = .9

// account completes what is told of other hosts: of the moves first, then of those that
// stay, as far as the budget goes.
func (b *board) account(evaluations int) {
	s, moves := b.s, slices.Clone(b.moves)
	for _, c := range moves {
		if c.partly || len(c.whyNot) == 0 {
			best, to := c.best, c.dest
			b.lift(c)
			b.look(c, false)
			c.best, c.has = best, true
			b.put(c, to)
		}
	}
	copy(b.moves, moves) // in their order again
	for i, c := range b.moves {
		c.order = i
	}
	// One that is only held back is judged too: what a move would bring is told in every
	// mode, and whatever the budgets, of which its reason tells.
	s.free = true
	for _, c := range b.cands {
		if (!c.judged || c.partly) && c.dest < 0 && s.vmWhy[c.vm].OK() && s.Evals < evaluations {
			b.look(c, false)
		}
	}
	s.free = false
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

func (c *candidate) rank() float64 {
	if c.judged {
		return c.best.rank
	}
	return c.bound
}

// queue holds candidates, the one with the most benefit per cost first, the first of
// equals.
type queue []*candidate

func (q queue) Len() int { return len(q) }
func (q queue) Less(i, j int) bool {
	if a, b := q[i].rank(), q[j].rank(); a != b {
		return a > b
	}
	return q[i].vm < q[j].vm
}
func (q queue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].place, q[j].place = i, j
}

// Push and Pop make it a [heap.Interface].
func (q *queue) Push(x any) {
	c := x.(*candidate)
	c.place = len(*q)
	*q = append(*q, c)
}

// Pop takes the last.
func (q *queue) Pop() any {
	last := len(*q) - 1
	c := (*q)[last]
	c.place = -1
	*q = (*q)[:last]
	return c
}

// greedy makes the move with the most benefit per cost, and again until none pays or a
// budget is used up. Judging a VM against other hosts is put off until its bound makes
// it the next. The rank of one that was judged before later choices only falls: it is
// judged anew when it comes to the top and its hosts have changed since.
func (b *board) greedy() {
	s := b.s
	var q queue
	home, bound := map[int32][]*candidate{}, []*candidate(nil)
	for _, c := range b.cands {
		if c.dest >= 0 || !c.why.OK() || c.must() {
			continue
		}
		home[c.home] = append(home[c.home], c)
		if s.rules.bound(c.vm) {
			bound = append(bound, c)
		}
		if b.hope(c); c.saves >= sticky*s.minBenefit {
			heap.Push(&q, c)
		} else {
			c.place = -1
		}
	}
	s.retally(b.moves)
	// A candidate comes to the top at most four times for each move that is made: it is
	// bounded twice, judged, and then taken or left.
	turns := 4 * (len(q) + 1) * (min(s.limits.left(), len(b.cands)) + 1)
	for ; turns > 0 && len(q) > 0 && s.limits.left() > 0; turns-- {
		c := q[0]
		switch {
		case s.limits.out[c.home] <= 0:
			c.why = s.tally.Source(s.V.Hosts[c.home].ID)
			heap.Pop(&q)
		case !b.fresh(c):
			if b.again(c); c.judged && !c.has || c.saves < sticky*s.minBenefit {
				heap.Pop(&q)
			} else {
				heap.Fix(&q, 0)
			}
		default:
			heap.Pop(&q)
			b.put(c, c.best.dest)
			s.tally.Add(s.V.VMs[c.vm].ID, s.V.Hosts[c.home].ID, s.V.Hosts[c.dest].ID, s.link(s.V.Hosts[c.home].Site, s.V.Hosts[c.dest].Site))
			// What could have become better gets another chance: the VMs of the destination,
			// which is fuller now, and those to which it matters where others are.
			for _, again := range [2][]*candidate{home[c.dest], bound} {
				for _, x := range again {
					if x.dest >= 0 || !x.why.OK() {
						continue
					}
					if b.hope(x); x.place >= 0 {
						heap.Fix(&q, x.place)
					} else if x.saves >= sticky*s.minBenefit {
						heap.Push(&q, x)
					}
				}
			}
		}
	}
	for _, c := range b.cands {
		if c.dest < 0 && c.why.OK() && !c.must() && s.limits.out[c.home] <= 0 {
			c.why = s.tally.Source(s.V.Hosts[c.home].ID)
		}
	}
	if s.limits.left() <= 0 {
		b.settle(s.tally.Fleet())
	}
}

// fresh reports whether a candidate's best choice was judged on what is so now.
func (b *board) fresh(c *candidate) bool {
	s := b.s
	if !c.judged || !c.has || c.seen != [2]uint32{s.sums.stamp[c.home], s.sums.stamp[c.best.dest]} {
		return false
	}
	why, _, _ := s.allowed(c, c.best.dest)
	return why == schemas.ReasonOK
}

// again judges a candidate once more. When its source has changed there is less left to
// gain, and a new bound may already put it back in the line; where only its best
// destination has, and not by much, the other hosts need no second look.
func (b *board) again(c *candidate) {
	s := b.s
	if c.judged && c.has {
		was := c.best.rank
		if c.seen[0] != s.sums.stamp[c.home] {
			b.hope(c)
			c.bound = min(c.bound, was)
			return
		}
		if ch := s.pair(c, c.best.dest); ch.why == schemas.ReasonOK && ch.rank > nearly*was {
			c.best, c.seen[1] = ch, s.sums.stamp[ch.dest]
			return
		}
	}
	if !c.tight {
		b.tighten(c)
		return
	}
	b.look(c, b.index.slack != nil)
	if c.has {
		c.seen = [2]uint32{s.sums.stamp[c.home], s.sums.stamp[c.best.dest]}
	}
}

// Rank judges a VM against every host, the best first: what `explain` shows.
func (s *State) Rank(vm int32) []schemas.Decline {
	c := s.candidate(vm)
	b := s.newBoard(nil, nil)
	for _, h := range b.index.all {
		if h != c.home {
			c.near = append(c.near, h)
		}
	}
	var all []choice
	for _, h := range c.near {
		all = append(all, s.pair(c, h))
	}
	slices.SortStableFunc(all, func(x, y choice) int {
		switch {
		case (x.why == schemas.ReasonOK) != (y.why == schemas.ReasonOK):
			if x.why == schemas.ReasonOK {
				return -1
			}
			return 1
		case x.gain.Benefit > y.gain.Benefit:
			return -1
		case x.gain.Benefit < y.gain.Benefit:
			return 1
		}
		return int(x.dest - y.dest)
	})
	out := make([]schemas.Decline, len(all))
	for i := range all {
		out[i] = schemas.Decline{VM: s.V.VMs[vm].ID, Host: s.V.Hosts[all[i].dest].ID, Reason: s.explain(&all[i]), Score: all[i].gain.Benefit}
	}
	return out
}

package plan

import (
	"math/rand/v2"
	"slices"

	"github.com/foreshift/foreshift/placer/search"
	"github.com/foreshift/foreshift/schemas"
)

// neighbourhood is the board as a problem for [search.Anneal]. Its objective is that
// of change: unmet demand, wishes, and for each move its price and the least it must
// bring, so that moves that are not worth it are dropped as it cools.
//
// A try is a shift (one more move), another destination, a VM sent home, an exchange
// (a shift in place of a move, where the budgets are used up), a swap (a VM of another
// host makes room), or a small ruin and its repair.
type neighbourhood struct {
	b       *board
	free    []*candidate // that may be moved for balance
	byHost  [][]int32    // by host: indices into free
	hot     []int32      // homes of free
	guests  [][]int32    // by host: VMs that may make room
	could   int          // how many they are
	helpers []candidate  // those of them that were asked to
	helper  []int32      // by VM: its helper plus one, 0 = none
	kept    []sent       // the best placement
	lifted  []sent
	repairs []*candidate
}

// sent is a candidate on its way.
type sent struct {
	c  *candidate
	to int32
}

// maxHelpers bounds the helpers of one search: each takes memory for its ways.
const maxHelpers = 4096

func (b *board) newNeighbourhood() *neighbourhood {
	s := b.s
	n := &neighbourhood{b: b, byHost: make([][]int32, len(s.V.Hosts)), helper: make([]int32, len(s.V.VMs)), guests: make([][]int32, len(s.V.Hosts))}
	for _, c := range b.cands {
		if c.must() || !c.why.OK() {
			continue
		}
		if n.byHost[c.home] == nil {
			n.hot = append(n.hot, c.home)
		}
		n.byHost[c.home] = append(n.byHost[c.home], int32(len(n.free)))
		n.free = append(n.free, c)
	}
	for i := range s.V.VMs {
		m := &s.V.VMs[i]
		if n.byHost[m.Host] == nil && s.vmWhy[i].OK() && s.limits.out[m.Host] > 0 && s.modeOf(i, int(m.Host)) != schemas.ModeObserve && s.hosts.Leave(s.V.Hosts[m.Host].ID).OK() {
			n.guests[m.Host] = append(n.guests[m.Host], int32(i))
			n.could++
		}
	}
	return n
}

// reserve makes room for all that the search will hold, and works out where each VM
// could go and by what way: nothing is allocated after that.
func (n *neighbourhood) reserve() {
	b, sites := n.b, len(n.b.s.V.Sites)
	for _, c := range n.free {
		b.targets(c)
		for site := range sites {
			b.s.wayTo(c, int32(site))
		}
	}
	n.helpers = make([]candidate, 0, min(n.could, maxHelpers))
	near, ways := make([]int32, cap(n.helpers)*nearMost), make([]way, cap(n.helpers)*sites)
	all := n.helpers[:cap(n.helpers)]
	for i := range all {
		all[i].near, all[i].ways = near[i*nearMost:i*nearMost:(i+1)*nearMost], ways[i*sites:(i+1)*sites:(i+1)*sites]
	}
	total := len(n.free) + len(all)
	b.moves = slices.Grow(b.moves, min(total, max(0, b.s.limits.left())))
	n.kept = make([]sent, 0, cap(b.moves))
	n.lifted, n.repairs = make([]sent, 0, ruined), make([]*candidate, 0, repaired)
}

// refine anneals from the greedy placement. What it may gain bounds what it may cost:
// without an unmet demand that a move could mend it does nothing.
func (b *board) refine(budget search.Budget) {
	s := b.s
	if budget.Evaluations = budget.Evaluations * 3 / 4 / perTry; budget.Evaluations <= 0 {
		return
	}
	n := b.newNeighbourhood()
	left := 0.0
	for _, h := range n.hot {
		left += s.sums.cost[h]
	}
	for _, c := range b.moves[b.first:] {
		left += s.sums.cost[c.dest] + s.least(c, c.dest)
	}
	if len(n.free) == 0 || left <= s.minBenefit {
		return
	}
	warm := max(s.minBenefit/2, left/float64(50*len(n.hot)), 1e-6)
	n.reserve()
	n.Keep()
	greedy := slices.Clone(n.kept)
	if r := search.Anneal(n, b.rng, budget, search.Schedule{Start: warm, End: max(warm/100, 1e-9)}); r.Gained < s.minBenefit/16 {
		// As good as before: what was said first stands.
		n.kept = greedy
		n.Restore()
	}
}

// Keep remembers the moves for balance.
func (n *neighbourhood) Keep() {
	n.kept = n.kept[:0]
	for _, c := range n.b.moves[n.b.first:] {
		n.kept = append(n.kept, sent{c, c.dest})
	}
}

// Restore goes back to those last kept.
func (n *neighbourhood) Restore() {
	for len(n.b.moves) > n.b.first {
		n.b.lift(n.b.moves[len(n.b.moves)-1])
	}
	for _, x := range n.kept {
		n.b.put(x.c, x.to)
	}
}

// Try implements [search.Annealable].
func (n *neighbourhood) Try(r *rand.Rand, limit float64) (float64, bool) {
	moves := n.b.moves[n.b.first:]
	switch x := r.IntN(64); {
	case x < 30 || len(moves) == 0:
		c := n.free[n.draw(r)]
		if c.dest >= 0 {
			return n.retarget(c, r, limit)
		}
		return n.shift(c, r, limit)
	case x < 38:
		return n.retarget(moves[r.IntN(len(moves))], r, limit)
	case x < 46:
		return n.home(moves[r.IntN(len(moves))], limit)
	case x < 62:
		return n.swap(r, limit)
	}
	return n.ruin(r, limit)
}

// draw picks a hot host and then one of its VMs.
func (n *neighbourhood) draw(r *rand.Rand) int32 {
	of := n.byHost[n.hot[r.IntN(len(n.hot))]]
	return of[r.IntN(len(of))]
}

// target draws a destination, half of them from those worth a look.
func (n *neighbourhood) target(c *candidate, r *rand.Rand) int32 {
	if near := n.b.targets(c); r.IntN(2) == 0 {
		return near[r.IntN(len(near))]
	}
	return int32(r.IntN(len(n.b.index.all)))
}

// shift makes one more move; where a budget is used up, in place of another.
func (n *neighbourhood) shift(c *candidate, r *rand.Rand, limit float64) (float64, bool) {
	l, moves := n.b.s.limits, n.b.moves[n.b.first:]
	if l.left() > 0 && l.out[c.home] > 0 {
		return n.send(c, n.target(c, r), 0, limit)
	}
	if len(moves) == 0 {
		return 0, false
	}
	victim := moves[r.IntN(len(moves))]
	if l.out[c.home] <= 0 {
		for i := 0; i < len(moves) && victim.home != c.home; i++ {
			victim = moves[(victim.order-n.b.first+1)%len(moves)]
		}
	}
	if victim.home != c.home && l.out[c.home] <= 0 {
		return 0, false
	}
	was := victim.dest
	d := n.b.lift(victim)
	x, made := n.send(c, n.target(c, r), d, limit)
	if !made {
		n.b.put(victim, was)
	}
	return x, made
}

// send puts a candidate somewhere if with what was changed before it stays in the
// limit. A host's cost is never below 0: what cannot pay needs no exact sum.
func (n *neighbourhood) send(c *candidate, to int32, before, limit float64) (float64, bool) {
	if c.home == to || before+n.b.s.floor(c, to) > limit {
		return 0, false
	}
	d, why := n.b.s.change(c, to)
	if why != schemas.ReasonOK || before+d > limit {
		return 0, false
	}
	n.b.put(c, to)
	return before + d, true
}

// retarget sends a VM that moves to another host instead. Where it would arrive there at
// the same time, its source does not notice, and the change is known without taking the
// move back first.
func (n *neighbourhood) retarget(c *candidate, r *rand.Rand, limit float64) (float64, bool) {
	s, was, to := n.b.s, c.dest, n.target(c, r)
	if to == was || to == c.home {
		return 0, false
	}
	w := s.way(c, to)
	if w.why != schemas.ReasonOK {
		return 0, false
	}
	if w.from != c.from {
		d := n.b.lift(c)
		x, made := n.send(c, to, d, limit)
		if !made {
			n.b.put(c, was)
		}
		return x, made
	}
	d, why := s.elsewhere(c, to)
	if why != schemas.ReasonOK || d > limit {
		return 0, false
	}
	n.b.lift(c)
	n.b.put(c, to)
	return d, true
}

func (n *neighbourhood) home(c *candidate, limit float64) (float64, bool) {
	s := n.b.s
	s.unsettled(c)
	d := s.undone(c)
	s.resettled(c)
	if d > limit {
		return 0, false
	}
	n.b.lift(c)
	return d, true
}

// swap sends a VM to a host and one of that host's to where the first came from, or
// elsewhere.
func (n *neighbourhood) swap(r *rand.Rand, limit float64) (float64, bool) {
	c := n.free[n.draw(r)]
	if c.dest >= 0 {
		// It goes somewhere already: room is made for it there.
		if h := n.guest(c.dest, r); h != nil && h.dest < 0 && n.b.s.limits.left() > 0 {
			return n.send(h, c.home, 0, limit)
		}
		return 0, false
	}
	if n.b.s.limits.left() < 2 || n.b.s.limits.out[c.home] <= 0 {
		return 0, false
	}
	to := n.target(c, r)
	h := n.guest(to, r)
	if h == nil || h.dest >= 0 || to == c.home {
		return 0, false
	}
	back := c.home
	if r.IntN(4) == 0 {
		back = n.target(h, r)
	}
	// The second can at best leave nothing of what the host lacks.
	if n.b.s.floor(c, to)+n.b.s.least(h, back)-n.b.s.wishable(h.vm) > limit+n.b.s.sums.cost[back] {
		return 0, false
	}
	d, why := n.b.s.change(c, to)
	if why != schemas.ReasonOK {
		return 0, false
	}
	n.b.put(c, to)
	x, made := n.send(h, back, d, limit)
	if !made {
		n.b.lift(c)
	}
	return x, made
}

// guest draws a VM of a host that may make room: one that is free itself, or a helper.
func (n *neighbourhood) guest(host int32, r *rand.Rand) *candidate {
	if of := n.byHost[host]; len(of) > 0 {
		return n.free[of[r.IntN(len(of))]]
	}
	of := n.guests[host]
	if len(of) == 0 {
		return nil
	}
	vm := of[r.IntN(len(of))]
	if at := n.helper[vm]; at > 0 {
		return &n.helpers[at-1]
	}
	if len(n.helpers) == cap(n.helpers) {
		return nil
	}
	n.helpers = n.helpers[:len(n.helpers)+1]
	c := &n.helpers[len(n.helpers)-1]
	near, ways := c.near, c.ways
	*c = n.b.s.asCandidate(vm)
	c.near, c.ways, c.aid = near, ways, true
	n.helper[vm] = int32(len(n.helpers))
	return c
}

// perTry is about how many deltas a try takes, ruins included.
const perTry = 4

// Sizes of a ruin.
const (
	ruined   = 6  // moves taken back at most
	repaired = 48 // tries to make others
)

// ruin takes back moves from or to one host, and makes others in their place, each the
// best of a few draws.
func (n *neighbourhood) ruin(r *rand.Rand, limit float64) (float64, bool) {
	b := n.b
	seed := b.moves[b.first+r.IntN(len(b.moves)-b.first)]
	host := seed.home
	if r.IntN(2) == 0 {
		host = seed.dest
	}
	n.lifted, n.repairs = n.lifted[:0], n.repairs[:0]
	d := 0.0
	for i := len(b.moves) - 1; i >= b.first && len(n.lifted) < ruined; i-- {
		if c := b.moves[i]; c.home == host || c.dest == host {
			n.lifted = append(n.lifted, sent{c, c.dest})
			d += b.lift(c)
		}
	}
	for try := 0; try < repaired; try++ {
		c := n.lifted[r.IntN(len(n.lifted))].c
		if of := n.byHost[c.home]; r.IntN(2) == 0 && len(of) > 0 {
			c = n.free[of[r.IntN(len(of))]]
		}
		if c.dest >= 0 || b.s.limits.left() <= 0 || b.s.limits.out[c.home] <= 0 {
			continue
		}
		best, low := int32(-1), 0.0
		for range 4 {
			to := n.target(c, r)
			if to == c.home {
				continue
			}
			if x, why := b.s.change(c, to); why == schemas.ReasonOK && x < low {
				best, low = to, x
			}
		}
		if best >= 0 {
			d += b.put(c, best)
			n.repairs = append(n.repairs, c)
		}
	}
	if d <= limit {
		return d, true
	}
	for _, c := range n.repairs {
		b.lift(c)
	}
	for _, x := range n.lifted {
		b.put(x.c, x.to)
	}
	return 0, false
}

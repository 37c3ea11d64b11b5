package plan

import (
	"cmp"
	"slices"

	"github.com/foreshift/foreshift/placer/fleet"
	"github.com/foreshift/foreshift/placer/policy"
	"github.com/foreshift/foreshift/schemas"
)

// order gives every move of the board its start, and takes back those that cannot
// start: the search looked at the end of all moves only, and here is the way there.
//
// Moves are started in the order of their rank, those that must be made first, as
// soon as they are due and nothing stands against them: the budgets of both hosts, of
// the link and of the fleet; the link itself, which several may share while their
// dirty rates together stay below half of it, each ending when those before it have been
// sent; and memory at the destination, where
// VMs count until they have left and from the moment their move begins. What waits
// for room starts when the one that makes it has gone. Moves that wait for each other
// in a circle are broken up: the smallest of them goes to a host that has room, if it
// still pays there, or else the least useful is given up.
func (b *board) order() {
	// Every round but the last takes back at least one move, or uses up a detour: the
	// bound is never met, and it is there all the same.
	detours := min(len(b.moves), maxDetours)
	settled := false
	for round := len(b.moves) + detours + 1; round > 0 && len(b.moves) > 0 && !settled; round-- {
		b.sort(duty)
		moves := slices.Clone(b.moves)
		q := b.s.line(moves)
		switch q.run(); {
		case len(q.waiting) == 0:
			settled = b.retime(moves, q)
		case detours > 0:
			if detours--; !b.unlock(q) {
				b.giveUp(q, 1)
			}
		default:
			b.giveUp(q, len(q.waiting))
		}
	}
	for len(b.moves) > 0 && !settled {
		c := b.moves[len(b.moves)-1]
		b.drop(c, no(schemas.ReasonNoRoom, "no order of this plan's moves was found in which it has its turn"))
	}
	b.lead()
	b.sort(turn)
}

// maxDetours bounds the ways round that are tried for one plan: a way round may close
// the next circle. Once they are used up, all that still wait are given up together.
const maxDetours = 64

// sort puts the moves that must be made first, then those with most benefit per cost,
// and those that only make room last.
func (b *board) sort(duties func(x, y *candidate) int) {
	slices.SortStableFunc(b.moves, func(x, y *candidate) int {
		if x.must() && y.must() {
			return duties(x, y)
		}
		return cmp.Or(cmp.Compare(is(y.must()), is(x.must())), cmp.Compare(is(x.aid), is(y.aid)), cmp.Compare(y.best.rank, x.best.rank), cmp.Compare(x.vm, y.vm))
	})
	for i, c := range b.moves {
		c.order = i
	}
}

// duty keeps them in the order in which they were chosen, turn in that of their starts.
func duty(x, y *candidate) int { return cmp.Compare(x.order, y.order) }

func turn(x, y *candidate) int {
	return cmp.Or(cmp.Compare(x.best.due, y.best.due), cmp.Compare(x.vm, y.vm))
}

// line is a simulation of a plan's moves.
type line struct {
	s       *State
	limits  *limits
	waiting []*candidate
	running []flight
	start   map[int32]way       // by VM: as it goes when its turn comes
	sharing []float64           // by link: dirty rates over bandwidth of the running
	load    map[int32][]float32 // by host: memory of its VMs, path by path
	held    map[int32]float32   // by host: memory promised to its VMs
	now     schemas.Time
	busy    bool // a move that waits dirties too much now
}

type flight struct {
	c      *candidate
	end    schemas.Time
	lambda float64
}

// line sets up the fleet as it is before the moves.
func (s *State) line(moves []*candidate) *line {
	q := &line{s: s, limits: newLimits(s.V, s.P, policy.NewTally(s.P, s.V.Attempts, s.V.Now, s.V.Base, s.V.Resumed)), waiting: slices.Clone(moves), start: map[int32]way{}, sharing: make([]float64, len(s.limits.link)), load: map[int32][]float32{}, held: map[int32]float32{}, now: s.V.Now}
	n := s.sums.n
	for _, c := range moves {
		for _, h := range [2]int32{c.home, c.dest} {
			if q.load[h] == nil {
				s.sums.exact(int(h))
				q.load[h], q.held[h] = slices.Clone(s.sums.end[int(h)*n:(int(h)+1)*n]), s.sums.promised[h]
			}
		}
	}
	for _, c := range moves {
		q.hold(c, c.home, 1)
		q.hold(c, c.dest, -1)
	}
	return q
}

// hold counts a VM's memory on a host, or takes it off.
func (q *line) hold(c *candidate, host int32, sign float32) {
	plus(q.load[host], q.s.sums.memory(int(c.vm)), sign)
	q.held[host] += sign * q.s.sums.vpromise[c.vm]
}

func plus(dst, d []float32, sign float32) {
	for i, x := range d {
		dst[i] += sign * x
	}
}

// run starts what can start, at the earliest moment, until nothing more moves. Each
// turn but the last ends a move, reaches the moment at which one is due, or the next
// slot, in which a busy guest may be quieter: there are at most two a move and one a
// slot.
func (q *line) run() {
	for turns := 2*len(q.waiting) + schemas.Slots + 1; turns > 0; turns-- {
		q.busy = false
		q.waiting = slices.DeleteFunc(q.waiting, q.begin)
		next, found := schemas.Time(0), false
		if t := fleet.SlotAfter(q.s.V.Grid, q.s.V.Base, q.now+1); q.busy && t < schemas.Slots {
			first, _ := q.s.V.Grid.Slot(t)
			next, found = first.Start(q.s.V.Base), true
		}
		for _, f := range q.running {
			if !found || f.end < next {
				next, found = f.end, true
			}
		}
		for _, c := range q.waiting {
			if due := q.s.way(c, c.dest).due; due > q.now && (!found || due < next) {
				next, found = due, true
			}
		}
		if !found {
			return
		}
		q.now = max(q.now, next)
		q.running = slices.DeleteFunc(q.running, func(f flight) bool {
			if f.end > q.now {
				return false
			}
			q.book(f.c, -1, f.lambda)
			q.limits.hour-- // an hour's budget does not come back
			q.hold(f.c, f.c.home, -1)
			return true
		})
	}
}

// begin starts a move if it is due and nothing stands against it.
func (q *line) begin(c *candidate) bool {
	s, l, w := q.s, q.limits, q.s.way(c, c.dest)
	if w.due > q.now || l.out[c.home] <= 0 || l.in[c.dest] <= 0 || l.left() <= 0 || !q.fits(c, c.dest) {
		return false
	}
	x := *w
	if x.due != q.now { // it has waited, and its guest may be busier by now, or quieter
		x.cheapest(s, int(c.vm), s.V.Grid.SlotOf(schemas.StepAt(q.now, s.V.Base)), q.now)
		if !x.transfer.Converges {
			q.busy = true
			return false
		}
		x.end = q.now.Add(x.transfer.Duration)
		x.from = fleet.SlotAfter(s.V.Grid, s.V.Base, x.end)
	}
	if i := s.linkIndex(s.V.Hosts[c.home].Site, s.V.Hosts[c.dest].Site); i >= 0 && (l.link[i] <= 0 || q.sharing[i] > 0 && q.sharing[i]+x.transfer.Lambda > shared) {
		return false
	}
	if at := q.after(c); at > q.now {
		x.end = at.Add(x.transfer.Duration)
		x.from = fleet.SlotAfter(s.V.Grid, s.V.Base, x.end)
	}
	q.book(c, 1, x.transfer.Lambda)
	q.hold(c, c.dest, 1)
	q.start[c.vm] = x
	q.running = append(q.running, flight{c, x.end, x.transfer.Lambda})
	return true
}

// after is when the link is through with the moves that cross it already: what is sent
// beside them ends so much later, whoever of them is sent first. Now within a site, where
// hosts have networks of their own.
func (q *line) after(c *candidate) schemas.Time {
	link := func(c *candidate) int {
		return q.s.linkIndex(q.s.V.Hosts[c.home].Site, q.s.V.Hosts[c.dest].Site)
	}
	at, mine := q.now, link(c)
	for _, f := range q.running {
		if mine >= 0 && link(f.c) == mine {
			at = max(at, f.end)
		}
	}
	return at
}

// fits reports whether a host has the memory at this moment.
func (q *line) fits(c *candidate, host int32) bool {
	s := q.s.sums
	load := q.load[host]
	if load == nil {
		return s.memFits(int(c.vm), int(host))
	}
	return q.held[host]+s.vpromise[c.vm] <= s.room[host] && s.usedFits(load, int(c.vm), int(host))
}

func (q *line) book(c *candidate, n int, lambda float64) {
	q.limits.out[c.home] -= n
	q.limits.in[c.dest] -= n
	q.limits.cluster -= n
	q.limits.hour -= n
	if i := q.s.linkIndex(q.s.V.Hosts[c.home].Site, q.s.V.Hosts[c.dest].Site); i >= 0 {
		q.limits.link[i] -= n
		q.sharing[i] += float64(n) * lambda
	}
}

// unlock breaks a circle: the smallest of those that wait goes to another host that
// has room now.
func (b *board) unlock(q *line) bool {
	s := b.s
	free := slices.Clone(q.waiting)
	slices.SortStableFunc(free, func(x, y *candidate) int { return cmp.Compare(s.sums.vpeak[x.vm], s.sums.vpeak[y.vm]) })
	c := free[0]
	was, rank := c.dest, c.best
	b.lift(c)
	for _, to := range b.targets(c) {
		if to == was || to == c.home {
			continue
		}
		if ch := s.pair(c, to); ch.why == schemas.ReasonOK && q.limits.in[to] > 0 && q.fits(c, to) {
			c.best = ch
			b.put(c, to)
			return true
		}
	}
	b.put(c, was)
	c.best = rank
	return false
}

// giveUp takes back the n least useful of those that wait.
func (b *board) giveUp(q *line, n int) {
	for _, c := range q.waiting[len(q.waiting)-n:] {
		why := no(schemas.ReasonNoRoom, "%s has the memory only once others have left, and they wait too", b.s.V.Hosts[c.dest].ID)
		if q.fits(c, c.dest) {
			why = b.s.crowded(c, q)
		}
		b.drop(c, why)
	}
}

// crowded is the budget that never has a place for a move.
func (s *State) crowded(c *candidate, q *line) schemas.Reason {
	src, dst := &s.V.Hosts[c.home], &s.V.Hosts[c.dest]
	s.retally(nil)
	for _, r := range [4]schemas.Reason{s.tally.Fleet(), s.tally.Source(src.ID), s.tally.Destination(dst.ID), s.tally.Between(s.link(src.Site, dst.Site))} {
		if !r.OK() {
			return r
		}
	}
	return no(schemas.ReasonBudgetHour, "no start could be found for it in this plan")
}

// retime gives the moves their starts, judges them anew where that changed what they take
// and when they arrive, and reports whether all of them still pay: those that do not are taken back.
func (b *board) retime(moves []*candidate, q *line) bool {
	s, all := b.s, true
	for _, c := range moves {
		w := s.way(c, c.dest)
		if x := q.start[c.vm]; x.due != w.due || x.end != w.end {
			to := c.dest
			b.lift(c)
			*w = x
			w.stamp = s.sums.stamp[c.home] - 1
			b.put(c, to)
		}
		if s.rejudge(c); c.best.why != schemas.ReasonOK {
			b.drop(c, no(schemas.ReasonBelowMinimum, "once its turn comes it brings only %.3g core-seconds, least %.3g", c.best.gain.Benefit, s.minBenefit))
			all = false
		}
	}
	return all
}

// lead ties a VM that only makes room to the first of the moves it makes room for: it
// does not start before that one has. One that waits for the room itself is not that move
// where there is another, or they would wait for each other.
func (b *board) lead() {
	for round := len(b.moves) + 1; round > 0; round-- { // each but the last drops one
		alone := -1
		for i, c := range b.moves {
			if c.leader = nil; !c.aid {
				continue
			}
			for _, x := range b.moves {
				if x.aid || x.dest != c.home {
					continue
				}
				if y := c.leader; y == nil || cmp.Or(cmp.Compare(is(x.best.due <= c.best.due), is(y.best.due <= c.best.due)), cmp.Compare(x.best.rank, y.best.rank)) > 0 {
					c.leader = x
				}
			}
			if c.leader == nil {
				alone = i
				break
			}
		}
		if alone < 0 {
			return
		}
		b.drop(b.moves[alone], no(schemas.ReasonNoPressure, "nobody comes for whom it would make room"))
	}
}

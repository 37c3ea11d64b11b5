package share

import (
	"cmp"
	"math"
	"slices"
	"time"

	"github.com/foreshift/foreshift/schemas"
)

const (
	// Margin is how much faster than its guest writes a move must be sent: at a ratio
	// of .8 pre-copy still comes to an end, and the placer begins none above it.
	Margin = 1.25
	// Band is the share of what moves may have within which a rate is left as it is.
	Band = .05
	// spare is how much earlier than its deadline a move is meant to end, as a share of
	// the time that is left.
	spare = .2
	// setup is what a move takes besides sending.
	setup = 2 * time.Second
	// lastCall is how long before its command expires a waiting move is started.
	lastCall = 10 * time.Second
)

// Link is one direction of a link between two sites.
type Link struct {
	Rate     schemas.BytesPerSecond // shaped rate of all of it
	Reserved schemas.BytesPerSecond // guaranteed to all that is no move
	Other    schemas.BytesPerSecond // what that takes now
}

// Left is what moves may have together.
func (l Link) Left() schemas.BytesPerSecond { return max(0, l.Rate-max(l.Reserved, l.Other, 0)) }

// Move is one move that crosses the link, or wants to.
type Move struct {
	Remaining schemas.Bytes          // still to send, as far as is known
	Dirty     schemas.BytesPerSecond // at which its guest writes
	Ceiling   schemas.BytesPerSecond // most it can use; 0: all of the link
	Deadline  schemas.Time           // switched over by then; 0: none
	Expires   schemas.Time           // started by then, or never; 0: no such limit
	Running   bool                   // it sends; it cannot wait any more
	Rate      schemas.BytesPerSecond // in force, 0 when it has none
}

// Share is what one move gets.
type Share struct {
	Rate  schemas.BytesPerSecond
	Floor schemas.BytesPerSecond // below this it does not converge
	Need  schemas.BytesPerSecond // what its deadline asks for, at least the floor
	Waits bool                   // it must not start
	Why   schemas.ReasonCode     // of the wait, or of a rate below the floor; ok otherwise
}

// Divider divides links; it holds nothing but memory to work in, so that a division
// allocates nothing once it has seen as many moves. Its zero value is ready.
type Divider struct {
	order []int32   // running moves by deadline
	queue []int32   // waiting moves in their turn
	other []int32   // the same, in another order
	most  []float64 // what each can use at most
	steps []step
}

// step is where the level of the water reaches a move's rate or its ceiling.
type step struct {
	at    float64
	opens bool
	move  int32
}

// Divide writes one share per move to dst, which is as long as moves. It gives what a
// further move could have without taking from a floor or a deadline.
func (d *Divider) Divide(now schemas.Time, l Link, moves []Move, dst []Share) schemas.BytesPerSecond {
	left := float64(l.Left())
	d.order, d.queue, d.most = d.order[:0], d.queue[:0], d.most[:0]
	for i := range moves {
		m := &moves[i]
		most := left
		if m.Ceiling > 0 {
			most = min(most, float64(m.Ceiling))
		}
		d.most = append(d.most, most)
		dst[i] = Share{Floor: max(0, m.Dirty) * Margin, Why: schemas.ReasonOK}
		dst[i].Need = max(dst[i].Floor, m.need(now, most))
		if m.Running {
			d.order = append(d.order, int32(i))
		} else {
			d.queue = append(d.queue, int32(i))
		}
	}
	started := d.admit(now, left, moves, dst)
	slices.SortFunc(d.order, func(a, b int32) int { return byDeadline(moves, a, b) })
	rest := d.promise(left, moves, dst)
	free := rest
	d.level(rest, dst)
	if !started {
		d.steady(left, moves, dst)
	}
	return schemas.BytesPerSecond(free)
}

// need is the rate that ends the move in time: what is left plus what is written
// meanwhile. One that is late needs all it can use.
func (m *Move) need(now schemas.Time, most float64) schemas.BytesPerSecond {
	if m.Deadline == 0 {
		return 0
	}
	t := (1 - spare) * (m.Deadline.Sub(now) - setup).Seconds()
	if t <= 0 {
		return schemas.BytesPerSecond(most)
	}
	return max(0, m.Dirty) + schemas.BytesPerSecond(max(0, float64(m.Remaining))/t)
}

// alone is how long the move takes with the link to itself, forever when it cannot
// converge even then.
func (m *Move) alone(most float64) float64 {
	rate := most - Margin*max(0, float64(m.Dirty))
	if rate <= 0 {
		return 1e9
	}
	return setup.Seconds() + max(0, float64(m.Remaining))/(most-max(0, float64(m.Dirty)))
}

func byDeadline(moves []Move, a, b int32) int {
	x, y := moves[a].Deadline, moves[b].Deadline
	if (x == 0) != (y == 0) {
		return cmp.Compare(y, x) // without one comes last
	}
	return cmp.Or(cmp.Compare(x, y), cmp.Compare(a, b))
}

// admit lets waiting moves start, and gives the others the reason why not. Those that
// start join the order; it reports whether any that runs has no rate yet.
func (d *Divider) admit(now schemas.Time, left float64, moves []Move, dst []Share) bool {
	var floors, able float64 // of those that run: their floors, and what they can use
	busy := 0.0              // until they may have ended
	for _, i := range d.order {
		floors += float64(dst[i].Floor)
		able += d.most[i]
		if left > 0 {
			busy += max(0, float64(moves[i].Remaining)) / left
		}
	}
	d.turns(now, busy, moves)
	active, blocked := len(d.order), false
	for _, i := range d.queue {
		m, s := &moves[i], &dst[i]
		floor := float64(s.Floor)
		ever := d.most[i] > 0 && floor <= d.most[i]
		fits := ever && floors+floor <= left
		due := m.due(now, d.most[i])
		switch {
		case !fits:
			s.Waits, s.Why = true, schemas.ReasonCannotConverge
			// One that is due and would fit on an empty link is not to be overtaken for ever.
			blocked = blocked || ever && due
			continue
		case blocked, active > 0 && able >= left && !due:
			s.Waits, s.Why = true, schemas.ReasonTurn
			continue
		}
		d.order = append(d.order, i)
		floors, able, active = floors+floor, able+d.most[i], active+1
	}
	return slices.ContainsFunc(d.order, func(i int32) bool { return moves[i].Rate <= 0 })
}

// due reports that the move can wait for its turn no longer.
func (m *Move) due(now schemas.Time, most float64) bool {
	if m.Expires != 0 && now >= m.Expires.Add(-lastCall) {
		return true
	}
	if m.Deadline == 0 {
		return false
	}
	// Twice its own time: it will not be alone.
	return m.Deadline.Sub(now).Seconds() <= 2*min(m.alone(most), 1e6)
}

// turns puts the waiting moves in the order that misses the fewest deadlines, and of
// two such orders takes the one in which the short come first.
func (d *Divider) turns(now schemas.Time, busy float64, moves []Move) {
	if len(d.queue) < 2 {
		return
	}
	d.other = append(d.other[:0], d.queue...)
	slices.SortFunc(d.queue, func(a, b int32) int {
		return cmp.Or(cmp.Compare(moves[a].alone(d.most[a]), moves[b].alone(d.most[b])), cmp.Compare(a, b))
	})
	slices.SortFunc(d.other, func(a, b int32) int { return byDeadline(moves, a, b) })
	if d.misses(now, busy, moves, d.other) < d.misses(now, busy, moves, d.queue) {
		d.queue, d.other = d.other, d.queue
	}
}

// misses counts the deadlines that one after the other in this order would miss.
func (d *Divider) misses(now schemas.Time, busy float64, moves []Move, order []int32) (n int) {
	at := busy
	for _, i := range order {
		at += moves[i].alone(d.most[i])
		if m := &moves[i]; m.Deadline != 0 && at > m.Deadline.Sub(now).Seconds() {
			n++
		}
	}
	return n
}

// promise gives floors and then needs, the earliest deadline first, and returns what
// is left over.
func (d *Divider) promise(left float64, moves []Move, dst []Share) float64 {
	for _, i := range d.order {
		got := min(float64(dst[i].Floor), d.most[i], left)
		dst[i].Rate = schemas.BytesPerSecond(got)
		left -= got
		if got < float64(dst[i].Floor) {
			dst[i].Why = schemas.ReasonCannotConverge
		}
	}
	for _, i := range d.order {
		more := min(float64(dst[i].Need), d.most[i]) - float64(dst[i].Rate)
		if more = min(more, left); more > 0 {
			dst[i].Rate += schemas.BytesPerSecond(more)
			left -= more
		}
	}
	return max(0, left)
}

// level pours the rest over the running moves: the lowest are raised first.
func (d *Divider) level(rest float64, dst []Share) {
	if rest <= 0 {
		return
	}
	d.steps = d.steps[:0]
	for _, i := range d.order {
		if r := float64(dst[i].Rate); r < d.most[i] {
			d.steps = append(d.steps, step{r, true, i}, step{d.most[i], false, i})
		}
	}
	slices.SortFunc(d.steps, func(a, b step) int {
		if a.at != b.at {
			return cmp.Compare(a.at, b.at)
		}
		return cmp.Compare(a.move, b.move)
	})
	water, open := 0.0, 0
	for _, s := range d.steps {
		pour := float64(open) * (s.at - water)
		if open > 0 && pour >= rest {
			water += rest / float64(open)
			break
		}
		rest -= pour
		water = s.at
		if s.opens {
			open++
		} else {
			open--
		}
	}
	for _, i := range d.order {
		if r := float64(dst[i].Rate); r < d.most[i] {
			dst[i].Rate = schemas.BytesPerSecond(max(r, min(water, d.most[i])))
		}
	}
}

// steady keeps the rates in force when none of them would change by much, by the
// measure of a fair share, and little of the link would be left unused.
func (d *Divider) steady(left float64, moves []Move, dst []Share) {
	var was, is float64
	for _, i := range d.order {
		old, now := float64(moves[i].Rate), float64(dst[i].Rate)
		band := Band * max(now, left/float64(len(d.order)))
		if math.Abs(old-now) > band || old > d.most[i]*(1+1e-9) || old < (1-Band)*min(float64(dst[i].Floor), now) {
			return
		}
		was, is = was+old, is+now
	}
	if was > left*(1+1e-9) || was < is-Band*left {
		return
	}
	for _, i := range d.order {
		dst[i].Rate = moves[i].Rate
	}
}

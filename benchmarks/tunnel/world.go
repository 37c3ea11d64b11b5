package tunnel

import (
	"math"
	"math/rand/v2"
	"time"

	"github.com/foreshift/foreshift/actuator/tunnel/share"
	"github.com/foreshift/foreshift/schemas"
)

const (
	dt       = .05 // s of simulated time a turn
	setup    = 1.  // s before a move sends
	tick     = .25 // s between two share-outs
	reorder  = 5.  // s until a refused move is ordered again
	rest     = .3  // s that the last round may take
	reserved = .1  // of the link, guaranteed to other traffic
	patience = 5.
	flows    = 4 // of other traffic, without control: each as strong as a move's
)

// guest is one move of a set, with the truth about it.
type guest struct {
	at       float64 // ordered
	memory   float64
	working  float64 // what it writes again and again
	dirty    float64 // bytes/s
	drift    float64 // its factor from driftAt on
	driftAt  float64
	deadline float64
}

// set is one random case.
type set struct {
	rate    float64
	guests  []guest
	other   []float64 // demand of other traffic, by the second
	horizon float64
	seed    uint64
}

func newSet(r *rand.Rand, moves int, writes float64) set {
	s := set{rate: 50e6 * math.Pow(8, r.Float64()), seed: r.Uint64()}
	left := s.rate * (1 - reserved)
	var all float64
	for range moves {
		g := guest{at: 10 * r.Float64(), memory: 5e8 * math.Pow(16, r.Float64()), drift: .5 + r.Float64()}
		g.working = g.memory * (.1 + .5*r.Float64())
		lambda := .02 + (writes-.02)*r.Float64()
		g.dirty = lambda * left
		alone := setup + g.memory/(left*(1-lambda))
		g.deadline = g.at + alone*(1.3+4*r.Float64())
		g.driftAt = g.at + alone*2*r.Float64()
		all += alone
		s.guests = append(s.guests, g)
	}
	s.horizon = 10 + patience*all
	level := .2 * r.Float64()
	for t := 0.; t < s.horizon+1; t++ {
		if r.Float64() < .05 {
			level = .4 * r.Float64()
		}
		s.other = append(s.other, level*s.rate)
	}
	return s
}

// flight is a move under way in one policy's world.
type flight struct {
	*guest
	ordered float64 // of the command in force
	started bool
	round   int
	left    float64 // of this round
	written float64 // since it began
	rate    float64 // in force
	speed   float64
	seen    float64 // dirty rate as it was last measured
	end     float64 // 0 while under way
}

// run plays a set under a policy.
func run(s set, p policy) score {
	r := rand.New(rand.NewPCG(s.seed, 7)) // noise of the measurements: the same for all
	fl := make([]flight, len(s.guests))
	for i := range fl {
		fl[i] = flight{guest: &s.guests[i], ordered: s.guests[i].at, left: s.guests[i].memory}
	}
	var sc score
	seen := 0. // other traffic as last measured
	for t, last := 0., -1.; t < s.horizon; t += dt {
		want := s.other[int(t)]
		if t-last >= tick {
			last = t
			for i := range fl {
				fl[i].seen = fl[i].writes(t) * (1 + .1*r.NormFloat64())
			}
			p.share(t, s.rate, seen, fl)
		}
		got := p.traffic(s.rate, want, fl, t)
		seen += (got - seen) * dt // smoothed over a second
		sc.want += min(want, reserved*s.rate) * dt
		sc.got += min(got, want, reserved*s.rate) * dt
		under := false
		for i := range fl {
			fl[i].step(t)
			under = under || fl[i].end == 0
		}
		if !under {
			break
		}
	}
	for i := range fl {
		f := &fl[i]
		if f.end == 0 {
			f.end = s.horizon
			sc.never++
		}
		sc.total += f.end - f.at
		if f.end > f.deadline {
			sc.missed++
		}
	}
	return sc
}

func (f *flight) writes(t float64) float64 {
	if t >= f.driftAt {
		return f.dirty * f.drift
	}
	return f.dirty
}

// sends reports that the move has something to send.
func (f *flight) sends(t float64) bool { return f.started && f.end == 0 && t >= f.ordered+setup }

// step sends for one turn at the flight's speed.
func (f *flight) step(t float64) {
	if !f.sends(t) || f.speed <= 0 {
		return
	}
	f.written = min(f.working, f.written+f.writes(t)*dt)
	f.left -= f.speed * dt
	if f.left > 0 {
		return
	}
	f.round++
	f.left, f.written = f.written, 0
	if f.left <= rest*f.speed {
		f.end = t + dt + f.left/f.speed
	}
}

// score is how one set went under one policy.
type score struct {
	total     float64 // s, over all moves
	missed    int
	never     int
	want, got float64 // bytes of other traffic, within its guarantee
}

// policy is a way to share a link.
type policy interface {
	// share sets which moves start and, where it controls them, their rates.
	share(t, rate, other float64, fl []flight)
	// traffic sets the speeds, and gives what other traffic gets.
	traffic(rate, want float64, fl []flight, t float64) float64
}

// shaped is traffic where each move has a rate and all else is guaranteed its part.
func shaped(rate, want float64, fl []flight, t float64) float64 {
	sum := 0.
	for i := range fl {
		fl[i].speed = 0
		if fl[i].sends(t) {
			fl[i].speed = fl[i].rate
			sum += fl[i].rate
		}
	}
	// Other traffic may borrow what moves leave; together they never exceed the link.
	got := min(want, max(reserved*rate, rate-sum))
	if over := sum + got - rate; over > 0 && sum > 0 {
		for i := range fl {
			fl[i].speed *= 1 - over/sum
		}
	}
	return got
}

// equal gives each of the set's moves the same fixed share.
type equal struct{}

func (equal) share(t, rate, _ float64, fl []flight) {
	for i := range fl {
		fl[i].started = t >= fl[i].ordered
		fl[i].rate = rate * (1 - reserved) / float64(len(fl))
	}
}

func (equal) traffic(rate, want float64, fl []flight, t float64) float64 {
	return shaped(rate, want, fl, t)
}

// none lets them all run: TCP shares the link evenly among flows.
type none struct{}

func (none) share(t, _, _ float64, fl []flight) {
	for i := range fl {
		fl[i].started = t >= fl[i].ordered
	}
}

func (none) traffic(rate, want float64, fl []flight, t float64) float64 {
	n := 0.
	for i := range fl {
		fl[i].speed = 0
		if fl[i].sends(t) {
			n++
		}
	}
	got := min(want, rate)
	if n > 0 {
		got = min(want, rate*flows/(flows+n))
	}
	for i := range fl {
		if fl[i].sends(t) {
			fl[i].speed = (rate - got) / n
		}
	}
	return got
}

// ours is the share-out as it runs live.
type ours struct {
	d     share.Divider
	moves []share.Move
	dst   []share.Share
	who   []int
}

const epoch = schemas.Time(1_700_000_000e9)

func clock(t float64) schemas.Time { return epoch.Add(time.Duration(t * float64(time.Second))) }

func (o *ours) share(t, rate, other float64, fl []flight) {
	o.moves, o.who = o.moves[:0], o.who[:0]
	for i := range fl {
		f := &fl[i]
		if f.end > 0 || t < f.ordered {
			continue
		}
		expires := f.ordered + schemas.CommandLife.Seconds()
		if !f.started && t > expires {
			f.ordered = t + reorder
			continue
		}
		m := share.Move{Remaining: schemas.Bytes(max(0, f.left)), Dirty: schemas.BytesPerSecond(f.seen), Deadline: clock(f.deadline), Expires: clock(expires), Running: f.started, Rate: schemas.BytesPerSecond(f.rate)}
		o.moves, o.who = append(o.moves, m), append(o.who, i)
	}
	if cap(o.dst) < len(o.moves) {
		o.dst = make([]share.Share, len(o.moves), len(fl))
	}
	o.dst = o.dst[:len(o.moves)]
	o.d.Divide(clock(t), share.Link{Rate: schemas.BytesPerSecond(rate), Reserved: schemas.BytesPerSecond(reserved * rate), Other: schemas.BytesPerSecond(other)}, o.moves, o.dst)
	for k, i := range o.who {
		if f := &fl[i]; !o.dst[k].Waits {
			if !f.started {
				f.started, f.ordered = true, t
			}
			f.rate = float64(o.dst[k].Rate)
		}
	}
}

func (*ours) traffic(rate, want float64, fl []flight, t float64) float64 {
	return shaped(rate, want, fl, t)
}

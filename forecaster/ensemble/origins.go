package ensemble

import (
	"fmt"
	"math"

	"github.com/cespare/xxhash/v2"
	"github.com/foreshift/foreshift/schemas"
)

// Origins gives the past steps whose aftermath the scenarios follow: first the same
// time of day on the days before, shifted by a few steps when a day serves twice,
// then the recent past. It depends on the step and on how many steps of history the
// fleet has, nothing else.
func Origins(issued schemas.Step, history int) [K]schemas.Step {
	var o [K]schemas.Step
	if history < day { // no day to look back on: spread over what there is
		for k := range o {
			o[k] = issued - schemas.Step(max(1, history*(k+1)/(K+2)))
		}
		return o
	}
	days := min(7, history/day)
	const daily = 7
	for k := 0; k < daily; k++ {
		round := k / days
		shift := (round + 1) / 2 * 5
		if round%2 == 0 {
			shift = -shift
		}
		jitter := int(hash(issued, k, 0)%5) - 2
		o[k] = issued - schemas.Step(day*(1+k%days)-shift-jitter)
	}
	for k, back := range [K - daily]schemas.Step{12, 24, 48, 96, 192} {
		o[daily+k] = issued - back
	}
	return o
}

// hash is xxhash64 of a step and two small numbers: chance with a name.
func hash(s schemas.Step, a, b int) uint64 {
	var x [16]byte
	for i := range 8 {
		x[i] = byte(uint64(s) >> (8 * i))
	}
	x[8], x[9], x[12], x[13] = byte(a), byte(a>>8), byte(b), byte(b>>8)
	return xxhash.Sum64(x[:])
}

// ChooseOrigins gives the K past steps at which the fleet was most like now: in its
// demand, in how that moved over the last hour, and in the time of day. fleet is the
// demand of all VMs together by step from first on, NaN where unknown; its last value
// is now's. No two origins lie within half an hour. Nil when fewer than two days are
// known or now is not. A pure function: of the same past comes the same choice.
//
// Following the aftermath of similar states is the method of analogues (Lorenz,
// Atmospheric predictability as revealed by naturally occurring analogues, J. Atmos.
// Sci. 26, 1969).
func ChooseOrigins(first schemas.Step, fleet []float32) []schemas.Step {
	now := len(fleet) - 1
	if now < 2*day {
		return nil
	}
	from := max(hourSteps, now-originsWithin)
	level, move := make([]float64, len(fleet)), make([]float64, len(fleet))
	var a, b spread
	for t := from; t <= now; t++ {
		level[t] = meanOf(fleet[t-levelSteps+1 : t+1])
		move[t] = level[t] - meanOf(fleet[t-hourSteps:t])
		a.add(level[t])
		b.add(move[t])
	}
	if math.IsNaN(move[now]) || a.n < 2*day {
		return nil
	}
	sa, sb := a.deviation(), b.deviation()
	away := make([]float64, len(fleet))
	for t := range away {
		away[t] = math.Inf(1)
	}
	for t := from; t <= now-hourSteps; t++ {
		clock := (now - t) % day
		clock = min(clock, day-clock)
		if d := math.Abs(level[t]-level[now])/sa + math.Abs(move[t]-move[now])/sb + float64(clock)/(2*hourSteps); !math.IsNaN(d) {
			away[t] = d
		}
	}
	var out []schemas.Step
	for len(out) < K {
		best := from
		for t := from; t <= now-hourSteps; t++ {
			if away[t] <= away[best] { // of equals the newest
				best = t
			}
		}
		if math.IsInf(away[best], 1) {
			return nil
		}
		out = append(out, first+schemas.Step(best))
		for t := max(0, best-apart); t <= min(now, best+apart); t++ {
			away[t] = math.Inf(1)
		}
	}
	return out
}

const (
	hourSteps     = 12
	apart         = 6       // steps between two origins
	originsWithin = 7 * day // the windows must reach back to an origin, also an hour later
)

// SetOrigins makes the scenarios issued from step at on, for a day, follow these
// origins, moved on with the step issued; then, and before, those of [Origins]. They
// must be K steps before at. Whoever shares a fleet must set the same.
func (j *Joint) SetOrigins(at schemas.Step, origins []schemas.Step) error {
	if len(origins) != K {
		return fmt.Errorf("scenarios: %d origins, want %d", len(origins), K)
	}
	for _, o := range origins {
		if o < 0 || o >= at {
			return fmt.Errorf("scenarios: origin %d is not within 0..%d", o, at-1)
		}
	}
	j.chosenAt, j.chosen = at, append(j.chosen[:0:0], origins...)
	return nil
}

// originsAt are the origins in force for the step issued.
func (j *Joint) originsAt(issued schemas.Step, history int) (o [K]schemas.Step) {
	moved := issued - j.chosenAt
	if j.chosen == nil || moved < 0 || moved > day {
		return Origins(issued, history)
	}
	for k := range o {
		o[k] = j.chosen[k] + moved
	}
	return o
}

// meanOf is the mean of the known values, NaN without one.
func meanOf(x []float32) float64 {
	var sum, n float64
	for _, v := range x {
		if v-v == 0 {
			sum += float64(v)
			n++
		}
	}
	return sum / n
}

// spread sums up values; NaN is left out.
type spread struct{ n, sum, squares float64 }

func (s *spread) add(v float64) {
	if v == v {
		s.n++
		s.sum += v
		s.squares += v * v
	}
}

// deviation is the standard deviation, tiny where nothing moves.
func (s *spread) deviation() float64 {
	m := s.sum / s.n
	return math.Sqrt(math.Max(0, s.squares/s.n-m*m)) + 1e-9*math.Abs(m) + math.SmallestNonzeroFloat32
}

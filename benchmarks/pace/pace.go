// Package pace spreads a search over CPU-seconds without letting the clock into its
// result.
//
// What comes in: a problem for [search.Anneal], a seed and a number of CPU-seconds, or
// the counts of an earlier search. What goes out: the problem, improved, and the
// counts.
//
// What is promised: time decides only how many evaluations each leg is planned for
// and where the last one is cut. Both are in the [Log], and the search of a given
// problem, seed and log is always the same, however fast the machine. A log that is
// repeated reads no clock.
//
// Why legs: a cooling that is to end when the time does has to know how many
// evaluations that is. The first leg is short: it gives a usable answer at once, and
// the speed; each later one is planned by the speed so far.
package pace

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"

	"github.com/foreshift/foreshift/placer/search"
)

// Log repeats a search.
type Log struct {
	Legs []int `json:"legs"` // evaluations each leg was planned for
	Used int   `json:"used"` // evaluations in all; less than the legs' sum if the last was cut
}

// Plan says how long to search.
type Plan struct {
	Seconds float64        // CPU-seconds at which to stop, as CPU tells them
	CPU     func() float64 // CPU-seconds used so far
	First   int            // evaluations of the first leg
	Shares  []float64      // of the time then left, for each leg after the first
	Repeat  *Log           // if not nil, the search to repeat; all else is ignored
}

// maxLeg bounds a leg, so that a clock that stands still does no harm.
const maxLeg = 1 << 40

// pollEvery is how many evaluations search.Anneal lets pass between two looks at the
// clock; a leg is cut at a multiple of it.
const pollEvery = 4096

// spare is the share of a leg's time that is not planned for: a machine's speed
// varies, and a cooling that is cut is worth less than one a little shorter.
const spare = .05

// Anneal runs the legs of a plan on the problem, one after the other. before, if not
// nil, is called before each leg. An error is the context's or a bad plan's; what was
// found until then stands.
func Anneal(ctx context.Context, p search.Annealable, seed uint64, plan Plan, s search.Schedule, before func(leg int)) (Log, error) {
	if plan.Repeat == nil && (plan.CPU == nil || !(plan.Seconds > 0) || plan.First <= 0) {
		return Log{}, errors.New("pace: a search needs CPU-seconds above 0, a way to tell them and a first leg")
	}
	var log Log
	rng := rand.New(rand.NewPCG(seed, 0x9e3779b97f4a7c15))
	var began float64
	if plan.Repeat == nil {
		began = plan.CPU()
	}
	for leg := 0; ; leg++ {
		n, more := plan.leg(leg, log.Used, began)
		if !more {
			return log, nil
		}
		if before != nil {
			before(leg)
		}
		r := search.Anneal(p, rng, search.Budget{Evaluations: n, Stop: plan.stop(ctx, log.Used)}, s)
		log.Legs = append(log.Legs, n)
		log.Used += r.Evaluations
		if err := ctx.Err(); err != nil {
			return log, fmt.Errorf("pace: stopped in leg %d: %w", leg, err)
		}
	}
}

// leg is the number of evaluations of the given leg; false when there is none.
func (p *Plan) leg(leg, used int, began float64) (int, bool) {
	if r := p.Repeat; r != nil {
		return at(r.Legs, leg), leg < len(r.Legs) && used < r.Used
	}
	if leg == 0 {
		return p.First, true
	}
	now := p.CPU()
	left := p.Seconds - now
	if leg > len(p.Shares) || left <= 0 || used == 0 {
		return 0, false
	}
	rate := float64(used) / max(now-began, 1e-9)
	n := min(rate*left*p.Shares[leg-1]*(1-spare), maxLeg)
	return int(n), n >= 1
}

func at(legs []int, i int) int {
	if i < len(legs) {
		return legs[i]
	}
	return 0
}

// stop asks for an end when the time is over, or where the repeated search was cut.
func (p *Plan) stop(ctx context.Context, used int) func() bool {
	if r := p.Repeat; r != nil {
		left := r.Used - used
		return func() bool {
			left -= pollEvery
			return left <= 0
		}
	}
	return func() bool { return ctx.Err() != nil || p.CPU() >= p.Seconds }
}

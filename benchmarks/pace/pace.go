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
// evaluations that is, and a machine's speed varies, and with it that of a search,
// which is slower hot than cold. So a cooling is made of [Legs] legs, each of them
// planned by the speed of the last and by what is left. A short first cooling gives a
// usable answer at once, and the speed to begin with.
package pace

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"

	"github.com/foreshift/foreshift/placer/search"
)

// Legs is how many legs a cooling is made of, but for the first, which has one.
const Legs = 40

// Log repeats a search.
type Log struct {
	Legs []int `json:"legs"` // evaluations each leg was planned for
	Used int   `json:"used"` // evaluations in all; less than the legs' sum if the last was cut
}

// Plan says how long to search.
type Plan struct {
	Seconds float64        // CPU-seconds at which to stop, as CPU tells them
	CPU     func() float64 // CPU-seconds used so far
	First   int            // evaluations of the first cooling
	Shares  []float64      // of the time then left, for each cooling after the first
	Repeat  *Log           // if not nil, the search to repeat, without a clock
}

// maxLeg bounds a leg, so that a clock that stands still does no harm.
const maxLeg = 1 << 40

// pollEvery is how many evaluations a search lets pass between two looks at the
// clock; a leg is cut at a multiple of it.
const pollEvery = 4096

// spare is the share of the time that is not planned for: a cooling that is cut is
// worth less than one a little shorter.
const spare = .02

// Took is what a search took.
type Took struct {
	Evaluations             int     `json:"evaluations"`
	EvaluationsPerCPUSecond float64 `json:"evaluations_per_cpu_second"`
	CPUSeconds              float64 `json:"cpu_seconds"` // of the process until then
	Search                  Log     `json:"search"`
}

// Timed is [Anneal] with what it took; times only where the plan has a clock.
func Timed(ctx context.Context, p search.Annealable, seed uint64, plan Plan, s search.Schedule) (Took, error) {
	began := 0.0
	if plan.CPU != nil {
		began = plan.CPU()
	}
	log, err := Anneal(ctx, p, seed, plan, s)
	t := Took{Evaluations: log.Used, Search: log}
	if plan.CPU != nil {
		t.CPUSeconds = plan.CPU()
		t.EvaluationsPerCPUSecond = float64(log.Used) / max(t.CPUSeconds-began, 1e-9)
	}
	return t, err
}

// run is a search under way.
type run struct {
	Plan
	ctx  context.Context
	log  Log
	rate float64 // evaluations per CPU-second of the last leg
	seen float64 // CPU-seconds when it ended
	over bool
}

// Anneal runs the coolings of a plan on the problem, one after the other. An error is
// the context's or a bad plan's; what was found until then stands.
func Anneal(ctx context.Context, p search.Annealable, seed uint64, plan Plan, s search.Schedule) (Log, error) {
	if plan.Repeat == nil && (plan.CPU == nil || !(plan.Seconds > 0) || plan.First <= 0) {
		return Log{}, errors.New("pace: a search needs CPU-seconds above 0, a way to tell them and a first leg")
	}
	w := &run{Plan: plan, ctx: ctx}
	if plan.Repeat == nil {
		w.seen = plan.CPU()
	}
	rng := rand.New(rand.NewPCG(seed, 0x9e3779b97f4a7c15))
	for round := 0; round <= len(plan.Shares) && !w.over; round++ {
		a := search.Begin(p)
		legs, ends := 1, 0.0
		if round > 0 {
			legs = Legs
			ends = w.seen + (plan.Seconds*(1-spare)-w.seen)*plan.Shares[round-1]
		}
		for i := 0; i < legs && !w.over; i++ {
			if n := w.plan(round, legs-i, ends); n > 0 {
				w.leg(a, rng, n, search.Schedule{Start: s.At(float64(i) / float64(legs)), End: s.At(float64(i+1) / float64(legs))})
			}
		}
		a.End()
	}
	if err := ctx.Err(); err != nil {
		return w.log, fmt.Errorf("pace: stopped in leg %d: %w", len(w.log.Legs), err)
	}
	return w.log, nil
}

// plan is the number of evaluations of the next leg, of which there are left more in
// a cooling that ends at the given CPU-second. 0 ends the search.
func (w *run) plan(round, left int, ends float64) (n int) {
	switch {
	case w.Repeat != nil:
		if i := len(w.log.Legs); i < len(w.Repeat.Legs) && w.log.Used < w.Repeat.Used {
			n = w.Repeat.Legs[i]
		}
	case round == 0:
		n = w.First
	default:
		n = int(min(w.rate*(ends-w.seen)/float64(left), maxLeg))
	}
	w.over = n <= 0
	return n
}

func (w *run) leg(a *search.Annealing, rng *rand.Rand, n int, s search.Schedule) {
	left := 0
	if w.Repeat != nil {
		left = w.Repeat.Used - w.log.Used
	}
	r := a.Cool(rng, search.Budget{Evaluations: n, Stop: func() bool {
		if w.Repeat != nil {
			left -= pollEvery
			return left <= 0
		}
		return w.ctx.Err() != nil || w.CPU() >= w.Seconds
	}}, s)
	w.log.Legs = append(w.log.Legs, n)
	w.log.Used += r.Evaluations
	w.over = r.Evaluations < n
	if w.Repeat == nil {
		now := w.CPU()
		w.rate = float64(r.Evaluations) / max(now-w.seen, 1e-6)
		w.seen = now
	}
}

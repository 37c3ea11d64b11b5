package search

import (
	"math"
	"math/rand/v2"
)

// Annealable is a problem that [Anneal] can drive. It owns its moves whole: a shift,
// a swap, an exchange of several things or a large neighbourhood all look the same
// from outside, and cost one call each.
//
// Try is told beforehand how much worse the objective may become. An exact delta of
// a move that is refused anyway is wasted, so a problem may give up on a move as
// soon as it knows that the change exceeds the limit; most moves are refused.
type Annealable interface {
	// Try draws a move, and makes it if every rule allows it and the objective changes
	// by at most limit. change is exact when made, and of no meaning otherwise.
	Try(r *rand.Rand, limit float64) (change float64, made bool)
	// Keep remembers the present placement, Restore goes back to the one last kept.
	Keep()
	Restore()
}

// Warmed is an Annealable that wants to know the temperature. At a high one, most of
// what matters little wanders: a problem in which wandering uses up a resource may
// then put a price on it, in units of the temperature, that vanishes with it.
type Warmed interface {
	Warm(temperature float64)
}

// Schedule is how far an annealing lets the objective rise: temperatures in units of
// the objective, falling geometrically from Start to End over the budget's
// evaluations. Start 0 is a descent that walks along plateaus.
type Schedule struct{ Start, End float64 }

// At is the temperature when the share x of the budget, 0 to 1, is used.
func (s Schedule) At(x float64) float64 {
	if s.Start <= 0 || s.End <= 0 {
		return 0
	}
	return s.Start * math.Pow(s.End/s.Start, x)
}

const (
	coolEvery = 256  // evaluations at one temperature
	pollEvery = 4096 // evaluations between looks at the clock
)

// Anneal searches by simulated annealing (Kirkpatrick, Gelatt and Vecchi, Science
// 1983): a move that makes the objective worse by d is made with probability
// exp(-d/temperature). It draws the limit first, which is the same law: d is below
// an exponential variable of mean temperature with just that probability.
//
// The problem is left at the best placement seen at a look, every coolEvery
// evaluations of a short budget and rarer in a long one, and never worse than it
// was. A budget without a count of evaluations uses none.
func Anneal(p Annealable, rng *rand.Rand, b Budget, s Schedule) Result {
	a := Begin(p)
	a.Cool(rng, b, s)
	return a.End()
}

// Annealing is a search in several legs, for who wants to fit the later ones to how
// long the earlier took. Its result is a function of the counts of all legs.
type Annealing struct {
	p         Annealable
	now, best float64 // the objective relative to the start
	sum       Result
}

// Begin starts from the problem's present placement.
func Begin(p Annealable) *Annealing {
	p.Keep()
	return &Annealing{p: p}
}

// Cool goes on from where the last leg ended, and gives what this one did: Gained may
// be negative.
func (a *Annealing) Cool(rng *rand.Rand, b Budget, s Schedule) Result {
	var r Result
	before := a.now
	warmed, _ := a.p.(Warmed)
	look := max(coolEvery, min(pollEvery, b.Evaluations/256/coolEvery*coolEvery))
	for r.Evaluations < b.Evaluations {
		if r.Evaluations%pollEvery == 0 && r.Evaluations > 0 && b.Stop != nil && b.Stop() {
			break
		}
		t := s.At(float64(r.Evaluations) / float64(b.Evaluations))
		if warmed != nil {
			warmed.Warm(t)
		}
		n := min(coolEvery, b.Evaluations-r.Evaluations)
		for range n {
			if d, made := a.p.Try(rng, t*rng.ExpFloat64()); made {
				a.now += d
				r.Applied++
			}
		}
		r.Evaluations += n
		if r.Evaluations%look == 0 {
			a.keep()
		}
	}
	a.keep()
	r.Gained = before - a.now
	a.sum.Evaluations += r.Evaluations
	a.sum.Applied += r.Applied
	return r
}

// Best is how much lower than the start the best placement seen is.
func (a *Annealing) Best() float64 { return -a.best }

func (a *Annealing) keep() {
	if a.now < a.best {
		a.best = a.now
		a.p.Keep()
	}
}

// Return goes back to the best placement seen.
func (a *Annealing) Return() {
	a.p.Restore()
	a.now = a.best
}

// End returns to the best placement seen and sums up.
func (a *Annealing) End() Result {
	a.Return()
	a.sum.Gained = -a.best
	return a.sum
}

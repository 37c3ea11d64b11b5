// Package search drives any [Problem] of moving things between places.
//
// What comes in: a problem that can propose a move, say what it would change, and
// make it; a seed and a budget. What goes out: the problem, improved, and a count
// of what was evaluated.
//
// What is promised:
//
//   - The result is a pure function of problem, seed and count of evaluations. A
//     deadline may cut a search short, but what is recorded is the count used, so
//     that a replay with that count repeats it exactly.
//   - The objective never gets worse, and nothing is allocated in the loop.
//
// Why apart from the placer: the same driver serves the live fleet and public
// benchmarks of placement, so that a search that is good on one is seen on all.
package search

import "math/rand/v2"

// Move takes an item to a place; what the numbers stand for is the problem's own.
type Move struct{ Item, To int32 }

// Problem is an objective, to be minimised, over placements.
type Problem interface {
	// Propose draws a move; it need not be allowed.
	Propose(*rand.Rand) Move
	// Delta is the change of the objective by the move: +Inf when a rule forbids it.
	Delta(Move) float64
	// Apply makes it.
	Apply(Move)
}

// Budget bounds a search.
type Budget struct {
	Evaluations int
	// Stop is asked every 4096 evaluations, and ends the search when it says true;
	// nil in replay.
	Stop func() bool
}

// Result counts what a search did.
type Result struct {
	Evaluations int
	Applied     int
	Gained      float64 // how much lower the objective is
}

// Climb makes every proposed move that lowers the objective by more than least,
// until the budget is used.
func Climb(p Problem, rng *rand.Rand, b Budget, least float64) Result {
	var r Result
	for r.Evaluations < b.Evaluations {
		if r.Evaluations&4095 == 4095 && b.Stop != nil && b.Stop() {
			break
		}
		m := p.Propose(rng)
		d := p.Delta(m)
		r.Evaluations++
		if d < -least {
			p.Apply(m)
			r.Applied++
			r.Gained -= d
		}
	}
	return r
}

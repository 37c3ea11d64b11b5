package cbc

import (
	"context"
	"errors"
	"io"
	"math"
	"strings"
	"testing"

	"github.com/foreshift/foreshift/benchmarks/forecastaware"
	"github.com/foreshift/foreshift/benchmarks/pace"
)

func TestParse(t *testing.T) {
	for _, tc := range []struct {
		text string
		want Result
		fail bool
	}{
		{"Result - Optimal solution found\n\nObjective value:                4.40000000\n", Result{Objective: 4.4, Bound: 4.4, Found: true, Optimal: true}, false},
		{"Result - Stopped on time limit\n\nObjective value:                24.1\nLower bound:                    23.627\n", Result{Objective: 24.1, Bound: 23.627, Found: true}, false},
		{"Result - Stopped on time limit\n\nNo feasible solution found\nLower bound:                    1.5\n", Result{Bound: 1.5}, false},
		{"Result - Problem proven infeasible\n", Result{}, true},
		{"read error\n", Result{}, true},
	} {
		got, err := Parse(strings.NewReader(tc.text))
		if (err != nil) != tc.fail || got != tc.want {
			t.Errorf("%q: %+v, %v", tc.text, got, err)
		}
	}
}

// The solver's optimum is the search's, on an instance with links and a K that binds.
func TestAgreesWithTheSearch(t *testing.T) {
	f := forecastaware.Family{Sites: 2, Hosts: 2, VMs: 5, Slots: 4, K: 3, Load: .55, Skew: 1, Link: .1, Seed: 4}
	in, err := f.Generate()
	if err != nil {
		t.Fatal(err)
	}
	r, err := Solve(context.Background(), func(w io.Writer) error { return forecastaware.WriteLP(w, in) }, 20)
	if errors.Is(err, ErrMissing) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	moves, ours, err := forecastaware.Search(context.Background(), in, forecastaware.Options{Repeat: &pace.Log{Legs: []int{100_000}, Used: 100_000}, Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	cost, err := forecastaware.Check(in, moves)
	if err != nil || !r.Optimal || math.Abs(cost-r.Objective) > 1e-5 {
		t.Errorf("cbc %+v, ours %g of %g with %d moves, %v", r, cost, ours.Initial, ours.Moves, err)
	}
}

func TestBadProgram(t *testing.T) {
	bad := errors.New("broken pipe")
	_, err := Solve(context.Background(), func(io.Writer) error { return bad }, 1)
	if !errors.Is(err, bad) && !errors.Is(err, ErrMissing) {
		t.Errorf("%v", err)
	}
}

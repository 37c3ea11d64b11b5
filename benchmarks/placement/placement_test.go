package placement

import (
	"context"
	"testing"
)

// On a small fleet: the plan serves more than a balancer's with fewer moves, breaks no
// rule, and once nothing moves nothing moves. The figures of large fleets are the
// command's to measure.
func TestSmallFleet(t *testing.T) {
	r, err := Run(context.Background(), Options{Hosts: 24, VMs: 480, Seed: 3, LookAhead: 24, Evaluations: 4000, Trigger: .05, MinBenefit: 100, Settled: 5, Gap: .1})
	if err != nil {
		t.Fatal(err)
	}
	stay, ours, theirs := r.Scores["stay"], r.Scores["refined plan"], r.Scores["balancer, used now"]
	if stay.Unmet <= 0 || stay.Moves != 0 || theirs.Moves == 0 {
		t.Fatalf("this fleet says nothing: %+v, %+v", stay, theirs)
	}
	if ours.Unmet >= stay.Unmet || 2*ours.Moves > theirs.Moves && ours.Unmet > theirs.Unmet {
		t.Errorf("stay %+v, ours %+v, balancer %+v", stay, ours, theirs)
	}
	if ours.Over > stay.Over || ours.Together > stay.Together {
		t.Errorf("the plan breaks rules: %+v", ours)
	}
	if r.Restless != 0 {
		t.Errorf("%d moves of a settled fleet", r.Restless)
	}
}

func TestScoreSeesBrokenRules(t *testing.T) {
	w := NewWorld(4, 40, 1)
	if s := w.Score(w.Stay(), 16); s.Moves != 0 || s.GiB != 0 || s.Together != 0 || s.Over != 0 {
		t.Errorf("nothing moves and nothing is broken: %+v", s)
	}
	all := make([]int, len(w.vms))
	if s := w.Score(all, 16); s.Together == 0 || s.Moves == 0 || s.Unmet <= 0 {
		t.Errorf("everything on one host: %+v", s)
	}
}

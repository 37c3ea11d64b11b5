package placement

import (
	"context"
	"testing"
)

// Over a few fleets and on futures that nobody has seen, less demand stays unserved than
// with either balancer, with at most half of its moves and bytes and no rule broken; and
// once nothing moves nothing moves. The figures of large fleets are the command's to measure.
func TestHalfTheMoves(t *testing.T) {
	sum := map[string]Score{}
	for seed := uint64(2); seed < 5; seed++ {
		r, err := Run(context.Background(), Options{Hosts: 100, VMs: 2000, Seed: seed, LookAhead: 24, Evaluations: 4000, Trigger: .05, MinBenefit: 300, Settled: 2, Gap: .1})
		if err != nil {
			t.Fatal(err)
		}
		for name, x := range r.Scores {
			y := sum[name]
			sum[name] = Score{x.Unmet + y.Unmet, x.Moves + y.Moves, x.GiB + y.GiB, x.Over + y.Over, x.Together + y.Together}
		}
		if r.Restless != 0 {
			t.Errorf("seed %d: %d moves of a settled fleet", seed, r.Restless)
		}
	}
	for _, peer := range []string{"balancer, used now", "balancer, expected"} {
		theirs, half := sum[peer], sum[Half+peer]
		if half.Moves == 0 || 2*half.Moves > theirs.Moves || 2*half.GiB > theirs.GiB || half.Unmet >= theirs.Unmet {
			t.Errorf("%s %+v, half of it %+v", peer, theirs, half)
		}
		if half.Over > sum[ours[0]].Over || half.Together > sum[ours[0]].Together {
			t.Errorf("the plan breaks rules: %+v", half)
		}
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

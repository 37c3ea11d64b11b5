package trust

import (
	"math"
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/foreshift/foreshift/schemas"
	"pgregory.net/rapid"
)

// world feeds a state n steps in which the truth is near persistence with probability
// stays, and otherwise near a path.
func world(s *State, n int, stays, own float64, vms func(step, host int) uint64) {
	r := rand.New(rand.NewPCG(1, 2))
	hosts := []schemas.HostID{"a", "b", "c"}
	truth := make([]map[schemas.Step]float64, len(hosts))
	for h := range truth {
		truth[h] = map[schemas.Step]float64{}
	}
	for step := schemas.Step(1); int(step) <= n; step++ {
		var seen []Seen
		for h, id := range hosts {
			if y, ok := truth[h][step]; ok {
				seen = append(seen, Seen{id, vms(int(step), h), y})
			}
		}
		s.Learn(step, seen)
		s.Settle()
		o := Origin{Step: step, Own: own}
		for h, id := range hosts {
			g := Guess{Host: id, VMs: vms(int(step), h), Stays: float32(.5 + .1*r.Float64())}
			for j := range g.Paths {
				g.Paths[j] = float32(.5 + .5*r.Float64())
			}
			y := float64(g.Paths[r.IntN(paths)])
			if r.Float64() < stays {
				y = float64(g.Stays)
			}
			truth[h][step+Leads[0]] = y
			o.Guesses = append(o.Guesses, g)
		}
		s.Expect(0, o)
	}
}

func same(int, int) uint64 { return 7 }

func TestLearnsWhatIsTrue(t *testing.T) {
	for _, x := range []struct{ stays, own, low, high float64 }{
		{.65, .4, .55, .7}, // drawn a little to its own
		{.15, .4, .12, .28},
		{1, .4, .69999, .7}, // no further than the reach
		{0, .4, .09999, .15},
		{.9, .7, .75, .8},
	} {
		var s State
		world(&s, 3000, x.stays, x.own, same)
		w := s.Weights()
		if len(w) != Buckets || w[0] < x.low || w[0] > x.high || w[1] != -1 || w[2] != -1 {
			t.Errorf("truth %g, own %g: %v, want %g to %g and nothing of the others", x.stays, x.own, w, x.low, x.high)
		}
	}
}

// Little data, data that agree with the forecast's own weight, and hosts whose VMs come
// and go leave it in force.
func TestDefaultHolds(t *testing.T) {
	for name, s := range map[string]func(*State){
		"few":    func(s *State) { world(s, before, .9, .4, same) },
		"agree":  func(s *State) { world(s, 3000, .4, .4, same) },
		"churn":  func(s *State) { world(s, 3000, .9, .4, func(step, _ int) uint64 { return uint64(step) }) },
		"silent": func(s *State) { s.Learn(5, nil); s.Settle() },
	} {
		var x State
		if s(&x); x.Weights() != nil {
			t.Errorf("%s: %v", name, x.Weights())
		}
		w := []float32{.5, .5}
		if got := x.Apply(w, 2); !reflect.DeepEqual(got, w) {
			t.Errorf("%s: weights changed to %v", name, got)
		}
	}
}

// The closed form is the score it stands for.
func TestScoreIsCRPS(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var g Guess
		value := rapid.Float64Range(0, 2)
		g.Stays = float32(value.Draw(t, "stays"))
		for j := range g.Paths {
			g.Paths[j] = float32(value.Draw(t, "path"))
		}
		y, w := value.Draw(t, "load"), rapid.Float64Range(0, 1).Draw(t, "weight")
		var u Sums
		u.count(&g, y)
		at, weight := []float64{float64(g.Stays)}, []float64{w}
		for _, x := range g.Paths {
			at, weight = append(at, float64(x)), append(weight, (1-w)/paths)
		}
		want := 0.0
		for i := range at {
			want += weight[i] * math.Abs(at[i]-y)
			for j := range at {
				want -= weight[i] * weight[j] * math.Abs(at[i]-at[j]) / 2
			}
		}
		if math.Abs(u.score(w)-want) > 1e-9 {
			t.Fatalf("score %g, want %g", u.score(w), want)
		}
	})
}

func TestApplyKeepsWhole(t *testing.T) {
	var s State
	s.Give([]float64{.1, -1, .3})
	const k = schemas.NumScenarios
	w := make([]float32, k*schemas.Slots)
	for slot := range schemas.Slots {
		p := float32(0)
		if slot < 12 {
			p = .4
		}
		for j := range k - 1 {
			w[slot*k+j] = (1 - p) / (k - 1)
		}
		w[slot*k+k-1] = p
	}
	got := s.Apply(w, k)
	for slot := range schemas.Slots {
		sum := float32(0)
		for _, x := range got[slot*k:][:k] {
			sum += x
		}
		want := map[int]float32{0: .1, 1: .4, 2: .3, -1: 0}[Bucket(slot)]
		if math.Abs(float64(sum-1)) > 1e-5 || math.Abs(float64(got[slot*k+k-1]-want)) > 1e-6 {
			t.Errorf("slot %d: sum %g, persistence %g, want %g", slot, sum, got[slot*k+k-1], want)
		}
	}
	if s.Settle(); s.Weights()[0] != .1 {
		t.Error("what was given did not stay")
	}
}

// Nothing waits for longer than its lead, and never more hosts than may.
func TestBounded(t *testing.T) {
	var s State
	for step := schemas.Step(1); step < 500; step++ {
		s.Learn(step, nil)
		for b := range Leads {
			s.Expect(b, Origin{Step: step, Guesses: make([]Guess, 2*MaxHosts)})
		}
	}
	for b := range Leads {
		if n := len(s.Waiting[b]); n > int(Leads[b])+1 || len(s.Waiting[b][0].Guesses) > MaxHosts {
			t.Errorf("bucket %d: %d steps of %d hosts wait", b, n, len(s.Waiting[b][0].Guesses))
		}
	}
}

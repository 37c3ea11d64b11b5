package search

import (
	"math"
	"math/rand/v2"
	"reflect"
	"testing"
)

// annealed makes bins annealable: one move is a shift.
type annealed struct {
	*bins
	kept []int32
	hot  []float64
}

func (a *annealed) Try(r *rand.Rand, limit float64) (float64, bool) {
	m := a.Propose(r)
	d := a.Delta(m)
	if d > limit {
		return 0, false
	}
	a.Apply(m)
	return d, true
}

func (a *annealed) Keep() { a.kept = append(a.kept[:0], a.at...) }

func (a *annealed) Restore() {
	for i, k := range a.kept {
		a.Apply(Move{Item: int32(i), To: k})
	}
}

func (a *annealed) Warm(t float64) { a.hot = append(a.hot, t) }

func TestAnneal(t *testing.T) {
	p := &annealed{bins: newBins(200, 6)}
	before := p.total()
	s := Schedule{Start: 100, End: 1}
	r := Anneal(p, rand.New(rand.NewPCG(1, 2)), Budget{Evaluations: 20000}, s)
	if r.Evaluations != 20000 {
		t.Fatalf("used %d evaluations of 20000", r.Evaluations)
	}
	if got := before - p.total(); math.Abs(got-r.Gained) > 1e-6 || got <= 0 {
		t.Fatalf("objective fell by %g, reported %g", got, r.Gained)
	}
	if len(p.hot) != (20000+255)/256 || p.hot[0] != 100 || p.hot[len(p.hot)-1] > 1.1 {
		t.Errorf("%d temperatures from %g to %g", len(p.hot), p.hot[0], p.hot[len(p.hot)-1])
	}
	again := &annealed{bins: newBins(200, 6)}
	if r2 := Anneal(again, rand.New(rand.NewPCG(1, 2)), Budget{Evaluations: 20000}, s); r2 != r || !reflect.DeepEqual(again.at, p.at) {
		t.Error("the same seed and count gave another placement")
	}
}

// However hot the end, the best placement seen is what is left.
func TestAnnealNeverEndsWorse(t *testing.T) {
	p := &annealed{bins: newBins(200, 6)}
	Anneal(p, rand.New(rand.NewPCG(1, 2)), Budget{Evaluations: 20000}, Schedule{Start: 10, End: .1})
	cold := p.total()
	a := Begin(p)
	r := a.Cool(rand.New(rand.NewPCG(3, 4)), Budget{Evaluations: 5000}, Schedule{Start: 1e6, End: 1e6})
	if r.Gained >= 0 || p.total() <= cold {
		t.Fatalf("a hot search ends at %g, not above %g: it shows nothing", p.total(), cold)
	}
	if sum := a.End(); sum.Gained != a.Best() || p.total() > cold || math.Abs(cold-sum.Gained-p.total()) > 1e-6 {
		t.Errorf("ends at %g after %g, %+v", p.total(), cold, sum)
	}
}

func TestAnnealStops(t *testing.T) {
	p := &annealed{bins: newBins(50, 4)}
	polls := 0
	r := Anneal(p, rand.New(rand.NewPCG(3, 4)), Budget{Evaluations: 1 << 20, Stop: func() bool { polls++; return polls > 2 }}, Schedule{Start: 1, End: 1})
	if r.Evaluations != 3*4096 {
		t.Fatalf("stopped after %d evaluations, want %d", r.Evaluations, 3*4096)
	}
	if r := Anneal(p, rand.New(rand.NewPCG(3, 4)), Budget{}, Schedule{Start: 1, End: 1}); r.Evaluations != 0 {
		t.Errorf("a budget of nothing used %d evaluations", r.Evaluations)
	}
}

func TestSchedule(t *testing.T) {
	for _, x := range []struct {
		s       Schedule
		at, hot float64
	}{
		{Schedule{100, 1}, 0, 100}, {Schedule{100, 1}, .5, 10}, {Schedule{100, 1}, 1, 1}, {Schedule{0, 1}, .5, 0}, {Schedule{5, 0}, .5, 0},
	} {
		if got := x.s.At(x.at); math.Abs(got-x.hot) > 1e-9 {
			t.Errorf("%+v at %g: %g, want %g", x.s, x.at, got, x.hot)
		}
	}
}

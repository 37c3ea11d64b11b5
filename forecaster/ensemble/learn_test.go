package ensemble

import (
	"math/rand/v2"
	"testing"

	"github.com/foreshift/foreshift/forecaster/model"
	"github.com/foreshift/foreshift/schemas"
)

// A stream whose pattern changes: the weights go to whoever is right now.
func TestWeightsFollowTheBetterExpert(t *testing.T) {
	l := newLearner([]string{"a", "b", "c"})
	l.grow(0)
	rng := rand.New(rand.NewPCG(1, 2))
	w := make([]float32, groups*3)
	for phase, best := range []int{0, 1} {
		for range 60 {
			y := float32(100 + 5*rng.NormFloat64())
			var q [3 * groups]float32
			var mix [groups]float32
			l.weigh(0, 3, w)
			for g := range groups {
				var sum float32
				for k := range 3 {
					q[k*groups+g] = 80 + float32(g)
					if k == best {
						q[k*groups+g] = 94 + 3*float32(g)
					}
					mix[g] += w[g*3+k] * q[k*groups+g]
					sum += w[g*3+k]
				}
				mix[g] /= sum
			}
			l.learn(0, 3, y, q[:], mix[:], 1, 0)
		}
		l.weigh(0, 3, w)
		for g := range groups {
			if w[g*3+best] != 1 || w[g*3+2] > .2 {
				t.Fatalf("phase %d group %d: %v, expert %d is right", phase, g, w[g*3:g*3+3], best)
			}
		}
	}
}

// Outer quantiles that are exceeded too often move out, and back.
func TestSpreadIsTracked(t *testing.T) {
	l := newLearner([]string{"a"})
	l.grow(0)
	rng := rand.New(rand.NewPCG(3, 4))
	q := []float32{99, 100, 101} // far too narrow for a deviation of 3
	for range 600 {
		l.learn(0, 2, float32(100+3*rng.NormFloat64()), q, q, 1, 0)
	}
	if f := widthOf(l.width[2*groups] + l.breadth[2*groups]); f < 3 || f > 5.5 {
		t.Fatalf("the lower band is widened by %v, want about 3.8", f)
	}
}

// On a daily ramp the next hour's median must not lag behind.
func TestRampIsForeseen(t *testing.T) {
	x := shape(6*day+150, func(s int) float64 {
		at := s % day
		switch {
		case at < 140:
			return 100
		case at < 170:
			return 100 + float64(at-140)*30
		default:
			return 1000
		}
	})
	e, g := fit(t, x)
	d := schemas.NewDist()
	e.Forecast(0, g, model.Regressors{}, &d)
	now := float64(x[len(x)-1])
	for _, s := range []int{0, 5, 11} {
		want := now + 30*float64(s+1)
		if m := float64(d.At(s)[6]); m < want-60 || m > want+60 {
			t.Errorf("slot %d: median %v, want about %v", s, m, want)
		}
	}
}

func TestHotPathDoesNotAllocate(t *testing.T) {
	e, g := fit(t, shape(2*day, func(s int) float64 { return float64(s % 37) }))
	d := schemas.NewDist()
	y := []float32{5}
	s := g.Start
	if n := testing.AllocsPerRun(20, func() {
		e.Observe(s, y, model.Regressors{})
		s++
		e.Forecast(0, schemas.Grid{Start: s}, model.Regressors{}, &d)
	}); n > 0 {
		t.Fatalf("%v allocations a step", n)
	}
}

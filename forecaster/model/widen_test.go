package model

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/foreshift/foreshift/forecaster/window"
	"github.com/foreshift/foreshift/schemas"
	"pgregory.net/rapid"
)

// However few values there are and however they lie, errors are widened by a factor of
// less than three.
func TestWideningIsBounded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(0, window.Rows).Draw(t, "steps")
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
		holes, scale := rapid.Float64Range(0, 1).Draw(t, "holes"), math.Pow(10, rapid.Float64Range(-6, 6).Draw(t, "scale"))
		job := rapid.IntRange(0, day-1).Draw(t, "job")
		r := make([]float64, n)
		for k := range r {
			switch {
			case rng.Float64() < holes:
				r[k] = math.NaN()
			case k%day == job:
				r[k] = scale * 1e3
			default:
				r[k] = scale * rng.NormFloat64()
			}
		}
		_, widen := fitBins(r, first+schemas.Step(n), make([]float64, day))
		if !(widen >= 1 && widen <= math.Sqrt(8)) {
			t.Fatalf("widened by %v", widen)
		}
	})
}

// Errors at leads of which nothing is known grow with the model's own deviation, but never
// faster than those of noise added up twice: a model fitted to little cannot blow them up.
func TestErrorsOfUnknownLeadsAreBounded(t *testing.T) {
	c := newScored()
	i := c.add(Key{Resource: schemas.CPU})
	rng := rand.New(rand.NewPCG(5, 5))
	var sd [numLeads]float64
	for l := range sd {
		sd[l] = math.Pow(1e3, float64(l))
	}
	c.learn(i, day, func(l, h, t int) (said, got float64) {
		if h > 3 {
			return math.NaN(), math.NaN()
		}
		return 0, rng.NormFloat64()
	}, &sd, 1)
	var before, now [levels]float32
	for l := 3; l < numLeads; l++ {
		c.err.get(i*numLeads+l-1, &before)
		c.err.get(i*numLeads+l, &now)
		most := 1.05 * math.Pow(float64(errorLeads[l])/float64(errorLeads[l-1]), 1.5)
		for k := range now {
			if math.Abs(float64(now[k])) > most*math.Abs(float64(before[k]))+1e-3 {
				t.Errorf("lead %d: quantile %v after %v", errorLeads[l], now[k], before[k])
			}
		}
	}
	if now[levels-1] <= 0 {
		t.Error("nothing was kept")
	}
}

package pressure

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/foreshift/foreshift/schemas"
	"pgregory.net/rapid"
)

// The calibration keeps the order and stays within 0..1 on whatever it was fitted to.
func TestIsotonicKeepsTheOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
		ring := make([]example, rapid.IntRange(0, 3000).Draw(t, "n"))
		for i := range ring {
			ring[i] = example{p: rng.Float32() * rng.Float32(), hit: rng.IntN(3) == 0}
		}
		var c isotonic
		c.fit(ring, 1)
		last := -1.
		for p := 0.; p <= 1; p += .01 {
			y := c.at(p)
			if !(y >= last && y >= 0 && y <= 1) {
				t.Fatalf("%v -> %v after %v", p, y, last)
			}
			last = y
		}
	})
}

// What is said twice too high is put right.
func TestIsotonicCalibrates(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	ring := make([]example, 30000)
	for i := range ring {
		p := rng.Float32()
		ring[i] = example{p: p, hit: rng.Float32() < p/2}
	}
	var c isotonic
	c.fit(ring, 1)
	for _, p := range []float64{.2, .5, .8} {
		if y := c.at(p); math.Abs(y-p/2) > .06 {
			t.Errorf("%v -> %v, want about %v", p, y, p/2)
		}
	}
}

// With many examples the regression finds the law they follow.
func TestLogisticFindsTheLaw(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	l := logistic{keep: Kept, ridge: .1, share: 1}
	var f [numFeatures]float64
	for range Kept {
		f = [numFeatures]float64{fBias: 1, fTop1: rng.Float64(), fEve: float64(rng.IntN(2))}
		l.take(&f, rng.Float64() < sigmoid(-1+2*f[fTop1]+f[fEve]))
	}
	l.fit(0)
	for k, want := range map[int]float64{fBias: -1, fTop1: 2, fEve: 1} {
		if math.Abs(l.w[k]-want) > .15 {
			t.Errorf("coefficient %d is %v, want %v", k, l.w[k], want)
		}
	}
}

// Nothing of the outcome is in the features: they do not change with what comes after.
func TestFeaturesDoNotPeek(t *testing.T) {
	y := history(8*day, func(t int) float32 { return float32(t * 7919 % 100) })
	z := slices.Clone(y)
	const o = 7 * day
	for k := o; k < len(z); k++ {
		z[k] = 1000
	}
	var a, b moment
	a.set(y, 80)
	b.set(z, 80)
	for i, n := range schemas.Horizons {
		var f, g [numFeatures]float64
		a.features(o, n, nil, i, &f)
		b.features(o, n, nil, i, &g)
		if f != g {
			t.Fatalf("horizon %d: %v and %v", n, f, g)
		}
	}
}

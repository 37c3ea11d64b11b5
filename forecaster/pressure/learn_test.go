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
			ring[i] = example{p: rng.Float32() * rng.Float32(), weight: 1 + 9*rng.Float32(), hit: rng.IntN(3) == 0}
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
		ring[i] = example{p: p, weight: 1, hit: rng.Float32() < p/2}
	}
	var c isotonic
	c.fit(ring, .25) // each counts for four: plenty
	for _, p := range []float64{.2, .5, .8} {
		if y := c.at(p); math.Abs(y-p/2) > .06 {
			t.Errorf("%v -> %v, want about %v", p, y, p/2)
		}
	}
}

// law draws examples of a chance known.
func law(n int, chance func(c *codes) float64) []example {
	rng := rand.New(rand.NewPCG(5, 6))
	ring := make([]example, n)
	for i := range ring {
		e := &ring[i]
		for k := range e.x {
			e.x[k] = 127
		}
		for k := range 4 {
			e.x[k] = uint8(rng.IntN(256))
		}
		e.weight, e.hit = 1, rng.Float64() < chance(&e.x)
	}
	return ring
}

// With many examples the regression finds the law they follow.
func TestLogisticFindsTheLaw(t *testing.T) {
	w := func(c *codes) float64 { return sigmoid(-1 + .3*c.value(fTop1) - .2*c.value(fTop3)) }
	l := logistic{keep: Kept, ridge: .1, share: 1, ring: law(Kept, w)}
	l.fit(0)
	for k, want := range map[int]float64{numFeatures: -1, fTop1: .3, fTop3: -.2} {
		if math.Abs(l.w[k]-want) > .07 {
			t.Errorf("coefficient %d is %v, want %v", k, l.w[k], want)
		}
	}
}

// What no line can say, the trees do: two conditions together.
func TestTreesFindWhatBends(t *testing.T) {
	w := func(c *codes) float64 {
		if c[fTop1] > 127 && c[fTop3] > 127 {
			return .7
		}
		return .1
	}
	l := logistic{keep: Kept, ridge: .1, share: 1, ring: law(Kept, w), bends: true}
	l.fit(0)
	for _, e := range law(60, w) {
		if near := func(x uint8) bool { return x > 117 && x < 138 }; near(e.x[fTop1]) || near(e.x[fTop3]) {
			continue // a step is steep
		}
		if got, want := l.raw(&e.x), w(&e.x); math.Abs(got-want) > .15 {
			t.Errorf("%v, want %v for %v", got, want, e.x[:4])
		}
	}
}

// Of many the remembered few stand for all.
func TestTheRememberedStandForAll(t *testing.T) {
	l := logistic{keep: Kept, ridge: 1, share: 1}
	l.w[numFeatures] = -4
	var hits, all float64
	for i, e := range law(20000, func(*codes) float64 { return .018 }) {
		l.take(&e.x, e.hit)
		if i < 1000 && l.thin != 1 {
			t.Fatal("thinned without need")
		}
	}
	for _, e := range l.ring {
		all += float64(e.weight)
		if e.hit {
			hits++
		}
	}
	if len(l.ring) > 5000 || math.Abs(all-20000) > 100 || math.Abs(hits-360) > 80 {
		t.Fatalf("%d remembered stand for %v, %v of them hits", len(l.ring), all, hits)
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
	a.set(y, 80, 10*day)
	b.set(z, 80, 10*day)
	a.look(o, nil)
	b.look(o, nil)
	for _, n := range schemas.Horizons {
		var f, g codes
		a.features(o, n, &f)
		b.features(o, n, &g)
		if f != g {
			t.Fatalf("horizon %d: %v and %v", n, f, g)
		}
	}
}

func BenchmarkLearn(b *testing.B) {
	in := Input{Y: history(8*day, func(t int) float32 { return float32(t * 7919 % 100) }), Limit: 95, Step: 100_000, Long: &LongRun{}}
	h := NewHead()
	b.ReportAllocs()
	for range b.N {
		h.Learn(&in, 0)
	}
}

// One model with all the examples it may remember: the longest pause a call of Fit makes.
func BenchmarkFit(b *testing.B) {
	l := logistic{keep: Kept, ridge: ridge, share: 1, bends: true, ring: law(Kept, func(c *codes) float64 { return float64(c[fTop1]) / 2000 })}
	for range b.N {
		l.fit(0)
	}
}

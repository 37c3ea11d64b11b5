package model

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/foreshift/foreshift/schemas"
	"pgregory.net/rapid"
)

// Values go to normal scores and come back, in their order.
func TestScoresRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 600).Draw(t, "n")
		x := rapid.SliceOfN(rapid.Float32Range(-1e6, 1e6), n, n).Draw(t, "x")
		if rapid.Bool().Draw(t, "zeros") {
			for k := range x {
				if k%3 != 0 {
					x[k] = 0
				}
			}
		}
		var knots [scoreKnots]float32
		if known, _ := fitScores(x, make([]uint64, n), new(sorter), knots[:]); known != n {
			t.Fatalf("%d of %d values", known, n)
		}
		if !slices.IsSorted(knots[:]) {
			t.Fatal(knots)
		}
		slices.Sort(x)
		last := math.Inf(-1)
		for _, y := range append(x, x[n-1]+(x[n-1]-x[0])/2) {
			z := toScore(knots[:], y)
			if z < last {
				t.Fatalf("%v scores %v, below that of a smaller value", y, z)
			}
			last = z
			if back := fromScore(knots[:], z); math.Abs(float64(back-y)) > 1e-6+2e-3*(math.Abs(float64(y))+float64(knots[scoreKnots-1]-knots[0])) {
				t.Fatalf("%v becomes %v becomes %v", y, z, back)
			}
		}
	})
}

func TestScoresOfANormalAreItself(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	x := make([]float32, 2000)
	for k := range x {
		x[k] = float32(50 + 5*rng.NormFloat64())
	}
	var knots [scoreKnots]float32
	fitScores(x, make([]uint64, len(x)), new(sorter), knots[:])
	for _, z := range []float64{-1.5, -.5, 0, 1, 2} {
		if got := toScore(knots[:], float32(50+5*z)); math.Abs(got-z) > .2 {
			t.Errorf("score of %v deviations: %v", z, got)
		}
	}
	// two thirds zeros: the mean of the lower two thirds of a normal
	for k := range x {
		x[k] = max(0, x[k]-52.15)
	}
	fitScores(x, make([]uint64, len(x)), new(sorter), knots[:])
	if got := toScore(knots[:], 0); math.Abs(got+.545) > .08 {
		t.Errorf("score of a zero that is two thirds of all: %v", got)
	}
}

func TestNewerValuesWeighMore(t *testing.T) {
	x := make([]float32, 6*day)
	for k := range x {
		if k >= 3*day {
			x[k] = 10
		}
	}
	var knots [scoreKnots]float32
	fitScores(x, make([]uint64, len(x)), new(sorter), knots[:])
	// weights of the halves are 1 : 2
	if z := slices.Index(knots[:], 10); z < 0 || math.Abs(scoreAt[z].cdf-1./3) > .06 {
		t.Fatalf("the newer half begins at knot %d", z)
	}
}

func TestCholesky(t *testing.T) {
	a := []float64{4, 0, 0, 2, 5, 0, 1, 3, 6}
	b := []float64{4*1 + 2*2 + 1*3, 2*1 + 5*2 + 3*3, 1*1 + 3*2 + 6*3}
	if !cholesky(a, b, 3) {
		t.Fatal("not positive definite")
	}
	for k, want := range []float64{1, 2, 3} {
		if math.Abs(b[k]-want) > 1e-12 {
			t.Fatal(b)
		}
	}
	if cholesky([]float64{1, 0, 2, 1}, []float64{1, 1}, 2) {
		t.Fatal("took an indefinite matrix")
	}
}

func TestSimplexFindsTheValley(t *testing.T) {
	x := []float64{-1.2, 1}
	v := simplex(x, []float64{.1, .1}, 400, 1e-14, func(x []float64) float64 {
		return 100*math.Pow(x[1]-x[0]*x[0], 2) + math.Pow(1-x[0], 2)
	})
	if v > 1e-6 || math.Abs(x[0]-1) > .01 {
		t.Fatalf("%v at %v", v, x)
	}
	// and keeps out of where it may not go
	x = []float64{.5}
	simplex(x, []float64{.2}, 60, 1e-12, func(x []float64) float64 {
		if x[0] > .8 {
			return math.Inf(1)
		}
		return -x[0]
	})
	if x[0] > .8 || x[0] < .79 {
		t.Fatal(x)
	}
}

func TestProfileIsFound(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 3))
	z := make([]float64, 7*day)
	var ar float64
	for k := range z {
		ar = .8*ar + .3*rng.NormFloat64()
		z[k] = 2 + math.Sin(2*math.Pi*float64(k%day)/day) + ar
		if k%day == 100 {
			z[k] += 5
		}
		if k%17 == 0 {
			z[k] = math.NaN()
		}
	}
	last := first + schemas.Step(len(z)-1)
	var c [dailySize]float32
	k := fitFourier(z, last, 0, maxHarmonics, c[:])
	if k < 1 || math.Abs(float64(c[0])-2) > .2 || math.Abs(float64(c[1])-1) > .25 || math.Abs(float64(c[2])) > .25 {
		t.Fatalf("%d harmonics: %v", k, c)
	}
	for k := range z {
		z[k] -= dailyCurve(c[:], first+schemas.Step(k))
	}
	p := make([]float64, day)
	freedom, widen := fitBins(z, last, p)
	if p[100] < 1.5 || math.Abs(p[50]) > 1.5 || freedom <= 0 || freedom > day || widen < 1 || widen > 1.5 {
		t.Fatalf("at the job %v, elsewhere %v; freedom %v, widened %v", p[100], p[50], freedom, widen)
	}
}

func TestNoiseHasNoProfile(t *testing.T) {
	rng := rand.New(rand.NewPCG(4, 4))
	z := make([]float64, 7*day)
	for k := range z {
		z[k] = rng.NormFloat64()
	}
	var c [dailySize]float32
	if k := fitFourier(z, first, 0, maxHarmonics, c[:]); k > 2 {
		t.Errorf("%d harmonics in noise", k)
	}
	p := make([]float64, day)
	if freedom, _ := fitBins(z, first, p); freedom > .35*day {
		t.Errorf("%v degrees of freedom spent on noise", freedom)
	}
}

// The mixture agrees with drawing from its parts.
func TestMixtureAgainstDraws(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 4).Draw(t, "parts")
		mid := rapid.SliceOfN(rapid.Float64Range(-3, 3), n, n).Draw(t, "mid")
		slices.Sort(mid)
		var err, got [levels]float64
		steps := rapid.SliceOfN(rapid.Float64Range(0, 1), levels, levels).Draw(t, "steps")
		for k := range err {
			err[k] = steps[k] - 4
			if k > 0 {
				err[k] = err[k-1] + steps[k]
			}
		}
		mixture(mid, &err, &got)
		if !slices.IsSorted(got[:]) {
			t.Fatal(got)
		}
		if m, by, ok := asOne(mid, &err); ok { // taken for one distribution, and wider
			if by < 1 || got[levels/2] < mid[0]+err[levels/2] || got[levels/2] > mid[n-1]+err[levels/2] {
				t.Fatalf("at %v, %v times as wide: %v", m, by, got)
			}
			return
		}
		for k, p := range schemas.Levels {
			if k == 0 || k == levels-1 {
				continue
			}
			// the share below must be p, up to jumps where quantiles coincide
			share := func(x float64) (f float64) {
				for _, m := range mid {
					f += cdf(&err, x-m) / float64(n)
				}
				return f
			}
			if lo, hi := share(got[k]-1e-6), share(got[k]+1e-6); lo > float64(p)+.012 || hi < float64(p)-.012 {
				t.Fatalf("level %v at %v: %v to %v lies below", p, got[k], lo, hi)
			}
		}
	})
}

func cdf(q *[levels]float64, x float64) float64 {
	if x < q[0] {
		return 0
	}
	for l := levels - 1; l >= 0; l-- {
		if x >= q[l] {
			if l == levels-1 {
				return 1
			}
			return float64(schemas.Levels[l]) + (x-q[l])/(q[l+1]-q[l])*float64(schemas.Levels[l+1]-schemas.Levels[l])
		}
	}
	return 0
}

func TestSearchIsDueOnceADay(t *testing.T) {
	key := Key{VM: schemas.VMID{7}}
	begin := schemas.Step(1000)
	searches := map[schemas.Step]bool{}
	for s := begin; s < begin+5*day; s++ {
		due := Due(key, begin, s)
		at := searchDue(key, begin, due)
		if at > due || s-begin > 2*day && (at < due-day+1 || Due(key, begin, at) != at) {
			t.Fatalf("step %d: refit of %d, search of %d", s, due, at)
		}
		if s-begin > 2*day {
			searches[at] = true
		}
	}
	if n := len(searches); n < 3 || n > 4 {
		t.Fatalf("%d searches in 3 days", n)
	}
}

func TestWaveShare(t *testing.T) {
	last := first + schemas.Step(5*day) + 17
	if v := waveShare(dailySeries(5*day+18, 1), last); v < .85 || v > 1 {
		t.Errorf("a wave with noise: %v", v)
	}
	x := make([]float32, 3*day)
	if v := waveShare(x, last); v != 0 {
		t.Errorf("constant: %v", v)
	}
	x[5] = 1000
	if v := waveShare(x, last); v > .05 {
		t.Errorf("a spike: %v", v)
	}
	fill(x)
	if v := waveShare(x, last); v != 0 {
		t.Errorf("nothing: %v", v)
	}
}

// Where errors are normal, parts that are taken for one distribution give the
// quantiles of their mixture to a few hundredths.
func TestPartsTakenForOne(t *testing.T) {
	var err, got [levels]float64
	for k, q := range gauss {
		err[k] = float64(q)
	}
	for _, mid := range [][]float64{{-.35, .35}, {-.5, 0, .1, .4}, {0, 0, 0, .8}} {
		if _, _, ok := asOne(mid, &err); !ok {
			t.Fatalf("%v: not taken for one", mid)
		}
		mixture(mid, &err, &got)
		for k, p := range schemas.Levels {
			var f float64
			for _, m := range mid {
				f += math.Erfc((m-got[k])/math.Sqrt2) / 2 / float64(len(mid))
			}
			if math.Abs(f-float64(p)) > .012 {
				t.Errorf("%v level %v: %v lies below", mid, p, f)
			}
		}
	}
}

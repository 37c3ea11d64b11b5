package model

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/foreshift/foreshift/schemas"
)

// smooth draws from an exponential smoothing model with a season.
func smooth(n int, alpha, beta, phi, season float64) []float32 {
	rng := rand.New(rand.NewPCG(11, 12))
	level, b := 100., 0.
	x := make([]float32, n)
	for k := range x {
		e := rng.NormFloat64()
		b *= phi
		level += b
		x[k] = float32(level + e + season*math.Sin(2*math.Pi*float64(k%day)/day))
		level += alpha * e
		b += beta * e
	}
	return x
}

func fitted(x []float32) (*ETS, int) {
	e := NewETS()
	i := e.Add(Key{})
	e.fit(i, x, first+schemas.Step(len(x)-1), true)
	return e, i
}

func TestSmoothingIsRecovered(t *testing.T) {
	e, i := fitted(smooth(7*day, .4, 0, 0, 0))
	if a := e.param[i*etsParams+alphaAt]; math.Abs(float64(a)-.4) > .12 {
		t.Errorf("alpha %v, drawn with .4", a)
	}
	if f := e.form[2*i]; f&etsSeasonal != 0 {
		t.Errorf("form %d: a season in none", f)
	}
}

func TestSeasonIsChosenWhenThereIsOne(t *testing.T) {
	e, i := fitted(smooth(7*day, .05, 0, 0, 3))
	if f := e.form[2*i]; f&etsSeasonal == 0 {
		t.Fatalf("form %d, no season", f)
	}
	noon, night := e.states[i*day+day/4], e.states[i*day+3*day/4]
	if noon < night+.5 {
		t.Fatalf("season at its top %v, at its bottom %v", noon, night)
	}
}

// The sum of squares is that of the recursion as the book writes it.
func TestSumAgainstTheRecursion(t *testing.T) {
	z := make([]float64, 3*day)
	rng := rand.New(rand.NewPCG(5, 5))
	for k := range z {
		z[k] = rng.NormFloat64()
	}
	z[40] = math.NaN()
	r := etsRun{z: z, level: make([]float64, len(z)), trend: make([]float64, len(z)), seasons: make([]float64, len(z)+day)}
	for k := 0; k < day; k++ {
		r.seasons[k] = float64(k%5) / 10
	}
	p := [etsParams]float64{alphaAt: .3, gammaAt: .1, betaAt: .05, phiAt: .9}
	season := append([]float64(nil), r.seasons[:day]...)
	level, b, want := r.start(true), 0., 0.
	for k, y := range z {
		at := level + p[phiAt]*b + season[k%day]
		e := y - at
		if e != e {
			e = 0
		}
		want += e * e
		level, b = level+p[phiAt]*b+p[alphaAt]*e, p[phiAt]*b+p[betaAt]*e
		season[k%day] += p[gammaAt] * e
	}
	if got := r.sum(etsDamped|etsSeasonal, &p, true); math.Abs(got-want) > 1e-9*want {
		t.Fatalf("%v, want %v", got, want)
	}
	if n := len(z) - 1; math.Abs(r.level[n]-level) > 1e-9 || math.Abs(r.trend[n]-b) > 1e-9 || math.Abs(r.seasons[n+day]-season[n%day]) > 1e-9 {
		t.Fatal("states differ")
	}
}

func TestSearchStaysWithinBounds(t *testing.T) {
	for _, season := range []float64{0, 10} {
		e, i := fitted(smooth(5*day, .9, .2, .9, season))
		r := etsRun{}
		var p [etsParams]float64
		for k := range p {
			p[k] = float64(e.found[i*etsParams+k])
		}
		if f := int(e.form[2*i]); !r.within(f, &p) {
			t.Errorf("form %d with %v", f, p)
		}
	}
}

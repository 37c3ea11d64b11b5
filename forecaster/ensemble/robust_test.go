package ensemble

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/apache/arrow/go/v17/arrow/memory"
	"github.com/foreshift/foreshift/forecaster/model"
	"github.com/foreshift/foreshift/forecaster/window"
	"github.com/foreshift/foreshift/schemas"
)

// A daily rhythm that ends: within hours the forecast stops following it, and the
// weights go to those who do not.
func TestPatternThatChanges(t *testing.T) {
	const change, end = 4 * day, 6 * day
	rng := rand.New(rand.NewPCG(8, 8))
	x := shape(end, func(s int) float64 {
		y := 100 + 5*rng.NormFloat64()
		if s < change && s%day < day/2 {
			y += 100
		}
		return y
	})
	const lead = 12
	errs := make([]float64, end)
	var before, after float32
	rhythm := func(e *Ensemble) (share float32) { // of the experts that go by the time of day alone
		var total float32
		w := e.weights[:groups*len(e.names)]
		e.learn.weigh(0, BucketOf(lead+4), w)
		for k, name := range e.names {
			v := w[len(e.names)+k]
			if total += v; name == "time-of-day" || name == "prophet" || name == "daily-rise" {
				share += v
			}
		}
		return share / total
	}
	e := New()
	walkAnd(t, e, x, func(k int, d *schemas.Dist) {
		if k+lead < end {
			errs[k+lead] = math.Abs(float64(d.At(lead - 1)[6] - x[k+lead]))
		}
		switch k {
		case change - 3:
			before = rhythm(e)
		case end - 3:
			after = rhythm(e)
		}
	})
	mean := func(from, to int) (m float64) {
		n := 0.
		for _, v := range errs[from:to] {
			if v > 0 {
				m, n = m+v, n+1
			}
		}
		return m / n
	}
	settled, shock, recovered := mean(3*day, change), mean(change+12, change+36), mean(end-day/2, end)
	t.Logf("error %.1f before, %.1f in the first hours after, %.1f a day later; weight of the rhythm %.2f, then %.2f", settled, shock, recovered, before, after)
	if recovered > 8 || recovered > shock/2 {
		t.Errorf("the error is %.1f a day after the change, %.1f at first", recovered, shock)
	}
	if after > before || after > .2 {
		t.Errorf("the rhythm's weight went from %.2f to %.2f", before, after)
	}
}

// walkAnd is walk, and then calls f after every captured forecast.
func walkAnd(t testing.TB, e *Ensemble, x []float32, f func(k int, d *schemas.Dist)) {
	t.Helper()
	const first = 288 * 1000
	key := model.Key{VM: schemas.VMID{1}, Resource: schemas.CPU}
	i := e.Add(key)
	w := window.New(memory.NewGoAllocator())
	d := schemas.NewDist()
	for k, y := range x {
		s := schemas.Step(first + k)
		r := window.Row{Step: s, Coverage: 1}
		for c := range r.V {
			r.V[c] = schemas.NaN()
		}
		r.V[schemas.ColCPU] = y
		w.Put(&r)
		e.Observe(s, []float32{y}, model.Regressors{})
		if v := w.View(); model.Due(key, v.First, s) == s || k == len(x)-1 {
			if err := e.Refit(i, v, 0); err != nil {
				t.Fatal(err)
			}
		}
		if e.Captures(s) {
			e.Forecast(i, schemas.Grid{Start: s + 1}, model.Regressors{}, &d)
			f(k, &d)
		}
	}
}

// Whatever a counter may say, forecasts are finite, rise with the level, and are never
// below zero; and what was learnt can be written down and read again.
func TestNonsenseIsSurvived(t *testing.T) {
	nan, inf := schemas.NaN(), float32(math.Inf(1))
	rng := rand.New(rand.NewPCG(9, 9))
	for name, f := range map[string]func(k int) float32{
		"missing": func(k int) float32 {
			if k%20 == 0 {
				return 5
			}
			return nan
		},
		"infinite":  func(k int) float32 { return []float32{1, inf, 2, -inf, nan, 3}[k%6] },
		"negative":  func(k int) float32 { return float32(-k % 7) },
		"huge":      func(k int) float32 { return []float32{1, 3e38, 0}[k%3] },
		"ten times": func(k int) float32 { return float32(1+9*(k/400)) * (10 + rng.Float32()) },
		"long pause": func(k int) float32 {
			if k > 300 && k < 560 {
				return nan
			}
			return 7
		},
	} {
		t.Run(name, func(t *testing.T) {
			e := New()
			x := make([]float32, 2*day+20)
			for k := range x {
				x[k] = f(k)
			}
			check := func(d *schemas.Dist) {
				for s := range schemas.Slots {
					q := d.At(s)
					if q[0] != q[0] {
						continue // withheld
					}
					if !slices.IsSorted(q) || q[0] < 0 || q[12]-q[12] != 0 {
						t.Fatalf("slot %d: %v", s, q)
					}
				}
			}
			walkAnd(t, e, x, func(_ int, d *schemas.Dist) { check(d) })
			e.Observe(288*1000+5, []float32{4}, model.Regressors{}) // the clock went back
			d := schemas.NewDist()
			e.Forecast(0, schemas.Grid{Start: 288*1000 + schemas.Step(len(x))}, model.Regressors{}, &d)
			check(&d)
			if err := New().LoadState(e.AppendState(nil)); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// A newcomer is forecast from its sixth value on, by what pays in its cluster, and more
// widely than once it is known.
func TestNewcomerIsWider(t *testing.T) {
	rng := rand.New(rand.NewPCG(4, 2))
	x := shape(3*day, func(int) float64 { return 100 + 10*rng.NormFloat64() })
	var young, old, n, withheld float64
	walkAnd(t, New(), x, func(k int, d *schemas.Dist) {
		q := d.At(20)
		switch w := float64(q[10] - q[2]); {
		case k < enough-1 && q[6] == q[6]:
			t.Fatalf("forecast after %d values", k+1)
		case k < enough-1:
			withheld++
		case k < 12:
			young = max(young, w)
		case k > 2*day:
			old, n = old+w, n+1
		}
	})
	old /= n
	t.Logf("80 %% band %.1f at first, %.1f later", young, old)
	if withheld == 0 || !(young > 1.2*old) {
		t.Fatalf("withheld %v times, then %v wide, later %v", withheld, young, old)
	}
}

// What is the same five minutes every day shows in single steps, and what is not does
// not.
func TestStepsShowTheRhythmWithinAnHour(t *testing.T) {
	rng := rand.New(rand.NewPCG(6, 2))
	jobs := shape(5*day, func(s int) float64 {
		if s%12 == 4 {
			return 90 + rng.Float64()
		}
		return 10 + rng.Float64()
	})
	e, g := fit(t, jobs)
	q := make([]float32, day*3)
	levels := []float32{.1, .5, .9}
	if !e.StepQuantiles(0, g.Start, day, levels, q) {
		t.Fatal("no quantiles")
	}
	var job, idle, n float32
	for h := 12; h < day; h++ {
		if m := q[h*3+1]; (len(jobs)+h)%12 == 4 {
			job += m
			n++
		} else {
			idle += m / (day - 12) * 12 / 11
		}
	}
	if job /= n; job < 50 || idle > 25 {
		t.Fatalf("the median is %v when a job runs, %v when none does", job, idle)
	}
	if f := fineness(shape(7*day, func(int) float64 { return rng.Float64() })); f != 0 {
		t.Fatalf("noise has a fineness of %v", f)
	}
	if e.StepQuantiles(1, g.Start, 5, levels, q) || e.StepQuantiles(0, g.Start, 0, levels, q) {
		t.Fatal("quantiles of a series unknown")
	}
}

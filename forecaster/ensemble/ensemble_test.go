package ensemble

import (
	"math"
	"math/rand/v2"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/foreshift/foreshift/forecaster/model"
	"github.com/foreshift/foreshift/schemas"
)

// fit gives an ensemble that has walked through the context as one VM's CPU.
func fit(t testing.TB, context []float32) (*Ensemble, schemas.Grid) {
	t.Helper()
	e := New()
	return e, walk(t, e, context)
}

// walk lets an ensemble of no series live through the context.
func walk(t testing.TB, e *Ensemble, context []float32) schemas.Grid {
	t.Helper()
	walkAnd(t, e, context, func(int, *schemas.Dist) {})
	return schemas.Grid{Start: schemas.Step(288*1000 + len(context))}
}

func forecastOf(t testing.TB, context []float32) schemas.Dist {
	e, g := fit(t, context)
	d := schemas.NewDist()
	e.Forecast(0, g, model.Regressors{}, &d)
	return d
}

func shape(n int, f func(s int) float64) []float32 {
	x := make([]float32, n)
	for s := range x {
		x[s] = float32(max(0, f(s)))
	}
	return x
}

func TestShapes(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	daily := func(s int) float64 { return 50 + 40*math.Sin(2*math.Pi*float64(s)/day) }
	for _, c := range []struct {
		name   string
		x      []float32
		lo, hi func(s int) float64 // where the median must lie, by step ahead
	}{
		{"constant", shape(3*day, func(int) float64 { return 7 }), func(int) float64 { return 7 }, func(int) float64 { return 7 }},
		{"zero", shape(day/2, func(int) float64 { return 0 }), func(int) float64 { return 0 }, func(int) float64 { return 0 }},
		{"mostly zero", shape(5*day, func(s int) float64 {
			if rng.IntN(20) == 0 {
				return 1000
			}
			return 0
		}), func(int) float64 { return 0 }, func(int) float64 { return 0 }},
		{"daily", shape(4*day+70, func(s int) float64 { return daily(s) + 3*rng.NormFloat64() }),
			func(s int) float64 { return daily(4*day+70+s) - 9 }, func(s int) float64 { return daily(4*day+70+s) + 9 }},
		{"level shift an hour ago", shape(4*day, func(s int) float64 {
			if s < 4*day-24 {
				return 20
			}
			return 60
		}), func(s int) float64 {
			if s < 3 {
				return 40
			}
			return 19.9
		}, func(int) float64 { return 60.1 }},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := forecastOf(t, c.x)
			for s := range schemas.Slots {
				q := d.At(s)
				if !slices.IsSorted(q) || q[0] < 0 {
					t.Fatalf("slot %d: %v", s, q)
				}
				at := schemas.SlotOffset(s) + schemas.SlotLen(s)/2
				if m := float64(q[6]); !(m >= c.lo(at) && m <= c.hi(at)) {
					t.Errorf("slot %d: median %v, want %v..%v", s, m, c.lo(at), c.hi(at))
				}
			}
			if c.name == "mostly zero" && (d.At(30)[12] < 500 || d.At(30)[8] != 0) {
				t.Errorf("%v: zeros or bursts are lost", d.At(30))
			}
		})
	}
}

func TestNothingToGoBy(t *testing.T) {
	e := New()
	i := e.Add(model.Key{})
	d := schemas.NewDist()
	e.Forecast(i, schemas.Grid{Start: 100}, model.Regressors{}, &d)
	for k, v := range d.Q {
		if v == v {
			t.Fatalf("value %d is %v for a series never observed", k, v)
		}
	}
}

func TestPriorsAreShares(t *testing.T) {
	e := New()
	for c := range numClusters {
		for b := range NumBuckets {
			for g := range groups {
				var sum float32
				for k, v := range e.learn.prior(c, b, g) {
					if sum += v; v < least/2 {
						t.Errorf("cluster %d bucket %d: %s starts with %v", c, b, e.names[k], v)
					}
				}
				if sum < .999 || sum > 1.001 {
					t.Errorf("cluster %d bucket %d sums to %v", c, b, sum)
				}
			}
		}
	}
	for name := range prior {
		if !slices.Contains(e.names, name) {
			t.Errorf("a prior for %s, of which there is no expert", name)
		}
	}
}

// cpuPer reports CPU time an op: the wall clock lies on a busy machine.
func cpuPer(b *testing.B, from time.Duration) {
	b.ReportMetric(float64((cpuNow()-from).Nanoseconds())/float64(b.N), "cpu-ns/op")
}

func cpuNow() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkForecast is one VM: four resources, 44 slots, 13 levels, 13 scenarios.
func BenchmarkForecast(b *testing.B) {
	const steps = 8 * day
	first := schemas.Step(288 * 500)
	ws := windowsOf(group(1, steps, 1), first)
	v := ws[0].View()
	e := New()
	var ix [schemas.NumResources]int
	y := make([]float32, schemas.NumResources)
	for r := range ix {
		ix[r] = e.Add(model.Key{Resource: schemas.CPU, VM: schemas.VMID{byte(r)}})
		y[r] = 300
	}
	e.Observe(v.Last(), y, model.Regressors{})
	for _, i := range ix {
		if err := e.Refit(i, v, 0); err != nil {
			b.Fatal(err)
		}
	}
	g := schemas.Grid{Start: v.Last() + 1}
	var d [schemas.NumResources]schemas.Dist
	for r := range d {
		d[r] = schemas.NewDist()
	}
	dst := make([]float32, (K+1)*schemas.Slots*resources)
	j := &Joint{}
	j.Begin(v.Last(), steps)
	b.ReportAllocs()
	b.ResetTimer()
	from := cpuNow()
	for range b.N {
		for r, i := range ix {
			e.Forecast(i, g, model.Regressors{}, &d[r])
		}
		j.Join(&v)
		j.Paths(&v, [resources]schemas.Dist{d[0], d[1]}, dst)
	}
	cpuPer(b, from)
}

// BenchmarkObserve is one step of a thousand series.
func BenchmarkObserve(b *testing.B) {
	e := New()
	y := make([]float32, 1000)
	for k := range y {
		e.Add(model.Key{VM: schemas.VMID{byte(k), byte(k >> 8)}})
		y[k] = float32(k)
	}
	e.Observe(1, y, model.Regressors{})
	b.ReportAllocs()
	b.ResetTimer()
	from := cpuNow()
	for n := range b.N {
		e.Observe(schemas.Step(2+n), y, model.Regressors{})
	}
	b.ReportMetric(float64((cpuNow()-from).Nanoseconds())/float64(b.N)/1000, "cpu-ns/value")
}

// BenchmarkRefit is one series; it is due every 24 steps.
func BenchmarkRefit(b *testing.B) {
	const steps = 8 * day
	ws := windowsOf(group(1, steps, 1), 288*500)
	v := ws[0].View()
	e := New()
	i := e.Add(model.Key{})
	b.ReportAllocs()
	from := cpuNow()
	for range b.N {
		if err := e.Refit(i, v, 0); err != nil {
			b.Fatal(err)
		}
	}
	cpuPer(b, from)
}

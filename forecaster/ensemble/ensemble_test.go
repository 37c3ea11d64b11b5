package ensemble

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/apache/arrow/go/v17/arrow/memory"
	"github.com/foreshift/foreshift/forecaster/model"
	"github.com/foreshift/foreshift/forecaster/window"
	"github.com/foreshift/foreshift/schemas"
)

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

func TestStateRoundTrip(t *testing.T) {
	e, g := fit(t, shape(3*day, func(s int) float64 { return float64(s % 37) }))
	b := e.AppendState(nil)
	again := New()
	if err := again.LoadState(b); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(again.AppendState(nil), b) {
		t.Fatal("state changed on its way")
	}
	x, y := schemas.NewDist(), schemas.NewDist()
	e.Forecast(0, g, model.Regressors{}, &x)
	again.Forecast(0, g, model.Regressors{}, &y)
	if !slices.Equal(x.Q, y.Q) {
		t.Fatal("forecasts differ after the round trip")
	}
	for n := 0; n < len(b); n += 41 {
		if err := New().LoadState(b[:n]); err == nil {
			t.Fatalf("took %d of %d bytes", n, len(b))
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

// group is VMs that burst together, each burst at random but the same for all.
func group(vms, steps int, seed uint64) [][]float32 {
	rng := rand.New(rand.NewPCG(seed, 3))
	burst := make([]float64, steps)
	for s := 0; s < steps; {
		n := 6 + rng.IntN(60)
		if rng.IntN(4) == 0 {
			for k := s; k < min(s+n, steps); k++ {
				burst[k] = 800
			}
		}
		s += n
	}
	out := make([][]float32, vms)
	for v := range out {
		out[v] = shape(steps, func(s int) float64 { return 300 + burst[s] + 20*rng.NormFloat64() })
	}
	return out
}

func windowsOf(series [][]float32, first schemas.Step) []*window.Window {
	ws := make([]*window.Window, len(series))
	for v, x := range series {
		ws[v] = window.New(memory.NewGoAllocator())
		for k, y := range x {
			if y != y {
				continue
			}
			r := window.Row{Step: first + schemas.Step(k), Coverage: 1}
			for c := range r.V {
				r.V[c] = schemas.NaN()
			}
			r.V[schemas.ColCPU], r.V[schemas.ColMem] = y, 1
			ws[v].Put(&r)
		}
	}
	return ws
}

// paths gives the CPU scenarios of VMs whose marginals are the quantiles of the last
// day.
func paths(ws []*window.Window, issued schemas.Step, history int) (*Joint, [][]float32, schemas.Dist) {
	j := &Joint{}
	j.Begin(issued, history)
	for _, w := range ws {
		v := w.View()
		j.Join(&v)
	}
	var d schemas.Dist
	out := make([][]float32, len(ws))
	for n, w := range ws {
		v := w.View()
		d = schemas.NewDist()
		x := slices.Clone(v.Cols[0][max(0, v.N-day):])
		slices.Sort(x)
		for s := range schemas.Slots {
			for l, p := range schemas.Levels {
				d.At(s)[l] = x[int(p*float32(len(x)-1))]
			}
		}
		out[n] = make([]float32, (K+1)*schemas.Slots*resources)
		j.Paths(&v, [resources]schemas.Dist{d, d}, out[n])
	}
	return j, out, d
}

func sumAt(ds [][]float32, k, s int) (sum float64) {
	for _, d := range ds {
		sum += float64(d[(k*schemas.Slots+s)*resources])
	}
	return sum
}

// The point of joint scenarios: the upper tail of a sum over VMs that burst together
// is as fat as in the truth, not as thin as for independent ones.
func TestSumKeepsTheTailOfCoBursts(t *testing.T) {
	const vms, steps = 20, 8 * day
	series := group(vms, steps, 11)
	first := schemas.Step(288 * 500)
	_, ds, _ := paths(windowsOf(series, first), first+steps-1, steps)
	var joint, shuffled float64
	rng := rand.New(rand.NewPCG(5, 6))
	for s := 12; s < schemas.Slots; s++ {
		var top, indep float64
		for k := range K {
			top = max(top, sumAt(ds, k, s))
			var sum float64
			for _, d := range ds {
				sum += float64(d[(rng.IntN(K)*schemas.Slots+s)*resources])
			}
			indep = max(indep, sum)
		}
		joint += top
		shuffled += indep
	}
	n := float64(schemas.Slots - 12)
	joint, shuffled = joint/n, shuffled/n
	var truth []float64
	for s := range steps {
		var sum float64
		for v := range series {
			sum += float64(series[v][s])
		}
		truth = append(truth, sum)
	}
	slices.Sort(truth)
	p95 := truth[len(truth)*95/100]
	t.Logf("highest of %d sums: joint %.0f, independent %.0f; truth's 95 %% %.0f", K, joint, shuffled, p95)
	if joint < .95*p95 || shuffled > .85*joint {
		t.Fatalf("joint %.0f, independent %.0f, truth %.0f", joint, shuffled, p95)
	}
}

func TestNewcomersFollowTheOthers(t *testing.T) {
	const steps = 8 * day
	series := group(6, steps, 4)
	for s := range steps - 20 { // VM 0 was made 20 steps ago
		series[0][s] = schemas.NaN()
	}
	first := schemas.Step(288 * 700)
	_, ds, _ := paths(windowsOf(series, first), first+steps-1, steps)
	var agree, all float64
	for s := range schemas.Slots {
		order := func(v int) (rank [K]int) {
			for a := range K {
				for b := range K {
					if ds[v][(b*schemas.Slots+s)*resources] < ds[v][(a*schemas.Slots+s)*resources] {
						rank[a]++
					}
				}
			}
			return rank
		}
		a, b := order(0), order(3)
		for x := range K {
			for y := range x {
				all++
				if (a[x]-a[y])*(b[x]-b[y]) >= 0 {
					agree++
				}
			}
		}
	}
	if agree/all < .7 {
		t.Fatalf("a newcomer agrees with the others on %.0f %% of the orders, chance is 50 %%", 100*agree/all)
	}
	// Nobody has a past: all follow one path.
	young := [][]float32{{3}, {9}}
	_, ds, _ = paths(windowsOf(young, first), first, 1)
	for s := range schemas.Slots {
		for x := range K {
			for y := range K {
				a := ds[0][(x*schemas.Slots+s)*resources] - ds[0][(y*schemas.Slots+s)*resources]
				b := ds[1][(x*schemas.Slots+s)*resources] - ds[1][(y*schemas.Slots+s)*resources]
				if a*b < 0 {
					t.Fatalf("slot %d: two newcomers move against each other in scenarios %d and %d", s, x, y)
				}
			}
		}
	}
}

func TestScenariosHaveTheMarginals(t *testing.T) {
	const steps = 3 * day
	first := schemas.Step(288 * 900)
	ws := windowsOf(group(2, steps, 9), first)
	j, ds, dist := paths(ws, first+steps-1, steps)
	for s := range schemas.Slots {
		var got []float32
		var total float32
		for k := range K + 1 {
			total += j.Weight[k*schemas.Slots+s]
			if k < K {
				got = append(got, ds[1][(k*schemas.Slots+s)*resources])
			}
		}
		if math.Abs(float64(total-1)) > 1e-5 {
			t.Fatalf("slot %d: weights sum to %v", s, total)
		}
		persist := j.Weight[K*schemas.Slots+s]
		if want := map[bool]float32{true: persistPart, false: 0}[s < 12]; persist != want {
			t.Fatalf("slot %d: persistence weighs %v", s, persist)
		}
		slices.Sort(got)
		for n, y := range got {
			if want := dist.Quantile(s, (float32(n)+.5)/K); math.Abs(float64(y-want)) > .01*float64(want)+1e-3 {
				t.Fatalf("slot %d: %d-th smallest %v, want %v", s, n, y, want)
			}
		}
	}
}

func TestOrigins(t *testing.T) {
	for _, history := range []int{0, 1, 5, 100, day - 1, day, 3 * day, 8 * day} {
		t.Run(fmt.Sprint(history), func(t *testing.T) {
			const issued = 288*1000 + 100
			a := Origins(issued, history)
			if a != Origins(issued, history) {
				t.Fatal("not a function")
			}
			for k, o := range a {
				if o >= issued || o < issued-8*day {
					t.Fatalf("origin %d at %d, issued %d", k, o, issued)
				}
				if history >= day && k < 7 {
					if off := (issued - o) % day; off > 20 && off < day-20 {
						t.Fatalf("origin %d is %d steps off the time of day", k, off)
					}
				}
			}
		})
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
	for n := range b.N {
		e.Observe(schemas.Step(2+n), y, model.Regressors{})
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/1000, "ns/series")
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

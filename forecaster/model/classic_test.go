package model

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/apache/arrow/go/v17/arrow/memory"
	"github.com/foreshift/foreshift/forecaster/window"
	"github.com/foreshift/foreshift/schemas"
	"pgregory.net/rapid"
)

// classicBank is what ARIMA and ETS both are.
type classicBank interface {
	Experts
	StepQuantiles(i int, from schemas.Step, n int, levels []float32, dst []float32) bool
}

var classics = []struct {
	name string
	make func() classicBank
}{
	{"arima", func() classicBank { return NewARIMA() }},
	{"ets", func() classicBank { return NewETS() }},
}

func eachClassic(t *testing.T, f func(t *testing.T, make func() classicBank)) {
	for _, c := range classics {
		t.Run(c.name, func(t *testing.T) { f(t, c.make) })
	}
}

// learnt is a bank that has seen x as one series' CPU.
func learnt(t testing.TB, b classicBank, x []float32) (i int, g schemas.Grid) {
	t.Helper()
	i = b.Add(Key{VM: schemas.VMID{1}})
	w := windowOf(x, first)
	last := first + schemas.Step(len(x)-1)
	b.Observe(last, []float32{x[len(x)-1]}, Regressors{})
	if err := b.Refit(i, w.View(), 0); err != nil {
		t.Fatal(err)
	}
	return i, schemas.Grid{Start: last + 1}
}

// Whatever the series: quantiles that do not decrease, none negative or infinite,
// missing as a whole or not at all, exact on what stands still.
func TestClassicsAreHonest(t *testing.T) {
	eachClassic(t, func(t *testing.T, make1 func() classicBank) {
		rapid.Check(t, func(t *rapid.T) {
			n := rapid.IntRange(1, 2300).Draw(t, "rows")
			kind := rapid.SampledFrom([]string{"constant", "zeros", "noise", "steps", "one spike", "huge", "infinite"}).Draw(t, "kind")
			missing := rapid.SampledFrom([]int{0, 30, 95}).Draw(t, "missing %")
			rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
			x := make([]float32, n)
			for k := range x {
				x[k] = float32(1000 * rng.Float64())
				switch {
				case kind == "constant":
					x[k] = 7
				case kind == "zeros" && x[k] < 990:
					x[k] = 0
				case kind == "steps":
					x[k] = float32(k / 300)
				case kind == "one spike":
					x[k] = 5
				case kind == "huge":
					x[k] *= 3e35
				case kind == "infinite" && k%5 == 0:
					x[k] = float32(math.Inf(1 - 2*(k%2)))
				}
				if rng.IntN(100) < missing {
					x[k] = schemas.NaN()
				}
			}
			if kind == "one spike" {
				x[n/2] = 5e6
			}
			b := make1()
			i := b.Add(Key{VM: schemas.VMID{1}})
			w := windowOf(x, first)
			last := first + schemas.Step(n-1)
			b.Observe(last, []float32{x[n-1]}, Regressors{})
			if err := b.Refit(i, w.View(), 0); err != nil {
				t.Fatal(err)
			}
			d := schemas.NewDist()
			var at []float32
			check := func(known bool) {
				for s := range schemas.Slots {
					q := d.At(s)
					for _, v := range q {
						if (v == v) != known || math.IsInf(float64(v), 0) {
							t.Fatalf("slot %d, known %v: %v", s, known, q)
						}
					}
					if known && (!slices.IsSorted(q) || q[0] < 0) {
						t.Fatalf("slot %d: %v", s, q)
					}
					if known && kind == "constant" && (q[0] != 7 || q[levels-1] != 7) {
						t.Fatalf("slot %d: constant 7 forecast as %v", s, q)
					}
				}
			}
			known := b.Expert(i, 0, schemas.Grid{Start: last + 1}, Regressors{}, &d)
			check(known)
			at = make([]float32, 12*levels)
			if b.StepQuantiles(i, last+1, 12, schemas.Levels[:], at) != known {
				t.Fatal("steps and slots disagree on whether anything is known")
			}
			if known && !slices.Equal(at[:levels], d.At(0)) {
				t.Fatalf("first step %v, first slot %v", at[:levels], d.At(0))
			}
			// a level ten times higher, and values that are none
			for k, y := range []float32{1e4, schemas.NaN(), float32(math.Inf(1)), -5, 7} {
				b.Observe(last+1+schemas.Step(k), []float32{y}, Regressors{})
			}
			kind = ""
			b.Forecast(i, schemas.Grid{Start: last + 6}, Regressors{}, &d)
			check(known)
		})
	})
}

// dailySeries is a noisy series with waves, memory and a job each day at step 100.
func dailySeries(n int, seed uint64) []float32 {
	rng := rand.New(rand.NewPCG(seed, 6))
	x := make([]float32, n)
	var ar float64
	for k := range x {
		ar = .9*ar + rng.NormFloat64()
		x[k] = float32(40 + 15*math.Sin(2*math.Pi*float64(k%day)/day) + ar)
		if k%day == 100 {
			x[k] += 30
		}
	}
	return x
}

// The forecast of a process that is known: its median, its width at short and long
// leads, and the job.
func TestClassicsKnowADailyProcess(t *testing.T) {
	eachClassic(t, func(t *testing.T, make1 func() classicBank) {
		x := dailySeries(7*day, 1)
		b := make1()
		i, g := learnt(t, b, x)
		q := make([]float32, day*3)
		if !b.StepQuantiles(i, g.Start, day, []float32{.1, .5, .9}, q) {
			t.Fatal("nothing")
		}
		var miss float64
		for h := 0; h < day; h++ {
			want := 40 + 15*math.Sin(2*math.Pi*float64(h)/day)
			if h == 100 {
				if q[3*h+1] < q[3*(h-1)+1]+8 {
					t.Errorf("the job at step 100 is not foreseen: %v before, %v then", q[3*(h-1)+1], q[3*h+1])
				}
				continue
			}
			miss += math.Abs(float64(q[3*h+1])-want) / day
		}
		if miss > 1.8 { // the process' own deviation is 2.3
			t.Errorf("median is off by %.2f", miss)
		}
		// 80 % of a normal of deviation 1 and of 2.3
		if w := q[2] - q[0]; w < 1.6 || w > 4.5 {
			t.Errorf("first step's 80 %% band is %v wide", w)
		}
		if w := q[3*200+2] - q[3*200]; w < 3.5 || w > 9 {
			t.Errorf("200th step's 80 %% band is %v wide", w)
		}
	})
}

func TestClassicsFollowALevelShift(t *testing.T) {
	eachClassic(t, func(t *testing.T, make1 func() classicBank) {
		x := dailySeries(7*day, 2)
		b := make1()
		i, g := learnt(t, b, x)
		for k := 0; k < 24; k++ {
			b.Observe(g.Start+schemas.Step(k), []float32{400 + x[k]}, Regressors{})
		}
		d := schemas.NewDist()
		b.Forecast(i, schemas.Grid{Start: g.Start + 24}, Regressors{}, &d)
		if q := d.At(0); q[6] < 300 || q[6] > 600 {
			t.Fatalf("two hours after a shift by 400 the median is %v", q[6])
		}
	})
}

// Coverage over many series of the same process.
func TestClassicsAreCalibrated(t *testing.T) {
	eachClassic(t, func(t *testing.T, make1 func() classicBank) {
		inside, n := 0, 0
		for seed := uint64(0); seed < 24; seed++ {
			x := dailySeries(8*day, 50+seed)
			b := make1()
			i, g := learnt(t, b, x[:7*day])
			q := make([]float32, day*2)
			b.StepQuantiles(i, g.Start, day, []float32{.1, .9}, q)
			for h := 0; h < day; h += 3 {
				if y := x[7*day+h]; y >= q[2*h] && y <= q[2*h+1] {
					inside++
				}
				n++
			}
		}
		if c := float64(inside) / float64(n); c < .72 || c > .88 {
			t.Fatalf("the 80 %% band holds %.3f", c)
		}
	})
}

// The same window gives the same forecast whether the bank was there all along or was
// made just now, at any step between two refits.
func TestClassicsDependOnTheWindowAlone(t *testing.T) {
	const n = 8*day + 400
	x := dailySeries(n, 3)
	for k := range x {
		if k%13 == 5 || k > 1000 && k < 1030 {
			x[k] = schemas.NaN()
		}
	}
	key := Key{VM: schemas.VMID{3}, Resource: schemas.CPU}
	eachClassic(t, func(t *testing.T, make1 func() classicBank) {
		w := window.New(memory.NewGoAllocator())
		b := make1()
		i := b.Add(key)
		p, q := schemas.NewDist(), schemas.NewDist()
		for k, y := range x {
			r := window.Row{Step: first + schemas.Step(k), Coverage: 1}
			r.V[schemas.ColCPU] = y
			w.Put(&r)
			b.Observe(r.Step, []float32{y}, Regressors{})
			if v := w.View(); Due(key, v.First, r.Step) == r.Step && (k < 40 || k > n-350 || k%100 < 24) {
				if err := b.Refit(i, v, 0); err != nil {
					t.Fatal(err)
				}
			} else if k < n-300 {
				continue
			}
			if k != 100 && k != 400 && (k < n-300 || k%7 != 0) {
				continue
			}
			fresh := make1()
			j := fresh.Add(key)
			fresh.Observe(r.Step, []float32{y}, Regressors{})
			if err := fresh.Refit(j, w.View(), 0); err != nil {
				t.Fatal(err)
			}
			g := schemas.Grid{Start: r.Step + 1}
			b.Forecast(i, g, Regressors{}, &p)
			fresh.Forecast(j, g, Regressors{}, &q)
			for l := range p.Q {
				if p.Q[l] != q.Q[l] && (p.Q[l] == p.Q[l] || q.Q[l] == q.Q[l]) {
					t.Fatalf("row %d: %v and %v", k, p.Q[l], q.Q[l])
				}
			}
		}
	})
}

func TestClassicsKeepTheirState(t *testing.T) {
	eachClassic(t, func(t *testing.T, make1 func() classicBank) {
		x := dailySeries(4*day, 4)
		b := make1()
		i, g := learnt(t, b, x)
		gone := b.Add(Key{VM: schemas.VMID{2}})
		b.Remove(gone)
		b.Remove(gone)
		state := b.AppendState(nil)
		other := make1()
		if err := other.LoadState(state); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(other.AppendState(nil), state) {
			t.Fatal("state differs after a round trip")
		}
		p, q := schemas.NewDist(), schemas.NewDist()
		for _, bank := range []classicBank{b, other} {
			bank.Observe(g.Start+3, []float32{50}, Regressors{})
		}
		b.Forecast(i, schemas.Grid{Start: g.Start + 4}, Regressors{}, &p)
		other.Forecast(i, schemas.Grid{Start: g.Start + 4}, Regressors{}, &q)
		if p.Q[0] != p.Q[0] || !slices.Equal(p.Q, q.Q) {
			t.Fatal("forecasts differ after a round trip")
		}
		if again := other.Add(Key{VM: schemas.VMID{9}}); again != gone {
			t.Fatalf("index %d was not used again, but %d", gone, again)
		}
		if other.Expert(gone, 0, g, Regressors{}, &q) {
			t.Fatal("a new series knows what an old one knew")
		}
		for cut := 0; cut < len(state); cut += 1 + len(state)/50 {
			if err := make1().LoadState(state[:cut]); err == nil {
				t.Fatalf("took a state cut to %d of %d bytes", cut, len(state))
			}
		}
		if err := b.Refit(77, window.View{}, 0); err == nil {
			t.Fatal("refitted a series that does not exist")
		}
	})
}

func FuzzClassicState(f *testing.F) {
	for _, c := range classics {
		b := c.make()
		b.Add(Key{})
		f.Add(b.AppendState(nil))
	}
	f.Fuzz(func(t *testing.T, state []byte) {
		for _, c := range classics {
			b := c.make()
			if err := b.LoadState(state); err != nil {
				continue
			}
			d := schemas.NewDist()
			b.Observe(20, make([]float32, 3), Regressors{})
			for i := 0; i < 3; i++ {
				b.Expert(i, 0, schemas.Grid{Start: 21}, Regressors{}, &d)
			}
		}
	})
}

func TestClassicsDoNotAllocate(t *testing.T) {
	eachClassic(t, func(t *testing.T, make1 func() classicBank) {
		b := make1()
		i, g := learnt(t, b, dailySeries(7*day, 5))
		d, y := schemas.NewDist(), []float32{40}
		s := g.Start
		steps := make([]float32, day*levels)
		if n := testing.AllocsPerRun(50, func() {
			b.Observe(s, y, Regressors{})
			s++
			b.Forecast(i, schemas.Grid{Start: s}, Regressors{}, &d)
			b.StepQuantiles(i, s, day, schemas.Levels[:], steps)
		}); n != 0 {
			t.Fatalf("%v allocations", n)
		}
	})
}

func BenchmarkClassic(b *testing.B) {
	for _, c := range classics {
		x := dailySeries(7*day, 7)
		w := windowOf(x, first)
		v := w.View()
		b.Run(c.name+"/cold", func(b *testing.B) {
			for n := 0; n < b.N; n++ {
				bank := c.make()
				if err := bank.Refit(bank.Add(Key{}), v, 0); err != nil {
					b.Fatal(err)
				}
			}
		})
		bank := c.make()
		i, g := learnt(b, bank, x)
		b.Run(c.name+"/refit", func(b *testing.B) {
			for n := 0; n < b.N; n++ {
				if err := bank.Refit(i, v, 0); err != nil {
					b.Fatal(err)
				}
			}
		})
		d := schemas.NewDist()
		b.Run(c.name+"/forecast", func(b *testing.B) {
			for n := 0; n < b.N; n++ {
				bank.Forecast(i, g, Regressors{}, &d)
			}
		})
		s := g.Start
		b.Run(c.name+"/observe", func(b *testing.B) {
			for n := 0; n < b.N; n++ {
				bank.Observe(s, x[n%day:n%day+1], Regressors{})
				s++
			}
			b.ReportMetric(float64(len(bank.AppendState(nil))), "B/series")
		})
	}
}

func ExampleARIMA() {
	x := dailySeries(7*day, 9)
	b := NewARIMA()
	i := b.Add(Key{})
	w := windowOf(x, first)
	if err := b.Refit(i, w.View(), 0); err != nil {
		fmt.Println(err)
	}
	q := make([]float32, 3)
	b.StepQuantiles(i, first+7*day+71, 1, []float32{.1, .5, .9}, q) // the daily top, 6 h ahead
	fmt.Println(q[0] < 55 && q[2] > 55)
	// Output: true
}

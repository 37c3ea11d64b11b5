package model

import (
	"bytes"
	"math"
	"slices"
	"testing"

	"github.com/apache/arrow/go/v17/arrow/memory"
	"github.com/foreshift/foreshift/forecaster/window"
	"github.com/foreshift/foreshift/schemas"
	"pgregory.net/rapid"
)

const first = schemas.Step(day * 1000)

func windowOf(x []float32, from schemas.Step) *window.Window {
	w := window.New(memory.NewGoAllocator())
	for k, y := range x {
		r := window.Row{Step: from + schemas.Step(k), Coverage: 1}
		for c := range r.V {
			r.V[c] = schemas.NaN()
		}
		r.V[schemas.ColCPU] = y
		w.Put(&r)
	}
	return w
}

func banks() map[string]func() Experts {
	return map[string]func() Experts{
		"empirical":      func() Experts { return NewEmpirical() },
		"seasonal-naive": func() Experts { return NewSeasonalNaive() },
		"rises":          func() Experts { return NewRises() },
		"arima":          func() Experts { return NewARIMA() },
		"ets":            func() Experts { return NewETS() },
		"prophet":        func() Experts { return NewProphet() },
	}
}

// Every bank, on whatever it is given: quantiles that do not decrease, none negative,
// missing as a whole slot, exact on what stands still, and within what was seen.
func TestBanksAreHonest(t *testing.T) {
	for name, make := range banks() {
		t.Run(name, func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				n := rapid.IntRange(1, 2500).Draw(t, "rows")
				kind := rapid.SampledFrom([]string{"constant", "zeros", "noise", "steps"}).Draw(t, "kind")
				gaps := rapid.Bool().Draw(t, "gaps")
				x := rapid.SliceOfN(rapid.Float32Range(0, 1000), n, n).Draw(t, "x")
				for k := range x {
					switch {
					case kind == "constant":
						x[k] = 7
					case kind == "zeros" && x[k] < 990:
						x[k] = 0
					case kind == "steps":
						x[k] = float32(int(x[k]) / 300)
					}
					if gaps && k%11 < 3 {
						x[k] = schemas.NaN()
					}
				}
				b := make()
				i := b.Add(Key{VM: schemas.VMID{1}})
				w := windowOf(x, first)
				last := first + schemas.Step(n-1)
				b.Observe(last, []float32{x[n-1]}, Regressors{})
				if err := b.Refit(i, w.View(), 0); err != nil {
					t.Fatal(err)
				}
				d := schemas.NewDist()
				check := func(what string) {
					for s := range schemas.Slots {
						q := d.At(s)
						if q[0] != q[0] {
							for _, v := range q {
								if v == v {
									t.Fatalf("%s slot %d: missing in part: %v", what, s, q)
								}
							}
							continue
						}
						if !slices.IsSorted(q) || q[0] < 0 {
							t.Fatalf("%s slot %d: %v", what, s, q)
						}
						if kind == "constant" && (q[0] != 7 || q[levels-1] != 7) {
							t.Fatalf("%s slot %d: constant 7 forecast as %v", what, s, q)
						}
					}
				}
				g := schemas.Grid{Start: last + 1}
				b.Forecast(i, g, Regressors{}, &d)
				check("bank")
				for e, expert := range b.Names() {
					if b.Expert(i, e, g, Regressors{}, &d) {
						check(expert)
					}
				}
			})
		})
	}
}

// A trailing expert says what sorting the rows says.
func TestTrailingAgainstSort(t *testing.T) {
	x := make([]float32, 3*day)
	for k := range x {
		x[k] = float32((k * 7919) % 1000)
	}
	e := NewEmpirical()
	i := e.Add(Key{})
	w := windowOf(x, first)
	last := first + schemas.Step(len(x)-1)
	e.Observe(last, []float32{x[len(x)-1]}, Regressors{})
	if err := e.Refit(i, w.View(), 0); err != nil {
		t.Fatal(err)
	}
	d := schemas.NewDist()
	for expert, n := range map[int]int{Trailing1h: 12, Trailing4h: 48, Trailing24h: day} {
		if !e.Expert(i, expert, schemas.Grid{Start: last + 1}, Regressors{}, &d) {
			t.Fatal(empiricalNames[expert])
		}
		tail := slices.Clone(x[len(x)-n:])
		slices.Sort(tail)
		for l, p := range schemas.Levels {
			at := float64(p) * float64(n-1)
			lo := int(at)
			hi := min(lo+1, n-1)
			want := float64(tail[lo]) + (at-float64(lo))*float64(tail[hi]-tail[lo])
			if got := float64(d.At(5)[l]); math.Abs(got-want) > 1e-2 {
				t.Fatalf("%s level %v: %v, want %v", empiricalNames[expert], p, got, want)
			}
		}
	}
}

func TestTimeOfDayAndWeek(t *testing.T) {
	x := make([]float32, 8*day)
	for k := range x {
		hour := k % day / 12
		x[k] = float32(hour * 10)
		if (k/day)%7 == 1 { // one weekday is different; it comes again next
			x[k] += 500
		}
	}
	e := NewEmpirical()
	i := e.Add(Key{})
	w := windowOf(x, first)
	last := first + schemas.Step(len(x)-1)
	e.Observe(last, []float32{x[len(x)-1]}, Regressors{})
	if err := e.Refit(i, w.View(), 0); err != nil {
		t.Fatal(err)
	}
	g := schemas.Grid{Start: last + 1}
	d := schemas.NewDist()
	e.Expert(i, TimeOfDay, g, Regressors{}, &d)
	for _, s := range []int{30, 36, 40} {
		start, _ := g.Slot(s)
		if want := float32(int(start%day) / 12 * 10); math.Abs(float64(d.At(s)[6]-want)) > 10 {
			t.Errorf("time of day, slot %d: %v, want about %v", s, d.At(s)[6], want)
		}
	}
	e.Expert(i, HourOfWeek, g, Regressors{}, &d)
	for _, s := range []int{30, 36, 40} {
		start, _ := g.Slot(s)
		if want := float32(int(start%day)/12*10 + 500); math.Abs(float64(d.At(s)[6]-want)) > 15 {
			t.Errorf("hour of week, slot %d: %v, want about %v", s, d.At(s)[6], want)
		}
	}
	if e.Strength(i) < 0 || e.Strength(i) > 1 {
		t.Errorf("strength %v", e.Strength(i))
	}
}

func TestIncrementsKnowWhatFollowsALevel(t *testing.T) {
	x := make([]float32, 4*day)
	for k := range x {
		if k%20 < 2 { // spikes of two steps, then back
			x[k] = 100
		}
	}
	e := NewEmpirical()
	i := e.Add(Key{})
	n := len(x) - 20 + 2 // the last two rows are a spike
	w := windowOf(x[:n], first)
	last := first + schemas.Step(n-1)
	e.Observe(last, []float32{x[n-1]}, Regressors{})
	if err := e.Refit(i, w.View(), 0); err != nil {
		t.Fatal(err)
	}
	d := schemas.NewDist()
	if !e.Expert(i, Increments, schemas.Grid{Start: last + 1}, Regressors{}, &d) {
		t.Fatal("nothing")
	}
	if q := d.At(1); q[6] != 0 {
		t.Fatalf("after a spike of two steps comes %v", q)
	}
}

// The same window gives the same forecast whether the bank was there all along or was
// made just now, at any step between two refits.
func TestRefitDependsOnTheWindowAlone(t *testing.T) {
	const n = 8*day + 100
	x := make([]float32, n)
	for k := range x {
		x[k] = float32((k*k*31 + k*17) % 997)
	}
	key := Key{VM: schemas.VMID{3}, Resource: schemas.CPU}
	for name, make := range banks() {
		w := window.New(memory.NewGoAllocator())
		b := make()
		i := b.Add(key)
		for k, y := range x {
			r := window.Row{Step: first + schemas.Step(k), Coverage: 1}
			r.V[schemas.ColCPU] = y
			w.Put(&r)
			b.Observe(r.Step, []float32{y}, Regressors{})
			if v := w.View(); k == 0 || Due(key, v.First, r.Step) == r.Step {
				if err := b.Refit(i, v, 0); err != nil {
					t.Fatal(err)
				}
			}
			if k < n-40 && k != 100 && k != 400 {
				continue
			}
			fresh := make()
			j := fresh.Add(key)
			fresh.Observe(r.Step, []float32{y}, Regressors{})
			if err := fresh.Refit(j, w.View(), 0); err != nil {
				t.Fatal(err)
			}
			g := schemas.Grid{Start: r.Step + 1}
			p, q := schemas.NewDist(), schemas.NewDist()
			for e := range b.Names() {
				b.Expert(i, e, g, Regressors{}, &p)
				fresh.Expert(j, e, g, Regressors{}, &q)
				for l := range p.Q {
					if p.Q[l] != q.Q[l] && p.Q[l] == p.Q[l] {
						t.Fatalf("%s %s at row %d: %v and %v", name, b.Names()[e], k, p.Q[l], q.Q[l])
					}
				}
			}
		}
	}
}

func TestIndicesAreReused(t *testing.T) {
	for name, make := range banks() {
		b := make()
		a, c := b.Add(Key{VM: schemas.VMID{1}}), b.Add(Key{VM: schemas.VMID{2}})
		b.Observe(50, []float32{5, 6}, Regressors{})
		b.Remove(a)
		b.Remove(a)
		if again := b.Add(Key{VM: schemas.VMID{3}}); again != a || c == a {
			t.Fatalf("%s: index %d, want %d", name, again, a)
		}
		state := b.AppendState(nil)
		other := make()
		if err := other.LoadState(state); err != nil || !bytes.Equal(other.AppendState(nil), state) {
			t.Fatalf("%s: %v", name, err)
		}
		if err := b.Refit(77, window.View{}, 0); err == nil {
			t.Fatalf("%s: refitted a series that does not exist", name)
		}
	}
}

package lstm

import (
	"bytes"
	"math"
	"slices"
	"testing"

	"github.com/apache/arrow/go/v17/arrow/memory"
	"github.com/foreshift/foreshift/forecaster/model"
	"github.com/foreshift/foreshift/forecaster/window"
	"github.com/foreshift/foreshift/schemas"
	"pgregory.net/rapid"
)

const start = schemas.Step(day * 1001)

// honest fails unless the quantiles rise, none is negative, and what is missing is
// missing as a whole slot.
func honest(t interface {
	Fatalf(string, ...any)
}, what string, q []float32) {
	for s := 0; s+levels <= len(q); s += levels {
		q := q[s : s+levels]
		if q[0] != q[0] {
			for _, v := range q {
				if v == v {
					t.Fatalf("%s, row %d: missing in part: %v", what, s/levels, q)
				}
			}
			continue
		}
		if !slices.IsSorted(q) || q[0] < 0 || q[levels-1]-q[levels-1] != 0 {
			t.Fatalf("%s, row %d: %v", what, s/levels, q)
		}
	}
}

func TestBankIsHonest(t *testing.T) {
	b := New()
	vm := byte(0)
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 2400).Draw(t, "rows")
		kind := rapid.SampledFrom([]string{"constant", "zeros", "noise", "shift", "wild"}).Draw(t, "kind")
		gaps := rapid.Bool().Draw(t, "gaps")
		some := rapid.SliceOfN(rapid.Float32Range(0, 1000), 50, 50).Draw(t, "x")
		x := make([]float32, n)
		for k := range x {
			x[k] = some[(k*31+k/50*17)%50]
			switch {
			case kind == "constant":
				x[k] = 7
			case kind == "zeros" && k%97 > 3:
				x[k] = 0
			case kind == "shift" && k > n*9/10:
				x[k] *= 10
			case kind == "wild" && k%5 == 0:
				x[k] = []float32{float32(math.Inf(1)), -3, 3e38, 1e-38, schemas.NaN()}[k/5%5]
			}
			if gaps && k%11 < 3 {
				x[k] = schemas.NaN()
			}
		}
		vm++
		i := b.Add(model.Key{VM: schemas.VMID{vm}, Resource: schemas.Resource(vm % 4)})
		defer b.Remove(i)
		w := windowOf(x, b.keys[i].Resource, start)
		if err := b.Refit(i, w.View(), 0); err != nil {
			t.Fatal(err)
		}
		d := schemas.NewDist()
		known := b.Expert(i, 0, schemas.Grid{Start: start + schemas.Step(n)}, model.Regressors{}, &d)
		honest(t, "grid", d.Q)
		if !known && kind == "constant" && n > 4 {
			t.Fatalf("nothing after %d rows", n)
		}
		steps := make([]float32, 30*levels)
		b.StepQuantiles(i, start+schemas.Step(n), 30, schemas.Levels[:], steps)
		honest(t, "steps", steps)
		for which := range maxima {
			b.WindowMax(i, which, steps[:levels])
			honest(t, "maximum", steps[:levels])
			if kind == "constant" && n > 4 && (steps[0] != 7 || steps[levels-1] != 7) {
				t.Fatalf("maximum of a constant 7: %v", steps[:levels])
			}
		}
		for k, v := range d.Q {
			if kind == "constant" && n > 4 && v != 7 {
				t.Fatalf("slot %d: constant 7 forecast as %v", k/levels, d.At(k/levels))
			}
		}
	})
}

// What was mostly zero and is zero now stays zero at the middle levels, exactly.
func TestZerosStayZero(t *testing.T) {
	x := make([]float32, 8*day)
	for k := range x {
		if k%150 == 7 {
			x[k] = 90
		}
	}
	b := New()
	i := b.Add(model.Key{Resource: schemas.Disk})
	if err := b.Refit(i, windowOf(x, schemas.Disk, start).View(), 0); err != nil {
		t.Fatal(err)
	}
	d := schemas.NewDist()
	b.Forecast(i, schemas.Grid{Start: start + 8*day}, model.Regressors{}, &d)
	for s := range schemas.Slots {
		if q := d.At(s); q[levels/2] != 0 || q[levels-4] != 0 {
			t.Fatalf("slot %d: %v", s, q)
		}
	}
}

// A day that repeats is foreseen hours ahead, better than by the day's quantiles.
func TestDailyShapeIsForeseen(t *testing.T) {
	x := make([]float32, 9*day)
	for k := range x {
		x[k] = 100 + 80*float32(math.Sin(2*math.Pi*float64(k)/day)) + float32(k*7919%11)
	}
	b := New()
	i := b.Add(model.Key{})
	n := 8 * day
	if err := b.Refit(i, windowOf(x[:n], schemas.CPU, start).View(), 0); err != nil {
		t.Fatal(err)
	}
	q := make([]float32, day)
	if !b.StepQuantiles(i, start+schemas.Step(n), day, []float32{.5}, q) {
		t.Fatal("nothing")
	}
	var off, plain float64
	for h, v := range q {
		off += math.Abs(float64(x[n+h] - v))
		plain += math.Abs(float64(x[n+h] - 105))
	}
	if off > .5*plain {
		t.Fatalf("error of the median %v, of a flat line %v", off/day, plain/day)
	}
}

// A bank made anew from the window forecasts nearly what one that lived through it
// does: the network forgets.
func TestRestartNeedsNoState(t *testing.T) {
	var apart, spread float64
	for n, s := range Generate(77, 12, 10) {
		key := model.Key{VM: s.VM, Resource: s.Resource}
		old := New()
		i := old.Add(key)
		w := window.New(memory.NewGoAllocator())
		for k, y := range s.Y {
			r := window.Row{Step: s.First + schemas.Step(k), Coverage: 1}
			for c := range r.V {
				r.V[c] = schemas.NaN()
			}
			r.V[column[s.Resource]] = y
			w.Put(&r)
			old.Observe(r.Step, []float32{y}, model.Regressors{})
			if v := w.View(); model.Due(key, v.First, r.Step) == r.Step {
				if err := old.Refit(i, v, 0); err != nil {
					t.Fatal(err)
				}
			}
		}
		fresh := New()
		j := fresh.Add(key)
		v := w.View()
		fresh.Observe(v.Last(), s.Y[len(s.Y)-1:], model.Regressors{})
		if err := fresh.Refit(j, v, 0); err != nil {
			t.Fatal(err)
		}
		p, q := schemas.NewDist(), schemas.NewDist()
		g := schemas.Grid{Start: v.Last() + 1}
		old.Forecast(i, g, model.Regressors{}, &p)
		fresh.Forecast(j, g, model.Regressors{}, &q)
		var a, b float64
		for l := range p.Q {
			if p.Q[l] != p.Q[l] || q.Q[l] != q.Q[l] {
				t.Fatalf("series %d: missing", n)
			}
			a += math.Abs(float64(p.Q[l] - q.Q[l]))
		}
		for s := range schemas.Slots {
			b += levels * float64(p.At(s)[levels-1]-p.At(s)[0])
		}
		if b > 0 {
			apart += a / b
			spread++
		}
	}
	if apart/spread > .02 {
		t.Fatalf("quantiles differ by %.4f of their spread", apart/spread)
	}
}

func TestGapsLateAndUnknown(t *testing.T) {
	b := New()
	i := b.Add(model.Key{VM: schemas.VMID{1}})
	d := schemas.NewDist()
	if b.Expert(i, 0, schemas.Grid{Start: start}, model.Regressors{}, &d) || d.Q[0] == d.Q[0] {
		t.Fatal("a forecast out of nothing")
	}
	b.Observe(start, []float32{5}, model.Regressors{})
	if !b.Expert(i, 0, schemas.Grid{Start: start + 1}, model.Regressors{}, &d) || d.Q[0] != 5 {
		t.Fatalf("after one value: %v", d.At(0))
	}
	before := b.AppendState(nil)
	b.Observe(start-3, []float32{9}, model.Regressors{}) // the clock went back
	if !bytes.Equal(before, b.AppendState(nil)) {
		t.Fatal("a step of the past was taken for news")
	}
	b.Observe(start+5000, nil, model.Regressors{}) // and far on, with nothing known
	if b.Expert(i, 0, schemas.Grid{Start: start + 5001}, model.Regressors{}, &d) {
		t.Fatalf("a forecast from what was 17 days ago: %v", d.At(0))
	}
	if err := b.Refit(5, window.View{}, 0); err == nil {
		t.Fatal("refitted a series that does not exist")
	}
	if b.WindowMax(i, 3, d.At(0)) || b.WindowMax(9, 0, d.At(0)) {
		t.Fatal("a maximum of nothing")
	}
}

func TestStateRoundTripAndReuse(t *testing.T) {
	b := New()
	a, c := b.Add(model.Key{VM: schemas.VMID{1}}), b.Add(model.Key{VM: schemas.VMID{2}})
	for s := range schemas.Step(40) {
		b.Observe(start+s, []float32{float32(s), 3}, model.Regressors{})
	}
	b.Remove(a)
	b.Remove(a)
	state := b.AppendState(nil)
	other := New()
	if err := other.LoadState(state); err != nil || !bytes.Equal(other.AppendState(nil), state) {
		t.Fatal(err)
	}
	p, q := schemas.NewDist(), schemas.NewDist()
	b.Forecast(c, schemas.Grid{Start: start + 40}, model.Regressors{}, &p)
	other.Forecast(c, schemas.Grid{Start: start + 40}, model.Regressors{}, &q)
	if !slices.Equal(p.Q, q.Q) {
		t.Fatal("forecasts differ after a round trip")
	}
	if again := other.Add(model.Key{VM: schemas.VMID{3}}); again != a || b.Add(model.Key{VM: schemas.VMID{3}}) != a {
		t.Fatalf("index %d, want %d", again, a)
	}
	// and both go on alike, to the last bit, through a gap and refits
	v := windowOf(Generate(5, 1, 2)[0].Y, schemas.CPU, start-2*day+40).View()
	for s := schemas.Step(40); s < 120; s += 1 + s%7/6*9 {
		for _, bank := range []*Bank{b, other} {
			bank.Observe(start+s, []float32{float32(s % 11), 3}, model.Regressors{})
			if s%24 == 0 {
				if err := bank.Refit(c, v, 1); err != nil {
					t.Fatal(err)
				}
			}
		}
		if !bytes.Equal(b.AppendState(nil), other.AppendState(nil)) {
			t.Fatalf("states differ %d steps on", s-40)
		}
	}
}

func FuzzLoadState(f *testing.F) {
	b := NewBank(NewWeights(1))
	b.Add(model.Key{})
	b.Observe(50, []float32{4}, model.Regressors{})
	f.Add(b.AppendState(nil))
	f.Add([]byte{1, 5})
	f.Fuzz(func(t *testing.T, p []byte) {
		b := NewBank(NewWeights(1))
		if b.LoadState(p) != nil {
			return
		}
		d := schemas.NewDist()
		for i := range b.keys {
			b.Forecast(i, schemas.Grid{Start: b.at[i] + 1}, model.Regressors{}, &d)
			honest(t, "loaded", d.Q)
		}
	})
}

func TestNothingIsAllocated(t *testing.T) {
	b, i, last := full(t)
	y, d, q := []float32{3}, schemas.NewDist(), make([]float32, levels)
	v := windowOf(Generate(5, 1, 9)[0].Y, b.keys[i].Resource, last-9*day+1).View()
	if n := testing.AllocsPerRun(50, func() {
		last++
		b.Observe(last, y, model.Regressors{})
		b.Forecast(i, schemas.Grid{Start: last + 1}, model.Regressors{}, &d)
		b.WindowMax(i, 1, q)
		if err := b.Refit(i, v, 0); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Fatalf("%v allocations", n)
	}
}

package model

import (
	"math"
	"slices"
	"testing"

	"github.com/foreshift/foreshift/schemas"
	"pgregory.net/rapid"
)

var inf = float32(math.Inf(1))

// noisy is a number of 0 to 13 that looks drawn.
func noisy(k int) float32 {
	h := uint32(k) * 2654435761
	h ^= h >> 15
	return float32(h*2246822519>>20%1300) / 100
}

// troubles are what a series may be given, by what it is.
var troubles = map[string]func(k int) float32{
	"all missing":   func(int) float32 { return schemas.NaN() },
	"infinite":      func(k int) float32 { return []float32{5, inf, -inf, 7, math.MaxFloat32}[k%5] },
	"negative":      func(k int) float32 { return []float32{5, -3, 6, -1e30}[k%4] },
	"only negative": func(k int) float32 { return -float32(k%7) - 1 },
	"constant":      func(int) float32 { return 7.3 },
	"zero":          func(int) float32 { return 0 },
	"95 % missing": func(k int) float32 {
		if k*7919%100 < 95 {
			return schemas.NaN()
		}
		return 40 + float32(k%13)
	},
	"level shift x 10": func(k int) float32 {
		if k >= 1200 {
			return 10 * (40 + noisy(k))
		}
		return 40 + noisy(k)
	},
	"tiny":       func(k int) float32 { return 1e-38 * float32(k%5) },
	"huge":       func(k int) float32 { return 1e14 * float32(1+k%5) },
	"one spike":  func(k int) float32 { return map[bool]float32{true: 1e12}[k == 700] },
	"last known": func(k int) float32 { return map[bool]float32{false: schemas.NaN(), true: 3}[k == 1299] },
}

// sane fails unless every slot is missing as a whole or has quantiles that rise, are
// not negative and are finite.
func sane(t interface {
	Helper()
	Fatalf(string, ...any)
}, what string, d schemas.Dist) (known bool) {
	t.Helper()
	for s := range schemas.Slots {
		q := d.At(s)
		if q[0] != q[0] {
			if slices.ContainsFunc(q, func(v float32) bool { return v == v }) {
				t.Fatalf("%s, slot %d: missing in part: %v", what, s, q)
			}
			continue
		}
		known = true
		if !slices.IsSorted(q) || q[0] < 0 || !(q[levels-1] <= math.MaxFloat32) {
			t.Fatalf("%s, slot %d: %v", what, s, q)
		}
	}
	return known
}

// Whatever a series is given, each bank's forecasts are sane or withheld; what stood
// still is exact, and within hours of a shift the new level is within the band.
func TestTroubles(t *testing.T) {
	for name, make := range banks() {
		for what, y := range troubles {
			b := make()
			k := Key{VM: schemas.VMID{5}}
			i := b.Add(k)
			x := []float32{}
			for n := range 1300 {
				x = append(x, y(n))
			}
			w := windowOf(x[:1000], first)
			b.Observe(first+999, x[999:1000], Regressors{})
			if err := b.Refit(i, w.View(), 0); err != nil {
				t.Fatal(err)
			}
			for n := 1000; n < len(x); n++ {
				b.Observe(first+schemas.Step(n), x[n:n+1], Regressors{})
			}
			d := schemas.NewDist()
			g := schemas.Grid{Start: first + 1300}
			check := func(when string) {
				for e, expert := range b.Names() {
					said := b.Expert(i, e, g, Regressors{}, &d)
					known := sane(t, name+" "+expert+", "+what+when, d)
					q := d.At(3)
					switch {
					case said && !known:
						t.Fatalf("%s %s, %s: says it knows and does not", name, expert, what)
					case known && (what == "all missing" || what == "only negative"):
						t.Fatalf("%s %s, %s: %v", name, expert, what, q)
					case known && what == "constant" && (q[0] != 7.3 || q[levels-1] != 7.3):
						t.Fatalf("%s %s: constant 7.3 forecast as %v", name, expert, q)
					}
				}
				b.Forecast(i, g, Regressors{}, &d)
				sane(t, name+", "+what+when, d)
			}
			check("")
			full := windowOf(x, first)
			if err := b.Refit(i, full.View(), 0); err != nil {
				t.Fatal(err)
			}
			check(", refitted")
			if q := d.At(3); what == "level shift x 10" && name != "prophet" && name != "seasonal-naive" && !(q[levels-4] > 300) {
				t.Errorf("%s: after a shift to 400 forecasts %v", name, q)
			}
		}
	}
}

// The same, of values drawn at random with no regard for what they mean, and with the
// clock going wherever it likes.
func FuzzObserve(f *testing.F) {
	f.Add([]byte{0, 1, 2, 3, 200, 201, 9, 9, 9}, int64(5))
	f.Add([]byte{255, 255, 0, 0, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7}, int64(-9))
	odd := []float32{schemas.NaN(), inf, -inf, -1, math.MaxFloat32, math.SmallestNonzeroFloat32, 0, 1e15}
	f.Fuzz(func(t *testing.T, raw []byte, jump int64) {
		raw = raw[:min(len(raw), 400)]
		x := make([]float32, len(raw))
		for k, v := range raw {
			if x[k] = float32(v); v >= 248 {
				x[k] = odd[v-248]
			}
		}
		for name, make := range banks() {
			b := make()
			i := b.Add(Key{})
			last := first
			for k := range x {
				b.Observe(last, x[k:k+1], Regressors{})
				last++
			}
			if len(x) > 0 {
				if err := b.Refit(i, windowOf(x, first).View(), 0); err != nil {
					t.Fatal(err)
				}
			}
			b.Observe(last+schemas.Step(jump%(4*day)), []float32{3}, Regressors{})
			d := schemas.NewDist()
			for _, g := range []schemas.Grid{{Start: last}, {Start: last + schemas.Step(jump%(4*day)) + 1}} {
				b.Forecast(i, g, Regressors{}, &d)
				sane(t, name, d)
			}
		}
	})
}

// A series whose values span what float32 can hold is sorted and forecast all the
// same.
func TestAnyMeasuredValues(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		x := rapid.SliceOfN(rapid.Float32Range(0, mostValue), 30, 300).Draw(t, "x")
		for name, make := range banks() {
			b := make()
			i := b.Add(Key{})
			b.Observe(first+schemas.Step(len(x)-1), x[len(x)-1:], Regressors{})
			if err := b.Refit(i, windowOf(x, first).View(), 0); err != nil {
				t.Fatal(err)
			}
			d := schemas.NewDist()
			b.Forecast(i, schemas.Grid{Start: first + schemas.Step(len(x))}, Regressors{}, &d)
			sane(t, name, d)
		}
	})
}

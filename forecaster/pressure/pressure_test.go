package pressure

import (
	"math"
	"slices"
	"testing"
	"time"

	"github.com/foreshift/foreshift/schemas"
	"pgregory.net/rapid"
)

// flat is a forecast of the same quantiles in every slot, low..high.
func flat(low, high float32) schemas.Dist {
	d := schemas.NewDist()
	for s := range schemas.Slots {
		for l, p := range schemas.Levels {
			d.At(s)[l] = low + p*(high-low)
		}
	}
	return d
}

// along makes scenarios of equal weight from a demand per scenario and slot.
func along(k int, f func(k, slot int) float32) schemas.Scenarios {
	sc := schemas.Scenarios{Weight: make([]float32, k*schemas.Slots), D: make([]float32, k*schemas.Slots*schemas.ScenarioResources)}
	for i := range k {
		for s := range schemas.Slots {
			sc.Weight[i*schemas.Slots+s] = 1 / float32(k)
			sc.D[(i*schemas.Slots+s)*schemas.ScenarioResources] = f(i, s)
		}
	}
	return sc
}

func history(n int, f func(t int) float32) []float32 {
	y := make([]float32, n)
	for t := range y {
		y[t] = f(t)
	}
	return y
}

const day = schemas.StepsPerDay

func TestChances(t *testing.T) {
	quiet := func(int) float32 { return 20 }
	nightly := func(t int) float32 { // above 95 for an hour each day, at step 200
		if t%day >= 200 && t%day < 212 {
			return 99
		}
		return 20
	}
	for _, c := range []struct {
		name   string
		in     Input
		lo, hi [3]schemas.Ratio // per horizon
		onset  [2]int           // steps ahead, where expected
	}{
		{"never near", Input{Y: history(8*day, quiet), Dist: flat(15, 30), Scenarios: along(12, func(int, int) float32 { return 20 })},
			[3]schemas.Ratio{}, [3]schemas.Ratio{}, [2]int{}},
		{"above now", Input{Y: history(8*day, func(t int) float32 {
			if t > 8*day-30 {
				return 99
			}
			return 20
		}), Dist: flat(90, 105), Scenarios: along(12, func(int, int) float32 { return 99 })},
			[3]schemas.Ratio{.2, .2, .2}, [3]schemas.Ratio{1, 1, 1}, [2]int{1, 1}},
		{"every night, now 4 h before", Input{Y: history(7*day+152, nightly), Dist: flat(15, 30),
			Scenarios: along(12, func(_, s int) float32 {
				if o := 152 + schemas.SlotOffset(s); o >= 199 && o < 212 {
					return 99
				}
				return 20
			})},
			[3]schemas.Ratio{0, .4, .7}, [3]schemas.Ratio{.1, 1, 1}, [2]int{37, 61}},
		{"every night, just over", Input{Y: history(7*day+214, nightly), Dist: flat(15, 30), Scenarios: along(12, func(int, int) float32 { return 20 })},
			[3]schemas.Ratio{0, 0, .1}, [3]schemas.Ratio{.4, .6, 1}, [2]int{}},
		{"no limit known", Input{Y: history(day, nightly), Limit: schemas.NaN(), Dist: flat(1, 2)}, [3]schemas.Ratio{}, [3]schemas.Ratio{}, [2]int{}},
		{"no history", Input{Dist: flat(1, 2)}, [3]schemas.Ratio{}, [3]schemas.Ratio{}, [2]int{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.in.Limit == 0 {
				c.in.Limit = 95
			}
			e := NewHead().Estimate(&c.in)
			for i, p := range [...]schemas.Ratio{e.Chance.H1, e.Chance.H6, e.Chance.H24} {
				if p < c.lo[i] || p > c.hi[i] {
					t.Errorf("horizon %d: %v, want %v..%v (%+v)", i, p, c.lo[i], c.hi[i], e)
				}
			}
			if c.onset[0] > 0 && (e.Onset < c.onset[0] || e.Onset > c.onset[1]) {
				t.Errorf("onset in %d steps, want %v", e.Onset, c.onset)
			}
		})
	}
}

// A longer horizon never has a smaller chance, and a higher limit never a larger one
// by more than the counts' noise.
func TestChancesAreOrdered(t *testing.T) {
	h := NewHead()
	rapid.Check(t, func(t *rapid.T) {
		y := rapid.SliceOfN(rapid.Float32Range(0, 100), 1, 900).Draw(t, "y")
		for i := range y {
			if rapid.IntRange(0, 20).Draw(t, "gap") == 0 {
				y[i] = schemas.NaN()
			}
		}
		in := Input{Y: y, Limit: rapid.Float32Range(1, 120).Draw(t, "limit"), Dist: flat(0, 100),
			Scenarios: along(5, func(k, s int) float32 { return float32((k*37 + s*11) % 100) })}
		e := h.Estimate(&in)
		c := e.Chance
		if !(c.H1 >= 0 && c.H1 <= c.H6 && c.H6 <= c.H24 && c.H24 <= 1) {
			t.Fatalf("%+v", c)
		}
		if e.Expected != (c.H24 >= Floor) || e.Onset < 0 || e.Onset > day {
			t.Fatalf("%+v", e)
		}
		m := Message(Subject{VM: schemas.VMID{1}, Host: "h", Issued: 28_000_000, Base: time.Minute, Now: 6e18 / 4},
			map[schemas.Resource]Estimate{schemas.CPU: e}, schemas.Vec{float64(in.Limit)})
		if err := m.Validate(); err != nil {
			t.Fatal(err)
		}
	})
}

func TestMessageNamesTheWorstResource(t *testing.T) {
	in := Input{Y: history(4*day, func(t int) float32 { return float32(t%day) / 3 }), Limit: 80, Dist: flat(10, 96),
		Scenarios: along(12, func(k, s int) float32 { return float32(8 * k) })}
	worst := NewHead().Estimate(&in)
	m := Message(Subject{VM: schemas.VMID{1}, Issued: 100, Base: schemas.DefaultBase, Now: 1},
		map[schemas.Resource]Estimate{schemas.CPU: {}, schemas.Memory: worst}, schemas.Vec{1, 80})
	if m.Resource != "memory" || m.Score != m.Chances["memory"].Max() || m.Advice != "resize_advised" || m.Limit != 80 {
		t.Fatalf("%+v", m)
	}
	if !slices.ContainsFunc(m.Why, func(w schemas.Why) bool { return w.Kind == "season" && w.Text != "" }) {
		t.Fatalf("%+v", m.Why)
	}
	if m.Onset < schemas.Step(101).Start(schemas.DefaultBase) {
		t.Fatalf("onset %v", m.Onset)
	}
}

func TestTracker(t *testing.T) {
	var tr Tracker
	at := func(p float64, onset, issued schemas.Step) bool {
		m := &schemas.PressureVM{Score: schemas.Ratio(p), Issued: issued}
		if onset > 0 {
			m.Onset = onset.Start(time.Minute)
		}
		return tr.Publish(m, time.Minute)
	}
	for i, c := range []struct {
		p             float64
		onset, issued schemas.Step
		want          bool
		why           string
	}{
		{.01, 0, 1, false, "nothing to say"},
		{.30, 50, 2, true, "rises"},
		{.32, 51, 3, false, "hardly changed"},
		{.36, 51, 4, true, "by .06"},
		{.36, 54, 5, true, "onset by 3 steps"},
		{.36, 54, 7, false, "not yet due again"},
		{.36, 54, 8, true, "every 3 steps"},
		{.02, 0, 9, true, "fell"},
		{.01, 0, 20, false, "told once"},
		{.00, 0, 40, false, "told once"},
		{.06, 60, 41, true, "rises again"},
	} {
		if got := at(c.p, c.onset, c.issued); got != c.want {
			t.Fatalf("%d (%s): %v", i, c.why, got)
		}
	}
	if math.Abs(tr.Score-.06) > 1e-9 {
		t.Fatal(tr)
	}
}

func BenchmarkEstimate(b *testing.B) {
	in := Input{Y: history(8*day, func(t int) float32 { return float32(t * 7919 % 100) }), Limit: 95, Dist: flat(0, 100),
		Scenarios: along(13, func(k, s int) float32 { return float32((k*37 + s*11) % 100) })}
	h := NewHead()
	b.ReportAllocs()
	for range b.N {
		h.Estimate(&in)
	}
}

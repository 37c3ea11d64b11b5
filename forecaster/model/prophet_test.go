package model

import (
	"bytes"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/apache/arrow/go/v17/arrow/memory"
	"github.com/foreshift/foreshift/forecaster/window"
	"github.com/foreshift/foreshift/schemas"
	"pgregory.net/rapid"
)

// stage plays a series to a bank step by step, as the decider does.
type stage struct {
	t    testing.TB
	bank *Prophet
	win  []*window.Window
	keys []Key
	next schemas.Step
}

func newStage(t testing.TB, series int) *stage {
	s := &stage{t: t, bank: NewProphet(), next: first}
	for n := range series {
		s.join(n)
	}
	return s
}

func (s *stage) join(n int) {
	k := Key{VM: schemas.VMID{byte(n + 1)}}
	if i := s.bank.Add(k); i != len(s.keys) {
		s.t.Fatalf("index %d", i)
	}
	s.keys = append(s.keys, k)
	s.win = append(s.win, window.New(memory.NewGoAllocator()))
}

// play goes on for n steps; y gives the demand of a series at a step, known what is
// known round it.
func (s *stage) play(n int, y func(i int, at schemas.Step) float32, known func() Regressors) {
	s.t.Helper()
	row := make([]float32, len(s.keys))
	for range n {
		for i := range s.keys {
			r := window.Row{Step: s.next, Coverage: 1}
			for c := range r.V {
				r.V[c] = schemas.NaN()
			}
			row[i] = y(i, s.next)
			r.V[schemas.ColCPU] = row[i]
			s.win[i].Put(&r)
		}
		s.bank.Observe(s.next, row, known())
		for i, k := range s.keys {
			if v := s.win[i].View(); Due(k, v.First, s.next) == s.next {
				if err := s.bank.Refit(i, v, k.Hash()); err != nil {
					s.t.Fatal(err)
				}
			}
		}
		s.next++
	}
}

// loss is the mean pinball loss of the next day's forecasts made every hour for days
// days, played on.
func (s *stage) loss(days int, y func(i int, at schemas.Step) float32, known func() Regressors) float64 {
	var sum, m float64
	d := schemas.NewDist()
	for range days * 24 {
		g := schemas.Grid{Start: s.next}
		s.bank.Forecast(0, g, known(), &d)
		for h := 0; h < day; h += 5 {
			at := g.Start + schemas.Step(h)
			v := float64(y(0, at))
			for l, q := range d.At(g.SlotOf(at)) {
				e := v - float64(q)
				sum += max(e*float64(schemas.Levels[l]), e*float64(schemas.Levels[l]-1))
				m++
			}
		}
		s.play(12, y, known)
	}
	return sum / m
}

func (s *stage) medianAt(i int, known Regressors, at schemas.Step) float64 {
	d := schemas.NewDist()
	g := schemas.Grid{Start: s.next}
	s.bank.Forecast(i, g, known, &d)
	return float64(d.At(g.SlotOf(at))[levels/2])
}

func unknown() Regressors { return Regressors{} }

// noise of a step, the same whenever asked.
func noise(i int, at schemas.Step) float64 {
	return rand.New(rand.NewPCG(uint64(at), uint64(i))).NormFloat64()
}

// daily demand round 100 with a rhythm of +-30 and noise of 5.
func daily(i int, at schemas.Step) float64 {
	return 100 + 30*math.Sin(2*math.Pi*float64(at%day)/day) + 5*noise(i, at)
}

func TestProphetFindsTrendAndRhythm(t *testing.T) {
	y := func(_ int, at schemas.Step) float32 {
		return float32(daily(0, at) + 10*float64(at-first)/day)
	}
	s := newStage(t, 1)
	s.play(6*day, y, unknown)
	d := schemas.NewDist()
	g := schemas.Grid{Start: s.next}
	s.bank.Forecast(0, g, Regressors{}, &d)
	covered := 0
	for h := range day {
		at := g.Start + schemas.Step(h)
		truth := 100 + 30*math.Sin(2*math.Pi*float64(at%day)/day) + 10*float64(at-first)/day
		q := d.At(g.SlotOf(at))
		if e := math.Abs(float64(q[levels/2]) - truth); e > 9 {
			t.Errorf("%d steps ahead: median %.1f, truth %.1f", h, q[levels/2], truth)
		}
		if v := y(0, at); v >= q[2] && v <= q[10] {
			covered++
		}
	}
	if share := float64(covered) / day; share < .72 || share > .96 {
		t.Errorf("the 80 %% band covers %.2f", share)
	}
}

// A level ten times as high is followed within a day and a half, and a bend of the
// trend too.
func TestProphetFollowsALevelShift(t *testing.T) {
	shift := first + 5*day
	y := func(_ int, at schemas.Step) float32 {
		v := daily(0, at)
		if at >= shift {
			v *= 10
		}
		return float32(v)
	}
	s := newStage(t, 1)
	s.play(6*day+day/2, y, unknown)
	for _, h := range []schemas.Step{1, 60, 200} {
		at := s.next + h
		truth := 10 * (100 + 30*math.Sin(2*math.Pi*float64(at%day)/day))
		if m := s.medianAt(0, Regressors{}, at); math.Abs(m-truth) > 350 {
			t.Errorf("%d steps ahead: %.0f, truth %.0f", h, m, truth)
		}
	}
}

// Regressors that make no sense are left out.
func TestBadRegressors(t *testing.T) {
	s := newStage(t, 1)
	inf := float32(math.Inf(1))
	bad := Regressors{From: first - 5, X: [][]float32{{inf, schemas.NaN(), 1}, make([]float32, 9999), nil},
		Of: [][]Term{{{X: 0, Class: 1, Mean: 1}, {X: 1, Class: 2, Numeric: true}, {X: 2, Class: 3}, {X: 77, Class: 4}, {X: -1, Class: 5}, {X: 0, Class: 6}, {X: 0, Class: 7}, {X: 0, Class: 8}}}}
	y := func(i int, at schemas.Step) float32 { return float32(daily(i, at)) }
	s.play(3*day, y, func() Regressors { return bad })
	d := schemas.NewDist()
	s.bank.Forecast(0, schemas.Grid{Start: s.next}, bad, &d)
	for _, q := range d.Q {
		if !(q >= 0 && q < 1000) {
			t.Fatalf("%v", d.Q)
		}
	}
}

// Whatever a counter comes up with, the forecast is finite, sorted and not negative,
// or there is none.
func TestProphetTakesAnything(t *testing.T) {
	odd := []float32{float32(math.Inf(1)), float32(math.Inf(-1)), schemas.NaN(), -5, 1e30, -1e30, 3e38, 1e-38, 0}
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 900).Draw(t, "rows")
		seed := rapid.Uint64().Draw(t, "seed")
		share := rapid.SampledFrom([]float64{0, .01, .5, 1}).Draw(t, "odd")
		scale := rapid.SampledFrom([]float64{1e-20, 1, 1e9, 1e13}).Draw(t, "scale")
		r := rand.New(rand.NewPCG(seed, 1))
		x := make([]float32, n)
		for k := range x {
			x[k] = float32(scale * r.ExpFloat64())
			if r.Float64() < share {
				x[k] = odd[r.IntN(len(odd))]
			}
		}
		p := NewProphet()
		i := p.Add(Key{VM: schemas.VMID{1}})
		w := windowOf(x, first)
		p.Observe(first+schemas.Step(n-1), x[n-1:], Regressors{})
		if err := p.Refit(i, w.View(), 0); err != nil {
			t.Fatal(err)
		}
		d := schemas.NewDist()
		if !p.Expert(i, 0, schemas.Grid{Start: first + schemas.Step(n)}, Regressors{}, &d) {
			return
		}
		for s := range schemas.Slots {
			q := d.At(s)
			if !slices.IsSorted(q) || !(q[0] >= 0) || math.IsInf(float64(q[levels-1]), 0) {
				t.Fatalf("slot %d: %v", s, q)
			}
		}
	})
}

func TestProphetStepQuantiles(t *testing.T) {
	s := newStage(t, 1)
	y := func(i int, at schemas.Step) float32 { return float32(daily(i, at)) }
	dst := make([]float32, 12*levels)
	if s.bank.StepQuantiles(0, s.next, 12, schemas.Levels[:], dst) {
		t.Fatal("knows something before it was told anything")
	}
	s.play(4*day, y, unknown)
	if !s.bank.StepQuantiles(0, s.next, 12, schemas.Levels[:], dst) {
		t.Fatal("nothing")
	}
	d := schemas.NewDist()
	s.bank.Forecast(0, schemas.Grid{Start: s.next}, Regressors{}, &d)
	for k := range 12 { // the first twelve slots are steps
		for l, v := range d.At(k) {
			if math.Abs(float64(v-dst[k*levels+l])) > 1e-3*float64(v) {
				t.Fatalf("step %d level %d: %v and %v", k, l, dst[k*levels+l], v)
			}
		}
	}
}

func TestProphetAllocatesNothing(t *testing.T) {
	c := &campaign{on: func(d schemas.Step) bool { return d%2 == 0 }, expected: .4, lift: .8, class: 7, mean: 1}
	s := newStage(t, 2)
	s.play(4*day, c.demand, c.known(s))
	known := c.known(s)()
	d := schemas.NewDist()
	row := []float32{1, 2}
	w := s.win[0].View()
	step := s.next
	if n := testing.AllocsPerRun(50, func() {
		s.bank.Observe(step, row, known)
		s.bank.Forecast(0, schemas.Grid{Start: step}, known, &d)
		step++
		if err := s.bank.Refit(0, w, 0); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Fatalf("%v allocations", n)
	}
}

func FuzzProphetState(f *testing.F) {
	p := NewProphet()
	p.Add(Key{VM: schemas.VMID{1}})
	f.Add(p.AppendState(nil))
	f.Add([]byte{1, 0, 0, 0, 0, 0, 0, 0, 5})
	f.Fuzz(func(t *testing.T, b []byte) {
		p := NewProphet()
		if err := p.LoadState(b); err != nil {
			return
		}
		if again := p.AppendState(nil); !bytes.Equal(again, b) {
			q := NewProphet()
			if err := q.LoadState(again); err != nil {
				t.Fatalf("what was loaded and written is refused: %v", err)
			}
		}
		d := schemas.NewDist()
		known := Regressors{X: [][]float32{{1}}, Of: [][]Term{{{Class: 1}}}}
		for i := range p.keys {
			p.Forecast(i, schemas.Grid{Start: 10}, known, &d)
		}
		p.Observe(24, nil, known)
	})
}

func benchmarkStage(b *testing.B, events bool) (*stage, Regressors) {
	c := &campaign{on: func(d schemas.Step) bool { return d%2 == 0 }, expected: .4, lift: .8, class: 7, mean: 1}
	s := newStage(b, 1)
	x := make([]float32, window.Rows)
	w := s.win[0]
	for range x {
		r := window.Row{Step: s.next, Coverage: 1}
		for c := range r.V {
			r.V[c] = schemas.NaN()
		}
		r.V[schemas.ColCPU] = c.demand(0, s.next)
		w.Put(&r)
		s.next++
	}
	known := Regressors{}
	if events {
		known = c.known(s)()
	}
	s.bank.Observe(s.next-1, []float32{100}, known)
	if err := s.bank.Refit(0, w.View(), 0); err != nil {
		b.Fatal(err)
	}
	return s, known
}

func BenchmarkProphetRefit(b *testing.B) {
	for name, events := range map[string]bool{"plain": false, "events": true} {
		b.Run(name, func(b *testing.B) {
			s, _ := benchmarkStage(b, events)
			w := s.win[0].View()
			b.ReportAllocs()
			for b.Loop() {
				if err := s.bank.Refit(0, w, 0); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkProphetForecast(b *testing.B) {
	s, known := benchmarkStage(b, true)
	d := schemas.NewDist()
	b.ReportAllocs()
	for b.Loop() {
		s.bank.Forecast(0, schemas.Grid{Start: s.next}, known, &d)
	}
}

func BenchmarkProphetObserve(b *testing.B) {
	p := NewProphet()
	y := make([]float32, 10000)
	for n := range y {
		p.Add(Key{VM: schemas.VMID{byte(n), byte(n >> 8)}})
	}
	step := first
	b.ReportAllocs()
	for b.Loop() {
		p.Observe(step, y, Regressors{})
		step++
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(y)), "ns/value")
}

package model

import (
	"bytes"
	"math"
	"testing"

	"github.com/foreshift/foreshift/forecaster/window"
	"github.com/foreshift/foreshift/schemas"
)

// campaign is an event at 14:00 to 17:00 on the days for which on holds.
type campaign struct {
	on       func(d schemas.Step) bool // day since first
	expected float32
	lift     float64 // what it really does
	class    uint64
	mean     float32
}

func (c *campaign) active(at schemas.Step) bool {
	h := at % day / 12
	return h >= 14 && h < 17 && c.on((at-first)/day)
}

func (c *campaign) demand(i int, at schemas.Step) float32 {
	v := daily(i, at)
	if c.active(at) {
		v *= 1 + c.lift
	}
	return float32(v)
}

// known tells the calendar round a step to so many series.
func (c *campaign) known(s *stage) func() Regressors {
	var r Regressors
	return func() Regressors {
		if from := s.next - window.Rows; len(r.X) == 0 || s.next+day >= r.From+schemas.Step(len(r.X[0])) {
			r = Regressors{From: from, X: [][]float32{make([]float32, window.Rows+3*day)}}
			for k := range r.X[0] {
				if c.active(from + schemas.Step(k)) {
					r.X[0][k] = c.expected
				}
			}
		}
		r.Of = nil
		for range s.keys {
			r.Of = append(r.Of, []Term{{X: 0, Class: c.class, Mean: c.mean}})
		}
		return r
	}
}

// peak of the next campaign, as the bank foresees it a day ahead, without the rhythm.
func (s *stage) foreseen(c *campaign, i int) float64 {
	at := s.next
	for !c.active(at) {
		at++
	}
	at += 18 // the middle
	truth := 100 + 30*math.Sin(2*math.Pi*float64(at%day)/day)
	return s.medianAt(i, c.known(s)(), at)/truth - 1
}

// What only the calendar can tell: before a campaign ever took place the forecast
// rises by what the operator expects, with a wider band; after a few of them by what
// they really do; and without the calendar it does not rise.
func TestACampaignIsForeseenAndLearnt(t *testing.T) {
	c := &campaign{on: func(d schemas.Step) bool { return d >= 8 && d%2 == 0 }, expected: .4, lift: .8, class: 7, mean: 1}
	s := newStage(t, 1)
	s.play(8*day, c.demand, c.known(s))
	if f := s.foreseen(c, 0); f < .3 || f > .5 {
		t.Errorf("before the first campaign %+.0f %% is foreseen, the operator said +40 %%", 100*f)
	}
	if lift := s.bank.Lift(0, s.next+15*12, c.known(s)()); lift < 20 || lift > 50 {
		t.Errorf("of which the calendar adds %v", lift)
	}
	d, plain := schemas.NewDist(), schemas.NewDist()
	g := schemas.Grid{Start: s.next}
	s.bank.Forecast(0, g, c.known(s)(), &d)
	s.bank.Forecast(0, g, Regressors{}, &plain)
	slot := g.SlotOf(g.Start + 15*12 + 6)
	band := func(d schemas.Dist) float32 { return d.At(slot)[10] - d.At(slot)[2] }
	if band(d) < 1.5*band(plain) {
		t.Errorf("the band is %v wide with an event nobody has seen, %v without", band(d), band(plain))
	}
	if m := plain.At(slot)[6]; m > 100 {
		t.Errorf("without the calendar %v is foreseen", m)
	}
	s.play(6*day, c.demand, c.known(s))
	if f := s.foreseen(c, 0); f < .65 || f > .95 {
		t.Errorf("after three campaigns of +80 %% %+.0f %% is foreseen", 100*f)
	}
	b, v, ok := s.bank.Coefficient(0, 7)
	if !ok || b < 1.5 || b > 2.3 || !(v > 0) {
		t.Errorf("coefficient %v +- %v, truth 2", b, math.Sqrt(float64(v)))
	}
}

// A holiday whose effect nobody knows is found out.
func TestAnEffectNobodyExpectedIsLearnt(t *testing.T) {
	c := &campaign{on: func(d schemas.Step) bool { return d%3 == 0 }, expected: 1, lift: -.5, class: 9}
	s := newStage(t, 1)
	s.play(9*day, c.demand, c.known(s))
	if f := s.foreseen(c, 0); f > -.35 || f < -.65 {
		t.Errorf("%+.0f %% is foreseen, truth -50 %%", 100*f)
	}
}

// What was learnt stays when the campaign has left the window, another VM of the
// class profits from it, and it all survives the bank's state.
func TestTheClassRemembers(t *testing.T) {
	c := &campaign{on: func(d schemas.Step) bool { return d == 3 || d == 5 || d == 23 }, expected: .4, lift: 1.2, class: 7, mean: 1}
	s := newStage(t, 2)
	s.play(14*day, c.demand, c.known(s)) // the last campaign will be out of the window
	s.join(2)
	s.play(9*day, c.demand, c.known(s))
	if f := s.foreseen(c, 0); f < .95 || f > 1.4 {
		t.Errorf("%+.0f %% is foreseen from memory, truth +120 %%", 100*f)
	}
	if f := s.foreseen(c, 2); f < .7 || f > 1.4 {
		t.Errorf("%+.0f %% is foreseen for a VM that has seen none, truth +120 %%", 100*f)
	}
	again := NewProphet()
	state := s.bank.AppendState(nil)
	if err := again.LoadState(state); err != nil || !bytes.Equal(again.AppendState(nil), state) {
		t.Fatalf("state: %v", err)
	}
	before := s.foreseen(c, 0)
	s.bank = again
	if after := s.foreseen(c, 0); after != before {
		t.Errorf("after a restart %v instead of %v", after, before)
	}
}

// An entry that is wrong, at times at which nothing happens, costs less than 2 % of
// the loss once it has been seen to be wrong a few times.
func TestAWrongEntryDoesNoHarm(t *testing.T) {
	for _, v := range []struct {
		name       string
		on         func(schemas.Step) bool
		days, over int // played, then scored
	}{
		{"daily", func(d schemas.Step) bool { return true }, 5, 2},
		{"weekly", func(d schemas.Step) bool { return d%7 == 2 }, 16, 1},
	} {
		wrong := &campaign{on: v.on, expected: .4, class: 7, mean: 1}
		with, without := newStage(t, 1), newStage(t, 1)
		quiet := func(i int, at schemas.Step) float32 { return float32(daily(i, at)) }
		known := wrong.known(with)
		with.play(v.days*day, quiet, known)
		without.play(v.days*day, quiet, unknown)
		a, b := with.loss(v.over, quiet, known), without.loss(v.over, quiet, unknown)
		t.Logf("%s: loss %+.2f %%", v.name, 100*(a/b-1))
		if a > 1.02*b {
			t.Errorf("%s: the loss is %.4f with the entry, %.4f without: %+.1f %%", v.name, a, b, 100*(a/b-1))
		}
	}
}

// A numeric series that leads demand is used for the hours it is known for.
func TestAnExternalSeriesIsUsed(t *testing.T) {
	traffic := func(at schemas.Step) float64 { return 1000 + 300*noise(9, at/24) } // changes every two hours
	y := func(i int, at schemas.Step) float32 {
		return float32(daily(i, at) + .1*(traffic(at)-1000))
	}
	run := func(told bool) float64 {
		s := newStage(t, 1)
		known := func() Regressors {
			if !told {
				return Regressors{}
			}
			r := Regressors{From: s.next - window.Rows, X: [][]float32{make([]float32, window.Rows+2*day)}, Of: [][]Term{{{Class: 5, Numeric: true}}}}
			for k := range r.X[0] {
				r.X[0][k] = float32(traffic(r.From + schemas.Step(k)))
			}
			return r
		}
		s.play(7*day, y, unknown)
		s.play(26, y, known) // one refit with it
		return s.loss(1, y, known)
	}
	told, alone := run(true), run(false)
	if told > .5*alone {
		t.Errorf("loss %.3f with the series, %.3f without", told, alone)
	}
}

package model

import (
	"bytes"
	"math"
	"testing"

	"github.com/foreshift/foreshift/schemas"
)

// A ramp that comes every day from another level: the rise is known, whatever today's
// level is.
func TestDailyRiseKnowsTheRamp(t *testing.T) {
	x := make([]float32, 6*day+150)
	for k := range x {
		x[k] = float32(100 + 40*(k/day) + 10*min(max(k%day-140, 0), 40))
	}
	r := NewRises()
	i := r.Add(Key{})
	last := first + schemas.Step(len(x)-1)
	w := windowOf(x, first)
	r.Observe(last, x[len(x)-1:], Regressors{})
	if err := r.Refit(i, w.View(), 0); err != nil {
		t.Fatal(err)
	}
	d := schemas.NewDist()
	g := schemas.Grid{Start: last + 1}
	if !r.Expert(i, DailyRise, g, Regressors{}, &d) {
		t.Fatal("nothing")
	}
	for _, s := range []int{0, 5, 11} {
		want := float64(x[len(x)-1]) + 10*float64(s+1)
		if m := float64(d.At(s)[6]); math.Abs(m-want) > 25 {
			t.Errorf("slot %d: median %v, want about %v", s, m, want)
		}
	}
	b := r.AppendState(nil)
	again := NewRises()
	if err := again.LoadState(b); err != nil || !bytes.Equal(again.AppendState(nil), b) {
		t.Fatalf("state changed on its way: %v", err)
	}
	for n := 0; n < len(b); n += 97 {
		if NewRises().LoadState(b[:n]) == nil {
			t.Fatalf("took %d of %d bytes", n, len(b))
		}
	}
	if n := testing.AllocsPerRun(10, func() {
		for e := range r.Names() {
			r.Expert(i, e, g, Regressors{}, &d)
		}
	}); n > 0 {
		t.Fatalf("%v allocations", n)
	}
}

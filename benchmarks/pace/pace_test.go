package pace

import (
	"context"
	"errors"
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/foreshift/foreshift/placer/search"
)

// walk is a walk to the lowest of a row of numbers; each try takes time.
type walk struct {
	height   []float64
	at, kept int
	clock    float64
	slow     float64
}

func newWalk(n int, slow float64) *walk {
	w := &walk{slow: slow}
	r := rand.New(rand.NewPCG(1, 2))
	for range n {
		w.height = append(w.height, r.Float64())
	}
	return w
}

func (w *walk) Try(r *rand.Rand, limit float64) (float64, bool) {
	w.clock += w.slow
	to := (w.at + len(w.height) + 2*r.IntN(2) - 1) % len(w.height)
	d := w.height[to] - w.height[w.at]
	if d > limit {
		return 0, false
	}
	w.at = to
	return d, true
}

func (w *walk) Keep()    { w.kept = w.at }
func (w *walk) Restore() { w.at = w.kept }

var schedule = search.Schedule{Start: .5, End: .01}

// The time is used, not exceeded, and its log repeats the search without a clock.
func TestUsesTheTime(t *testing.T) {
	w := newWalk(1000, 1e-6)
	plan := Plan{Seconds: .5, CPU: func() float64 { return w.clock }, First: 5000, Shares: []float64{.5, 1}}
	log, err := Anneal(context.Background(), w, 9, plan, schedule)
	if err != nil {
		t.Fatal(err)
	}
	if w.clock < .48 || w.clock > .5 || len(log.Legs) != 1+2*Legs {
		t.Fatalf("used %g of .5 s in %d legs", w.clock, len(log.Legs))
	}
	again := newWalk(1000, 1)
	same, err := Anneal(context.Background(), again, 9, Plan{Shares: plan.Shares, Repeat: &log}, schedule)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(same, log) || again.at != w.at {
		t.Errorf("repeated: at %d with %d evaluations, first at %d with %d", again.at, same.Used, w.at, log.Used)
	}
}

// A machine that becomes slower cuts a leg; the log repeats the cut.
func TestCutIsRepeated(t *testing.T) {
	w := newWalk(1000, 1e-7)
	calls := 0
	plan := Plan{Seconds: .5, First: 50000, Shares: []float64{1}, CPU: func() float64 {
		if calls++; calls == 100 {
			w.slow *= 10000
		}
		return w.clock
	}}
	log, err := Anneal(context.Background(), w, 9, plan, schedule)
	if err != nil {
		t.Fatal(err)
	}
	sum := 0
	for _, n := range log.Legs {
		sum += n
	}
	if log.Used >= sum {
		t.Fatalf("used %d of %d: nothing was cut", log.Used, sum)
	}
	again := newWalk(1000, 0)
	same, err := Anneal(context.Background(), again, 9, Plan{Shares: plan.Shares, Repeat: &log}, schedule)
	if err != nil {
		t.Fatal(err)
	}
	if same.Used != log.Used || again.at != w.at {
		t.Errorf("repeated: at %d with %d evaluations, first at %d with %d", again.at, same.Used, w.at, log.Used)
	}
}

func TestRefusesAndEnds(t *testing.T) {
	for _, p := range []Plan{{}, {Seconds: 1, First: 1}, {CPU: func() float64 { return 0 }, First: 1}, {Seconds: 1, CPU: func() float64 { return 0 }}} {
		if _, err := Anneal(context.Background(), newWalk(3, 1), 1, p, schedule); err == nil {
			t.Errorf("%+v was taken", p)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	w := newWalk(10, 1e-6)
	log, err := Anneal(ctx, w, 1, Plan{Seconds: 1, CPU: func() float64 { return w.clock }, First: 100000, Shares: []float64{1}}, schedule)
	if !errors.Is(err, context.Canceled) || log.Used > 2*pollEvery {
		t.Errorf("cancelled: %v after %d evaluations", err, log.Used)
	}
}

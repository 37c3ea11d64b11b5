package pressure

import (
	"bytes"
	"context"
	"math"
	"strings"
	"testing"

	"github.com/foreshift/foreshift/benchmarks/trace"
)

// A VM that exceeds every evening is told from one that never does.
func TestEveningsAreForeseen(t *testing.T) {
	series := []trace.Series{{ID: "calm"}, {ID: "evenings"}}
	for v := range series {
		y := make([]float32, 20*day)
		for k := range y {
			y[k] = 20
			if v == 1 && k%day >= 240 && k%day < 264 {
				y[k] = 95
			}
		}
		series[v].Y = y
	}
	var out bytes.Buffer
	r, err := Run(context.Background(), series, Options{Limit: 80, Out: &out})
	if err != nil {
		t.Fatal(err)
	}
	if s := r.Horizons[1].Onset; s.AP < .9 || s.BSS < .5 || s.Events == 0 {
		t.Fatalf("%+v", s)
	}
	if n, want := strings.Count(out.String(), "\n"), 1+r.Horizons[0].All.N+r.Horizons[1].All.N+r.Horizons[2].All.N; n != want {
		t.Fatalf("%d lines, want %d", n, want)
	}
	if d := Diagram(r, "a<b"); !bytes.Contains(d, []byte("Chance that a&lt;b exceeds 80")) || bytes.Count(d, []byte("off by")) != 6 {
		t.Fatalf("%s", d)
	}
}

// Against figures worked out by hand.
func TestScores(t *testing.T) {
	rows := []said{{vm: 0, p: .9, hit: true}, {vm: 0, p: .6}, {vm: 1, p: .4, hit: true, onset: true}, {vm: 1, p: .1, onset: true}}
	s := score(rows, 2, false)
	for name, c := range map[string][2]float64{
		"brier": {s.Brier, (.01 + .36 + .36 + .01) / 4}, "bss": {s.BSS, 1 - .185/.25}, "ap": {s.AP, .5*1 + .5*2/3},
		"ece": {s.ECE, (.1 + .6 + .6 + .1) / 4},
	} {
		if math.Abs(c[0]-c[1]) > 1e-9 {
			t.Errorf("%s is %v, want %v", name, c[0], c[1])
		}
	}
	if o := score(rows, 2, true); o.N != 2 || o.Events != 1 {
		t.Fatalf("%+v", o)
	}
}

// Alarms are counted by hand: two VMs, a week, so a budget of two.
func TestAlarms(t *testing.T) {
	rows := []said{
		{vm: 0, origin: 0, p: .9, hit: true, ahead: 2, onset: true},   // right, but only 10 minutes ahead
		{vm: 0, origin: 12, p: .8, hit: true, ahead: 30, onset: true}, // too soon after the first
		{vm: 1, origin: 24, p: .7, hit: true, ahead: 40, onset: true}, // right
		{vm: 1, origin: 900, p: .6, onset: true},                      // beyond the budget
		{vm: 1, origin: 400, p: .95, hit: true},                       // not calm
	}
	a := alarms(rows, [][]int{{2, 42}, {64, 700}}, 72, 7*day)
	if a.Given != 2 || a.AtP != .7 || len(a.Lead) != 2 {
		t.Fatalf("%+v", a)
	}
	// At 15 minutes: one alarm of two; of four beginnings, those at 42 and 64.
	if l := a.Lead[0]; l.Steps != 3 || l.Precision != .5 || l.Recall != .5 {
		t.Errorf("%+v", l)
	}
	if l := a.Lead[1]; l.Steps != 12 || l.Precision != .5 || l.Recall != .5 {
		t.Errorf("%+v", l)
	}
}

// A few days are enough to say something, and a horizon that never ends is left empty.
func TestShortFiles(t *testing.T) {
	for _, days := range []int{1, 2, 3} {
		series := []trace.Series{{ID: "short", Y: make([]float32, days*day)}}
		for k := range series[0].Y {
			series[0].Y[k] = float32(k * 37 % 100)
		}
		r, err := Run(context.Background(), series, Options{Limit: 60})
		if (err != nil) != (days == 1) {
			t.Fatalf("%d days: %v", days, err)
		}
		if days > 1 && r.Horizons[0].All.N == 0 {
			t.Fatalf("%d days: %+v", days, r)
		}
	}
}

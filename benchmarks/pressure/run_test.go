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
	if d := Diagram(r, "a<b"); !bytes.Contains(d, []byte("a&lt;b &gt; 80")) || !bytes.HasSuffix(d, []byte("</svg>\n")) {
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

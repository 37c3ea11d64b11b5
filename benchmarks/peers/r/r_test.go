package r

import (
	"context"
	"errors"
	"math"
	"strings"
	"testing"
	"time"
)

func TestParse(t *testing.T) {
	const q = ",1,2,3,4,5,6,7,8,9\n"
	for _, c := range []struct{ in, say string }{
		{"T,a,0.5,ok,\nQ,a,1" + q + "Q,a,2" + q + "T,b,1,fail,no\n", ""},
		{"T,a,0.5,ok,\nQ,a,1" + q, "1 steps, want 2"},
		{"Q,a,1" + q, "neither"},
		{"T,a,x,ok,\n", "CPU"},
		{"T,a,1,ok,\nQ,a,1,NA,2,3,4,5,6,7,8,9\n", `quantile "NA"`},
		{"T,a\n", "neither"},
	} {
		got, err := Parse(strings.NewReader(c.in), 2)
		switch {
		case c.say != "" && (err == nil || !strings.Contains(err.Error(), c.say)):
			t.Errorf("%q: %v, want it to say %q", c.in, err, c.say)
		case c.say == "" && (err != nil || got["a"].CPU != .5 || got["a"].Q[1][8] != 9 || !strings.Contains(got["b"].Reason, "no") || got["b"].Q != nil):
			t.Errorf("%q: %+v %v", c.in, got, err)
		}
	}
}

// A method of R follows a daily wave, and says so when a series is beyond it.
func TestRuns(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	if err := Check(ctx); errors.Is(err, ErrMissing) {
		t.Skip(err)
	} else if err != nil {
		t.Fatal(err)
	}
	const season = 24
	s := Series{Name: "wave"}
	for k := range 10 * season {
		s.Y = append(s.Y, float32(50+40*math.Sin(2*math.Pi*float64(k)/season)+float64(k*7919%11)/10))
	}
	got, err := Run(ctx, "stlf+ets", []Series{s, {Name: "short", Y: []float32{1, 2}}}, season, season, 20)
	if err != nil {
		t.Fatal(err)
	}
	if got["short"].Reason == "" {
		t.Error("two values are enough for it?")
	}
	for h, q := range got["wave"].Q {
		want := 50 + 40*math.Sin(2*math.Pi*float64(h)/season)
		if math.Abs(float64(q[4])-want) > 5 || q[0] > q[8] {
			t.Fatalf("step %d: %v, want about %.1f", h, q, want)
		}
	}
	if _, err := Run(ctx, "crystal ball", []Series{s}, season, season, 20); err == nil || !strings.Contains(err.Error(), "no method") {
		t.Errorf("%v", err)
	}
}

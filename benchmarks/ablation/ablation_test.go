package ablation

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/foreshift/foreshift/benchmarks/forecast"
	"github.com/foreshift/foreshift/benchmarks/trace"
)

func waves(n, days int) (out []trace.Series) {
	for v := range n {
		s := trace.Series{ID: fmt.Sprint(v), Y: make([]float32, days*day)}
		for t := range s.Y {
			s.Y[t] = float32(50 + 40*math.Sin(2*math.Pi*float64(t+20*v)/day) + float64((t*7919+v)%13))
		}
		out = append(out, s)
	}
	return out
}

// Every part has a row, scored on the same forecasts; the calendar is worth something.
func TestRun(t *testing.T) {
	res, err := Run(t.Context(), waves(2, 3), forecast.Options{Windows: 1, Horizon: 36}, []string{"lstm", "tracking"})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, r := range res.Rows {
		names = append(names, r.Without)
		if r.Scores.Forecasts != 2 || !(r.Scores.RelClip > 0) {
			t.Errorf("%q: %+v", r.Without, r.Scores)
		}
	}
	if !slices.Equal(names, []string{"", "lstm", "tracking"}) {
		t.Errorf("%v", names)
	}
	if p := res.Pairs[0]; p.Part != "calendar" || !(p.With > 0) || p.With > .8*p.Without {
		t.Errorf("the calendar: %+v", p)
	}
	if _, err := Run(t.Context(), waves(1, 3), forecast.Options{Windows: 1}, []string{"luck"}); err == nil || !strings.Contains(err.Error(), `no part "luck"`) {
		t.Errorf("%v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Run(ctx, waves(1, 3), forecast.Options{Windows: 1}, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

package forecast

import (
	"context"
	"math"
	"strings"
	"testing"

	"github.com/foreshift/foreshift/benchmarks/trace"
)

// naive is the seasonal naive with its normal errors, from outside.
func naive(all []Context, horizon int) map[string]Said {
	out := map[string]Said{}
	for _, c := range all {
		p := pastOf(c.Y, 100)
		q := make([][9]float32, horizon)
		for h := range q {
			var one quantiles
			p.step(h, &one)
			q[h] = one
		}
		out[c.Name] = Said{Q: q, CPU: .5}
	}
	return out
}

// What is as good as the seasonal naive is scored as such; a failure counts as it.
func TestJudge(t *testing.T) {
	series, opt := waves(4, 9), Options{Windows: 1}
	for _, failing := range []bool{false, true} {
		s, err := Judge(t.Context(), series, opt, func(_ context.Context, all []Context) (map[string]Said, error) {
			out := naive(all, season)
			if failing {
				out[all[0].Name] = Said{CPU: .5}
			}
			return out, nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if math.Abs(s.Rel-1) > 1e-6 || s.Forecasts != 4 || s.ColdCPU != .5 || (s.Failed == 1) != failing {
			t.Errorf("failing %v: %+v", failing, s)
		}
	}
	for _, c := range []struct {
		said func([]Context) map[string]Said
		say  string
	}{
		{func([]Context) map[string]Said { return nil }, "nothing is said"},
		{func(all []Context) map[string]Said { return naive(all, 3) }, "3 steps"},
	} {
		if _, err := Judge(t.Context(), series, opt, func(_ context.Context, all []Context) (map[string]Said, error) { return c.said(all), nil }); err == nil || !strings.Contains(err.Error(), c.say) {
			t.Errorf("%v, want it to say %q", err, c.say)
		}
	}
}

// Missing values: the last one counts in contexts, targets are not scored. A constant
// series has no MASE, but a pooled CRPS.
func TestMissingAndConstant(t *testing.T) {
	nan := float32(math.NaN())
	if got := contextOf([]float32{nan, 1, nan, 3}); len(got) != 3 || got[1] != 1 || got[2] != 3 {
		t.Errorf("%v", got)
	}
	series := waves(1, 3)
	for k := range 40 {
		series[0].Y[season+100+k] = nan
		series[0].Y[2*season+5*k] = nan
	}
	flat := trace.Series{ID: "flat", Y: make([]float32, 3*season)}
	for k := range flat.Y {
		flat.Y[k] = 7
	}
	r, err := Run(t.Context(), append(series, flat), Options{Models: []string{"empirical"}, Windows: 1})
	if err != nil {
		t.Fatal(err)
	}
	s := r.Scores["empirical"]
	if s.Series != 2 || s.Relative != 1 || s.Forecasts != 2 || !(s.MASE > 0) || !(s.CRPS > 0) {
		t.Errorf("%+v", s)
	}
	if r, err = Run(t.Context(), []trace.Series{flat}, Options{Models: []string{"empirical"}, Windows: 1}); err != nil {
		t.Fatal(err)
	}
	if s = r.Scores["empirical"]; s.Series != 1 || s.Relative != 0 || s.CRPS > .001 || s.MASE != 0 {
		t.Errorf("a constant: %+v", s)
	}
}

// From cold and from a walk the same models see the same past.
func TestCold(t *testing.T) {
	r, err := Run(t.Context(), waves(3, 4), Options{Models: []string{"ets", "arima", "prophet"}, Windows: 2, Horizon: 144, Cold: true})
	if err != nil {
		t.Fatal(err)
	}
	for name, s := range r.Scores {
		if s.Forecasts != 6 || s.Withheld > 0 || !(s.ColdCPU > 0) || s.Rel > 1.2 {
			t.Errorf("%s: %+v", name, s)
		}
	}
}

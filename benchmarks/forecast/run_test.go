package forecast

import (
	"bytes"
	"context"
	"math"
	"strings"
	"testing"

	"github.com/foreshift/foreshift/benchmarks/trace"
)

func waves(n, days int) (out []trace.Series) {
	for v := range n {
		s := trace.Series{ID: string(rune('a' + v)), Y: make([]float32, days*season)}
		for t := range s.Y {
			s.Y[t] = float32(50 + 40*math.Sin(2*math.Pi*float64(t+20*v)/season) + float64((t*7919+v)%13))
		}
		out = append(out, s)
	}
	return out
}

// The same figures and forecasts whatever the number of workers.
func TestWorkersDoNotMatter(t *testing.T) {
	series := waves(5, 3)
	var text [2]bytes.Buffer
	var got [2]Scores
	for k, workers := range []int{1, 4} {
		r, err := Run(context.Background(), series, Options{Models: []string{"auto-arima"}, Workers: workers, Windows: 1, Horizon: 36, Out: &text[k]})
		if err != nil {
			t.Fatal(err)
		}
		s := r.Scores["auto-arima"]
		s.ForecastCPU, s.FitCPU, s.CPU, s.WalkCPU = 0, 0, 0, 0
		got[k] = s
	}
	if got[0] != got[1] || !bytes.Equal(text[0].Bytes(), text[1].Bytes()) {
		t.Fatalf("%+v\n%+v", got[0], got[1])
	}
	if n := strings.Count(text[0].String(), "\n"); n != 1+5*36 {
		t.Fatalf("%d lines", n)
	}
	if got[0].MASE > 1.5 || got[0].Forecasts != 5 {
		t.Fatalf("%+v", got[0])
	}
}

// The seasonal naive is as good as itself, and what comes after an origin is not seen.
func TestNothingIsSeenBeforeItsTime(t *testing.T) {
	series := waves(1, 9)
	run := func() string {
		var b bytes.Buffer
		if _, err := Run(context.Background(), series, Options{Models: []string{"empirical"}, Windows: 1, Out: &b}); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	before := run()
	for t := 8 * season; t < 9*season; t++ {
		series[0].Y[t] = 9999
	}
	if run() != before {
		t.Fatal("the forecast depends on the test part")
	}
}

func TestRefuses(t *testing.T) {
	for _, c := range []struct {
		opt  Options
		want string
	}{
		{Options{Horizon: -1}, "horizon"},
		{Options{Models: []string{"oracle"}}, `no model "oracle"`},
		{Options{Models: []string{"empirical", "rises"}, Out: &bytes.Buffer{}}, "name one"},
		{Options{Models: []string{"rises"}}, "long enough"},
	} {
		if _, err := Run(context.Background(), waves(1, 3), c.opt); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v", c.opt, err)
		}
	}
}

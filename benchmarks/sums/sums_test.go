package sums

import (
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"github.com/foreshift/foreshift/benchmarks/trace"
)

func TestQuantile(t *testing.T) {
	p := []point{{3, 1}, {1, 1}, {2, 2}}
	for _, c := range []struct{ level, want float64 }{{0, 1}, {.125, 1}, {.5, 2}, {.6875, 2.5}, {.875, 3}, {1, 3}} {
		if got := quantile(p, c.level); math.Abs(got-c.want) > 1e-12 {
			t.Errorf("%v: %v, want %v", c.level, got, c.want)
		}
	}
}

func TestTotal(t *testing.T) {
	nan := float32(math.NaN())
	series := []trace.Series{{Start: 0, Y: []float32{1, nan, 3}}, {Start: 1, Y: []float32{10, 20, 30}}}
	if got, want := total(series, clock{0, 4, nil}, []int{0, 1}), []float64{1, 11, 23, 30}; !reflect.DeepEqual(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

// VMs that burst together: joint scenarios know it, independent sums do not; and the
// figures are the same whatever the number of workers.
func TestJointBurstsAreSeen(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 7))
	const n = 9*day + 8*hour
	burst := make([]float64, n)
	for at := 0; at < n; {
		for k := range min(6, n-at) {
			burst[at+k] = 60
		}
		at += 20 + rng.IntN(60)
	}
	series := make([]trace.Series, 12)
	for v := range series {
		series[v] = trace.Series{ID: fmt.Sprint(v), Y: make([]float32, n)}
		for at := range n {
			series[v].Y[at] = float32(20 + burst[at] + 4*rng.NormFloat64())
		}
	}
	opt := Options{Groups: 4, Least: 10, Most: 12, Model: "empirical", Workers: 1}
	got, err := Run(t.Context(), series, opt)
	if err != nil {
		t.Fatal(err)
	}
	joint, alone := got.Scores["scenarios"]["all"][0], got.Scores["independent"]["all"][0]
	if joint.Loss > .95*alone.Loss {
		t.Errorf("loss of the joint p90 %.2f, of the independent one %.2f", joint.Loss, alone.Loss)
	}
	for _, s := range got.Scores["past day"]["all"] {
		if !(s.Loss > 0) || s.Cover < .5 || s.Cover > 1 {
			t.Errorf("past day: %+v", s)
		}
	}
	opt.Workers = 3
	again, err := Run(t.Context(), series, opt)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, again) {
		t.Error("the number of workers changes the figures")
	}
}

func TestRefuses(t *testing.T) {
	short := []trace.Series{{ID: "a", Y: make([]float32, 3*day)}}
	for _, c := range []struct {
		opt Options
		say string
	}{{Options{}, "8 days and a day after"}, {Options{Groups: -1}, "at least one group"}, {Options{Least: 5, Most: 2}, "at least one group"}} {
		if _, err := Run(t.Context(), short, c.opt); err == nil || !strings.Contains(err.Error(), c.say) {
			t.Errorf("%+v: %v", c.opt, err)
		}
	}
}

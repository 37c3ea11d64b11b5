package forecastaware_test

import (
	"context"
	"errors"
	"io"
	"syscall"
	"testing"

	"github.com/foreshift/foreshift/benchmarks/forecastaware"
	"github.com/foreshift/foreshift/benchmarks/peers/cbc"
)

// BenchmarkFamily holds the search against the solver on instances of
// [forecastaware.Family] in three sizes:
//
//	go test -run - -bench Family -benchtime 1x -timeout 30m ./benchmarks/forecastaware
//
// Figures: the objective that the search reached and that of the solver (absent when
// it found nothing), what the solver and the search themselves proved to be below
// every answer, and how far above the better of the two the search is. Times are
// CPU-seconds: the search has five, the solver sixty.
func BenchmarkFamily(b *testing.B) {
	for _, size := range []struct {
		name string
		forecastaware.Family
	}{
		{"small", forecastaware.Family{Sites: 2, Hosts: 4, VMs: 8, Slots: 12, K: 8, Load: .55, Skew: .6, Link: .06, Seed: 1}},
		{"middle", forecastaware.Family{Sites: 2, Hosts: 10, VMs: 10, Slots: 24, K: 16, Load: .55, Skew: .6, Link: .06, Seed: 1}},
		{"large", forecastaware.DefaultFamily(1)},
	} {
		b.Run(size.name, func(b *testing.B) { against(b, size.Family) })
	}
}

func against(b *testing.B, f forecastaware.Family) {
	in, err := f.Generate()
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		start := used(b)
		moves, ours, err := forecastaware.Search(context.Background(), in, forecastaware.Options{
			CPUSeconds: 5, CPU: func() float64 { return used(b) - start }, Seed: 1,
		})
		if err != nil {
			b.Fatal(err)
		}
		cost, err := forecastaware.Check(in, moves)
		if err != nil {
			b.Fatal(err)
		}
		r, err := cbc.Solve(context.Background(), func(w io.Writer) error { return forecastaware.WriteLP(w, in) }, 60)
		if errors.Is(err, cbc.ErrMissing) {
			b.Skip(err)
		}
		if err != nil {
			b.Fatal(err)
		}
		bound := max(r.Bound, ours.LowerBound)
		b.ReportMetric(cost, "objective")
		b.ReportMetric(ours.Initial, "initial")
		b.ReportMetric(float64(ours.Moves), "moves")
		b.ReportMetric(ours.EvaluationsPerCPUSecond, "evaluations/CPU-s")
		b.ReportMetric(ours.LowerBound, "own-bound")
		b.ReportMetric(r.Bound, "cbc-bound")
		b.ReportMetric(r.Seconds, "cbc-CPU-s")
		b.ReportMetric(100*(cost/bound-1), "%-above-bound")
		if r.Found {
			b.ReportMetric(r.Objective, "cbc-objective")
		}
		if r.Optimal && cost > r.Objective*(1+1e-6) {
			b.Logf("the optimum is %g, the search ends at %g", r.Objective, cost)
		}
		if cost < bound*(1-1e-6) {
			b.Errorf("the search reaches %g, below the bound %g: one of them is wrong", cost, bound)
		}
	}
}

// used is the CPU time of this process, without that of the solver, in seconds.
func used(b *testing.B) float64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return float64(u.Utime.Sec+u.Stime.Sec) + float64(u.Utime.Usec+u.Stime.Usec)/1e6
}

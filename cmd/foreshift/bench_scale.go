package main

import (
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/foreshift/foreshift/benchmarks/scale"
	"github.com/foreshift/foreshift/internal/chart"
	"github.com/spf13/cobra"
)

// scaleFlags are those of the benches that run forecasters as processes.
type scaleFlags struct {
	scale.Options
	out traceFlags
}

func (s *scaleFlags) flags(c *cobra.Command, vms int) {
	f := c.Flags()
	f.IntVar(&s.VMs, "vms", vms, "`number` of VMs")
	f.IntVar(&s.Hosts, "hosts", 0, "`number` of hosts (default: one for 50 VMs)")
	f.DurationVar(&s.Base, "base-step", 30*time.Second, "length of a base step")
	f.DurationVar(&s.Interval, "interval", 10*time.Second, "between two samples of an agent")
	f.IntVar(&s.History, "history", 48, "`steps` of history to begin with; 2304 is all that a window holds")
	f.BoolVar(&s.out.json, "json", false, "print one JSON object on the last line")
	f.StringVar(&s.out.record, "record", "", "append the figures as a line of JSON to this `file`")
}

// ready completes the options.
func (s *scaleFlags) ready(c *cobra.Command) error {
	if s.Hosts == 0 {
		s.Hosts = max(1, s.VMs/50)
	}
	var err error
	if s.Binary, err = os.Executable(); err != nil {
		return err
	}
	s.Say = func(format string, args ...any) { fmt.Fprintf(c.ErrOrStderr(), format+"\n", args...) }
	if err := s.Validate(); err != nil {
		return usageError{err}
	}
	return nil
}

// end prints a result; a history that is not whole is an error.
func (s *scaleFlags) end(c *cobra.Command, res any, samples scale.Samples, lines ...string) error {
	if err := s.out.keep(c, res); err != nil {
		return err
	}
	if !s.out.json {
		for _, l := range append(lines, samplesLine(samples)) {
			fmt.Fprintln(c.OutOrStdout(), l)
		}
	} else if err := lastLine(c.OutOrStdout(), res); err != nil {
		return err
	}
	return samples.Err()
}

func samplesLine(s scale.Samples) string {
	return fmt.Sprintf("history: %d VM-steps of %d steps: %d missing, %d incomplete, %d with a wrong mean, %d doubles (%d revisions)", s.Rows, s.Steps, s.Missing, s.Lost, s.Wrong, s.Doubles, s.Revisions)
}

func benchScale() *cobra.Command {
	var o scaleFlags
	var spread []int
	var share float64
	var steps int
	var plot string
	c := &cobra.Command{
		Use: "scale --vms V", Short: "Kill, add and stop forecasters under load, and measure what became of the partitions", Args: cobra.NoArgs,
		Long: `Starts a bus, a synthetic fleet that reports to it, and three forecasters as processes;
kills one with SIGKILL, adds one, stops one in good order; and prints how long partitions
went without a forecast, how long their windows took to refill, and whether every sample
is in the history once.

With --instances 2,4 it measures instead how far the slowest partition lags behind its
step with so many forecasters, each held to --share of a core.`,
		Example:     "foreshift bench scale --vms 10000 --json\nforeshift bench scale --vms 2000 --instances 2,4 --plot lag.svg",
		Annotations: map[string]string{notRun: "minutes long"}}
	c.RunE = func(c *cobra.Command, _ []string) error {
		if err := o.ready(c); err != nil {
			return err
		}
		if len(spread) == 0 {
			t, err := scale.RunTakeover(c.Context(), o.Options)
			if err != nil {
				return err
			}
			return o.end(c, t, t.Samples, fmt.Sprintf("kill -9 of one of three: %d partitions, forecast again after %.1f s (the first %.1f s), windows full after %.1f s", t.Orphans, t.AgainS, t.FirstS, t.RefilledS),
				fmt.Sprintf("join: %.1f s from its start, no partition without an owner for more than %.2f s; leave: %.1f s", t.JoinReadyS, t.JoinGapS, t.LeaveS))
		}
		if share <= 0 || share > 1 || !slices.IsSorted(spread) || spread[0] < 1 {
			return usageError{fmt.Errorf("--share %v must be within 0..1, --instances must rise", share)}
		}
		s, err := scale.RunSpread(c.Context(), o.Options, share, steps, spread...)
		if err != nil {
			return err
		}
		if plot != "" {
			if err := plotSpread(plot, s, spread); err != nil {
				return err
			}
		}
		var lines []string
		for _, n := range spread {
			lines = append(lines, fmt.Sprintf("%d instances: slowest partition %.1f s after its step, median %.1f s", n, s.By[n].Slowest, s.By[n].Median))
		}
		return o.end(c, s, s.Sample, lines...)
	}
	o.flags(c, 2000)
	f := c.Flags()
	f.IntSliceVar(&spread, "instances", nil, "measure the lag with these `numbers` of forecasters")
	f.Float64Var(&share, "share", .25, "of a core that each forecaster may use, with --instances")
	f.IntVar(&steps, "steps", 4, "`steps` measured with each number of forecasters")
	f.StringVar(&plot, "plot", "", "draw the lag by number of forecasters into this `file`")
	return c
}

func plotSpread(path string, s *scale.Spread, spread []int) error {
	slow, mid := chart.Series{Name: "slowest partition"}, chart.Series{Name: "median partition"}
	for _, n := range spread {
		slow.X, slow.Y = append(slow.X, float64(n)), append(slow.Y, s.By[n].Slowest)
		mid.X, mid.Y = append(mid.X, float64(n)), append(mid.Y, s.By[n].Median)
	}
	svg := chart.Line(chart.Figure{Title: fmt.Sprintf("Lag of forecasts of %d VMs", s.VMs), Desc: "Seconds from the end of a step until a partition is forecast, by number of forecasters, each held to a share of a core.",
		X: chart.Axis{Label: "forecasters"}, Y: chart.Axis{Label: "s after the step"}}, []chart.Series{slow, mid})
	return os.WriteFile(path, svg, 0o644)
}

package main

import (
	"fmt"
	"time"

	"github.com/foreshift/foreshift/benchmarks/scale"
	"github.com/spf13/cobra"
)

func benchSoak() *cobra.Command {
	var o scaleFlags
	var minutes float64
	var every time.Duration
	var seed uint64
	c := &cobra.Command{Use: "soak --minutes N", Short: "Run forecasters and placers for long with a fault every minute, and watch memory and history", Args: cobra.NoArgs,
		Long: `Three forecasters share a synthetic fleet and two placers plan for it; every minute one of
two forecasters or the second placer is killed and started again, or stopped for longer
than its lease. The first of each is watched: printed are the slopes of its memory and its
goroutines over the second half, and whether every sample is in the history once.`}
	c.RunE = func(c *cobra.Command, _ []string) error {
		if err := o.ready(c); err != nil {
			return err
		}
		if minutes <= 0 || every < 10*time.Second {
			return usageError{fmt.Errorf("--minutes %v must be above 0, --every %v at least 10s", minutes, every)}
		}
		s, err := scale.RunSoak(c.Context(), o.Options, time.Duration(minutes*float64(time.Minute)), every, seed)
		if err != nil {
			return err
		}
		line := func(name string, w scale.Watched) string {
			return fmt.Sprintf("%s: memory %.0f MB, slope %+.1f %% an hour; goroutines %.0f, slope %+.1f an hour; %.2f cores", name, w.RSS/1e6, 100*w.RSSSlope, w.Goroutines, w.GoSlope, w.CPU)
		}
		return o.end(c, s, s.Samples, fmt.Sprintf("%d faults in %.0f minutes", s.Faults, s.Minutes), line("forecaster", s.Watched), line("placer", s.Placer))
	}
	o.flags(c, 1000)
	f := c.Flags()
	f.Float64Var(&minutes, "minutes", 60, "length of the run")
	f.DurationVar(&every, "every", time.Minute, "between two faults")
	f.Uint64Var(&seed, "seed", 1, "seed of the faults")
	return c
}

func benchLatency() *cobra.Command {
	var o scaleFlags
	var instances, steps int
	c := &cobra.Command{Use: "latency --vms V", Short: "Measure how long after a step's last sample the fleet is told of pressure", Args: cobra.NoArgs,
		Long: `Runs forecasters on a synthetic fleet and prints, by the stream's own time, how long after
the end of a step each VM's forecast and pressure are stored: half of them, and 99 %. The
grace in which a step waits for late samples is part of it.`}
	c.RunE = func(c *cobra.Command, _ []string) error {
		if err := o.ready(c); err != nil {
			return err
		}
		if instances < 1 || instances > 16 || steps < 1 || steps > 100 {
			return usageError{fmt.Errorf("--instances %d must be 1..16, --steps %d 1..100", instances, steps)}
		}
		l, err := scale.RunLatency(c.Context(), o.Options, instances, steps)
		if err != nil {
			return err
		}
		return o.end(c, l, l.Samples, fmt.Sprintf("sample to forecast: half within %.2f s, 99 %% within %.2f s (%d); to pressure: %.2f s and %.2f s (%d); of it %.1f s grace", l.ForecastP[0], l.ForecastP[1], l.Forecasts, l.PressureP[0], l.PressureP[1], l.Pressures, l.GraceS))
	}
	o.flags(c, 1000)
	f := c.Flags()
	f.IntVar(&instances, "instances", 1, "`number` of forecasters")
	f.IntVar(&steps, "steps", 5, "`steps` to measure")
	return c
}

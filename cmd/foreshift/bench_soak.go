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
	var sizes []int
	var plot string
	c := &cobra.Command{Use: "latency --vms V", Short: "Measure how long after a step's last sample the fleet is told of pressure", Args: cobra.NoArgs,
		Long: `Runs forecasters on a synthetic fleet and prints, by the stream's own time, how long after
the end of a step each VM's forecast and pressure are stored: half of them, and 99 %. The
grace in which a step waits for late samples is part of it.

With --sizes 1000,2000,5000 it measures one forecaster with fleets of these sizes, one
after the other, and fits how CPU time and memory a step grow.`}
	c.RunE = func(c *cobra.Command, _ []string) error {
		if err := o.ready(c); err != nil {
			return err
		}
		if instances < 1 || instances > 16 || steps < 1 || steps > 100 {
			return usageError{fmt.Errorf("--instances %d must be 1..16, --steps %d 1..100", instances, steps)}
		}
		if len(sizes) > 0 {
			if !slices.IsSorted(sizes) || sizes[0] < 1 || len(sizes) < 2 {
				return usageError{fmt.Errorf("--sizes %v: want two or more that rise", sizes)}
			}
			k, err := scale.RunCost(c.Context(), o.Options, sizes, steps)
			if err != nil {
				return err
			}
			if plot != "" {
				if err := plotCost(plot, k); err != nil {
					return err
				}
			}
			last := k.Runs[len(k.Runs)-1]
			return o.end(c, k, last.Samples, fmt.Sprintf("CPU a step grows with VMs^%.2f, memory with VMs^%.2f", k.CPU, k.RSS))
		}
		l, err := scale.RunLatency(c.Context(), o.Options, instances, steps)
		if err != nil {
			return err
		}
		return o.end(c, l, l.Samples, fmt.Sprintf("%.1f CPU-s a step (%+.1f %% an hour), %.0f MB (%+.1f %% an hour)", l.CPU, 100*l.CPUSlope, l.RSS/1e6, 100*l.RSSSlope), fmt.Sprintf("sample to forecast: half within %.2f s, 99 %% within %.2f s (%d); to pressure: %.2f s and %.2f s (%d); of it %.1f s grace", l.ForecastP[0], l.ForecastP[1], l.Forecasts, l.PressureP[0], l.PressureP[1], l.Pressures, l.GraceS))
	}
	o.flags(c, 1000)
	f := c.Flags()
	f.IntVar(&instances, "instances", 1, "`number` of forecasters")
	f.IntVar(&steps, "steps", 5, "`steps` to measure")
	f.IntSliceVar(&sizes, "sizes", nil, "measure fleets of these `numbers` of VMs instead")
	f.StringVar(&plot, "plot", "", "with --sizes: draw CPU time and memory by size into this `file`")
	return c
}

func plotCost(path string, k *scale.Cost) error {
	cpu, rss := chart.Series{Name: fmt.Sprintf("CPU-ms a VM and step; total grows as VMs^%.2f", k.CPU)}, chart.Series{Name: fmt.Sprintf("memory, MB for 10 VMs; total grows as VMs^%.2f", k.RSS)}
	for _, r := range k.Runs {
		x := float64(r.VMs)
		cpu.X, cpu.Y = append(cpu.X, x), append(cpu.Y, 1e3*r.CPU/x)
		rss.X, rss.Y = append(rss.X, x), append(rss.Y, 10*r.RSS/1e6/x)
	}
	svg := chart.Line(chart.Figure{Title: "What a VM costs by the size of the fleet", Desc: "CPU time a step and memory of one forecaster, divided by the number of VMs: level lines are costs in proportion.",
		X: chart.Axis{Label: "VMs"}, Y: chart.Axis{Label: "a VM"}}, []chart.Series{cpu, rss})
	return os.WriteFile(path, svg, 0o644)
}

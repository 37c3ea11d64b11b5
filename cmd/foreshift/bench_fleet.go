package main

import (
	"fmt"
	"io"
	"sort"

	"github.com/foreshift/foreshift/benchmarks/fleet"
	"github.com/spf13/cobra"
)

func benchFleet() *cobra.Command {
	var opt fleet.Options
	var out traceFlags
	c := &cobra.Command{
		Use:   "fleet --hosts H --vms V",
		Short: "Measure what forecasting a fleet costs in CPU and memory",
		Long: `Runs the forecaster on a synthetic fleet with eight days of history and prints the
CPU-seconds of one step of five minutes and the bytes that a VM takes. Steps are timed
on --sample VMs at most and memory is measured on --held; where the fleet has more,
its CPU-seconds are those of the sample times the ratio, and are marked so.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			res, err := fleet.Run(c.Context(), opt)
			if err != nil {
				return err
			}
			if err := out.keep(c, res); err != nil {
				return err
			}
			if out.json {
				return lastLine(c.OutOrStdout(), res)
			}
			return fleetTable(c.OutOrStdout(), res)
		},
	}
	f := c.Flags()
	f.IntVar(&opt.Hosts, "hosts", 20, "`number` of hosts")
	f.IntVar(&opt.VMs, "vms", 1000, "`number` of VMs")
	f.IntVar(&opt.Sample, "sample", 500, "`number` of VMs whose steps are timed at most")
	f.IntVar(&opt.Held, "held", 2000, "`number` of VMs whose memory is measured at most")
	f.IntVar(&opt.Steps, "steps", 24, "`steps` to measure, rounded up to whole refit periods of 24")
	f.IntVar(&opt.Parts, "parts", 100, "`number` of VMs whose models are timed one by one")
	f.Uint64Var(&opt.Seed, "seed", 1, "seed of the demand")
	f.BoolVar(&out.json, "json", false, "print one JSON object on the last line")
	f.StringVar(&out.record, "record", "", "append the figures as a line of JSON to this `file`")
	return c
}

func fleetTable(w io.Writer, r *fleet.Result) error {
	how := "measured"
	if r.Extrapolated {
		how = fmt.Sprintf("extrapolated from %d", r.Sample)
	}
	s, p := &r.Step, &r.Parts
	_, err := fmt.Fprintf(w, `%d VMs on %d hosts, %s, %d steps
CPU-seconds a step  %.2f  (ingest %.2f, decide %.2f, encode %.2f; of it collection %.2f)
bytes a VM          %.0f  (measured on %d; window %.0f, models %.0f a series; and %.1f MB once)
published           %.1f MB a step
cold start          %.0f ms of CPU a VM
%-16s %12s %12s %12s %10s
%-16s %10.2fus %10.2fms %10.1fus %10.0f
`, r.VMs, r.Hosts, how, r.Steps, s.Total, s.Ingest, s.Decide, s.Encode, s.GC, r.Bytes.Total, r.Held, r.Bytes.Window, r.Bytes.Series, r.Bytes.Once/1e6,
		float64(r.Out)/1e6, 1e3*r.Cold, "a series", "observe", "refit", "forecast", "bytes", "ensemble", p.ObserveUs, p.RefitMs, p.ForecastUs, r.Bytes.Series)
	names := make([]string, 0, len(p.Banks))
	for name := range p.Banks {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		if err != nil {
			return err
		}
		b := p.Banks[name]
		_, err = fmt.Fprintf(w, "%-16s %10.2fus %10.2fms %10.1fus %10.0f\n", name, b.ObserveUs, b.RefitMs, b.ForecastUs, b.Bytes)
	}
	return err
}

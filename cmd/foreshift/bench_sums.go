package main

import (
	"fmt"
	"io"

	"github.com/foreshift/foreshift/benchmarks/sums"
	"github.com/foreshift/foreshift/benchmarks/trace"
	"github.com/spf13/cobra"
)

func benchSums() *cobra.Command {
	var in traceFlags
	var opt sums.Options
	var times string
	c := &cobra.Command{
		Use:   "sums --traces FILE --metric COLUMN",
		Short: "Score forecasts of the sum of many VMs, as a host sees them",
		Long: `Puts random groups of VMs together and scores the p90 and p95 of the group's demand
over the next day: of our joint scenarios added, of the VMs' forecasts added as if the
VMs were independent, and of the group's own past (the last day; the last 7 days at the
same time of day). Loss is the pinball loss in percent of the group's mean demand,
cover the share of steps at or below the quantile. Origins are every 7 hours after
day 8.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			series, err := in.read()
			if err != nil {
				return err
			}
			if times != "" {
				by, err := trace.ReadAll(in.traces, times)
				if err != nil {
					return err
				}
				trace.Multiply(series, by)
			}
			begun := processCPU()
			res, err := sums.Run(c.Context(), series, opt)
			if err != nil {
				return err
			}
			res.CPU = processCPU() - begun
			if err := in.keep(c, res); err != nil {
				return err
			}
			if in.json {
				return lastLine(c.OutOrStdout(), res)
			}
			return sumsTable(c.OutOrStdout(), res)
		},
	}
	in.addRead(c)
	f := c.Flags()
	f.StringVar(&times, "times", "", "`column` to multiply the metric by, such as cpu_cap_mhz, so that VMs weigh as much as they are large")
	f.StringVar(&opt.Model, "model", "auto", "model, as in bench forecast")
	f.IntVar(&opt.Groups, "groups", 40, "random groups of VMs")
	f.IntVar(&opt.Least, "least", 10, "VMs of the smallest group")
	f.IntVar(&opt.Most, "most", 40, "VMs of the largest group")
	f.Uint64Var(&opt.Seed, "seed", 1, "of the groups")
	return c
}

func sumsTable(w io.Writer, r *sums.Result) error {
	_, err := fmt.Fprintf(w, "%d groups, %d origins, %.0f CPU s\n%-16s", r.Groups, r.Origins, r.CPU, "")
	for _, lead := range sums.Leads {
		if err == nil {
			_, err = fmt.Fprintf(w, " | %-29s", "within "+lead.Name)
		}
	}
	for k := 0; err == nil && k < len(sums.Leads); k++ {
		if k == 0 {
			_, err = fmt.Fprintf(w, "\n%-16s", "")
		}
		if err == nil {
			_, err = fmt.Fprintf(w, " | %6s %6s %7s %7s", "p90", "cover", "p95", "cover")
		}
	}
	for _, m := range sums.Methods() {
		if err == nil {
			_, err = fmt.Fprintf(w, "\n%-16s", m)
		}
		for _, lead := range sums.Leads {
			s := r.Scores[m.String()][lead.Name]
			if err == nil {
				_, err = fmt.Fprintf(w, " | %6.3f %6.3f %7.3f %7.3f", s[0].Loss, s[0].Cover, s[1].Loss, s[1].Cover)
			}
		}
	}
	if err == nil {
		_, err = fmt.Fprintln(w)
	}
	return err
}

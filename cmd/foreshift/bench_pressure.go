package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/foreshift/foreshift/benchmarks/pressure"
	"github.com/foreshift/foreshift/schemas"
	"github.com/spf13/cobra"
)

func benchPressure() *cobra.Command {
	var in traceFlags
	var limit float64
	var horizons []string
	var plot string
	var raw bool
	c := &cobra.Command{
		Use:   "pressure --traces FILE --metric COLUMN --limit X",
		Short: "Score the chances of exceeding a limit on recorded demand",
		Long: `Walks through recorded demand as the service would, and scores the chance it gives
that the limit is exceeded within each horizon: Brier score and skill, log loss,
calibration error, average precision, with intervals by bootstrap over VMs; for all
hourly origins of the last 9 days, and for those with nothing above in the hour
before (onsets), of which persistence knows nothing. Then what a fixed number of
alarms is worth at 15 minutes, 1 and 6 hours of warning. Files of less than 16 days
are scored on fewer days: 2 days are the least.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			opt := pressure.Options{Limit: limit, Raw: raw}
			for _, h := range horizons {
				n, err := stepsOf(h)
				if err != nil {
					return err
				}
				opt.Horizons = append(opt.Horizons, n)
			}
			if !(limit > 0) {
				return usageError{fmt.Errorf("--limit is missing: the value, in the unit of the metric, above which demand goes unserved")}
			}
			series, err := in.read()
			if err != nil {
				return err
			}
			out, done, err := in.output()
			if err != nil {
				return err
			}
			opt.Out = out
			res, err := pressure.Run(c.Context(), series, opt)
			if cerr := done(); err == nil && cerr != nil {
				err = fmt.Errorf("--out: %w", cerr)
			}
			if err != nil {
				return err
			}
			if plot != "" {
				if err := os.WriteFile(plot, pressure.Diagram(res, in.metric), 0o644); err != nil {
					return fmt.Errorf("--plot: %w", err)
				}
			}
			if err := in.keep(c, res); err != nil {
				return err
			}
			if in.json {
				return lastLine(c.OutOrStdout(), struct {
					Metric string `json:"metric"`
					*pressure.Result
				}{in.metric, res})
			}
			return pressureTable(c.OutOrStdout(), res)
		},
	}
	in.add(c)
	c.Flags().Float64Var(&limit, "limit", 0, "the `value` that must not be exceeded, in the metric's unit")
	c.Flags().StringSliceVar(&horizons, "horizons", []string{"1h", "6h", "24h"}, "how far ahead; 1h, 6h, 24h or the same in steps")
	c.Flags().StringVar(&plot, "plot", "", "draw a reliability diagram into this SVG `file`")
	c.Flags().BoolVar(&raw, "no-calibration", false, "leave the calibration out")
	return c
}

func pressureTable(w io.Writer, r *pressure.Result) error {
	_, err := fmt.Fprintf(w, "%-8s %-6s %7s %7s %8s %7s %16s %8s %6s %14s %8s %8s %9s %9s\n", "horizon", "which", "n", "base", "Brier", "BSS", "95 %", "log loss", "AP", "95 %", "ECE", "ECE eq", "VM's BSS", "VM's AP")
	for _, h := range r.Horizons {
		for _, x := range [...]struct {
			name string
			s    *pressure.Scores
		}{{"all", &h.All}, {"onset", &h.Onset}} {
			if err != nil {
				return err
			}
			s := x.s
			_, err = fmt.Fprintf(w, "%-8s %-6s %7d %7.4f %8.5f %7.3f %7.3f..%7.3f %8.4f %6.3f %6.3f..%6.3f %8.4f %8.4f %9.3f %9.3f\n", time.Duration(h.Steps)*schemas.DefaultBase, x.name,
				s.N, s.Base, s.Brier, s.BSS, s.BSSRange[0], s.BSSRange[1], s.LogLoss, s.AP, s.APRange[0], s.APRange[1], s.ECE, s.ECEEqual, s.Usual.BSS, s.Usual.AP)
		}
	}
	for _, h := range r.Horizons {
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(w, "%-8s %d alarms in calm moments (%d a VM and week on average), from a chance of %.3f:", time.Duration(h.Steps)*schemas.DefaultBase, h.Alarms.Given, pressure.PerWeek, h.Alarms.AtP)
		for _, l := range h.Alarms.Lead {
			if err == nil {
				_, err = fmt.Fprintf(w, "  %v ahead: precision %.2f, recall %.2f", time.Duration(l.Steps)*schemas.DefaultBase, l.Precision, l.Recall)
			}
		}
		if err == nil {
			_, err = fmt.Fprintln(w)
		}
	}
	if err == nil {
		_, err = fmt.Fprintf(w, "%d VMs, the last %.1f days scored; %.1f CPU-s to learn all along and to ask %d times\n", r.VMs, r.TestDays, r.CPU, r.Asked)
	}
	return err
}

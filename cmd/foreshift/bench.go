package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/foreshift/foreshift/benchmarks/forecast"
	"github.com/foreshift/foreshift/benchmarks/pressure"
	"github.com/foreshift/foreshift/benchmarks/results"
	"github.com/foreshift/foreshift/benchmarks/trace"
	"github.com/foreshift/foreshift/forecaster/ensemble"
	"github.com/foreshift/foreshift/schemas"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// benchCommand answers "is this any good on my data?".
func benchCommand() *cobra.Command {
	c := &cobra.Command{Use: "bench", Short: "Measure forecasts, pressure scores and placement on recorded data", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() }}
	c.AddCommand(benchForecast(), benchPressure(), benchPlaceCommand())
	return c
}

// traceFlags are the flags that say what to read.
type traceFlags struct {
	traces []string
	metric string
	json   bool
	out    string
	record string
}

func (t *traceFlags) add(c *cobra.Command) {
	f := c.Flags()
	f.StringSliceVar(&t.traces, "traces", nil, "CSV `file`s (.gz is read as it is) with columns series or vm, t (bin) or timestamp, and the metric's")
	f.StringVar(&t.metric, "metric", "", "`column` to look at; mem_pct_of_cap is made of mem_mb and mem_cap_mb")
	f.BoolVar(&t.json, "json", false, "print one JSON object on the last line")
	f.StringVar(&t.record, "record", "", "append the figures as a line of JSON to this `file`, such as benchmarks/results.jsonl")
	f.StringVar(&t.out, "out", "", "write the forecasts to this CSV `file`")
}

func (t *traceFlags) read() ([]trace.Series, error) {
	if len(t.traces) == 0 {
		return nil, usageError{fmt.Errorf("--traces is missing: name a CSV file")}
	}
	return trace.ReadAll(t.traces, t.metric)
}

// output opens the file of --out, if any, and gives what closes it.
func (t *traceFlags) output() (io.Writer, func() error, error) {
	if t.out == "" {
		return nil, func() error { return nil }, nil
	}
	f, err := os.Create(t.out)
	if err != nil {
		return nil, nil, fmt.Errorf("--out: %w", err)
	}
	return f, f.Close, nil
}

// keep records the figures where --record says.
func (t *traceFlags) keep(c *cobra.Command, figures any) error {
	if t.record == "" {
		return nil
	}
	var args []string
	for _, p := range t.traces {
		args = append(args, filepath.Base(p))
	}
	c.Flags().Visit(func(f *pflag.Flag) {
		if f.Name != "traces" && f.Name != "record" {
			args = append(args, "--"+f.Name+"="+f.Value.String())
		}
	})
	return results.Append(t.record, "bench "+c.Name(), strings.Join(args, " "), time.Now(), figures)
}

// stepsOf reads a horizon: a duration of 5-minute steps, or a number of steps.
func stepsOf(s string) (int, error) {
	if n, err := strconv.Atoi(s); err == nil && n > 0 {
		return n, nil
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < schemas.DefaultBase || d%schemas.DefaultBase != 0 {
		return 0, usageError{fmt.Errorf("%q is neither a number of steps nor a duration of whole steps of %v, such as 24h", s, schemas.DefaultBase)}
	}
	return int(d / schemas.DefaultBase), nil
}

// lastLine prints a value as one line of JSON.
func lastLine(w io.Writer, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("print: %w", err)
	}
	_, err = fmt.Fprintf(w, "%s\n", b)
	return err
}

func benchForecast() *cobra.Command {
	var in traceFlags
	var models []string
	var horizon string
	var windows int
	c := &cobra.Command{
		Use:   "forecast --traces FILE --metric COLUMN",
		Short: "Score forecasts on recorded demand",
		Long: `Walks through recorded demand as the service would, and scores what it forecasts:
MASE (season 288), CRPS pooled and relative to the seasonal naive, coverage of the
80 % band, CPU seconds for fits and forecasts. Origins are every day after the first
week, or with --windows the last windows of the horizon's length, or where the file
has a column split, the start of its test part.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			h, err := stepsOf(horizon)
			if err != nil {
				return err
			}
			for _, name := range models {
				if _, err := ensemble.Named(name); err != nil {
					return usageError{err}
				}
			}
			series, err := in.read()
			if err != nil {
				return err
			}
			out, done, err := in.output()
			if err != nil {
				return err
			}
			res, err := forecast.Run(c.Context(), series, forecast.Options{Horizon: h, Models: models, Windows: windows, Out: out})
			if cerr := done(); err == nil && cerr != nil {
				err = fmt.Errorf("--out: %w", cerr)
			}
			if err != nil {
				return err
			}
			if err := in.keep(c, res); err != nil {
				return err
			}
			if in.json {
				return lastLine(c.OutOrStdout(), struct {
					Metric string `json:"metric"`
					*forecast.Result
				}{in.metric, res})
			}
			return forecastTable(c.OutOrStdout(), res)
		},
	}
	in.add(c)
	c.Flags().StringVar(&horizon, "horizon", "24h", "how far ahead: a duration or a number of `steps`")
	c.Flags().StringSliceVar(&models, "model", []string{ensemble.Auto}, "models: "+strings.Join(ensemble.Names(), ", ")+", or auto-X for the ensemble without X")
	c.Flags().IntVar(&windows, "windows", 0, "score the last `N` windows instead of every day after the first week")
	return c
}

func forecastTable(w io.Writer, r *forecast.Result) error {
	_, err := fmt.Fprintf(w, "%-22s %6s %9s %6s %6s %6s %6s %6s %6s %6s %10s %10s\n", "model", "series", "forecasts", "MASE", "median", "CRPS", "rel", "clip", "rel1h", "cover", "forecast", "fit a step")
	for _, name := range r.Models {
		if err != nil {
			return err
		}
		s := r.Scores[name]
		_, err = fmt.Fprintf(w, "%-22s %6d %9d %6.3f %6.3f %6.3f %6.3f %6.3f %6.3f %6.3f %8.0fus %8.1fus\n", name, s.Series, s.Forecasts, s.MASE, s.MASEMid,
			s.CRPS, s.Rel, s.RelClip, s.Rel1h, s.Coverage, 1e6*s.ForecastCPU, 1e6*s.FitCPU)
	}
	return err
}

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
before (onsets), of which persistence knows nothing.`,
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
	return err
}

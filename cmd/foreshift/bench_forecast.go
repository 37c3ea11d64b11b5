package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/foreshift/foreshift/benchmarks/forecast"
	"github.com/foreshift/foreshift/benchmarks/peers/r"
	"github.com/foreshift/foreshift/benchmarks/trace"
	"github.com/foreshift/foreshift/forecaster/ensemble"
	"github.com/foreshift/foreshift/schemas"
	"github.com/spf13/cobra"
)

// forecastFlags are the flags of `bench forecast`.
type forecastFlags struct {
	traceFlags
	models  []string
	horizon string
	windows int
	cold    bool
	peers   []string
	install bool
	seconds float64
}

func benchForecast() *cobra.Command {
	var o forecastFlags
	c := &cobra.Command{
		Use:   "forecast --traces FILE --metric COLUMN",
		Short: "Score forecasts on recorded demand",
		Long: `Walks through recorded demand as the service would, and scores what it forecasts:
MASE (season 288), CRPS pooled and relative to the seasonal naive, coverage of the
80 % band, CPU seconds for fits and forecasts. Origins are every day after the first
week, or with --windows the last windows of the horizon's length, or where the file
has a column split, the start of its test part. Missing values stay missing: they are
not scored, and in the context of scales the last value counts.

--peers r runs methods of R beside ours, on the same series and origins, and adds what
our models of the same kind cost from cold. --install-peers gets R from Debian first.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return o.run(c) },
	}
	o.add(c)
	f := c.Flags()
	f.StringVar(&o.horizon, "horizon", "24h", "how far ahead: a duration or a number of `steps`")
	f.StringSliceVar(&o.models, "model", []string{ensemble.Auto}, "models: "+strings.Join(ensemble.Names(), ", ")+", or auto-X for the ensemble without X")
	f.IntVar(&o.windows, "windows", 0, "score the last `N` windows instead of every day after the first week")
	f.BoolVar(&o.cold, "cold", false, "fit once on the window before each origin, and count that")
	f.StringSliceVar(&o.peers, "peers", nil, "run these peers too: r for "+strings.Join(r.Methods, ", ")+"; or methods of R by name, such as tbats")
	f.BoolVar(&o.install, "install-peers", false, "install R and its packages with apt-get first (root, Debian)")
	f.Float64Var(&o.seconds, "peer-seconds", 60, "CPU seconds a peer may take at one series")
	return c
}

func (o *forecastFlags) run(c *cobra.Command) error {
	h, err := stepsOf(o.horizon)
	if err != nil {
		return err
	}
	for _, name := range o.models {
		if _, err := ensemble.Named(name); err != nil {
			return usageError{err}
		}
	}
	if o.windows < 0 {
		return usageError{fmt.Errorf("--windows %d: want 1 or more, or 0 for every day after the first week", o.windows)}
	}
	methods, err := o.methods()
	if err != nil {
		return usageError{err}
	}
	series, err := o.read()
	if err != nil {
		return err
	}
	if err := o.ready(c, len(methods) > 0); err != nil {
		return err
	}
	out, done, err := o.output()
	if err != nil {
		return err
	}
	opt := forecast.Options{Horizon: h, Models: o.models, Windows: o.windows, Cold: o.cold, Out: out}
	res, err := forecast.Run(c.Context(), series, opt)
	if cerr := done(); err == nil && cerr != nil {
		err = fmt.Errorf("--out: %w", cerr)
	}
	if err != nil {
		return err
	}
	// A peer that fails, or is waited for no longer, leaves what is there to be shown.
	failed := o.compare(c, series, opt, methods, res)
	if err := o.keep(c, res); err != nil {
		return err
	}
	if o.json {
		err = lastLine(c.OutOrStdout(), struct {
			Metric string `json:"metric"`
			*forecast.Result
		}{o.metric, res})
	} else {
		err = forecastTable(c.OutOrStdout(), res)
	}
	return errors.Join(failed, err)
}

// methods are the methods of R that were asked for.
func (o *forecastFlags) methods() (out []string, err error) {
	for _, p := range o.peers {
		switch {
		case p == "r":
			out = append(out, r.Methods...)
		case slices.Contains(r.Known(), p):
			out = append(out, p)
		default:
			return nil, fmt.Errorf("no peer %q; there are r (%s) and each of %s by itself", p, strings.Join(r.Methods, ", "), strings.Join(r.Known(), ", "))
		}
	}
	return out, nil
}

// ready installs what was asked for and finds out, before our own part has taken its
// time, whether the peers can run.
func (o *forecastFlags) ready(c *cobra.Command, peers bool) error {
	if o.install {
		if err := r.Install(c.Context(), c.ErrOrStderr()); err != nil {
			return err
		}
	}
	if !peers {
		return nil
	}
	if err := r.Check(c.Context()); errors.Is(err, r.ErrMissing) {
		return fmt.Errorf("%w; or let --install-peers do it", r.ErrMissing)
	} else if err != nil {
		return err
	}
	return nil
}

// twins are our models of the same kind as a peer's.
var twins = map[string]string{"auto.arima": "arima", "stlf+arima": "arima", "stlf+ets": "ets", "prophet": "prophet"}

// compare adds the peers, and our models of the same kind from cold.
func (o *forecastFlags) compare(c *cobra.Command, series []trace.Series, opt forecast.Options, methods []string, res *forecast.Result) error {
	ctx := c.Context()
	opt.Out, opt.Cold, opt.Models = nil, true, nil
	for _, m := range methods {
		if t := twins[m]; t != "" && !slices.Contains(opt.Models, t) {
			opt.Models = append(opt.Models, t)
		}
	}
	if len(opt.Models) > 0 {
		cold, err := forecast.Run(ctx, series, opt)
		if err != nil {
			return err
		}
		for _, name := range cold.Models {
			res.Add(name+", cold", cold.Scores[name])
		}
	}
	for _, m := range methods {
		fmt.Fprintf(c.ErrOrStderr(), "R's %s on the same series; may take a while\n", m)
		scores, err := forecast.Judge(ctx, series, opt, func(ctx context.Context, all []forecast.Context) (map[string]forecast.Said, error) {
			in := make([]r.Series, len(all))
			for k, x := range all {
				in[k] = r.Series{Name: x.Name, Y: x.Y}
			}
			got, err := r.Run(ctx, m, in, opt.Horizon, schemas.StepsPerDay, o.seconds)
			if err != nil {
				return nil, err
			}
			said := make(map[string]forecast.Said, len(got))
			for name, f := range got {
				said[name] = forecast.Said{Q: f.Q, CPU: f.CPU}
			}
			return said, nil
		})
		if err != nil {
			return err
		}
		if t := twins[m]; t != "" {
			scores.Twin, scores.TwinRatio = t, scores.ColdCPU/max(1e-9, res.Scores[t+", cold"].ColdCPU)
		}
		res.Add("R "+m, scores)
	}
	return nil
}

func forecastTable(w io.Writer, r *forecast.Result) error {
	_, err := fmt.Fprintf(w, "%-22s %6s %9s %6s %6s %6s %6s %6s %6s %6s %10s %10s %10s\n", "model", "series", "forecasts", "MASE", "median", "CRPS", "rel", "clip", "rel1h", "cover", "forecast", "fit a step", "cold")
	for _, name := range r.Models {
		if err != nil {
			return err
		}
		s := r.Scores[name]
		note := ""
		if s.Twin != "" {
			note = fmt.Sprintf("  %.0fx our %s", s.TwinRatio, s.Twin)
		}
		if s.Failed > 0 {
			note += fmt.Sprintf("  failed at %d", s.Failed)
		}
		_, err = fmt.Fprintf(w, "%-22s %6d %9d %6.3f %6.3f %6.3f %6.3f %6.3f %6.3f %6.3f %10s %10s %10s%s\n", name, s.Series, s.Forecasts, s.MASE, s.MASEMid,
			s.CRPS, s.Rel, s.RelClip, s.Rel1h, s.Coverage, cpuText(s.ForecastCPU), cpuText(s.FitCPU), cpuText(s.ColdCPU), note)
	}
	return err
}

// cpuText writes CPU seconds; 0 was not measured.
func cpuText(s float64) string {
	switch {
	case s == 0:
		return "-"
	case s < 1e-3:
		return fmt.Sprintf("%.1f us", 1e6*s)
	case s < 1:
		return fmt.Sprintf("%.1f ms", 1e3*s)
	}
	return fmt.Sprintf("%.2f s", s)
}

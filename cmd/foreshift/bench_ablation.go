package main

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/foreshift/foreshift/benchmarks/ablation"
	"github.com/foreshift/foreshift/benchmarks/forecast"
	"github.com/foreshift/foreshift/benchmarks/pressure"
	"github.com/foreshift/foreshift/schemas"
	"github.com/spf13/cobra"
)

func benchAblation() *cobra.Command {
	var in traceFlags
	var horizon string
	var windows int
	var parts []string
	var limit float64
	c := &cobra.Command{
		Use:   "ablation --traces FILE --metric COLUMN",
		Short: "Score the forecaster without each of its parts",
		Long: `Scores the ensemble as bench forecast does, whole and without each expert, without
learning and without tracking; the calendar on made-up campaigns; and with --limit the
calibration of the chances of exceeding it. What a part is worth is the difference.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			h, err := stepsOf(horizon)
			if err != nil {
				return err
			}
			for _, p := range parts {
				if !slices.Contains(ablation.Parts(), p) {
					return usageError{fmt.Errorf("no part %q; there are %s", p, strings.Join(ablation.Parts(), ", "))}
				}
			}
			series, err := in.read()
			if err != nil {
				return err
			}
			begun := processCPU()
			res, err := ablation.Run(c.Context(), series, forecast.Options{Horizon: h, Windows: windows}, parts)
			if err != nil {
				return err
			}
			if limit > 0 {
				var got [2]*pressure.Result
				for k, raw := range [...]bool{false, true} {
					if got[k], err = pressure.Run(c.Context(), series, pressure.Options{Limit: limit, Raw: raw, Horizons: schemas.Horizons[:]}); err != nil {
						return err
					}
				}
				for k, h := range got[0].Horizons {
					of := func(what string, f func(*pressure.Scores) float64) {
						res.Pairs = append(res.Pairs, ablation.Pair{Part: "calibration", What: fmt.Sprintf("%s, onsets within %d h", what, h.Steps/12),
							With: f(&h.Onset), Without: f(&got[1].Horizons[k].Onset)})
					}
					of("calibration error", func(s *pressure.Scores) float64 { return s.ECEEqual })
					of("Brier score", func(s *pressure.Scores) float64 { return s.Brier })
				}
			}
			res.CPU = processCPU() - begun
			if err := in.keep(c, res); err != nil {
				return err
			}
			if in.json {
				return lastLine(c.OutOrStdout(), res)
			}
			return ablationTable(c.OutOrStdout(), res)
		},
	}
	in.addRead(c)
	f := c.Flags()
	f.StringVar(&horizon, "horizon", "24h", "how far ahead: a duration or a number of `steps`")
	f.IntVar(&windows, "windows", 0, "score the last `N` windows instead of every day after the first week")
	f.StringSliceVar(&parts, "without", nil, "leave out only these: "+strings.Join(ablation.Parts(), ", "))
	f.Float64Var(&limit, "limit", 0, "also measure the calibration of the chances of exceeding this `value`")
	return c
}

func ablationTable(w io.Writer, r *ablation.Result) error {
	_, err := fmt.Fprintf(w, "%-16s %6s %6s %6s %6s %6s %6s %8s %10s\n", "without", "MASE", "CRPS", "rel", "clip", "rel1h", "cover", "change", "CPU")
	whole := r.Rows[0].Scores
	for _, row := range r.Rows {
		if err != nil {
			return err
		}
		s, name := row.Scores, row.Without
		if name == "" {
			name = "(whole)"
		}
		_, err = fmt.Fprintf(w, "%-16s %6.3f %6.3f %6.3f %6.3f %6.3f %6.3f %+7.1f%% %10s\n", name, s.MASE, s.CRPS, s.Rel, s.RelClip, s.Rel1h, s.Coverage,
			100*(s.RelClip/whole.RelClip-1), cpuText(s.CPU))
	}
	for _, p := range r.Pairs {
		if err == nil {
			_, err = fmt.Fprintf(w, "%-16s %.4g, without %.4g: %s\n", p.Part, p.With, p.Without, p.What)
		}
	}
	return err
}

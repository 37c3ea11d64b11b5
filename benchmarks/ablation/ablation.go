// Package ablation says what each part of the forecaster is worth, by leaving it out.
//
// What comes in: recorded demand, as for the benchmark of forecasts.
//
// What goes out: a row for the whole ensemble, and one without each expert, without
// learning, without tracking, and without the calendar; the last on campaigns that
// are made up ([Campaigns]), for recorded demand comes without a calendar. What the
// calibration of chances is worth is measured where chances are (package pressure) and
// joined as a row by who runs both.
//
// What is promised: every row is scored on the same series and origins. A part that
// makes no difference shows as one that makes none.
package ablation

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/foreshift/foreshift/benchmarks/forecast"
	"github.com/foreshift/foreshift/benchmarks/trace"
	"github.com/foreshift/foreshift/forecaster/ensemble"
)

// Row is the forecaster without one part.
type Row struct {
	Without string          `json:"without"` // empty: the whole
	Scores  forecast.Scores `json:"scores"`
}

// Pair is a figure with and without a part; less is better.
type Pair struct {
	Part    string  `json:"part"`
	What    string  `json:"what"`
	With    float64 `json:"with"`
	Without float64 `json:"without"`
}

// Result of a run.
type Result struct {
	Horizon int     `json:"horizon_steps"`
	Rows    []Row   `json:"rows"`
	Pairs   []Pair  `json:"pairs"`
	CPU     float64 `json:"cpu_s"`
}

// Parts that can be left out of the ensemble.
func Parts() []string {
	names := slices.Clone(ensemble.Names()[1:])
	return append(names, "learning", "tracking")
}

// Run scores the ensemble whole and without each of the parts, all by default.
func Run(ctx context.Context, series []trace.Series, opt forecast.Options, parts []string) (*Result, error) {
	all := Parts()
	if len(parts) == 0 {
		parts = all
	}
	opt.Models = []string{ensemble.Auto}
	for _, p := range parts {
		if !slices.Contains(all, p) {
			return nil, fmt.Errorf("bench ablation: no part %q; there are %s", p, strings.Join(all, ", "))
		}
		opt.Models = append(opt.Models, ensemble.Auto+"-"+p)
	}
	got, err := forecast.Run(ctx, series, opt)
	if err != nil {
		return nil, fmt.Errorf("bench ablation: %w", err)
	}
	res := &Result{Horizon: got.Horizon}
	for _, name := range got.Models {
		_, without, _ := strings.Cut(name, "-")
		res.Rows = append(res.Rows, Row{Without: without, Scores: got.Scores[name]})
	}
	with, without, err := Campaigns(ctx)
	if err != nil {
		return nil, fmt.Errorf("bench ablation: %w", err)
	}
	res.Pairs = append(res.Pairs, Pair{"calendar", "pinball loss during campaigns, in percent of demand", with, without})
	return res, nil
}

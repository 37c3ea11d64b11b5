package forecast

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/foreshift/foreshift/benchmarks/trace"
	"github.com/foreshift/foreshift/benchmarks/walk"
	"github.com/foreshift/foreshift/forecaster/ensemble"
)

// Options of a run.
type Options struct {
	Horizon int      // steps; default a day
	Models  []string // names as in [ensemble.Named]; default auto
	Windows int      // > 0: the last that many windows of the horizon's length; 0: every day after the first week
	Workers int      // default the number of cores
	// Cold fits a model once on the window before each origin, instead of letting it live
	// through the steps before: the cost of a first forecast.
	Cold bool
	Out  io.Writer
}

// Result of a run, by model in the order asked for.
type Result struct {
	Series  int               `json:"series"` // in the files
	Horizon int               `json:"horizon_steps"`
	Models  []string          `json:"order"`
	Scores  map[string]Scores `json:"models"`
}

// check fills in what was not said.
func (o *Options) check() error {
	if o.Horizon == 0 {
		o.Horizon = season
	}
	if o.Horizon < 1 || o.Horizon > maxHorizon {
		return fmt.Errorf("bench forecast: a horizon of %d steps is not within 1..%d", o.Horizon, maxHorizon)
	}
	if o.Windows < 0 {
		return fmt.Errorf("bench forecast: %d windows: want 1 or more, or 0 for every day after the first week", o.Windows)
	}
	return nil
}

// Add appends the scores of one more model.
func (r *Result) Add(name string, s Scores) {
	r.Models = append(r.Models, name)
	r.Scores[name] = s
}

// maxHorizon bounds a horizon: two weeks of 5 minutes.
const maxHorizon = 14 * season

// Run walks through the series and scores the models.
func Run(ctx context.Context, series []trace.Series, opt Options) (*Result, error) {
	if err := opt.check(); err != nil {
		return nil, err
	}
	if len(opt.Models) == 0 {
		opt.Models = []string{"auto"}
	}
	if opt.Out != nil && len(opt.Models) > 1 {
		return nil, errors.New("bench forecast: forecasts of one model only can be written; name one")
	}
	for _, name := range opt.Models {
		if _, err := ensemble.Named(name); err != nil {
			return nil, fmt.Errorf("bench forecast: %w", err)
		}
	}
	jobs, err := plan(series, &opt)
	if err != nil {
		return nil, err
	}
	res := &Result{Series: len(series), Horizon: opt.Horizon, Models: slices.Clone(opt.Models), Scores: map[string]Scores{}}
	out := csvOut{w: opt.Out}
	out.head()
	for _, name := range opt.Models {
		parts := make([]tally, walk.Shards)
		texts := make([][]byte, walk.Shards)
		if err := walk.Parallel(ctx, opt.Workers, walk.Shards, func(s int) error {
			j := newJudge(jobs[s], &opt)
			if err := j.walk(ctx, name, &parts[s]); err != nil {
				return err
			}
			texts[s] = j.text
			return nil
		}); err != nil {
			return nil, fmt.Errorf("bench forecast: %s: %w", name, err)
		}
		var sum tally
		for s := range parts {
			sum.join(&parts[s])
			out.write(texts[s])
		}
		scores := sum.scores()
		if opt.Cold {
			scores.ColdCPU = scores.WalkCPU
			scores.FitCPU, scores.CPU = 0, 0 // there are no steps
		}
		res.Scores[name] = scores
	}
	return res, out.err
}

// job is a series and the origins it is scored at (index into Y of the first step
// forecast).
type job struct {
	*trace.Series
	origins []int
}

// plan says which series are scored where, by shard.
func plan(series []trace.Series, opt *Options) ([][]job, error) {
	shards := make([][]job, walk.Shards)
	any, longest := false, 0
	for i := range series {
		longest = max(longest, len(series[i].Y))
		s := &series[i]
		j := job{Series: s}
		n := len(s.Y)
		switch {
		case s.Test > 0 && opt.Windows == 0: // the file says where
			if s.Test+1 <= n {
				j.origins = append(j.origins, s.Test)
			}
		case opt.Windows > 0:
			for o := n - opt.Windows*opt.Horizon; o+opt.Horizon <= n; o += opt.Horizon {
				if o >= season {
					j.origins = append(j.origins, o)
				}
			}
		default:
			for o := 7 * season; o+opt.Horizon <= n; o += season {
				j.origins = append(j.origins, o)
			}
		}
		if len(j.origins) > 0 {
			any = true
			shards[walk.Shard(s.ID)] = append(shards[walk.Shard(s.ID)], j)
		}
	}
	if !any {
		return nil, fmt.Errorf("bench forecast: none of %d series is long enough, the longest has %d steps: %d days before the first origin (or, with windows, one) and %d steps after are needed", len(series), longest, 7, opt.Horizon)
	}
	return shards, nil
}

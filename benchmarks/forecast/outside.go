package forecast

import (
	"context"
	"fmt"

	"github.com/foreshift/foreshift/benchmarks/trace"
	"github.com/foreshift/foreshift/benchmarks/walk"
	"github.com/foreshift/foreshift/forecaster/window"
)

// Context is what a forecaster from outside is given: as many steps before an origin
// as our windows hold, without the missing ones at its begin; others have the last
// value.
type Context struct {
	Name string // distinct
	Y    []float32
}

// Said is its forecast: quantiles .1 to .9 of every step, nil if it failed.
type Said struct {
	Q   [][9]float32
	CPU float64 // seconds
}

// Judge scores a forecaster from outside at the origins at which [Run] scores models.
// Where it fails the seasonal naive stands in, and the failure is counted. Its CPU time
// is that of fit and forecast together, a forecast.
func Judge(ctx context.Context, series []trace.Series, opt Options, outside func(context.Context, []Context) (map[string]Said, error)) (Scores, error) {
	if err := opt.check(); err != nil {
		return Scores{}, err
	}
	shards, err := plan(series, &opt)
	if err != nil {
		return Scores{}, err
	}
	var all []Context
	for _, jobs := range shards {
		for _, s := range jobs {
			for _, o := range s.origins {
				all = append(all, Context{nameOf(s.ID, o), contextOf(s.Y[:o])})
			}
		}
	}
	said, err := outside(ctx, all)
	if err != nil {
		return Scores{}, err
	}
	var t tally
	for s := range walk.Shards {
		j := newJudge(shards[s], &opt)
		for i := range j.jobs {
			for _, o := range j.jobs[i].origins {
				f, ok := said[nameOf(j.jobs[i].ID, o)]
				switch {
				case !ok:
					return Scores{}, fmt.Errorf("bench forecast: nothing is said of series %s", j.jobs[i].ID)
				case f.Q == nil:
					t.failed++
					p := pastOf(j.jobs[i].Y[:o], j.jobs[i].Bound)
					for h := range j.q {
						p.step(h, &j.q[h])
					}
				case len(f.Q) != len(j.q):
					return Scores{}, fmt.Errorf("bench forecast: %d steps of series %s, want %d", len(f.Q), j.jobs[i].ID, len(j.q))
				default:
					for h := range j.q {
						j.q[h] = f.Q[h]
					}
				}
				t.fit += f.CPU
				t.calls++
				j.score(i, true, &t)
			}
		}
		j.sum(&t)
	}
	out := t.scores()
	out.ColdCPU, out.ForecastCPU, out.FitCPU, out.CPU = out.WalkCPU, 0, 0, 0
	return out, nil
}

func nameOf(id string, origin int) string { return fmt.Sprintf("%x-%d", walk.ID(id), origin) }

// contextOf is the end of y with gaps filled.
func contextOf(y []float32) (out []float32) {
	for _, v := range y[max(0, len(y)-window.Rows):] {
		switch {
		case v == v:
			out = append(out, v)
		case len(out) > 0:
			out = append(out, out[len(out)-1])
		}
	}
	return out
}

package sums

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/foreshift/foreshift/benchmarks/trace"
	"github.com/foreshift/foreshift/benchmarks/walk"
	"github.com/foreshift/foreshift/forecaster/ensemble"
	"github.com/foreshift/foreshift/schemas"
)

const (
	day  = schemas.StepsPerDay
	hour = 12
	// every is the number of steps between origins: 7 hours, so that they come at all
	// times of day.
	every = 7 * hour
	warm  = 8 * day // steps before the first origin
)

// Options of a run.
type Options struct {
	Groups  int    // random groups; default 40
	Least   int    // VMs of a group; default 10
	Most    int    // default 40
	Seed    uint64 // of the groups
	Model   string // as in [ensemble.Named]; default auto
	Workers int
}

// Method is one way to forecast a sum.
type Method int

// The methods.
const (
	Scenarios   Method = iota // our joint scenarios, added
	Independent               // the VMs' forecasts added as if independent
	PastDay                   // the sum's own last 24 hours
	PastHours                 // the sum's own last 7 days at the same time of day, an hour more or less
	numMethods
)

func (m Method) String() string {
	return [...]string{"scenarios", "independent", "past day", "past same time"}[m]
}

// Methods are all methods in the order to be shown.
func Methods() (all []Method) {
	for m := range numMethods {
		all = append(all, m)
	}
	return all
}

// Levels are the quantiles that are scored.
var Levels = [2]float64{.9, .95}

// Leads are the ranges of steps ahead that are scored apart; the last is all.
var Leads = [...]struct {
	Name     string
	From, To int
}{{"1h", 0, 12}, {"4h", 12, 48}, {"24h", 48, 288}, {"all", 0, 288}}

// Score of a method for one lead and level.
type Score struct {
	Loss  float64 `json:"loss"`  // mean pinball loss over the group's mean demand, in percent, mean over groups
	Cover float64 `json:"cover"` // share of steps at or below the quantile
	n     float64
}

// Result of a run. Scores are by method, lead and level.
type Result struct {
	Groups  int                                        `json:"groups"`
	Origins int                                        `json:"origins"`
	CPU     float64                                    `json:"cpu_s"`
	Scores  map[string]map[string][len(Levels)]Score   `json:"methods"`
	tally   [numMethods][len(Leads)][len(Levels)]Score // sums
}

// forecasts of one VM at one origin: the quantiles of each slot and the scenarios.
type forecast struct {
	dist  schemas.Dist
	paths []float32 // K+1 x slots x {cpu, mem}; nil: nothing was said
}

// Run scores sums over random groups of the series.
func Run(ctx context.Context, series []trace.Series, opt Options) (*Result, error) {
	if opt.Groups == 0 {
		opt.Groups = 40
	}
	if opt.Least == 0 {
		opt.Least, opt.Most = 10, 40
	}
	if opt.Model == "" {
		opt.Model = ensemble.Auto
	}
	if opt.Groups < 1 || opt.Least < 1 || opt.Most < opt.Least {
		return nil, errors.New("bench sums: want at least one group, of at least one VM")
	}
	c := clockOf(series)
	if len(c.origins) == 0 || len(series) < opt.Least {
		return nil, fmt.Errorf("bench sums: %d series over %d steps: groups of %d VMs and %d days and a day after are needed", len(series), c.end-c.first, opt.Least, warm/day)
	}
	said, weight, err := forecasts(ctx, series, c, &opt)
	if err != nil {
		return nil, fmt.Errorf("bench sums: %w", err)
	}
	rng := rand.New(rand.NewPCG(opt.Seed, 0x5f37))
	groups := make([][]int, opt.Groups)
	for g := range groups {
		n := opt.Least + rng.IntN(min(opt.Most, len(series))-opt.Least+1)
		groups[g] = slices.Clone(rng.Perm(len(series))[:n])
		slices.Sort(groups[g])
	}
	parts := make([]Result, len(groups))
	if err := walk.Parallel(ctx, opt.Workers, len(groups), func(g int) error {
		parts[g].group(series, c, groups[g], said, weight, rand.New(rand.NewPCG(opt.Seed, uint64(g))))
		return ctx.Err()
	}); err != nil {
		return nil, fmt.Errorf("bench sums: %w", err)
	}
	res := &Result{Groups: len(groups), Origins: len(c.origins), Scores: map[string]map[string][len(Levels)]Score{}}
	for m := range numMethods {
		res.Scores[m.String()] = map[string][len(Levels)]Score{}
		for l, lead := range Leads {
			var row [len(Levels)]Score
			for q := range Levels {
				n := 0.
				for g := range parts {
					if s := parts[g].tally[m][l][q]; s.n > 0 {
						row[q].Loss += s.Loss / s.n
						row[q].Cover += s.Cover / s.n
						n++
					}
				}
				row[q].Loss, row[q].Cover = row[q].Loss/max(1, n), row[q].Cover/max(1, n)
			}
			res.Scores[m.String()][lead.Name] = row
		}
	}
	return res, nil
}

// clock is the range all series share and the origins in it (t of the first step
// forecast).
type clock struct {
	first, end int
	origins    []int
}

func clockOf(series []trace.Series) (c clock) {
	for i := range series {
		if i == 0 {
			c.first, c.end = series[i].Start, series[i].End()
		}
		c.first, c.end = min(c.first, series[i].Start), max(c.end, series[i].End())
	}
	for o := c.first + warm; o+day <= c.end; o += every {
		c.origins = append(c.origins, o)
	}
	return c
}

// forecasts are what the ensemble said at each origin: by origin, by series; and the
// scenarios' weights by origin.
func forecasts(ctx context.Context, series []trace.Series, c clock, opt *Options) (said [][]forecast, weight [][]float32, err error) {
	var shards [walk.Shards][]int
	for i := range series {
		s := walk.Shard(series[i].ID)
		shards[s] = append(shards[s], i)
	}
	said, weight = make([][]forecast, len(c.origins)), make([][]float32, len(c.origins))
	for o := range said {
		said[o] = make([]forecast, len(series))
	}
	// The common path that VMs without history follow is made of all VMs, as in service;
	// VMs differ, and so do their windows, so each shard keeps its own and joins at the end.
	var walks [walk.Shards]*walk.Bank
	for s, mine := range shards {
		b, err := ensemble.Named(opt.Model)
		if err != nil {
			return nil, nil, err
		}
		list := make([]*trace.Series, len(mine))
		for k, i := range mine {
			list[k] = &series[i]
		}
		walks[s] = walk.New(b, list)
	}
	var joint ensemble.Joint
	from := c.first
	for o, at := range c.origins {
		if err := walk.Parallel(ctx, opt.Workers, walk.Shards, func(s int) error {
			w := walks[s]
			for t := from; t < at; t++ {
				if err := w.Step(t); err != nil {
					return err
				}
				if w.Wants() && t < at-1 {
					for k := range shards[s] {
						w.Ask(k)
					}
				}
			}
			for k, i := range shards[s] {
				said[o][i].dist = schemas.NewDist()
				w.Forecast(k, &said[o][i].dist)
			}
			return ctx.Err()
		}); err != nil {
			return nil, nil, err
		}
		from = at
		joint.Begin(walk.Epoch+schemas.Step(at-1), at-c.first)
		weight[o] = joint.Weight
		for s, mine := range shards {
			for k := range mine {
				if v := walks[s].Window(k); v.N > 0 {
					joint.Join(&v)
				}
			}
		}
		nothing := schemas.NewDist()
		nothing.Q[0] = schemas.NaN()
		for s, mine := range shards {
			for k, i := range mine {
				f := &said[o][i]
				if v := walks[s].Window(k); f.dist.Q[0] == f.dist.Q[0] && v.N > 0 {
					f.paths = make([]float32, (ensemble.K+1)*schemas.Slots*schemas.ScenarioResources)
					joint.Paths(&v, [schemas.ScenarioResources]schemas.Dist{f.dist, nothing}, f.paths)
				}
			}
		}
	}
	return said, weight, nil
}

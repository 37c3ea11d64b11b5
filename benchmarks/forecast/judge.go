package forecast

import (
	"context"
	"fmt"

	"github.com/foreshift/foreshift/benchmarks/trace"
	"github.com/foreshift/foreshift/benchmarks/walk"
	"github.com/foreshift/foreshift/forecaster/ensemble"
	"github.com/foreshift/foreshift/forecaster/window"
	"github.com/foreshift/foreshift/schemas"
)

// judge scores what is said of the series of a shard at their origins.
type judge struct {
	opt   *Options
	jobs  []job
	next  []int // origin by series
	own   []losses
	base  []losses
	scale []float64
	done  []int // forecasts scored against the naive one
	made  []int // forecasts
	cover []share
	q     []quantiles
	flat  []float32
	dist  schemas.Dist
	text  []byte
}

func newJudge(jobs []job, opt *Options) *judge {
	n := len(jobs)
	return &judge{opt: opt, jobs: jobs, next: make([]int, n), own: make([]losses, n), base: make([]losses, n), scale: make([]float64, n),
		done: make([]int, n), made: make([]int, n), cover: make([]share, n), q: make([]quantiles, opt.Horizon), flat: make([]float32, 9*opt.Horizon), dist: schemas.NewDist()}
}

// walk takes a model through the series.
func (j *judge) walk(ctx context.Context, name string, t *tally) error {
	if j.opt.Cold {
		return j.cold(ctx, name, t)
	}
	b, err := ensemble.Named(name)
	if err != nil {
		return err
	}
	list := make([]*trace.Series, len(j.jobs))
	for i := range list {
		list[i] = j.jobs[i].Series
	}
	w := walk.New(b, list)
	for i := range j.jobs {
		o := j.jobs[i].origins
		w.Until(i, j.jobs[i].Start+o[len(o)-1])
	}
	first, end := w.Range()
	for at := first; at < end; at++ {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err := w.Step(at); err != nil {
			return err
		}
		wants := w.Wants()
		for i := range j.jobs {
			s := &j.jobs[i]
			switch {
			case j.next[i] == len(s.origins):
			case s.Start+s.origins[j.next[i]] == at+1:
				j.score(i, j.expand(w, i), t)
			case wants:
				w.Ask(i)
			}
		}
	}
	t.fit, t.forecast, t.steps, t.calls = w.Used()
	j.sum(t)
	return nil
}

// cold gives a fresh bank the window before each origin, one fit and one forecast.
func (j *judge) cold(ctx context.Context, name string, t *tally) error {
	for i := range j.jobs {
		s := &j.jobs[i]
		for _, o := range s.origins {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			b, err := ensemble.Named(name)
			if err != nil {
				return err
			}
			from := max(0, o-window.Rows)
			w := walk.New(b, []*trace.Series{{ID: s.ID, Start: s.Start + from, Y: s.Y[from:o]}})
			if err := w.Fill(); err != nil {
				return fmt.Errorf("from cold: %w", err)
			}
			j.score(i, j.expand(w, 0), t)
			fit, forecast, steps, calls := w.Used()
			t.fit, t.forecast, t.steps, t.calls = t.fit+fit, t.forecast+forecast, t.steps+steps, t.calls+calls
		}
	}
	j.sum(t)
	return nil
}

// stepForecaster is what a bank may have beside: quantiles of single steps instead
// of slots.
type stepForecaster interface {
	StepQuantiles(i int, from schemas.Step, n int, levels []float32, dst []float32) bool
}

// expand asks for the forecast of series i and turns the distribution on the grid into
// quantiles of every step of the horizon; beyond the first day the bank is asked for a
// grid that begins later. It is false when nothing is said.
func (j *judge) expand(w *walk.Bank, i int) bool {
	w.Forecast(i, &j.dist)
	if f, ok := w.Bank.(stepForecaster); ok {
		if w.Time(func() { ok = f.StepQuantiles(w.Index(i), w.At()+1, len(j.q), nineLevels[:], j.flat) }); ok && j.flat[0] == j.flat[0] {
			for h := range j.q {
				copy(j.q[h][:], j.flat[9*h:9*h+9])
			}
			return true
		}
	}
	known := false
	for h := range j.q {
		if h > 0 && h%season == 0 {
			w.Later(i, h, &j.dist)
		}
		g := schemas.Grid{}
		d := j.dist.At(g.SlotOf(schemas.Step(h % season)))
		if d[0] != d[0] {
			if h > 0 { // a slot nobody speaks of: as the one before
				j.q[h] = j.q[h-1]
			}
			continue
		}
		for k, l := range nine {
			j.q[h][k] = d[l]
		}
		if !known {
			known = true
			for b := range h {
				j.q[b] = j.q[h]
			}
		}
	}
	return known
}

// score compares the forecast of series i in j.q with what came after its next origin;
// when nothing was said the last value stands in.
func (j *judge) score(i int, said bool, t *tally) {
	s := &j.jobs[i]
	o := s.origins[j.next[i]]
	j.next[i]++
	p := pastOf(s.Y[:o], s.Bound)
	if !said {
		t.withheld++
		for h := range j.q {
			for k := range j.q[h] {
				j.q[h][k] = p.naive[season-1]
			}
		}
	}
	if j.opt.Out != nil {
		j.lines(s.ID, s.Start+o)
	}
	var naive quantiles
	any := false
	for h := range j.q {
		if o+h >= len(s.Y) {
			break
		}
		y := float64(s.Y[o+h])
		if y != y {
			continue
		}
		any = true
		t.pooled(y, &j.q[h])
		j.cover[i].count(y >= float64(j.q[h][0]) && y <= float64(j.q[h][8]))
		if p.ok {
			p.step(h, &naive)
			j.own[i].add(h, y, &j.q[h], p.bound)
			j.base[i].add(h, y, &naive, p.bound)
		}
	}
	if !any {
		return
	}
	j.made[i]++
	if p.ok {
		j.scale[i] += p.scale
		j.done[i]++
	}
}

// sum adds the series' scores to the tally.
func (j *judge) sum(t *tally) {
	for i := range j.jobs {
		if j.made[i] > 0 {
			t.scored++
			t.forecasts += j.made[i]
			t.cover += j.cover[i].in / j.cover[i].of
		}
		if j.done[i] > 0 {
			t.series(&j.own[i], &j.base[i], j.scale[i]/float64(j.done[i]))
		}
	}
}

// nineLevels are the levels scored.
var nineLevels = func() (a [9]float32) {
	for k, l := range nine {
		a[k] = schemas.Levels[l]
	}
	return a
}()

package forecast

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"sync"

	"github.com/apache/arrow/go/v17/arrow/memory"
	"github.com/cespare/xxhash/v2"
	"github.com/foreshift/foreshift/benchmarks/trace"
	"github.com/foreshift/foreshift/forecaster/ensemble"
	"github.com/foreshift/foreshift/forecaster/model"
	"github.com/foreshift/foreshift/forecaster/window"
	"github.com/foreshift/foreshift/schemas"
	"golang.org/x/sys/unix"
)

// Shards is the number of groups of series that share a bank.
const Shards = 16

// Options of a run.
type Options struct {
	Horizon int      // steps; default a day
	Models  []string // names as in [ensemble.Named]; default auto
	Windows int      // > 0: the last that many windows of the horizon's length; 0: every day after the first week
	Workers int      // default the number of cores
	Out     io.Writer
}

// Result of a run, by model in the order asked for.
type Result struct {
	Series  int               `json:"series"` // in the files
	Horizon int               `json:"horizon_steps"`
	Models  []string          `json:"order"`
	Scores  map[string]Scores `json:"models"`
}

// maxHorizon bounds a horizon: two weeks of 5 minutes.
const maxHorizon = 14 * season

// Run walks through the series and scores the models.
func Run(ctx context.Context, series []trace.Series, opt Options) (*Result, error) {
	if opt.Horizon == 0 {
		opt.Horizon = season
	}
	if opt.Horizon < 1 || opt.Horizon > maxHorizon {
		return nil, fmt.Errorf("bench forecast: a horizon of %d steps is not within 1..%d", opt.Horizon, maxHorizon)
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
	if opt.Workers <= 0 {
		opt.Workers = runtime.GOMAXPROCS(0)
	}
	jobs := plan(series, &opt)
	if !slices.ContainsFunc(jobs, func(s []job) bool { return len(s) > 0 }) {
		return nil, fmt.Errorf("bench forecast: none of %d series is long enough: a week before the first origin (or, with windows, a day) and %d steps after are needed", len(series), opt.Horizon)
	}
	res := &Result{Series: len(series), Horizon: opt.Horizon, Models: opt.Models, Scores: map[string]Scores{}}
	out := csvOut{w: opt.Out}
	out.head()
	for _, name := range opt.Models {
		parts := make([]tally, Shards)
		texts := make([][]byte, Shards)
		if err := parallel(ctx, opt.Workers, Shards, func(s int) error {
			w, err := newWalk(jobs[s], name, &opt)
			if err != nil {
				return err
			}
			if err := w.run(ctx, &parts[s]); err != nil {
				return err
			}
			texts[s] = w.text
			return nil
		}); err != nil {
			return nil, fmt.Errorf("bench forecast: %s: %w", name, err)
		}
		var sum tally
		for s := range parts {
			sum.join(&parts[s])
			out.write(texts[s])
		}
		res.Scores[name] = sum.scores()
	}
	return res, out.err
}

// parallel runs f(0..n-1) on some threads and gives the first error by number.
func parallel(ctx context.Context, workers, n int, f func(int) error) error {
	errs := make([]error, n)
	next := make(chan int)
	var wg sync.WaitGroup
	for range min(workers, n) {
		wg.Go(func() {
			runtime.LockOSThread() // CPU time is counted by thread
			defer runtime.UnlockOSThread()
			for i := range next {
				errs[i] = f(i)
			}
		})
	}
	for i := range n {
		if ctx.Err() != nil {
			errs[i] = ctx.Err()
			break
		}
		next <- i
	}
	close(next)
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// cpu is the CPU time of the calling thread in seconds.
func cpu() float64 {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t); err != nil {
		return 0 // no such clock: CPU times read 0
	}
	return float64(t.Nano()) / 1e9
}

// job is a series and the origins it is scored at (index into Y of the first step
// forecast).
type job struct {
	*trace.Series
	key     model.Key
	origins []int
}

// plan says which series are scored where, by shard.
func plan(series []trace.Series, opt *Options) [][]job {
	shards := make([][]job, Shards)
	for i := range series {
		s := &series[i]
		j := job{Series: s, key: model.Key{VM: idOf(s.ID), Resource: schemas.CPU}}
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
			shards[xxhash.Sum64String(s.ID)%Shards] = append(shards[xxhash.Sum64String(s.ID)%Shards], j)
		}
	}
	return shards
}

// idOf makes the UUID of a series from its name.
func idOf(name string) (id schemas.VMID) {
	a, b := xxhash.Sum64String(name), xxhash.Sum64String(name+"#")
	for i := range 8 {
		id[i], id[8+i] = byte(a>>(8*i)), byte(b>>(8*i))
	}
	return id
}

// stepForecaster is what a bank may have beside: quantiles of single steps instead
// of slots.
type stepForecaster interface {
	StepQuantiles(i int, from schemas.Step, n int, levels []float32, dst []float32) bool
}

// walk takes one model through the series of a shard.
type walk struct {
	opt   *Options
	jobs  []job
	bank  model.Bank
	grasp func(schemas.Step) bool // steps at which the bank wants to be asked
	index []int
	win   []*window.Window
	next  []int // origin by series
	own   []losses
	base  []losses
	scale []float64
	done  []int
	dist  schemas.Dist
	q     []quantiles
	flat  []float32
	text  []byte
	csv   bool
}

func newWalk(jobs []job, name string, opt *Options) (*walk, error) {
	b, err := ensemble.Named(name)
	if err != nil {
		return nil, err
	}
	n := len(jobs)
	w := &walk{opt: opt, jobs: jobs, bank: b, index: make([]int, n), win: make([]*window.Window, n), next: make([]int, n),
		own: make([]losses, n), base: make([]losses, n), scale: make([]float64, n), done: make([]int, n),
		dist: schemas.NewDist(), q: make([]quantiles, opt.Horizon), flat: make([]float32, 9*opt.Horizon), csv: opt.Out != nil}
	if e, ok := b.(*ensemble.Ensemble); ok {
		w.grasp = e.Captures
	}
	for i := range jobs {
		w.index[i] = b.Add(jobs[i].key)
		w.win[i] = window.New(memory.NewGoAllocator())
	}
	return w, nil
}

// epoch is the step of t = 0: any multiple of a day far from 0 will do.
const epoch = schemas.Step(1000 * 7 * season)

func (w *walk) run(ctx context.Context, t *tally) error {
	first, end := 1<<62, 0
	for i := range w.jobs {
		j := &w.jobs[i]
		first = min(first, j.Start)
		end = max(end, j.Start+j.origins[len(j.origins)-1])
	}
	y := make([]float32, len(w.jobs))
	row := window.Row{Coverage: 1}
	for c := range row.V {
		row.V[c] = schemas.NaN()
	}
	for at := first; at < end; at++ {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		s := epoch + schemas.Step(at)
		for i := range w.jobs {
			v := w.value(i, at)
			y[w.index[i]] = v
			if v == v {
				row.Step, row.V[schemas.ColCPU] = s, v
				w.win[i].Put(&row)
				t.steps++
			}
		}
		if err := w.step(s, y, t); err != nil {
			return err
		}
	}
	for i := range w.jobs {
		if w.done[i] > 0 {
			t.series(&w.own[i], &w.base[i], w.scale[i]/float64(w.done[i]), w.done[i])
		}
	}
	return nil
}

// value is what series i was at time at, missing outside the file and after its last
// origin.
func (w *walk) value(i, at int) float32 {
	j := &w.jobs[i]
	k := at - j.Start
	if k < 0 || k >= j.origins[len(j.origins)-1] {
		return schemas.NaN()
	}
	return j.Y[k]
}

// step is what happens in service when a step closes.
func (w *walk) step(s schemas.Step, y []float32, t *tally) error {
	begun := cpu()
	w.bank.Observe(s, y, model.Regressors{})
	for i := range w.jobs {
		if w.win[i].Len() == 0 || w.next[i] == len(w.jobs[i].origins) {
			continue
		}
		v := w.win[i].View()
		if model.Due(w.jobs[i].key, v.First, s) != s {
			continue
		}
		if err := w.bank.Refit(w.index[i], v, w.jobs[i].key.Hash()); err != nil {
			return fmt.Errorf("series %s: %w", w.jobs[i].ID, err)
		}
	}
	t.fit += cpu() - begun
	grasp := w.grasp != nil && w.grasp(s)
	for i := range w.jobs {
		j := &w.jobs[i]
		if w.next[i] == len(j.origins) {
			continue
		}
		due := epoch+schemas.Step(j.Start+j.origins[w.next[i]]) == s+1
		if !due && (!grasp || w.win[i].Len() == 0) {
			continue
		}
		begun := cpu()
		w.bank.Forecast(w.index[i], schemas.Grid{Start: s + 1}, model.Regressors{}, &w.dist)
		t.forecast += cpu() - begun
		t.calls++
		if due {
			w.score(i, s, t)
			w.next[i]++
		}
	}
	return nil
}

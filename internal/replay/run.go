package replay

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/foreshift/foreshift/forecaster/ensemble"
)

// Options of a backtest; zero values take the defaults.
type Options struct {
	U          float64  // default .92
	Hosts      int      // default: by the sizing rule
	From, To   int      // days scored; default: from day 8 to the end
	Placements int      // default 8
	Policies   []string // default [Policies]
	Model      string   // as in [ensemble.Named]; default auto
	Forecasts  string   // file in which forecasts are kept; empty: nowhere
	Workers    int      // default: as many as cores
	World      string   // plain, the benchmark's, or rich; default plain
	Progress   func(done, total int)
}

// The worlds.
const (
	worldPlain = "plain"
	worldRich  = "rich"
)

// Policies are the names of all policies, in the order to be shown. Those of our
// placer take settings: predictive:benefit=600,look=12,trigger=.3,soft=.05,day=4.
func Policies() []string {
	return []string{"none", "react", "balancer", "spread", "persist", "predictive", "oracle-6h"}
}

// The defaults of our placer by what it is told, chosen on one recorded month. What the
// last value says is certain, so that less benefit is enough; what the truth says is
// certain for longer.
func settingsOf(name string) (Settings, bool) {
	switch name {
	case "persist":
		return Settings{MinBenefit: 100, LookAhead: 24, Trigger: .25, SoftWeight: .05, PerDay: 24}, true
	case "predictive":
		return Settings{MinBenefit: 650, LookAhead: 24, Trigger: .4, SoftWeight: .03, PerDay: 24, Trust: true}, true
	case "oracle-6h":
		return Settings{MinBenefit: 30, LookAhead: 72, Trigger: .01, SoftWeight: 0, PerDay: 1000}, true
	}
	return Settings{}, false
}

// parse reads a policy's name with its settings.
func parse(spec string) (name string, set Settings, err error) {
	name, rest, some := strings.Cut(spec, ":")
	if !slices.Contains(Policies(), name) {
		return name, set, fmt.Errorf("no policy %q; there are %s", name, strings.Join(Policies(), ", "))
	}
	set, ours := settingsOf(name)
	if !some {
		return name, set, nil
	}
	if !ours {
		return name, set, fmt.Errorf("policy %s has no settings", name)
	}
	for _, one := range strings.Split(rest, ",") {
		key, value, _ := strings.Cut(one, "=")
		x, err := strconv.ParseFloat(value, 64)
		if err != nil || !(x >= 0) || x > 1e6 {
			return name, set, fmt.Errorf("policy %s: %s: want a number from 0 to 1e6", spec, one)
		}
		switch key {
		case "benefit":
			set.MinBenefit = x
		case "look":
			set.LookAhead = int(x)
		case "trigger":
			set.Trigger = x
		case "soft":
			set.SoftWeight = x
		case "day":
			set.PerDay = int(x)
		case "hold":
			set.Hold = x
		case "trust":
			set.Trust = x > 0
		case "flat":
			set.Flat = x > 0
		default:
			return name, set, fmt.Errorf("policy %s: no setting %q; there are benefit, look, trigger, soft, day, hold, flat, trust", spec, key)
		}
	}
	if set.LookAhead < 1 || set.LookAhead > day || set.Trigger > 1 || set.SoftWeight > 1 || set.Hold > 1 {
		return name, set, fmt.Errorf("policy %s: want look from 1 to %d steps, trigger, soft and hold at most 1", spec, day)
	}
	return name, set, nil
}

// Check says what is wrong with the options, before anything is read.
func (o *Options) Check() error {
	if o.U == 0 {
		o.U = .92
	}
	if o.Placements == 0 {
		o.Placements = 8
	}
	if len(o.Policies) == 0 {
		o.Policies = Policies()
	}
	if o.Model == "" {
		o.Model = ensemble.Auto
	}
	if o.Workers <= 0 {
		o.Workers = runtime.GOMAXPROCS(0)
	}
	if o.Placements < 1 || o.Placements > 1000 || o.Hosts < 0 || o.Hosts == 1 || o.Hosts > maxHosts || o.From < 0 || o.To < 0 {
		return errors.New("backtest: want 1 to 1000 placements, hosts 2 or more, and days from 0")
	}
	var errs []error
	if o.World != "" && o.World != worldPlain && o.World != worldRich {
		errs = append(errs, fmt.Errorf("no world %q; there are %s and %s", o.World, worldPlain, worldRich))
	}
	for i, p := range o.Policies {
		name, set, err := parse(p)
		errs = append(errs, err)
		if slices.Contains(o.Policies[:i], p) {
			errs = append(errs, fmt.Errorf("policy %s is named twice", p))
		}
		if o.Forecasts != "" && name == "predictive" && set.LookAhead > cacheMost {
			errs = append(errs, fmt.Errorf("policy %s: forecasts are kept for %d steps", p, cacheMost))
		}
	}
	if _, err := ensemble.Named(o.Model); err != nil {
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("backtest: %w", err)
	}
	return nil
}

// run is one placement under one policy.
type run struct {
	kind   string // of the frames it wants; empty: none
	world  *World
	policy Policy // nil: nothing moves
	ours   *ours  // the same, when it is our placer
}

func (r *run) step(t int, frames map[string]*Frame, last bool) {
	r.world.Step(t)
	if r.policy == nil || last {
		return
	}
	if r.ours != nil {
		r.ours.frame = frames[r.kind]
	}
	for _, m := range r.policy.Decide(r.world, t) {
		if !r.world.Begin(m, t) && r.ours != nil {
			r.ours.refused(&m, t)
		}
	}
}

// Run plays all policies from all placements through the history. It is the same for
// any number of workers.
func Run(ctx context.Context, h *History, opt Options) (*Result, error) {
	if err := opt.Check(); err != nil {
		return nil, err
	}
	f, err := Size(h, opt.U, opt.Hosts, opt.From, opt.To)
	if err != nil {
		return nil, err
	}
	feasible := true
	var runs []*run
	var watches []*watch
	kinds := map[string]Source{}
	for seed := range opt.Placements {
		at, ok := Place(h, f, int64(seed+1))
		feasible = feasible && ok
		for _, spec := range opt.Policies {
			name, set, err := parse(spec)
			if err != nil {
				return nil, err
			}
			r := &run{world: NewWorld(h, f, at)}
			if opt.World == worldRich {
				r.world.rich = DefaultRich()
			}
			switch name {
			case "react":
				r.policy = &react{}
			case "balancer":
				r.policy = &balancer{}
			case "spread":
				r.policy = &spread{}
			case "persist", "predictive", "oracle-6h":
				r.kind, r.ours = name, newOurs(spec, h, set)
				r.policy = r.ours
				if x := r.world.rich; x != nil {
					r.ours.bandwidth(x.Link)
				}
				kinds[name] = nil
			}
			runs = append(runs, r)
		}
		watches = append(watches, newWatch(h, f, at))
	}
	first, last := f.Start, f.End-1
	closers := []func() error{}
	for name := range kinds {
		switch name {
		case "persist":
			kinds[name] = persist{h}
		case "oracle-6h":
			kinds[name] = oracle{h}
		default:
			src, whole, done, err := predicted(h, &opt)
			if err != nil {
				return nil, err
			}
			if kinds[name] = src; whole {
				first, last = warmDays*day, h.Steps-1
			}
			closers = append(closers, done)
		}
	}
	err = play(ctx, h, f, &opt, runs, watches, kinds, first, last)
	if err == nil {
		for _, c := range closers {
			err = errors.Join(err, c())
		}
	}
	if err != nil {
		return nil, err
	}
	return summarise(h, f, &opt, runs, watches, feasible), nil
}

// predicted is the source of forecasts: those kept, or those made now, and then kept if
// a file is named for it; whole says that all steps are wanted.
func predicted(h *History, opt *Options) (src Source, whole bool, done func() error, err error) {
	if opt.Forecasts != "" {
		r, ok, err := openCache(h, opt.Model, warmDays*day, opt.Forecasts)
		if err != nil {
			return nil, false, nil, err
		}
		if ok {
			return r, false, r.close, nil
		}
	}
	p, err := newPredictive(h, opt.Model)
	if err != nil || opt.Forecasts == "" {
		return p, false, func() error { return nil }, err
	}
	part := opt.Forecasts + ".part"
	w, err := newWriter(p, h, opt.Model, warmDays*day, part)
	if err != nil {
		return nil, false, nil, err
	}
	return w, true, func() error {
		if err := w.close(); err != nil {
			return err
		}
		return os.Rename(part, opt.Forecasts)
	}, nil
}

// ahead is how many steps' frames may wait for the worlds.
const ahead = 3

// bundle is what is foreseen after one step.
type bundle struct {
	t      int
	frames map[string]*Frame
	err    error
}

// play goes through the steps. Forecasts of the next steps are made while the worlds
// use those of the last.
func play(ctx context.Context, h *History, f Fleet, opt *Options, runs []*run, watches []*watch, kinds map[string]Source, first, last int) error {
	ctx, cancel := context.WithCancel(ctx)
	free, ready := make(chan bundle, ahead), make(chan bundle, ahead)
	for range ahead {
		b := bundle{frames: map[string]*Frame{}}
		for name := range kinds {
			b.frames[name] = newFrame(h)
		}
		free <- b
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() {
		defer close(ready)
		for t := first; t <= last; t++ {
			select {
			case <-ctx.Done():
				return
			case b := <-free:
				b.t = t
				for name, src := range kinds { // they know nothing of each other
					if b.err = src.After(t, b.frames[name]); b.err != nil {
						break
					}
				}
				select {
				case ready <- b:
				case <-ctx.Done():
					return
				}
				if b.err != nil {
					return
				}
			}
		}
	})
	for b := range ready {
		if b.err != nil {
			return b.err
		}
		if b.t >= f.Start && b.t < f.End {
			end := b.t+1 >= f.End
			each(opt.Workers, len(runs), func(i int) { runs[i].step(b.t, b.frames, end) })
			if fr := b.frames["predictive"]; fr != nil {
				each(opt.Workers, len(watches), func(i int) { watches[i].step(b.t, fr) })
			}
		}
		if opt.Progress != nil {
			opt.Progress(b.t-first+1, last-first+1)
		}
		free <- b
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("backtest: %w", err)
	}
	for _, r := range runs {
		if r.ours != nil && r.ours.foul != nil {
			return r.ours.foul
		}
	}
	return nil
}

// each runs f(0..n-1) on some goroutines. Each call touches only what is its own.
func each(workers, n int, f func(int)) {
	if workers = min(workers, n); workers <= 1 {
		for i := range n {
			f(i)
		}
		return
	}
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := w; i < n; i += workers {
				f(i)
			}
		})
	}
	wg.Wait()
}

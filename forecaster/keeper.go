package forecaster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/foreshift/foreshift/forecaster/lstm"
	"github.com/foreshift/foreshift/schemas"
	"github.com/foreshift/foreshift/streams"
)

// modelKeeper is the shell's side of the versions of learnt state: it fetches the
// bytes of those announced, chooses the origins of scenarios, and in the background
// trains the network on the fleet's own history and publishes what turned out better. All but the training runs in the
// goroutine that owns the decider.
type modelKeeper struct {
	ctx    context.Context
	bus    *streams.Bus
	cfg    Config
	log    *slog.Logger
	newest map[string]*schemas.Model // announced, by name
	wanted map[string]int            // of them still to be fetched: attempts left
	retry  time.Time                 // when a fetch that failed is tried again
	due    time.Time                 // when the network is trained next
	steps  int                       // updates of a training
	pause  time.Duration             // slept for each nanosecond of training
	ended  chan struct{}             // closed when no training runs
	told   chan struct{}             // closed when no origins are on their way
	choose time.Time                 // when origins may be chosen next
}

// Bounds of the background work.
const (
	fetchLimit   = 5 * time.Second
	fetchTries   = 5
	fetchRetry   = 10 * time.Second
	keepVersions = 20
	tuneFirst    = 10 * time.Minute // after the start: a fleet that just came up has better uses of its CPU
	tuneSeries   = 400              // series of a training, 9 KB each
	tuneUpdates  = 200              // about 10 s of CPU, and as much to judge them
	tuneSlice    = 4                // updates between two pauses
	tunePause    = 3                // sleeps for each unit of time spent
	originsEvery = 12               // base steps between two choices of origins,
	originsLeast = time.Minute      // and the least time
)

func newModelKeeper(ctx context.Context, bus *streams.Bus, cfg Config, log *slog.Logger) *modelKeeper {
	k := &modelKeeper{ctx: ctx, bus: bus, cfg: cfg, log: log, newest: map[string]*schemas.Model{}, wanted: map[string]int{},
		due: time.Now().Add(min(tuneFirst, cfg.TuneEvery)), steps: tuneUpdates, pause: tunePause,
		ended: make(chan struct{}), told: make(chan struct{})}
	close(k.ended)
	close(k.told)
	return k
}

// announced takes note of a version; the newest of a name counts.
func (k *modelKeeper) announced(m *schemas.Model) {
	if old := k.newest[m.Name]; old == nil || m.Version > old.Version {
		k.newest[m.Name], k.wanted[m.Name] = m, fetchTries
		k.retry = time.Time{}
	}
}

// fetch gives the versions announced since the last call, with their bytes.
func (k *modelKeeper) fetch() (out []*Version) {
	if len(k.wanted) == 0 || time.Now().Before(k.retry) {
		return nil
	}
	ctx, cancel := context.WithTimeout(k.ctx, fetchLimit)
	defer cancel()
	for name := range k.wanted {
		m := k.newest[name]
		data, err := k.bus.Object(ctx, streams.ObjectModels, streams.SubjectModel(name, m.Version))
		if err == nil {
			out = append(out, &Version{Model: *m, Data: data})
			delete(k.wanted, name)
			continue
		}
		k.retry = time.Now().Add(fetchRetry)
		if k.wanted[name]--; k.wanted[name] == 0 || errors.Is(err, streams.ErrNotFound) {
			k.log.Warn("model not fetched; going on with the one in force", "name", name, "version", m.Version, "err", err)
			delete(k.wanted, name)
		}
	}
	slices.SortFunc(out, func(a, b *Version) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

// train starts a training when one is due and none runs. It copies what it needs of
// the decider and touches nothing of it after.
func (k *modelKeeper) train(d *Decider) {
	select {
	case <-k.ended:
	default:
		return
	}
	if k.cfg.TuneEvery < 0 || time.Now().Before(k.due) {
		return
	}
	k.due = time.Now().Add(k.cfg.TuneEvery)
	series := d.Sample(tuneSeries)
	from, err := d.Network()
	if err != nil {
		k.log.Warn("network not fine-tuned", "err", err)
		return
	}
	next, lease := k.next(ModelLSTM), k.cfg.Lease()
	k.ended = make(chan struct{})
	go func() {
		defer close(k.ended)
		if err := k.tune(from, series, next, lease); err != nil && k.ctx.Err() == nil {
			k.log.Warn("network not fine-tuned", "series", len(series), "err", err)
		}
	}()
}

// tune trains, and publishes weights that are better on VMs held back.
func (k *modelKeeper) tune(from *lstm.Weights, series []lstm.Series, version, lease uint64) error {
	tuner, err := lstm.NewTuner(from, series, lstm.Options{Seed: version, Updates: k.steps})
	if err != nil {
		return err
	}
	for begun := time.Now(); tuner.Tune(tuneSlice); begun = time.Now() {
		select {
		case <-k.ctx.Done():
			return nil
		case <-time.After(k.pause * time.Since(begun)): // the cores belong to the forecasts
		}
	}
	tuned := tuner.Result()
	if !tuned.Adopted {
		k.log.Info("network fine-tuned, no better than before", "before", tuned.Before, "after", tuned.After)
		return nil
	}
	data := tuned.Weights.Encode()
	now := schemas.At(time.Now())
	m := schemas.Model{Name: ModelLSTM, Version: version, Time: now, Step: schemas.StepAt(now, k.cfg.Base) + boundary,
		Scores: map[string]float64{"loss_before_ratio": tuned.Before, "loss_after_ratio": tuned.After}}
	if err := k.publish(m, data, lease); err != nil {
		return err
	}
	k.log.Info("network fine-tuned", "version", version, "before", tuned.Before, "after", tuned.After)
	return nil
}

// publish stores the bytes of a version, announces it, and lets go of the one that is
// too old by now.
func (k *modelKeeper) publish(m schemas.Model, data []byte, lease uint64) error {
	m.Digest, m.Size = Digest(data), len(data)
	subject := streams.SubjectModel(m.Name, m.Version)
	if err := k.bus.PutObject(k.ctx, streams.ObjectModels, subject, data); err != nil {
		return err
	}
	if _, err := k.bus.Publish(k.ctx, streams.Out{Subject: subject, ID: fmt.Sprintf("%s.%s", subject, m.Digest), Msg: &m,
		Lease: lease, Expect: &streams.Expect{Filter: subject}}); err != nil {
		return err
	}
	if m.Version <= keepVersions {
		return nil
	}
	return k.bus.DeleteObject(k.ctx, streams.ObjectModels, streams.SubjectModel(m.Name, m.Version-keepVersions))
}

// next is the number of the version after the newest announced.
func (k *modelKeeper) next(name string) uint64 {
	if m := k.newest[name]; m != nil {
		return m.Version + 1
	}
	return 1
}

// origins chooses the origins of the fleet's scenarios when that is due, and publishes
// them in the background.
func (k *modelKeeper) origins(d *Decider) {
	select {
	case <-k.told:
	default:
		return
	}
	if m := k.newest[ModelOrigins]; !d.made || time.Now().Before(k.choose) || m != nil && d.issued < m.Step-boundary+originsEvery {
		return
	}
	k.choose = time.Now().Add(originsLeast)
	m := schemas.Model{Name: ModelOrigins, Version: k.next(ModelOrigins), Time: schemas.At(time.Now()), Step: d.issued + boundary,
		Scores: map[string]float64{}}
	origins := d.ChooseOrigins(m.Step)
	if origins == nil { // too young a fleet
		return
	}
	k.told = make(chan struct{})
	lease := k.cfg.Lease()
	go func() {
		defer close(k.told)
		data, err := encodeOrigins(origins)
		if err == nil {
			err = k.publish(m, data, lease)
		}
		if err != nil && k.ctx.Err() == nil {
			k.log.Warn("origins of scenarios not published", "version", m.Version, "err", err)
		}
	}()
}

// boundary is how many base steps ahead a version comes into force, so that every
// instance has it by then.
const boundary = 2

// wait returns when nothing runs in the background; the context must have ended.
func (k *modelKeeper) wait() { <-k.ended; <-k.told }

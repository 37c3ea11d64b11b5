// Package tune is the slowest loop of learning, live: once a week it looks whether other
// values of the settings would have done better on what the fleet asked for so far, and
// changes the policy by a step where that is expected and hardly can do harm.
//
// What comes in: the policy with its bounds, the acts of operators, base steps and the
// hosts' capacity, from the bus. What goes out: at most one act `policy` a week, with its
// evidence, signed by the placer's role; and the ledger, a small object beside the
// snapshots: what each value would have lost on each day so far.
//
// What is promised:
//
//   - Nothing is changed that the operator has not given bounds for, nothing at all
//     without `settings` in the policy's `learning`: then it is only told in the log.
//   - Values are tried in shadow before they have an effect. A setting goes towards the
//     best by a factor of 1.6 at the most.
//   - A look plays the week since the last one and weighs all days of the ledger: eight
//     weeks at the most.
//   - An act is published only if no other policy came between reading and writing.
//   - What the operator said stands for a week; what was rolled back rests for four.
//   - One of any number of them works, by lease. It cannot move anything: the placer
//     takes the act like any other.
//
// Why beside the placer and not in it: a look plays weeks of demand, which takes minutes
// of CPU; a decider answers in milliseconds.
package tune

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/foreshift/foreshift/forecaster/ensemble"
	"github.com/foreshift/foreshift/internal/replay"
	"github.com/foreshift/foreshift/placer/fleet"
	"github.com/foreshift/foreshift/placer/policy"
	"github.com/foreshift/foreshift/placer/policy/learning"
	"github.com/foreshift/foreshift/schemas"
	"github.com/foreshift/foreshift/streams"
)

// Config are the settings; zero values take the defaults.
type Config struct {
	Base       time.Duration // length of the base step; default 5 min
	Policy     policy.Policy // until the bus says otherwise; default [policy.Default]
	Model      string        // that forecasts; default auto
	Placements int           // random ones to start from; default 8: what sets two values apart on one or two is luck
	Workers    int           // default 1: the rest of the machine is for the services
	Every      time.Duration // between two checks whether a look is due; default 12 base steps
	LeaseTTL   time.Duration // default 10 s
}

func (c Config) withDefaults() Config {
	if c.Base <= 0 {
		c.Base = schemas.DefaultBase
	}
	if c.Policy.Mode == "" {
		c.Policy = policy.Default()
	}
	if c.Model == "" {
		c.Model = ensemble.Auto
	}
	if c.Placements <= 0 {
		c.Placements = 8
	}
	if c.Workers <= 0 {
		c.Workers = 1
	}
	if c.Every <= 0 {
		c.Every = 12 * c.Base
	}
	if c.LeaseTTL <= 0 {
		c.LeaseTTL = 10 * time.Second
	}
	return c
}

// leaseKey is the key under which one of them works.
const leaseKey = "tuner"

const (
	lookDays = 7       // that are played
	ledger   = "tuner" // name of the object
	warmDays = 9       // before them, to learn from, and a day that may not be whole
	byName   = "foreshift"
	patience = time.Minute // of a read of the bus
)

// Run looks at settings until ctx ends.
func Run(ctx context.Context, bus *streams.Bus, cfg Config, log *slog.Logger) error {
	cfg = cfg.withDefaults()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	lease, err := bus.Hold(ctx, leaseKey, cfg.LeaseTTL)
	if err != nil {
		return fmt.Errorf("tuner: %w", err)
	}
	defer func() {
		stop()
		<-lease.Done()
	}()
	t := &tuner{cfg: cfg, bus: bus, log: log}
	tick := time.NewTicker(cfg.Every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-tick.C:
			if lease.Revision() == 0 {
				continue
			}
			if err := t.look(ctx, schemas.At(now)); err != nil && ctx.Err() == nil {
				log.Warn("settings could not be looked at", "error", err)
			}
		}
	}
}

type tuner struct {
	cfg Config
	bus *streams.Bus
	log *slog.Logger
}

// look does what is due now.
func (t *tuner) look(ctx context.Context, now schemas.Time) error {
	f, past, seq, err := t.read(ctx)
	if err != nil {
		return err
	}
	p, _ := f.Document(t.cfg.Policy)
	led, err := t.ledger(ctx)
	if err != nil {
		return err
	}
	resting, why := learning.Due(&p, past, led.Looked, now, t.cfg.Base)
	g, outside := learning.GridOf(&p)
	if why.OK() {
		why = outside
	}
	if !why.OK() {
		t.log.Debug("settings are not looked at", "why", why)
		return nil
	}
	h, o, err := t.recorded(ctx)
	if err != nil {
		return err
	}
	days, err := replay.Look(ctx, h, o, p)
	if err != nil {
		return err
	}
	led.Add(g.Key(&p), days)
	led.Looked = now
	if err := t.keep(ctx, led); err != nil {
		return err
	}
	ch := learning.Decide(p, g, led.Days, resting)
	switch {
	case !ch.Reason.OK():
		t.log.Info("settings stay as they are", "why", ch.Reason)
		return nil
	case !p.Learning.Settings:
		t.log.Info("settings would be changed, and the policy says only to tell", "why", ch.Reason.Detail)
		return nil
	}
	ch.Policy.Version = f.NextVersion()
	a := &schemas.Act{ID: "learnt-" + schemas.HashJSON([]any{ch.Policy.Version, ch.Evidence}), Act: schemas.ActPolicy, By: byName, Time: now,
		Why: ch.Reason.Detail, Policy: &ch.Policy, Evidence: &ch.Evidence}
	subject := streams.SubjectAct(schemas.ActPolicy)
	_, err = t.bus.Publish(ctx, streams.Out{Subject: subject, ID: a.ID, Msg: a, Expect: &streams.Expect{Filter: subject, Seq: seq}})
	if errors.Is(err, streams.ErrLostRace) {
		t.log.Info("settings are not changed: an operator set another policy meanwhile")
		return nil
	}
	if err == nil {
		t.log.Info("settings were changed", "version", ch.Policy.Version, "why", ch.Reason.Detail)
	}
	return err
}

// ledger reads what was played so far. One that cannot be read is begun anew: it holds
// nothing that the next weeks do not bring again.
func (t *tuner) ledger(ctx context.Context) (led learning.Ledger, err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	b, err := t.bus.Object(ctx, streams.ObjectSnapshots, ledger)
	if errors.Is(err, streams.ErrNotFound) {
		return led, nil
	}
	if err != nil {
		return led, err
	}
	if err := json.Unmarshal(b, &led); err != nil {
		t.log.Warn("the ledger of settings cannot be read and is begun anew", "object", ledger, "error", err)
		return learning.Ledger{}, nil
	}
	return led, nil
}

func (t *tuner) keep(ctx context.Context, led learning.Ledger) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	b, err := json.Marshal(led)
	if err != nil {
		return fmt.Errorf("ledger of settings: %w", err)
	}
	return t.bus.PutObject(ctx, streams.ObjectSnapshots, ledger, b)
}

// read folds the policy and tells its changes, and the last sequence of acts that set one.
func (t *tuner) read(ctx context.Context) (f *fleet.Fleet, past []learning.Set, seq uint64, err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	f = fleet.New(fleet.Config{Base: t.cfg.Base})
	kv, err := t.bus.History(ctx, streams.Input{Stream: "KV_" + streams.BucketPolicy, From: streams.FromAll})
	if err != nil {
		return nil, nil, 0, err
	}
	acts, err := t.bus.History(ctx, streams.Input{Stream: streams.Acts, From: streams.FromAll, Filters: []string{streams.SubjectAct(schemas.ActPolicy), streams.SubjectAct(schemas.ActRollback)}})
	if err != nil {
		return nil, nil, 0, err
	}
	for _, e := range append(kv, acts...) {
		if err := f.Apply(fleet.Input{Seq: e.Seq, Time: schemas.Time(e.Time), Lease: e.Lease, Msg: e.Msg}); err != nil {
			t.log.Warn("a policy that nobody can follow is passed over", "stream", e.Stream, "seq", e.Seq, "error", err)
			continue
		}
		a, ok := e.Msg.(*schemas.Act)
		if !ok {
			continue
		}
		past = append(past, learning.Set{At: schemas.Time(e.Time), Evidence: a.Evidence, Rollback: a.Act == schemas.ActRollback})
		if a.Act == schemas.ActPolicy {
			seq = e.Seq
		}
	}
	return f, past, seq, nil
}

// recorded is what the fleet asked for, and on what it ran.
func (t *tuner) recorded(ctx context.Context) (*replay.History, replay.LookOptions, error) {
	o := replay.LookOptions{Days: lookDays, Placements: t.cfg.Placements, Model: t.cfg.Model, Workers: t.cfg.Workers}
	all := replay.Collector{Base: t.cfg.Base, Days: lookDays + warmDays}
	if _, err := t.bus.Scan(ctx, streams.Input{Stream: streams.Steps, From: streams.FromAll}, func(e streams.Event) {
		if m, ok := e.Msg.(*schemas.Steps); ok {
			all.Add(m)
		}
	}); err != nil {
		return nil, o, err
	}
	reports, err := t.bus.Last(ctx, streams.Capacity)
	if err != nil {
		return nil, o, err
	}
	for _, e := range reports {
		if m, ok := e.Msg.(*schemas.CapacityHost); ok && m.Capacity.CPU > 0 {
			o.Hosts++
			o.Cores += float64(m.Capacity.CPU) / 1000
			o.GiB += float64(m.Capacity.Mem) / (1 << 30)
		}
	}
	o.Cores, o.GiB = o.Cores/float64(max(1, o.Hosts)), o.GiB/float64(max(1, o.Hosts))
	h, err := replay.FromSteps(all.Steps(), nil)
	return h, o, err
}

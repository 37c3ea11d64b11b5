package placer

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/foreshift/foreshift/schemas"
	"github.com/foreshift/foreshift/streams"
	"github.com/prometheus/client_golang/prometheus"
)

// leaseKey is the key under which one placer of a fleet is the active one.
const leaseKey = "placer"

// Inputs are what a placer reads. Acts come without heartbeats, of which a year
// holds millions.
func Inputs(base time.Duration) []streams.Input {
	acts := make([]string, 0, len(schemas.ActKinds))
	for _, k := range schemas.ActKinds {
		if k != schemas.ActHeartbeat {
			acts = append(acts, streams.SubjectAct(k))
		}
	}
	return []streams.Input{
		{Stream: streams.Capacity, From: streams.FromLastPerSubject},
		{Stream: streams.Forecasts, From: streams.FromSince, Since: max(6*base, 30*time.Second)},
		{Stream: streams.Pressure, Filters: []string{"pressure.vm.*." + string(schemas.CauseOwnLimit)}, From: streams.FromLastPerSubject},
		{Stream: streams.Migrations, From: streams.FromAll},
		{Stream: streams.Acts, Filters: acts, From: streams.FromAll},
		{Stream: streams.Plans, From: streams.FromSince, Since: max(schemas.StepsPerDay*base, time.Hour)},
		{Stream: "KV_" + streams.BucketPolicy, From: streams.FromAll},
	}
}

// Run runs a placer until ctx ends. Any number may run; the one that holds the
// lease decides, the others only fold and are ready to take over. Safety does not
// rest on the lease: two that both believe to hold it lose each other's races on
// the VMs' records.
func Run(ctx context.Context, bus *streams.Bus, cfg Config, log *slog.Logger, reg prometheus.Registerer) error {
	cfg = cfg.withDefaults()
	dec, err := NewDecider(cfg)
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	lease, err := bus.Hold(ctx, leaseKey, cfg.LeaseTTL)
	if err != nil {
		return fmt.Errorf("placer: %w", err)
	}
	defer func() {
		stop()
		<-lease.Done()
	}()
	m, err := newMetrics(reg)
	if err != nil {
		return err
	}
	log.Info("placer starts", "base", cfg.Base, "mode", cfg.Policy.Mode, "trigger", float64(cfg.Policy.Trigger), "tick", cfg.TickEvery)
	a := &active{Decider: dec, lease: lease, metrics: m, log: log}
	svc := &streams.Service{Name: "placer", Bus: bus, Decider: a, Inputs: Inputs(cfg.Base), TickEvery: cfg.TickEvery, Active: lease.Held, Log: log, Registry: reg, Observe: a.observe, Ready: cfg.Ready}
	if cfg.SnapshotEvery > 0 {
		svc.Snapshot, svc.SnapshotEvery = "placer", cfg.SnapshotEvery
	}
	return svc.Run(ctx)
}

// active lets the decider tick only while this placer holds the lease: a decision
// that is not published must not be remembered as made.
type active struct {
	*Decider
	lease   *streams.Lease
	metrics *metrics
	log     *slog.Logger
	held    bool
}

// observe counts what was published. Of a command it leaves the line under whose trace
// both hosts go on: "trace" is that of every message of the move.
func (a *active) observe(o streams.Out, seq uint64) {
	a.metrics.observe(o)
	if c, ok := o.Msg.(*schemas.Command); ok {
		a.log.Info("command published", "trace", streams.TraceID(string(c.ID)), "command", c.ID, "vm", c.VM, "epoch", seq,
			"source", c.Source, "destination", c.Destination, "plan", c.Plan, "why", c.Reason.String())
	}
}

// Tick decides under the lease, and stamps what goes out with its revision.
func (a *active) Tick(c streams.Cut) []streams.Out {
	revision := a.lease.Revision()
	if held := revision != 0; held != a.held {
		a.held = held
		a.log.Info("placer lease", "held", held, "revision", revision)
	}
	if revision == 0 {
		return nil
	}
	before := a.Stats()
	outs := a.Decider.Tick(c)
	after := a.Stats()
	for i := range outs {
		outs[i].Lease = revision
	}
	if after.Decisions != before.Decisions {
		if after.Duplicates > before.Duplicates {
			a.log.Error("a VM runs on two hosts: it is frozen, a person must look", "vms", after.Duplicates)
		}
		if after.Unknown > 0 && before.Unknown == 0 {
			a.log.Error("the end of a move is not known: no other move starts", "moves", after.Unknown)
		}
	}
	a.metrics.set(after)
	return outs
}

package forecaster

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/foreshift/foreshift/forecaster/window"
	"github.com/foreshift/foreshift/schemas"
	"github.com/foreshift/foreshift/streams"
	"github.com/prometheus/client_golang/prometheus"
)

// leaseTTL is how long a forecaster that died keeps another from taking over.
const leaseTTL = 2 * time.Second

// snapshotName is the forecaster's in the object store of snapshots.
const snapshotName = "forecaster"

// Run is the forecaster service: it restores what it had learnt from its snapshot and
// the windows from STEPS, goes on with METRICS where the snapshot or the history ends,
// and publishes while it holds the lease "forecaster". It returns when ctx ends.
func Run(ctx context.Context, bus *streams.Bus, cfg Config, log *slog.Logger, registry prometheus.Registerer) error {
	return run(ctx, bus, cfg, log, registry, nil)
}

// run is Run; tap, unless nil, is shown every streams.Event and every tick before the
// decider sees it.
func run(ctx context.Context, bus *streams.Bus, cfg Config, log *slog.Logger, registry prometheus.Registerer, tap func(any)) error {
	cfg = cfg.WithDefaults()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	lease, err := bus.Hold(ctx, "forecaster", leaseTTL)
	if err != nil {
		return fmt.Errorf("forecaster: %w", err)
	}
	defer func() { cancel(); <-lease.Done() }()
	h := &held{lease: lease, tap: tap, last: map[int]uint64{}}
	cfg.Lease = func() uint64 { return h.revision }
	h.cfg = cfg
	if h.Decider, err = NewDecider(cfg); err != nil {
		return err
	}
	since, err := h.history(ctx, bus)
	if err != nil {
		return fmt.Errorf("forecaster: end of the history: %w", err)
	}
	if h.gauges, err = newGauges(registry); err != nil {
		return fmt.Errorf("forecaster: %w", err)
	}
	h.models = newModelKeeper(ctx, bus, cfg, log)
	defer h.models.wait()
	defer cancel()
	svc := streams.Service{
		Name: "forecaster", Bus: bus, Decider: h,
		Inputs: []streams.Input{
			{Stream: streams.Steps, From: streams.FromSince, Since: window.Rows*cfg.Base + cfg.LateLimit, Again: true},
			{Stream: streams.Metrics, From: streams.FromSince, Since: max(0, since) + 2*cfg.Base + cfg.Grace},
			{Stream: streams.Migrations, Filters: []string{"migrations.*.command.*.*", "migrations.*.outcome.*", "migrations.*.effect"}, From: streams.FromAll, Again: true},
			{Stream: streams.External, From: streams.FromLastPerSubject, Again: true},
			{Stream: streams.Models, From: streams.FromAll, Again: true},
			{Stream: "KV_" + streams.BucketVMs, From: streams.FromLastPerSubject, Again: true},
		},
		TickEvery: min(max(cfg.Base/20, 20*time.Millisecond), time.Second),
		Snapshot:  snapshotName, SnapshotEvery: max(snapshotSteps*cfg.Base, snapshotLeast),
		Log: log, Registry: registry,
	}
	return svc.Run(ctx)
}

// A snapshot is taken every hour of base steps, not more often than every minute; what
// was learnt since the last is learnt anew, in part, after a crash.
const (
	snapshotSteps = 12
	snapshotLeast = time.Minute
)

// held owns all partitions while the lease is held and none otherwise. It asks in the
// goroutine that owns the decider.
type held struct {
	*Decider
	cfg      Config
	lease    *streams.Lease
	revision uint64 // of the lease, as of this tick
	gauges   *gauges
	models   *modelKeeper
	last     map[int]uint64 // by partition: end of the history when the service started
	tap      func(any)
}

// tick is what a tick depends on.
type tick struct {
	streams.Cut
	owner    bool
	revision uint64
}

// history notes where the history ends and gives how long ago that was.
func (h *held) history(ctx context.Context, bus *streams.Bus) (time.Duration, error) {
	events, err := bus.Last(ctx, streams.Steps)
	if err != nil {
		return 0, err
	}
	now, since := time.Now(), h.cfg.LateLimit
	for _, e := range events {
		m, ok := e.Msg.(*schemas.Steps)
		if !ok {
			continue
		}
		h.last[m.Partition] = e.Seq
		h.SetLast(m.Partition, e.Seq)
		if m.Base == h.cfg.Base {
			since = min(since, now.Sub(m.Step.Start(h.cfg.Base).Std()))
		}
	}
	return since, nil
}

// Restore implements streams.Decider. A snapshot that is refused leaves the decider as
// it is: new.
func (h *held) Restore(b []byte) error {
	d, err := NewDecider(h.cfg)
	if err != nil {
		return err
	}
	if err := d.Restore(b); err != nil {
		return err
	}
	if old := time.Since(d.closed.End(h.cfg.Base).Std()); old > window.Rows*h.cfg.Base {
		return fmt.Errorf("forecaster snapshot: is %v old, the windows reach back %v", old, window.Rows*h.cfg.Base)
	}
	for p := range d.parts {
		if d.parts[p].last > h.last[p] {
			return fmt.Errorf("forecaster snapshot: has seen steps.%d up to %d, the stream ends at %d: it was made anew", p, d.parts[p].last, h.last[p])
		}
	}
	h.Decider = d
	return nil
}

// Apply implements streams.Decider. The bytes of a model are fetched before the tick.
func (h *held) Apply(e streams.Event) error {
	if m, ok := e.Msg.(*schemas.Model); ok {
		h.models.announced(m)
		return nil
	}
	return h.apply(e)
}

func (h *held) apply(e streams.Event) error {
	if h.tap != nil {
		h.tap(e)
	}
	return h.Decider.Apply(e)
}

// Tick implements streams.Decider.
func (h *held) Tick(c streams.Cut) []streams.Out {
	owner := h.lease.Held()
	h.revision = h.lease.Revision()
	if owner {
		h.SetOwned(all)
	} else {
		h.SetOwned(nil)
	}
	for _, v := range h.models.fetch() {
		if err := h.apply(streams.Event{Stream: streams.Models, Subject: streams.SubjectModel(v.Name, v.Version), Time: c.Now, Msg: v}); err != nil {
			h.models.log.Warn("model not taken", "err", err)
		}
	}
	if h.tap != nil {
		h.tap(tick{c, owner, h.revision})
	}
	outs := h.Decider.Tick(c)
	if owner {
		h.models.origins(h.Decider)
		h.models.train(h.Decider)
	}
	h.gauges.set(h.Stats())
	return outs
}

var all = func() []bool {
	a := make([]bool, schemas.Partitions)
	for i := range a {
		a[i] = true
	}
	return a
}()

// gauges show a decider's Stats.
type gauges struct {
	vms, lag, closed prometheus.Gauge
	entries, waiting prometheus.Gauge
	rows, made       *prometheus.GaugeVec
	withheld         *prometheus.GaugeVec
}

func newGauges(r prometheus.Registerer) (*gauges, error) {
	one := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "foreshift", Subsystem: "forecaster", Name: name, Help: help})
	}
	many := func(name, help, label string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: "foreshift", Subsystem: "forecaster", Name: name, Help: help}, []string{label})
	}
	g := &gauges{
		vms:      one("vms", "VMs with a window."),
		lag:      one("closed_step_lag_seconds", "Time since the end of the newest closed base step."),
		closed:   one("closed_step", "Newest closed base step."),
		entries:  one("known_future", "Calendar entries and external series in force."),
		waiting:  one("vms_waiting", "VMs whose changed past the models have not been refitted to yet."),
		rows:     many("rows", "Rows of metrics since the start, by what became of them.", "fate"),
		made:     many("made", "What was decided since the start: steps messages, revisions, forecasts, pressures.", "what"),
		withheld: many("withheld", "VMs and rows held back since the start, by reason.", "reason"),
	}
	if r == nil {
		return g, nil
	}
	for _, c := range []prometheus.Collector{g.vms, g.lag, g.closed, g.entries, g.waiting, g.rows, g.made, g.withheld} {
		if err := r.Register(c); err != nil {
			return nil, fmt.Errorf("gauges: %w", err)
		}
	}
	return g, nil
}

func (g *gauges) set(s Stats) {
	g.vms.Set(float64(s.VMs))
	g.closed.Set(float64(s.Closed))
	g.entries.Set(float64(s.Entries))
	g.waiting.Set(float64(s.Waiting))
	g.lag.Set(float64(s.LagNs) / 1e9)
	for k, v := range map[string]uint64{"taken": s.Folded.Rows, "late": s.Folded.Late, "too_late": s.Folded.TooLate,
		"future": s.Folded.Future, "duplicate": s.Folded.Duplicate, "invalid": s.Folded.Invalid,
		"full": s.Folded.Full, "standby": s.Folded.Standby, "known": s.Known, "dropped": s.Dropped, "absurd_values": s.Absurd} {
		g.rows.WithLabelValues(k).Set(float64(v))
	}
	for k, v := range map[string]uint64{"steps": s.Steps, "revisions": s.Revisions, "forecasts": s.Forecasts,
		"pressures": s.Pressures, "models": s.Models, "widened": s.Widened, "cold": s.Cold, "lost_races": s.LostRaces, "effects": s.Effects} {
		g.made.WithLabelValues(k).Set(float64(v))
	}
	for k, v := range map[string]uint64{"stale": s.Stale, "no_data": s.NoData, "unjudged_moves": s.Unjudged, "calendar_refused": s.Expanded.Refused,
		"calendar_dropped": s.Expanded.Dropped, "calendar_crowded": s.Expanded.Crowded} {
		g.withheld.WithLabelValues(k).Set(float64(v))
	}
}

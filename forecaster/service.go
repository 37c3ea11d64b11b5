package forecaster

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/foreshift/foreshift/schemas"
	"github.com/foreshift/foreshift/streams"
	"github.com/prometheus/client_golang/prometheus"
)

// shareName is the group of the forecasters, modelsLease the lease of the one that
// publishes versions of learnt state.
const (
	shareName   = "forecaster"
	modelsLease = "forecaster-models"
)

// Run is the forecaster service. Any number of them share the partitions: each holds
// some, restores what was learnt of them from their small snapshots and the windows from
// STEPS, and goes on with METRICS where their history ends. It returns when ctx ends.
func Run(ctx context.Context, bus *streams.Bus, cfg Config, log *slog.Logger, registry prometheus.Registerer) error {
	return run(ctx, bus, cfg, log, registry)
}

func run(ctx context.Context, bus *streams.Bus, cfg Config, log *slog.Logger, registry prometheus.Registerer) error {
	cfg = cfg.WithDefaults()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	h := &held{log: log, bus: bus, ctx: ctx, todo: make(chan func(), 8), stored: make(chan struct{}, 1)}
	cfg.Lease = func() uint64 { return h.revision }
	h.cfg = cfg
	var err error
	if h.Decider, err = NewShare(cfg); err != nil {
		return err
	}
	if h.gauges, err = newGauges(registry); err != nil {
		return fmt.Errorf("forecaster: %w", err)
	}
	if h.lease, err = bus.Hold(ctx, modelsLease, cfg.LeaseTTL); err != nil {
		return fmt.Errorf("forecaster: %w", err)
	}
	defer func() { cancel(); <-h.lease.Done() }()
	// The share outlives ctx: what is held is saved before it is given up.
	sharing, leave := context.WithCancel(context.WithoutCancel(ctx))
	defer leave()
	if h.sharing, err = bus.Join(sharing, shareName, schemas.Partitions, cfg.LeaseTTL); err != nil {
		return fmt.Errorf("forecaster: %w", err)
	}
	defer func() { leave(); <-h.sharing.Done() }()
	h.loadShared()
	h.models = newModelKeeper(ctx, bus, cfg, log)
	defer h.models.wait()
	defer h.work.Wait()
	defer cancel()
	svc := streams.Service{
		Name: "forecaster", Bus: bus, Decider: h,
		Inputs: []streams.Input{
			// What came before is read partition by partition, as they are taken over.
			{Stream: streams.Steps, From: streams.FromNew},
			{Stream: streams.Metrics, From: streams.FromNew},
			{Stream: streams.Migrations, Filters: []string{"migrations.*.command.*.*", "migrations.*.outcome.*", "migrations.*.effect"}, From: streams.FromAll},
			{Stream: streams.External, From: streams.FromLastPerSubject},
			{Stream: streams.Models, From: streams.FromAll},
			{Stream: "KV_" + streams.BucketVMs, From: streams.FromLastPerSubject},
		},
		TickEvery: min(max(cfg.Base/20, 20*time.Millisecond), 250*time.Millisecond),
		Log:       log, Registry: registry,
	}
	err = svc.Run(ctx)
	h.last()
	return err
}

// gauges show a decider's Stats.
type gauges struct {
	vms, lag, closed prometheus.Gauge
	entries, waiting prometheus.Gauge
	rows, made       *prometheus.GaugeVec
	withheld         *prometheus.GaugeVec
	partitions       *prometheus.GaugeVec
	shared           *prometheus.GaugeVec
	took             *prometheus.GaugeVec
	members          prometheus.Gauge
	coverage, miss   *prometheus.GaugeVec
}

func newGauges(r prometheus.Registerer) (*gauges, error) {
	one := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "foreshift", Subsystem: "forecaster", Name: name, Help: help})
	}
	many := func(name, help, label string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: "foreshift", Subsystem: "forecaster", Name: name, Help: help}, []string{label})
	}
	g := &gauges{
		vms:        one("vms", "VMs with a window."),
		lag:        one("closed_step_lag_seconds", "Time since the end of the newest closed base step."),
		closed:     one("closed_step", "Newest closed base step."),
		entries:    one("known_future", "Calendar entries and external series in force."),
		waiting:    one("vms_waiting", "VMs whose changed past the models have not been refitted to yet."),
		rows:       many("rows", "Rows of metrics since the start, by what became of them.", "fate"),
		made:       many("made", "What was decided since the start: steps messages, revisions, forecasts, pressures.", "what"),
		withheld:   many("withheld", "VMs and rows held back since the start, by reason.", "reason"),
		partitions: many("partitions", "Partitions by how far they are here: owned, with full windows, taken by the models, ready, loading.", "stage"),
		shared:     many("partition_events", "Since the start: partitions loaded, loads that failed, partitions given up, snapshots stored and not stored.", "what"),
		took:       many("partition_seconds", "Duration of the last load of partitions: until forecast again, until the windows were full.", "what"),
		coverage:   many("coverage_ratio", "Share of demand between the levels .1 and .9 of what was forecast a step before, of the last hour of steps; about 0.8 is right.", "resource"),
		miss:       many("error_ratio", "Absolute error of the median a step ahead over demand, of the last hour of steps.", "resource"),
		members:    one("members", "Forecasters that share the partitions, as this one sees it."),
	}
	if r == nil {
		return g, nil
	}
	for _, c := range []prometheus.Collector{g.vms, g.lag, g.closed, g.entries, g.waiting, g.rows, g.made, g.withheld, g.partitions, g.shared, g.took, g.members, g.coverage, g.miss} {
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
	for r, l := range s.Live {
		if l.N > 0 {
			g.coverage.WithLabelValues(schemas.Resource(r).String()).Set(l.Coverage)
			g.miss.WithLabelValues(schemas.Resource(r).String()).Set(l.Error)
		}
	}
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

// share shows how the partitions are shared.
func (g *gauges) share(h *held) {
	n := map[string]int{"owned": 0, "filled": 0, "taken": 0, "ready": 0, "loading": 0}
	for p := range h.parts {
		if h.owned[p] {
			n["owned"]++
		}
		if h.Decider.share[p] == filled {
			n["filled"]++
		}
		switch h.parts[p].stage {
		case taken:
			n["taken"]++
		case ready:
			n["ready"]++
		case asked:
			n["loading"]++
		}
	}
	for k, v := range n {
		g.partitions.WithLabelValues(k).Set(float64(v))
	}
	s := &h.stats
	for k, v := range map[string]uint64{"loaded": s.loads, "failed": s.failed, "dropped": s.dropped, "saved": s.saves, "unsaved": s.unsaved} {
		g.shared.WithLabelValues(k).Set(float64(v))
	}
	g.took.WithLabelValues("load").Set(s.loadTook.Seconds())
	g.took.WithLabelValues("fill").Set(s.fillTook.Seconds())
	g.members.Set(float64(h.sharing.View().Members))
}

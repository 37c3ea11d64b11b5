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

// Run is the forecaster service: it restores the windows from STEPS, goes on with
// METRICS where the history ends, and publishes while it holds the lease
// "forecaster". It returns when ctx ends.
func Run(ctx context.Context, bus *streams.Bus, cfg Config, log *slog.Logger, registry prometheus.Registerer) error {
	cfg = cfg.WithDefaults()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	lease, err := bus.Hold(ctx, "forecaster", leaseTTL)
	if err != nil {
		return fmt.Errorf("forecaster: %w", err)
	}
	defer func() { cancel(); <-lease.Done() }()
	cfg.Lease = lease.Revision
	d, err := NewDecider(cfg)
	if err != nil {
		return err
	}
	last, err := bus.Last(ctx, streams.Steps)
	if err != nil {
		return fmt.Errorf("forecaster: end of the history: %w", err)
	}
	now := time.Now()
	since := cfg.LateLimit
	for _, e := range last {
		m, ok := e.Msg.(*schemas.Steps)
		if !ok {
			continue
		}
		d.SetLast(m.Partition, e.Seq)
		if m.Base == cfg.Base {
			since = min(since, now.Sub(m.Step.Start(cfg.Base).Std()))
		}
	}
	g, err := newGauges(registry)
	if err != nil {
		return fmt.Errorf("forecaster: %w", err)
	}
	svc := streams.Service{
		Name: "forecaster", Bus: bus, Decider: &held{Decider: d, lease: lease, gauges: g},
		Inputs: []streams.Input{
			{Stream: streams.Steps, From: streams.FromSince, Since: window.Rows*cfg.Base + cfg.LateLimit},
			{Stream: streams.Metrics, From: streams.FromSince, Since: max(0, since) + 2*cfg.Base + cfg.Grace},
			{Stream: streams.External, From: streams.FromLastPerSubject},
			{Stream: "KV_" + streams.BucketVMs, From: streams.FromLastPerSubject},
		},
		TickEvery: min(max(cfg.Base/20, 20*time.Millisecond), time.Second),
		Log:       log, Registry: registry,
	}
	return svc.Run(ctx)
}

// held owns all partitions while the lease is held and none otherwise. It asks in the
// goroutine that owns the decider.
type held struct {
	*Decider
	lease  *streams.Lease
	gauges *gauges
}

var all = func() []bool {
	a := make([]bool, schemas.Partitions)
	for i := range a {
		a[i] = true
	}
	return a
}()

// Tick implements streams.Decider.
func (h *held) Tick(c streams.Cut) []streams.Out {
	if h.lease.Held() {
		h.SetOwned(all)
	} else {
		h.SetOwned(nil)
	}
	outs := h.Decider.Tick(c)
	h.gauges.set(h.Stats())
	return outs
}

// gauges show a decider's Stats.
type gauges struct {
	vms, lag, closed prometheus.Gauge
	entries          prometheus.Gauge
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
		rows:     many("rows", "Rows of metrics since the start, by what became of them.", "fate"),
		made:     many("made", "What was decided since the start: steps messages, revisions, forecasts, pressures.", "what"),
		withheld: many("withheld", "VMs and rows held back since the start, by reason.", "reason"),
	}
	if r == nil {
		return g, nil
	}
	for _, c := range []prometheus.Collector{g.vms, g.lag, g.closed, g.entries, g.rows, g.made, g.withheld} {
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
	g.lag.Set(float64(s.LagNs) / 1e9)
	for k, v := range map[string]uint64{"taken": s.Folded.Rows, "late": s.Folded.Late, "too_late": s.Folded.TooLate,
		"future": s.Folded.Future, "duplicate": s.Folded.Duplicate, "invalid": s.Folded.Invalid,
		"full": s.Folded.Full, "standby": s.Folded.Standby, "known": s.Known, "dropped": s.Dropped} {
		g.rows.WithLabelValues(k).Set(float64(v))
	}
	for k, v := range map[string]uint64{"steps": s.Steps, "revisions": s.Revisions, "forecasts": s.Forecasts,
		"pressures": s.Pressures, "widened": s.Widened, "lost_races": s.LostRaces} {
		g.made.WithLabelValues(k).Set(float64(v))
	}
	for k, v := range map[string]uint64{"cold": s.Cold, "stale": s.Stale, "no_data": s.NoData, "calendar_refused": s.Expanded.Refused,
		"calendar_dropped": s.Expanded.Dropped, "calendar_crowded": s.Expanded.Crowded} {
		g.withheld.WithLabelValues(k).Set(float64(v))
	}
}

package streams

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Service is the one shell in which every decider runs live. One goroutine owns
// the decider: it applies events, ticks, publishes and takes snapshots, so that a
// decider needs no locks.
type Service struct {
	Name      string
	Bus       *Bus
	Decider   Decider
	Inputs    []Input // one per stream
	TickEvery time.Duration
	Now       func() time.Time // nil: the wall clock
	Active    func() bool      // nil: always. Inactive: events are folded, nothing is published.

	Snapshot      string        // name in the object store snapshots; empty: none is kept
	SnapshotEvery time.Duration // 0: only at the end

	CatchUp  time.Duration // how long reading what was there may take before it is an error; 0: 10 min
	Log      *slog.Logger
	Registry prometheus.Registerer
	Observe  func(Out, uint64) // sees every message that was published, with its sequence; 0 where many went out at once
	Ready    func()            // called once when all inputs have caught up
}

// queue is how many decoded events may wait for the decider. When it is full the
// readers wait, and the bus keeps what they have not read.
const queue = 256

// defaultCatchUp is generous: a forecaster reads days of history.
const defaultCatchUp = 10 * time.Minute

// shell is a Service that runs.
type shell struct {
	*Service
	log     *slog.Logger
	cut     Cut
	waiting map[string]bool // inputs that have not caught up
	in      chan delivery

	applied, refused, skipped prometheus.Counter
	ticks, outs, lost, failed prometheus.Counter
	tickTime                  prometheus.Histogram

	seen          atomic.Pointer[Cut] // as of the last tick, for whoever asks
	stored        chan struct{}       // closed when no snapshot is on its way
	kept, unkept  prometheus.Counter
	snapshotBytes prometheus.Gauge
}

// delivery is an arrival and the input it came by, or the end of that input.
type delivery struct {
	stream string
	arrival
	ended bool
	err   error
}

// Run restores the snapshot, reads every input up to what was there at the start,
// then ticks until ctx ends, and takes a last snapshot, without which it can do. It
// returns nil after a stop by ctx, and an error when the bus misses a stream or an input
// ends.
func (s *Service) Run(ctx context.Context) error {
	sh, err := s.prepare()
	if err != nil {
		return fmt.Errorf("%s: %w", s.Name, err)
	}
	inputs, err := sh.restore(ctx)
	if err != nil {
		return fmt.Errorf("%s: %w", s.Name, err)
	}
	reading, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer func() {
		stop()
		wg.Wait()
		<-sh.stored
	}()
	unannounce, err := sh.announce()
	if err != nil {
		return fmt.Errorf("%s: %w", s.Name, err)
	}
	defer func() {
		if err := unannounce(); err != nil {
			sh.log.Debug("not taken off the list of services", "err", err)
		}
	}()
	for _, in := range inputs {
		wg.Add(1)
		go func() {
			defer wg.Done()
			sh.readInput(reading, in)
		}()
	}
	if err := sh.loop(reading); err != nil {
		return fmt.Errorf("%s: %w", s.Name, err)
	}
	// What was decided is kept even though the context has ended.
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), publishTimeout)
	defer cancel()
	if sh.hasRead() {
		sh.lastSnapshot(last)
	}
	return nil
}

func (s *Service) prepare() (*shell, error) {
	switch {
	case s.Bus == nil || s.Decider == nil:
		return nil, errors.New("a bus and a decider are needed")
	case s.TickEvery <= 0:
		return nil, fmt.Errorf("tick every %v: must be above 0", s.TickEvery)
	}
	sh := &shell{Service: s, log: s.Log, cut: Cut{Seq: map[string]uint64{}}, waiting: map[string]bool{}, in: make(chan delivery, queue), stored: make(chan struct{})}
	close(sh.stored)
	if sh.log == nil {
		sh.log = s.Bus.Log
	}
	sh.log = sh.log.With("service", s.Name)
	for _, in := range s.Inputs {
		if sh.waiting[in.Stream] {
			return nil, fmt.Errorf("stream %s is named by two inputs: use one with both filters", in.Stream)
		}
		sh.waiting[in.Stream] = true
	}
	return sh, sh.count()
}

// count makes the service's counters.
func (sh *shell) count() error {
	labels := prometheus.Labels{"service": sh.Name}
	c := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Namespace: "foreshift", Subsystem: "service", Name: name, Help: help, ConstLabels: labels})
	}
	sh.applied = c("events_applied_total", "Events the decider has folded.")
	sh.refused = c("events_refused_total", "Events the decider has refused.")
	sh.skipped = c("events_skipped_total", "Events seen a second time and skipped.")
	sh.ticks = c("ticks_total", "Ticks.")
	sh.outs = c("published_total", "Messages decided and published.")
	sh.lost = c("lost_races_total", "Messages that another writer forestalled.")
	sh.failed = c("publish_failures_total", "Messages decided that could not be published.")
	sh.tickTime = prometheus.NewHistogram(prometheus.HistogramOpts{Namespace: "foreshift", Subsystem: "service", Name: "tick_seconds", Help: "Duration of a tick, publishing left out.",
		ConstLabels: labels, Buckets: prometheus.ExponentialBuckets(0.001, 4, 8)})
	sh.kept = c("snapshots_total", "Snapshots stored.")
	sh.unkept = c("snapshot_failures_total", "Snapshots that were not taken, or not stored.")
	sh.snapshotBytes = prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "foreshift", Subsystem: "service", Name: "snapshot_bytes", Help: "Bytes of the newest snapshot, compressed.", ConstLabels: labels})
	if sh.Registry == nil {
		return nil
	}
	for _, m := range []prometheus.Collector{sh.kept, sh.unkept, sh.snapshotBytes, sh.applied, sh.refused, sh.skipped, sh.ticks, sh.outs, sh.lost, sh.failed, sh.tickTime} {
		if err := sh.Registry.Register(m); err != nil {
			return fmt.Errorf("counters: %w", err)
		}
	}
	if err := sh.Bus.Register(sh.Registry); err != nil {
		return fmt.Errorf("counters: %w", err)
	}
	return nil
}

// hasRead says whether there is something to keep a snapshot of: a half-read past is
// none.
func (sh *shell) hasRead() bool { return sh.Snapshot != "" && len(sh.waiting) == 0 }

// readInput feeds one input into the queue until ctx ends.
func (sh *shell) readInput(ctx context.Context, in Input) {
	put := func(d delivery) {
		select {
		case sh.in <- d:
		case <-ctx.Done():
		}
	}
	err := sh.Bus.serve(ctx, sh.Name, in, func(a arrival) { put(delivery{stream: in.Stream, arrival: a}) })
	put(delivery{stream: in.Stream, ended: true, err: err})
}

// loop is the goroutine that owns the decider.
func (sh *shell) loop(ctx context.Context) error {
	if err := sh.catchUp(ctx); err != nil || ctx.Err() != nil {
		return err
	}
	if sh.Ready != nil {
		sh.Ready()
	}
	tick := time.NewTicker(sh.TickEvery)
	defer tick.Stop()
	var snapshot <-chan time.Time
	if sh.Snapshot != "" && sh.SnapshotEvery > 0 {
		t := time.NewTicker(sh.SnapshotEvery)
		defer t.Stop()
		snapshot = t.C
	}
	sh.tick(ctx)
	for {
		select {
		case <-ctx.Done():
			return nil
		case d := <-sh.in:
			if err := sh.take(ctx, d); err != nil {
				return err
			}
		case <-tick.C:
			sh.tick(ctx)
		case <-snapshot:
			sh.keepSnapshot(ctx)
		}
	}
}

// catchUp folds what was there at the start, before the first tick: a decision on
// half of the past would be wrong.
func (sh *shell) catchUp(ctx context.Context) error {
	limit := sh.CatchUp
	if limit <= 0 {
		limit = defaultCatchUp
	}
	t := time.NewTimer(limit)
	defer t.Stop()
	begun := time.Now()
	for len(sh.waiting) > 0 {
		select {
		case <-ctx.Done():
			return nil
		case d := <-sh.in:
			if err := sh.take(ctx, d); err != nil {
				return err
			}
		case <-t.C:
			return fmt.Errorf("not caught up after %v: %s", limit, sh.lagging())
		}
	}
	sh.log.Info("caught up", "took", time.Since(begun).Round(time.Millisecond), "cut", sh.cut.Seq)
	return nil
}

// lagging names the inputs that have not caught up.
func (sh *shell) lagging() string {
	out := ""
	for _, in := range sh.Inputs {
		if sh.waiting[in.Stream] {
			out += fmt.Sprintf("%s is at %d; ", in.Stream, sh.cut.Seq[in.Stream])
		}
	}
	return out
}

// take applies one delivery.
func (sh *shell) take(ctx context.Context, d delivery) error {
	switch {
	case d.ended && ctx.Err() != nil:
		return nil
	case d.ended:
		return fmt.Errorf("input %s ended: %w", d.stream, d.err)
	case d.caughtUp:
		delete(sh.waiting, d.stream)
		return nil
	case d.event.Seq <= sh.cut.Seq[d.stream]:
		sh.skipped.Inc()
		return nil
	}
	err := sh.Decider.Apply(d.event)
	sh.cut.Seq[d.stream] = d.event.Seq
	if err != nil {
		sh.refused.Inc()
		sh.Bus.deadLetter(ctx, sh.Name, d.stream, d.raw, err)
		return nil
	}
	sh.applied.Inc()
	return nil
}

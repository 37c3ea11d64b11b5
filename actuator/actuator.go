package actuator

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/foreshift/foreshift/actuator/libvirt"
	"github.com/foreshift/foreshift/actuator/migration"
	"github.com/foreshift/foreshift/schemas"
	"github.com/foreshift/foreshift/streams"
)

// bus is what an actuator needs of [streams.Bus].
type bus interface {
	Publish(context.Context, streams.Out) (uint64, error)
	LastUnder(ctx context.Context, stream, filter string) (*streams.Received, error)
	LastOf(ctx context.Context, stream, subject string) (streams.Event, error)
	Work(ctx context.Context, durable string, handle func(context.Context, *streams.Received) streams.Verdict) error
	Consume(ctx context.Context, service string, in streams.Input, handle func(streams.Event)) error
	Follow(ctx context.Context, service string, in streams.Input, handle func(streams.Event), caughtUp func()) error
	Serve(ctx context.Context, subject string, handle func(context.Context, *streams.Received) schemas.Message) error
	Request(ctx context.Context, subject string, m schemas.Message) (*streams.Received, error)
}

// Config says which host an actuator serves, and what it may rely on.
type Config struct {
	Bus            *streams.Bus
	Host           schemas.HostID
	URI            string               // of the host's libvirt: see [libvirt.Open]
	StateDir       string               // the journal is in StateDir/actuator/<host>
	Authorities    *streams.Authorities // pinned keys
	MigrateAddress string               // where a source's QEMU connects to this host; empty: libvirt chooses
	MaxMoves       int                  // moves this host leads at a time; 0 is 4
	Peer           *PeerConfig          // nil: the paused handover; else libvirt leads under a disk lock
	Limits         *migration.Limits    // nil: [migration.DefaultLimits]
	Log            *slog.Logger
	Registry       prometheus.Registerer

	// Step is a fail point for tests on real hosts: it is called with a step's label
	// just before the step ("begin", "receive finish") and after it ("begin done"), and
	// when the transfer and the switchover are seen to have begun ("disk",
	// "pre-copy", "switchover"). What it does not return from does not happen. Nil in production.
	Step func(vm schemas.VMID, label string)

	// For tests: other hosts than libvirt's, another clock.
	source       SourceHost
	incoming     Incoming
	clock        func() int64
	catchUp      time.Duration
	pausingEvery time.Duration
	calls        *libvirt.Limits
	bus          bus
	crash        func(migration.Verb) bool
}

// Validate reports every fault of the configuration at once.
func (c *Config) Validate() error {
	var errs []error
	if c.Bus == nil && c.bus == nil {
		errs = append(errs, errors.New("bus: missing"))
	}
	if err := schemas.CheckToken("host", string(c.Host)); err != nil {
		errs = append(errs, err)
	}
	if c.URI == "" && c.source == nil {
		errs = append(errs, errors.New("uri: missing; for example qemu:///system"))
	}
	if c.StateDir == "" {
		errs = append(errs, errors.New("state directory: missing"))
	}
	if c.Authorities == nil {
		errs = append(errs, errors.New("authorities: missing; without pinned keys nobody's word counts"))
	}
	if c.Peer != nil {
		if err := c.Peer.validate(); err != nil {
			errs = append(errs, err)
		}
	}
	if c.MaxMoves < 0 {
		errs = append(errs, fmt.Errorf("max moves: %d is below 0", c.MaxMoves))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("actuator %s: %w", c.Host, err)
	}
	return nil
}

// Actuator is one host's.
type Actuator struct {
	cfg      Config
	bus      bus
	log      *slog.Logger
	limits   migration.Limits
	rules    *migration.Rules
	now      func() int64
	steady   func() int64 // ns, by a clock that nobody sets
	met      *metrics
	j        *journal
	host     *libvirt.Host
	source   SourceHost
	receiver *Receiver
	began    int64

	mu    sync.Mutex
	moves map[schemas.VMID]*move
	acts  acts

	shares  shares
	judging sync.Mutex // commands are judged one at a time
	lot     lot
	wg      sync.WaitGroup
}

// New checks the configuration; nothing is opened before Run.
func New(cfg Config) (*Actuator, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	a := &Actuator{cfg: cfg, bus: cfg.bus, log: cfg.Log, limits: migration.DefaultLimits(), rules: migration.DefaultRules(), now: cfg.clock,
		moves: map[schemas.VMID]*move{}}
	if a.bus == nil {
		a.bus = cfg.Bus
	}
	if a.log == nil {
		a.log = slog.Default()
	}
	a.log = a.log.With("service", "actuator", "host", string(cfg.Host))
	if cfg.Limits != nil {
		a.limits = *cfg.Limits
	}
	if a.cfg.catchUp == 0 {
		a.cfg.catchUp = catchUp
	}
	if a.cfg.pausingEvery == 0 {
		a.cfg.pausingEvery = migration.PausingEvery
	}
	if a.cfg.MaxMoves == 0 {
		a.cfg.MaxMoves = 4
	}
	if a.now == nil {
		a.now = func() int64 { return time.Now().UnixNano() }
	}
	born := time.Now()
	a.steady = func() int64 { return int64(time.Since(born)) }
	var err error
	if a.met, err = newMetrics(cfg.Registry, cfg.Host); err != nil {
		return nil, fmt.Errorf("actuator %s: %w", cfg.Host, err)
	}
	return a, nil
}

// tendEvery is how often a destination looks after what is left open.
const tendEvery = 5 * time.Second

// Run reads the journal, reconciles what is open with what the hosts say, then
// serves requests and consumes commands until ctx ends. For moves under way then,
// see the package's promises.
func (a *Actuator) Run(ctx context.Context) (err error) {
	a.began = a.now()
	if a.j, err = openJournal(filepath.Join(a.cfg.StateDir, "actuator", string(a.cfg.Host))); err != nil {
		return fmt.Errorf("actuator %s: %w", a.cfg.Host, err)
	}
	defer func() { err = errors.Join(err, a.j.close()) }()
	a.source = a.cfg.source
	incoming := a.cfg.incoming
	if a.source == nil {
		calls := libvirt.DefaultLimits
		if a.cfg.calls != nil {
			calls = *a.cfg.calls
		}
		if a.host, err = libvirt.OpenWith(ctx, a.cfg.URI, calls); err != nil {
			return fmt.Errorf("actuator %s: %w", a.cfg.Host, err)
		}
		defer a.host.Close()
		a.source, incoming = a.host.Source(), a.host.Destination(a.cfg.MigrateAddress)
		vms, err := a.host.List(ctx)
		if err != nil {
			return fmt.Errorf("actuator %s: %w", a.cfg.Host, err)
		}
		a.log.Info("host reached", "uri", a.cfg.URI, "vms", len(vms))
	}
	a.receiver = newReceiver(incoming, a.j, a.rules, a.limits, a.now)
	a.receiver.step, a.receiver.peer, a.receiver.address = a.cfg.Step, a.cfg.Peer, a.cfg.MigrateAddress
	a.receiver.left = a.left
	for _, err := range a.receiver.tend(ctx) {
		a.log.Warn("left open for later", "err", err)
	}

	run, cancel := context.WithCancel(ctx)
	defer cancel()
	errs := make(chan error, 8) // at least as many as are started below
	var services sync.WaitGroup
	start := func(f func() error) {
		services.Add(1)
		go func() {
			defer services.Done()
			err := f()
			if run.Err() != nil && errors.Is(err, context.Canceled) {
				err = nil // it was told to end while it began
			}
			errs <- err
			cancel() // one that ends, ends all
		}()
	}
	start(func() error { return a.serve(run) })
	start(func() error { return a.bus.Consume(run, "actuator", sharesInput, a.shares.apply) })
	start(func() error { return every(run, tendEvery, func() { a.tend(run) }) })
	for _, m := range a.j.open() {
		a.recover(ctx, m)
	}
	// All acts of operators, and not the last of each: a forged act is refused, but it must
	// not hide the genuine one before it. After the moves are taken up, of which they may
	// speak. Heartbeats follow: without one nothing starts, so that no command is judged
	// before the pauses are known. Also those of before, so that none of them counts when
	// somebody has it stored anew.
	known := make(chan struct{})
	start(func() error {
		in := streams.Input{Stream: streams.Acts, Filters: actSubjects, From: streams.FromAll}
		return a.bus.Follow(run, "actuator", in, a.act, func() { close(known) })
	})
	start(func() error { return every(run, a.cfg.pausingEvery, func() { a.askPaused(run) }) })
	start(func() error {
		select {
		case <-known:
		case <-run.Done():
			return nil
		}
		in := streams.Input{Stream: streams.Acts, Filters: []string{streams.SubjectAct(schemas.ActHeartbeat)}, From: streams.FromSince, Since: migration.HeardFor}
		live := false
		return a.bus.Follow(run, "actuator", in, func(e streams.Event) { a.beat(e, !live) }, func() { live = true })
	})
	start(func() error {
		return a.bus.Work(run, streams.DurableActuator(a.cfg.Host), func(_ context.Context, r *streams.Received) streams.Verdict { return a.command(ctx, r) })
	})
	services.Wait()
	a.wg.Wait()
	close(errs)
	for e := range errs {
		err = errors.Join(err, e)
	}
	if err != nil {
		err = fmt.Errorf("actuator %s: %w", a.cfg.Host, err)
	}
	return err
}

// every calls do at times until ctx ends.
func every(ctx context.Context, d time.Duration, do func()) error {
	t := time.NewTicker(d)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
			do()
		}
	}
}

func (a *Actuator) tend(ctx context.Context) {
	for _, err := range a.receiver.tend(ctx) {
		a.log.Warn("left open for later", "err", err)
	}
}

// metrics are the actuator's counters.
type metrics struct {
	outcomes        *prometheus.CounterVec
	refusedRequests *prometheus.CounterVec
	unknown         prometheus.Gauge
	leftFiles       prometheus.Counter
	seconds         prometheus.Histogram
	moves           *prometheus.GaugeVec

	mu     sync.Mutex
	phases map[schemas.CommandID]schemas.Phase // of the moves that this host leads now
}

// inPhase counts a move under the phase it has come to; one that is done is not counted.
func (m *metrics) inPhase(id schemas.CommandID, p schemas.Phase) {
	m.mu.Lock()
	defer m.mu.Unlock()
	old, known := m.phases[id]
	if old == p {
		return
	}
	if known {
		m.moves.WithLabelValues(string(old)).Dec()
		delete(m.phases, id)
	}
	if p != schemas.PhaseDone {
		m.moves.WithLabelValues(string(p)).Inc()
		m.phases[id] = p
	}
}

func newMetrics(r prometheus.Registerer, host schemas.HostID) (*metrics, error) {
	labels := prometheus.Labels{"host": string(host)}
	m := &metrics{
		outcomes:        prometheus.NewCounterVec(prometheus.CounterOpts{Name: "foreshift_actuator_outcomes_total", Help: "Outcomes published, by result and reason.", ConstLabels: labels}, []string{"result", "reason"}),
		refusedRequests: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "foreshift_actuator_requests_refused_total", Help: "Requests of other actuators refused, by reason.", ConstLabels: labels}, []string{"reason"}),
		unknown:         prometheus.NewGauge(prometheus.GaugeOpts{Name: "foreshift_actuator_unknown_moves", Help: "Moves whose end nobody knows.", ConstLabels: labels}),
		leftFiles:       prometheus.NewCounter(prometheus.CounterOpts{Name: "foreshift_actuator_left_files_total", Help: "Disk files of moves that were not deleted here, for a person to look at.", ConstLabels: labels}),
		seconds:         prometheus.NewHistogram(prometheus.HistogramOpts{Name: "foreshift_actuator_move_seconds", Help: "Duration of moves that ended.", ConstLabels: labels, Buckets: []float64{1, 2, 5, 10, 20, 60, 120, 300, 900}}),
		moves:           prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "foreshift_actuator_moves", Help: "Moves that this host leads now, by phase.", ConstLabels: labels}, []string{"phase"}),
		phases:          map[schemas.CommandID]schemas.Phase{},
	}
	if r == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.outcomes, m.refusedRequests, m.unknown, m.leftFiles, m.seconds, m.moves} {
		if err := r.Register(c); err != nil {
			return nil, fmt.Errorf("metrics: %w", err)
		}
	}
	return m, nil
}

package tunnel

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/foreshift/foreshift/actuator/tunnel/share"
	"github.com/foreshift/foreshift/schemas"
	"github.com/foreshift/foreshift/streams"
)

// Config says which link a role serves. With neither site it serves every link that is
// measured, as on a machine that simulates them.
type Config struct {
	Site, Peer schemas.SiteID
	Rate       schemas.BytesPerSecond // what the link is shaped to; 0: as measured
	Reserved   schemas.Ratio          // of it for all that is no move; 0: a tenth
	LeaseTTL   time.Duration          // 0: 3 s
	Log        *slog.Logger
	Registry   prometheus.Registerer
	Ready      func()

	// Gateway makes the role keep this end of the tunnel too; nil: it only shares out.
	Gateway *Gateway
}

// tickEvery is how often the link is looked at anew: well below the two seconds in which
// a change must have reached the moves.
const tickEvery = 200 * time.Millisecond

// past is how far back commands are read: no move takes longer.
const past = 24 * time.Hour

// Validate reports every fault at once.
func (c *Config) Validate() error {
	var errs []error
	if (c.Site == "") != (c.Peer == "") {
		errs = append(errs, errors.New("site and peer: name both, or neither"))
	}
	if c.Site != "" {
		errs = append(errs, schemas.CheckToken("site", string(c.Site)), schemas.CheckToken("peer", string(c.Peer)))
		if c.Site == c.Peer {
			errs = append(errs, fmt.Errorf("peer: %q is the site itself; a link joins two", c.Peer))
		}
	}
	if c.Gateway != nil {
		if c.Rate <= 0 || c.Site == "" {
			errs = append(errs, errors.New("a gateway needs both sites and the rate to which the link is shaped"))
		}
		if _, _, err := net.SplitHostPort(c.Gateway.Endpoint); err != nil {
			errs = append(errs, fmt.Errorf("endpoint %q: want HOST:PORT, where the peer reaches this gateway", c.Gateway.Endpoint))
		}
		errs = append(errs, c.Gateway.Plane.Validate())
	}
	if c.Rate < 0 {
		errs = append(errs, fmt.Errorf("rate: %g bytes/s is below 0", float64(c.Rate)))
	}
	if c.Reserved < 0 || c.Reserved >= 1 {
		errs = append(errs, fmt.Errorf("reserved: %g is not a share from 0 to below 1", float64(c.Reserved)))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("tunnel: %w", err)
	}
	return nil
}

// Inputs are what the role reads.
func Inputs() []streams.Input {
	return []streams.Input{
		{Stream: streams.Capacity, From: streams.FromLastPerSubject},
		{Stream: streams.Progress, From: streams.FromLastPerSubject},
		{Stream: streams.Migrations, Filters: []string{"migrations.*.command.*.*", "migrations.*.outcome.*"}, From: streams.FromSince, Since: past},
		{Stream: "KV_" + streams.BucketTunnels, Filters: []string{streams.SubjectKV(streams.BucketTunnels, "*")}, From: streams.FromLastPerSubject},
	}
}

// leaseOf is the key under which one gateway of the link decides.
func (c *Config) leaseOf() string {
	if c.Site == "" {
		return "tunnel"
	}
	return "tunnel." + streams.LinkKey(c.Site, c.Peer)
}

func (c *Config) ledger() share.Config {
	out := share.Config{Rate: c.Rate, Reserved: c.Reserved, By: "tunnel"}
	if c.Site != "" {
		link := streams.LinkKey(c.Site, c.Peer)
		out.By = share.ByTunnel(c.Site)
		out.Serves = func(a, b schemas.SiteID) bool { return streams.LinkKey(a, b) == link }
	}
	return out
}

// Run shares the link out until ctx ends.
func Run(ctx context.Context, bus *streams.Bus, cfg Config) error {
	if err := cfg.Validate(); err != nil {
		return err
	}
	if cfg.LeaseTTL <= 0 {
		cfg.LeaseTTL = 3 * time.Second
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	met, err := newMetrics(cfg.Registry)
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	lease, err := bus.Hold(ctx, cfg.leaseOf(), cfg.LeaseTTL)
	if err != nil {
		return fmt.Errorf("tunnel: %w", err)
	}
	defer func() {
		stop()
		<-lease.Done()
	}()
	d := &decider{ledger: share.NewLedger(cfg.ledger()), lease: lease.Revision, see: met.see}
	svc := &streams.Service{Name: "tunnel", Bus: bus, Decider: d, Inputs: Inputs(), TickEvery: tickEvery, Active: lease.Held, Log: cfg.Log, Registry: cfg.Registry, Ready: cfg.Ready}
	if cfg.Gateway == nil {
		return svc.Run(ctx)
	}
	kept := make(chan error, 1)
	go func() {
		defer stop() // without its end of the tunnel the role is none
		kept <- runGateway(ctx, bus, cfg, lease.Held)
	}()
	err = svc.Run(ctx)
	stop()
	return errors.Join(err, <-kept)
}

// metrics are the role's gauges.
type metrics struct {
	rate, left *prometheus.GaugeVec
	moves      *prometheus.GaugeVec
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	g := func(name, help string, labels ...string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: "foreshift", Subsystem: "tunnel", Name: name, Help: help}, labels)
	}
	m := &metrics{rate: g("moves_rate_bytes_per_second", "What the moves of a link may use together.", "link"),
		left: g("left_bytes_per_second", "What one more move of a link could have.", "link"), moves: g("moves", "Moves of a link that run, and that wait, by reason.", "link", "state")}
	if r == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.rate, m.left, m.moves} {
		if err := r.Register(c); err != nil {
			return nil, fmt.Errorf("tunnel: metrics: %w", err)
		}
	}
	return m, nil
}

func (m *metrics) see(v share.Verdict) {
	link := streams.LinkKey(v.Tunnel.A, v.Tunnel.B)
	m.moves.DeletePartialMatch(prometheus.Labels{"link": link})
	var sum schemas.BytesPerSecond
	for _, s := range v.Tunnel.Shares {
		state := "runs"
		if s.Waits {
			state = string(s.Reason.Code)
		}
		m.moves.WithLabelValues(link, state).Inc()
		sum += s.Rate
	}
	m.rate.WithLabelValues(link).Set(float64(sum))
	m.left.WithLabelValues(link).Set(float64(v.Tunnel.Left))
}

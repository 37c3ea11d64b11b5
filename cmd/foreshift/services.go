package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/foreshift/foreshift/actuator"
	"github.com/foreshift/foreshift/actuator/tunnel"
	"github.com/foreshift/foreshift/forecaster"
	"github.com/foreshift/foreshift/internal/config"
	"github.com/foreshift/foreshift/internal/service"
	"github.com/foreshift/foreshift/internal/tune"
	"github.com/foreshift/foreshift/placer"
	"github.com/foreshift/foreshift/schemas"
	"github.com/foreshift/foreshift/streams"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/spf13/cobra"
)

// serviceOptions are the flags of a service run by itself.
type serviceOptions struct {
	snapshot time.Duration
	maxVMs   int
	base     time.Duration
	listen   string
	log      string
	json     bool
	host     string
	uri      string
	addr     string
	data     string // directory of the actuator's journal
	peer     actuator.PeerConfig
	lead     string // paused or p2p
	site     string

	console consoleOptions
	tunnel  tunnelOptions
}

var services = map[string]string{
	"forecaster": "Closes base steps, forecasts every VM, tells whose own limit is too low",
	"placer":     "Sums forecasts per host, decides on moves and says why",
	"actuator":   "Carries out the moves of one host over its libvirt",
	"recorder":   "Copies commands, plans and acts into the audit trail",
	"console":    "The web console: the fleet, why, and the acts of operators",
	"tunnel":     "Serves the link from this site to another: shares it out among the moves that cross it",
}

// serviceCommand makes the command of a service; its flags fill o.
func serviceCommand(at *place, name string, o *serviceOptions) *cobra.Command {
	c := &cobra.Command{Use: name, Short: services[name], Args: cobra.NoArgs, RunE: func(c *cobra.Command, _ []string) error {
		return runService(c, at, name, *o)
	}}
	f := c.Flags()
	f.DurationVar(&o.base, "base-step", schemas.DefaultBase, "length of a base step; the same for all services of a fleet")
	f.StringVar(&o.listen, "listen", "127.0.0.1:0", "loopback address of /livez, /readyz and /metrics (and of the page)")
	f.StringVar(&o.log, "log", "info", "log level: debug, info, warn or error")
	f.BoolVar(&o.json, "log-json", false, "log as JSON")
	if name == "console" {
		o.console.flags(c)
	}
	if name == "forecaster" {
		f.DurationVar(&o.snapshot, "snapshot-every", 0, "how often what was learnt of a partition is stored (default: an hour of base steps, at least 1m)")
		f.IntVar(&o.maxVMs, "max-vms", 20000, "most VMs of this instance: its share of the fleet, about 210 KB each")
	}
	if name == "actuator" {
		f.StringVar(&o.host, "host", "", "id of the host, as its agent reports it (required)")
		f.StringVar(&o.uri, "uri", "qemu:///system", "libvirt URI of the host: its own socket")
		f.StringVar(&o.data, "journal", "", "directory of the record of moves, on this machine's own disk (default: actuator/HOST below the state directory)")
		f.StringVar(&o.lead, "handover", "paused", "who leads a move: paused (Foreshift, in two phases) or p2p (libvirt, where a trial of every move proves a disk lock)")
		f.StringVar(&o.peer.URI, "peer-uri", "", "p2p: where the other hosts' libvirt reaches this one's, as qemu+tls://HOST/system")
		f.StringVar(&o.peer.Leases, "peer-leases", "", "p2p: the file_lockspace_dir of qemu-lockd.conf, shared by all hosts, for the leases of the trials")
		f.StringVar(&o.peer.Daemon, "lock-daemon", actuator.DefaultLockDaemon, "p2p: pid file of virtlockd or sanlock, which is watched")
		f.StringVar(&o.site, "peer-site", "", "p2p: site of this host; post-copy never leaves it")
		f.StringVar(&o.addr, "migrate-address", "", "address of this host that a peer's QEMU connects to; empty lets libvirt choose")
	}
	if name == "tunnel" {
		o.tunnel.flags(f)
	}
	return c
}

// leads is the mode of an actuator: nil for the paused handover.
func (o *serviceOptions) leads() (*actuator.PeerConfig, error) {
	switch o.lead {
	case "", "paused":
		return nil, nil
	case "p2p":
		p := o.peer
		if p.Site = schemas.SiteID(o.site); p.Site != "" {
			if err := schemas.CheckToken("--peer-site", o.site); err != nil {
				return nil, err
			}
		}
		if strings.HasPrefix(p.URI, "qemu+tcp:") {
			return nil, fmt.Errorf("--peer-uri %s: libvirt over plain TCP lets anyone in: use qemu+tls://", p.URI)
		}
		return &p, nil
	}
	return nil, fmt.Errorf("--handover %q: want paused or p2p", o.lead)
}

// roleOfService is the role in which a service connects to the bus.
func roleOfService(name, host string) string {
	switch name {
	case "console":
		return streams.RoleOperator
	case "actuator":
		return streams.RoleActuator(schemas.HostID(host))
	}
	return name
}

func runService(c *cobra.Command, at *place, name string, o serviceOptions) error {
	ctx := c.Context()
	if faults := o.validate(name); len(faults) > 0 {
		return usageError{faults}
	}
	log, err := service.Logger(os.Stderr, o.log, o.json)
	if err != nil {
		return usageError{err}
	}
	role := roleOfService(name, o.host)
	l, err := service.Listen(o.listen)
	if err != nil {
		return usageError{err}
	}
	bus, err := at.connect(ctx, role)
	if err != nil {
		l.Close()
		return err
	}
	defer bus.Close()
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	var health service.Health
	health.Ready("bus", bus.Ready)
	mux := http.NewServeMux()
	health.Routes(mux, registry)
	work, err := serviceOf(name, at, o, bus, mux, log, registry)
	if err != nil {
		l.Close()
		return err
	}
	log.Info("started", "service", name, "version", versionText(), "role", role, "listen", "http://"+l.Addr().String(), "settings", strings.Join(config.Effective(c), " "))
	ctx, cancel := context.WithCancel(ctx)
	served := make(chan error, 1)
	go func() { served <- service.Serve(ctx, l, mux); cancel() }()
	err = work(ctx)
	cancel()
	if serr := <-served; err == nil {
		err = serr
	}
	return err
}

func serviceOf(name string, at *place, o serviceOptions, bus *streams.Bus, mux *http.ServeMux, log *slog.Logger, registry *prometheus.Registry) (func(context.Context) error, error) {
	switch name {
	case "forecaster":
		return func(ctx context.Context) error {
			collectAt(20) // windows and models are arrays of numbers
			return forecaster.Run(ctx, bus, forecaster.Config{Base: o.base, MaxVMs: o.maxVMs, SnapshotEvery: o.snapshot}, log, registry)
		}, nil
	case "placer":
		return func(ctx context.Context) error {
			ctx, stop := context.WithCancel(ctx)
			defer stop()
			tuner := make(chan error, 1)
			go func() { tuner <- tune.Run(ctx, bus, tune.Config{Base: o.base}, log) }()
			err := placer.Run(ctx, bus, placer.Config{Base: o.base}, log, registry)
			stop()
			return errors.Join(err, <-tuner)
		}, nil
	case "recorder":
		return func(ctx context.Context) error { return streams.Record(ctx, bus, log) }, nil
	case "console":
		tokens, keep, err := addConsole(mux, o.console.on(at.url), at.state, bus, o.base, log)
		if err == nil {
			log.Info("sign in with a token of this file", "tokens", tokens.Path())
		}
		return func(ctx context.Context) error { frugal(ctx); return keep(ctx) }, err
	case "actuator":
		authorities, err := streams.LoadAuthorities(filepath.Join(at.state, streams.FileAuthorities))
		if err != nil {
			return nil, err
		}
		if strings.HasPrefix(o.uri, "qemu+tcp://") {
			log.Warn("libvirt over plain TCP is for simulated hosts only", "uri", o.uri)
		}
		peer, err := o.leads()
		if err != nil {
			return nil, usageError{err}
		}
		if o.data == "" {
			o.data = filepath.Join(at.state, "actuator", o.host)
		}
		a, err := actuator.New(actuator.Config{Bus: bus, Host: schemas.HostID(o.host), URI: o.uri, MigrateAddress: o.addr, Authorities: authorities, Peer: peer,
			StateDir: o.data, Log: log, Registry: registry})
		if err != nil {
			return nil, err
		}
		return a.Run, nil
	case "tunnel":
		cfg, err := o.tunnel.config(at.state)
		if err != nil {
			return nil, usageError{err}
		}
		cfg.Log, cfg.Registry = log, registry
		return func(ctx context.Context) error { return tunnel.Run(ctx, bus, cfg) }, nil
	}
	return nil, fmt.Errorf("no service %q", name)
}

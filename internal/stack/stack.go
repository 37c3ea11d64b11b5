// Package stack runs all of Foreshift in one process: the embedded bus, recorder,
// forecaster, placer, one actuator per host, and the agent as a process of its
// own. It is what "foreshift up" and the laboratory start.
//
// What comes in: a state directory, the hosts with their libvirt URIs, the policy,
// the base step, and history to be back-filled. What goes out: the running
// services, their bus, their metrics and health.
//
// What is promised: parts start in the order in which they need each other and
// stop in the reverse one; the first part that fails stops all, and its error is
// the one that is reported; nothing is left running.
//
// Why one process: so that a newcomer sees the whole with one command. Nothing in
// it is different from the services run one by one: they meet only on the bus.
package stack

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/foreshift/foreshift/actuator"
	"github.com/foreshift/foreshift/actuator/tunnel"
	"github.com/foreshift/foreshift/forecaster"
	"github.com/foreshift/foreshift/internal/service"
	"github.com/foreshift/foreshift/internal/tune"
	"github.com/foreshift/foreshift/placer"
	"github.com/foreshift/foreshift/schemas"
	"github.com/foreshift/foreshift/streams"
	"github.com/foreshift/foreshift/streams/embedded"
	"github.com/prometheus/client_golang/prometheus"
)

// Host is one host that is moved from and to.
type Host struct {
	ID      schemas.HostID
	URI     string // libvirt, as the actuator reaches it
	Address string // where a peer's QEMU connects; empty lets libvirt choose
}

// Config says what to run.
type Config struct {
	StateDir string
	Port     int // of NATS on loopback; 0 takes a free one
	Base     time.Duration
	Grace    time.Duration // how long after its end a base step is closed
	Hosts    []Host
	Policy   schemas.Policy
	Version  string
	Log      *slog.Logger
}

// Stack is a running Foreshift.
type Stack struct {
	Server   *embedded.Server
	Admin    *streams.Bus // for set-up and back-fill
	Operator *streams.Bus // for reading, and for acts
	Registry *prometheus.Registry
	Health   *service.Health

	cfg    Config
	ctx    context.Context
	cancel context.CancelCauseFunc
	wg     sync.WaitGroup
	buses  []*streams.Bus
}

// Start brings up the bus with all its streams and the policy; Services then
// starts what decides and acts. Between the two, history can be back-filled.
func Start(ctx context.Context, c Config) (*Stack, error) {
	s := &Stack{cfg: c, Registry: prometheus.NewRegistry(), Health: &service.Health{}}
	s.ctx, s.cancel = context.WithCancelCause(ctx)
	var err error
	ids := make([]schemas.HostID, len(c.Hosts))
	for i, h := range c.Hosts {
		ids[i] = h.ID
	}
	if s.Server, err = embedded.Start(embedded.Options{StateDir: c.StateDir, Port: c.Port, Hosts: ids, PerHost: true}); err != nil {
		s.cancel(nil)
		return nil, err
	}
	if err = s.prepare(ids); err != nil {
		return nil, errors.Join(err, s.Stop())
	}
	return s, nil
}

func (s *Stack) prepare(hosts []schemas.HostID) (err error) {
	if s.Admin, err = s.Bus("admin"); err != nil {
		return err
	}
	if _, err = streams.Apply(s.ctx, s.Admin, streams.ApplyOptions{Hosts: hosts, Scale: streams.ScaleEmbedded}); err != nil {
		return err
	}
	if s.Operator, err = s.Bus("operator"); err != nil {
		return err
	}
	_, err = s.Admin.Publish(s.ctx, streams.Out{Subject: streams.SubjectPolicy, Msg: &s.cfg.Policy})
	return err
}

// Bus connects in a role; Stop closes it.
func (s *Stack) Bus(role string) (*streams.Bus, error) {
	c := s.Server.Credentials(role)
	c.Log = s.cfg.Log
	b, err := streams.Connect(s.ctx, c)
	if err != nil {
		return nil, err
	}
	s.buses = append(s.buses, b)
	return b, nil
}

// Go runs one part until the stack stops; its failure stops the stack.
func (s *Stack) Go(name string, run func(context.Context) error) {
	s.wg.Go(func() {
		if err := run(s.ctx); err != nil && s.ctx.Err() == nil {
			s.cancel(fmt.Errorf("%s: %w", name, err))
		}
	})
}

// Services starts recorder, forecaster, placer, the tunnel role and the actuators.
func (s *Stack) Services() error {
	log := s.cfg.Log
	bus := map[string]*streams.Bus{}
	for _, role := range []string{"recorder", "forecaster", "placer", "tunnel"} {
		b, err := s.Bus(role)
		if err != nil {
			return err
		}
		bus[role] = b
		s.Health.Ready(role, b.Ready)
	}
	s.Go("recorder", func(ctx context.Context) error { return streams.Record(ctx, bus["recorder"], log) })
	s.Go("forecaster", func(ctx context.Context) error {
		return forecaster.Run(ctx, bus["forecaster"], forecaster.Config{Base: s.cfg.Base, Grace: s.cfg.Grace}, log, s.Registry)
	})
	s.Go("placer", func(ctx context.Context) error {
		return placer.Run(ctx, bus["placer"], placer.Config{Base: s.cfg.Base}, log, s.Registry)
	})
	s.Go("tuner", func(ctx context.Context) error {
		return tune.Run(ctx, bus["placer"], tune.Config{Base: s.cfg.Base}, log)
	})
	s.Go("tunnel", func(ctx context.Context) error {
		return tunnel.Run(ctx, bus["tunnel"], tunnel.Config{Log: log, Registry: s.Registry})
	})
	authorities, err := streams.LoadAuthorities(filepath.Join(s.cfg.StateDir, streams.FileAuthorities))
	if err != nil {
		return err
	}
	for _, h := range s.cfg.Hosts {
		b, err := s.Bus("actuator-" + string(h.ID))
		if err != nil {
			return err
		}
		a, err := actuator.New(actuator.Config{Bus: b, Host: h.ID, URI: h.URI, MigrateAddress: h.Address, Authorities: authorities,
			StateDir: filepath.Join(s.cfg.StateDir, "actuator", string(h.ID)), Log: log, Registry: s.Registry})
		if err != nil {
			return err
		}
		s.Go("actuator "+string(h.ID), a.Run)
	}
	return nil
}

// Done is closed when the stack stops; Err says why.
func (s *Stack) Done() <-chan struct{} { return s.ctx.Done() }

// Err is the failure that stopped the stack, nil when it was asked to stop.
func (s *Stack) Err() error {
	if err := context.Cause(s.ctx); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// Stop ends all parts, the bus last, and reports what made the stack stop.
func (s *Stack) Stop() error {
	err := s.Err()
	s.cancel(nil)
	s.wg.Wait()
	for _, b := range slices.Backward(s.buses) {
		b.Close()
	}
	s.Server.Shutdown()
	return err
}

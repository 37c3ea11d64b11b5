package stack

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"github.com/foreshift/foreshift/agents/conf"
	"github.com/foreshift/foreshift/internal/lab"
	"github.com/foreshift/foreshift/placer/policy"
	"github.com/foreshift/foreshift/schemas"
	"github.com/foreshift/foreshift/streams"
)

// Lab runs Foreshift for the laboratory's demonstration: it implements
// [lab.Stack].
type Lab struct {
	Agent string // path of the agent's binary
	Log   *slog.Logger

	stack  *Stack
	policy schemas.Policy
	events chan schemas.Message
	failed chan error
	once   sync.Once
}

// NewLab prepares one; nothing runs before Start.
func NewLab(agent string, log *slog.Logger) *Lab {
	return &Lab{Agent: agent, Log: log, events: make(chan schemas.Message, 1024), failed: make(chan error, 1)}
}

// labPolicy is the demonstration's: base steps are far shorter than a migration,
// so what is counted in steps looks further ahead, and the hosts are real.
func labPolicy(base time.Duration) schemas.Policy {
	p := policy.Default()
	p.Version = 1
	p.AutoOnlySimulated = false
	steps := func(d time.Duration) int { return int(d / base) }
	p.LookAheadSteps = steps(25 * time.Second)
	p.MarginSteps = float64(steps(8 * time.Second))
	p.CoolDownSteps = schemas.StepsPerDay
	return p
}

// Start implements [lab.Stack].
func (l *Lab) Start(ctx context.Context, site lab.Site) (err error) {
	l.policy = labPolicy(site.Base)
	c := Config{StateDir: site.Dir, Base: site.Base, Grace: site.Base, Policy: l.policy, Version: "lab", Log: l.Log}
	set := conf.Settings{Interval: site.Base, Flush: max(site.Base/4, 20*time.Millisecond), Credentials: site.Dir, Agent: "lab", LogFile: filepath.Join(site.Dir, "agent.log"), Quiet: true}
	for _, h := range site.Hosts {
		c.Hosts = append(c.Hosts, Host{ID: h.ID, URI: h.URI, Address: h.Address})
		set.Hosts = append(set.Hosts, conf.Host{ID: h.ID, Site: "lab", URI: h.URI, Capacity: h.Capacity, Usage: "vms"})
	}
	// The stack outlives the start: it ends with Stop.
	if l.stack, err = Start(context.WithoutCancel(ctx), c); err != nil {
		return err
	}
	if err := l.stack.Services(); err != nil {
		return err
	}
	set.URL = l.stack.Server.URL()
	path := filepath.Join(site.Dir, "agent.conf")
	if err := conf.Write(path, set); err != nil {
		return err
	}
	// Base steps are far shorter than in production: a gather that waits for a core is
	// noise in a sample.
	if err := l.stack.Agent(l.Agent, path, l.prioritise); err != nil {
		return err
	}
	s := l.stack
	go func() {
		<-s.Done()
		if err := s.Err(); err != nil {
			l.failed <- err
		}
		close(l.failed)
	}()
	return l.follow(ctx, len(site.Guests))
}

func (l *Lab) prioritise(pid int) {
	if err := lab.Prioritise(pid); err != nil {
		l.Log.Warn("the agent keeps its priority; expect noisier samples", "err", err)
	}
}

// follow passes events on and waits until all guests have been forecast once.
func (l *Lab) follow(ctx context.Context, guests int) error {
	seen := map[schemas.VMID]bool{}
	ready := make(chan struct{})
	var mu sync.Mutex
	see := func(e streams.Event) {
		mu.Lock()
		defer mu.Unlock()
		if f, ok := e.Msg.(*schemas.Forecasts); ok {
			for _, v := range f.VM {
				if seen[v] = true; len(seen) == guests {
					l.once.Do(func() { close(ready) })
				}
			}
			return
		}
		if m, ok := e.Msg.(schemas.Message); ok {
			select {
			case l.events <- m:
			case <-l.stack.Done():
			}
		}
	}
	for _, in := range []streams.Input{{Stream: streams.Forecasts, From: streams.FromNew}, {Stream: streams.Pressure, From: streams.FromNew, Filters: []string{"pressure.host.*"}},
		{Stream: streams.Progress, From: streams.FromNew}, {Stream: streams.Plans, From: streams.FromNew}, {Stream: streams.Migrations, From: streams.FromNew}} {
		l.stack.Go("lab "+in.Stream, func(ctx context.Context) error { return l.stack.Operator.Consume(ctx, "lab", in, see) })
	}
	select {
	case <-ready:
		return nil
	case <-l.stack.Done():
		return l.stack.Err()
	case <-time.After(time.Minute):
		return fmt.Errorf("no forecast of the %d guests within a minute; the agent's log is %s", guests, filepath.Join(l.stack.cfg.StateDir, "agent.log"))
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// SetMode implements [lab.Stack].
func (l *Lab) SetMode(ctx context.Context, mode schemas.Mode) error {
	l.policy.Mode = mode
	l.policy.Version++
	_, err := l.stack.Admin.Publish(ctx, streams.Out{Subject: streams.SubjectPolicy, Msg: &l.policy})
	return err
}

// Events implements [lab.Stack].
func (l *Lab) Events() <-chan schemas.Message { return l.events }

// Err implements [lab.Stack].
func (l *Lab) Err() <-chan error { return l.failed }

// Stop implements [lab.Stack].
func (l *Lab) Stop() error {
	if l.stack == nil {
		return nil
	}
	s := l.stack
	l.stack = nil
	err := s.Stop()
	close(l.events)
	return err
}

var _ lab.Stack = (*Lab)(nil)

package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/foreshift/foreshift/console"
	"github.com/foreshift/foreshift/internal/sim"
	"github.com/foreshift/foreshift/internal/stack"
	"github.com/foreshift/foreshift/schemas"
	"github.com/foreshift/foreshift/streams"
)

// watcher follows a running "up" over the bus, as any operator could, and tells
// what happens.
type watcher struct {
	s     *stack.Stack
	fleet *sim.Fleet
	say   *story
	stop  func()

	mu       sync.Mutex
	samples  int // values measured since the last look
	vms      map[schemas.VMID]bool
	hosts    map[schemas.HostID]schemas.Ratio
	told     map[schemas.HostID]bool // pressure above one half was told
	commands map[schemas.CommandID]*schemas.Command
	moves    []console.Move
	moved    chan struct{} // closed at the first move that ended before the trouble
}

func newWatcher(s *stack.Stack, fleet *sim.Fleet, say *story) *watcher {
	w := &watcher{s: s, fleet: fleet, say: say, vms: map[schemas.VMID]bool{}, hosts: map[schemas.HostID]schemas.Ratio{}, told: map[schemas.HostID]bool{},
		commands: map[schemas.CommandID]*schemas.Command{}, moved: make(chan struct{})}
	stopped := make(chan struct{})
	w.stop = sync.OnceFunc(func() { close(stopped) })
	for _, in := range []streams.Input{
		{Stream: streams.Metrics, From: streams.FromNew},
		{Stream: streams.Forecasts, From: streams.FromLastPerSubject},
		{Stream: streams.Pressure, From: streams.FromLastPerSubject, Filters: []string{"pressure.host.*"}},
		{Stream: streams.Migrations},
	} {
		s.Go("watch "+in.Stream, func(ctx context.Context) error {
			ctx, cancel := context.WithCancel(ctx)
			defer cancel()
			go func() {
				select {
				case <-stopped:
				case <-ctx.Done():
				}
				cancel()
			}()
			return s.Operator.Consume(ctx, "up", in, w.see)
		})
	}
	return w
}

func (w *watcher) see(e streams.Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch m := e.Msg.(type) {
	case *schemas.Metrics:
		for _, col := range m.Cols {
			for _, v := range col {
				if !schemas.IsNaN(v) {
					w.samples++
				}
			}
		}
	case *schemas.Forecasts:
		for _, v := range m.VM {
			w.vms[v] = true
		}
	case *schemas.PressureHost:
		w.hosts[m.Host] = m.Score
		switch {
		case m.Score >= .5 && !w.told[m.Host]:
			w.told[m.Host] = true
			w.say.event("pressure   %s will be short of %s: %.0f %%, %s, peak %s of capacity", m.Host, m.Resource, 100*float64(m.Score),
				ahead(m.Onset, schemas.At(time.Now())), share(m.Peak, m.Limit))
		case m.Score < .2 && w.told[m.Host]:
			w.told[m.Host] = false
			w.say.event("relief     %s has room for what is forecast (%.0f %%)", m.Host, 100*float64(m.Score))
		}
	case *schemas.Command:
		w.commands[m.ID] = m
		w.say.event("move       %s  %s -> %s: %s", m.Name, m.Source, m.Destination, m.Reason.Detail)
	case *schemas.Outcome:
		w.outcome(m)
	}
}

func (w *watcher) outcome(o *schemas.Outcome) {
	c := w.commands[o.Command]
	if c == nil {
		return
	}
	m := console.Move{Epoch: o.Epoch, Command: *c, Outcome: o}
	w.moves = append(w.moves, m)
	if o.Result != schemas.ResultSucceeded {
		w.say.event("%-10s %s  %s -> %s: %s", o.Result, c.Name, c.Source, c.Destination, o.Reason)
		return
	}
	when := "the trouble had begun"
	if m.Predicted() {
		when = schemas.Span(m.Lead()) + " before the trouble"
		select {
		case <-w.moved:
		default:
			close(w.moved)
		}
	}
	w.say.event("moved      %s  %s -> %s in %.1f s, downtime %.0f ms, %s", c.Name, c.Source, c.Destination, float64(o.Duration), float64(o.Downtime), when)
}

// untilReady waits until every VM has a forecast and every host was judged.
func (w *watcher) untilReady(ctx context.Context, most time.Duration) error {
	deadline := time.After(most)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		w.mu.Lock()
		vms, hosts := len(w.vms), len(w.hosts)
		w.mu.Unlock()
		if vms >= len(w.fleet.VMs()) && hosts >= len(w.fleet.Hosts()) {
			return nil
		}
		select {
		case <-tick.C:
		case <-w.s.Done():
			return w.s.Err()
		case <-deadline:
			return fmt.Errorf("not ready after %s: %d of %d VMs forecast, %d of %d hosts judged; run again with --log info to see why", most, vms, len(w.fleet.VMs()), hosts, len(w.fleet.Hosts()))
		case <-ctx.Done():
			return nil
		}
	}
}

// run tells the state every ten seconds until it is to end.
func (w *watcher) run(ctx context.Context, o upOptions) error {
	var end <-chan time.Time
	if o.stopAfter > 0 {
		end = time.After(o.stopAfter)
	}
	var moved <-chan struct{}
	if o.untilMoved {
		moved = w.moved
	}
	const every = 10 * time.Second
	report := time.NewTicker(every)
	defer report.Stop()
	truth := time.NewTicker(200 * time.Millisecond)
	defer truth.Stop()
	for {
		select {
		case <-report.C:
			w.report(every)
		case <-truth.C:
			for _, v := range w.fleet.VMs() {
				if at := w.fleet.Running(v.ID); len(at) > 1 {
					return fmt.Errorf("VM %s runs on %v at once: this must never happen; the state is kept for an inquiry", v.Name, at)
				}
			}
		case <-moved:
			w.say.line("a move has ended before the trouble it foresaw")
			return nil
		case <-end:
			if o.untilMoved {
				return fmt.Errorf("no move ended before the trouble it foresaw within %s", o.stopAfter)
			}
			return nil
		case <-w.s.Done():
			return w.s.Err()
		case <-ctx.Done():
			return nil
		}
	}
}

func (w *watcher) report(every time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	hot := 0
	for _, score := range w.hosts {
		if score >= .5 {
			hot++
		}
	}
	v := console.View{Moves: w.moves}
	n := v.Count()
	w.say.event("%d hosts, %d VMs, %.0f values/s; hosts under pressure: %d; moves: %d succeeded, %d of them before the trouble, %d failed, %d unknown",
		len(w.hosts), len(w.vms), float64(w.samples)/every.Seconds(), hot, n.Succeeded, n.Predicted, n.Failed, n.Unknown)
	w.samples = 0
}

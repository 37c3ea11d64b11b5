package lab

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/foreshift/foreshift/actuator/libvirt"
	"github.com/foreshift/foreshift/actuator/migration"
	"github.com/foreshift/foreshift/schemas"
)

// openHost opens a host by its URI, as an actuator does.
func openHost(t *testing.T, ctx context.Context, h *Host) *libvirt.Host {
	t.Helper()
	c, err := libvirt.Open(ctx, h.URI)
	if err != nil {
		t.Fatalf("host %s: %v", h.Name, err)
	}
	t.Cleanup(c.Close)
	return c
}

// handOver walks the phases of one client-managed move through the actuator's own
// adapter: every phase a call on one host's own socket, the destination resumed
// only when both sides are seen paused. The actuator adds what is left out here:
// journal, fences, and a way out of every fault.
func handOver(ctx context.Context, from *Host, source *libvirt.Source, to *Host, destination *libvirt.Destination, g *Guest, epoch uint64) error {
	ticket := migration.Ticket{Epoch: epoch, Command: &schemas.Command{ID: "test", VM: g.ID, Name: g.Name, Source: from.ID, Destination: to.ID, MaxDowntime: 500}}
	offer, err := source.Begin(ctx, ticket)
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	prepared, err := destination.Prepare(ctx, ticket, offer)
	if err != nil {
		return errors.Join(fmt.Errorf("prepare: %w", err), source.Abort(ctx, g.ID))
	}
	cookie, err := source.Perform(ctx, ticket, prepared)
	if err != nil {
		return fmt.Errorf("perform: %w", err)
	}
	finished, err := destination.Finish(ctx, ticket, cookie)
	if err != nil {
		return fmt.Errorf("finish: %w", err)
	}
	left, err := source.Observe(ctx, g.ID)
	if err != nil {
		return fmt.Errorf("observe the source: %w", err)
	}
	if left.Copy != migration.Paused || finished.Copy != migration.Paused {
		return fmt.Errorf("before the resume the source is %v and the destination %v, want both paused", left.Copy, finished.Copy)
	}
	if _, err := destination.Resume(ctx, ticket); err != nil {
		return fmt.Errorf("resume: %w", err)
	}
	if err := source.Confirm(ctx, g.ID, finished.Cookie); err != nil {
		return fmt.Errorf("confirm: %w", err)
	}
	return nil
}

// A guest that dirties memory is moved round the three hosts and back; seen from
// outside it is never gone for 2 s, never damaged, and never there twice.
func TestLabHandover(t *testing.T) {
	ctx := onLab(t)
	l := upLab(t, ctx)
	g, err := l.StartGuest(ctx, l.Hosts[0], GuestSpec{Name: "vm1", Memory: 128 << 20, WorkingSet: 32 << 20, DirtyRate: 8 << 20, Load: "0:20"})
	if err != nil {
		t.Fatal(err)
	}
	conns := make([]*libvirt.Host, len(l.Hosts))
	for i, h := range l.Hosts {
		conns[i] = openHost(t, ctx, h)
	}
	w := l.Watch(ctx, g.ID, 0)
	for i := range l.Hosts {
		from, to := i, (i+1)%len(l.Hosts)
		before := l.Beats.Report(g.Name)
		start := time.Now()
		if err := handOver(ctx, l.Hosts[from], conns[from].Source(), l.Hosts[to], conns[to].Destination(l.Hosts[to].Address), g, uint64(i+1)); err != nil {
			t.Fatalf("%s -> %s: %v", l.Hosts[from].Name, l.Hosts[to].Name, err)
		}
		took := time.Since(start)
		// Success is a guest that goes on checking its pages.
		if !poll(ctx, 20*time.Second, 50*time.Millisecond, func() bool { return l.Beats.Report(g.Name).Pages > before.Pages+16384 }) {
			t.Fatalf("the guest does not work on %s: %+v", l.Hosts[to].Name, l.Beats.Report(g.Name))
		}
		gap := l.Beats.Report(g.Name).Silence(start, start.Add(took+100*time.Millisecond))
		t.Logf("%s -> %s: %v, heartbeat gap %v", l.Hosts[from].Name, l.Hosts[to].Name, took.Round(time.Millisecond), gap.Round(time.Millisecond))
		if gap >= 2*time.Second {
			t.Errorf("heartbeat gap %v, want below 2 s", gap)
		}
		if at, err := l.RunsAt(ctx, g.ID); err != nil || at != l.Hosts[to] {
			t.Errorf("runs at %v: %v", at, err)
		}
	}
	seen := w.Stop()
	r := l.Beats.Report(g.Name)
	t.Logf("%d looks, %d without a running copy, %d skewed, %d with a host that did not answer; %d pages checked", seen.Looks, seen.None, seen.Skewed, seen.Unknown, r.Pages)
	if seen.MaxRunning != 1 {
		t.Errorf("%d copies ran at one moment", seen.MaxRunning)
	}
	if r.Bad != 0 || r.Resets != 0 {
		t.Errorf("bad pages %d, restarts %d", r.Bad, r.Resets)
	}
}

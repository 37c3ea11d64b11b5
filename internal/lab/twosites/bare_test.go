package twosites

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/foreshift/foreshift/internal/chart"
	"github.com/foreshift/foreshift/internal/lab"
	"github.com/foreshift/foreshift/schemas"
	"github.com/foreshift/foreshift/streams"
)

// bare is the lab without hypervisors: its network, its gateways, and flows in place of
// moves. It needs root, but no package of the machine.
func bare(t *testing.T, change func(*Config)) (context.Context, *Rig) {
	t.Helper()
	gate(t, "FORESHIFT_LAB")
	return run(t, func(c *Config) {
		c.Bare = true
		if change != nil {
			change(c)
		}
	})
}

// guest stands for a VM of the first hosts.
func guest(name string, n byte, dirty schemas.BytesPerSecond) *lab.Guest {
	return &lab.Guest{GuestSpec: lab.GuestSpec{Name: name, ID: schemas.VMID{n}, Memory: 2e9, DirtyRate: dirty}}
}

// run has the first hosts say that they run these guests, and waits until they have.
func (r *Rig) run(guests ...*lab.Guest) {
	r.mu.Lock()
	r.guests = guests
	r.mu.Unlock()
	time.Sleep(2500 * time.Millisecond) // the hosts' next word names them
}

// tell reports progress of a move as its actuator does.
func (r *Rig) tell(ctx context.Context, t *testing.T, id schemas.CommandID, g *lab.Guest, host int, phase schemas.Phase) {
	t.Helper()
	m := &schemas.Progress{Command: id, Epoch: 1, VM: g.ID, Host: r.Lab.Hosts[host].ID, Time: schemas.At(time.Now()), Phase: phase, Total: g.Memory, Remaining: g.Memory / 2, Processed: g.Memory / 2, DirtyRate: g.DirtyRate}
	if err := r.put(ctx, r.actuators[host], streams.SubjectProgress(g.ID), m); err != nil {
		t.Fatal(err)
	}
}

// over ends a move, as its actuator does.
func (r *Rig) over(ctx context.Context, t *testing.T, id schemas.CommandID, g *lab.Guest, from, to int) {
	t.Helper()
	m := &schemas.Outcome{Command: id, Epoch: 1, VM: g.ID, Host: r.Lab.Hosts[from].ID, Source: r.Lab.Hosts[from].ID, Destination: r.Lab.Hosts[to].ID, Time: schemas.At(time.Now()), Result: schemas.ResultSucceeded,
		Reason: schemas.Reason{Code: schemas.ReasonOK}, RunsAt: r.Lab.Hosts[to].ID, SourceSeen: "absent", DestSeen: "running"}
	if err := r.put(ctx, r.actuators[from], streams.SubjectOutcome(g.ID, m.Host), m); err != nil {
		t.Fatal(err)
	}
}

// reaches waits until a flow's rate is near a wanted one, and tells how long that took.
func reaches(t *testing.T, what string, f *Flow, want float64, within time.Duration) {
	t.Helper()
	begun := time.Now()
	for {
		got := f.Rate(500 * time.Millisecond)
		if got > .7*want && got < 1.15*want {
			t.Logf("%s: %.1f MB/s after %.1f s", what, got/1e6, time.Since(begun).Seconds())
			return
		}
		if time.Since(begun) > within {
			t.Errorf("%s: %.1f MB/s after %s, want about %.1f", what, got/1e6, within, want/1e6)
			return
		}
	}
}

// TestLabSharesOnTheWire: what is decided of a link is what flows over it, within two
// seconds, and other traffic keeps its guarantee. The plot is of this run.
func TestLabSharesOnTheWire(t *testing.T) {
	ctx, r := bare(t, nil)
	r.up(t)
	h := r.Lab.Hosts
	a, b := guest("vm1", 1, 1e6), guest("vm2", 2, 1e6)
	r.run(a, b)
	c1, err := r.Order(ctx, a, 0, 2, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	one, err := newFlow(h[0], h[2], 49152)
	if err != nil {
		t.Fatal(err)
	}
	defer one.Close()
	// Two seconds are for the share to be in force; the window of a measurement comes on top.
	const limit = 2500 * time.Millisecond
	reaches(t, "alone", one, 9e6, 5*time.Second)
	c2, err := r.Order(ctx, b, 1, 2, 4*time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	r.tell(ctx, t, c2, b, 1, schemas.PhasePreCopy) // it could not wait
	two, err := newFlow(h[1], h[2], 49153)
	if err != nil {
		t.Fatal(err)
	}
	defer two.Close()
	for late := time.Now().Add(4 * time.Second); len(r.Link().Shares) < 2 || r.Link().Shares[1].Rate < 5e6; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(late) {
			t.Fatalf("the second has no share for its deadline: %+v", r.Link().Shares)
		}
	}
	reaches(t, "a second needs most of it for its deadline: the first", one, float64(r.Link().Shares[0].Rate), limit)
	reaches(t, "the second", two, float64(r.Link().Shares[1].Rate), limit)
	other, err := newFlow(h[0], h[2], 5001)
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Second)
	if got := other.Rate(3 * time.Second); got < .8e6 {
		t.Errorf("other traffic has %.2f MB/s of the 1.0 that it is guaranteed", got/1e6)
	} else {
		t.Logf("other traffic beside two moves: %.2f MB/s, guaranteed 1.0", got/1e6)
	}
	other.Close()
	r.over(ctx, t, c2, b, 1, 2)
	two.Close()
	reaches(t, "the second has ended: the first", one, 9e6, limit+time.Second)
	r.over(ctx, t, c1, a, 0, 2)
	if o := r.Sites.Wire.Other(); len(o) > 0 {
		t.Errorf("on the WAN link: %v", o)
	}
	if dir := os.Getenv("FORESHIFT_PLOTS"); dir != "" {
		at1, y1, t1 := one.Series()
		at2, y2, t2 := two.Series()
		at3, y3, t3 := other.Series()
		for i := range at2 {
			at2[i] += t2.Sub(t1).Seconds()
		}
		for i := range at3 {
			at3[i] += t3.Sub(t1).Seconds()
		}
		svg := chart.Line(chart.Figure{Title: "Two moves and other traffic over one link", Desc: "Measured at the receivers; the link is shaped to 10 MB/s, of which 1 is guaranteed to other traffic",
			X: chart.Axis{Label: "s"}, Y: chart.Axis{Label: "MB/s", Min: 0, Max: 12}},
			[]chart.Series{{Name: "first move", X: at1, Y: y1}, {Name: "second move, with a deadline", X: at2, Y: y2}, {Name: "other traffic", X: at3, Y: y3}})
		if err := os.WriteFile(filepath.Join(dir, "tunnel-shares.svg"), svg, 0o644); err != nil {
			t.Error(err)
		}
	}
	r.clean(ctx, t)
}

// TestLabNarrowWay: a link that carries less than its gateways were told is measured, and
// shared out as it is; when nothing waits on it any more, it is tried again.
func TestLabNarrowWay(t *testing.T) {
	gate(t, "FORESHIFT_TUNNEL")
	const way = 5e6 // of the 10 MB/s that the gateways are told
	ctx, r := bare(t, func(c *Config) { c.WAN = way })
	r.up(t)
	h := r.Lab.Hosts
	a := guest("vm1", 1, 1e6)
	r.run(a)
	if l := r.Link(); l.Bandwidth < 9.9e6 {
		t.Errorf("%.1f MB/s are believed of a link that nobody uses", float64(l.Bandwidth)/1e6)
	}
	c1, err := r.Order(ctx, a, 0, 2, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	one, err := newFlow(h[0], h[2], 49152)
	if err != nil {
		t.Fatal(err)
	}
	defer one.Close()
	begun := time.Now()
	for r.Link().Bandwidth > 1.3*way {
		if time.Since(begun) > 40*time.Second {
			t.Fatalf("%.1f MB/s are believed of a way of %.1f; round trip %.0f ms", float64(r.Link().Bandwidth)/1e6, way/1e6, float64(r.Link().RTT))
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Logf("%.1f MB/s are believed after %.1f s; the flow has %.1f", float64(r.Link().Bandwidth)/1e6, time.Since(begun).Seconds(), one.Rate(time.Second)/1e6)
	r.over(ctx, t, c1, a, 0, 2)
	one.Close()
	for begun = time.Now(); r.Link().Bandwidth < 9.9e6; time.Sleep(100 * time.Millisecond) {
		if time.Since(begun) > time.Minute {
			t.Fatalf("%.1f MB/s are believed a minute after all has ended", float64(r.Link().Bandwidth)/1e6)
		}
	}
	t.Logf("believed to be whole again after %.1f s", time.Since(begun).Seconds())
	r.clean(ctx, t)
}

// TestLabLinkFaults: a link that is cut for ten seconds comes back by itself; a small MTU
// carries whole frames; without the key nothing comes through.
func TestLabLinkFaults(t *testing.T) {
	ctx, r := bare(t, func(c *Config) { c.MTU = 1280 })
	r.up(t)
	h := r.Lab.Hosts
	f, err := newFlow(h[0], h[2], 5001)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if got := f.Rate(3 * time.Second); got < 2e6 {
		t.Errorf("over an MTU of 1280: %.1f MB/s", got/1e6)
	} else {
		t.Logf("over an MTU of 1280: %.1f MB/s", got/1e6)
	}
	if err := r.Sites.Cut(true); err != nil {
		t.Fatal(err)
	}
	for late := time.Now().Add(10 * time.Second); time.Now().Before(late); time.Sleep(100 * time.Millisecond) {
		if l := r.Link(); l != nil && l.Loss >= 1 && l.Left == 0 {
			t.Log("the link is told to be down")
			break
		}
	}
	if l := r.Link(); l == nil || l.Loss < 1 {
		t.Errorf("ten seconds after the cut: %+v", l)
	}
	time.Sleep(time.Until(time.Now().Add(2 * time.Second)))
	if err := r.Sites.Cut(false); err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	for f.Rate(500*time.Millisecond) < 1e6 {
		if time.Since(begun) > 40*time.Second {
			t.Fatal("the flow does not come back")
		}
	}
	t.Logf("the flow goes on %.1f s after the link is back", time.Since(begun).Seconds())
	if o := r.Sites.Wire.Other(); len(o) > 0 {
		t.Errorf("on the WAN link: %v", o)
	}
	// An impostor: the public end with another key, which nobody has announced.
	if err := errors.Join(r.Kill(r.Sites.Private), r.Kill(r.Sites.Public), r.Remove(ctx, r.Sites.Public)); err != nil {
		t.Fatal(err)
	}
	if r.Joined(3 * time.Second) {
		t.Error("the sites are joined without the public end")
	}
	if err := r.Gateway(r.Sites.Public); err != nil { // it makes a new key; the private role is dead and cannot learn it
		t.Fatal(err)
	}
	if r.Joined(8 * time.Second) {
		t.Error("traffic of a key that was not announced to the other end came through")
	}
	if err := r.Gateway(r.Sites.Private); err != nil { // now it learns the key
		t.Fatal(err)
	}
	if !r.Joined(30 * time.Second) {
		t.Error("the announced key is not accepted")
	}
	r.clean(ctx, t)
}

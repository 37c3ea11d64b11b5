package twosites

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/foreshift/foreshift/internal/lab"
	"github.com/foreshift/foreshift/schemas"
)

// program is foreshift itself: the one that was built, or one that is built now.
func program(t *testing.T) string {
	t.Helper()
	if p, err := filepath.Abs("../../../.build/bin/foreshift"); err == nil {
		if _, err := os.Stat(p); err == nil {
			return p
		}
	}
	p := filepath.Join(t.TempDir(), "foreshift")
	if out, err := exec.Command("go", "build", "-o", p, "../../../cmd/foreshift").CombinedOutput(); err != nil {
		t.Fatalf("build foreshift: %v: %s", err, out)
	}
	return p
}

// start brings the lab up, and takes it down with the test: nothing may be left.
func start(t *testing.T, change func(*Config)) (context.Context, *Rig) {
	t.Helper()
	gate(t, "FORESHIFT_TUNNEL")
	return run(t, change)
}

// gate skips what is not asked for: the lab's tests cost, and need root.
func gate(t *testing.T, name string) {
	t.Helper()
	if os.Getenv(name) != "1" {
		t.Skipf("lab skipped: set %s=1 (or run task test:lab, or lab:tunnel) to test in two sites", name)
	}
	if os.Geteuid() != 0 {
		t.Skip(lab.ErrNotRoot.Error())
	}
}

func run(t *testing.T, change func(*Config)) (context.Context, *Rig) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Minute)
	t.Cleanup(cancel)
	dir, err := os.MkdirTemp("", "two")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	begun := time.Now()
	c := Config{Dir: dir, Binary: program(t), WAN: 14e6, Rate: 10e6, Delay: 10 * time.Millisecond, MTU: 1500, Say: func(s string) { t.Logf("%5.1f %s", time.Since(begun).Seconds(), s) }}
	if change != nil {
		change(&c)
	}
	r, err := Start(ctx, c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(r.Logs())
			t.Log(r.story())
		}
		if err := r.Stop(); err != nil {
			t.Error(err)
		}
	})
	return ctx, r
}

// up starts both gateways and waits until the sites are one segment.
func (r *Rig) up(t *testing.T) {
	t.Helper()
	if err := errors.Join(r.Gateway(r.Sites.Private), r.Gateway(r.Sites.Public)); err != nil {
		t.Fatal(err)
	}
	if !r.Joined(30 * time.Second) {
		t.Fatalf("the sites are not joined; %s", r.Logs())
	}
}

// move carries a guest over, and reports the client's gap.
func (r *Rig) move(ctx context.Context, t *testing.T, g *lab.Guest, k *Client, from, to int) schemas.Outcome {
	t.Helper()
	_, _, _ = k.Gap()
	id, err := r.Order(ctx, g, from, to, 2*time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	o, err := r.Outcome(id, 2*time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	return r.judge(t, o, k, to)
}

func (r *Rig) judge(t *testing.T, o schemas.Outcome, k *Client, at int) schemas.Outcome {
	t.Helper()
	time.Sleep(1500 * time.Millisecond) // TCP may still be waiting to send again
	gap, alive, err := k.Gap()
	t.Logf("%s -> %s: %s %s in %.1f s, %.0f MB, downtime %.0f ms; the client's connection was silent for %d ms at most",
		o.Source, o.Destination, o.Result, o.Reason, float64(o.Duration), float64(o.Volume)/1e6, float64(o.Downtime), gap.Milliseconds())
	if !alive {
		t.Errorf("the client's connection is dead: %v", err)
	}
	if want := r.Lab.Hosts[at].ID; o.RunsAt != want {
		t.Errorf("the VM runs at %q, not at %s", o.RunsAt, want)
	}
	return o
}

// clean removes the tunnel and looks for what is left of it.
func (r *Rig) clean(ctx context.Context, t *testing.T) {
	t.Helper()
	for _, g := range []*lab.GatewayHost{r.Sites.Private, r.Sites.Public} {
		if err := errors.Join(r.Kill(g), r.Remove(ctx, g)); err != nil {
			t.Error(err)
		}
		left, err := g.Left()
		if err != nil || len(left) > 0 {
			t.Errorf("gateway of %s: left behind: %v, %v", g.Site, left, err)
		}
		if _, err := os.Stat(r.keys(g)); !os.IsNotExist(err) {
			t.Errorf("keys are left in %s", r.keys(g))
		}
	}
}

// TestLabTwoSites: a VM moves to the public site and back, and keeps its address and its
// client's connection; nothing but the tunnel's packets crosses the link; the tunnel is
// gone without a trace when it is removed.
func TestLabTwoSites(t *testing.T) {
	gate(t, "FORESHIFT_LAB")
	ctx, r := run(t, nil)
	if r.Joined(time.Second) {
		t.Fatal("the sites are joined without a tunnel: the lab shows nothing")
	}
	g, k := served(ctx, t, r)
	if o := r.move(ctx, t, g, k, 0, 2); o.Result != schemas.ResultSucceeded {
		t.Fatalf("there: %s %s", o.Result, o.Reason)
	}
	// While it is there, the role is asked for new keys; and killed: nothing happens.
	if out, err := r.Rotate(ctx, r.Sites.Private); err != nil {
		t.Errorf("rotation between moves: %v: %s", err, out)
	}
	time.Sleep(6 * time.Second)
	_, _, _ = k.Gap()
	id, err := r.Order(ctx, g, 2, 0, 2*time.Minute)
	if err == nil {
		err = r.Copying(id, time.Minute)
	}
	if err != nil {
		t.Fatal(err)
	}
	r.slower(t, id, 5e6)
	o, err := r.Outcome(id, 3*time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	if r.judge(t, o, k, 0); o.Result != schemas.ResultSucceeded {
		t.Errorf("back: %s %s", o.Result, o.Reason)
	}
	r.plot(t, id)
	if l := r.Link(); l == nil || l.RTT < 20 || l.By != "tunnel:private" && l.By != "tunnel:public" {
		t.Errorf("the link was not measured: %+v", l)
	} else {
		t.Logf("link: RTT %.1f ms, %.1f MB/s, loss %.2f, by %s", float64(l.RTT), float64(l.Bandwidth)/1e6, float64(l.Loss), l.By)
	}
	if o := r.Sites.Wire.Other(); len(o) > 0 || r.Sites.Wire.WireGuard.Load() < 1000 {
		t.Errorf("on the WAN link: %d WireGuard packets and %v", r.Sites.Wire.WireGuard.Load(), o)
	}
	t.Logf("on the WAN link: %d WireGuard packets, %d of neighbour discovery, none else; %.0f MB", r.Sites.Wire.WireGuard.Load(), r.Sites.Wire.Neighbour.Load(), float64(r.Sites.Wire.Bytes.Load())/1e6)
	if rep := r.Lab.Beats.Report("vm1"); rep.Bad > 0 {
		t.Errorf("the guest found %d bad pages", rep.Bad)
	}
	r.clean(ctx, t)
	if strings.Contains(r.Logs(), "panic") {
		t.Error("a gateway panicked")
	}
}

// served is a guest at the first host, with the tunnel up and a client that talks to it
// until the test ends.
func served(ctx context.Context, t *testing.T, r *Rig) (*lab.Guest, *Client) {
	t.Helper()
	g, err := r.Guest(ctx, 0, lab.GuestSpec{Name: "vm1"})
	if err != nil {
		t.Fatal(err)
	}
	r.up(t)
	conn, err := r.Sites.Dial(g.Address + ":9000")
	if err != nil {
		t.Fatal(err)
	}
	k := newClient(conn)
	t.Cleanup(func() {
		if err := k.Close(); err != nil {
			t.Error(err)
		}
	})
	return g, k
}

package twosites

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/foreshift/foreshift/internal/lab"
	"github.com/foreshift/foreshift/schemas"
)

// TestLabTunnelFaults: whatever befalls the tunnel during a move, the VM runs on exactly
// one host, its client's connection lives, and the next move works.
func TestLabTunnelFaults(t *testing.T) {
	ctx, r := start(t, nil)
	g, k := served(ctx, t, r)
	at := 0
	during := func(name string, must bool, fault func() error) {
		t.Run(name, func(t *testing.T) {
			to := 2 - at
			_, _, _ = k.Gap()
			id, err := r.Order(ctx, g, at, to, 2*time.Minute)
			if err == nil {
				err = r.Copying(id, 40*time.Second)
			}
			if err != nil {
				t.Fatal(err)
			}
			if err := fault(); err != nil {
				t.Error(err)
			}
			o, err := r.Outcome(id, 3*time.Minute)
			if err != nil {
				t.Fatal(err)
			}
			if o.Result == schemas.ResultSucceeded {
				at = to
			} else if must {
				t.Errorf("it failed: %s", o.Reason)
			}
			r.judge(t, o, k, at)
		})
	}
	again := func(site *lab.GatewayHost) func() error {
		return func() error {
			err := r.Kill(site)
			time.Sleep(2 * time.Second)
			return errors.Join(err, r.Gateway(site))
		}
	}
	during("the private gateway's role is killed", true, again(r.Sites.Private))
	during("the public gateway's role is killed", true, again(r.Sites.Public))
	during("new keys are asked for", true, func() error {
		if out, err := r.Rotate(ctx, r.Sites.Private); err == nil || !strings.Contains(out, string(schemas.ReasonUnderWay)) {
			return errors.New("keys were changed during a move: " + out)
		}
		return nil
	})
	during("the link is down for ten seconds", false, func() error {
		err := r.Sites.Cut(true)
		time.Sleep(10 * time.Second)
		return errors.Join(err, r.Sites.Cut(false))
	})
	during("nothing", true, func() error { return nil })
	r.clean(ctx, t)
}

// TestLabKeyAndMTU: over a way of small packets a VM moves as over any other; when the
// peer's key turns wrong during a move, the move fails and the VM stays at the source, and
// once the right key is known the next one succeeds.
func TestLabKeyAndMTU(t *testing.T) {
	ctx, r := start(t, func(c *Config) { c.MTU = 1280 })
	g, k := served(ctx, t, r)
	_, _, _ = k.Gap()
	id, err := r.Order(ctx, g, 0, 2, 80*time.Second)
	if err == nil {
		err = r.Copying(id, 40*time.Second)
	}
	if err != nil {
		t.Fatal(err)
	}
	// The public end comes back with another key, which the private end cannot learn.
	if err := errors.Join(r.Kill(r.Sites.Private), r.Kill(r.Sites.Public), r.Remove(ctx, r.Sites.Public), r.Gateway(r.Sites.Public)); err != nil {
		t.Fatal(err)
	}
	if r.Joined(5 * time.Second) {
		t.Error("traffic of a key that was not announced to the other end came through")
	}
	o, err := r.Outcome(id, 4*time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	if r.judge(t, o, k, 0); o.Result != schemas.ResultFailed {
		t.Errorf("with a wrong key the move %s: %s", o.Result, o.Reason)
	}
	if err := r.Gateway(r.Sites.Private); err != nil { // now it learns the key
		t.Fatal(err)
	}
	if !r.Joined(30 * time.Second) {
		t.Fatal("the announced key is not accepted")
	}
	for late := time.Now().Add(30 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		left, err := r.Lab.Hosts[2].QEMUs()
		if err == nil && len(left) == 0 {
			break
		}
		if time.Now().After(late) {
			t.Fatalf("the failed move left processes %v at its destination; %v", left, err)
		}
	}
	if o := r.move(ctx, t, g, k, 0, 2); o.Result != schemas.ResultSucceeded {
		t.Errorf("with the right key: %s %s", o.Result, o.Reason)
	}
	if rep := r.Lab.Beats.Report("vm1"); rep.Bad > 0 {
		t.Errorf("the guest found %d bad pages", rep.Bad)
	}
	for what, n := range r.Sites.Wire.Other() {
		// The public gateway says that nobody listens, while its end is being made anew.
		if !strings.HasPrefix(what, "IPv4 protocol 1 from ") {
			t.Errorf("on the WAN link: %d of %s", n, what)
		}
	}
	r.clean(ctx, t)
}

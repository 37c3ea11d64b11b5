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
	defer k.Close()
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

// TestLabThreeMoves: three moves over one link at once all end, and none is aborted.
func TestLabThreeMoves(t *testing.T) {
	ctx, r := start(t, nil)
	r.up(t)
	var guests []*lab.Guest
	for i, name := range []string{"vm1", "vm2", "vm3"} {
		g, err := r.Guest(ctx, i%2, lab.GuestSpec{Name: name})
		if err != nil {
			t.Fatal(err)
		}
		guests = append(guests, g)
	}
	begun := time.Now()
	var ids []schemas.CommandID
	for i, g := range guests {
		id, err := r.Order(ctx, g, i%2, 2, 3*time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	var total time.Duration
	for i, id := range ids {
		o, err := r.Outcome(id, 4*time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		took := o.Time.Std().Sub(begun)
		total += took
		t.Logf("%s: %s %s after %.1f s, of it %.1f s sending", guests[i].Name, o.Result, o.Reason, took.Seconds(), float64(o.Duration))
		if o.Result != schemas.ResultSucceeded {
			t.Errorf("%s: %s", guests[i].Name, o.Reason)
		}
	}
	t.Logf("total completion time %.1f s", total.Seconds())
	t.Log(r.story())
}

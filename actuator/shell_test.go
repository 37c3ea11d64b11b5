package actuator

import (
	"testing"
	"time"

	"github.com/nats-io/nkeys"

	"github.com/foreshift/foreshift/actuator/libvirt"
	"github.com/foreshift/foreshift/actuator/migration"
	"github.com/foreshift/foreshift/internal/sim"
	"github.com/foreshift/foreshift/internal/sim/rpc"
	"github.com/foreshift/foreshift/schemas"
)

// TestMove: a command becomes a move with progress, one outcome, and the VM runs at
// the destination only. Then back again, which needs fences of both hosts to agree.
func TestMove(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.host(0)
	r.host(1)
	vm := r.on(0)
	r.beat()
	began := time.Now()
	c := r.command(vm, 0, 1)
	epoch := r.send(c)
	o := r.want(c.ID, schemas.ResultSucceeded, 15*time.Second)
	t.Logf("moved in %s, of it %.0f ms by the outcome; %+v", time.Since(began), float64(o.Duration)*1e3, o)
	r.at(vm, 1)
	if o.Epoch != epoch || o.RunsAt != c.Destination || o.LifeSign == "" || o.SourceSeen != "absent" || o.DestSeen != "running" || o.Volume <= 0 {
		t.Errorf("outcome %+v", o)
	}
	c = r.command(vm, 1, 0)
	r.send(c)
	r.want(c.ID, schemas.ResultSucceeded, 15*time.Second)
	r.at(vm, 0)

	r.mu.Lock()
	defer r.mu.Unlock()
	phases := map[schemas.Phase]bool{}
	for _, p := range r.progress {
		phases[p.Phase] = true
	}
	for _, p := range []schemas.Phase{schemas.PhaseAccepted, schemas.PhasePrepare, schemas.PhasePreCopy, schemas.PhaseHandOver, schemas.PhaseResume, schemas.PhaseConfirm, schemas.PhaseDone} {
		if !phases[p] {
			t.Errorf("no progress of phase %s", p)
		}
	}
}

// TestRefused: what must not start does not, and the record says why.
func TestRefused(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.host(0, func(c *Config) { c.catchUp = time.Millisecond })
	r.host(1)
	vm := r.on(0)
	refused := func(c *schemas.Command, code schemas.ReasonCode) {
		t.Helper()
		o := r.want(c.ID, schemas.ResultRefused, 10*time.Second)
		if o.Reason.Code != code {
			t.Fatalf("refused for %s, want %s", o.Reason, code)
		}
		r.at(vm, 0)
	}
	c := r.command(vm, 0, 1)
	r.send(c)
	refused(c, schemas.ReasonHeartbeat)

	r.beat()
	// The heartbeat travels by another stream than commands: wait until it counts.
	c = r.command(vm, 0, 1)
	c.Run = "replay-1"
	r.send(c)
	refused(c, schemas.ReasonReplay)

	c = r.command(vm, 0, 1)
	c.Issued, c.Expires = c.Issued.Add(-2*time.Minute), c.Expires.Add(-2*time.Minute)
	r.send(c)
	refused(c, schemas.ReasonExpired)

	stranger, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	c = r.command(vm, 0, 1)
	r.raw(c, stranger)
	refused(c, schemas.ReasonUnknownSigner)
	c = r.command(vm, 0, 1)
	r.raw(c, nil)
	refused(c, schemas.ReasonBadSignature)
	c = r.command(vm, 0, 1)
	r.raw(c, r.operator.Signer)
	refused(c, schemas.ReasonUnknownSigner)

	c = r.command(vm, 0, 1)
	c.AfterSeq = 1 // decided before what has happened since
	r.send(c)
	refused(c, schemas.ReasonEpoch)

	elsewhere := r.on(2)
	for deadline := time.Now().Add(20 * time.Second); ; {
		c = r.command(elsewhere, 0, 1)
		r.send(c)
		o := r.want(c.ID, schemas.ResultRefused, 10*time.Second)
		if o.Reason.Code == schemas.ReasonNotHere {
			break
		}
		// Before the heartbeat is read, that is the objection.
		if o.Reason.Code != schemas.ReasonHeartbeat || time.Now().After(deadline) {
			t.Fatalf("refused for %s", o.Reason)
		}
	}

	r.act(r.operator, &schemas.Act{Act: schemas.ActPause, By: "op"})
	for {
		c = r.command(vm, 0, 3)
		c.Expires = c.Issued.Add(time.Second)
		r.send(c)
		o := r.want(c.ID, schemas.ResultRefused, 10*time.Second)
		if o.Reason.Code == schemas.ReasonPaused {
			break
		}
		// Host 3 has no actuator: before the pause is read, that is the objection.
		if o.Reason.Code != schemas.ReasonUnreachable {
			t.Fatalf("refused for %s", o.Reason)
		}
	}
	r.act(r.operator, &schemas.Act{Act: schemas.ActResume, By: "op"})
	for {
		c = r.command(vm, 0, 3)
		r.send(c)
		o := r.want(c.ID, schemas.ResultRefused, 10*time.Second)
		if o.Reason.Code == schemas.ReasonUnreachable {
			break
		}
		if o.Reason.Code != schemas.ReasonPaused {
			t.Fatalf("refused for %s", o.Reason)
		}
	}
	// The same id a second time, with all else in order.
	good := r.command(vm, 0, 1)
	r.send(good)
	r.want(good.ID, schemas.ResultSucceeded, 15*time.Second)
	again := *r.command(vm, 0, 1)
	again.ID = good.ID
	r.raw(&again, r.placer.Signer)
	o := r.want(good.ID, schemas.ResultRefused, 10*time.Second)
	if o.Reason.Code != schemas.ReasonSeen {
		t.Fatalf("refused for %s", o.Reason)
	}
	r.at(vm, 1)
}

// TestDestinationRestarts ends the destination's actuator at points of a move and
// starts another.
func TestDestinationRestarts(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for _, x := range []struct {
		after migration.Verb
		want  schemas.Result
	}{
		{migration.Prepare, schemas.ResultFailed}, // the incoming guest goes with its connection
		{migration.Finish, schemas.ResultSucceeded},
		{migration.Resume, schemas.ResultSucceeded},
	} {
		t.Run(x.after.String(), func(t *testing.T) {
			defer func(old *testing.T) { r.t = old }(r.t)
			r.t = t
			kill := r.host(1)
			stop := r.host(0, func(c *Config) {
				c.crash = func(v migration.Verb) bool {
					if v == x.after && kill != nil {
						kill()
						kill = nil
						r.host(1)
					}
					return false
				}
			})
			vm := r.on(0)
			r.beat()
			c := r.command(vm, 0, 1)
			r.send(c)
			o := r.want(c.ID, x.want, 20*time.Second)
			t.Logf("%s: %s", o.Result, o.Reason)
			stop()
			r.stops[r.fleet.Hosts()[1].ID]()
			if x.want == schemas.ResultSucceeded {
				r.at(vm, 1)
			} else {
				r.at(vm, 0)
			}
		})
	}
}

// TestLostReplies: libvirt loses its reply to one call of a phase, or its daemon
// dies right after it.
func TestLostReplies(t *testing.T) {
	t.Parallel()
	short := func(c *Config) {
		c.calls = &libvirt.Limits{Quick: 700 * time.Millisecond, Phase: 700 * time.Millisecond}
	}
	r := newRig(t)
	r.host(0, short)
	r.host(1, short)
	for _, x := range []struct {
		name string
		on   int
		call rpc.Proc
		kind sim.FaultKind
	}{
		{"begin", 0, rpc.DomainMigrateBegin3Params, sim.DropReply},
		{"prepare", 1, rpc.DomainMigratePrepare3Params, sim.DropReply},
		{"finish", 1, rpc.DomainMigrateFinish3Params, sim.DropReply},
		{"resume", 1, rpc.DomainResume, sim.DropReply},
		{"confirm", 0, rpc.DomainMigrateConfirm3Params, sim.DropReply},
		{"source-daemon-dies-at-perform", 0, rpc.DomainMigratePerform3Params, sim.KillDaemon},
		{"destination-daemon-dies-at-finish", 1, rpc.DomainMigrateFinish3Params, sim.KillDaemon},
	} {
		t.Run(x.name, func(t *testing.T) {
			defer func(old *testing.T) { r.t = old }(r.t)
			r.t = t
			vm := r.on(0)
			r.beat()
			fault := sim.Fault{Kind: x.kind, Host: r.fleet.Hosts()[x.on].ID, Proc: x.call, For: 300 * time.Millisecond}
			if err := r.fleet.Inject(fault); err != nil {
				t.Fatal(err)
			}
			c := r.command(vm, 0, 1)
			r.send(c)
			o := r.end(c.ID, 25*time.Second)
			for range 3 { // the calls' limits are short, and a busy machine slow
				if o.Result != schemas.ResultRefused || o.Reason.Code != schemas.ReasonLibvirt {
					break
				}
				c = r.command(vm, 0, 1)
				r.send(c)
				o = r.end(c.ID, 25*time.Second)
			}
			t.Logf("%s: %s", o.Result, o.Reason)
			switch o.Result {
			case schemas.ResultSucceeded:
				r.at(vm, 1)
			case schemas.ResultFailed:
				r.at(vm, 0)
			default:
				t.Fatalf("%s %s", o.Result, o.Reason)
			}
		})
	}
}

// TestSourceCrashes kills the source's actuator right after each act of a move. The
// next one ends it, from the journal and what both hosts say.
func TestSourceCrashes(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.host(1)
	for _, x := range []struct {
		after migration.Verb
		want  schemas.Result
	}{
		{migration.Begin, schemas.ResultFailed},
		{migration.Prepare, schemas.ResultFailed},
		// With the source's connection goes the destination's unfinished guest.
		{migration.HandOver, schemas.ResultFailed},
		{migration.Finish, schemas.ResultSucceeded},
		{migration.Resume, schemas.ResultSucceeded},
		{migration.Confirm, schemas.ResultSucceeded},
	} {
		t.Run(x.after.String(), func(t *testing.T) {
			defer func(old *testing.T) { r.t = old }(r.t)
			r.t = t
			vm := r.on(0)
			crashed := make(chan struct{})
			stop := r.host(0, func(c *Config) {
				c.crash = func(v migration.Verb) bool {
					if v == x.after {
						close(crashed)
						return true
					}
					return false
				}
			})
			r.beat()
			c := r.command(vm, 0, 1)
			r.send(c)
			select {
			case <-crashed:
			case <-time.After(15 * time.Second):
				t.Fatal("never came to it")
			}
			stop()
			stop = r.host(0)
			o := r.want(c.ID, x.want, 15*time.Second)
			t.Logf("%s: %s", o.Result, o.Reason)
			stop()
			if x.want == schemas.ResultSucceeded {
				r.at(vm, 1)
			} else {
				r.at(vm, 0)
			}
		})
	}
}

// TestOperator: an abort before switchover leaves the VM where it was; a word on a
// move whose end nobody knows ends it, unless what is seen speaks against it.
func TestOperator(t *testing.T) {
	t.Parallel()
	r := newRigAt(t, 700e6)
	limits := migration.DefaultLimits()
	limits.Answer, limits.Hold, limits.Retry = 300*time.Millisecond, 100*time.Millisecond, 50*time.Millisecond
	r.host(0, func(c *Config) { c.Limits = &limits })
	kill := r.host(1)
	vm := r.on(0)
	r.beat()

	c := r.command(vm, 0, 1)
	r.send(c)
	r.phase(c.ID, schemas.PhasePreCopy)
	r.act(r.operator, &schemas.Act{Act: schemas.ActAbort, By: "op", VM: vm.ID, Why: "test"})
	if o := r.end(c.ID, 15*time.Second); o.Result == schemas.ResultFailed {
		if o.Reason.Code != schemas.ReasonAborted {
			t.Fatalf("%s: %s", o.Result, o.Reason)
		}
		r.at(vm, 0)
	} else {
		t.Fatalf("%s: %s", o.Result, o.Reason)
	}

	// The destination's actuator goes for good in the transfer.
	c = r.command(vm, 0, 1)
	r.send(c)
	r.phase(c.ID, schemas.PhasePreCopy)
	kill()
	o := r.want(c.ID, schemas.ResultUnknown, 15*time.Second)
	if o.Reason.Code != schemas.ReasonUnreachable {
		t.Fatalf("unknown for %s", o.Reason)
	}
	r.act(r.operator, &schemas.Act{Act: schemas.ActResolve, By: "op", VM: vm.ID, RunsAt: r.fleet.Hosts()[1].ID, Why: "wrong"})
	time.Sleep(100 * time.Millisecond)
	r.act(r.operator, &schemas.Act{Act: schemas.ActResolve, By: "op", VM: vm.ID, RunsAt: r.fleet.Hosts()[0].ID, Why: "seen with virsh"})
	o = r.end(c.ID, 15*time.Second)
	if o.Result != schemas.ResultFailed || o.RunsAt != r.fleet.Hosts()[0].ID {
		t.Fatalf("%s %s runs at %q", o.Result, o.Reason, o.RunsAt)
	}
	r.at(vm, 0)
}

// TestStop: a move under way when the actuator is stopped is aborted and rolled
// back; nothing is left for the next start.
func TestStop(t *testing.T) {
	t.Parallel()
	r := newRigAt(t, 700e6)
	stop := r.host(0)
	r.host(1)
	vm := r.on(0)
	r.beat()
	c := r.command(vm, 0, 1)
	r.send(c)
	r.phase(c.ID, schemas.PhasePreCopy)
	stop()
	o := r.end(c.ID, 5*time.Second)
	if o.Result != schemas.ResultFailed {
		t.Fatalf("%s: %s", o.Result, o.Reason)
	}
	r.at(vm, 0)
}

// TestDeadGuest: every call succeeds and the guest does not live: the move does not.
func TestDeadGuest(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	limits := migration.DefaultLimits()
	limits.Answer, limits.Life = 300*time.Millisecond, 700*time.Millisecond
	r.host(0, func(c *Config) { c.Limits = &limits })
	r.host(1)
	vm := r.on(0)
	r.beat()
	r.dead = vm.ID
	if err := r.fleet.Inject(sim.Fault{Kind: sim.DeadOnArrival, VM: vm.ID}); err != nil {
		t.Fatal(err)
	}
	c := r.command(vm, 0, 1)
	r.send(c)
	o := r.want(c.ID, schemas.ResultUnknown, 15*time.Second)
	if o.Reason.Code != schemas.ReasonNoLifeSign || o.SourceSeen != "paused" || o.LifeSign != "" {
		t.Fatalf("unknown for %s, source %s", o.Reason, o.SourceSeen)
	}
}

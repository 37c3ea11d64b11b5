package actuator

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/foreshift/foreshift/actuator/migration"
	"github.com/foreshift/foreshift/internal/sim"
	"github.com/foreshift/foreshift/schemas"
	"github.com/foreshift/foreshift/streams"
)

// mute is a bus that takes no outcome.
type mute struct{ bus }

func (m mute) Publish(ctx context.Context, o streams.Out) (uint64, error) {
	if _, ok := o.Msg.(*schemas.Outcome); ok {
		return 0, errors.New("no leader")
	}
	return m.bus.Publish(ctx, o)
}

// crashed starts a host whose actuator dies after an act, and gives a function that waits
// for it and one that ends what is left.
func (r *rig) crashed(host int, after migration.Verb, change ...func(*Config)) (wait, stop func()) {
	r.t.Helper()
	dead := make(chan struct{})
	stop = r.host(host, append(change, func(c *Config) {
		c.crash = func(v migration.Verb) bool {
			if v == after {
				close(dead)
			}
			return v == after
		}
	})...)
	return func() {
		r.t.Helper()
		select {
		case <-dead:
		case <-time.After(15 * time.Second):
			r.t.Fatalf("never came to %s", after)
		}
		stop()
	}, stop
}

// TestOutcomeIsToldAfterARestart: an outcome that was proven and not told is told by
// whoever starts again, though the VM has moved on since. Its old file is left for a
// person, for nobody sees any more that the VM runs where it went.
func TestOutcomeIsToldAfterARestart(t *testing.T) {
	t.Parallel()
	r := newLocalRig(t)
	wait, _ := r.crashed(0, migration.Report, func(c *Config) { c.bus = mute{c.Bus} })
	r.host(1)
	r.host(2)
	vm := r.on(0)
	r.beat()
	c := r.command(vm, 0, 1)
	r.send(c)
	wait()
	on := r.command(vm, 1, 2)
	r.send(on)
	r.want(on.ID, schemas.ResultSucceeded, 20*time.Second)
	r.host(0)
	if o := r.end(c.ID, 15*time.Second); o.Result != schemas.ResultSucceeded || o.RunsAt != c.Destination || o.DestSeen != migration.Running.String() {
		t.Fatalf("%+v", o)
	}
	r.at(vm, 2)
	if _, there := r.fleet.Volumes(r.fleet.Hosts()[0].ID)[fileOf(vm)]; !there {
		t.Error("the file is deleted, and nobody saw where the VM runs")
	}
}

// TestWholeCopyThatHasGone: a destination whose finished copy is gone, and whose source
// was told by a person that the VM runs there, closes its record after the deadline. The
// file that was made for it stays: the copy may have run.
func TestWholeCopyThatHasGone(t *testing.T) {
	t.Parallel()
	limits := migration.DefaultLimits()
	limits.Orphan, limits.DiskGiB, limits.Answer, limits.Hold = time.Millisecond, time.Millisecond, 300*time.Millisecond, 50*time.Millisecond
	short := func(c *Config) { c.Limits = &limits }
	r := newLocalRig(t)
	vm := r.on(0)
	r.dead = vm.ID
	wait, _ := r.crashed(0, migration.Finish, short)
	away := r.host(1, short)
	r.beat()
	c := r.command(vm, 0, 1)
	c.Deadline = c.Issued.Add(8 * time.Second)
	c.Expires = c.Deadline
	r.send(c)
	wait()
	away()
	if err := r.fleet.Inject(sim.Fault{Kind: sim.KillQEMU, Host: c.Destination, VM: vm.ID}); err != nil {
		t.Fatal(err)
	}
	if err := r.virsh(vm, 1, "undefine"); err != nil {
		t.Logf("nothing is left to undefine: %v", err)
	}
	stop := r.host(0, short)
	r.want(c.ID, schemas.ResultUnknown, 15*time.Second)
	r.follow(vm, recipes(t)["`unreachable`"][1], short)
	if o := r.end(c.ID, 15*time.Second); o.Result != schemas.ResultFailed {
		t.Fatalf("%s: %s", o.Result, o.Reason)
	}
	stop()
	r.stops[c.Source]()
	reg := prometheus.NewRegistry()
	stop = r.host(1, short, func(c *Config) { c.Registry = reg })
	for end := time.Now().Add(40 * time.Second); left(t, reg) == 0 && time.Now().Before(end); {
		time.Sleep(100 * time.Millisecond)
	}
	if n := left(t, reg); n != 1 {
		t.Errorf("a person is told of %v files", n)
	}
	stop()
	j, err := openJournal(r.state + "/actuator/" + string(c.Destination))
	if err != nil {
		t.Fatal(err)
	}
	if rec, made := j.record(vm.ID), j.made(vm.ID); rec.Open() || len(made.Paths) > 0 {
		t.Errorf("open still: %+v, files %v", rec, made)
	}
	if err := j.close(); err != nil {
		t.Fatal(err)
	}
	if _, there := r.fleet.Volumes(c.Destination)[fileOf(vm)]; !there {
		t.Error("the file is deleted")
	}
	r.follow(vm, recipes(t)["A disk file was left behind"][1])
	r.disks(vm, 0)
}

// left is how many files a person has been told of.
func left(t *testing.T, reg *prometheus.Registry) float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "foreshift_actuator_left_files_total" {
			return f.GetMetric()[0].GetCounter().GetValue()
		}
	}
	return 0
}

// TestLifeIsNotOfAClockThatJumps: a guest that says "running" and does nothing shows life
// when it has done so for a while, and not because the host's clock was set.
func TestLifeIsNotOfAClockThatJumps(t *testing.T) {
	now, at := int64(1e18), int64(1e9)
	r := newReceiver(nil, nil, migration.DefaultRules(), migration.DefaultLimits(), func() int64 { return now })
	r.steady = func() int64 { return at }
	seen := migration.Seen{Copy: migration.Running, CPU: 7}
	var vm schemas.VMID
	if l := r.life(vm, seen); l != migration.NoLife {
		t.Fatalf("at once: %s", l)
	}
	now, at = now+int64(11*time.Minute), at+int64(time.Second)
	if l := r.life(vm, seen); l != migration.NoLife {
		t.Errorf("after a second in which the clock was set 11 minutes ahead: %s", l)
	}
	at += int64(steady)
	if l := r.life(vm, seen); l != migration.LifeSteady {
		t.Errorf("after a while: %q", l)
	}
}

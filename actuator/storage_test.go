package actuator

import (
	"strings"
	"testing"
	"time"

	"github.com/foreshift/foreshift/actuator/migration"
	"github.com/foreshift/foreshift/internal/sim"
	"github.com/foreshift/foreshift/internal/sim/rpc"
	"github.com/foreshift/foreshift/schemas"
)

func newLocalRig(t *testing.T, change ...func(*sim.Config)) *rig {
	t.Helper()
	c := sim.Config{Seed: 3, Hosts: 4, VMs: 16, Base: time.Second, NICBandwidth: 40e9, LinkBandwidth: 40e9, LocalDisks: true}
	for _, f := range change {
		f(&c)
	}
	return newRigOf(t, c)
}

// fileOf is the file of a VM's disk, on whatever host.
func fileOf(vm sim.VM) string { return sim.LocalPath + "/" + strings.ToLower(vm.Name) + ".qcow2" }

// disks wants the VM's file on one host and on no other, soon after the outcome.
func (r *rig) disks(vm sim.VM, host int) {
	r.t.Helper()
	var at []int
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		at = at[:0]
		for i, h := range r.fleet.Hosts() {
			if _, there := r.fleet.Volumes(h.ID)[fileOf(vm)]; there {
				at = append(at, i)
			}
		}
		if len(at) == 1 && at[0] == host {
			return
		}
	}
	r.t.Fatalf("the file of %s is on hosts %v, want %d alone", vm.Name, at, host)
}

// TestLocalDisk: a disk on its host alone goes along, there and back; where the VM no
// longer is, no file stays.
func TestLocalDisk(t *testing.T) {
	t.Parallel()
	r := newLocalRig(t)
	r.host(0)
	r.host(1)
	vm := r.on(0)
	for _, way := range [][2]int{{0, 1}, {1, 0}} {
		r.beat()
		c := r.command(vm, way[0], way[1])
		r.send(c)
		o := r.want(c.ID, schemas.ResultSucceeded, 20*time.Second)
		r.at(vm, way[1])
		r.disks(vm, way[1])
		if o.RunsAt != c.Destination {
			t.Errorf("outcome %+v", o)
		}
	}
	r.phase("c2", schemas.PhaseDisk)
}

// TestLocalDiskRefused: where there is no room, or a file already, nothing begins, and
// what is there stays.
func TestLocalDiskRefused(t *testing.T) {
	t.Parallel()
	t.Run("no room", func(t *testing.T) {
		t.Parallel()
		r := newLocalRig(t, func(c *sim.Config) { c.LocalSpace = 1 << 30 })
		r.host(0)
		r.host(1)
		vm := r.on(0)
		r.beat()
		c := r.command(vm, 0, 1)
		r.send(c)
		if o := r.end(c.ID, 20*time.Second); o.Result != schemas.ResultFailed || o.Reason.Code != schemas.ReasonStorage || !strings.Contains(o.Reason.Detail, "GiB free") {
			t.Fatalf("%s: %s", o.Result, o.Reason)
		}
		r.at(vm, 0)
		r.disks(vm, 0)
	})
	t.Run("a file is there", func(t *testing.T) {
		t.Parallel()
		r, vm := leftFile(t)
		r.at(vm, 1)
		if _, there := r.fleet.Volumes(r.fleet.Hosts()[0].ID)[fileOf(vm)]; !there {
			t.Fatal("a file that was not ours is gone")
		}
	})
}

// TestLocalDiskCrash: an actuator that dies at any step leaves no file where the VM
// does not run.
func TestLocalDiskCrash(t *testing.T) {
	t.Parallel()
	for _, after := range []migration.Verb{migration.Begin, migration.Prepare, migration.Perform, migration.HandOver, migration.Finish, migration.Resume, migration.Confirm} {
		t.Run(after.String(), func(t *testing.T) {
			t.Parallel()
			r := newLocalRig(t)
			r.host(1)
			crashed := make(chan struct{})
			stop := r.host(0, func(c *Config) {
				c.crash = func(v migration.Verb) bool {
					if v == after {
						close(crashed)
					}
					return v == after
				}
			})
			vm := r.on(0)
			r.beat()
			c := r.command(vm, 0, 1)
			r.send(c)
			select {
			case <-crashed:
			case <-time.After(15 * time.Second):
				t.Fatal("never came to it")
			}
			stop()
			r.host(0)
			o := r.end(c.ID, 20*time.Second)
			at := 0
			if o.Result == schemas.ResultSucceeded {
				at = 1
			}
			r.at(vm, at)
			r.disks(vm, at)
		})
	}
}

// TestDiskTime: disks have a time of their own, and memory gets no more for it.
func TestDiskTime(t *testing.T) {
	l := migration.DefaultLimits()
	s := migration.Start(9, int64(time.Minute), 0, l)
	s.Stage, s.Wait = migration.Accepted, migration.Begin
	o := migration.Observation{Source: migration.Running, Destination: migration.Absent, Fence: 9, Disks: 1 << 30, Did: migration.Did{Verb: migration.Begin}}
	s, _, _ = migration.Next(s, o, int64(time.Second))
	if want := int64(time.Minute + l.DiskTime(1<<30)); s.Deadline != want {
		t.Fatalf("deadline %s", time.Duration(s.Deadline))
	}
	s.Stage, s.Wait = migration.Performing, migration.Perform
	o.Did = migration.Did{}
	o.Job = migration.JobStats{Active: true, Disk: true, Total: 1 << 30, Remaining: 1 << 29}
	late := time.Second + l.DiskTime(1<<30)
	again, acts, _ := migration.Next(s, o, int64(late-time.Second))
	if len(acts) != 0 {
		t.Fatalf("%v before the time of the disks is over", acts)
	}
	if _, acts, why := migration.Next(s, o, int64(late+time.Second)); len(acts) != 1 || acts[0].Verb != migration.Abort {
		t.Fatalf("%v %s after it", acts, why)
	}
	o.Job = migration.JobStats{Active: true, Total: 1 << 30, Remaining: 1 << 29}
	again, _, _ = migration.Next(again, o, int64(20*time.Second))
	if want := int64(20*time.Second + 59*time.Second); again.Deadline != want {
		t.Fatalf("memory may take until %s", time.Duration(again.Deadline))
	}
}

// leftFile is a VM on host 1 whose file was left on host 0 by its first move, so that the
// move back was refused.
func leftFile(t *testing.T) (*rig, sim.VM) {
	t.Helper()
	r := newLocalRig(t)
	r.host(0)
	r.host(1)
	vm := r.on(0)
	r.beat()
	if err := r.fleet.Inject(sim.Fault{Kind: sim.FailCall, Host: r.fleet.Hosts()[0].ID, Proc: rpc.StorageVolDelete, Code: rpc.CodeOperationFailed, Message: "not now"}); err != nil {
		t.Fatal(err)
	}
	c := r.command(vm, 0, 1)
	r.send(c)
	r.want(c.ID, schemas.ResultSucceeded, 20*time.Second)
	c = r.command(vm, 1, 0)
	r.send(c)
	if o := r.end(c.ID, 20*time.Second); o.Result != schemas.ResultFailed || o.Reason.Code != schemas.ReasonStorage || !strings.Contains(o.Reason.Detail, "already") {
		t.Fatalf("%s: %s", o.Result, o.Reason)
	}
	return r, vm
}

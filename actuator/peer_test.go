package actuator

import (
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/foreshift/foreshift/actuator/libvirt"
	"github.com/foreshift/foreshift/actuator/migration"
	"github.com/foreshift/foreshift/internal/sim"
	"github.com/foreshift/foreshift/internal/sim/rpc"
	"github.com/foreshift/foreshift/schemas"
)

// daemonFor is a process that a pid file calls virtlockd.
func daemonFor(t *testing.T, pidFile string) (kill func()) {
	t.Helper()
	sleep, err := exec.LookPath("sleep")
	if err != nil {
		t.Skip("no sleep to stand for a daemon")
	}
	b, err := os.ReadFile(sleep)
	if err != nil {
		t.Fatal(err)
	}
	exe := filepath.Join(t.TempDir(), "virtlockd")
	if err := os.WriteFile(exe, b, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, "300")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(pidFile, fmt.Appendf(nil, "%d\n", cmd.Process.Pid), 0o600); err != nil {
		t.Fatal(err)
	}
	dead := false
	kill = func() {
		if !dead {
			dead = true
			_ = cmd.Process.Kill()
			_ = cmd.Wait() // killed
		}
	}
	t.Cleanup(kill)
	return kill
}

// young is a VM that started after every daemon.
func young(schemas.VMID) (uint64, error) { return math.MaxUint64, nil }

// peerRig is a fleet whose first two hosts move peer to peer.
type peerRig struct {
	*rig
	pid    string
	kill   func()
	leases string
}

func newPeerRig(t *testing.T, lock bool, change ...func(i int, c *Config)) *peerRig {
	t.Helper()
	r := &peerRig{rig: newRigOf(t, sim.Config{Seed: 3, Hosts: 4, VMs: 16, Base: time.Second, NICBandwidth: 40e9, LinkBandwidth: 40e9,
		PeerTimeout: 150 * time.Millisecond, DiskLock: lock}), leases: t.TempDir()}
	r.pid = filepath.Join(t.TempDir(), "virtlockd.pid")
	r.kill = daemonFor(t, r.pid)
	limits := migration.DefaultLimits()
	limits.Answer, limits.Life, limits.Hold, limits.Retry = 2*time.Second, 2*time.Second, 50*time.Millisecond, 50*time.Millisecond
	for i := range 2 {
		r.host(i, func(c *Config) {
			c.Peer = &PeerConfig{URI: c.URI, Leases: r.leases, Daemon: r.pid, Site: "private", born: young}
			c.Limits, c.calls = &limits, &libvirt.Limits{Quick: 2 * time.Second, Phase: 2 * time.Second}
			for _, f := range change {
				f(i, c)
			}
		})
	}
	return r
}

func (r *peerRig) move(vm sim.VM) schemas.Outcome {
	r.t.Helper()
	r.beat()
	c := r.command(vm, 0, 1)
	r.send(c)
	return r.end(c.ID, 20*time.Second)
}

// TestPeerMove: libvirt leads where the trial of the lock succeeds, and nothing of the
// trial stays.
func TestPeerMove(t *testing.T) {
	t.Parallel()
	r := newPeerRig(t, true)
	vm := r.on(0)
	if o := r.move(vm); o.Result != schemas.ResultSucceeded {
		t.Fatalf("%s: %s", o.Result, o.Reason)
	}
	r.at(vm, 1)
	var left []os.DirEntry
	for end := time.Now().Add(3 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		var err error
		if left, err = os.ReadDir(r.leases); err != nil {
			t.Fatal(err)
		}
		if len(left) == 0 {
			return
		}
	}
	t.Fatalf("left behind: %v", left)
}

// TestPeerRefused: without a lock that works and is watched nothing is led by libvirt,
// and the refusal says how to mend it.
func TestPeerRefused(t *testing.T) {
	t.Parallel()
	for _, x := range []struct {
		name   string
		lock   bool
		spoil  func(*peerRig)
		change func(int, *Config)
		want   string
	}{
		{"disks are not locked", false, nil, nil, "lock_manager"},
		{"no lock daemon", true, func(r *peerRig) { r.kill() }, nil, "systemctl enable"},
		{"the VM is older than the lock daemon", true, nil, func(i int, c *Config) {
			c.Peer.born = func(schemas.VMID) (uint64, error) { return 0, nil }
		}, "shut the VM down"},
		{"no process of the VM is seen", true, nil, func(i int, c *Config) { c.Peer.born = nil }, "cannot be told"},
		{"the destination does not take part", true, nil, func(i int, c *Config) {
			if i == 1 {
				c.Peer = nil
			}
		}, "--handover p2p"},
	} {
		t.Run(x.name, func(t *testing.T) {
			t.Parallel()
			change := x.change
			if change == nil {
				change = func(int, *Config) {}
			}
			r := newPeerRig(t, x.lock, change)
			if x.spoil != nil {
				x.spoil(r)
			}
			vm := r.on(0)
			o := r.move(vm)
			if o.Result == schemas.ResultSucceeded || o.Reason.Code != schemas.ReasonLock || !strings.Contains(o.Reason.Detail, x.want) {
				t.Fatalf("%s: %s", o.Result, o.Reason)
			}
			r.at(vm, 0)
		})
	}
}

// TestPeerFinishLost: the fault that makes two running copies of a peer-to-peer
// migration. With the lock the source stays paused, and goes by the journal.
func TestPeerFinishLost(t *testing.T) {
	t.Parallel()
	r := newPeerRig(t, true)
	if err := r.fleet.Inject(sim.Fault{Kind: sim.DropReply, Host: r.fleet.Hosts()[1].ID, Proc: rpc.DomainMigrateFinish3Params}); err != nil {
		t.Fatal(err)
	}
	vm := r.on(0)
	if o := r.move(vm); o.Result != schemas.ResultSucceeded {
		t.Fatalf("%s: %s", o.Result, o.Reason)
	}
	r.at(vm, 1)
}

// TestPeerDefinitionLeft: while the source waits for a reply of Finish that is lost, the
// destination runs, its QEMU dies, and its definition is left. That is no failure like
// others: a person is told, and nothing is touched until the runbook has been followed.
func TestPeerDefinitionLeft(t *testing.T) {
	t.Parallel()
	book := recipes(t)["A peer-to-peer move has left a shut-off copy"]
	if len(book) != 1 {
		t.Fatalf("the runbook has %d recipes for it", len(book))
	}
	r := newPeerRig(t, true)
	there := r.fleet.Hosts()[1].ID
	if err := r.fleet.Inject(sim.Fault{Kind: sim.DropReply, Host: there, Proc: rpc.DomainMigrateFinish3Params}); err != nil {
		t.Fatal(err)
	}
	vm := r.on(0)
	r.dead = vm.ID // it ran at the destination: the simulator counts what it did there as lost
	r.beat()
	c := r.command(vm, 0, 1)
	r.send(c)
	for end := time.Now().Add(20 * time.Second); !slices.Contains(r.fleet.Running(vm.ID), there); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it never ran at the destination")
		}
	}
	if err := r.fleet.Inject(sim.Fault{Kind: sim.KillQEMU, Host: there, VM: vm.ID}); err != nil {
		t.Fatal(err)
	}
	o := r.want(c.ID, schemas.ResultUnknown, 20*time.Second)
	if o.Reason.Code != schemas.ReasonUnsafe || o.SourceSeen != "running" || o.DestSeen != "shut-off" {
		t.Fatalf("%s: source %s, destination %s", o.Reason, o.SourceSeen, o.DestSeen)
	}
	r.follow(vm, book[0])
	if o = r.end(c.ID, 20*time.Second); o.Result != schemas.ResultFailed || o.DestSeen != "absent" {
		t.Fatalf("%s: %s, destination %s", o.Result, o.Reason, o.DestSeen)
	}
	r.at(vm, 0)
}

// TestPeerLockDaemonDies: the loss of the lock daemon withdraws a peer-to-peer move
// while it still can be; just before libvirt would lead, nothing begins.
func TestPeerLockDaemonDies(t *testing.T) {
	t.Parallel()
	for _, at := range []string{"prepare done", "perform"} {
		t.Run(at, func(t *testing.T) {
			t.Parallel()
			kill := make(chan func(), 1)
			var began atomic.Bool
			r := newPeerRig(t, true, func(i int, c *Config) {
				c.Step = func(_ schemas.VMID, label string) {
					switch label {
					case at:
						(<-kill)()
					case "pre-copy", "perform done":
						began.Store(true)
					}
				}
			})
			kill <- r.kill
			vm := r.on(0)
			o := r.move(vm)
			if o.Result != schemas.ResultFailed || o.Reason.Code != schemas.ReasonLock {
				t.Fatalf("%s: %s", o.Result, o.Reason)
			}
			if began.Load() {
				t.Error("libvirt was let lead")
			}
			r.at(vm, 0)
		})
	}
}

// TestPeerAdopted: an actuator that dies while libvirt leads takes the move up again,
// and reports what libvirt made of it.
func TestPeerAdopted(t *testing.T) {
	t.Parallel()
	crashed := make(chan struct{})
	r := newPeerRig(t, true, func(i int, c *Config) {
		c.crash = func(v migration.Verb) bool {
			if v == migration.Perform {
				time.Sleep(50 * time.Millisecond) // the call is under way
				close(crashed)
			}
			return v == migration.Perform
		}
	})
	vm := r.on(0)
	r.beat()
	c := r.command(vm, 0, 1)
	r.send(c)
	<-crashed
	r.stops[c.Source]()
	r.host(0, func(c *Config) { c.Peer = &PeerConfig{URI: c.URI, Leases: r.leases, Daemon: r.pid} })
	if o := r.end(c.ID, 20*time.Second); o.Result != schemas.ResultSucceeded {
		t.Fatalf("%s: %s", o.Result, o.Reason)
	}
	r.at(vm, 1)
}

// TestNeitherHandoverNorLock: where a client may not lead the phases and nobody has
// chosen peer to peer, nothing moves, and the refusal names both ways out.
func TestNeitherHandoverNorLock(t *testing.T) {
	t.Parallel()
	r := newRigOf(t, sim.Config{Seed: 3, Hosts: 4, VMs: 16, Base: time.Second, NICBandwidth: 40e9, LinkBandwidth: 40e9, NoPhases: true})
	r.host(0)
	r.host(1)
	vm := r.on(0)
	r.beat()
	c := r.command(vm, 0, 1)
	r.send(c)
	o := r.end(c.ID, 20*time.Second)
	if o.Result == schemas.ResultSucceeded || o.Reason.Code != schemas.ReasonUnsafe || !strings.Contains(o.Reason.Detail, "--handover p2p") || !strings.Contains(o.Reason.Detail, "newer libvirt") {
		t.Fatalf("%s: %s", o.Result, o.Reason)
	}
	r.at(vm, 0)
}

package world

import (
	"github.com/foreshift/foreshift/internal/sim/load"
	"github.com/foreshift/foreshift/internal/sim/rpc"
)

// States and reasons of a domain, as in libvirt/libvirt-domain.h.
const (
	Running = 1
	Paused  = 3
	Shutoff = 5

	RunningBooted            = 1
	RunningMigrated          = 2
	RunningUnpaused          = 5
	RunningMigrationCanceled = 6

	PausedUser      = 1
	PausedMigration = 2

	ShutoffDestroyed = 2
	ShutoffCrashed   = 3
	ShutoffMigrated  = 4
)

// Events and details, as in libvirt/libvirt-domain.h.
const (
	evDefined   = 0
	evUndefined = 1
	evStarted   = 2
	evSuspended = 3
	evResumed   = 4
	evStopped   = 5

	detailMigrated       = 1 // of started, suspended and resumed
	stoppedDestroyed     = 1
	stoppedCrashed       = 2
	stoppedMigrated      = 3
	stoppedFailed        = 5
	baseMemory           = .3       // share of its memory a guest holds before it runs
	residentExtra        = 48 << 20 // what QEMU itself takes, bytes
	unlimitedSpeed       = 8796093022207
	mib                  = 1 << 20
	defaultMaxDowntimeNs = 300e6
)

// vm is a VM wherever its copies are.
type vm struct {
	VMSpec
	index  int
	copies []*Guest
	truth  counts
	dead   bool // its next arrival is corrupt
}

// Guest is one host's copy of a VM: a libvirt domain.
type Guest struct {
	VM         *VMSpec
	ID         int32 // -1 when not active
	State      int32
	Reason     int32
	Persistent bool
	Alive      bool // the guest in it works; a running copy may be dead

	vm      *vm
	host    *Host
	started int64
	stale   bool // the VM has run elsewhere since this copy stopped

	count, rate counters
	want        load.Demand
	memory      float64 // bytes in use by the guest
	balloonAt   int64   // when a dead guest last reported

	out  *outgoing
	in   *incoming
	last *JobStats // of the job that completed last

	maxSpeed    float64 // bytes/s; 0 = none
	maxDowntime float64 // ns; 0 = libvirt's default
	dirty       dirtyCalc
}

// Active says that a QEMU process exists.
func (g *Guest) Active() bool { return g.ID >= 0 }

// executes says that the guest makes use of a CPU.
func (g *Guest) executes() bool { return g.State == Running && g.Alive }

func (g *Guest) resident() float64 { return min(g.memory*1.04, g.VM.Mem) + residentExtra }

// Migrating says that a migration job holds the domain.
func (g *Guest) Migrating() bool { return g.out != nil || g.in != nil }

func (g *Guest) emit(event, detail int32) {
	g.host.w.cfg.Event(g.host.index, Event{Name: g.VM.Name, UUID: g.VM.ID, ID: g.ID, Event: event, Detail: detail})
}

// set changes state and reason, and keeps the books of what runs where.
func (g *Guest) set(state, reason int32) {
	g.host.change(func() {
		g.State, g.Reason = state, reason
		if state == Running {
			g.vm.noteRun(g)
		}
	})
	g.vm.note()
}

// stop ends the QEMU process. A transient domain disappears.
func (g *Guest) stop(reason, detail int32) {
	w := g.host.w
	g.emit(evStopped, detail)
	g.endOut(rpc.Errorf(rpc.CodeOperationFailed, "operation failed: domain is no longer running"))
	if in := g.in; in != nil {
		w.dropIncoming(g)
	}
	g.host.change(func() {
		g.ID, g.State, g.Reason, g.Alive = -1, Shutoff, reason, false
		g.count, g.dirty = counters{}, dirtyCalc{}
	})
	if !g.Persistent {
		g.remove()
	}
	g.vm.note()
}

// remove forgets the domain.
func (g *Guest) remove() {
	g.host.change(func() {
		g.host.guests = without(g.host.guests, g)
		g.vm.copies = without(g.vm.copies, g)
	})
}

func without(list []*Guest, g *Guest) []*Guest {
	out := make([]*Guest, 0, len(list))
	for _, x := range list {
		if x != g {
			out = append(out, x)
		}
	}
	return out
}

var errNotRunning = rpc.Errorf(rpc.CodeOperationInvalid, "Requested operation is not valid: domain is not running")

// locked is the error of a change while a migration job holds the domain. Real
// libvirt waits 30 s for the job first; the simulator says so at once.
func (g *Guest) locked() *rpc.Error {
	who := "remoteDispatchDomainMigratePerform3Params"
	if g.in != nil {
		who = "remoteDispatchDomainMigratePrepare3Params"
	}
	return rpc.Errorf(rpc.CodeOperationTimeout, "Timed out during operation: cannot acquire state change lock (held by monitor=%s)", who)
}

// Suspend pauses the vCPUs; allowed during an outgoing migration.
func (g *Guest) Suspend() *rpc.Error {
	switch {
	case !g.Active():
		return errNotRunning
	case g.in != nil:
		return g.locked()
	case g.State == Paused:
		return nil
	}
	g.set(Paused, PausedUser)
	g.emit(evSuspended, 0)
	return nil
}

// Resume starts the vCPUs.
func (g *Guest) Resume() *rpc.Error {
	switch {
	case !g.Active():
		return errNotRunning
	case g.Migrating():
		return g.locked()
	case g.State == Running:
		return rpc.Errorf(rpc.CodeOperationInvalid, "Requested operation is not valid: domain is already running")
	case g.vm.lockedOut(g):
		return rpc.Errorf(rpc.CodeResourceBusy, "resource busy: Lockspace resource '%s' is locked", g.VM.Name)
	}
	g.set(Running, RunningUnpaused)
	g.emit(evResumed, 0)
	return nil
}

// Destroy kills the QEMU process; libvirt allows it in every phase.
func (g *Guest) Destroy() *rpc.Error {
	if !g.Active() {
		return errNotRunning
	}
	g.stop(ShutoffDestroyed, stoppedDestroyed)
	return nil
}

// Crash kills the QEMU process from outside.
func (g *Guest) Crash() {
	if g.Active() {
		g.stop(ShutoffCrashed, stoppedCrashed)
	}
}

// Undefine forgets the definition; an active domain goes on as a transient one.
func (g *Guest) Undefine() *rpc.Error {
	if !g.Persistent {
		return rpc.Errorf(rpc.CodeOperationInvalid, "Requested operation is not valid: cannot undefine transient domain")
	}
	g.Persistent = false
	g.emit(evUndefined, 0)
	if !g.Active() {
		g.remove()
		g.vm.note()
	}
	return nil
}

// Kill makes the guest dead inside a QEMU that runs on: no CPU, no traffic, no
// balloon reports.
func (g *Guest) Kill() {
	g.host.change(func() { g.Alive = false; g.balloonAt = g.host.w.now })
	g.vm.note()
}

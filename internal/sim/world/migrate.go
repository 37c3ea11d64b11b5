package world

import (
	"github.com/foreshift/foreshift/internal/sim/rpc"
)

// Flags of a migration, as in libvirt/libvirt-domain.h.
const (
	FlagLive             = 1
	FlagPeer2Peer        = 2
	FlagTunnelled        = 4
	FlagPersistDest      = 8
	FlagUndefineSource   = 16
	FlagPaused           = 32
	FlagNonSharedDisk    = 64
	FlagChangeProtection = 256
	FlagOffline          = 1024
	FlagAbortOnError     = 4096
	FlagAutoConverge     = 8192
	FlagPostCopy         = 32768
)

// phase is where an outgoing migration stands for libvirt.
type phase uint8

const (
	phaseBegin phase = iota
	phasePerform
	phaseDone // performed: the source is paused and waits for Confirm
)

// outgoing is the job of a source.
type outgoing struct {
	phase   phase
	owner   any // connection whose loss ends the phase; nil when its daemon died
	flags   uint32
	was     int32 // state before
	flow    *flow // while memory is sent
	stats   *JobStats
	started int64
	peer    bool
	done    func(*rpc.Error) // answers a pending Perform
}

// incoming is the job of a destination.
type incoming struct {
	flags    uint32
	port     int
	flow     *flow
	peer     *outgoing // the source's job, in a peer-to-peer move
	complete bool      // all memory and device state has arrived
	resume   bool      // the guest ran when it left
	pausedAt int64     // when the source stopped it
	started  int64
	stats    JobStats
}

func (w *World) own(owner any, g *Guest) {
	if owner != nil {
		w.owned[owner] = append(w.owned[owner], g)
	}
}

func (w *World) disown(owner any, g *Guest) {
	if owner == nil {
		return
	}
	if rest := without(w.owned[owner], g); len(rest) > 0 {
		w.owned[owner] = rest
	} else {
		delete(w.owned, owner)
	}
}

// disownAll cuts a guest from whatever connection its phase was bound to.
func (w *World) disownAll(g *Guest) {
	for owner := range w.owned {
		w.disown(owner, g)
	}
}

// canLeave says why a guest cannot start to migrate, or nil.
func (g *Guest) canLeave(flags uint32) *rpc.Error {
	switch {
	case flags&FlagOffline != 0:
		return rpc.Errorf(rpc.CodeNoSupport, "this function is not supported by the connection driver: offline migration")
	case flags&FlagPostCopy != 0 && flags&FlagPaused != 0:
		return rpc.Errorf(rpc.CodeInvalidArg, "invalid argument: post-copy migration is not supported with paused migration")
	case !g.Active():
		return errNotRunning
	case g.Migrating():
		return g.locked()
	case g.State == Paused && g.Reason == PausedMigration:
		return rpc.Errorf(rpc.CodeOperationInvalid, "Requested operation is not valid: domain is paused by an unfinished migration")
	}
	return nil
}

// Begin is Begin3: it checks that the guest may leave and, with
// CHANGE_PROTECTION, starts the job, bound to owner.
func (w *World) Begin(g *Guest, owner any, flags uint32) *rpc.Error {
	if err := g.canLeave(flags); err != nil {
		return err
	}
	if flags&FlagChangeProtection != 0 {
		g.out = &outgoing{phase: phaseBegin, owner: owner, flags: flags, was: g.State, started: w.now}
		w.own(owner, g)
	}
	return nil
}

// Prepare is Prepare3: it starts an empty QEMU on h that waits for the guest, and
// gives the port it listens on. The phase is bound to owner.
func (w *World) Prepare(h *Host, owner any, id [16]byte, flags uint32) (port int, _ *rpc.Error) {
	v := w.byID[id]
	if v == nil {
		return 0, rpc.Errorf(rpc.CodeXML, "XML error: the simulator has no VM %x", id)
	}
	g := h.Find(id)
	if g != nil && g.Active() {
		return 0, rpc.Errorf(rpc.CodeOperationInvalid, "Requested operation is not valid: domain is already active as '%s'", v.Name)
	}
	if h.allocated()+v.Mem+HostMemory > h.Mem {
		return 0, rpc.Errorf(rpc.CodeInternal, "internal error: process exited while connecting to monitor: cannot set up guest memory 'pc.ram': Cannot allocate memory")
	}
	port = w.freePort()
	if port == 0 {
		return 0, rpc.Errorf(rpc.CodeInternal, "internal error: Unable to find an unused port in range 'migration' (49152-65535)")
	}
	h.change(func() {
		if g == nil {
			g = h.add(v)
		}
		g.ID, g.State, g.Reason = h.newID(), Paused, PausedMigration
		g.Alive, g.stale, g.started = true, false, w.now
		g.count, g.last, g.dirty = counters{}, nil, dirtyCalc{}
	})
	g.in = &incoming{flags: flags, port: port, started: w.now}
	w.ports[port] = g
	w.own(owner, g)
	g.emit(evStarted, detailMigrated)
	v.note()
	return port, nil
}

// freePort gives a port that no incoming guest of the whole world listens on, so
// that a port alone names the guest.
func (w *World) freePort() int {
	for i := 0; i < 65535-49152; i++ {
		p := w.port
		if w.port++; w.port > 65535 {
			w.port = 49152
		}
		if w.ports[p] == nil {
			return p
		}
	}
	return 0
}

// Perform is Perform3: it sends the guest to the QEMU that listens on port, and
// calls done when the guest has arrived (and is paused here) or when it has
// failed. ceiling is in bytes/s, 0 for none. The phase is bound to owner.
func (w *World) Perform(g *Guest, owner any, port int, flags uint32, ceiling float64, done func(*rpc.Error)) *rpc.Error {
	if g.out != nil && g.out.phase != phaseBegin {
		return g.locked()
	}
	if g.out == nil {
		if err := g.canLeave(flags); err != nil {
			return err
		}
	}
	dst := w.ports[port]
	if dst == nil || dst.in.flow != nil || dst.in.complete {
		w.abandon(g)
		return rpc.Errorf(rpc.CodeOperationFailed, "operation failed: unable to connect to destination port %d: Connection refused", port)
	}
	if dst.vm != g.vm {
		w.abandon(g)
		return rpc.Errorf(rpc.CodeOperationFailed, "operation failed: destination waits for another domain, '%s'", dst.VM.Name)
	}
	if g.out == nil {
		g.out = &outgoing{owner: owner, was: g.State, started: w.now}
		w.own(owner, g)
	}
	o := g.out
	if o.owner != owner {
		w.disown(o.owner, g)
		o.owner = owner
		w.own(owner, g)
	}
	o.phase, o.flags, o.done = phasePerform, flags, done
	if ceiling > 0 {
		g.maxSpeed = ceiling
	}
	w.startFlow(g, dst)
	return nil
}

// abandon ends an outgoing job that has not sent anything.
func (w *World) abandon(g *Guest) {
	if g.out != nil {
		w.disown(g.out.owner, g)
		g.out = nil
	}
}

// Finish is Finish3: it makes the arrived guest a domain of h, running or, with
// PAUSED, paused; cancelled drops it and gives no guest.
func (w *World) Finish(h *Host, name string, flags uint32, cancelled bool) (*Guest, *rpc.Error) {
	g := h.FindName(name)
	if g == nil {
		return nil, rpc.Errorf(rpc.CodeNoDomain, "Domain not found: no domain with matching name '%s'", name)
	}
	in := g.in
	if in == nil {
		return nil, rpc.Errorf(rpc.CodeOperationInvalid, "Requested operation is not valid: domain '%s' is not processing incoming migration", name)
	}
	if cancelled || !in.complete {
		g.stop(ShutoffDestroyed, stoppedFailed)
		if cancelled {
			return nil, nil
		}
		return nil, rpc.Errorf(rpc.CodeOperationFailed, "operation failed: migration of domain '%s' has not completed", name)
	}
	w.disownAll(g)
	delete(w.ports, in.port)
	g.in = nil
	s := in.stats
	s.Type, s.Operation = JobCompleted, jobMigrationIn
	s.Downtime = float64(w.now - in.pausedAt)
	s.Elapsed += s.Downtime - s.DowntimeNet
	g.last = &s
	if flags&FlagPersistDest != 0 && !g.Persistent {
		g.Persistent = true
		g.emit(evDefined, 0)
	}
	if g.vm.dead {
		g.vm.dead, g.Alive, g.balloonAt = false, false, w.now
	}
	if flags&FlagPaused != 0 || !in.resume {
		g.set(Paused, PausedUser)
		g.emit(evSuspended, 0)
	} else {
		g.set(Running, RunningMigrated)
		g.emit(evResumed, detailMigrated)
	}
	return g, nil
}

// Confirm is Confirm3: the source's copy is killed, or resumed when cancelled.
func (w *World) Confirm(g *Guest, flags uint32, cancelled bool) *rpc.Error {
	o := g.out
	if o == nil {
		return rpc.Errorf(rpc.CodeOperationInvalid, "Requested operation is not valid: domain '%s' is not processing outgoing migration job", g.VM.Name)
	}
	if o.phase == phasePerform || o.phase == phaseBegin && !cancelled {
		return rpc.Errorf(rpc.CodeOperationInvalid, "Requested operation is not valid: migration of domain '%s' has not been performed", g.VM.Name)
	}
	w.abandon(g)
	if cancelled {
		g.takeBack(o)
		return nil
	}
	if flags&FlagUndefineSource != 0 && g.Persistent {
		g.Persistent = false
		g.emit(evUndefined, 0)
	}
	g.stop(ShutoffMigrated, stoppedMigrated)
	return nil
}

// lockedOut reports that another copy runs and disks are locked.
func (v *vm) lockedOut(g *Guest) bool {
	for _, c := range v.copies {
		if c != g && c.State == Running && g.host.w.cfg.DiskLock {
			return true
		}
	}
	return false
}

// takeBack lets the source run again if it ran before and migration stopped it.
func (g *Guest) takeBack(o *outgoing) {
	if g.vm.lockedOut(g) {
		return // "resource busy": the copy that runs holds the disk's lock
	}
	if o.was == Running && g.State == Paused && g.Reason == PausedMigration {
		g.set(Running, RunningMigrationCanceled)
		g.emit(evResumed, detailMigrated)
	}
}

// Abort is AbortJob.
func (w *World) Abort(g *Guest) *rpc.Error {
	switch {
	case g.in != nil:
		return rpc.Errorf(rpc.CodeOperationInvalid, "Requested operation is not valid: cannot abort incoming migration; use virDomainDestroy instead")
	case g.out == nil || g.out.flow == nil:
		return rpc.Errorf(rpc.CodeOperationInvalid, "Requested operation is not valid: no job is active on the domain")
	}
	w.failFlow(g.out.flow, errCanceled)
	return nil
}

var errCanceled = rpc.Errorf(rpc.CodeAborted, "operation aborted: migration out job: canceled by client")

// endOut ends an outgoing job whatever its phase, with an answer to a pending
// Perform. The destination of a broken stream exits by itself.
func (g *Guest) endOut(err *rpc.Error) {
	if g.out == nil {
		return
	}
	w := g.host.w
	if f := g.out.flow; f != nil {
		g.out.was = 0 // no coming back
		w.failFlow(f, err)
		return
	}
	o := g.out
	w.abandon(g)
	if o.done != nil {
		o.done(err)
		o.done = nil
	}
}

// dropIncoming forgets the job of a destination that is going away; a stream into
// it breaks.
func (w *World) dropIncoming(g *Guest) {
	in := g.in
	g.in = nil
	delete(w.ports, in.port)
	w.disownAll(g)
	if in.flow != nil {
		w.failFlow(in.flow, rpc.Errorf(rpc.CodeOperationFailed, "operation failed: job 'migration out' unexpectedly failed"))
	}
}

// ConnClosed ends every phase that was bound to a connection: an incoming guest is
// destroyed, a running transfer is cancelled; past it the source stays
// paused(migrating) without a job.
func (w *World) ConnClosed(owner any) {
	guests := w.owned[owner]
	delete(w.owned, owner)
	for _, g := range guests {
		if g.in != nil {
			g.stop(ShutoffDestroyed, stoppedFailed)
			continue
		}
		if o := g.out; o != nil {
			if o.flow != nil {
				w.failFlow(o.flow, errCanceled)
			} else {
				g.out = nil
			}
		}
	}
}

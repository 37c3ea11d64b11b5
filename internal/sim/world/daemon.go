package world

import (
	"time"

	"github.com/foreshift/foreshift/internal/sim/rpc"
)

// doubtAfter is how long a peer-to-peer source waits for a Finish that does not
// answer before it takes its guest back.
const doubtAfter = 7 * time.Second

// PerformPeer is Perform3 with PEER2PEER: this source's daemon drives the whole
// migration to the host that serves uri.
func (w *World) PerformPeer(g *Guest, owner any, uri string, flags uint32, ceiling float64, done func(*rpc.Error)) *rpc.Error {
	if g.out != nil && g.out.phase != phaseBegin {
		return g.locked()
	}
	w.abandon(g)
	if err := g.canLeave(flags); err != nil {
		return err
	}
	var to *Host
	for _, h := range w.hosts {
		if h.Match != nil && h.Match(uri) {
			to = h
		}
	}
	switch {
	case to == nil || to.down || to.Site != g.host.Site && w.link(g.host.Site, to.Site).cutUntil > w.now:
		return rpc.Errorf(rpc.CodeSystem, "unable to connect to server at '%s': Connection refused", uri)
	case to == g.host:
		return rpc.Errorf(rpc.CodeInternal, "internal error: Attempt to migrate guest to the same host %s", to.ID)
	}
	port, err := w.Prepare(to, nil, g.VM.ID, flags)
	if err != nil {
		return err
	}
	// libvirt cancels a peer-to-peer migration neither when the client's connection
	// is lost nor otherwise: it is bound to nobody.
	o := &outgoing{phase: phasePerform, flags: flags, was: g.State, started: w.now, peer: true, done: done}
	g.out = o
	if ceiling > 0 {
		g.maxSpeed = ceiling
	}
	dst := w.ports[port]
	dst.in.peer = o
	w.startFlow(g, dst)
	return nil
}

// finishPeer is the rest of a peer-to-peer migration once the guest has arrived.
// A lost reply makes the source take its guest back, although it may run at the
// destination: that is what libvirt does, and why it wants a lock manager.
func (w *World) finishPeer(g, dst *Guest) {
	o := g.out
	lost := dst.host.down
	if !lost {
		_, err := w.Finish(dst.host, dst.VM.Name, o.flags, false)
		lost = err != nil || w.cfg.LoseReply(dst.host.index)
	}
	if lost {
		w.after(doubtAfter, func() {
			if g.out != o {
				return
			}
			w.abandon(g)
			g.takeBack(o)
			o.done(rpc.Errorf(rpc.CodeInternal, "internal error: client socket is closed"))
		})
		return
	}
	w.abandon(g)
	if o.flags&FlagUndefineSource != 0 && g.Persistent {
		g.Persistent = false
		g.emit(evUndefined, 0)
	}
	g.stop(ShutoffMigrated, stoppedMigrated)
	o.done(nil)
}

// DaemonDied is a host's libvirt daemon killed: guests run on, phases stay as they
// are, peers of a peer-to-peer move notice at once.
func (w *World) DaemonDied(h *Host) {
	h.down = true
	for _, g := range append([]*Guest(nil), h.guests...) {
		w.disownAll(g)
		if g.out != nil {
			g.out.owner = nil
		}
		var f *flow
		if g.in != nil && g.in.peer != nil {
			f = g.in.flow
		} else if g.out != nil && g.out.peer {
			f = g.out.flow
		}
		if f != nil {
			w.failFlow(f, rpc.Errorf(rpc.CodeInternal, "internal error: client socket is closed"))
		}
	}
}

// DaemonBack is the daemon started again: it recovers each domain by the phase it
// finds, as libvirt's qemuMigration recovery does.
func (w *World) DaemonBack(h *Host) {
	h.down = false
	for _, g := range append([]*Guest(nil), h.guests...) {
		if g.in != nil {
			g.stop(ShutoffDestroyed, stoppedFailed)
			continue
		}
		o := g.out
		if o == nil || o.peer {
			continue
		}
		switch {
		case o.flow != nil:
			w.failFlow(o.flow, errCanceled)
		case o.phase == phasePerform: // it arrived while nobody watched: cancelled all the same
			w.abandon(g)
			g.takeBack(o)
		default: // begun: forgotten; performed: stays paused, without a job
			w.abandon(g)
		}
	}
}

// Down reports a dead daemon.
func (h *Host) Down() bool { return h.down }

package matrix

import (
	"errors"
	"time"

	"github.com/foreshift/foreshift/internal/lab"
	"github.com/foreshift/foreshift/schemas"
)

// PeerCells are moves in which libvirt leads, under a disk lock that each of them
// tries anew: the faults that make two running copies without it, and the loss of the
// lock daemon. They need a fleet of [StartPeer], in a lab with locks.
func PeerCells() []Cell {
	return []Cell{
		{Name: "p2p with a lock, no fault", Steps: stepsPreCopy, fault: func(*run) {}, ends: []schemas.Result{schemas.ResultSucceeded}, Quick: true},
		{Name: "p2p with a lock: Finish's reply lost", before: func(x *run) { x.peers[x.dst].LoseReplies(lab.CallFinish3, x.strike) },
			after: func(x *run) { x.peers[x.dst].Heal() }, Quick: true},
		{Name: "p2p with a lock: destination libvirtd killed at Finish", before: func(x *run) {
			x.peers[x.dst].LoseReplies(lab.CallFinish3, func() {
				x.strike()
				pause(x.ctx, 300*time.Millisecond)
				x.killLibvirtd(x.dst, mended)
				x.peers[x.dst].Cut()
			})
		}, after: func(x *run) { x.peers[x.dst].Heal() }},
		{Name: "p2p with a lock: source actuator killed", Steps: []string{"pre-copy", "perform", "switchover"}, fault: func(x *run) { x.killPart(x.actuators[x.src], mended) }, Quick: true},
		{Name: "p2p with a lock: post-copy of a transfer that does not converge", Steps: []string{"post-copy done"}, ends: []schemas.Result{schemas.ResultSucceeded}, busy: true, before: thin, fault: func(*run) {}, after: widen},
		{Name: "p2p: lock daemon killed at the source", Steps: stepsPreCopy, ends: []schemas.Result{schemas.ResultFailed}, why: schemas.ReasonLock,
			fault: func(x *run) { x.killLock(x.src) }, unlocks: true},
		{Name: "p2p: lock daemon killed at the destination", Steps: []string{"pre-copy", "prepare"}, why: schemas.ReasonLock,
			fault: func(x *run) { x.killLock(x.dst) }, unlocks: true},
		{Name: "p2p: lock daemon of the source another than the guest's", ends: refused, why: schemas.ReasonLock, before: func(x *run) {
			h := x.Lab.Hosts[x.src]
			x.fault(errors.Join(h.KillLock(), h.StartLock(x.ctx), h.KillLibvirtd(x.ctx), h.StartLibvirtd(x.ctx)))
		}, unlocks: true, Quick: true},
	}
}

// UnlockedCells are those of a fleet of [StartPeer] in a lab whose lock daemons run
// and lock nothing ([lab.Config.IdleLock]): only the trial can tell, and nothing moves.
func UnlockedCells() []Cell {
	return []Cell{{Name: "p2p: lock daemons run, and libvirt does not ask them", why: schemas.ReasonLock, ends: []schemas.Result{schemas.ResultRefused, schemas.ResultFailed}, Quick: true}}
}

func (x *run) killLock(host int) {
	h := x.Lab.Hosts[host]
	x.fault(h.KillLock())
	x.later(mended, func() error { return h.StartLock(x.ctx) })
}

package migration

import (
	"time"

	"github.com/foreshift/foreshift/schemas"
)

// slow is a transfer that takes so long that the source looks at it meanwhile: it does
// not converge, and either goes on until it is given up, or is mended.
type slow struct {
	dead    bool // the link carries nothing
	began   bool
	aborted bool
	end     int64 // ns: of post-copy
	job     JobStats
}

// carry lets time pass over a transfer under way. When it ends, Perform does.
func (w *world) carry() {
	t := w.slow
	if t == nil || !t.began {
		if w.fetching { // libvirt goes on with what nobody leads any more, once its link works
			w.now += int64(time.Second)
			if w.calm && w.rng.Intn(4) == 0 && w.dst == Running {
				w.fetched()
			}
		}
		return
	}
	w.now += int64(time.Second) * int64(1+w.rng.Intn(3))
	over := func(how How, code schemas.ReasonCode) {
		w.slow = nil
		w.obs.Did = Did{Perform, how, schemas.Reason{Code: code}}
	}
	back := func() { // libvirt gives it up: the VM never stood still
		w.bound = 0
		if w.incoming {
			w.dst, w.incoming, w.whole = Absent, false, false
		}
	}
	switch {
	case w.fetching && w.odds(w.f.Cut):
		w.log("the link is cut in post-copy")
		over(Refused, schemas.ReasonLibvirt)
	case w.fetching && w.dst != Running:
		over(Refused, schemas.ReasonLibvirt)
	case w.fetching && w.now >= t.end:
		w.fetched()
		over(Done, "")
	case w.fetching:
	case t.aborted || w.src != Running || !w.peer && (w.bound != w.proc || !w.incoming):
		back()
		over(Refused, schemas.ReasonAborted)
	case w.odds(w.f.PerformFails):
		back()
		over(Refused, schemas.ReasonLibvirt)
	case w.rng.Intn(60) == 0: // the guest has come to rest
		how, why := Done, schemas.Reason{}
		if w.slow = nil; w.peer {
			how, why = w.performPeer()
		} else {
			w.src, w.whole, w.dead = Paused, true, w.odds(w.f.NoLife)
		}
		w.obs.Did = Did{Perform, how, why}
	default:
		t.job = JobStats{Active: true, Round: 3, Total: 4 << 30, Processed: t.job.Processed, Remaining: 1 << 30, Speed: t.job.Speed}
		if t.job.Speed = 0; !t.dead {
			t.job.Processed, t.job.Speed = t.job.Processed+100<<20, 50<<20
		}
	}
}

// fetched is the end of post-copy: the destination has all of the guest.
func (w *world) fetched() {
	w.fetching, w.src, w.whole = false, Absent, true
	w.check("the end of post-copy")
}

// postCopy is libvirt's: it makes the destination run at once, and loses the VM when it
// is used where it must not be.
func (w *world) postCopy() {
	t := w.slow
	if t == nil || !t.began || w.src != Running {
		return // it is over: libvirt refuses
	}
	switch {
	case !w.peer:
		w.violate("post-copy asked for in a paused handover")
	case !w.obs.Wish || w.obs.NoWish != "":
		w.violate("post-copy without the owner's leave, or over a tunnel")
	case t.dead:
		w.violate("post-copy over a link that carries nothing")
	case w.lost[0]:
		w.violate("post-copy without a disk lock")
	}
	w.src, w.dst, w.whole, w.ran, w.fetching = Paused, Running, false, true, true
	t.end = w.now + int64(time.Second)*int64(1+w.rng.Intn(20))
	w.check("the beginning of post-copy")
}

// loseTransfer is what a transfer comes to when the source's actuator dies: in a
// handover libvirt gives it up, in a move that it leads it goes on. (What then kept a
// VM from running twice, were a lock daemon dead and Finish's reply lost as well, is
// nothing: the lock was watched by the actuator. Such threefold misfortune is left out,
// and said in docs/adr/0007-local-disks-and-peer-to-peer.md.)
func (w *world) loseTransfer() {
	t := w.slow
	if t == nil || !t.began {
		return
	}
	if w.slow = nil; !w.peer || w.fetching || t.aborted {
		return
	}
	if w.lost[0] {
		w.src, w.dst, w.ran = Absent, Running, true
		return
	}
	w.performPeer()
}

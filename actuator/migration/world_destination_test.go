package migration

import (
	"time"

	"github.com/foreshift/foreshift/schemas"
)

// --- the destination ---------------------------------------------------------

func (w *world) here() Here {
	h := Here{Copy: w.dst, Incoming: w.incoming, Session: w.session}
	if w.lost[1] {
		h.Lock = no(schemas.ReasonLock, "a second guest took the lease")
	}
	return h
}

func (w *world) crashDestination() {
	w.log("destination's actuator dies")
	if w.incoming { // its libvirt connection goes, and the incoming guest with it
		w.dst, w.incoming, w.whole = Absent, false, false
	}
	w.session = 0
	w.check("a crash of the destination's actuator")
	w.tend()
}

// look is what both the requests and the housekeeping begin with; false when it could
// not be written down.
func (w *world) look() (Here, bool) {
	h := w.here()
	if n := w.rec.Seen(h); n != w.rec {
		if w.odds(w.f.DiskFails) {
			return h, false
		}
		w.rec = n
	}
	if w.dst == Running {
		w.ran = true // and the host has seen it: before, nobody could know
	}
	return h, true
}

func (w *world) tend() {
	h, ok := w.look()
	if !ok {
		return
	}
	if e, steps := w.rules.Tend(w.rec, h, w.now, w.s.Limits); len(steps) > 0 {
		w.log("destination tends epoch %d", e)
		w.steps(e, steps)
	}
}

// tendHome is the housekeeping of the source's own host, which may have been the
// destination of an earlier move of the VM.
func (w *world) tendHome() {
	if !w.home.Open() {
		return
	}
	h := Here{Copy: w.src, Incoming: w.src == Paused && w.s.Stage > Preparing, Leads: w.mark != MarkEnded}
	w.home = w.home.Seen(h)
	_, steps := w.rules.Tend(w.home, h, w.now, w.s.Limits)
	for _, s := range steps {
		switch s.Kind {
		case Write:
			w.home = s.Record
		case DoDrop:
			w.violate("the source's copy dropped for a record of an earlier move")
		}
	}
}

// steps carries out what the destination decided; false when it was killed or a
// step failed.
func (w *world) steps(e uint64, steps []Step) bool {
	for _, s := range steps {
		if w.odds(w.f.CrashDestination) {
			w.crashDestination()
			return false
		}
		w.log("  destination: %s", s.Kind)
		switch s.Kind {
		case Write:
			if w.odds(w.f.DiskFails) {
				return false
			}
			if s.Record.Fence < w.low {
				w.violate("the destination's fence fell from %d to %d", w.low, s.Record.Fence)
			}
			w.rec, w.low = s.Record, max(w.low, s.Record.Fence)
			if w.rec.Resumed == epoch && w.rec.Released >= epoch && !w.hand {
				w.violate("the epoch is both resumed and released")
			}
		case DoPrepare:
			if w.dst != Absent {
				w.violate("prepared on top of a copy that is %s", w.dst)
				return false
			}
			if e < w.low {
				w.violate("acted on epoch %d below the fence %d", e, w.low)
			}
			if w.made == e {
				w.violate("epoch %d prepared twice", e)
			}
			w.dst, w.incoming, w.whole, w.session, w.made = Paused, true, false, e, e
		case DoFinish:
			if w.made != e {
				w.violate("Finish3 for epoch %d, which nobody prepared", e)
			}
			if e != w.session || !w.incoming {
				return false
			}
			if !w.whole {
				w.dst, w.incoming = Absent, false
				return false
			}
			w.incoming = false
		case DoResume:
			if w.dst.Gone() || w.incoming {
				w.violate("resumed a copy that is not whole: %s", w.dst)
			}
			if w.dst != Paused || w.incoming || w.odds(w.f.ResumeFails) {
				return false
			}
			w.dst, w.ran = Running, true
		case DoDrop:
			w.meddle() // there is a moment since the look
			if why := w.rules.RecheckDrop(w.rec, e, w.here(), w.now); !why.OK() {
				w.log("  destination: not dropped: %s", why)
				w.look()
				return false
			}
			if w.theirs {
				w.violate("destroyed a VM that a person had started")
			}
			if w.dst == Running {
				w.violate("destroyed a running copy")
			}
			if w.src == Absent && w.dst == Paused && !w.incoming && !w.tardy {
				w.violate("the destination gave up the last whole copy")
			}
			w.dst, w.incoming, w.whole = Absent, false, false
		}
		w.check("the destination's " + s.Kind.String())
	}
	return true
}

func (w *world) serve(a Ask) (schemas.Reason, bool) {
	h, ok := w.look()
	if !ok {
		return schemas.Reason{Code: schemas.ReasonJournal, Detail: "what was seen"}, w.rng.Intn(2) == 0
	}
	steps, why := w.rules.Answer(w.rec, a, h, w.now, w.s.Limits)
	if !why.OK() {
		w.log("  destination refuses %s(%d): %s", a.Op, a.Epoch, why)
		return why, true
	}
	if len(steps) > 0 && a.Op != schemas.OpObserve && a.Op != schemas.OpRelease && w.now > a.Expires {
		w.violate("%s carried out %s after it had expired", a.Op, time.Duration(w.now-a.Expires))
	}
	if len(steps) > 0 && a.Op == schemas.OpPrepare && w.now > a.Command+int64(w.s.Limits.Late) {
		w.violate("prepared %s after the command had expired", time.Duration(w.now-a.Command))
	}
	if len(steps) > 0 && a.Epoch <= w.rec.Released && a.Op != schemas.OpRelease && a.Op != schemas.OpObserve {
		w.violate("%s of epoch %d, which was released", a.Op, a.Epoch)
	}
	if !w.steps(a.Epoch, steps) {
		return schemas.Reason{Code: schemas.ReasonLibvirt, Detail: "a step failed"}, w.rng.Intn(2) == 0
	}
	return schemas.Reason{}, true
}

// --- the network -------------------------------------------------------------

func (w *world) request(op schemas.Op, e uint64) (How, schemas.Reason) {
	a := Ask{Op: op, Epoch: e, AfterSeq: e - 1, Expires: w.now + int64(20*time.Second), Command: int64(60 * time.Second), Deadline: w.s.Deadline, Peer: w.peer}
	asked := w.now
	w.now += int64(w.rng.Intn(4)) * int64(time.Millisecond)
	timeout := func(what string) (How, schemas.Reason) {
		w.log("  %s: %s", op, what)
		w.now += int64(2 * time.Second)
		w.obs.Destination = Unreachable
		return Unknown, schemas.Reason{Code: schemas.ReasonUnreachable}
	}
	if w.odds(w.f.Double) && len(w.late) < 8 {
		w.late = append(w.late, a)
	}
	if w.odds(w.f.Delay) && len(w.late) < 8 {
		w.late = append(w.late, a)
		return timeout("delayed")
	}
	if w.odds(w.f.Lose) {
		return timeout("lost")
	}
	why, alive := w.serve(a)
	if !alive || w.odds(w.f.LoseReply) {
		return timeout("its reply is lost")
	}
	w.obs.Destination = w.dst
	w.obs.Life = NoLife
	if w.dst == Running && !w.dead {
		w.obs.Life = LifeCPU
	}
	w.obs.Peer = Peer{Fence: w.rec.Fence, Released: w.rec.Released, Resumed: w.rec.Resumed, Asked: asked}
	if !why.OK() {
		return Refused, why
	}
	return Done, why
}

// deliver brings late messages in any order, and old ones of epochs long past.
func (w *world) deliver() {
	if len(w.late) > 0 && (w.calm || w.rng.Intn(4) == 0) {
		i := w.rng.Intn(len(w.late))
		a := w.late[i]
		w.late = append(w.late[:i], w.late[i+1:]...)
		w.log("late %s(%d) arrives", a.Op, a.Epoch)
		w.tardy = true
		w.serve(a)
		w.tardy = false
	}
	if w.odds(w.f.Stale) {
		ops := [...]schemas.Op{schemas.OpPrepare, schemas.OpFinish, schemas.OpResume, schemas.OpRelease}
		e := uint64(epoch - 1 - w.rng.Intn(50))
		a := Ask{Op: ops[w.rng.Intn(len(ops))], Epoch: e, AfterSeq: e - 1, Expires: w.now + 1e9, Command: w.now + 1e9, Deadline: w.now + 60e9}
		w.log("stale %s(%d) arrives", a.Op, a.Epoch)
		w.serve(a)
	}
	w.skip()
}

// skip is a source that leaves steps out, as one of another version or in wrong
// hands might: it asks for Finish of what was never prepared, or for Resume of what
// was never finished.
func (w *world) skip() {
	if !w.odds(w.f.Skip) {
		return
	}
	a := Ask{Op: schemas.OpResume, Epoch: epoch, AfterSeq: epoch - 1, Expires: w.now + 1e9, Command: w.now + 1e9, Deadline: w.s.Deadline}
	switch {
	case w.rec.Prepared != epoch:
		a.Op = schemas.OpFinish
	case w.rec.Finished == epoch || w.rec.Asked >= epoch:
		return // nothing is left out
	}
	w.log("%s(%d) out of turn", a.Op, a.Epoch)
	w.serve(a)
}

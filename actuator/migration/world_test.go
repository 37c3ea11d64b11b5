package migration

import (
	"fmt"
	"math/rand"
	"strings"
	"time"

	"github.com/foreshift/foreshift/schemas"
)

// world is a pair of simulated libvirts with one VM, both pure machines, their
// disks, and a network that loses, doubles, delays and reorders requests. Both
// actuators may be killed before and after every single act.
type world struct {
	rng   *rand.Rand
	rules *Rules
	f     faults
	now   int64
	calm  bool // no more faults: everything heals
	trace []string
	keep  bool
	bad   string // the first violation

	// the two libvirts
	src      Copy // Running, Paused or Absent
	dst      Copy // Absent, Paused or Running
	incoming bool // dst is paused because the transfer comes in
	whole    bool // the transfer has ended: dst holds all of the guest
	bound    int  // source: process that called Begin3 and is still connected, 0 none
	session  uint64
	made     uint64  // epoch last prepared
	killed   int64   // ns: when a QEMU process last died by a fault; copies may be fewer
	dead     bool    // the transfer has spoilt the guest: it runs and does not live
	tardy    bool    // a late message is being served
	told     int64   // ns: by then the move must have ended, or be known as UNKNOWN
	job      bool    // a job that is not ours runs at the source
	ran      bool    // the destination's copy has run
	theirs   bool    // the destination's copy is none of ours: a person has started it
	peer     bool    // libvirt leads
	lost     [2]bool // source's and destination's disk lock has gone
	slow     *slow   // the transfer, when it takes long enough to be looked at
	fetching bool    // post-copy: the destination runs on memory that the source still holds

	// the source's actuator
	proc    int // number of the process
	s       State
	mark    Mark
	marked  int64
	unknown bool // outcome UNKNOWN is on the record
	fence   uint64
	obs     Observation
	result  schemas.Result
	reports []schemas.Result
	why     schemas.ReasonCode // of UNKNOWN
	begins  int

	// the destination's actuator: its disk, and late messages on the way to it
	rec  Record
	low  uint64 // highest fence ever on its disk: I5
	late []Ask
	hand bool   // a person ran the copy that had been given up
	home Record // of the source's host, from when it was the destination of an earlier move
}

// faults are the odds, out of 1000, of each kind of fault at each chance of it.
type faults struct {
	Lose, LoseReply, Delay, Double, Stale, CrashSource, CrashDestination, PerformFails, PerformLost, DiskFails int
	Wake, QEMUDies, Abort, NoLife, ShortDeadline, ResumeFails, EndFails, Foreign                               int
	Stop, Meddle, Skip, BadCommand, Peer, LockDies, Slow, Wish, Cut, Old                                       int
}

const epoch = 100

func (w *world) log(f string, a ...any) {
	if w.keep {
		w.trace = append(w.trace, fmt.Sprintf("%7.3fs ", float64(w.now)/1e9)+fmt.Sprintf(f, a...))
	}
}

func (w *world) odds(n int) bool { return !w.calm && n > 0 && w.rng.Intn(1000) < n }

func (w *world) violate(f string, a ...any) {
	if w.bad == "" {
		w.bad = fmt.Sprintf(f, a...)
		w.log("VIOLATION %s", w.bad)
	}
}

// check holds the invariants after every change of a copy.
func (w *world) check(after string) {
	if w.src == Running && w.dst == Running {
		w.violate("two running copies after %s", after)
	}
	intact := w.src != Absent || w.dst == Running || w.dst == Paused && w.whole
	if !intact && w.killed == 0 {
		w.violate("no copy left after %s", after)
	}
}

// --- the source --------------------------------------------------------------

func (w *world) crashSource() {
	w.log("source's actuator dies")
	w.loseSource()
	w.loseTransfer()
	w.proc++
	w.obs = Observation{Destination: Unreachable, Fence: w.fence}
	w.s = Recover(w.mark, epoch, w.unknown, w.marked, w.s.Deadline, w.now, w.s.Limits)
	w.s.Peer = w.peer
}

// loseSource is what libvirt does when the client of a job goes: a transfer is
// cancelled and the VM runs on; after it, the VM stays paused.
func (w *world) loseSource() { w.bound = 0 }

func (w *world) act(a Action) Did {
	did := func(h How, why schemas.Reason) Did { return Did{a.Verb, h, why} }
	ok, fail := did(Done, schemas.Reason{}), did(Refused, schemas.Reason{Code: schemas.ReasonLibvirt})
	asks := func(op schemas.Op) Did { h, why := w.request(op, epoch); return did(h, why) }
	switch a.Verb {
	case Observe:
		return asks(schemas.OpObserve)
	case Prepare:
		return asks(schemas.OpPrepare)
	case Finish:
		return asks(schemas.OpFinish)
	case Resume:
		return asks(schemas.OpResume)
	case Release:
		return asks(schemas.OpRelease)
	case Begin:
		if w.begins++; w.begins > 1 {
			w.violate("one command began two moves")
		}
		if w.fence != epoch {
			w.violate("began epoch %d under the fence %d", epoch, w.fence)
		}
		if w.job || w.src == Paused {
			w.violate("began a move of a VM that is %s, foreign job %t", w.src, w.job)
		}
		if w.src != Running {
			return fail
		}
		w.bound = w.proc
		return ok
	case Perform:
		w.now += int64(time.Second) * int64(1+w.rng.Intn(5))
		if w.peer && w.slow != nil && w.mark == MarkHanded && w.src == Running && w.dst == Absent {
			w.slow.began = true
			return Did{}
		}
		if w.peer {
			return did(w.performPeer())
		}
		if w.bound != w.proc || w.src != Running {
			return fail
		}
		if w.slow != nil && w.incoming && w.session == epoch {
			w.slow.began = true
			return Did{} // it is under way
		}
		if w.odds(w.f.PerformFails) || !w.incoming || w.session != epoch {
			w.bound = 0
			return fail
		}
		w.src, w.whole = Paused, true
		w.dead = w.odds(w.f.NoLife)
		if w.odds(w.f.Wake) {
			w.src = Running // somebody resumes it by hand, just then
		}
		w.check("the transfer")
		if w.odds(w.f.PerformLost) {
			w.bound = 0
			return did(Unknown, schemas.Reason{Code: schemas.ReasonConnectionLost})
		}
		return ok
	case HandOver:
		if w.odds(w.f.DiskFails) {
			if w.rng.Intn(2) == 0 {
				w.mark, w.marked = MarkHanded, w.now // the error came, the record is there all the same
			}
			return did(Refused, schemas.Reason{Code: schemas.ReasonJournal})
		}
		w.mark, w.marked = MarkHanded, w.now
		return ok
	case Confirm:
		if w.bound != w.proc || w.src != Paused || w.odds(w.f.EndFails) {
			w.bound = 0
			return fail
		}
		w.destroyed()
		w.bound = 0
		return ok
	case Destroy:
		if w.odds(w.f.EndFails) {
			return fail
		}
		w.destroyed()
		return ok
	case TakeBack:
		if w.src != Paused {
			return fail
		}
		if w.ran {
			w.violate("resumed the source's copy, which is stale: the destination's has run")
		}
		w.src, w.bound = Running, 0
		w.check("taking the VM back")
		return ok
	case Abort, Drop:
		w.bound = 0
		if w.s.Wait == Perform && w.slow != nil {
			w.slow.aborted = true
			return Did{} // Perform will tell
		}
		return ok
	case Widen:
		return Did{}
	case PostCopy:
		w.postCopy()
		return Did{}
	case Report:
		w.reports = append(w.reports, a.Result)
		if w.fetching && a.Result != schemas.ResultUnknown {
			w.violate("%s reported while the destination still fetches memory", a.Result)
		}
		switch a.Result {
		case schemas.ResultSucceeded:
			if (w.src != Absent || w.dst != Running) && w.killed < w.obs.Peer.Asked {
				w.violate("success reported: source %s, destination %s", w.src, w.dst)
			}
		case schemas.ResultFailed:
			if w.src != Running && w.killed == 0 || w.dst == Running && !w.theirs {
				w.violate("failure reported: source %s, destination %s", w.src, w.dst)
			}
			if w.rec.Released < epoch {
				w.violate("failure reported, but the destination may still act")
			}
		case schemas.ResultUnknown:
			w.unknown, w.why = true, a.Why.Code
			return ok
		}
		w.result, w.mark = a.Result, MarkEnded
		return ok
	}
	w.violate("unexpected act %s", a.Verb)
	return fail
}

// destroyed: the source's copy is gone for good. The destination's must run and
// live, but for a death since it was last seen.
func (w *world) destroyed() {
	if w.src == Running {
		w.violate("destroyed a running copy")
	}
	if w.fetching {
		w.violate("destroyed the source's copy, from which the destination still fetches memory")
	}
	w.src = Absent
	if w.obs.Destination != Running || w.now-w.obs.Peer.Asked > int64(w.s.Limits.Fresh)+int64(2*time.Second) {
		w.violate("the source's copy destroyed, the destination's not seen running now: %s", w.obs.Destination)
	}
	if w.dst != Running && w.killed < w.now-int64(w.s.Limits.Fresh)-int64(2*time.Second) {
		w.violate("the source's copy destroyed, the destination's is %s", w.dst)
	}
	if w.dead {
		w.violate("the source's copy destroyed, the destination's never lived")
	}
	w.check("the end of the source's copy")
}

// meddle is a person at the destination's host.
func (w *world) meddle() {
	if w.odds(w.f.Foreign) && w.dst == Paused && !w.incoming && w.src == Paused {
		w.log("somebody resumes the destination's copy by hand")
		w.dst, w.hand = Running, w.rec.Released >= epoch
	}
	switch {
	case w.theirs && w.dst == Running && w.odds(w.f.Foreign):
		w.log("... and pauses it")
		w.dst, w.killed = Paused, w.now // from now on it is not as it was seen
	case w.dst == Absent && w.src == Absent && w.odds(w.f.Foreign):
		w.log("neither host has the VM: somebody starts it at the destination")
		w.dst, w.ran, w.theirs = Running, true, true
		if w.rng.Intn(2) == 0 {
			w.dst = Paused // he has looked, and waits
		}
		w.hand = w.rec.Released >= epoch
	}
}

// turnSource lets the source's machine take one step.
func (w *world) turnSource() {
	w.carry()
	o := w.obs
	o.Source, o.Fence, o.Job, o.PostCopy = w.src, w.fence, JobStats{Active: w.job}, w.fetching
	if w.slow != nil && w.slow.began {
		o.Job = w.slow.job
	}
	if w.peer && w.odds(w.f.LockDies) {
		w.lost[0] = true
		w.log("the source's lock daemon dies")
	}
	if w.peer && w.lost[0] {
		o.Lock = no(schemas.ReasonLock, "the source's lock daemon is gone")
	}
	s, acts, why := w.rules.Next(w.s, o, w.now)
	w.s = s
	w.obs.Did, w.obs.Abort = Did{}, false
	if w.odds(w.f.CrashSource) {
		w.crashSource()
		return
	}
	for _, a := range acts {
		w.now += int64(a.After) + int64(100*time.Microsecond)
		w.log("source [%s] %s %s %s (source %s, destination %s)", s.Stage, a.Verb, a.Result, why, w.src, w.dst)
		if a.Verb == Perform && w.odds(w.f.Abort) {
			w.obs.Abort = true
		}
		if w.odds(w.f.Stop) && a.Verb != Begin {
			still := int64(time.Minute) * int64(1+w.rng.Intn(4))
			w.now, w.told = w.now+still, w.told+still // who stands still tells nobody
			w.log("the source's actuator was stopped for a while")
		}
		w.s, a = w.rules.Recheck(w.s, o, a, w.now)
		w.obs.Did = w.act(a)
		if w.odds(w.f.CrashSource) {
			w.crashSource()
			return
		}
	}
}

// run is one move from admission to its end.
func (w *world) run() {
	w.src, w.dst, w.proc, w.fence = Running, Absent, 1, epoch
	w.now = int64(time.Second)
	w.low = epoch - 10
	w.rec = Record{Fence: w.low}
	deadline := w.now + int64(40*time.Second)
	if w.odds(w.f.ShortDeadline) {
		deadline = w.now + 5e6
	}
	if w.odds(w.f.Slow) {
		w.slow = &slow{dead: w.odds(w.f.Cut)}
		deadline = w.now + int64(4*time.Minute)
	}
	if !w.admit(deadline) {
		return
	}
	w.s, w.mark, w.marked = Start(epoch, deadline, w.now, DefaultLimits()), MarkAccepted, w.now
	w.peer, w.lost[1] = w.odds(w.f.Peer), w.odds(w.f.LockDies)
	w.s.Peer = w.peer
	w.obs = Observation{Destination: Absent, Peer: Peer{Asked: w.now}, Wish: w.odds(w.f.Wish)}
	if w.obs.Wish && w.odds(w.f.Cut) {
		w.obs.NoWish = "it goes over a tunnel"
	}
	if w.odds(w.f.Old) { // it never came to drop what it had given up; the VM came here by hand since
		w.home = Record{Fence: epoch - 20, Prepared: epoch - 20, Released: epoch - 20}
	}
	w.interfere()
	w.told = int64(5 * time.Minute)
	if w.slow != nil {
		w.told += int64(10 * time.Minute)
	}
	for i := 0; i < 4000 && w.s.Stage != Ended && w.bad == ""; i++ {
		if w.now > w.told && !w.calm {
			if w.s.Stage != Ended && !w.unknown {
				w.violate("neither ended nor reported as UNKNOWN after %s: %s", time.Duration(w.now), w.s.Stage)
			}
			w.calm, w.job = true, false
			w.log("all faults end")
		}
		if w.odds(w.f.QEMUDies) {
			w.kill()
		}
		w.meddle()
		w.deliver()
		if w.rng.Intn(8) == 0 || w.calm {
			w.tend()
			w.tendHome()
		}
		w.turnSource()
		if w.unknown && w.stillUnknown() && w.now > w.told+int64(2*time.Minute) {
			return // rightly so: nothing but a person can end it
		}
	}
	if w.s.Stage != Ended && w.bad == "" {
		w.violate("no end after %s: stage %s, source %s, destination %s, record %+v", time.Duration(w.now), w.s.Stage, w.src, w.dst, w.rec)
	}
}

// interfere is what others may do between the admission of a command and its first
// step: a higher epoch reaches the host, a person pauses the VM or migrates it, the
// destination is not there.
func (w *world) interfere() {
	if !w.odds(w.f.Meddle) {
		return
	}
	switch w.rng.Intn(4) {
	case 0:
		w.fence = epoch + 7
	case 1:
		w.src = Paused
		w.killed = w.now // a person did it: the VM's state is theirs
	case 2:
		w.job = true
	case 3:
		w.obs.Destination = Unreachable
	}
}

// stillUnknown: the states out of which no evidence can lead.
func (w *world) stillUnknown() bool {
	return w.dead || w.theirs || w.hand || w.fetching && w.dst == Absent || w.peer && w.src == Paused && w.dst == Absent || w.dst == Absent && (w.rec.Resumed >= epoch || w.src == Absent)
}

// kill is a QEMU process that dies.
func (w *world) kill() {
	switch {
	case w.rng.Intn(3) == 0 && w.src == Paused && w.dst != Absent:
		w.killed = w.now
		w.log("the source's QEMU dies")
		w.src, w.bound = Absent, 0
		if w.fetching {
			w.fetching, w.dead = false, true // what it had not fetched is lost
		}
	case w.dst != Absent:
		w.killed = w.now
		w.log("the destination's QEMU dies")
		w.dst, w.incoming, w.whole, w.theirs = Absent, false, false, false
	}
}

// story is what happened, its middle left out when it is long.
func (w *world) story() string {
	const head, tail = 80, 40
	if n := len(w.trace); n > head+tail {
		return strings.Join(w.trace[:head], "\n") + "\n...\n" + strings.Join(w.trace[n-tail:], "\n")
	}
	return strings.Join(w.trace, "\n")
}

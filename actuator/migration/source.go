package migration

import (
	"fmt"
	"time"

	"github.com/foreshift/foreshift/schemas"
)

// Next takes one step of a move: the new state, what to do now, and why the move
// stands where it stands. Call it again with [Observation.Did] when an act has
// ended, and at any time in between (a tick, an event): while an act is under way
// it asks for nothing but Abort or Drop. The rules are [DefaultRules].
func Next(s State, o Observation, now int64) (State, []Action, schemas.Reason) {
	return defaultRules.Next(s, o, now)
}

// Next is [Next] under other rules.
func (r *Rules) Next(s State, o Observation, now int64) (State, []Action, schemas.Reason) {
	if s.Stage == Ended {
		return s, nil, s.Why
	}
	s = absorb(s.notAhead(now), o, now)
	if s.Stage == Ended {
		return s, nil, s.Why
	}
	if s.Wait != None {
		return r.during(s, o, now)
	}
	if s.Final { // no guard is asked again: nothing is done but telling
		a := Action{Verb: Report, After: s.pause(), Result: s.Result, Why: s.Why}
		return take(s, a), []Action{a}, s.Why
	}
	s = turn(s, o, now)
	if a, ok := resolved(s, o); ok {
		return take(s, a), []Action{a}, a.Why
	}
	var wish [4]Action
	held, late := s.Why, overdue(s, o, now)
	for _, a := range propose(s, o, wish[:0]) {
		if late && a.Verb != Report && a.Verb != Confirm {
			continue // first say that nobody knows, then go on looking
		}
		if why := r.check(Act{s, o, a, now}); !why.OK() {
			held = why
			continue
		}
		return take(s, a), []Action{a}, s.Why
	}
	return r.hold(s, o, held, now)
}

// Recheck asks again, when an act is about to be done that begins a move, ends a copy or
// lets libvirt lead, whether what it rests on is still fresh: the process may have stood still
// since Next decided, or its clock may have been set. If not, it gives a look in the
// act's place, and for post-copy, whose link may be gone by now, the end of a transfer
// that does not get on without. Other acts pass as they are.
func (r *Rules) Recheck(s State, o Observation, a Action, now int64) (State, Action) {
	switch a.Verb {
	case Confirm, Destroy:
		if r.check(Act{s, o, a, now}).OK() {
			return s, a
		}
	case Begin:
		if fresh(s, o, now) {
			return s, a
		}
	case Perform:
		// Nobody takes it back from libvirt; a lock may have been lost in the meantime.
		if !s.Peer || r.check(Act{s, o, a, now}).OK() && fresh(s, o, now) {
			return s, a
		}
	case PostCopy:
		why := r.check(Act{s, o, a, now})
		if why.OK() {
			return s, a
		}
		s.PostCopied, s.Aborted, s.Why = false, now, why
		return s, Action{Verb: Abort}
	default:
		return s, a
	}
	look := Action{Verb: Observe}
	return take(s, look), look
}

// fresh: the destination was asked a moment ago. What was asked in the future was asked
// before the clock was set back, and nobody knows when.
func fresh(s State, o Observation, now int64) bool {
	age := now - o.Peer.Asked
	return age >= 0 && age <= int64(s.Limits.Fresh)
}

// leastTries is how often a move is tried, or looked at, before anyone gives up
// understanding it: after a restart its clock may already have run out.
const leastTries = 4

// overdue: the move has not come forward for too long, or what is seen must not be,
// and nobody has been told yet.
func overdue(s State, o Observation, now int64) bool {
	if s.Unknown || s.Stage != HandedOver && s.Stage != RollingBack {
		return false
	}
	if o.Source == Running && o.Destination == Running {
		return true
	}
	if s.Tries < leastTries || s.Peer && o.Job.Active && now < s.Deadline {
		return false
	}
	limit := s.Limits.Answer
	if s.Lived {
		limit = max(limit, s.Limits.Life)
	}
	return now-s.Since >= int64(limit)
}

// notAhead is the move once its clock was set back: what would come only later has been,
// and nobody knows when. It is waited for anew, not until the clock comes there again.
func (s State) notAhead(now int64) State {
	s.Since, s.Aborted, s.Transfer.Forward = min(s.Since, now), min(s.Aborted, now), min(s.Transfer.Forward, now)
	return s
}

// absorb takes in how the last act ended.
func absorb(s State, o Observation, now int64) State {
	d := o.Did
	if d.Verb == None || d.Verb != s.Wait {
		return s
	}
	s.Wait, s.Rested = None, d.Verb == Observe || d.How == Done && told(d.Verb, o)
	switch d.Verb {
	case Begin, Prepare, Perform, HandOver, Confirm:
		if d.How == Done {
			s.Since, s.Tries = now, 0
		}
	}
	back := func(s State) State {
		if s.Why.OK() {
			s.Why = d.Why
		}
		s.Stage, s.Since, s.Tries = RollingBack, now, 0
		return s
	}
	lost := d.How == Unknown
	switch d.Verb {
	case Begin:
		if d.How != Done {
			return back(s)
		}
		s.Stage, s.Bound, s.Open = Preparing, !s.Peer, !s.Peer
		if s.Disks = o.Disks; s.Disks > 0 {
			s.Memory = time.Duration(max(0, s.Deadline-now))
			s.Deadline += int64(s.Limits.DiskTime(s.Disks))
		}
	case Prepare:
		switch {
		case d.How == Done && s.Peer:
			s.MayPostCopy, s.NoPostCopy = o.Wish && o.NoWish == "", o.NoWish
			s.Stage = Performed // written down first: libvirt ends a transfer by itself
		case d.How == Done:
			if s.Stage = Performing; o.Wish {
				s.NoPostCopy = "libvirt refuses post-copy for a paused handover; hosts with a disk lock may move peer to peer"
			}
		case lost && now-s.Since < int64(s.Limits.Answer):
			s.Tries++ // asked again: the destination answers the same twice
		default:
			return back(s)
		}
	case Perform:
		if s.Peer {
			// Whatever libvirt says of it: where the VM runs, both hosts must say.
			if s.Stage, s.Since, s.Tries = HandedOver, now, 0; d.How != Done && s.Why.OK() {
				s.Why = d.Why
			}
			break
		}
		if d.How != Done {
			// Whoever fails Perform3 ends libvirt's job; a lost connection does too.
			s.Open = false
			if lost {
				s.Bound = false
			}
			return back(s)
		}
		s.Stage = Performed
	case HandOver:
		if d.How != Done {
			return back(s)
		}
		if s.Stage = HandedOver; s.Peer {
			s.Stage = Performing
		}
	case Finish:
		s.Tries++
		if d.How == Done && !s.Finished {
			s.Finished, s.Since, s.Tries = true, now, 0
		}
		s.Declined = declined(s, o)
	case Resume:
		s.Tries++
		if d.How == Done && !s.Lived {
			s.Lived, s.Since, s.Tries = true, now, 0
		}
		s.Declined = declined(s, o)
	case Confirm:
		s.Bound, s.Open = false, false
	case TakeBack, Abort:
		if d.How == Done || lost {
			s.Open = false
		}
		if lost {
			s.Bound = false
		}
		if d.Verb == Abort {
			s.Open = false // refused: there is nothing to end any more
		}
		s.Tries++
	case Release:
		s.Tries++
		if d.How == Refused {
			s.Declined = false
		}
	case Destroy, Observe:
		s.Tries++
	case Report:
		if d.How != Done {
			s.Tries++
			break
		}
		if s.Result == schemas.ResultUnknown {
			s.Unknown, s.Result = true, ""
		} else {
			s.Stage = Ended
		}
	}
	return s
}

// declined: the destination said no, and has no right to run the VM. One whose
// libvirt does not answer has only said "not now".
func declined(s State, o Observation) bool {
	return o.Did.How == Refused && o.Destination != Unreachable && o.Peer.Resumed < s.Epoch
}

// told: the act came with all that a look would tell.
func told(v Verb, o Observation) bool {
	switch v {
	case Release:
		return o.Destination.Gone()
	case TakeBack:
		return o.Source == Running
	case Destroy:
		return o.Source == Absent
	}
	return false
}

// disks takes in that the disks are there: memory has its own time from then on. It
// reports that they have taken all of theirs.
func (s State) disks(j JobStats, now int64) (State, bool) {
	if s.Memory == 0 || !j.Active {
		return s, false
	}
	if j.Disk {
		return s, now >= s.Deadline-int64(s.Memory)
	}
	s.Deadline = min(s.Deadline, now+int64(s.Memory))
	s.Memory = 0
	return s, false
}

// during watches over the one act that may take long: the transfer.
func (r *Rules) during(s State, o Observation, now int64) (State, []Action, schemas.Reason) {
	if s.Wait != Perform {
		return s, nil, s.Why
	}
	s, late := s.disks(o.Job, now)
	if s.PostCopied && o.NoWish != "" { // libvirt did not begin it
		s.PostCopied, s.MayPostCopy, s.NoPostCopy = false, false, o.NoWish
	}
	if s.PostCopied {
		return s, nil, s.Why // an abort would lose the VM
	}
	if s.Aborted != 0 {
		if now-s.Aborted >= int64(s.Limits.AbortGrace) {
			s.Aborted = now // once per grace
			return s, []Action{{Verb: Drop}}, s.Why
		}
		// Asked again: the first may have come before libvirt's job began.
		return s, []Action{{Verb: Abort}}, s.Why
	}
	switch {
	case o.Abort:
		s.Why = schemas.Reason{Code: schemas.ReasonAborted, Detail: "aborted by an operator before switchover"}
	case s.Peer && !o.Lock.OK():
		s.Why = o.Lock
	case late:
		s.Why = schemas.Reason{Code: schemas.ReasonDeadline, Detail: fmt.Sprintf("%.1f GiB of disks were not copied in %s", float64(s.Disks)/(1<<30), s.Limits.DiskTime(s.Disks))}
	case now >= s.Deadline:
		s.Why = schemas.Reason{Code: schemas.ReasonDeadline, Detail: "not switched over by the deadline"}
	default:
		var still bool
		if s, still = s.watch(o.Job, now); still {
			a := Action{Verb: PostCopy}
			if r.check(Act{s, o, a, now}).OK() {
				s.PostCopied, s.Why = true, schemas.Reason{}
				return s, []Action{a}, s.Why
			}
			if s.NoPostCopy != "" {
				s.Why = schemas.Reason{Code: schemas.ReasonPostCopy, Detail: s.Why.Detail + "; and no post-copy: " + s.NoPostCopy}
			}
		}
		if !still {
			if !s.Transfer.widen(now) || s.MaxDowntime == 0 {
				return s, nil, s.Why
			}
			s.Transfer.Step++
			return s, []Action{{Verb: Widen, Downtime: Downtime(s.MaxDowntime, s.Transfer.Step)}}, s.Why
		}
	}
	s.Aborted = now
	return s, []Action{{Verb: Abort}}, s.Why
}

// watch takes in how the transfer gets on, and gives it up when it does not. In the
// switchover nothing is told any more: then the deadline alone counts.
func (s State) watch(j JobStats, now int64) (State, bool) {
	if !j.Active {
		return s, false
	}
	s.Transfer = s.Transfer.Watch(j, now)
	why := s.Transfer.Stalled(now)
	if why.OK() {
		return s, false
	}
	s.Why = why
	return s, true
}

// turn changes the stage where the evidence says so.
func turn(s State, o Observation, now int64) State {
	switch s.Stage {
	case Accepted, Preparing, Performing:
		why := schemas.Reason{}
		if o.Abort {
			why = schemas.Reason{Code: schemas.ReasonAborted, Detail: "aborted by an operator before the transfer"}
		} else if now >= s.Deadline {
			why = schemas.Reason{Code: schemas.ReasonDeadline, Detail: "the deadline passed before the transfer began"}
		}
		if !why.OK() {
			s.Stage, s.Why, s.Since, s.Tries = RollingBack, why, now, 0
		}
	case RollingBack:
		if s.Peer && o.Destination == Running && o.Source.Gone() { // libvirt was quicker
			s.Stage, s.Tries = HandedOver, 0
		}
	case HandedOver:
		if released(s, o) {
			if !s.Peer { // there nothing comes forward by it: an actuator that restarts must not begin to wait anew
				s.Since = now
			}
			s.Stage, s.Tries, s.Finished = RollingBack, 0, false
			if !s.Peer || s.Aborted == 0 { // else it ends as it was aborted for
				s.Why = schemas.Reason{Code: schemas.ReasonRolledBack, Detail: "the destination released the move and has no copy"}
			}
		}
	}
	return s
}

// released: the destination has durably given the epoch up and holds no copy.
func released(s State, o Observation) bool {
	if stray(s, o) {
		return false
	}
	// A resume intent for this epoch or a later one says that the VM has run there since:
	// what is left at the source is old, whatever later epochs were released.
	return o.Peer.Released >= s.Epoch && o.Peer.Resumed < s.Epoch && o.Destination.Gone()
}

// stray: libvirt led, and the destination keeps a definition of the VM, which it had not
// before. Libvirt makes it just before it lets the VM run there: it may have run, and died,
// while Finish3's reply was lost and the source waited. No record tells, as nobody was asked.
func stray(s State, o Observation) bool {
	return s.Peer && s.Stage == HandedOver && o.Destination == ShutOff
}

// hold is reached when the guards let nothing pass, or nothing but looking is left
// and that has lasted too long.
func (r *Rules) hold(s State, o Observation, why schemas.Reason, now int64) (State, []Action, schemas.Reason) {
	if s.Stage == Accepted {
		a := Action{Verb: Report, Result: schemas.ResultRefused, Why: why}
		return take(s, a), []Action{a}, why
	}
	if s.Stage == Preparing || s.Stage == Performing || s.Stage == Performed {
		s.Stage, s.Why, s.Since, s.Tries = RollingBack, why, now, 0
		o.Did = Did{}
		return r.Next(s, o, now)
	}
	if !s.Unknown {
		a := Action{Verb: Report, Result: schemas.ResultUnknown, Why: stuck(s, o, why)}
		return take(s, a), []Action{a}, a.Why
	}
	a := Action{Verb: Observe, After: s.Limits.Hold}
	return take(s, a), []Action{a}, stuck(s, o, why)
}

// stuck says in one reason why nobody can tell how the move ends.
func stuck(s State, o Observation, why schemas.Reason) schemas.Reason {
	switch {
	case o.PostCopy: // before all else: whoever destroyed or resumed one now would lose the VM
		return schemas.Reason{Code: schemas.ReasonUnsafe, Detail: "post-copy was cut off: the destination (" + o.Destination.String() + ") still fetches memory from the source's copy; destroy neither"}
	case o.Source == Running && o.Destination == Running:
		return schemas.Reason{Code: schemas.ReasonTwoRunning, Detail: "both hosts say that the VM runs: frozen, nothing is touched"}
	case o.Destination == Unreachable:
		return schemas.Reason{Code: schemas.ReasonUnreachable, Detail: "the destination does not answer; the source's copy is " + o.Source.String() + " and stays so"}
	case o.Source == Unreachable:
		return schemas.Reason{Code: schemas.ReasonUnreachable, Detail: "the source's libvirt does not answer"}
	case o.Source.Gone() && o.Destination.Gone():
		return schemas.Reason{Code: schemas.ReasonNoneLeft, Detail: "neither host has a live copy"}
	case o.Destination.Gone() && o.Peer.Resumed >= s.Epoch:
		return schemas.Reason{Code: schemas.ReasonNoneLeft, Detail: "the destination was to run the VM and has lost it; the source's copy is " + o.Source.String() + " and stale"}
	case stray(s, o):
		return schemas.Reason{Code: schemas.ReasonUnsafe, Detail: "libvirt led, and the destination keeps a shut-off copy: the VM may have run there, so that its disk is newer than what the source's copy (" + o.Source.String() + ") knows; it is left to a person"}
	case o.Destination == Running && o.Life == NoLife:
		return schemas.Reason{Code: schemas.ReasonNoLifeSign, Detail: "runs at the destination without a sign of life; the source's copy is kept"}
	case !why.OK():
		return why
	}
	return schemas.Reason{Code: schemas.ReasonUnknownMove, Detail: "source " + o.Source.String() + ", destination " + o.Destination.String()}
}

// resolved judges an operator's word: it ends the move unless what is seen now
// speaks against it.
func resolved(s State, o Observation) (Action, bool) {
	if o.Resolve == NotResolved || !s.Unknown {
		return Action{}, false
	}
	here, there := o.Source, o.Destination
	result, where := schemas.ResultFailed, ""
	switch o.Resolve {
	case RunsAtDestination:
		here, there, result = there, here, schemas.ResultSucceeded
	case RunsElsewhere:
		// A paused copy would be left here for anybody to resume: the person's to end first.
		if here == Running || here == Paused || there == Running || there == Paused {
			return Action{}, false
		}
		here, where = Running, "it runs at neither host of the move; "
	}
	if here != Running && here != Unreachable || there == Running {
		return Action{}, false
	}
	return Action{Verb: Report, Result: result, Why: schemas.Reason{
		Code: schemas.ReasonOK, Detail: "resolved by an operator; " + where + "source " + o.Source.String() + ", destination " + o.Destination.String()}}, true
}

// take marks the act as under way.
func take(s State, a Action) State {
	s.Wait = a.Verb
	if a.Verb == Report {
		s.Result = a.Result
		if a.Result != schemas.ResultUnknown {
			s.Final, s.Why = true, a.Why
		}
	}
	return s
}

// pause is none at first; then it grows from 5 ms to the limit while nothing comes
// forward.
func (s State) pause() time.Duration {
	if s.Unknown {
		return s.Limits.Hold
	}
	if s.Tries == 0 {
		return 0
	}
	return min(5*time.Millisecond<<min(s.Tries, 12), s.Limits.Retry)
}

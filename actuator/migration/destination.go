package migration

import (
	"fmt"
	"time"

	"github.com/foreshift/foreshift/schemas"
)

// Record is all that a destination durably knows of one VM. Every field but the
// deadline is the highest epoch for which the statement holds; 0 is none.
type Record struct {
	Fence    uint64 `json:"fence"`    // seen at all; lower ones are refused
	Prepared uint64 `json:"prepared"` // an incoming guest may exist
	Asked    uint64 `json:"asked"`    // Finish was asked for: the source has handed over
	Finished uint64 `json:"finished"` // Finish3 is done: the copy is whole, and paused
	Resumed  uint64 `json:"resumed"`  // resume intent: this host alone may run the VM
	Ran      uint64 `json:"ran"`      // it was seen running afterwards, or gone: the intent is settled
	Released uint64 `json:"released"` // given up: prepare, finish and resume are refused
	Dropped  uint64 `json:"dropped"`  // the copy prepared for it is surely gone
	Deadline int64  `json:"deadline"` // ns: an incoming guest nobody asked to finish is dropped then
}

// litter: a copy that was prepared here, was never to run, and may still be here.
func (d Record) litter() bool { return d.Prepared > d.Dropped && d.Prepared > d.Resumed }

// Seen is the record once the host has looked: it is written down, where it differs, by
// every look and before anything is decided by it, also where what was asked is refused.
//
// Whoever resumed a finished copy, a person too: what the guest has done since is nowhere
// else, so that it counts as this host's intent. So does a VM that a person has started
// where one was only prepared, or had been given up: it is never dropped, should it be
// paused again, and what the source still holds is older than it.
func (d Record) Seen(h Here) Record {
	if h.Copy != Running {
		return d
	}
	if d.Asked > max(d.Resumed, d.Released) { // its own record of Finish may have failed
		d.Resumed = d.Asked
	}
	if d.litter() {
		d.Resumed = d.Prepared
	}
	d.Ran = max(d.Ran, d.Resumed)
	return d
}

// theirs: nobody has asked for Finish yet, and what is here does not come in. So it is
// not the guest that was prepared, which has gone, but one that a person has put there.
func (d Record) theirs(h Here) bool {
	return d.Asked < d.Prepared && !h.Incoming && (h.Copy == Paused || h.Copy == ShutOff)
}

// inVain: Finish was asked for, done or not, no resume intent came of it, the guest is
// gone and so is the connection it came by, and the deadline has passed. This host gives
// up nothing that it has, and promises no more than it would if the source asked for
// Release now: that it prepares, finishes and resumes nothing of the epoch. The source may
// have been told by a person where the VM runs, and would never ask.
func (d Record) inVain(h Here, now int64) bool {
	return d.Asked == d.Prepared && h.Copy == Absent && h.Session != d.Prepared && now >= d.Deadline
}

// Open reports that something of the record may still have to be done or seen.
func (d Record) Open() bool {
	return d.litter() || d.Resumed > max(d.Ran, d.Released) || d.Asked > max(d.Released, d.Ran)
}

// Ask is one request of the source, its signatures already verified.
type Ask struct {
	Op       schemas.Op
	Epoch    uint64
	AfterSeq uint64 // the command's after_seq
	Expires  int64  // ns: of the request
	Command  int64  // ns: the command's own expiry
	Deadline int64  // ns: the command's deadline
	Peer     bool   // prepare: libvirt shall lead
}

// Here is what the destination sees on its own host.
type Here struct {
	Copy     Copy
	Incoming bool           // paused because a transfer comes in, not a whole copy
	Session  uint64         // epoch for which this process holds the connection of Prepare3
	Undone   uint64         // epoch whose Finish3 this process has seen fail, with nothing left of the guest
	Leads    bool           // this host leads a move of the VM: its copy is that move's source
	Lock     schemas.Reason // why the disk lock is not proven, for a peer-to-peer move
}

// StepKind names one thing the destination does to answer.
type StepKind uint8

// The steps. A reply with what is then seen follows the last one.
const (
	Write StepKind = iota // the record, durably
	DoPrepare
	DoFinish
	DoResume
	DoDrop  // destroy and undefine the copy of this epoch
	DoLeave // the files made for its disks are not ours to delete: a person is told of them
)

var stepNames = [...]string{"write", "prepare", "finish", "resume", "drop", "leave"}

func (k StepKind) String() string {
	if int(k) < len(stepNames) {
		return stepNames[k]
	}
	return "invalid"
}

// Step is one of them; Record is what to write. When a step fails the rest is left.
type Step struct {
	Kind   StepKind
	Record Record
}

// Consent is a step of the destination that wants to be done.
type Consent struct {
	Record Record // on disk when the step is done
	Ask    Ask
	Here   Here
	Step   StepKind
	Now    int64
	Limits Limits
}

// Answer decides what a destination does on a request, by the record with what the look
// has shown ([Record.Seen]): the steps in order, or a reason to refuse. Asking the same
// again does nothing twice. The rules are [DefaultRules].
func Answer(d Record, a Ask, h Here, now int64, l Limits) ([]Step, schemas.Reason) {
	return defaultRules.Answer(d, a, h, now, l)
}

// Answer is [Answer] under other rules.
func (r *Rules) Answer(d Record, a Ask, h Here, now int64, l Limits) ([]Step, schemas.Reason) {
	if a.Epoch == 0 {
		return nil, no(schemas.ReasonInvalid, "epoch 0")
	}
	var steps []Step
	write := func(n Record) { d = n; steps = append(steps, Step{Write, n}) }
	do := func(k StepKind) { steps = append(steps, Step{Kind: k}) }
	on := d
	switch e := a.Epoch; a.Op {
	case schemas.OpObserve: // all that a look has shown is written down: see [Record.Seen]
	case schemas.OpPrepare:
		if d.Prepared == e && h.Session == e && d.Released < e {
			break // done already
		}
		n := d
		if d.litter() && d.Prepared < e && h.Copy == Absent {
			n.Dropped = d.Prepared
		}
		if a.Peer { // nothing is made here: the host only gives its word, once its lock is proven
			n.Fence = max(d.Fence, e)
			write(n)
			break
		}
		n.Fence, n.Prepared, n.Deadline = max(d.Fence, e), max(d.Prepared, e), a.Deadline+int64(l.Orphan)
		write(n)
		do(DoPrepare)
	case schemas.OpFinish:
		if d.Finished == e && d.Released < e {
			break
		}
		n := d
		n.Asked = max(d.Asked, e)
		write(n)
		do(DoFinish)
		n.Finished = max(d.Finished, e)
		write(n)
	case schemas.OpResume:
		if d.Resumed == e && h.Copy == Running {
			break
		}
		n := d
		n.Resumed = max(d.Resumed, e)
		write(n)
		do(DoResume)
		n.Ran = max(d.Ran, e)
		write(n)
	case schemas.OpRelease:
		if d.Released < e || d.Resumed >= e { // it is no release if the copy has run since
			n := d
			n.Fence, n.Released = max(d.Fence, e), max(d.Released, e)
			write(n)
		}
		if d.litter() && d.Prepared <= e {
			if h.Copy != Absent && !d.theirs(h) {
				do(DoDrop)
			}
			if h.Copy.Gone() && d.Asked == d.Prepared && !(h.Copy == Absent && h.Undone == d.Prepared) {
				// Finish was done, or may have been and its record failed, and the copy has ended
				// by nobody's word: a person may have let it run while this host wrote nothing
				// down. Then its disk is the newest.
				do(DoLeave)
			}
			n := d
			n.Dropped = d.Prepared
			write(n)
		}
	default:
		return nil, no(schemas.ReasonInvalid, fmt.Sprintf("operation %q is not known", string(a.Op)))
	}
	return r.consent(on, a, h, now, l, steps)
}

// RecheckDrop asks again, with a fresh look, when a copy is about to be destroyed: the
// host may have been stopped since it looked, and somebody may have started the copy.
func (r *Rules) RecheckDrop(d Record, epoch uint64, h Here, now int64) schemas.Reason {
	_, why := r.consent(d, Ask{Op: tending, Epoch: epoch, Expires: now, Command: now, Deadline: now}, h, now, Limits{}, []Step{{Kind: DoDrop}})
	return why
}

// RecheckPrepare asks again, with a fresh look, when a guest is about to be prepared: the
// host may have been stopped since it looked, somebody may have made the VM here
// meanwhile, and the request may have expired.
func (r *Rules) RecheckPrepare(d Record, a Ask, h Here, now int64, l Limits) schemas.Reason {
	_, why := r.consent(d, a, h, now, l, []Step{{Kind: DoPrepare}})
	return why
}

// consent asks the guards about every step, each with the record that will be on
// disk by then. One no refuses all.
func (r *Rules) consent(on Record, a Ask, h Here, now int64, l Limits, steps []Step) ([]Step, schemas.Reason) {
	for _, s := range steps {
		c := Consent{Record: on, Ask: a, Here: h, Step: s.Kind, Now: now, Limits: l}
		if why := ask(r.Destination, c); !why.OK() {
			return nil, why
		}
		if s.Kind == Write {
			on = s.Record
		}
		if s.Kind == DoFinish {
			h.Incoming = false
		}
	}
	return steps, schemas.Reason{}
}

// Tend is the destination's housekeeping of one VM, at a restart and at times, by the
// record with what the look has shown ([Record.Seen]): it carries out a resume intent, and
// drops an incoming guest that nobody asked to finish. The epoch it acts for is returned
// with the steps.
func Tend(d Record, h Here, now int64, l Limits) (epoch uint64, steps []Step) {
	return defaultRules.Tend(d, h, now, l)
}

// Tend is [Tend] under other rules.
func (r *Rules) Tend(d Record, h Here, now int64, l Limits) (epoch uint64, steps []Step) {
	n := d
	switch {
	case h.Copy == Unreachable:
		return 0, nil
	case d.Resumed > d.Ran && d.Resumed > d.Released:
		epoch = d.Resumed
		n.Ran = d.Resumed
		if h.Copy == Paused {
			steps = []Step{{Kind: DoResume}, {Write, n}}
		} else { // it is lost, which its source will see; a copy that comes later is not this one
			steps = []Step{{Write, n}}
		}
	case d.litter() && (d.Prepared <= d.Released || d.Asked < d.Prepared && (now >= d.Deadline || h.Session != d.Prepared) || d.inVain(h, now)):
		// Released, or nobody asked for Finish by the deadline, or the connection that
		// held the incoming guest is gone and libvirt has dropped it; or Finish was asked
		// for in vain.
		epoch = d.Prepared
		if n.Released < epoch {
			n.Released = epoch
			steps = append(steps, Step{Write, n})
		}
		if h.Copy != Absent {
			steps = append(steps, Step{Kind: DoDrop})
		}
		if h.Copy.Gone() && (d.Asked == epoch || now >= d.Deadline) {
			// The transfer was over, or may have been while this host stood still, and the copy
			// has ended by nobody's word: a person may have let it run meanwhile. Then its disk is
			// the newest.
			steps = append(steps, Step{Kind: DoLeave})
		}
		n.Dropped = epoch
		steps = append(steps, Step{Write, n})
	case d.Asked > d.Finished && d.Asked > d.Released && h.Copy == Paused && !h.Incoming:
		epoch = d.Asked
		n.Finished = d.Asked // Finish3 went through, its record did not
		steps = []Step{{Write, n}}
	default:
		return 0, nil
	}
	if out, why := r.consent(d, Ask{Op: tending, Epoch: epoch, Expires: now, Command: now, Deadline: now}, h, now, l, steps); why.OK() {
		return epoch, out
	}
	return 0, nil
}

// tending is the operation of the destination's own housekeeping.
const tending schemas.Op = "tend"

var destinationGuards = []Guard[Consent]{
	// A request that lay about is not acted on.
	{"request-expiry", func(c Consent) schemas.Reason {
		if c.Ask.Op != tending && c.Ask.Op != schemas.OpRelease && c.Now > c.Ask.Expires {
			return no(schemas.ReasonExpired, "the request has expired")
		}
		return schemas.Reason{}
	}},
	// This side checks the command's own expiry and fence with its own eyes.
	{"destination-expiry", func(c Consent) schemas.Reason {
		if c.Ask.Op == schemas.OpPrepare && c.Now > c.Ask.Command+int64(c.Limits.Late) {
			return no(schemas.ReasonExpired, "the command expired "+time.Duration(c.Now-c.Ask.Command).Round(time.Second).String()+" ago")
		}
		return schemas.Reason{}
	}},
	{"destination-fence", func(c Consent) schemas.Reason {
		fence := c.Record.Fence
		if c.Ask.Op != tending && c.Ask.Op != schemas.OpObserve && c.Ask.Op != schemas.OpRelease && c.Ask.Epoch < fence {
			return no(schemas.ReasonEpoch, fmt.Sprintf("epoch %d is below this host's fence %d", c.Ask.Epoch, fence))
		}
		if c.Ask.Op == schemas.OpPrepare && fence != c.Ask.Epoch && c.Ask.AfterSeq < fence {
			return no(schemas.ReasonEpoch, fmt.Sprintf("the command was decided at %d, before this host's fence %d", c.Ask.AfterSeq, fence))
		}
		return schemas.Reason{}
	}},
	// What was released is never prepared, finished or resumed again.
	{"released", func(c Consent) schemas.Reason {
		if c.Step != DoDrop && c.Ask.Op != schemas.OpRelease && c.Ask.Op != schemas.OpObserve && c.Ask.Op != tending && c.Record.Released >= c.Ask.Epoch {
			return no(schemas.ReasonReleased, fmt.Sprintf("epoch %d has been released", c.Record.Released))
		}
		return schemas.Reason{}
	}},
	// A resume intent is never taken back: this host alone may run the VM.
	{"resume-intent", func(c Consent) schemas.Reason {
		if (c.Ask.Op == schemas.OpRelease || c.Step == DoDrop) && c.Record.Resumed >= c.Ask.Epoch {
			return no(schemas.ReasonHandedOver, "this host has a resume intent for the epoch: it alone may run the VM")
		}
		return schemas.Reason{}
	}},
	// An epoch is prepared once: a request for it that comes late finds the move over.
	{"prepared-once", func(c Consent) schemas.Reason {
		if c.Ask.Op == schemas.OpPrepare && c.Step == Write && c.Record.Prepared >= c.Ask.Epoch {
			return no(schemas.ReasonRestarted, "the epoch was prepared before, and its connection is gone")
		}
		return schemas.Reason{}
	}},
	// A guest is prepared only where there is no copy.
	{"nothing-here", func(c Consent) schemas.Reason {
		if c.Step != DoPrepare && !(c.Ask.Op == schemas.OpPrepare && c.Ask.Peer) {
			return schemas.Reason{}
		}
		if c.Here.Copy != Absent {
			return no(schemas.ReasonAlreadyThere, "a copy is here already: "+c.Here.Copy.String())
		}
		return schemas.Reason{}
	}},
	// Libvirt leads only to where a disk lock has been proven.
	{"lock-proven", func(c Consent) schemas.Reason {
		if c.Ask.Op == schemas.OpPrepare && c.Ask.Peer {
			return c.Here.Lock
		}
		return schemas.Reason{}
	}},
	// Finish belongs to the guest prepared for the same epoch, over the same connection.
	{"prepared", func(c Consent) schemas.Reason {
		if c.Step == DoFinish && (c.Record.Prepared != c.Ask.Epoch || c.Here.Session != c.Ask.Epoch) {
			return no(schemas.ReasonConnectionLost, "no incoming guest of this epoch: it was never prepared, or its connection is gone")
		}
		return schemas.Reason{}
	}},
	// Only a whole, paused copy of this epoch is resumed, and the intent is on disk.
	{"finished", func(c Consent) schemas.Reason {
		if c.Ask.Op != schemas.OpResume && c.Step != DoResume {
			return schemas.Reason{}
		}
		if c.Record.Finished != c.Ask.Epoch || c.Here.Incoming || c.Here.Copy.Gone() {
			return no(schemas.ReasonInvalid, "there is no finished copy of this epoch: "+c.Here.Copy.String())
		}
		if c.Step == DoResume && c.Record.Resumed != c.Ask.Epoch {
			return no(schemas.ReasonInvalid, "the resume intent is not on disk")
		}
		return schemas.Reason{}
	}},
	// A running copy is never dropped, whoever started it; nor does its host promise
	// to have released it.
	{"drop-not-running", func(c Consent) schemas.Reason {
		if (c.Ask.Op == schemas.OpRelease || c.Step == DoDrop) && (c.Here.Copy == Running || c.Here.Copy == Unreachable) {
			return no(schemas.ReasonTwoRunning, "this host's copy is "+c.Here.Copy.String()+" without a resume intent of ours: left alone")
		}
		return schemas.Reason{}
	}},
	// Only what was prepared here is dropped, and not what a person has put in its place.
	{"drop-own", func(c Consent) schemas.Reason {
		if c.Step == DoDrop && c.Record.theirs(c.Here) {
			return no(schemas.ReasonUnsafe, "the copy is not the one that was prepared here: left alone")
		}
		return schemas.Reason{}
	}},
	// The copy of a host that leads a move of the VM is that move's source, whatever an
	// older record still wants to drop.
	{"drop-not-source", func(c Consent) schemas.Reason {
		if c.Step == DoDrop && c.Here.Leads {
			return no(schemas.ReasonUnsafe, "this host leads a move of the VM: its copy is the source's")
		}
		return schemas.Reason{}
	}},
}

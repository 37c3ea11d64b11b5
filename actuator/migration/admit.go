package migration

import (
	"fmt"
	"slices"
	"time"

	"github.com/foreshift/foreshift/schemas"
)

// HeartbeatLimit is how old the active placer's last heartbeat may be for a move to
// start.
const HeartbeatLimit = 30 * time.Second

// Beat is one verified heartbeat: its sequence, and when it was stored (by the servers'
// clock) and signed (by the placer's), in ns.
type Beat struct {
	Seq            uint64
	Stored, Signed int64
	Old            bool // it was there before this host began to listen
}

// Pulse is what a host knows of the placer's signs of life; the zero Pulse has heard of
// none. Each counts by the older of its times, for the limit by the host's clock and by
// [Pulse.Silence]: a clock that is slow, or set back, would else keep it fresh.
type Pulse struct {
	At     int64 // ns: time of the newest that counts; 0: none does
	seq    uint64
	stored int64
	ahead  [2]int64         // ns: the servers' clock is ahead of the steady one by at least so much; of late, and before
	since  int64            // ns, steady: when "of late" began
	heard  [heardLast]int64 // ns: when the last ones were signed, in a ring
	count  int              // of all that went in
}

// heardLast is how many heartbeats are known again: those of 85 minutes, and no clock is
// thought to be ahead by more than an hour.
const heardLast = 1024

// HeardFor is from how far back an actuator that starts reads the heartbeats that it may
// have heard before, as old ones: as many as are known again.
const HeardFor = 85 * time.Minute

// aheadFor is how long a heartbeat's witness of the servers' clock counts at least: that
// clock may be set back.
const aheadFor = int64(time.Minute)

// Hear takes in a heartbeat that comes at now by the host's clock, at steady by the one
// that nobody sets. One from the future is no sign of life: it would count later, when
// whoever gave it may long be gone, and hide all that come before. Nor is one that comes
// again: delivered late to a slow clock, what was of the future seems to be of now; and
// somebody may have what a placer signed by a fast clock stored anew, once its time has
// come. Nor one that was there before this host listened: nothing says for how long.
func (p Pulse) Hear(b Beat, now, steady int64) Pulse {
	heard := p.stored != 0
	if heard && b.Seq <= p.seq && b.Stored <= p.stored {
		return p
	}
	p.seq, p.stored = b.Seq, b.Stored
	// Nothing comes before it was stored.
	switch ahead := b.Stored - steady; {
	case !heard:
		p.ahead, p.since = [2]int64{ahead, ahead}, steady
	case steady-p.since >= aheadFor:
		p.ahead, p.since = [2]int64{ahead, p.ahead[0]}, steady
	default:
		p.ahead[0] = max(p.ahead[0], ahead)
	}
	if slices.Contains(p.heard[:min(p.count, heardLast)], b.Signed) {
		return p
	}
	p.heard[p.count%heardLast] = b.Signed
	p.count++
	if b.Old || max(b.Stored, b.Signed)-now > int64(HeartbeatLimit) {
		return p
	}
	p.At = max(p.At, min(b.Stored, b.Signed))
	return p
}

// Silence is how old the newest that counts is at least, in ns, by the steady clock
// alone: from when it was given, as the servers' clock is witnessed by all heartbeats,
// and so no less than since it came.
func (p Pulse) Silence(steady int64) int64 {
	return steady + max(p.ahead[0], p.ahead[1]) - p.At
}

// MaxMessage bounds what a request can carry: domain XML and cookies together, with
// room for base64 and the envelope under the servers' 8 MB.
const MaxMessage = 5 << 20

// Facts is what a host knows when a command reaches it.
type Facts struct {
	Command   *schemas.Command
	Signature schemas.Reason // what the verification said; zero when good
	Seq       uint64         // the command's sequence: its epoch
	Host      schemas.HostID
	Now       int64
	Fence     uint64         // this host's, from disk
	Seen      bool           // the id has been here before
	Heartbeat int64          // ns: time of the newest verified heartbeat, 0 if none
	Silence   int64          // ns since it was given, by a clock that nobody sets
	Paused    bool           // an operator has stopped new moves
	Moving    bool           // this host already moves the VM
	Busy      bool           // this host moves as many VMs as it may
	Peer      bool           // this host moves VMs peer to peer
	Lock      schemas.Reason // then: why its disk lock does not hold
	Source    Copy
	Foreign   bool // a job that is not ours runs on the VM
}

// Admit says whether a command may start: a zero reason, or the first objection.
func Admit(f Facts) schemas.Reason { return defaultRules.Admit(f) }

// Admit is [Admit] under other rules.
func (r *Rules) Admit(f Facts) schemas.Reason { return ask(r.Admission, f) }

// Judged is a command's id as the journal knows it.
type Judged struct {
	Seq uint64          // the sequence under which it was judged
	Why *schemas.Reason // it was refused for this; nil: it was accepted
}

// Fate is what a host does with a command.
type Fate uint8

// The fates.
const (
	Accept Fate = iota // journal it as accepted, start it, acknowledge it
	Refuse             // journal it if it is to be remembered, report why, acknowledge it
	Forget             // it was accepted before: acknowledge it
	Later              // not now: have it delivered again
)

// Ruling is a fate with its particulars.
type Ruling struct {
	Fate     Fate
	Why      schemas.Reason // Refuse
	Remember bool           // Refuse: durably, for it shall never start later
	Spare    bool           // Refuse: the fence stays, for a move of the VM is under way, which a higher fence would end
	After    time.Duration  // Later
}

// Occasion is what a ruling knows beside the facts.
type Occasion struct {
	Judged *Judged // of the command's id; nil: never seen
	Young  bool    // this host's actuator has just started: its acts may not have been read yet
	Ending bool    // the VM's move ends this moment
}

// Rule says what becomes of a command.
func (r *Rules) Rule(f Facts, o Occasion) Ruling {
	if j := o.Judged; j != nil && j.Seq == f.Seq && f.Signature.OK() {
		// The same message again: it was judged, but the acknowledgement was lost.
		if j.Why == nil {
			return Ruling{Fate: Forget}
		}
		return Ruling{Fate: Refuse, Why: *j.Why}
	}
	why := r.Admit(f)
	switch {
	case why.OK():
		return Ruling{Fate: Accept}
	case why.Code == schemas.ReasonHeartbeat && f.Heartbeat == 0 && o.Young:
		return Ruling{Fate: Later, After: 250 * time.Millisecond}
	case why.Code == schemas.ReasonMoving && o.Ending:
		return Ruling{Fate: Later, After: 100 * time.Millisecond}
	}
	c := f.Command
	genuine := f.Signature.OK() && c.Run == "" && c.Source == f.Host
	return Ruling{Fate: Refuse, Why: why, Remember: genuine && why.Code != schemas.ReasonSeen && why.Code != schemas.ReasonEpoch, Spare: f.Moving}
}

var admissionGuards = []Guard[Facts]{
	{"signature", func(f Facts) schemas.Reason { return f.Signature }},
	{"replay", func(f Facts) schemas.Reason {
		if f.Command.Run != "" {
			return no(schemas.ReasonReplay, "the command comes from replay "+f.Command.Run)
		}
		return schemas.Reason{}
	}},
	// I8: what moves a VM names the plan it belongs to, and why.
	{"plan", func(f Facts) schemas.Reason {
		if c := f.Command; c.Plan == "" || c.PlanHash == "" || c.Reason.Code == "" {
			return no(schemas.ReasonInvalid, "the command names no plan, or not why the VM moves")
		}
		return schemas.Reason{}
	}},
	{"host", func(f Facts) schemas.Reason {
		if f.Command.Source != f.Host {
			return no(schemas.ReasonWrongHost, "the command's source is "+string(f.Command.Source)+", this host is "+string(f.Host))
		}
		if f.Command.Destination == f.Command.Source {
			return no(schemas.ReasonSelf, "source and destination are the same host")
		}
		return schemas.Reason{}
	}},
	{"unseen", func(f Facts) schemas.Reason {
		if f.Seen {
			return no(schemas.ReasonSeen, "the command's id has been here before")
		}
		return schemas.Reason{}
	}},
	{"epoch", func(f Facts) schemas.Reason {
		if f.Fence <= f.Command.AfterSeq && f.Command.AfterSeq < f.Seq {
			return schemas.Reason{}
		}
		return no(schemas.ReasonEpoch, fmt.Sprintf("want fence %d <= after_seq %d < sequence %d", f.Fence, f.Command.AfterSeq, f.Seq))
	}},
	{"expiry", func(f Facts) schemas.Reason {
		if late := f.Now - int64(f.Command.Expires); late > 0 {
			return no(schemas.ReasonExpired, "expired "+time.Duration(late).Round(time.Millisecond).String()+" ago")
		}
		if f.Command.Deadline != 0 && f.Now >= int64(f.Command.Deadline) {
			return no(schemas.ReasonTooLate, "the move's deadline has passed")
		}
		return schemas.Reason{}
	}},
	{"paused", func(f Facts) schemas.Reason {
		if f.Paused {
			return no(schemas.ReasonPaused, "an operator has paused new moves")
		}
		return schemas.Reason{}
	}},
	{"heartbeat", func(f Facts) schemas.Reason {
		if age := f.Now - f.Heartbeat; f.Heartbeat == 0 || max(age, -age, f.Silence) > int64(HeartbeatLimit) {
			return no(schemas.ReasonHeartbeat, "no fresh heartbeat of the control plane")
		}
		return schemas.Reason{}
	}},
	{"moving", func(f Facts) schemas.Reason {
		if f.Moving {
			return no(schemas.ReasonMoving, "this host already moves the VM")
		}
		return schemas.Reason{}
	}},
	{"busy", func(f Facts) schemas.Reason {
		if f.Busy {
			return no(schemas.ReasonBudgetHost, "this host moves as many VMs as it may")
		}
		return schemas.Reason{}
	}},
	{"lock", func(f Facts) schemas.Reason {
		if f.Peer {
			return f.Lock
		}
		return schemas.Reason{}
	}},
	{"running-here", func(f Facts) schemas.Reason {
		switch f.Source {
		case Running:
			return schemas.Reason{}
		case Unreachable:
			return no(schemas.ReasonLibvirt, "this host's libvirt does not answer")
		case Paused:
			return no(schemas.ReasonNotRunning, "the VM is paused")
		}
		return no(schemas.ReasonNotHere, "the VM does not run here: "+f.Source.String())
	}},
	{"foreign-job", func(f Facts) schemas.Reason {
		if f.Foreign {
			return no(schemas.ReasonForeignJob, "a job that is not ours runs on the VM")
		}
		return schemas.Reason{}
	}},
}

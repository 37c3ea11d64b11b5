package migration

import (
	"time"

	"github.com/foreshift/foreshift/schemas"
)

// Copy is the state of one host's copy of a VM, as far as it is known.
type Copy uint8

// The states of a copy. Unreachable says nothing about the VM.
const (
	Unreachable Copy = iota
	Absent
	ShutOff
	Paused
	Running
)

var copyNames = [...]string{"unreachable", "absent", "shut-off", "paused", "running"}

func (c Copy) String() string {
	if int(c) < len(copyNames) {
		return copyNames[c]
	}
	return "invalid"
}

// ParseCopy reads what String writes; anything else is Unreachable and false.
func ParseCopy(s string) (Copy, bool) {
	for i, n := range copyNames {
		if n == s {
			return Copy(i), true
		}
	}
	return Unreachable, false
}

// Gone reports that the host surely has no live copy.
func (c Copy) Gone() bool { return c == Absent || c == ShutOff }

// JobStats is the migration job at the source. The dirty rate is libvirt's pages
// per second times the page size; it is 0 in the first round.
type JobStats struct {
	Active    bool
	Round     int
	Total     schemas.Bytes
	Processed schemas.Bytes
	Remaining schemas.Bytes
	Disk      bool // disks are being copied, memory has not begun
	Speed     schemas.BytesPerSecond
	DirtyRate schemas.BytesPerSecond
	Downtime  schemas.Millis // expected while running, real when completed
	Elapsed   time.Duration
}

// LifeSign is what showed that the guest lives: never that libvirt returned OK.
type LifeSign string

// The signs of life, from none to the strongest.
const (
	NoLife      LifeSign = ""
	LifeSteady  LifeSign = "steady"  // QEMU has said "running" all of a while
	LifeCPU     LifeSign = "cpu"     // its CPU time advances
	LifeBalloon LifeSign = "balloon" // its balloon driver has reported anew
)

// Peer is what the destination's reply told of its journal.
type Peer struct {
	Fence    uint64 // highest epoch it has durably seen for the VM
	Released uint64 // highest epoch it has durably released
	Resumed  uint64 // highest epoch with a durable resume intent
	Asked    int64  // ns: when the request was sent that this answers
}

// How an act ended. Unknown means that its effect may or may not have happened: a
// time-out, a lost connection.
type How uint8

// The ways an act ends.
const (
	Done How = iota
	Refused
	Unknown
)

// Did is the act that has just ended.
type Did struct {
	Verb Verb
	How  How
	Why  schemas.Reason
}

// Observation is everything Next may know.
type Observation struct {
	Source      Copy
	Foreign     bool // the source's pause is not the migration's: a person paused it
	Destination Copy
	Job         JobStats
	Disks       schemas.Bytes // that Begin has found to go along

	Lock     schemas.Reason // peer to peer: what has become of either host's disk lock; zero while it holds
	PostCopy bool           // the source's copy is paused with memory that the other still fetches
	Wish     bool           // the VM's owner wants post-copy when the transfer does not converge
	NoWish   string         // why it is not granted, empty when it is

	Fence   uint64 // this host's fence for the VM, read from disk
	Life    LifeSign
	Peer    Peer
	Did     Did
	Abort   bool    // an operator asks for it
	Resolve Resolve // an operator's word on where the VM runs
}

// Resolve is an operator's word that ends an UNKNOWN.
type Resolve uint8

// The words.
const (
	NotResolved Resolve = iota
	RunsAtSource
	RunsAtDestination
	RunsElsewhere // at neither host of the move: it has moved on, or was started there
)

// Verb names an act of the source's side.
type Verb uint8

// The acts. Those marked "asks" are requests to the destination's actuator.
const (
	None     Verb = iota
	Observe       // look at both hosts (asks the destination)
	Begin         // Begin3 at the source
	Prepare       // asks for Prepare3
	Perform       // Perform3 at the source: the transfer
	HandOver      // write "handed over" durably
	Finish        // asks for Finish3
	Resume        // asks the destination to run the VM
	Confirm       // Confirm3(cancelled=0): the source's copy goes, on Begin's connection
	Destroy       // destroy and undefine the source's copy, by the journal
	TakeBack      // resume the source's copy
	Release       // asks the destination to give the epoch up for good
	Abort         // end libvirt's job before switchover
	Drop          // close the source's connection: Perform does not come back
	Widen         // raise the downtime that the transfer may end with
	PostCopy      // let the destination run and fetch the rest (peer to peer only)
	Report        // publish the outcome durably
)

var verbNames = [...]string{"none", "observe", "begin", "prepare", "perform", "hand-over", "finish", "resume",
	"confirm", "destroy", "take-back", "release", "abort", "drop", "widen", "post-copy", "report"}

func (v Verb) String() string {
	if int(v) < len(verbNames) {
		return verbNames[v]
	}
	return "invalid"
}

// Asks reports whether the act is a request to the destination.
func (v Verb) Asks() bool {
	return v == Observe || v == Prepare || v == Finish || v == Resume || v == Release
}

// Action is one act to do now, or after a pause.
type Action struct {
	Verb   Verb
	After  time.Duration  // wait so long first; an event of the domain may cut it short
	Result schemas.Result // Report
	Why    schemas.Reason // Report

	Downtime schemas.Millis // Widen
}

// Stage is how far the move has come.
type Stage uint8

// The stages. Accepted, HandedOver and Ended are durable: see [Mark].
const (
	Accepted Stage = iota
	Preparing
	Performing
	Performed
	HandedOver
	RollingBack
	Ended
)

var stageNames = [...]string{"accepted", "preparing", "performing", "performed", "handed-over", "rolling-back", "ended"}

func (s Stage) String() string {
	if int(s) < len(stageNames) {
		return stageNames[s]
	}
	return "invalid"
}

// Mark is what the source's journal says of a move: the last one written counts.
type Mark string

// The marks.
const (
	MarkAccepted Mark = "accepted"
	MarkHanded   Mark = "handed-over"
	MarkEnded    Mark = "ended"
)

// State is one move as the source knows it. It is a value; only Next makes new ones.
type State struct {
	Epoch    uint64
	Stage    Stage
	Wait     Verb  // the act under way
	Since    int64 // ns: when the move last came forward
	Deadline int64 // ns: aborted when not switched over by then
	Bound    bool  // this process holds the connection of Begin3
	Open     bool  // Begin3 started a job at the source that nobody has ended
	Finished bool  // the destination has said that Finish is done
	Declined bool  // the destination refused Finish or Resume, without a resume intent
	Lived    bool  // resumed at the destination; its life sign is awaited since Since
	Unknown  bool  // UNKNOWN has been reported
	Aborted  int64 // ns: when Abort was done, 0 if not
	Tries    int   // acts and looks since the move last came forward
	Rested   bool  // the last of them was a look: what is seen is fresh
	Why      schemas.Reason
	Result   schemas.Result // set with Ended
	Final    bool           // Result and Why are proven: from here on they are only to be told

	Disks       schemas.Bytes  // that go along; known once Begin is done
	Peer        bool           // libvirt leads, peer to peer, under a proven disk lock
	MayPostCopy bool           // the owner lets it, and nothing speaks against it
	NoPostCopy  string         // the owner lets it, and this speaks against it
	PostCopied  bool           // it has begun: from here on neither copy is whole
	Memory      time.Duration  // what is left to memory of the deadline once they are there; 0 from then on
	MaxDowntime schemas.Millis // of the command; 0: libvirt's own
	Transfer    Convergence    // while Perform is under way
	Limits      Limits
}

// Limits are the deadlines of a move. All are real time.
type Limits struct {
	AbortGrace time.Duration // Perform must come back so long after Abort; else Drop
	Answer     time.Duration // without progress for so long the move is UNKNOWN
	Life       time.Duration // the same for a life sign
	Retry      time.Duration // longest pause between looks
	Hold       time.Duration // pause between looks once UNKNOWN
	Fresh      time.Duration // "running now" is no older than this
	Orphan     time.Duration // an incoming guest is dropped so long after the deadline
	Late       time.Duration // a destination prepares so long after the command's expiry
	DiskGiB    time.Duration // what each GiB of disks that go along adds to the deadline
}

// DiskTime is how long disks may take that go along: the deadline is so much later,
// and memory gets no more of it than it had without them.
func (l Limits) DiskTime(size schemas.Bytes) time.Duration {
	if size <= 0 {
		return 0
	}
	return leastDiskTime + time.Duration(float64(size)/(1<<30)*float64(l.DiskGiB))
}

const leastDiskTime = 10 * time.Second

// DefaultLimits are the limits in force unless configured otherwise.
func DefaultLimits() Limits {
	return Limits{
		AbortGrace: 20 * time.Second,
		Answer:     30 * time.Second,
		Life:       30 * time.Second,
		Retry:      500 * time.Millisecond,
		Hold:       5 * time.Second,
		Fresh:      3 * time.Second,
		Orphan:     30 * time.Second,
		Late:       30 * time.Second,
		DiskGiB:    150 * time.Second,
	}
}

// Start is a move that has been admitted and journalled but has done nothing yet.
func Start(epoch uint64, deadline, now int64, l Limits) State {
	return State{Epoch: epoch, Deadline: deadline, Since: now, Limits: l}
}

// Recover is a move found in the journal after a restart: its last mark, when that
// was written, the move's deadline, and whether UNKNOWN has been reported. The
// connection is gone, so that Confirm3 is out of the question. (A peer-to-peer move
// goes on without us; set Peer in what Recover gives.) What was not handed
// over is rolled back; what was handed over goes where the evidence points. The
// clock of the journal goes on, so that an actuator that restarts again and again
// cannot put off saying that nobody knows.
func Recover(m Mark, epoch uint64, unknown bool, written, deadline, now int64, l Limits) State {
	s := State{Epoch: epoch, Deadline: deadline, Unknown: unknown, Limits: l}
	switch m {
	case MarkHanded:
		s.Stage, s.Since = HandedOver, min(written, now)
	case MarkEnded:
		s.Stage = Ended
	default:
		s.Stage, s.Since = RollingBack, min(max(written, deadline), now)
		s.Why = schemas.Reason{Code: schemas.ReasonRestarted, Detail: "the source's actuator restarted before the VM was handed over"}
	}
	return s
}

// Decide is the move once its outcome was proven and written down: it is only to be told.
// What is seen afterwards is of what came later, as when the VM has moved on.
func (s State) Decide(r schemas.Result, why schemas.Reason) State {
	s.Final, s.Result, s.Why = true, r, why
	return s
}

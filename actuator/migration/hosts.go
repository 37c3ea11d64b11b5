package migration

import (
	"errors"

	"github.com/foreshift/foreshift/schemas"
)

// ErrUnclear marks an error after which nobody knows whether the call took effect:
// a time-out, a lost connection. It never says anything about the VM.
var ErrUnclear = errors.New("the call's result is unknown")

// HowOf classifies the error of an act. A context that ended is as unclear as a
// lost connection.
func HowOf(err error) How {
	switch {
	case err == nil:
		return Done
	case errors.Is(err, ErrUnclear):
		return Unknown
	}
	return Refused
}

// Seen is what one host says of its copy now.
type Seen struct {
	Copy     Copy
	Incoming bool   // paused because a transfer comes in
	Foreign  bool   // paused, but not by a migration
	Job      bool   // a job runs on it
	PostCopy bool   // paused, and the other copy still fetches memory from it
	CPU      uint64 // ns of CPU time since its QEMU began; 0 not told
	Balloon  uint64 // when the balloon driver last reported, s; 0 not told
}

// Ticket names the move a request belongs to, with its authority.
type Ticket struct {
	Command *schemas.Command
	Epoch   uint64
	Order   schemas.Signed
	Lead    *schemas.PeerLead // the source's mode: libvirt shall lead; nil in a handover
}

// VM is the VM that moves.
func (t Ticket) VM() schemas.VMID { return t.Command.VM }

// Offer is what Begin3 gives and Prepare3 takes.
type Offer struct {
	XML    string
	Cookie []byte
	Disks  []schemas.DiskCopy // on local storage: copied along
	Peer   *schemas.PeerLead  // libvirt itself shall lead; nil in a handover

	WantsPostCopy bool   // its owner has labelled the VM so
	NoPostCopy    string // why it may not all the same, as far as the source knows
}

// Copied is how much of disks goes along.
func (o *Offer) Copied() (sum schemas.Bytes) {
	for i := range o.Disks {
		sum += o.Disks[i].Capacity
	}
	return sum
}

// Reply is what a destination answers. With an error of class [ErrUnclear] it is
// empty; with another it still tells what was seen.
type Reply struct {
	Seen
	Life    LifeSign
	Peer    Peer
	Cookie  []byte         // of Prepare3 or Finish3
	URI     string         // of Prepare3: where the source's QEMU connects
	PeerURI string         // peer to peer: where the source's libvirt connects
	Lock    schemas.Reason // peer to peer: why the disk lock does not hold any more

	NoPostCopy string         // peer to peer: why the move may not use post-copy
	Downtime   schemas.Millis // as libvirt measured it; 0 not told
	Volume     schemas.Bytes  // as libvirt measured it; 0 not told
	Why        schemas.Reason // why not, when it refused
}

// Hear takes a destination's answer to a request into what is known. An unclear
// result says nothing but that nobody answered; a life sign once seen is a fact of
// the move.
func (o Observation) Hear(v Verb, r Reply, err error) Observation {
	o.Did = Did{Verb: v, How: HowOf(err), Why: ReasonOf(err)}
	if o.Did.How == Unknown {
		o.Destination = Unreachable
		return o
	}
	o.Destination, o.Peer = r.Copy, r.Peer
	switch {
	case r.Copy != Running:
		o.Life = NoLife
	case r.Life != NoLife:
		o.Life = r.Life
	}
	return o
}

// Refusal is a destination's or a host's typed no.
type Refusal struct{ Why schemas.Reason }

func (r *Refusal) Error() string { return r.Why.String() }

// ReasonOf makes a typed reason of an act's error.
func ReasonOf(err error) schemas.Reason {
	var r *Refusal
	var t interface{ Reason() schemas.Reason }
	switch {
	case err == nil:
		return schemas.Reason{}
	case errors.As(err, &r):
		return r.Why
	case errors.As(err, &t):
		return t.Reason()
	case errors.Is(err, ErrUnclear):
		return schemas.Reason{Code: schemas.ReasonUnreachable, Detail: err.Error()}
	}
	return schemas.Reason{Code: schemas.ReasonLibvirt, Detail: err.Error()}
}

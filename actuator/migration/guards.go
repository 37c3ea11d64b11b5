package migration

import (
	"fmt"

	"github.com/foreshift/foreshift/schemas"
)

// Guard is one rule that may forbid. Check answers with the reason why not, or with
// a zero reason. T is what the rule looks at.
type Guard[T any] struct {
	Name  string
	Check func(T) schemas.Reason
}

// Act is an act of the source's side that wants to be done.
type Act struct {
	State  State
	Seen   Observation
	Action Action
	Now    int64
}

// Rules are all guards of a move, in the order in which they are asked.
type Rules struct {
	Admission   []Guard[Facts]   // may this command start?
	Source      []Guard[Act]     // may the source do this now?
	Destination []Guard[Consent] // may the destination do this now?
}

var defaultRules = &Rules{Admission: admissionGuards, Source: sourceGuards, Destination: destinationGuards}

// DefaultRules are the rules in force: every guard.
func DefaultRules() *Rules { return defaultRules }

// Names lists the guards, admission first.
func (r *Rules) Names() []string {
	var names []string
	for _, g := range r.Admission {
		names = append(names, g.Name)
	}
	for _, g := range r.Source {
		names = append(names, g.Name)
	}
	for _, g := range r.Destination {
		names = append(names, g.Name)
	}
	return names
}

// Without gives the rules less the named one: for tests and simulations that show
// what a rule is good for. Nothing that runs on hosts calls it.
func (r *Rules) Without(name string) (*Rules, error) {
	found := false
	out := &Rules{
		Admission:   without(r.Admission, name, &found),
		Source:      without(r.Source, name, &found),
		Destination: without(r.Destination, name, &found),
	}
	if !found {
		return nil, fmt.Errorf("guard %q: there is none of that name", name)
	}
	return out, nil
}

func without[T any](gs []Guard[T], name string, found *bool) []Guard[T] {
	out := make([]Guard[T], 0, len(gs))
	for _, g := range gs {
		if g.Name == name {
			*found = true
			continue
		}
		out = append(out, g)
	}
	return out
}

func ask[T any](gs []Guard[T], v T) schemas.Reason {
	for i := range gs {
		if why := gs[i].Check(v); !why.OK() {
			return why
		}
	}
	return schemas.Reason{}
}

func (r *Rules) check(a Act) schemas.Reason { return ask(r.Source, a) }

func no(code schemas.ReasonCode, detail string) schemas.Reason {
	return schemas.Reason{Code: code, Detail: detail}
}

var sourceGuards = []Guard[Act]{
	// The epoch is checked again when acting, against what is on disk.
	{"source-fence", func(a Act) schemas.Reason {
		if a.Action.Verb == Begin && a.Seen.Fence != a.State.Epoch {
			return no(schemas.ReasonEpoch, fmt.Sprintf("this host's fence is %d, the move's epoch %d", a.Seen.Fence, a.State.Epoch))
		}
		return schemas.Reason{}
	}},
	// A move begins only where both hosts were seen, and are as the command says.
	{"begin-seen", func(a Act) schemas.Reason {
		if a.Action.Verb != Begin {
			return schemas.Reason{}
		}
		switch o := a.Seen; {
		case o.Source != Running:
			return no(schemas.ReasonNotRunning, "the source's copy is "+o.Source.String())
		case o.Job.Active:
			return no(schemas.ReasonForeignJob, "a job that is not ours runs on the VM")
		case o.Destination == Unreachable:
			return no(schemas.ReasonUnreachable, "the destination's actuator does not answer")
		case o.Destination != Absent:
			return no(schemas.ReasonAlreadyThere, "the destination already has a copy: "+o.Destination.String())
		}
		return schemas.Reason{}
	}},
	// Nothing past the transfer happens while the source could run the VM, nor once it may
	// have run it since: then the destination's copy is the older.
	{"source-still", func(a Act) schemas.Reason {
		switch a.Action.Verb {
		case HandOver, Finish, Resume, Confirm, Destroy:
			if a.State.Peer && a.Action.Verb == HandOver {
				break // there libvirt stops it, after this
			}
			if a.Seen.Source == Running || a.Seen.Source == Unreachable {
				return no(schemas.ReasonUnsafe, "the source's copy is "+a.Seen.Source.String())
			}
			if v := a.Action.Verb; a.Seen.Source == Paused && a.Seen.Foreign && (v == HandOver || v == Finish || v == Resume) {
				return no(schemas.ReasonUnsafe, "the source's copy was paused by somebody, not by its transfer: it may have run since")
			}
		}
		return schemas.Reason{}
	}},
	// Finish and Resume are asked only after "handed over" is on disk.
	{"handed-over-durable", func(a Act) schemas.Reason {
		if (a.Action.Verb == Finish || a.Action.Verb == Resume) && a.State.Stage != HandedOver {
			return no(schemas.ReasonHandedOver, "the source has not durably handed the VM over")
		}
		return schemas.Reason{}
	}},
	// The source takes the VM back only once the destination can never run it.
	{"released-before-take-back", func(a Act) schemas.Reason {
		if a.Action.Verb == TakeBack && a.State.Peer {
			// Libvirt would have taken it back by itself, had the other never run.
			return no(schemas.ReasonNoneLeft, "libvirt led the move: the destination may have run the VM, then the source's copy is stale")
		}
		if a.Action.Verb == TakeBack && !released(a.State, a.Seen) {
			return no(schemas.ReasonHandedOver, fmt.Sprintf("the destination has not released epoch %d, or its copy is not gone (%s)", a.State.Epoch, a.Seen.Destination))
		}
		return schemas.Reason{}
	}},
	// A copy is destroyed only while the other is seen running, now.
	{"other-running", func(a Act) schemas.Reason {
		if v := a.Action.Verb; v != Confirm && v != Destroy {
			return schemas.Reason{}
		}
		if a.Seen.Destination != Running || !fresh(a.State, a.Seen, a.Now) {
			return no(schemas.ReasonUnsafe, "the destination's copy is not seen running now: "+a.Seen.Destination.String())
		}
		return schemas.Reason{}
	}},
	// ... and shows signs of life.
	{"life-sign", func(a Act) schemas.Reason {
		v := a.Action.Verb
		success := v == Report && a.Action.Result == schemas.ResultSucceeded
		if (v == Confirm || v == Destroy || success) && a.Seen.Life == NoLife {
			return no(schemas.ReasonNoLifeSign, "the guest has not shown that it lives")
		}
		return schemas.Reason{}
	}},
	// The destination is asked to give its copy up only while the source has one, or
	// while it never was handed over and the destination's is therefore not whole.
	{"own-copy", func(a Act) schemas.Reason {
		if a.Action.Verb == Release && a.State.Stage == HandedOver && a.Seen.Source != Paused && a.Seen.Source != Running {
			return no(schemas.ReasonUnsafe, "the source has no copy left to fall back on: "+a.Seen.Source.String())
		}
		return schemas.Reason{}
	}},
	// Libvirt leads a transfer only while both hosts' disk locks hold: it starts the
	// source again when it does not hear of the destination.
	{"peer-lock", func(a Act) schemas.Reason {
		if v := a.Action.Verb; a.State.Peer && (v == HandOver || v == Perform || v == PostCopy) && !a.Seen.Lock.OK() {
			return a.Seen.Lock
		}
		return schemas.Reason{}
	}},
	// Post-copy leaves no whole copy for a while: only where libvirt leads, the VM's
	// owner wants it, and the link works.
	{"post-copy", func(a Act) schemas.Reason {
		switch {
		case a.Action.Verb != PostCopy:
		case !a.State.Peer:
			return no(schemas.ReasonPostCopy, "libvirt refuses post-copy for a paused handover")
		case !a.State.MayPostCopy:
			return no(schemas.ReasonPostCopy, "the VM's owner has not allowed it, or the move may not use it")
		case !a.State.Transfer.Moving(a.Now):
			return no(schemas.ReasonPostCopy, "the link does not carry the transfer at this time")
		}
		return schemas.Reason{}
	}},
	// While the destination still fetches memory from the source, neither may go.
	{"fetched", func(a Act) schemas.Reason {
		v := a.Action.Verb
		if (v == Confirm || v == Destroy || v == TakeBack || v == Report && a.Action.Result != schemas.ResultUnknown) && a.Seen.PostCopy {
			return no(schemas.ReasonUnsafe, "the destination still fetches memory from the source's copy")
		}
		return schemas.Reason{}
	}},
	// An outcome needs both hosts: success and failure are both seen, never assumed.
	{"both-hosts", func(a Act) schemas.Reason {
		if a.Action.Verb != Report {
			return schemas.Reason{}
		}
		o, current := a.Seen, a.Seen.Peer.Asked >= a.State.Since && a.Seen.Peer.Asked <= a.Now
		switch a.Action.Result {
		case schemas.ResultSucceeded:
			if o.Source != Absent || o.Destination != Running || !current {
				return no(schemas.ReasonUnknownMove, "not both hosts have been seen since the move's last step")
			}
		case schemas.ResultFailed:
			if o.Source == Unreachable || o.Job.Active || !released(a.State, o) || !current {
				return no(schemas.ReasonUnknownMove, "the destination has not been seen to have released the move")
			}
			if o.Source == Paused && !o.Foreign {
				return no(schemas.ReasonUnknownMove, "the source's copy does not run again yet")
			}
		}
		return schemas.Reason{}
	}},
}

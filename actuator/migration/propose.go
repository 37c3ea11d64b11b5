package migration

import "github.com/foreshift/foreshift/schemas"

// propose lists what would bring the move forward, the boldest first. It is naive
// on purpose: what may not be done is for the guards to say. Only looks wait: an act
// that waited would be done on what was seen before.
func propose(s State, o Observation, to []Action) []Action {
	look := Action{Verb: Observe, After: s.pause()}
	if again := s.Tries > 0 && !s.Rested; again && (s.Stage == HandedOver || s.Stage == RollingBack) {
		return append(to, look)
	}
	switch s.Stage {
	case Accepted:
		return append(to, Action{Verb: Begin})
	case Preparing:
		return append(to, Action{Verb: Prepare, After: s.pause()})
	case Performing:
		if s.Peer && o.Destination == Unreachable {
			return append(to, look) // it does not say whether its disk lock still holds
		}
		return append(to, Action{Verb: Perform})
	case Performed:
		if o.Destination == Paused && !s.Peer {
			to = append(to, s.forward())
		}
		return append(to, Action{Verb: HandOver})
	case RollingBack:
		to = proposeBack(s, o, to)
		if !released(s, o) { // once is enough: what is left is to look
			to = append(to, Action{Verb: Release})
		}
		return append(to, look)
	}
	// Handed over: forward as long as the destination can.
	switch o.Destination {
	case Paused:
		if s.Peer {
			break // libvirt is at it
		}
		ask, back := s.forward(), Action{Verb: Release}
		switch {
		case s.Declined: // it said no, and has no right to run the VM: back, then
			to = append(to, back, ask)
		case o.Source == Running || o.Source == Paused && o.Foreign:
			to = append(to, ask, back)
		default:
			to = append(to, ask)
		}
	case Absent, ShutOff:
		if s.Peer && (o.Job.Active || s.Tries < leastTries) {
			break // it may just begin, or be at it still
		}
		if to = append(to, Action{Verb: TakeBack}); o.Peer.Released < s.Epoch { // once is enough
			to = append(to, Action{Verb: Release})
		}
	case Unreachable:
		if s.Lived {
			to = append(to, s.end())
		} else {
			to = append(to, Action{Verb: TakeBack})
		}
	case Running:
		if o.Source == Absent {
			to = append(to, Action{Verb: Report, Result: schemas.ResultSucceeded, Why: schemas.Reason{Code: schemas.ReasonOK}})
		} else {
			to = append(to, s.end())
		}
	}
	return append(to, look)
}

// forward is what the destination is asked for next.
func (s State) forward() Action {
	if s.Finished {
		return Action{Verb: Resume}
	}
	return Action{Verb: Finish}
}

// end is how the source's copy ends: by Confirm3 over Begin's connection, by the
// journal without it.
func (s State) end() Action {
	if s.Bound {
		return Action{Verb: Confirm}
	}
	return Action{Verb: Destroy}
}

func proposeBack(s State, o Observation, to []Action) []Action {
	switch {
	case o.Source == Paused && !o.Foreign:
		return append(to, Action{Verb: TakeBack})
	case o.Source == Unreachable:
		return to
	case s.Open && o.Source == Running:
		return append(to, Action{Verb: Abort})
	}
	why := s.Why
	if o.Source.Gone() {
		why = schemas.Reason{Code: schemas.ReasonNotRunning, Detail: "the VM ended at its source before it was handed over"}
	}
	return append(to, Action{Verb: Report, Result: schemas.ResultFailed, Why: why})
}

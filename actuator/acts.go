package actuator

import (
	"github.com/foreshift/foreshift/actuator/migration"
	"github.com/foreshift/foreshift/schemas"
	"github.com/foreshift/foreshift/streams"
)

// actSubjects are the acts of operators that an actuator heeds.
var actSubjects = []string{
	streams.SubjectAct(schemas.ActPause), streams.SubjectAct(schemas.ActResume), streams.SubjectAct(schemas.ActAbort), streams.SubjectAct(schemas.ActResolve),
}

// acts is what the operators' words and the placer's heartbeat add up to.
type acts struct {
	pulse    migration.Pulse
	switched uint64 // sequence of the last pause or resume
	paused   bool
}

// act folds one verified act. The bus has checked its signature.
func (a *Actuator) act(e streams.Event) {
	act, ok := e.Msg.(*schemas.Act)
	if !ok {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	switch act.Act {
	case schemas.ActPause, schemas.ActResume:
		if e.Seq > a.acts.switched {
			a.acts.switched, a.acts.paused = e.Seq, act.Act == schemas.ActPause
			a.log.Info("new moves", "paused", a.acts.paused, "by", act.By, "why", act.Why)
		}
	case schemas.ActAbort, schemas.ActResolve:
		for _, m := range a.moves {
			if m.meant(act) {
				a.tell(m, act)
			}
		}
	}
}

// beat takes in one verified heartbeat; old ones were there before this host listened.
func (a *Actuator) beat(e streams.Event, old bool) {
	act, ok := e.Msg.(*schemas.Act)
	if !ok || act.Act != schemas.ActHeartbeat {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.acts.pulse = a.acts.pulse.Hear(migration.Beat{Seq: e.Seq, Stored: e.Time, Signed: int64(act.Time), Old: old}, a.now(), a.steady())
}

// meant reports that the act speaks of this move and not of one before it.
func (m *move) meant(act *schemas.Act) bool {
	if act.Command != "" {
		return act.Command == m.id
	}
	return act.VM == m.vm && act.Time >= m.started
}

func (a *Actuator) tell(m *move, act *schemas.Act) {
	a.logOf(m.id, m.vm).Info("operator's word on a move", "act", act.Act, "by", act.By, "why", act.Why)
	if act.Act == schemas.ActAbort {
		select {
		case <-m.abort:
		default:
			close(m.abort)
		}
		return
	}
	where := migration.RunsElsewhere
	switch act.RunsAt {
	case "":
		return // says nothing
	case a.cfg.Host:
		where = migration.RunsAtSource
	case m.to:
		where = migration.RunsAtDestination
	}
	select {
	case <-m.resolve: // the later word counts
	default:
	}
	m.resolve <- where // under the lock: nobody else puts one in
}

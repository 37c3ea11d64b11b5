package actuator

import (
	"context"
	"errors"

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
	pulse   migration.Pulse
	pausing migration.Pausing
}

// pausingOf is what an event says of new moves.
func pausingOf(e streams.Event) migration.Pausing {
	act, _ := e.Msg.(*schemas.Act)
	return migration.Pausing{Seq: e.Seq, Stored: e.Time, Paused: act != nil && act.Act == schemas.ActPause}
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
		a.switchTo(a.acts.pausing.Hear(pausingOf(e)), act)
	case schemas.ActAbort, schemas.ActResolve:
		for _, m := range a.moves {
			if m.meant(act) {
				a.tell(m, act)
			}
		}
	}
}

// switchTo pauses new moves, or lets them go on, by an operator's word.
func (a *Actuator) switchTo(p migration.Pausing, act *schemas.Act) {
	if p == a.acts.pausing {
		return
	}
	a.acts.pausing = p
	a.log.Info("new moves", "paused", p.Paused, "by", act.By, "why", act.Why)
}

// askPaused asks for the operators' last word on new moves at times: see
// [migration.Pausing.Anew]. Without an answer what has been heard stays in force, and
// without heartbeats nothing starts.
func (a *Actuator) askPaused(ctx context.Context) {
	var last streams.Event
	var err error
	for _, kind := range []schemas.ActKind{schemas.ActPause, schemas.ActResume} {
		e, failed := a.bus.LastOf(ctx, streams.Acts, streams.SubjectAct(kind))
		switch {
		case errors.Is(failed, streams.ErrNotFound):
		case failed != nil:
			err = errors.Join(err, failed)
		case e.Seq > last.Seq:
			last = e
		}
	}
	act, ok := last.Msg.(*schemas.Act)
	switch {
	case ctx.Err() != nil:
	case err != nil:
		a.log.Warn("not learnt anew whether new moves are paused; what was heard stays in force", "err", err)
	case ok:
		a.mu.Lock()
		a.switchTo(a.acts.pausing.Anew(pausingOf(last)), act)
		a.mu.Unlock()
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

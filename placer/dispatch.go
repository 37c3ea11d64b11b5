package placer

import (
	"time"

	"github.com/foreshift/foreshift/placer/plan"
	"github.com/foreshift/foreshift/placer/policy"
	"github.com/foreshift/foreshift/schemas"
	"github.com/foreshift/foreshift/streams"
)

// dispatch checks every due action again on a fresh state, makes commands of those
// that pass, publishes the plan they belong to before them, and keeps the rest for
// the next look. With quiet, a plan that sends nothing is not published.
func (d *Decider) dispatch(c streams.Cut, p policy.Policy, pl schemas.Plan, quiet bool) []streams.Out {
	now := schemas.Time(c.Now)
	var fresh *plan.State
	var sent []*schemas.Action
	var ceiling []schemas.BytesPerSecond
	for i := range pl.Actions {
		a := &pl.Actions[i]
		if a.Due > now || !d.mayGo(a) {
			continue
		}
		if fresh == nil {
			fresh = plan.Prepare(d.fleet, p, c)
		}
		why := fresh.Check(a)
		if why.OK() {
			// The policy may have changed since the plan was made.
			why = d.modeNow(fresh, a)
		}
		if !why.OK() {
			a.State, a.Hold = schemas.ActionWaiting, why
			continue
		}
		ceiling = append(ceiling, fresh.Ceiling(a))
		fresh.Take(a)
		a.State, a.Hold = schemas.ActionCommanded, schemas.Reason{Code: schemas.ReasonOK}
		a.Predicted.Start = now
		sent = append(sent, a)
	}
	d.keep(pl.Actions)
	if quiet && len(sent) == 0 {
		return nil
	}
	plan.Seal(&pl)
	var outs []streams.Out
	if o, ok := d.publishPlan(&pl, len(sent) > 0); ok {
		outs = append(outs, o)
	}
	for i, a := range sent {
		outs = append(outs, d.command(c, &pl, a, ceiling[i]))
	}
	return outs
}

// mayGo reports whether mode or approval lets an action go, as far as was known
// when it was planned.
func (d *Decider) mayGo(a *schemas.Action) bool {
	switch a.Hold.Code {
	case schemas.ReasonMode:
		return false
	case schemas.ReasonNeedsApproval:
		return d.fleet.Approved(a.ID)
	}
	return true
}

// modeNow resolves the mode again and asks for the approval where it is needed.
func (d *Decider) modeNow(s *plan.State, a *schemas.Action) schemas.Reason {
	mode := s.ModeOf(s.V.VMIndex(a.VM), s.V.HostIndex(a.Source), s.V.HostIndex(a.Destination))
	switch {
	case mode == schemas.ModeAuto, mode == schemas.ModeApprove && d.fleet.Approved(a.ID):
		return schemas.Reason{}
	case mode == schemas.ModeApprove:
		return schemas.Reason{Code: schemas.ReasonNeedsApproval, Detail: "mode approve: it waits for a person"}
	}
	return schemas.Reason{Code: schemas.ReasonMode, Detail: "mode " + string(mode) + ": nothing moves by itself here"}
}

// keep remembers the actions that no command was made of.
func (d *Decider) keep(actions []schemas.Action) {
	left := make([]schemas.Action, 0, len(actions))
	for _, a := range actions {
		if a.State != schemas.ActionCommanded {
			left = append(left, a)
		}
	}
	d.fleet.Memory.Plan = left
}

// publishPlan decides whether a plan is worth publishing: it sends something, it
// holds actions, its reasons changed, or 12 steps have passed. A fleet that only
// observes has no plans.
func (d *Decider) publishPlan(pl *schemas.Plan, sends bool) (streams.Out, bool) {
	if pl.Mode == schemas.ModeObserve && len(pl.Actions) == 0 {
		return streams.Out{}, false
	}
	sig := signature(pl)
	step := schemas.StepAt(pl.Time, d.cfg.Base)
	if !sends && len(pl.Actions) == 0 && sig == d.st.PlanSig && step-d.st.PlanAt < 12 {
		return streams.Out{}, false
	}
	if !sends && step == d.st.PlanAt {
		return streams.Out{}, false // at most one a step
	}
	d.st.PlanSig, d.st.PlanAt = sig, step
	d.fleet.NotePlan(pl)
	return streams.Out{Subject: streams.SubjectPlan(pl.ID), ID: string(pl.ID), Msg: pl}, true
}

// signature is what a person would call the same plan: the same moves in the same
// states and the same reasons.
func signature(pl *schemas.Plan) string {
	var parts []string
	for i := range pl.Actions {
		parts = append(parts, string(pl.Actions[i].ID), string(pl.Actions[i].State), string(pl.Actions[i].Hold.Code))
	}
	for i := range pl.Declined {
		parts = append(parts, pl.Declined[i].VM.String(), string(pl.Declined[i].Reason.Code))
	}
	return schemas.HashJSON(parts)
}

// command makes the order of one move. Its places are taken from here on.
func (d *Decider) command(c streams.Cut, pl *schemas.Plan, a *schemas.Action, ceiling schemas.BytesPerSecond) streams.Out {
	now := schemas.Time(c.Now)
	duration := time.Duration(float64(a.Predicted.Duration) * float64(time.Second))
	cmd := &schemas.Command{ID: a.ID, Plan: pl.ID, PlanHash: pl.Hash, VM: a.VM, Name: a.Name, Source: a.Source, Destination: a.Destination,
		Issued: now, Expires: now.Add(schemas.CommandLife), AfterSeq: c.Seq[streams.Migrations],
		Reason: a.Reason, Predicted: a.Predicted, Bandwidth: ceiling, MaxDowntime: schemas.Millis(d.cfg.MaxDowntime.Seconds() * 1000)}
	cmd.Deadline = cmd.Expires.Add(3*duration + deadlineGrace)
	d.fleet.Sent(*cmd)
	d.stats.Commands++
	return streams.Out{Subject: streams.SubjectCommand(a.VM, a.Source, a.Destination), ID: string(a.ID), Msg: cmd,
		Expect: &streams.Expect{Filter: streams.RecordOf(a.VM), Seq: d.fleet.RecordSeq(a.VM)}}
}

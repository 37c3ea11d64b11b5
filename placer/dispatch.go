package placer

import (
	"fmt"
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
	ready := d.ready(c, p, &pl)
	d.keep(pl.Actions)
	if quiet && len(ready) == 0 {
		return nil
	}
	var outs []streams.Out
	if o, ok := d.publishPlan(&pl, len(ready) > 0); ok {
		outs = append(outs, o)
	}
	for _, r := range ready {
		outs = append(outs, d.command(c, &pl, r.action, r.ceiling))
	}
	return outs
}

// order is an action that goes out now.
type order struct {
	action  *schemas.Action
	ceiling schemas.BytesPerSecond // of its bandwidth; 0 = none
}

// ready looks at every due action again, on all that is known at the cut: each is
// either commanded or waits, with the reason. It seals the plan.
func (d *Decider) ready(c streams.Cut, p policy.Policy, pl *schemas.Plan) []order {
	now := schemas.Time(c.Now)
	var fresh *plan.State
	var rules *policy.HostRules
	var out []order
	for i := range pl.Actions {
		a := &pl.Actions[i]
		if a.Due > now || !d.mayGo(a, now, p) {
			continue
		}
		if fresh == nil {
			fresh, rules = plan.Prepare(d.fleet, p, c), policy.NewHostRules(p, now, d.cfg.Base)
		}
		why := fresh.Check(a)
		if why.OK() {
			// The policy may have changed since the plan was made.
			why = d.modeNow(fresh, rules, a)
		}
		if !why.OK() {
			a.State, a.Hold = schemas.ActionWaiting, why
			continue
		}
		out = append(out, order{a, fresh.Ceiling(a)})
		fresh.Take(a)
		a.State, a.Hold = schemas.ActionCommanded, schemas.Reason{Code: schemas.ReasonOK}
		a.Predicted.Start = now
	}
	plan.Seal(pl)
	return out
}

// mayGo reports whether mode or approval lets an action go, as far as was known
// when it was planned.
func (d *Decider) mayGo(a *schemas.Action, now schemas.Time, p policy.Policy) bool {
	switch a.Hold.Code {
	case schemas.ReasonMode, schemas.ReasonNotEarned, schemas.ReasonDemoted:
		return false
	case schemas.ReasonNeedsApproval, schemas.ReasonApprovalOld:
		why := d.approval(a.ID, now, p)
		return why.OK()
	}
	return true
}

// leastApproval is how long an approval holds however short the base step is: a
// person needs the time.
const leastApproval = 10 * time.Minute

// approval is why an action that needs one may not go, ok while one holds.
func (d *Decider) approval(id schemas.CommandID, now schemas.Time, p policy.Policy) schemas.Reason {
	at, ok := d.fleet.ApprovedAt(id)
	age, most := now.Sub(at), max(leastApproval, time.Duration(p.ApprovalSteps)*d.cfg.Base)
	switch {
	case !ok:
		return schemas.Reason{Code: schemas.ReasonNeedsApproval, Detail: "mode approve: it waits for a person"}
	case age > most:
		return schemas.Reason{Code: schemas.ReasonApprovalOld, Detail: fmt.Sprintf("it was approved %s ago, an approval holds for %s: approve it again", age.Round(time.Second), most)}
	}
	return schemas.Reason{Code: schemas.ReasonOK, Detail: "approved"}
}

// modeNow resolves windows and mode again and asks for the approval where it is
// needed.
func (d *Decider) modeNow(s *plan.State, rules *policy.HostRules, a *schemas.Action) schemas.Reason {
	for _, h := range [2]schemas.HostID{a.Source, a.Destination} {
		if why := rules.Frozen(h); !why.OK() {
			return why
		}
	}
	from, to := s.V.HostIndex(a.Source), s.V.HostIndex(a.Destination)
	switch mode := s.ModeOf(s.V.VMIndex(a.VM), from, to); mode {
	case schemas.ModeAuto:
		return s.Trusted(from, to)
	case schemas.ModeApprove:
		if why := d.approval(a.ID, s.Now(), s.P); !why.OK() {
			return why
		}
		return schemas.Reason{}
	default:
		return schemas.Reason{Code: schemas.ReasonMode, Detail: "mode " + string(mode) + ": nothing moves by itself here"}
	}
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
		Reason: a.Reason, Predicted: a.Predicted, Bandwidth: ceiling, MaxDowntime: schemas.Millis(d.cfg.MaxDowntime.Seconds() * 1000), CPUDigest: d.fleet.CPUOf(a.VM, a.Source)}
	cmd.Deadline = cmd.Expires.Add(3*duration + deadlineGrace)
	d.fleet.Sent(*cmd)
	d.fleet.Memory.Ladder.Made(cmd)
	d.stats.Commands++
	return streams.Out{Subject: streams.SubjectCommand(a.VM, a.Source, a.Destination), ID: string(a.ID), Msg: cmd,
		Expect: &streams.Expect{Filter: streams.RecordOf(a.VM), Seq: d.fleet.RecordSeq(a.VM)}}
}

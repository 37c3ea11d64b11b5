package fleet

import (
	"slices"

	"github.com/foreshift/foreshift/placer/policy"
	"github.com/foreshift/foreshift/schemas"
)

// maxPlans is how many plans are remembered, so that a word on a plan finds its
// actions.
const maxPlans = 512

// planState is the fold of PLANS: our own decisions come back, so that a placer
// that takes over knows what was approved and what was planned.
type planState struct {
	Actions map[schemas.PlanID][]schemas.CommandID
	Order   []schemas.PlanID
	Last    []schemas.Action // of the newest plan
	Rungs   []schemas.Rung   // that it stood on
	Seq     uint64
}

func (f *Fleet) applyPlan(in Input, p *schemas.Plan) error {
	if in.Seq <= f.plans.Seq {
		return nil
	}
	f.plans.Seq, f.plans.Last, f.plans.Rungs = in.Seq, p.Actions, p.Basis.Rungs
	f.plans.note(p)
	return nil
}

func (s *planState) note(p *schemas.Plan) {
	if _, ok := s.Actions[p.ID]; ok || len(p.Actions) == 0 {
		return
	}
	ids := make([]schemas.CommandID, len(p.Actions))
	for i := range p.Actions {
		ids[i] = p.Actions[i].ID
	}
	s.Actions[p.ID] = ids
	s.Order = append(s.Order, p.ID)
	if len(s.Order) > maxPlans {
		delete(s.Actions, s.Order[0])
		s.Order = append(s.Order[:0], s.Order[1:]...)
	}
}

// holds reports whether the plan holds the action.
func (s *planState) holds(p schemas.PlanID, id schemas.CommandID) bool {
	for _, a := range s.Actions[p] {
		if a == id {
			return true
		}
	}
	return false
}

// Planned are the actions that the last decision wanted and that no command was
// made of: this placer's own, or after a restart those of the newest plan.
func (f *Fleet) Planned() []schemas.Action {
	if f.Memory.Step != 0 {
		return f.Memory.Plan
	}
	var out []schemas.Action
	for i := range f.plans.Last {
		if a := &f.plans.Last[i]; a.State != schemas.ActionCommanded && f.moves[a.ID] == nil {
			out = append(out, *a)
		}
	}
	return out
}

// Settle brings the ladder of trust up to now. A placer that has decided nothing yet goes
// on from where the newest plan stood.
func (f *Fleet) Settle(p *policy.Policy, now schemas.Time) {
	m := &f.Memory
	if m.Step == 0 && len(m.Ladder.Rungs) == 0 {
		m.Ladder.Rungs = slices.Clone(f.plans.Rungs)
	}
	var lifted schemas.Time
	if f.acts.Mode.Mode == schemas.ModeAuto {
		lifted = f.acts.Mode.At
	}
	m.Ladder.Settle(p, &f.ends, lifted, now)
}

// Complete reports whether every VM with a forecast has the newest issue: before
// that a decision would mix old and new.
func (f *Fleet) Complete() bool {
	for _, r := range f.forecasts {
		if r.Issued != f.issued {
			return false
		}
	}
	return true
}

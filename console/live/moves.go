package live

import (
	"cmp"
	"slices"

	"github.com/foreshift/foreshift/console"
	"github.com/foreshift/foreshift/schemas"
	"github.com/foreshift/foreshift/streams"
)

// move folds what is told of moves. Moves given out are never changed: a new one
// takes the place of the old.
func (m *Model) move(e streams.Event) {
	switch x := e.Msg.(type) {
	case *schemas.Command:
		if m.moves[x.ID] != nil {
			return
		}
		mv := &console.Move{Epoch: e.Seq, Command: *x, Progress: m.progress[x.ID]}
		m.moves[x.ID] = mv
		at, _ := slices.BinarySearchFunc(m.order, e.Seq, func(o *console.Move, seq uint64) int { return cmp.Compare(o.Epoch, seq) })
		m.order = slices.Insert(m.order, at, mv)
		for len(m.order) > maxMoves && m.order[0].Outcome != nil {
			delete(m.moves, m.order[0].Command.ID)
			m.order = slices.Delete(m.order, 0, 1)
		}
	case *schemas.Outcome:
		delete(m.progress, x.Command)
		m.change(x.Command, func(mv *console.Move) { mv.Outcome = x })
	case *schemas.Effect:
		m.change(x.Command, func(mv *console.Move) { mv.Effect = x })
	case *schemas.Progress:
		if mv := m.moves[x.Command]; mv != nil && mv.Outcome != nil {
			return
		}
		if len(m.progress) > maxMoves {
			clear(m.progress) // of moves nobody commanded
		}
		m.progress[x.Command] = x
		m.change(x.Command, func(mv *console.Move) { mv.Progress = x })
	}
}

func (m *Model) change(id schemas.CommandID, f func(*console.Move)) {
	old := m.moves[id]
	if old == nil {
		return
	}
	mv := *old
	f(&mv)
	m.moves[id] = &mv
	if at, ok := slices.BinarySearchFunc(m.order, mv.Epoch, func(o *console.Move, seq uint64) int { return cmp.Compare(o.Epoch, seq) }); ok {
		m.order[at] = &mv
	}
}

// PlanLine is a plan without its reasons one by one.
type PlanLine struct {
	ID            schemas.PlanID             `json:"id"`
	Time          schemas.Time               `json:"time"`
	Mode          schemas.Mode               `json:"mode"`
	PolicyVersion uint64                     `json:"policy_version"`
	Actions       []PlanAction               `json:"actions"`
	Declined      map[schemas.ReasonCode]int `json:"declined"`
	Before        float64                    `json:"before_resource_seconds"`
	After         float64                    `json:"after_resource_seconds"`
	Plans         int                        `json:"plans"` // how many plans in a row said the same
	key           string
}

// PlanAction is one move of a [PlanLine].
type PlanAction struct {
	ID          schemas.CommandID `json:"id"`
	VM          schemas.VMID      `json:"vm"`
	Name        string            `json:"name"`
	Source      schemas.HostID    `json:"source"`
	Destination schemas.HostID    `json:"destination"`
}

func (m *Model) notePlan(p *schemas.Plan) {
	if m.plan != nil && p.Time < m.plan.Time {
		return
	}
	m.plan = p
	l := PlanLine{ID: p.ID, Time: p.Time, Mode: p.Mode, PolicyVersion: p.PolicyVersion, Before: p.Before, After: p.After, Declined: map[schemas.ReasonCode]int{}, Actions: []PlanAction{}, Plans: 1}
	for i := range p.Actions {
		a := &p.Actions[i]
		l.Actions = append(l.Actions, PlanAction{a.ID, a.VM, a.Name, m.intern(a.Source), m.intern(a.Destination)})
		l.key += string(a.ID) + " "
	}
	for i := range p.Declined {
		l.Declined[p.Declined[i].Reason.Code]++
	}
	if n := len(m.plans); n > 0 && m.plans[n-1].key == l.key {
		l.Plans = m.plans[n-1].Plans + 1
		m.plans[n-1] = l
		return
	}
	m.plans = append(m.plans, l)
	m.plans = m.plans[max(0, len(m.plans)-maxPlans):]
}

func (m *Model) act(e streams.Event, a *schemas.Act) {
	if a.Act == schemas.ActHeartbeat {
		m.heartbeat = schemas.Time(e.Time)
		return
	}
	refused := m.tell(e)
	said := *a
	said.Time, said.Policy = schemas.Time(e.Time), nil
	if refused != nil {
		said.Why = "refused: " + refused.Error()
	} else if a.Act == schemas.ActPolicy && a.Policy != nil {
		m.policies = append(m.policies, PolicyLine{Time: said.Time, By: a.By, Why: a.Why, Policy: *a.Policy})
		m.policies = m.policies[max(0, len(m.policies)-maxPolicy):]
	}
	m.said = append(m.said, said)
	m.said = m.said[max(0, len(m.said)-maxSaid):]
}

// PolicyLine is one version of the policy.
type PolicyLine struct {
	Time   schemas.Time   `json:"time"`
	By     string         `json:"by"`
	Why    string         `json:"why"`
	Policy schemas.Policy `json:"policy"`
}

package fleet

import (
	"fmt"
	"slices"

	"github.com/foreshift/foreshift/placer/policy"
	"github.com/foreshift/foreshift/schemas"
)

// actState is the fold of ACTS. Where an act and the policy speak of the same
// thing, the later one holds, except that a pause or a cordon of either holds.
type actState struct {
	Paused    bool
	ResumedAt schemas.Time
	Mode      modeAct
	HostMode  map[schemas.HostID]modeAct
	VMMode    map[schemas.VMID]modeAct
	Cordon    map[schemas.HostID]bool
	Approved  []wordOn
	Skipped   []wordOn
	Resolved  []resolution
	Policy    *schemas.Policy
	PolicyAt  schemas.Time
	Rollback  uint64
	RollAt    schemas.Time
	Seq       uint64
}

type modeAct struct {
	Mode schemas.Mode
	At   schemas.Time
}

type wordOn struct {
	Plan    schemas.PlanID
	Command schemas.CommandID
	At      schemas.Time
}

type resolution struct {
	Command schemas.CommandID
	VM      schemas.VMID
	RunsAt  schemas.HostID
	At      schemas.Time
}

func newActState() actState {
	return actState{HostMode: map[schemas.HostID]modeAct{}, VMMode: map[schemas.VMID]modeAct{}, Cordon: map[schemas.HostID]bool{}}
}

// keep appends to a bounded list: the oldest word goes first.
func keep[T any](s []T, v T) []T {
	if len(s) >= maxActs {
		s = slices.Delete(s, 0, len(s)-maxActs+1)
	}
	return append(s, v)
}

func (a *actState) apply(in Input, m *schemas.Act) error {
	if in.Seq != 0 && in.Seq <= a.Seq {
		return nil
	}
	a.Seq = in.Seq
	switch m.Act {
	case schemas.ActPause:
		a.Paused = true
	case schemas.ActResume:
		a.Paused, a.ResumedAt = false, in.Time
	case schemas.ActMode:
		w := modeAct{m.Mode, in.Time}
		switch {
		case m.Host != "":
			a.HostMode[m.Host] = w
		case !m.VM.IsZero():
			a.VMMode[m.VM] = w
		default:
			a.Mode = w
		}
	case schemas.ActCordon, schemas.ActDrain:
		a.Cordon[m.Host] = true
	case schemas.ActUncordon:
		delete(a.Cordon, m.Host)
	case schemas.ActApprove:
		a.Approved = keep(a.Approved, wordOn{m.Plan, m.Command, in.Time})
	case schemas.ActSkip, schemas.ActAbort:
		a.Skipped = keep(a.Skipped, wordOn{m.Plan, m.Command, in.Time})
	case schemas.ActResolve:
		a.Resolved = keep(a.Resolved, resolution{m.Command, m.VM, m.RunsAt, in.Time})
	case schemas.ActPolicy:
		if m.Policy == nil {
			return fmt.Errorf("act %s: a policy act without a policy", m.ID)
		}
		if err := policy.Validate(*m.Policy); err != nil {
			return fmt.Errorf("act %s: %w", m.ID, err)
		}
		p := *m.Policy
		a.Policy, a.PolicyAt = &p, in.Time
	case schemas.ActRollback:
		a.Rollback, a.RollAt = m.Version, in.Time
	case schemas.ActHeartbeat:
	default:
		return fmt.Errorf("act %s: unknown act %q", m.ID, m.Act)
	}
	return nil
}

// resolved is an operator's later word on where a move's VM runs, nil without one.
func (a *actState) resolved(m *Move) *resolution {
	for i := len(a.Resolved) - 1; i >= 0; i-- {
		r := &a.Resolved[i]
		if r.At >= max(m.At, m.OutcomeAt) && (r.Command == m.Command.ID || r.Command == "" && r.VM == m.Command.VM) {
			return r
		}
	}
	return nil
}

// NotePlan remembers a plan that is about to be published.
func (f *Fleet) NotePlan(p *schemas.Plan) { f.plans.note(p) }

// Approved reports whether an operator approved the action as part of one of the
// plans it was published in.
func (f *Fleet) Approved(id schemas.CommandID) bool {
	for i := len(f.acts.Approved) - 1; i >= 0; i-- {
		w := &f.acts.Approved[i]
		if (w.Command == id || w.Command == "") && f.plans.holds(w.Plan, id) {
			return true
		}
	}
	return false
}

// SkippedAt is when an operator last skipped or aborted the action, 0 when never.
func (f *Fleet) SkippedAt(id schemas.CommandID) schemas.Time {
	for i := len(f.acts.Skipped) - 1; i >= 0; i-- {
		w := &f.acts.Skipped[i]
		if w.Command == id || w.Command == "" && f.plans.holds(w.Plan, id) {
			return w.At
		}
	}
	return 0
}

// policyState is the fold of bucket policy.
type policyState struct {
	Now      *schemas.Policy
	At       schemas.Time
	Seq      uint64
	Versions map[uint64]schemas.Policy
}

func (s *policyState) apply(in Input, p *schemas.Policy) error {
	if err := policy.Validate(*p); err != nil {
		return err
	}
	if s.Now != nil && in.Seq <= s.Seq {
		return nil
	}
	c := *p
	s.Now, s.At, s.Seq = &c, in.Time, in.Seq
	s.Versions[c.Version] = c
	for len(s.Versions) > maxPolicies {
		low := c.Version
		for v := range s.Versions {
			low = min(low, v)
		}
		delete(s.Versions, low)
	}
	return nil
}

// Policy is the policy in force: what the bucket or a later act says (the default
// before either), with the acts of operators laid over it.
func (f *Fleet) Policy(fallback policy.Policy) policy.Policy {
	p, at := fallback, schemas.Time(0)
	if f.kv.Now != nil {
		p, at = *f.kv.Now, f.kv.At
	}
	a := &f.acts
	if a.Policy != nil && a.PolicyAt > at {
		p, at = *a.Policy, a.PolicyAt
	}
	if a.RollAt > at {
		if old, ok := f.kv.Versions[a.Rollback]; ok {
			p, at = old, a.RollAt
		}
	}
	p.Paused = p.Paused || a.Paused
	if a.Mode.At > at {
		p.Mode = a.Mode.Mode
	}
	hostModes := make(map[schemas.HostID]schemas.Mode, len(p.HostModes)+len(a.HostMode))
	for h, m := range p.HostModes {
		hostModes[h] = m
	}
	for h, w := range a.HostMode {
		if w.At > at {
			hostModes[h] = w.Mode
		}
	}
	vmModes := make(map[schemas.VMID]schemas.Mode, len(p.VMModes)+len(a.VMMode))
	for v, m := range p.VMModes {
		vmModes[v] = m
	}
	for v, w := range a.VMMode {
		if w.At > at {
			vmModes[v] = w.Mode
		}
	}
	p.HostModes, p.VMModes = hostModes, vmModes
	cordoned := slices.Clone(p.Cordoned)
	for h := range a.Cordon {
		cordoned = append(cordoned, h)
	}
	slices.Sort(cordoned)
	p.Cordoned = slices.Compact(cordoned)
	return p
}

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
	Drain     map[schemas.HostID]schemas.Time
	Approved  []wordOn
	Skipped   []wordOn
	Resolved  []resolution
	Policy    *schemas.Policy
	PolicyAt  schemas.Time
	Versions  map[uint64]schemas.Policy // that operators set
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
	return actState{HostMode: map[schemas.HostID]modeAct{}, VMMode: map[schemas.VMID]modeAct{},
		Cordon: map[schemas.HostID]bool{}, Drain: map[schemas.HostID]schemas.Time{}, Versions: map[uint64]schemas.Policy{}}
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
	case schemas.ActCordon:
		a.Cordon[m.Host] = true
	case schemas.ActDrain:
		if _, on := a.Drain[m.Host]; !on {
			a.Drain[m.Host] = in.Time
		}
	case schemas.ActUncordon:
		delete(a.Cordon, m.Host)
		delete(a.Drain, m.Host)
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
		p := policy.Complete(*m.Policy)
		a.Policy, a.PolicyAt = &p, in.Time
		keepVersion(a.Versions, p)
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

// ApprovedAt is when an operator last approved the action as part of one of the
// plans it was published in; ok is false when nobody did, or when a later word
// skipped it.
func (f *Fleet) ApprovedAt(id schemas.CommandID) (at schemas.Time, ok bool) {
	for i := len(f.acts.Approved) - 1; i >= 0; i-- {
		w := &f.acts.Approved[i]
		if (w.Command == id || w.Command == "") && f.plans.holds(w.Plan, id) {
			return w.At, w.At >= f.SkippedAt(id)
		}
	}
	return 0, false
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
	c := policy.Complete(*p)
	s.Now, s.At, s.Seq = &c, in.Time, in.Seq
	keepVersion(s.Versions, c)
	return nil
}

// keepVersion remembers a policy to roll back to; the lowest version goes first.
func keepVersion(versions map[uint64]schemas.Policy, p schemas.Policy) {
	versions[p.Version] = p
	for len(versions) > maxPolicies {
		low := p.Version
		for v := range versions {
			low = min(low, v)
		}
		delete(versions, low)
	}
}

// Document is the policy that was set last and when: by the bucket or by a later act
// (the fallback before either), without what single acts say over it.
func (f *Fleet) Document(fallback policy.Policy) (policy.Policy, schemas.Time) {
	p, at := fallback, schemas.Time(0)
	if f.kv.Now != nil {
		p, at = *f.kv.Now, f.kv.At
	}
	a := &f.acts
	if a.Policy != nil && a.PolicyAt > at {
		p, at = *a.Policy, a.PolicyAt
	}
	if a.RollAt > at {
		old, ok := a.Versions[a.Rollback]
		if !ok {
			old, ok = f.kv.Versions[a.Rollback]
		}
		if ok {
			p, at = old, a.RollAt
		}
	}
	return policy.Complete(p), at
}

// NextVersion is a version of the policy that no earlier one has.
func (f *Fleet) NextVersion() uint64 {
	next := uint64(1)
	for _, versions := range []map[uint64]schemas.Policy{f.kv.Versions, f.acts.Versions} {
		for v := range versions {
			next = max(next, v+1)
		}
	}
	return next
}

// Policy is the policy in force: the document, with the acts of operators laid over
// it.
func (f *Fleet) Policy(fallback policy.Policy) policy.Policy {
	p, at := f.Document(fallback)
	a := &f.acts
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
	p.Cordoned = ordered(cordoned)
	draining := slices.Clone(p.Draining)
	for h := range a.Drain {
		draining = append(draining, h)
	}
	p.Draining = ordered(draining)
	return p
}

func ordered(hs []schemas.HostID) []schemas.HostID {
	slices.Sort(hs)
	return slices.Compact(hs)
}

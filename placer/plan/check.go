package plan

import (
	"github.com/foreshift/foreshift/placer/policy/learning"
	"github.com/foreshift/foreshift/schemas"
)

// hold is what holds an action back as far as the state knows; approval is the
// decider's to know.
func (s *State) hold(vm, a, b int32, act *schemas.Action) schemas.Reason {
	switch s.ModeOf(vm, a, b) {
	case schemas.ModeAuto:
		if why := s.Trusted(a, b); !why.OK() {
			return why
		}
	case schemas.ModeApprove:
		return no(schemas.ReasonNeedsApproval, "mode approve: it waits for a person")
	default:
		return no(schemas.ReasonMode, "mode recommend: nothing moves by itself here")
	}
	if act.Due > s.V.Now {
		return no(schemas.ReasonNotDue, "it starts in %s", schemas.Span(act.Due.Sub(s.V.Now)))
	}
	return schemas.Reason{Code: schemas.ReasonOK}
}

// Trusted says why auto does not make moves from host a to host b by itself, ok when it
// does. Who has to leave a host was told so by a person: that needs no proof.
func (s *State) Trusted(a, b int32) schemas.Reason {
	from, to := &s.V.Hosts[a], &s.V.Hosts[b]
	if s.P.Learning == nil || !s.hosts.Leave(from.ID).OK() {
		return schemas.Reason{Code: schemas.ReasonOK}
	}
	return s.f.Memory.Ladder.May(&s.P, learning.ClassOf(s.V.Sites[from.Site], s.V.Sites[to.Site]))
}

// Check says why an action planned before may not start now, ok when it may. The
// state must be a fresh one: whatever the plan was made on may have changed. An action
// that counts on others to make room is judged with them, save for memory, which they
// hold until they have gone; those others only once it has begun.
func (s *State) Check(act *schemas.Action) schemas.Reason {
	if !s.Gate.OK() {
		return s.Gate
	}
	i, b := s.V.VMIndex(act.VM), s.V.HostIndex(act.Destination)
	if i < 0 || b < 0 {
		return no(schemas.ReasonSuperseded, "%s or %s is gone", act.Name, act.Destination)
	}
	c := s.candidate(i)
	if s.V.Hosts[c.home].ID != act.Source {
		return no(schemas.ReasonSuperseded, "%s is on %s now", act.Name, s.V.Hosts[c.home].ID)
	}
	if !c.why.OK() {
		return c.why
	}
	if why := s.cause(c, act, b); !why.OK() {
		return why
	}
	if r := s.started(act); !r.OK() {
		return r
	}
	// Memory they have not left yet: no other makes room for it by what it is going to do.
	full := !s.sums.memFits(int(i), int(b))
	var helpers []*candidate
	for _, h := range act.Helpers {
		if x := s.helper(&h, act.Destination); x != nil {
			helpers = append(helpers, x)
		}
	}
	ch := s.pair(c, b)
	if ch.why == schemas.ReasonOK && full {
		ch.why, ch.res, ch.other = schemas.ReasonNoRoom, schemas.Memory, -1
	}
	for _, x := range helpers {
		s.lift(x)
	}
	if ch.why == schemas.ReasonOK && c.must() {
		// What must be done waits its turn all the same.
		if s.limits.in[b] <= 0 || s.limits.out[c.home] <= 0 {
			ch.why = schemas.ReasonBudgetHost
		} else if l := s.linkIndex(s.V.Hosts[c.home].Site, s.V.Hosts[b].Site); l >= 0 && s.limits.link[l] <= 0 {
			ch.why = schemas.ReasonBudgetLink
		}
	}
	if ch.why == schemas.ReasonOK && !c.must() && ch.gain.Benefit < s.minBenefit {
		// A plan is kept while a move still brings most of the least; to begin it takes all.
		ch.why = schemas.ReasonBelowMinimum
	}
	return s.explain(&ch)
}

// cause says why a VM should still leave its host, and notes when it must.
func (s *State) cause(c *candidate, act *schemas.Action, b int32) schemas.Reason {
	host := s.V.Hosts[c.home].ID
	if c.duty = s.hosts.Leave(host); c.duty.OK() {
		c.duty = s.breach(c.vm)
	}
	switch {
	case c.must() || act.After != "" || s.Pressed(c.home):
	case s.P.PackTarget > 0 && s.below(c.vm, b):
		c.duty = schemas.Reason{Code: packing}
	default:
		return no(schemas.ReasonSuperseded, "the pressure of %s has gone", act.Source)
	}
	if r := s.tally.Fleet(); !r.OK() {
		return r
	}
	return s.tally.Source(host)
}

// started says whether the move that an action waits for has begun.
func (s *State) started(act *schemas.Action) schemas.Reason {
	if act.After == "" || s.taken[act.After] {
		return schemas.Reason{Code: schemas.ReasonOK}
	}
	for i := range s.V.Attempts {
		if a := &s.V.Attempts[i]; a.Command == act.After && (a.UnderWay() || a.Result == schemas.ResultSucceeded) {
			return schemas.Reason{Code: schemas.ReasonOK}
		}
	}
	return no(schemas.ReasonNotDue, "it makes room for a move that has not begun")
}

// helper makes a move that makes room on a host, if it may still be made.
func (s *State) helper(h *schemas.Helper, host schemas.HostID) *candidate {
	i, to := s.V.VMIndex(h.VM), s.V.HostIndex(h.Destination)
	if i < 0 || to < 0 || s.V.Hosts[s.V.VMs[i].Host].ID != host {
		return nil
	}
	x := s.candidate(i)
	if _, why := s.change(x, to); !x.why.OK() || why != schemas.ReasonOK {
		return nil
	}
	s.put(x, to)
	return x
}

// Take reserves an action that starts now, for the next Check of the same state: as of any
// move under way, its memory counts at both ends.
func (s *State) Take(act *schemas.Action) {
	c, to := s.candidate(s.V.VMIndex(act.VM)), s.V.HostIndex(act.Destination)
	s.put(c, to)
	s.sums.linger(int(c.vm), int(c.home), c.from)
	s.sums.exact(int(c.home))
	s.sums.refresh(int(c.home))
	src, dst := &s.V.Hosts[c.home], &s.V.Hosts[to]
	s.tally.Add(act.VM, src.ID, dst.ID, s.link(src.Site, dst.Site))
	s.vmWhy[c.vm] = no(schemas.ReasonMoving, "command %s to %s has just been given", act.ID, act.Destination)
	s.taken[act.ID] = true
}

// Ceiling is the bandwidth a command may use: none within a site, what the link
// has free between two. Where the link is shared out its share counts, within this.
func (s *State) Ceiling(act *schemas.Action) schemas.BytesPerSecond {
	a, b := s.V.HostIndex(act.Source), s.V.HostIndex(act.Destination)
	if a < 0 || b < 0 || s.V.Hosts[a].Site == s.V.Hosts[b].Site {
		return 0
	}
	if l, ok := s.V.Link(s.V.Hosts[a].Site, s.V.Hosts[b].Site); ok && l.Fresh {
		return l.Free
	}
	return 0
}

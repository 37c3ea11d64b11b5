package plan

import (
	"fmt"
	"slices"
	"sort"
	"strings"

	"github.com/foreshift/foreshift/schemas"
)

// write turns the choices into a plan, and explains everything else.
func (s *State) write(cands []candidate, chosen []*candidate, seed uint64) Decision {
	p := schemas.Plan{Time: s.V.Now, Cut: s.Cut, Mode: s.P.Mode, PolicyVersion: s.P.Version, Seed: seed, Before: s.before, After: s.sums.total(),
		Actions: []schemas.Action{}, Declined: []schemas.Decline{}}
	for _, c := range chosen {
		p.Actions = append(p.Actions, s.action(c))
	}
	p.Used = s.Evals
	var d Decision
	for i := range cands {
		c := &cands[i]
		if c.chosen {
			d.Benefits = append(d.Benefits, s.benefit(c, schemas.Reason{Code: schemas.ReasonOK, Detail: "planned"}))
			continue
		}
		why := s.decline(c)
		m := &s.V.VMs[c.vm]
		p.Declined = append(p.Declined, schemas.Decline{VM: m.ID, Host: s.V.Hosts[m.Host].ID, Reason: why, Score: c.score})
		d.Benefits = append(d.Benefits, s.benefit(c, why))
	}
	p.Declined = append(p.Declined, s.aside(cands)...)
	sort.SliceStable(p.Declined, func(i, j int) bool { return string(p.Declined[i].VM[:]) < string(p.Declined[j].VM[:]) })
	if len(p.Declined) > maxDeclined {
		p.Declined = p.Declined[:maxDeclined]
	}
	if len(p.Actions) == 0 {
		// The plan's own reason stands first, under no VM.
		p.Declined = slices.Insert(p.Declined, 0, schemas.Decline{Reason: s.overall(cands)})
	}
	Seal(&p)
	d.Plan = p
	return d
}

// Seal gives a plan its content ids: the hash of its actions, and its name.
func Seal(p *schemas.Plan) {
	p.Hash = schemas.HashJSON(p.Actions)
	p.ID = ""
	p.ID = schemas.PlanID("p-" + schemas.HashJSON(p))
}

// aside are VMs outside the search that a person wants to hear of: frozen
// duplicates, and VMs short by their own allocation, which no move helps.
func (s *State) aside(cands []candidate) []schemas.Decline {
	in := map[int32]bool{}
	for i := range cands {
		in[cands[i].vm] = true
	}
	var out []schemas.Decline
	for i := range s.V.VMs {
		m := &s.V.VMs[i]
		host := s.V.Hosts[m.Host].ID
		switch {
		case in[int32(i)]:
		case m.Duplicate:
			out = append(out, schemas.Decline{VM: m.ID, Host: host, Reason: s.vmWhy[i]})
		case m.Advice == string(schemas.ReasonResizeAdvised):
			out = append(out, schemas.Decline{VM: m.ID, Host: host, Reason: no(schemas.ReasonResizeAdvised, "%s outgrows its own allocation (chance %.2f); no host changes that", m.Name, float64(m.OwnLimit))})
		}
	}
	return out
}

// overall is why a plan has no moves.
func (s *State) overall(cands []candidate) schemas.Reason {
	if !s.Gate.OK() {
		return s.Gate
	}
	pressed, held := 0, 0
	for h := range s.Pressure {
		if s.Pressed(int32(h)) {
			pressed++
		}
	}
	if pressed == 0 {
		return no(schemas.ReasonNoPressure, "no host's pressure within %d steps is above %.2f", s.P.LookAheadSteps, float64(s.P.Trigger))
	}
	for i := range cands {
		if cands[i].why.Code == schemas.ReasonHold {
			held++
		}
	}
	if held > 0 && held == len(cands) {
		return no(schemas.ReasonHold, "%s pressed, but not yet for %d steps", hosts(pressed), s.P.HoldSteps)
	}
	return no(schemas.ReasonNoBenefit, "%s pressed, and no move of %d VMs there pays within the rules", hosts(pressed), len(cands))
}

// decline is why a candidate stays: what stood against it from the start, or the
// one reason of all hosts, or that nothing pays.
func (s *State) decline(c *candidate) schemas.Reason {
	if !c.why.OK() {
		return c.why
	}
	if !s.Gate.OK() {
		return s.Gate
	}
	if !c.judged {
		return no(schemas.ReasonBelowMinimum, "no host can make it save more than %.3g core-seconds, least %.3g", c.saves, s.minBenefit)
	}
	if len(c.counts) == 0 {
		return no(schemas.ReasonNoRoom, "there is no other host")
	}
	codes := make([]string, 0, len(c.counts))
	for code := range c.counts {
		codes = append(codes, string(code))
	}
	slices.Sort(codes)
	if len(codes) == 1 {
		code := schemas.ReasonCode(codes[0])
		if code == schemas.ReasonWorse {
			code = schemas.ReasonNoBenefit
		}
		detail := "no other host will do"
		if len(c.whyNot) > 0 {
			detail += "; the best: " + s.explain(&c.whyNot[0]).Detail
		}
		return schemas.Reason{Code: code, Detail: detail}
	}
	if n := c.counts[schemas.ReasonBelowMinimum]; n > 0 {
		return no(schemas.ReasonBelowMinimum, "the best of %d hosts brings %.3g core-seconds, least %.3g", len(s.V.Hosts)-1, c.score, s.minBenefit)
	}
	var parts []string
	for _, code := range codes {
		parts = append(parts, fmt.Sprintf("%d %s", c.counts[schemas.ReasonCode(code)], code))
	}
	return no(schemas.ReasonNoBenefit, "hosts: %s", strings.Join(parts, ", "))
}

func (s *State) benefit(c *candidate, why schemas.Reason) schemas.Benefit {
	m := &s.V.VMs[c.vm]
	b := schemas.Benefit{VM: m.ID, Host: s.V.Hosts[m.Host].ID, Time: s.V.Now, Reason: why, WhyNot: s.explained(c)}
	if c.has {
		b.Destination, b.Gain = s.V.Hosts[c.best.dest].ID, c.best.gain
	}
	return b
}

// action turns a choice into an action. One that the last plan had already keeps
// its id, so that an approval of it stands.
func (s *State) action(c *candidate) schemas.Action {
	a, b := int(s.V.VMs[c.vm].Host), int(c.best.dest)
	m, p := &s.V.VMs[c.vm], &s.Pressure[a]
	src, dst := &s.V.Hosts[a], &s.V.Hosts[b]
	w := &c.best.timing
	act := schemas.Action{VM: m.ID, Name: m.Name, Source: src.ID, Destination: dst.ID, Due: w.due, Latest: w.latest, State: schemas.ActionPlanned, WhyNot: s.explained(c)}
	if old := s.planned[c.vm]; old != nil && old.Destination == dst.ID {
		act.ID = old.ID
	} else {
		act.ID = schemas.CommandID("m-" + schemas.HashJSON([]any{m.ID, src.ID, dst.ID, s.V.Issued, s.f.RecordSeq(m.ID)}))
	}
	act.Predicted = schemas.Prediction{Onset: p.Onset, Start: w.due, Duration: schemas.Seconds(w.transfer.Duration.Seconds()),
		Downtime: schemas.Millis(w.transfer.Downtime.Seconds() * 1000), Volume: w.transfer.Volume, Gain: c.best.gain}
	lead := "the shortage is here already"
	switch {
	case p.OnsetSlot >= 0 && w.end < p.Onset:
		lead = fmt.Sprintf("the move ends %s before it", span(p.Onset.Sub(w.end)))
	case p.OnsetSlot >= 0 && s.V.Now < p.Onset:
		lead = fmt.Sprintf("the move ends %s too late but pays all the same", span(w.end.Sub(p.Onset)))
	}
	act.Reason = schemas.Reason{Code: schemas.ReasonOK, Detail: fmt.Sprintf("%s runs short of %s with chance %.2f, %s of %s at the peak; %s; moving %s to %s saves %.3g of %.3g core-seconds",
		src.ID, p.Resource, p.Look, Amount(p.Resource, p.Peak), Amount(p.Resource, p.Limit), lead, m.Name, dst.ID, c.best.gain.Benefit, c.best.gain.Before)}
	act.Hold = s.hold(c.vm, int32(a), int32(b), &act)
	if act.Due <= s.V.Now && !act.Hold.OK() {
		act.State = schemas.ActionWaiting
	}
	return act
}

// hold is what holds an action back as far as the state knows; approval is the
// decider's to know.
func (s *State) hold(vm, a, b int32, act *schemas.Action) schemas.Reason {
	switch s.ModeOf(vm, a, b) {
	case schemas.ModeAuto:
	case schemas.ModeApprove:
		return no(schemas.ReasonNeedsApproval, "mode approve: it waits for a person")
	default:
		return no(schemas.ReasonMode, "mode recommend: nothing moves by itself here")
	}
	if act.Due > s.V.Now {
		return no(schemas.ReasonNotDue, "it starts in %s", span(act.Due.Sub(s.V.Now)))
	}
	return schemas.Reason{Code: schemas.ReasonOK}
}

// Check says why an action planned before may not start now, ok when it may. The
// state must be a fresh one: whatever the plan was made on may have changed.
func (s *State) Check(act *schemas.Action) schemas.Reason {
	if !s.Gate.OK() {
		return s.Gate
	}
	i := s.V.VMIndex(act.VM)
	b := s.V.HostIndex(act.Destination)
	if i < 0 || b < 0 {
		return no(schemas.ReasonSuperseded, "%s or %s is gone", act.Name, act.Destination)
	}
	m := &s.V.VMs[i]
	a := m.Host
	switch {
	case s.V.Hosts[a].ID != act.Source:
		return no(schemas.ReasonSuperseded, "%s is on %s now", act.Name, s.V.Hosts[a].ID)
	case !s.vmWhy[i].OK():
		return s.vmWhy[i]
	case !s.Pressed(a):
		return no(schemas.ReasonSuperseded, "the pressure of %s has gone", act.Source)
	}
	if r := s.tally.Source(act.Source); !r.OK() {
		return r
	}
	c := s.pair(int(i), int(a), int(b))
	return s.explain(&c)
}

// Take reserves an action that starts now, for the next Check of the same state.
func (s *State) Take(act *schemas.Action) {
	i, b := s.V.VMIndex(act.VM), s.V.HostIndex(act.Destination)
	c := choice{vm: i, dest: b}
	s.apply(&c)
}

// Ceiling is the bandwidth a command may use: none within a site, what the link
// has free between two.
func (s *State) Ceiling(act *schemas.Action) schemas.BytesPerSecond {
	a, b := s.V.HostIndex(act.Source), s.V.HostIndex(act.Destination)
	if a < 0 || b < 0 || s.V.Hosts[a].Site == s.V.Hosts[b].Site {
		return 0
	}
	bps, _ := s.V.Bandwidth(s.V.Hosts[a].Site, s.V.Hosts[b].Site)
	return bps
}

func hosts(n int) string {
	if n == 1 {
		return "1 host is"
	}
	return fmt.Sprintf("%d hosts are", n)
}

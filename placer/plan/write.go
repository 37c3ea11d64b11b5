package plan

import (
	"fmt"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/foreshift/foreshift/schemas"
)

// write turns the moves into a plan, and explains everything else.
func (b *board) write(seed uint64) Decision {
	s := b.s
	p := schemas.Plan{Time: s.V.Now, Cut: s.Cut, Mode: s.P.Mode, PolicyVersion: s.P.Version, Seed: seed, Before: s.before, After: s.sums.total(),
		Actions: []schemas.Action{}, Declined: []schemas.Decline{}}
	for _, c := range b.moves {
		p.Actions = append(p.Actions, s.action(c))
		// Shortfalls are what the plan leaves.
		s.sums.addGrid(int(c.vm), int(c.home), -1, c.from, c.from)
		s.sums.addGrid(int(c.vm), int(c.dest), 1, c.from, 0)
	}
	s.helpless = b.helpless()
	b.bind(p.Actions)
	p.Used = s.Evals
	var d Decision
	for _, c := range b.cands {
		if c.dest >= 0 {
			d.Benefits = append(d.Benefits, s.benefit(c, schemas.Reason{Code: schemas.ReasonOK, Detail: "planned"}))
			continue
		}
		if !c.must() && !s.Pressed(c.home) {
			continue // its rule was mended by another
		}
		why := s.decline(c)
		m := &s.V.VMs[c.vm]
		p.Declined = append(p.Declined, schemas.Decline{VM: m.ID, Host: s.V.Hosts[m.Host].ID, Reason: why, Score: c.score})
		d.Benefits = append(d.Benefits, s.benefit(c, why))
	}
	p.Declined = append(p.Declined, b.aside()...)
	sort.SliceStable(p.Declined, func(i, j int) bool { return string(p.Declined[i].VM[:]) < string(p.Declined[j].VM[:]) })
	if len(p.Declined) > maxDeclined {
		p.Declined = p.Declined[:maxDeclined]
	}
	if len(p.Actions) == 0 {
		// The plan's own reason stands first, under no VM.
		p.Declined = slices.Insert(p.Declined, 0, schemas.Decline{Reason: b.overall()})
	}
	Seal(&p)
	d.Plan = p
	return d
}

// bind names to each move what it waits for and who follows it.
func (b *board) bind(actions []schemas.Action) {
	at := map[*candidate]int{}
	for i, c := range b.moves {
		at[c] = i
	}
	for i, c := range b.moves {
		if c.leader == nil {
			continue
		}
		lead := &actions[at[c.leader]]
		actions[i].After = lead.ID
		lead.Helpers = append(lead.Helpers, schemas.Helper{VM: actions[i].VM, Destination: actions[i].Destination})
	}
}

// Seal gives a plan its content ids: the hash of its actions, and its name.
func Seal(p *schemas.Plan) {
	p.Hash = schemas.HashJSON(p.Actions)
	p.ID = ""
	p.ID = schemas.PlanID("p-" + schemas.HashJSON(p))
}

// aside are VMs outside the search that a person wants to hear of: frozen
// duplicates, and VMs short by their own allocation, which no move helps.
func (b *board) aside() []schemas.Decline {
	s, in := b.s, map[int32]bool{}
	for _, c := range b.cands {
		in[c.vm] = true
	}
	for _, c := range b.moves {
		in[c.vm] = true
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
func (b *board) overall() schemas.Reason {
	s, cands := b.s, b.cands
	if !s.Gate.OK() {
		return s.Gate
	}
	pressed, held := 0, 0
	for h := range s.Pressure {
		if s.Pressed(int32(h)) {
			pressed++
		}
	}
	for _, c := range cands {
		if c.must() {
			why := s.decline(c)
			return no(why.Code, "%s; %s has to move: %s", why.Detail, s.V.VMs[c.vm].Name, c.duty.Detail)
		}
	}
	if pressed == 0 {
		return no(schemas.ReasonNoPressure, "no host's pressure within %s is above %.2f", s.steps(s.P.LookAheadSteps), float64(s.P.Trigger))
	}
	for _, c := range cands {
		if c.why.Code == schemas.ReasonHold {
			held++
		}
	}
	if held > 0 && held == len(cands) {
		return no(schemas.ReasonHold, "%s pressed, but not yet for %s", hosts(pressed), s.steps(s.P.HoldSteps))
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
		return no(schemas.ReasonBelowMinimum, "no host can make it save more than %s core-seconds, least %s", schemas.Figure(c.saves), schemas.Figure(s.minBenefit))
	}
	if len(c.counts) == 0 {
		return no(schemas.ReasonNoRoom, "there is no other host")
	}
	codes := make([]string, 0, len(c.counts))
	for code := range c.counts {
		codes = append(codes, string(code))
	}
	slices.Sort(codes)
	if m := &s.V.VMs[c.vm]; m.Advice == string(schemas.ReasonResizeAdvised) && c.counts[schemas.ReasonBelowMinimum] == 0 {
		return no(schemas.ReasonResizeAdvised, "%s outgrows its own allocation (chance %.2f), and no other host brings anything", m.Name, float64(m.OwnLimit))
	}
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
		return no(schemas.ReasonBelowMinimum, "the best of %d hosts brings %s core-seconds, least %s", c.looked(), schemas.Figure(c.score), schemas.Figure(s.minBenefit))
	}
	var parts []string
	for _, code := range codes {
		parts = append(parts, fmt.Sprintf("%d %s", c.counts[schemas.ReasonCode(code)], strings.ReplaceAll(code, "_", " ")))
	}
	return no(schemas.ReasonNoBenefit, "hosts: %s", strings.Join(parts, ", "))
}

func (s *State) benefit(c *candidate, why schemas.Reason) schemas.Benefit {
	m := &s.V.VMs[c.vm]
	b := schemas.Benefit{VM: m.ID, Host: s.V.Hosts[m.Host].ID, Time: s.V.Now, Reason: why, WhyNot: s.explained(c)}
	if c.has {
		b.Destination, b.Gain = s.V.Hosts[c.best.dest].ID, s.itemised(c)
	}
	return b
}

// explained are the other hosts and why not each.
func (s *State) explained(c *candidate) []schemas.Decline {
	out := make([]schemas.Decline, 0, len(c.whyNot))
	for i := range c.whyNot {
		ch := &c.whyNot[i]
		if c.has && ch.dest == c.best.dest {
			continue
		}
		why := s.explain(ch)
		if why.OK() && c.has {
			why = no(schemas.ReasonWorse, "benefit %s core-seconds, %s gives %s", schemas.Figure(ch.gain.Benefit), s.V.Hosts[c.best.dest].ID, schemas.Figure(c.best.gain.Benefit))
		}
		out = append(out, schemas.Decline{VM: s.V.VMs[c.vm].ID, Host: s.V.Hosts[ch.dest].ID, Reason: why, Score: ch.gain.Benefit})
	}
	return out
}

// action turns a choice into an action. One that the last plan had already keeps
// its id, so that an approval of it stands.
func (s *State) action(c *candidate) schemas.Action {
	m, src, dst, w := &s.V.VMs[c.vm], &s.V.Hosts[c.home], &s.V.Hosts[c.dest], &c.best.timing
	act := schemas.Action{VM: m.ID, Name: m.Name, Source: src.ID, Destination: dst.ID, Due: w.due, Latest: w.latest, State: schemas.ActionPlanned, WhyNot: s.explained(c), Helpers: []schemas.Helper{}}
	if old := s.planned[c.vm]; old != nil && old.Destination == dst.ID {
		act.ID = old.ID
	} else {
		act.ID = schemas.CommandID("m-" + schemas.HashJSON([]any{m.ID, src.ID, dst.ID, s.V.Issued, s.f.RecordSeq(m.ID)}))
	}
	act.Predicted = schemas.Prediction{Onset: s.Pressure[c.home].Onset, Start: w.due, Duration: schemas.Seconds(w.transfer.Duration.Seconds()),
		Downtime: schemas.Millis(w.transfer.Downtime.Seconds() * 1000), Volume: w.transfer.Volume, Gain: s.itemised(c),
		Plain: &schemas.Plain{From: s.V.Sites[src.Site], To: s.V.Sites[dst.Site], Duration: schemas.Seconds(w.plain.Duration.Seconds()),
			Downtime: schemas.Millis(w.plain.Downtime.Seconds() * 1000), Volume: w.plain.Volume}}
	act.Reason = schemas.Reason{Code: schemas.ReasonOK, Detail: s.because(c)}
	act.Hold = s.hold(c.vm, c.home, c.dest, &act)
	if act.Due <= s.V.Now && !act.Hold.OK() {
		act.State = schemas.ActionWaiting
	}
	return act
}

// because says why a VM moves.
func (s *State) because(c *candidate) string {
	m, src, dst, w, p := &s.V.VMs[c.vm], &s.V.Hosts[c.home], &s.V.Hosts[c.dest], &c.best.timing, &s.Pressure[c.home]
	switch {
	case c.duty.Code == packing:
		return fmt.Sprintf("%s can be emptied: all of its VMs fit elsewhere below %.0f %% of capacity", src.ID, 100*float64(s.P.PackTarget))
	case c.must():
		return fmt.Sprintf("%s; %s is where %s does least harm", c.duty.Detail, dst.ID, m.Name)
	case c.leader != nil:
		return fmt.Sprintf("it makes room on %s for %s, which comes from %s; without it %s core-seconds less would be saved", src.ID, s.V.VMs[c.leader.vm].Name, s.V.Hosts[c.leader.home].ID, schemas.Figure(c.best.gain.Benefit))
	}
	lead := "the shortage is here already"
	switch {
	case p.OnsetSlot >= 0 && w.end < p.Onset:
		lead = fmt.Sprintf("the move ends %s before it", schemas.Span(p.Onset.Sub(w.end)))
	case p.OnsetSlot >= 0 && s.V.Now < p.Onset:
		lead = fmt.Sprintf("the move ends %s too late but pays all the same", schemas.Span(w.end.Sub(p.Onset)))
	}
	return fmt.Sprintf("%s runs short of %s with chance %.2f, %s of %s at the peak; %s; moving %s to %s saves %s of %s core-seconds",
		src.ID, p.Resource, p.Look, Amount(p.Resource, p.Peak), Amount(p.Resource, p.Limit), lead, m.Name, dst.ID, schemas.Figure(c.best.gain.Benefit), schemas.Figure(c.best.gain.Before))
}

// steps is so many base steps as a person says it.
func (s *State) steps(n int) string { return schemas.Span(time.Duration(n) * s.V.Base) }

// looked is how many hosts the candidate was judged against.
func (c *candidate) looked() int {
	n := 0
	for _, k := range c.counts {
		n += k
	}
	return n
}

func hosts(n int) string {
	if n == 1 {
		return "1 host is"
	}
	return fmt.Sprintf("%d hosts are", n)
}

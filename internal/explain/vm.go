package explain

import (
	"fmt"
	"slices"
	"strings"

	"github.com/foreshift/foreshift/schemas"
)

// VM is what is known of one VM. Nil and empty mean that nobody has said it.
type VM struct {
	Now          schemas.Time
	ID           schemas.VMID
	Name         string
	Host         schemas.HostID   // where it was seen last
	Running      []schemas.HostID // where a copy runs
	Stale        bool             // its host has not been heard of lately
	OwnLimit     *schemas.PressureVM
	Contention   *schemas.PressureVM
	HostPressure *schemas.PressureHost
	Benefit      *schemas.Benefit
	Plan         *schemas.Plan // the newest
	Moves        []Move        // of this VM, newest first
	Mode         schemas.Mode
	Paused       bool
}

// Of tells the story of one VM.
func Of(v VM) Story {
	s := Story{Code: schemas.ReasonOK, Parts: []Part{}, Do: []string{}}
	if c := v.Contention; c != nil && c.Host != "" && v.Host != "" && c.Host != v.Host {
		v.Contention = nil // told of a host that it has left, and of no other yet
	}
	act := v.action()
	switch {
	case len(v.Running) > 1:
		s.Code = schemas.ReasonDuplicate
		s.Headline = fmt.Sprintf("%s runs on %s at once: it is frozen until a person has looked.", v.Name, hosts(v.Running))
	case len(v.Moves) > 0 && v.Moves[0].Outcome == nil:
		c := &v.Moves[0].Command
		s.Headline = fmt.Sprintf("%s is being moved from %s to %s.", v.Name, c.Source, c.Destination)
	case len(v.Moves) > 0 && v.Moves[0].Outcome.Result == schemas.ResultUnknown:
		s.Code = schemas.ReasonUnknownMove
		s.Headline = fmt.Sprintf("Nobody knows where %s runs: its move from %s to %s ended as UNKNOWN.", v.Name, v.Moves[0].Command.Source, v.Moves[0].Command.Destination)
	case act != nil:
		s.Code = act.Hold.Code
		s.Headline = fmt.Sprintf("%s is to move from %s to %s.", v.Name, act.Source, act.Destination)
	case v.Host == "":
		s.Headline = fmt.Sprintf("%s is on no host that was heard of.", v.Name)
	default:
		why := v.stays()
		s.Code = why.Code
		s.Headline = fmt.Sprintf("%s stays on %s.", v.Name, v.Host)
	}
	v.short(&s)
	if act != nil {
		v.moves(&s, act)
	} else {
		v.remains(&s)
	}
	v.past(&s)
	if act != nil {
		s.do(advice(act.Hold.Code, v.Name, act.Destination, v.Plan.ID, act.ID))
	} else {
		s.do(advice(s.Code, v.Name, v.Host, "", ""))
	}
	if o := v.OwnLimit; o != nil && o.Advice == string(schemas.ReasonResizeAdvised) && s.Code != schemas.ReasonResizeAdvised {
		s.do(advice(schemas.ReasonResizeAdvised, v.Name, v.Host, "", ""))
	}
	return s
}

func (s *Story) do(what string) {
	if what != "" && !slices.Contains(s.Do, what) {
		s.Do = append(s.Do, what)
	}
}

// action is the VM's move in the newest plan.
func (v *VM) action() *schemas.Action {
	if v.Plan == nil {
		return nil
	}
	for i := range v.Plan.Actions {
		a := &v.Plan.Actions[i]
		if a.VM != v.ID || len(v.Moves) > 0 && v.Moves[0].Command.ID == a.ID {
			continue // what was commanded is told by the move
		}
		return a
	}
	return nil
}

// stays is the reason for which the VM stays: the plan's word, else that of its
// benefit, else that nothing presses.
func (v *VM) stays() schemas.Reason {
	if v.Plan != nil {
		for i := range v.Plan.Declined {
			if d := &v.Plan.Declined[i]; d.VM == v.ID {
				return d.Reason
			}
		}
	}
	if b := v.Benefit; b != nil && !b.Reason.OK() {
		return b.Reason
	}
	switch {
	case v.Stale:
		return schemas.Reason{Code: schemas.ReasonStale, Detail: fmt.Sprintf("%s has not been heard of lately", v.Host)}
	case !pressed(v.Contention) && v.OwnLimit != nil && v.OwnLimit.Advice == string(schemas.ReasonResizeAdvised):
		return schemas.Reason{Code: schemas.ReasonResizeAdvised, Detail: "it outgrows its own allocation, which no host changes"}
	case v.Plan != nil && len(v.Plan.Actions) == 0 && pressed(v.Contention):
		for i := range v.Plan.Declined {
			if d := &v.Plan.Declined[i]; d.VM.IsZero() {
				return d.Reason
			}
		}
	}
	return schemas.Reason{Code: schemas.ReasonNoPressure, Detail: "its host has room for what is forecast"}
}

func pressed(p *schemas.PressureVM) bool { return p != nil && p.Score > 0 }

// short answers whether the VM will run short.
func (v *VM) short(s *Story) {
	var points []string
	answer := "No shortage is foreseen for it."
	if v.Stale || v.Host == "" {
		answer = "Nobody knows: its host has not been heard of lately."
	}
	if p := v.Contention; pressed(p) {
		answer = fmt.Sprintf("Its host %s runs short of %s with a chance of %s within a day%s.", p.Host, p.Resource, percent(p.Score), horizons(p.Chances[p.Resource]))
		if p.Onset != 0 {
			begins := "begins"
			if p.Onset <= v.Now {
				begins = "began"
			}
			points = append(points, "it "+begins+" at "+when(p.Onset, v.Now))
		}
		if h := v.HostPressure; h != nil && h.Resource == p.Resource {
			points = append(points, fmt.Sprintf("the host's VMs together ask for %s of %s at the peak", Amount(h.Resource, h.Peak), Amount(h.Resource, h.Limit)))
		}
		points = append(points, parts(p.Why)...)
	}
	if p := v.OwnLimit; pressed(p) {
		own := fmt.Sprintf("It outgrows its own allocation of %s with a chance of %s within a day%s: a move does not help against that.", p.Resource, percent(p.Score), horizons(p.Chances[p.Resource]))
		if pressed(v.Contention) {
			points = append(points, own)
		} else {
			answer = own
			points = append(points, parts(p.Why)...)
		}
	}
	s.part("Will it run short?", answer, points...)
}

func horizons(c schemas.Chance) string {
	if c == (schemas.Chance{}) {
		return ""
	}
	return fmt.Sprintf(" (%s within 1 h, %s within 6 h)", percent(c.H1), percent(c.H6))
}

func parts(why []schemas.Why) (out []string) {
	for _, w := range why {
		if w.Text != "" {
			out = append(out, w.Text)
		}
	}
	return out
}

// moves answers why this VM, this host, and now.
func (v *VM) moves(s *Story, a *schemas.Action) {
	g := &a.Predicted.Gain
	points := []string{fmt.Sprintf("expected unmet demand of both hosts: %s without the move, %s with it; the move itself costs %s", work(g.Before), work(g.After), work(g.Cost))}
	points = append(points, terms(g)...)
	s.part("Why this VM?", a.Reason.Detail+".", points...)
	answer := fmt.Sprintf("%s gives the most for what the move costs.", a.Destination)
	if len(a.WhyNot) == 0 {
		answer = fmt.Sprintf("%s is the only host that was found for it.", a.Destination)
	}
	s.part(fmt.Sprintf("Why %s, and not another host?", a.Destination), answer, others(a.WhyNot)...)
	now := fmt.Sprintf("It starts at %s.", when(a.Due, v.Now))
	if a.Due <= v.Now {
		now = "It is due."
	}
	points = nil
	if on := a.Predicted.Onset; on != 0 {
		points = append(points, fmt.Sprintf("the shortage begins at %s; the move takes about %.3g s, and to be in time it has to start by %s", when(on, v.Now), float64(a.Predicted.Duration), when(a.Latest, v.Now)))
	}
	if !a.Hold.OK() {
		points = append(points, fmt.Sprintf("held back (%s): %s", a.Hold.Code, a.Hold.Detail))
	}
	s.part("Why now?", now, points...)
}

// terms are what a benefit is made of.
func terms(g *schemas.Gain) []string {
	var up, down []string
	for _, t := range g.Terms {
		words := strings.ReplaceAll(t.Name, "_", " ") + " " + schemas.Figure(t.Amount)
		switch {
		case t.Amount > 0:
			up = append(up, words)
		case t.Amount < 0:
			down = append(down, words)
		}
	}
	var out []string
	if len(up) > 0 {
		out = append(out, "for it, in core-seconds: "+strings.Join(up, ", "))
	}
	if len(down) > 0 {
		out = append(out, "against it: "+strings.Join(down, ", "))
	}
	return out
}

func others(list []schemas.Decline) (out []string) {
	for i := range list {
		out = append(out, fmt.Sprintf("not %s (%s): %s", list[i].Host, list[i].Reason.Code, list[i].Reason.Detail))
	}
	return out
}

// remains answers why the VM stays.
func (v *VM) remains(s *Story) {
	switch s.Code {
	case schemas.ReasonDuplicate, schemas.ReasonUnknownMove:
		s.part("Why does it stay?", "No move of it starts before a person has told where it runs.")
		return
	}
	if v.Host == "" || len(v.Moves) > 0 && v.Moves[0].Outcome == nil {
		return
	}
	why := v.stays()
	answer := because(why)
	var points []string
	if b := v.Benefit; b != nil && why.Code != schemas.ReasonNoPressure {
		if b.Destination != "" {
			points = append(points, fmt.Sprintf("its best move would be to %s: it saves %s of %s and costs %s", b.Destination, work(b.Gain.Before-b.Gain.After), work(b.Gain.Before), work(b.Gain.Cost)))
		}
		points = append(points, others(b.WhyNot)...)
	}
	s.part("Why does it stay?", answer, points...)
}

func because(why schemas.Reason) string {
	if why.Detail == "" {
		return fmt.Sprintf("The reason is %q; nothing more is said.", why.Code)
	}
	return fmt.Sprintf("Because %s (%s).", why.Detail, why.Code)
}

// maxPast is how many moves of the past are told.
const maxPast = 5

func (v *VM) past(s *Story) {
	var points []string
	for i := range v.Moves {
		if i == maxPast {
			break
		}
		m := &v.Moves[i]
		c := &m.Command
		line := fmt.Sprintf("%s to %s, commanded at %s: ", c.Source, c.Destination, when(c.Issued, v.Now))
		switch o := m.Outcome; {
		case o == nil:
			line += "under way"
		case o.Result == schemas.ResultSucceeded:
			line += fmt.Sprintf("succeeded in %s s, %s ms of standstill", schemas.Figure(float64(o.Duration)), schemas.Figure(float64(o.Downtime)))
			if on := c.Predicted.Onset; on > o.Time {
				line += fmt.Sprintf(", %s before the shortage it foresaw", schemas.Span(on.Sub(o.Time)))
			}
			if m.Effect != nil {
				line += "; " + m.Effect.Verdict
			}
		default:
			line += fmt.Sprintf("%s (%s)", o.Result, o.Reason.Code)
			if o.Reason.Detail != "" {
				line += ": " + o.Reason.Detail
			}
		}
		points = append(points, line)
	}
	if len(points) > 0 {
		s.part("What happened before?", plural(len(v.Moves), "move", "moves")+" on record.", points...)
	}
}

func hosts(hs []schemas.HostID) string {
	words := make([]string, len(hs))
	for i, h := range hs {
		words[i] = string(h)
	}
	return strings.Join(words, " and ")
}

package learning

import (
	"fmt"
	"slices"
	"strings"

	"github.com/foreshift/foreshift/placer/policy"
	"github.com/foreshift/foreshift/schemas"
)

// ClassOf names the class of a move for trust: the site it stays within, or the two it
// goes between, in either direction.
func ClassOf(a, b schemas.SiteID) string {
	if a == b {
		return string(a)
	}
	return string(min(a, b)) + "/" + string(max(a, b))
}

// classOf is the class of a move that says its way; empty: it was made before moves did.
func classOf(p *schemas.Plain) string {
	if p == nil {
		return ""
	}
	return ClassOf(p.From, p.To)
}

const (
	mostClasses = 256
	lastEnds    = 10 // moves of a class that are looked back on
	// A guest that stood still for this many times as long as expected, and so many ms
	// more, had a bad move.
	stillTimes = 2
	stillMore  = 500
)

// Ends are how the last moves of each class ended, a fold of MIGRATIONS.
type Ends struct {
	By []ClassEnds // in order of their classes
}

// ClassEnds are the last moves of a class, the oldest first.
type ClassEnds struct {
	Class string
	Last  []End
}

// End is how one move ended.
type End struct {
	Command schemas.CommandID
	At      schemas.Time
	Bad     string // why it was a bad one; empty: it was not
}

func search(classes []ClassEnds, class string) (int, bool) {
	return slices.BinarySearchFunc(classes, class, func(c ClassEnds, k string) int { return strings.Compare(c.Class, k) })
}

// Outcome notes how a move ended at a stream time. A refused one never began.
func (e *Ends) Outcome(o *schemas.Outcome, at schemas.Time) {
	class := classOf(o.Predicted.Plain)
	if class == "" || o.Result == schemas.ResultRefused {
		return
	}
	bad := ""
	switch most := stillTimes*o.Predicted.Downtime + stillMore; {
	case o.Result != schemas.ResultSucceeded:
		bad = fmt.Sprintf("it %s", word(o))
	case o.Downtime > most:
		bad = fmt.Sprintf("its guest stood still for %.0f ms, %.0f were expected", float64(o.Downtime), float64(o.Predicted.Downtime))
	}
	i, ok := search(e.By, class)
	if !ok {
		if len(e.By) >= mostClasses {
			return
		}
		e.By = slices.Insert(e.By, i, ClassEnds{Class: class})
	}
	c := &e.By[i]
	for j := range c.Last {
		if c.Last[j].Command == o.Command { // an end that became known later
			c.Last[j].At, c.Last[j].Bad = at, bad
			return
		}
	}
	if len(c.Last) >= lastEnds {
		c.Last = slices.Delete(c.Last, 0, len(c.Last)-lastEnds+1)
	}
	c.Last = append(c.Last, End{o.Command, at, bad})
}

func word(o *schemas.Outcome) string {
	if o.Result == schemas.ResultUnknown {
		return "has an end that nobody knows"
	}
	return "failed: " + string(o.Reason.Code)
}

// Effect makes a move bad of which it is certain that its VM waits more for a core than
// it would have, or its new neighbours do while those it left do not wait less.
func (e *Ends) Effect(m *schemas.Effect, at schemas.Time) {
	more := func(term string) bool { c, ok := m.Terms[term]; return ok && c.Low > 0 }
	less := func(term string) bool { c, ok := m.Terms[term]; return ok && c.High < 0 }
	bad := ""
	switch {
	case more("vm.steal_mcpu"):
		bad = "its VM waits more for a core than it would have without it"
	case more("destination.steal_mcpu") && !less("source.steal_mcpu"):
		bad = "its new neighbours wait more for a core, and those it left do not wait less"
	default:
		return
	}
	for i := range e.By {
		for j := range e.By[i].Last {
			if x := &e.By[i].Last[j]; x.Command == m.Command && x.Bad == "" {
				x.At, x.Bad = at, bad
			}
		}
	}
}

// rung is the one of a class, made when there is none; nil beyond the bound.
func (l *Ladder) rung(class string) *schemas.Rung {
	i, ok := slices.BinarySearchFunc(l.Rungs, class, func(r schemas.Rung, k string) int { return strings.Compare(r.Class, k) })
	if !ok {
		if len(l.Rungs) >= mostClasses {
			return nil
		}
		l.Rungs = slices.Insert(l.Rungs, i, schemas.Rung{Class: class})
	}
	return &l.Rungs[i]
}

// judged counts a decision in shadow for its class.
func (l *Ladder) judged(class string, right bool) {
	r := l.rung(class)
	switch {
	case r == nil || class == "":
	case right:
		r.Right++
	default:
		r.Wrong++
	}
}

// Settle takes classes down whose last moves ended badly too often, and lets those up
// that have earned it. What ended before lifted, when an operator last said that moves
// are made without asking, is forgiven.
func (l *Ladder) Settle(p *policy.Policy, ends *Ends, lifted, now schemas.Time) {
	if p.Learning == nil {
		return
	}
	for i := range l.Rungs {
		if r := &l.Rungs[i]; r.Fell != 0 && lifted > r.Fell {
			r.Fell, r.Why, r.Earned = 0, "", now
		}
	}
	for i := range ends.By {
		c := &ends.By[i]
		bad, last := 0, End{}
		for _, e := range c.Last {
			if e.Bad != "" && e.At > lifted {
				if bad++; e.At >= last.At {
					last = e
				}
			}
		}
		if p.Learning.DemoteAfter == 0 || bad < p.Learning.DemoteAfter {
			continue
		}
		if r := l.rung(c.Class); r != nil && last.At > r.Fell {
			*r = schemas.Rung{Class: c.Class, Fell: last.At, Why: fmt.Sprintf("%d of its last %d moves ended badly; of the last one, %s", bad, len(c.Last), last.Bad)}
		}
	}
	if p.Learning.AutoAfter == 0 {
		return
	}
	for i := range l.Rungs {
		r := &l.Rungs[i]
		if r.Earned == 0 && proven(r, p.Learning) {
			r.Earned = now
		}
	}
}

// proven reports whether enough decisions in shadow were judged and came true.
func proven(r *schemas.Rung, l *schemas.Learning) bool {
	n := r.Right + r.Wrong
	return n >= l.AutoAfter && float64(r.Right) >= float64(l.AutoRight)*float64(n)
}

// May says why moves of a class are not made by themselves although the mode is auto; ok
// when they are.
func (l *Ladder) May(p *policy.Policy, class string) schemas.Reason {
	if p.Learning == nil || p.Learning.AutoAfter == 0 && p.Learning.DemoteAfter == 0 {
		return schemas.Reason{Code: schemas.ReasonOK, Detail: "the policy asks for no proof"}
	}
	r := schemas.Rung{Class: class}
	if i := slices.IndexFunc(l.Rungs, func(x schemas.Rung) bool { return x.Class == class }); i >= 0 {
		r = l.Rungs[i]
	}
	n := r.Right + r.Wrong
	share := 0.
	if n > 0 {
		share = 100 * float64(r.Right) / float64(n)
	}
	switch more := p.Learning.AutoAfter - n; {
	case r.Earned != 0:
		return schemas.Reason{Code: schemas.ReasonOK, Detail: "auto is trusted with moves " + within(class)}
	case r.Fell != 0 && p.Learning.DemoteAfter > 0:
		again := "`foreshift mode auto` trusts it again"
		if p.Learning.AutoAfter > 0 {
			again += fmt.Sprintf(", and so do %d decisions in shadow of which %.0f %% come true; %d are judged, %.0f %% right", p.Learning.AutoAfter, 100*float64(p.Learning.AutoRight), n, share)
		}
		return schemas.Reason{Code: schemas.ReasonDemoted, Detail: fmt.Sprintf("moves %s are only recommended: %s; %s", within(class), r.Why, again)}
	case p.Learning.AutoAfter > 0 && more > 0:
		return schemas.Reason{Code: schemas.ReasonNotEarned, Detail: fmt.Sprintf("auto is not earned yet for moves %s: %d of %d decisions in shadow are judged, %.0f %% of them right", within(class), n, p.Learning.AutoAfter, share)}
	case p.Learning.AutoAfter > 0 && proven(&r, p.Learning):
		return schemas.Reason{Code: schemas.ReasonNotEarned, Detail: fmt.Sprintf("auto is earned for moves %s from the next decision on: %.0f %% of %d decisions in shadow were right", within(class), share, n)}
	case p.Learning.AutoAfter > 0:
		return schemas.Reason{Code: schemas.ReasonNotEarned, Detail: fmt.Sprintf("auto is not earned for moves %s: %.0f %% of %d decisions in shadow were right, %.0f %% are asked for", within(class), share, n, 100*float64(p.Learning.AutoRight))}
	}
	return schemas.Reason{Code: schemas.ReasonOK, Detail: "auto is trusted with moves " + within(class)}
}

func within(class string) string {
	if a, b, two := strings.Cut(class, "/"); two {
		return "between " + a + " and " + b
	}
	return "within " + class
}

package learning

import (
	"fmt"
	"slices"
	"time"

	"github.com/foreshift/foreshift/placer/policy"
	"github.com/foreshift/foreshift/schemas"
)

// Ladder is how far a cluster has earned that its moves are made without asking: what
// decisions foresaw that nobody had carried out, and whether it came. A shortage that a
// move prevented cannot be seen, so that only moves that were not made count.
type Ladder struct {
	Open  []Foreseen
	Right int                 // the host ran short within the time
	Wrong int                 // it did not
	Done  []schemas.CommandID // judged or made: a plan that repeats one does not count again
}

// Foreseen is a decision in shadow: a host that was to run short of CPU or memory.
type Foreseen struct {
	Command schemas.CommandID
	Host    schemas.HostID
	Decided schemas.Time
	Onset   schemas.Time
	Short   bool
}

// Around the foreseen onset a shortage counts as foreseen: so many steps before, and so
// many after. mostOpen bounds what is waited for.
const (
	early    = 6
	late     = 24
	mostOpen = 4096
)

// Foresee notes the moves of a plan that stay undone: those that wait for a person. A
// move of which is known already is noted once; what is commanded is taken out again by
// Made.
func (l *Ladder) Foresee(p *schemas.Plan) {
	for i := range p.Actions {
		a := &p.Actions[i]
		if a.Predicted.Onset == 0 || len(l.Open) >= mostOpen || slices.Contains(l.Done, a.ID) || slices.ContainsFunc(l.Open, func(f Foreseen) bool { return f.Command == a.ID || f.Host == a.Source }) {
			continue
		}
		l.Open = append(l.Open, Foreseen{Command: a.ID, Host: a.Source, Decided: p.Time, Onset: a.Predicted.Onset})
	}
}

// Made takes a move out that was commanded after all, and all that was foreseen of its
// source: it is another host now.
func (l *Ladder) Made(c *schemas.Command) {
	l.done(c.ID)
	l.Open = slices.DeleteFunc(l.Open, func(f Foreseen) bool { return f.Command == c.ID || f.Host == c.Source })
}

func (l *Ladder) done(id schemas.CommandID) {
	if len(l.Done) >= mostOpen {
		l.Done = slices.Delete(l.Done, 0, mostOpen/2)
	}
	l.Done = append(l.Done, id)
}

// Measured tells that a host was looked at, and whether it was short then. base is the
// length of a step.
func (l *Ladder) Measured(host schemas.HostID, at schemas.Time, short bool, base time.Duration) {
	l.Open = slices.DeleteFunc(l.Open, func(f Foreseen) bool {
		if f.Host != host || at < f.Onset.Add(-early*base) {
			return false
		}
		if short && at <= f.Onset.Add(late*base) {
			l.Right++
			l.done(f.Command)
			return true
		}
		if at > f.Onset.Add(late*base) {
			l.Wrong++
			l.done(f.Command)
			return true
		}
		return false
	})
}

// Precision is the share of decisions that were right; 0 before the first.
func (l *Ladder) Precision() float64 {
	if n := l.Right + l.Wrong; n > 0 {
		return float64(l.Right) / float64(n)
	}
	return 0
}

// Earned says whether auto is trusted under a policy, or what is missing.
func (l *Ladder) Earned(p *policy.Policy) schemas.Reason {
	if p.Learning == nil || p.Learning.AutoAfter == 0 {
		return schemas.Reason{Code: schemas.ReasonOK, Detail: "the policy asks for no proof"}
	}
	n, right := l.Right+l.Wrong, p.Learning.AutoRight
	switch {
	case n < p.Learning.AutoAfter:
		return schemas.Reason{Code: schemas.ReasonNotEarned, Detail: fmt.Sprintf("auto is not earned yet: %d of %d decisions in shadow are judged, %.0f %% of them right", n, p.Learning.AutoAfter, 100*l.Precision())}
	case l.Precision() < float64(right):
		return schemas.Reason{Code: schemas.ReasonNotEarned, Detail: fmt.Sprintf("auto is not earned: %.0f %% of %d decisions in shadow were right, %.0f %% are asked for", 100*l.Precision(), n, 100*float64(right))}
	}
	return schemas.Reason{Code: schemas.ReasonOK, Detail: fmt.Sprintf("auto is earned: %.0f %% of %d decisions in shadow were right", 100*l.Precision(), n)}
}

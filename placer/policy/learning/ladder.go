package learning

import (
	"slices"
	"time"

	"github.com/foreshift/foreshift/schemas"
)

// Ladder is how far a cluster has earned that its moves are made without asking: what
// decisions foresaw that nobody had carried out, and whether it came. A shortage that a
// move prevented cannot be seen, so that only moves that were not made count. Each class
// of moves ([ClassOf]) climbs by itself, and falls by itself when its moves end badly.
type Ladder struct {
	Open  []Foreseen
	Right int                 // the host ran short within the time
	Wrong int                 // it did not
	Done  []schemas.CommandID // judged or made: a plan that repeats one does not count again
	Rungs []schemas.Rung      // in order of their classes
}

// Foreseen is a decision in shadow: a host that was to run short of CPU or memory.
type Foreseen struct {
	Command schemas.CommandID
	Class   string
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
		l.Open = append(l.Open, Foreseen{Command: a.ID, Class: classOf(a.Predicted.Plain), Host: a.Source, Decided: p.Time, Onset: a.Predicted.Onset})
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
			l.judged(f.Class, true)
			l.done(f.Command)
			return true
		}
		if at > f.Onset.Add(late*base) {
			l.Wrong++
			l.judged(f.Class, false)
			l.done(f.Command)
			return true
		}
		return false
	})
}

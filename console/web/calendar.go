package web

import (
	"cmp"
	"slices"

	"github.com/foreshift/foreshift/console/live"
	"github.com/foreshift/foreshift/forecaster/calendar"
	"github.com/foreshift/foreshift/schemas"
)

// entry is an entry of the calendar with when it takes place next.
type entry struct {
	Entry *schemas.Calendar
	Next  schemas.Time // 0: over, or never
	End   schemas.Time
	Fault string // why the forecaster does not take it
}

func entryAt(e *schemas.Calendar, now schemas.Time) entry {
	out := entry{Entry: e}
	ev, err := calendar.Compile(e)
	if err != nil {
		out.Fault = err.Error()
		return out
	}
	if span, ok := ev.Next(now); ok {
		out.Next, out.End = span.Start, span.End
	}
	return out
}

// entries are those in force, the next one first, those that are over last.
func (s *Server) entries(now schemas.Time) (out []entry) {
	for _, e := range s.cfg.Model.Calendar() {
		out = append(out, entryAt(e, now))
	}
	slices.SortStableFunc(out, func(a, b entry) int {
		return cmp.Or(-cmp.Compare(btoi(a.Next != 0), btoi(b.Next != 0)), cmp.Compare(a.Next, b.Next), cmp.Compare(a.Entry.ID, b.Entry.ID))
	})
	return out
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// entriesOf are those that speak of a VM.
func (s *Server) entriesOf(v live.VM, now schemas.Time) (out []entry) {
	for _, e := range s.entries(now) {
		if calendar.Matches(e.Entry.Match, v.Labels) {
			out = append(out, e)
		}
	}
	return out
}

package matrix

import (
	"fmt"
	"slices"

	"github.com/foreshift/foreshift/internal/lab"
	"github.com/foreshift/foreshift/schemas"
)

// Result is one faulted move: what was done, what was seen, and what was wrong.
type Result struct {
	Cell    string          `json:"cell"`
	Round   int             `json:"round"`
	Step    string          `json:"step"`   // at which the fault struck
	Struck  bool            `json:"struck"` // false: the step was never reached
	First   schemas.Result  `json:"first"`  // what was reported first
	End     schemas.Result  `json:"end"`    // what the move ended as; unknown while nobody can tell
	Reason  string          `json:"reason"`
	RunsAt  schemas.HostID  `json:"runs_at"` // by virsh, at the end; empty when nowhere
	Seconds schemas.Seconds `json:"seconds"` // from the command to its first outcome
	Person  bool            `json:"person"`  // somebody had to help afterwards
	Running int             `json:"most_running_copies"`
	Alien   int64           `json:"foreign_records"` // on the guest's disk
	Looks   int             `json:"looks"`
	Silence schemas.Millis  `json:"longest_silence_ms"` // of the guest's heartbeat
	Wrong   []string        `json:"wrong"`              // empty when all held
	Trace   []string        `json:"-"`                  // the steps, in order
}

// Evidence is what one round is judged by.
type Evidence struct {
	Cell          Cell
	Source, Dest  schemas.HostID
	Hosts         []schemas.HostID
	First, End    *schemas.Outcome // nil: none in time
	Seen          lab.WatchReport
	States        []lab.State // at the end, by host
	Before, After lab.GuestReport
	Alive         bool // the heartbeat went on at the end
	Left          []string
}

// judge says what was wrong. It is pure.
func judge(e Evidence) (wrong []string) {
	fail := func(format string, a ...any) { wrong = append(wrong, fmt.Sprintf(format, a...)) }
	c := e.Cell
	if e.Seen.MaxRunning > 1 && !c.doubles {
		fail("%d copies ran at one moment", e.Seen.MaxRunning)
	}
	if n := e.After.Alien - e.Before.Alien; n > 0 {
		fail("the guest found %d records of a second writer on its disk", n)
	}
	if n := e.After.Bad - e.Before.Bad; n > 0 {
		fail("the guest found %d damaged pages", n)
	}
	running := -1
	count := 0
	for i, s := range e.States {
		if s == lab.StateRunning {
			running, count = i, count+1
		}
	}
	if !c.harms {
		switch {
		case count == 0:
			fail("no copy runs at the end: %v", e.States)
		case count > 1 && !c.doubles:
			fail("%d copies run at the end", count)
		case !e.Alive:
			fail("the guest is silent at the end")
		}
		if e.After.Resets != e.Before.Resets {
			fail("the guest booted again")
		}
	}
	if e.First == nil {
		fail("no outcome by the deadline")
	}
	if e.End != nil {
		if len(c.ends) > 0 && !slices.Contains(c.ends, e.End.Result) {
			fail("it ended as %s (%s), want %v", e.End.Result, e.End.Reason, c.ends)
		}
		if c.why != "" && e.End.Reason.Code != c.why {
			fail("the reason is %s, want %s", e.End.Reason, c.why)
		}
		if running >= 0 && count == 1 && !c.harms {
			at := e.Hosts[running]
			switch e.End.Result {
			case schemas.ResultSucceeded:
				if at != e.Dest {
					fail("reported as a success, and it runs on %s", at)
				}
			case schemas.ResultFailed, schemas.ResultRefused:
				if at != e.Source && !c.elsewhere && !c.moved {
					fail("reported as %s, and it runs on %s", e.End.Result, at)
				}
			}
		}
		if e.End.Result == schemas.ResultUnknown && !c.harms {
			fail("still UNKNOWN (%s) when all that was broken is whole again", e.End.Reason)
		}
	}
	for _, l := range e.Left {
		fail("left behind: %s", l)
	}
	return wrong
}

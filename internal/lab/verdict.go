package lab

import (
	"fmt"
	"time"

	"github.com/foreshift/foreshift/schemas"
)

// Evidence is all that a demonstration measured, by means of its own: virsh and
// the guests' heartbeats. What Foreshift says of itself is in Prediction, Action
// and Outcomes, and is not taken on trust.
type Evidence struct {
	Limit   schemas.MilliCPU // declared for the watched host
	Host    int              // index of that host
	HostIDs []schemas.HostID
	Start   time.Time // of the first day
	Day     time.Duration
	Watched int // days observed without moving; the next one is played in auto mode
	Samples []Sample

	Prediction *schemas.PressureHost // the last one before the command
	Action     *schemas.Action       // the move as it was commanded
	Outcomes   []*schemas.Outcome    // of the auto day, in order
	Guests     []GuestEvidence
}

// GuestEvidence is what was seen of one guest from outside.
type GuestEvidence struct {
	ID    schemas.VMID
	Name  string
	Beats GuestReport
	Seen  WatchReport
	EndAt int // index of the host it runs on at the end; -1 when none or not known
}

// Day is one day of the demonstration.
type Day struct {
	Start   time.Time    `json:"start"`
	Peak    float64      `json:"peak_mcpu"` // highest mean over 1 s on the watched host
	Crossed []Crossing   `json:"crossed"`   // of the limit, on the watched host
	Would   []Crossing   `json:"would"`     // by the guests' whole demand, as if all were there still
	Mode    schemas.Mode `json:"mode"`
}

// Verdict is what a demonstration showed. OK holds when Failures is empty.
type Verdict struct {
	OK       bool     `json:"ok"`
	Failures []string `json:"failures"`

	Days     []Day          `json:"days"`
	VM       string         `json:"vm"`
	Source   schemas.HostID `json:"source"`
	Dest     schemas.HostID `json:"destination"`
	Chance   schemas.Ratio  `json:"predicted_chance_ratio"`
	Onset    time.Time      `json:"predicted_onset"`
	Early    time.Duration  `json:"onset_early_ns"` // how much earlier than the measured crossing the predicted onset lay
	Reason   string         `json:"reason"`
	MoveFrom time.Time      `json:"move_started"`
	MoveTo   time.Time      `json:"move_ended"`
	Lead     time.Duration  `json:"lead_ns"`     // from the end of the move to when the limit would have been crossed
	Downtime time.Duration  `json:"downtime_ns"` // longest silence of the moved guest's heartbeat round the move
	Bad      int64          `json:"bad_pages"`   // all guests
	Pages    int64          `json:"pages_checked"`
	Running  int            `json:"most_running_copies"` // of one VM at one moment
	Looks    int            `json:"looks"`
}

// maxDowntime is what a client of the moved guest may miss.
const maxDowntime = 2 * time.Second

// Judge weighs the evidence. It is a pure function: the same evidence gives the
// same verdict.
func Judge(e Evidence) Verdict {
	v := Verdict{}
	fail := func(format string, args ...any) { v.Failures = append(v.Failures, fmt.Sprintf(format, args...)) }
	onHost := func(s Sample) float64 { return s.CPU[e.Host] }
	for d := 0; d <= e.Watched; d++ {
		day := Day{Start: e.Start.Add(time.Duration(d) * e.Day), Mode: schemas.ModeObserve}
		samples := between(e.Samples, day.Start, day.Start.Add(e.Day))
		if want := int(e.Day / time.Second); len(samples) < want {
			fail("day %d: %d measurements, want one a second at least", d+1, len(samples))
		}
		day.Crossed = Crossings(samples, onHost, e.Limit)
		day.Would = Crossings(samples, Sample.Total, e.Limit)
		day.Peak = peak(samples, onHost)
		if d == e.Watched {
			day.Mode = schemas.ModeAuto
		} else if len(day.Crossed) == 0 {
			fail("day %d, without a move, did not cross %.0f mCPU (peak %.0f): nothing was to be prevented", d+1, e.Limit, day.Peak)
		}
		v.Days = append(v.Days, day)
	}
	if len(v.Days) > 0 {
		v.judgeMove(e, fail)
	}
	v.judgeGuests(e, fail)
	v.OK = len(v.Failures) == 0
	return v
}

// judgeMove asks whether the auto day was saved by one move in time.
func (v *Verdict) judgeMove(e Evidence, fail func(string, ...any)) {
	last := v.Days[len(v.Days)-1]
	if n := len(last.Crossed); n > 0 {
		fail("on the last day the limit was crossed all the same, %v after its start", last.Crossed[0].From.Sub(last.Start).Round(100*time.Millisecond))
	}
	if e.Prediction == nil {
		fail("no pressure of the host was predicted")
	} else {
		v.Chance, v.Onset = e.Prediction.Score, e.Prediction.Onset.Std()
	}
	if e.Action != nil {
		v.Reason = e.Action.Reason.Detail
		if v.Reason == "" {
			v.Reason = string(e.Action.Reason.Code)
		}
		if o := e.Action.Predicted.Onset; o != 0 {
			v.Onset = o.Std() // what this very decision counted with
		}
	}
	var done *schemas.Outcome
	for _, o := range e.Outcomes {
		if o.Result == schemas.ResultSucceeded {
			if done == nil {
				done = o
			}
		} else {
			fail("a move ended as %s: %s", o.Result, o.Reason.Detail)
		}
	}
	if done == nil {
		fail("no move succeeded")
		return
	}
	v.Source, v.Dest = done.Source, done.Destination
	v.MoveFrom, v.MoveTo = done.Started.Std(), done.Time.Std()
	if e.HostIDs[e.Host] != v.Source {
		fail("the move left %s, not the watched host %s", v.Source, e.HostIDs[e.Host])
	}
	if len(last.Would) == 0 {
		fail("on the last day the guests' demand would not have crossed the limit")
	} else {
		onset := last.Would[0].From
		v.Lead = onset.Sub(v.MoveTo)
		if v.Lead <= 0 {
			fail("the move ended %v after the crossing it was to prevent", -v.Lead)
		}
		if !v.Onset.IsZero() {
			v.Early = onset.Sub(v.Onset)
			if !v.Onset.After(v.MoveFrom) {
				fail("the move began %v after the onset it went by: a reaction, not a prediction", v.MoveFrom.Sub(v.Onset).Round(100*time.Millisecond))
			}
		}
	}
	for _, g := range e.Guests {
		if g.ID != done.VM {
			continue
		}
		v.VM = g.Name
		v.Downtime = g.Beats.Silence(v.MoveFrom, v.MoveTo)
		if v.Downtime >= maxDowntime {
			fail("%s was silent for %v, want below %v", g.Name, v.Downtime, maxDowntime)
		}
		if g.EndAt < 0 || e.HostIDs[g.EndAt] != v.Dest {
			fail("%s does not run on %s at the end", g.Name, v.Dest)
		}
	}
	if v.VM == "" {
		fail("the moved VM %s is none of the guests", done.VM)
	}
}

// judgeGuests asks whether every guest is whole, alive and there once.
func (v *Verdict) judgeGuests(e Evidence, fail func(string, ...any)) {
	for _, g := range e.Guests {
		v.Bad += g.Beats.Bad
		v.Pages += g.Beats.Pages
		v.Running = max(v.Running, g.Seen.MaxRunning)
		v.Looks += g.Seen.Looks
		if g.Beats.Beats == 0 || g.Beats.Pages == 0 {
			fail("%s was never heard", g.Name)
		}
		if g.Beats.Bad != 0 {
			fail("%s found %d damaged pages", g.Name, g.Beats.Bad)
		}
		if g.Beats.Resets != 0 {
			fail("%s booted again %d times", g.Name, g.Beats.Resets)
		}
		if g.Seen.Looks == 0 || g.Seen.MaxRunning != 1 {
			fail("%s: %d running copies at the most in %d looks, want exactly one", g.Name, g.Seen.MaxRunning, g.Seen.Looks)
		}
		if g.EndAt < 0 {
			fail("%s does not run on exactly one host at the end", g.Name)
		}
	}
}

// peak is the highest mean over the smoothing window.
func peak(samples []Sample, value func(Sample) float64) float64 {
	best, sum, first := 0.0, 0.0, 0
	for i, s := range samples {
		sum += value(s)
		for s.Time.Sub(samples[first].Time) > smooth {
			sum -= value(samples[first])
			first++
		}
		best = max(best, sum/float64(i-first+1))
	}
	return best
}

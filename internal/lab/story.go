package lab

import (
	"fmt"
	"io"
	"time"

	"github.com/foreshift/foreshift/schemas"
)

// story tells a demonstration to a person, line by line, each with the time since
// the first day began.
type story struct {
	out    io.Writer
	start  time.Time
	begun  time.Time
	chance schemas.Ratio
	onset  schemas.Time
	told   schemas.Time // when a forecast was last told
	move   string       // the action last told
	phase  schemas.Phase
	reason map[schemas.ReasonCode]bool // declines told, once each
}

func newStory(out io.Writer) *story {
	return &story{out: out, begun: time.Now(), reason: map[schemas.ReasonCode]bool{}}
}

// line prints; a terminal that is gone must not stop the demonstration.
func (s *story) line(format string, args ...any) { _, _ = fmt.Fprintf(s.out, format+"\n", args...) }

// note is a line of the preparations.
func (s *story) note(text string) {
	s.line("%7.1f s  %s", time.Since(s.begun).Seconds(), text)
}

// at is a line at a time of the days.
func (s *story) at(t time.Time, format string, args ...any) {
	s.line("%+7.1f s  %s", t.Sub(s.start).Seconds(), fmt.Sprintf(format, args...))
}

func (s *story) begin(h *Host, cfg DemoConfig, day, wait time.Duration) {
	s.start = time.Now().Add(wait)
	s.line("")
	s.line("Host %s may use %.0f mCPU (declared). Guest \"steady\" asks for about %d, guest \"rising\" for about", h.ID, h.Capacity.CPU, steadyLoad*10+30)
	s.line("%d and, for a part of each day, %d. A day is %d base steps of %v: %v. Times count from the first", lowLoad*10+30, highLoad*10+30, schemas.StepsPerDay, cfg.Base, day)
	s.line("full day, which begins in %.0f s.", wait.Seconds())
	s.line("")
}

func (s *story) dayDone(n int, from time.Time, peak float64, crossed []Crossing) {
	end := time.Now()
	if len(crossed) == 0 {
		s.at(end, "day %d is over: measured peak %.0f mCPU, the limit was not crossed", n, peak)
		return
	}
	c := crossed[0]
	s.at(end, "day %d is over: measured peak %.0f mCPU, above the limit from %.1f s to %.1f s of the day", n, peak, c.From.Sub(from).Seconds(), c.To.Sub(from).Seconds())
}

// quiet is how long a forecast that only shifts a little is not told again: a new
// one comes with every base step.
const quiet = 6 * time.Second

// pressure tells a forecast when it says something new: a tenth of chance, or an
// onset elsewhere by 2 s; that the pressure has gone is told at once.
func (s *story) pressure(m *schemas.PressureHost) {
	moved := m.Onset.Sub(s.onset)
	if diff := m.Score - s.chance; diff < .1 && diff > -.1 && moved < 2*time.Second && moved > -2*time.Second {
		return
	}
	gone := m.Onset == 0 && s.onset != 0
	if !gone && m.Time.Sub(s.told) < quiet {
		return
	}
	s.chance, s.onset, s.told = m.Score, m.Onset, m.Time
	now := m.Time.Std()
	if m.Onset == 0 {
		s.at(now, "  forecast: %s has enough %s; chance of a shortage %.2f", m.Host, m.Resource, m.Score)
		return
	}
	s.at(now, "  forecast: %s will be short of %s with chance %.2f, from %+.1f s on (in %.1f s); peak %.0f of %.0f", m.Host, m.Resource, m.Score,
		m.Onset.Std().Sub(s.start).Seconds(), m.Onset.Sub(m.Time).Seconds(), m.Peak, m.Limit)
}

// plan tells a move when it is new or goes a step further.
func (s *story) plan(m *schemas.Plan, auto bool) {
	now := m.Time.Std()
	for _, a := range m.Actions {
		key := fmt.Sprint(a.VM, a.Destination, a.State)
		if key == s.move {
			continue
		}
		s.move = key
		s.at(now, "  plan: move %s from %s to %s (%s)", a.Name, a.Source, a.Destination, a.State)
		s.at(now, "    because %s", sentence(a.Reason))
		if a.Hold.Code != "" && a.Hold.Code != schemas.ReasonOK {
			s.at(now, "    not yet: %s", sentence(a.Hold))
		}
	}
	for _, x := range m.Declined {
		if auto && len(m.Actions) == 0 && !s.reason[x.Reason.Code] {
			s.reason[x.Reason.Code] = true
			s.at(now, "  no move: %s", sentence(x.Reason))
		}
	}
}

func (s *story) progress(m *schemas.Progress) {
	if m.Phase == s.phase {
		return
	}
	s.phase = m.Phase
	s.at(m.Time.Std(), "  move: %s (reported by %s)", m.Phase, m.Host)
}

func (s *story) outcome(m *schemas.Outcome) {
	s.at(m.Time.Std(), "  move %s: %s to %s in %.1f s; source %s, destination %s. %s", m.Result, m.Source, m.Destination, m.Duration, m.SourceSeen, m.DestSeen, sentence(m.Reason))
}

// sentence says a reason: its particulars, else its code.
func sentence(r schemas.Reason) string {
	if r.Detail != "" {
		return r.Detail
	}
	return string(r.Code)
}

// verdict prints the end of the story.
func (s *story) verdict(e Evidence, v Verdict) {
	since := func(t time.Time) string {
		if t.IsZero() || t.Unix() == 0 {
			return "-"
		}
		return fmt.Sprintf("%+.1f s", t.Sub(e.Start).Seconds())
	}
	s.line("")
	s.line("What was measured from outside (virsh, heartbeats):")
	for i, d := range v.Days {
		what := "not crossed"
		if len(d.Crossed) > 0 {
			what = fmt.Sprintf("crossed at %s for %.1f s", since(d.Crossed[0].From), d.Crossed[0].To.Sub(d.Crossed[0].From).Seconds())
		}
		if i == e.Watched && len(d.Would) > 0 {
			what += fmt.Sprintf("; without the move: crossed at %s", since(d.Would[0].From))
		}
		s.line("  day %d (%-7s)  peak on %s %4.0f of %.0f mCPU: %s", i+1, d.Mode, e.HostIDs[e.Host], d.Peak, e.Limit, what)
	}
	s.line("  prediction       chance %.2f, onset %s: %.1f s before the crossing by measurement", v.Chance, since(v.Onset), v.Early.Seconds())
	s.line("  decision         %s", v.Reason)
	s.line("  move             %s from %s to %s, %s to %s", v.VM, v.Source, v.Dest, since(v.MoveFrom), since(v.MoveTo))
	s.line("  lead time        %.1f s between the end of the move and the crossing it prevented", v.Lead.Seconds())
	s.line("  downtime         %d ms by the guest's heartbeat (to %v)", v.Downtime.Milliseconds(), demoBeat)
	s.line("  memory           %d damaged of %d pages checked", v.Bad, v.Pages)
	s.line("  copies           at most %d running at any of %d looks", v.Running, v.Looks)
	s.line("")
	if v.OK {
		s.line("VERDICT: moved before the crossing, guest unharmed.")
		return
	}
	s.line("VERDICT: NOT shown.")
	for _, f := range v.Failures {
		s.line("  - %s", f)
	}
}

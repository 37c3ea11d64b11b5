package pressure

import (
	"fmt"
	"math"
	"time"

	"github.com/foreshift/foreshift/schemas"
)

// Subject is the VM an estimate speaks of.
type Subject struct {
	VM     schemas.VMID
	Host   schemas.HostID
	Issued schemas.Step
	Base   time.Duration
	Now    schemas.Time // stream time of the decision
}

// Message makes the event from the estimates per resource, which must not be empty;
// limits are those the estimates were made with.
func Message(of Subject, est map[schemas.Resource]Estimate, limits schemas.Vec) *schemas.PressureVM {
	m := &schemas.PressureVM{VM: of.VM, Host: of.Host, Cause: schemas.CauseOwnLimit, Time: of.Now,
		Issued: of.Issued, Chances: map[string]schemas.Chance{}}
	best := schemas.Resource(0)
	have := false
	for r := schemas.Resource(0); r < schemas.NumResources; r++ {
		e, ok := est[r]
		if !ok {
			continue
		}
		m.Chances[r.String()] = rounded(e.Chance)
		if !have || e.Chance.Max() > est[best].Chance.Max() {
			best, have = r, true
		}
	}
	e := est[best]
	m.Resource = best.String()
	m.Score = rounded(e.Chance).Max()
	m.Peak, m.Limit = float64(e.Peak), limits[best]
	m.Why = []schemas.Why{}
	if e.Expected {
		m.Onset = (of.Issued + schemas.Step(e.Onset)).Start(of.Base)
		m.Advice = string(schemas.ReasonResizeAdvised)
		m.Why = why(best, &e, limits[best], of.Base)
	}
	return m
}

// rounded keeps four decimals: what is published does not flutter in the last bit.
func rounded(c schemas.Chance) schemas.Chance {
	r := func(p schemas.Ratio) schemas.Ratio { return schemas.Ratio(math.Round(float64(p)*1e4) / 1e4) }
	return schemas.Chance{H1: r(c.H1), H6: r(c.H6), H24: r(c.H24)}
}

// why says in sentences what speaks for the chance; the share is that of the evidence's
// own chance in the sum of all.
func why(r schemas.Resource, e *Estimate, limit float64, base time.Duration) []schemas.Why {
	h := schemas.Horizons[e.Horizon]
	span := (time.Duration(h) * base).String()
	out := []schemas.Why{{Kind: "peak", Share: 0,
		Text: fmt.Sprintf("%s demand is expected to peak near %s, the limit is %s", r, amount(r, float64(e.Peak)), amount(r, limit))}}
	parts := [...]struct {
		kind string
		p    float32
		text string
	}{
		{"model", e.AfterSuch, fmt.Sprintf("moments like the present one were followed by a shortage within %s in %.0f %% of cases over the fleet", span, 100*e.AfterSuch)},
		{"season", e.SameTime, fmt.Sprintf("at this time of day the chance was %.0f %% over the last %d days", 100*e.SameTime, e.Days)},
		{"model", e.Paths, fmt.Sprintf("%.0f %% of the scenarios exceed the limit within %s", 100*e.Paths, span)},
		{"model", e.Marginal, fmt.Sprintf("the forecast's worst slot exceeds the limit with %.0f %%", 100*e.Marginal)},
		{"model", e.Usual, fmt.Sprintf("%.0f %% of all windows of %s in the history did", 100*e.Usual, span)},
	}
	var total float32
	for _, p := range parts {
		total += p.p
	}
	for _, p := range parts {
		if p.p > 0 {
			out = append(out, schemas.Why{Kind: p.kind, Share: schemas.Ratio(math.Round(float64(p.p/total)*1e4) / 1e4), Text: p.text})
		}
	}
	return out
}

// amount prints a demand with its unit.
func amount(r schemas.Resource, v float64) string {
	switch r {
	case schemas.CPU:
		return fmt.Sprintf("%.2f cores", v/1000)
	case schemas.Memory:
		return fmt.Sprintf("%.0f MiB", v/(1<<20))
	default:
		return fmt.Sprintf("%.1f MiB/s", v/(1<<20))
	}
}

// Changes of chance and onset, and the repeat, that make a message.
const (
	changeBy    = .05
	onsetBy     = 3 // base steps
	repeatEvery = 3 // base steps
)

// Tracker decides whether an event is worth publishing. The zero value has published
// nothing.
type Tracker struct {
	Score float64
	Onset schemas.Step // 0 = none
	At    schemas.Step // issued step of the last message
	Known bool         // something was published
}

// Publish reports whether the message is due, and if so takes note of it: on a
// change of the chance by .05 or of the onset by 3 steps, and every 3 steps while
// the chance is at or above Floor; the fall below it is told once.
func (t *Tracker) Publish(m *schemas.PressureVM, base time.Duration) bool {
	p, onset := float64(m.Score), schemas.Step(0)
	if m.Onset != 0 {
		onset = schemas.StepAt(m.Onset, base)
	}
	was := t.Known && t.Score >= Floor
	is := p >= Floor
	due := false
	switch {
	case !is:
		due = was
	case !was:
		due = true
	default:
		moved := onset - t.Onset
		due = math.Abs(p-t.Score) >= changeBy || moved >= onsetBy || moved <= -onsetBy ||
			(onset == 0) != (t.Onset == 0) || m.Issued-t.At >= repeatEvery
	}
	if due {
		*t = Tracker{Score: p, Onset: onset, At: m.Issued, Known: true}
	}
	return due
}

package live

import (
	"math"
	"slices"

	"github.com/foreshift/foreshift/schemas"
)

// pressure is a [schemas.PressureVM] without its map and its repeated names: every VM
// has up to two. Chances keep seven digits.
type pressure struct {
	host        schemas.HostID
	cause       schemas.Cause
	time, onset schemas.Time
	issued      schemas.Step
	score       schemas.Ratio
	peak, limit float64
	why         []schemas.Why
	advice      string
	chances     [schemas.NumResources][3]float32 // within 12, 72 and 288 base steps
	known       [schemas.NumResources]bool
	resource    uint8 // of [schemas.Resource]
}

func chanceOf(c schemas.Chance) [3]float32 {
	return [3]float32{float32(c.H1), float32(c.H6), float32(c.H24)}
}

func ratioOf(f float32) schemas.Ratio {
	return schemas.Ratio(math.Round(float64(f)*1e7) / 1e7)
}

func resourceOf(name string) (schemas.Resource, bool) {
	for r := range schemas.Resource(schemas.NumResources) {
		if r.String() == name {
			return r, true
		}
	}
	return 0, false
}

// compact gives nil for a VM that nothing presses: there is nothing to tell of it.
func (m *Model) compact(p *schemas.PressureVM) *pressure {
	if p.Score <= 0 {
		return nil
	}
	out := &pressure{host: m.intern(p.Host), cause: schemas.CauseHostContention, time: p.Time, onset: p.Onset, issued: p.Issued, score: p.Score, peak: p.Peak, limit: p.Limit, why: slices.Clip(p.Why)}
	if p.Cause == schemas.CauseOwnLimit {
		out.cause = schemas.CauseOwnLimit // the constant: the message's own would be held for each VM
	}
	r, _ := resourceOf(p.Resource)
	out.resource = uint8(r)
	if p.Advice == string(schemas.ReasonResizeAdvised) {
		out.advice = string(schemas.ReasonResizeAdvised)
	} else {
		out.advice = p.Advice
	}
	for name, c := range p.Chances {
		if r, ok := resourceOf(name); ok {
			out.known[r], out.chances[r] = true, chanceOf(c)
		}
	}
	return out
}

// slim gives the benefit with one copy of what each of its reasons repeats.
func (m *Model) slim(b *schemas.Benefit) *schemas.Benefit {
	b.Host, b.Destination, b.Reason.Code = m.intern(b.Host), m.intern(b.Destination), m.internCode(b.Reason.Code)
	b.WhyNot, b.Gain.Terms = slices.Clip(b.WhyNot), slices.Clip(b.Gain.Terms)
	for i := range b.WhyNot {
		d := &b.WhyNot[i]
		d.Host, d.Reason.Code = m.intern(d.Host), m.internCode(d.Reason.Code)
	}
	for i := range b.Gain.Terms {
		b.Gain.Terms[i].Name = string(m.internCode(schemas.ReasonCode(b.Gain.Terms[i].Name)))
	}
	return b
}

// maxCodes bounds the codes of which one copy is kept; there are some dozens.
const maxCodes = 1024

func (m *Model) internCode(c schemas.ReasonCode) schemas.ReasonCode {
	if known, ok := m.codes[c]; ok {
		return known
	}
	if len(m.codes) < maxCodes {
		m.codes[c] = c
	}
	return c
}

// message is the pressure as it was told.
func (p *pressure) message(v schemas.VMID) *schemas.PressureVM {
	if p == nil {
		return nil
	}
	out := &schemas.PressureVM{VM: v, Host: p.host, Cause: p.cause, Time: p.time, Issued: p.issued, Resource: schemas.Resource(p.resource).String(), Score: p.score,
		Chances: map[string]schemas.Chance{}, Onset: p.onset, Peak: p.peak, Limit: p.limit, Advice: p.advice, Why: p.why}
	for r, ok := range p.known {
		if ok {
			c := p.chances[r]
			out.Chances[schemas.Resource(r).String()] = schemas.Chance{H1: ratioOf(c[0]), H6: ratioOf(c[1]), H24: ratioOf(c[2])}
		}
	}
	return out
}

// worst is the higher of a VM's two pressures, nil without any.
func (x *vm) worst() *pressure {
	switch {
	case x.own == nil:
		return x.contention
	case x.contention == nil || x.own.score > x.contention.score:
		return x.own
	}
	return x.contention
}

func (x *vm) score() schemas.Ratio {
	if p := x.worst(); p != nil {
		return p.score
	}
	return 0
}

package live

import (
	"github.com/foreshift/foreshift/schemas"
)

// pressure is a [schemas.PressureVM] without its map and its repeated names.
type pressure struct {
	host        schemas.HostID
	cause       schemas.Cause
	resource    schemas.Resource
	time, onset schemas.Time
	issued      schemas.Step
	score       schemas.Ratio
	known       [schemas.NumResources]bool
	chances     [schemas.NumResources]schemas.Chance
	peak, limit float64
	advice      string
	why         []schemas.Why
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
	out := &pressure{host: m.intern(p.Host), cause: p.Cause, time: p.Time, onset: p.Onset, issued: p.Issued, score: p.Score, peak: p.Peak, limit: p.Limit, why: p.Why}
	out.resource, _ = resourceOf(p.Resource)
	if p.Advice == string(schemas.ReasonResizeAdvised) {
		out.advice = string(schemas.ReasonResizeAdvised)
	} else {
		out.advice = p.Advice
	}
	for name, c := range p.Chances {
		if r, ok := resourceOf(name); ok {
			out.known[r], out.chances[r] = true, c
		}
	}
	return out
}

// message is the pressure as it was told.
func (p *pressure) message(v schemas.VMID) *schemas.PressureVM {
	if p == nil {
		return nil
	}
	out := &schemas.PressureVM{VM: v, Host: p.host, Cause: p.cause, Time: p.time, Issued: p.issued, Resource: p.resource.String(), Score: p.score,
		Chances: map[string]schemas.Chance{}, Onset: p.onset, Peak: p.peak, Limit: p.limit, Advice: p.advice, Why: p.why}
	for r, ok := range p.known {
		if ok {
			out.Chances[schemas.Resource(r).String()] = p.chances[r]
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

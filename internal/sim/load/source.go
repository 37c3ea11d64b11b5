package load

import (
	"github.com/foreshift/foreshift/schemas"
)

// Source gives the demand of a fleet's VMs, numbered from 0.
type Source struct {
	midnight schemas.Step // midnight that began a Monday (or the trace) of the fleet's calendar
	vms      []Profile
	trace    *Trace
}

// startDay is the weekday of a fleet's first peak, a Thursday: the days before it
// are working days too, so that the habit of the week can be learnt from history.
const startDay = 3

// New makes a source whose fleet-wide daily peak comes peakIn steps after start.
func New(vms []Profile, start schemas.Step, peakIn int) *Source {
	s := &Source{vms: vms}
	best, at := -1.0, 0
	for tod := 0; tod < day; tod++ {
		if sum := s.Usual(tod); sum > best {
			best, at = sum, tod
		}
	}
	s.midnight = start + schemas.Step(peakIn-at-startDay*day)
	return s
}

// Usual is the sum over the fleet of the usual demand at a time of a working day,
// in mCPU.
func (s *Source) Usual(tod int) (sum float64) {
	for i := range s.vms {
		sum += s.UsualOf(i, tod)
	}
	return sum
}

// UsualOf is one VM's usual demand at a time of a working day, in mCPU: what a
// person who sized the fleet would expect.
func (s *Source) UsualOf(i, tod int) float64 {
	if s.trace != nil {
		return s.trace.usual[i][tod]
	}
	p := &s.vms[i]
	local := ((tod-p.Zone)%day + day) % day
	return p.clean(local, startDay) * 1000 * float64(p.VCPUs)
}

// At is the demand of VM i over a step.
func (s *Source) At(i int, step schemas.Step) Demand {
	k := int64(step - s.midnight)
	if s.trace != nil {
		return s.trace.at(i, k)
	}
	return s.vms[i].at(k)
}

// Midnight is the step at which the fleet's calendar began a Monday.
func (s *Source) Midnight() schemas.Step { return s.midnight }

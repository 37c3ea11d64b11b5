package ensemble

import (
	"github.com/foreshift/foreshift/forecaster/model"
	"github.com/foreshift/foreshift/schemas"
)

// lifter is a bank that knows what the calendar and external series do to a series:
// the part of its demand at a step that they add.
type lifter interface {
	Lift(i int, s schemas.Step, known model.Regressors) float32
}

// concerned says whether anything known concerns series i. If so its experts are asked
// without regressors, speak of a usual time, and are all raised alike: what a campaign
// adds is learnt by one of them, whose own weight must not decide whether it is heard.
func (e *Ensemble) concerned(i int, known *model.Regressors) bool {
	return e.events != nil && i < len(known.Of) && len(known.Of[i]) > 0
}

// lifts finds what the calendar and external series add to series i, by slot.
func (e *Ensemble) lifts(i int, g schemas.Grid, known model.Regressors) {
	for s := range e.lifted {
		first, n := g.Start+schemas.Step(schemas.SlotOffset(s)), schemas.SlotLen(s)
		var sum float32
		for k := range n {
			sum += e.events.Lift(i, first+schemas.Step(k), known)
		}
		e.lifted[s] = sum / float32(n)
	}
}

// raise adds the lifts to what an expert said; demand does not fall below nothing.
func (e *Ensemble) raise(d *schemas.Dist) {
	for s, by := range e.lifted {
		if by == 0 {
			continue
		}
		q := d.At(s)
		for l := range q {
			q[l] = max(min(q[l], 0), q[l]+by)
		}
	}
}

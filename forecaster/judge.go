package forecaster

import (
	"github.com/foreshift/foreshift/forecaster/window"
	"github.com/foreshift/foreshift/schemas"
)

// said is what was forecast of a VM's next step: the levels .1, .5 and .9.
type said struct {
	step schemas.Step // 0 = nothing
	q    [schemas.NumResources][3]float32
}

// Live is how good the forecasts of one step ahead have been lately, by resource.
type Live struct {
	Coverage float64 // share of demand between the levels .1 and .9; about .8 is right
	Error    float64 // sum of the median's absolute errors over the sum of demand
	N        float64 // values behind it, fading
}

// liveFade is what a step leaves of those before it: the last hour of steps counts.
const liveFade = 1 - 1./12

// score is the running state of [Live].
type score struct{ n, within, miss, sum float64 }

func (s score) live() Live {
	l := Live{N: s.n}
	if s.n > 0 {
		l.Coverage = s.within / s.n
	}
	if s.sum > 0 {
		l.Error = s.miss / s.sum
	}
	return l
}

// remember notes what a message says of the step after it was issued.
func (d *Decider) remember(m *schemas.Forecasts, i int, v *window.VM) {
	const lo, mid, hi = 2, schemas.NumLevels / 2, schemas.NumLevels - 3
	st := d.slot(v)
	st.said.step = m.Issued + 1
	for r := range schemas.Resource(schemas.NumResources) {
		q := m.Dist(i, r).At(0)
		st.said.q[r] = [3]float32{q[lo], q[mid], q[hi]}
	}
}

// judge compares what was said of a step with what came.
func (d *Decider) judge(s schemas.Step) {
	for r := range d.scores {
		c := &d.scores[r]
		c.n, c.within, c.miss, c.sum = liveFade*c.n, liveFade*c.within, liveFade*c.miss, liveFade*c.sum
	}
	for _, v := range d.list {
		st := d.slot(v)
		if st.said.step != s {
			continue
		}
		w := v.W.View()
		for r := range schemas.Resource(schemas.NumResources) {
			y, q := w.At(r, int(s-w.First)), st.said.q[r]
			if y-y != 0 || q[1]-q[1] != 0 {
				continue
			}
			c := &d.scores[r]
			c.n++
			c.sum += float64(y)
			c.miss += float64(max(y-q[1], q[1]-y))
			if y >= q[0] && y <= q[2] {
				c.within++
			}
		}
	}
}

package live

import (
	"math"

	"github.com/foreshift/foreshift/schemas"
)

// Leads are the base steps ahead at which forecasts are held against what came.
var Leads = [3]int{1, 12, 72}

// maxProbes bounds the VMs whose forecasts are checked: the first that are heard of.
const maxProbes = 256

// learnt checks, for some VMs, what forecasts had said against what came. It is the
// console's own measurement, on what was published, from when the console started.
type learnt struct {
	probes map[schemas.VMID]*probe
	by     [len(Leads)][tracked]Score
}

// probe is what was said of one VM and has not come yet.
type probe struct {
	said [len(Leads)][tracked][]words // ring by target step
}

// words are the quantiles said for one step.
type words struct {
	step schemas.Step
	last half // what was then: the forecast of somebody who says that all stays
	q    [schemas.NumLevels]half
}

// Score is how forecasts at one lead did.
type Score struct {
	N     int                    `json:"n"`
	Under [schemas.NumLevels]int `json:"under"` // how often what came was at or below the level
	Error float64                `json:"absolute_error"`
	Still float64                `json:"absolute_error_of_last_value"`
	Sum   float64                `json:"sum_of_what_came"`
}

func (l *learnt) say(v *vm, m *schemas.Forecasts, i int) {
	p := l.probes[v.id]
	if p == nil {
		if len(l.probes) >= maxProbes {
			return
		}
		if l.probes == nil {
			l.probes = map[schemas.VMID]*probe{}
		}
		p = &probe{}
		l.probes[v.id] = p
	}
	for k, lead := range Leads {
		target := m.Issued + schemas.Step(lead)
		slot := m.Grid.SlotOf(target)
		if slot < 0 {
			continue
		}
		for r := range tracked {
			d := m.Dist(i, schemas.Resource(r))
			if schemas.IsNaN(d.Q[0]) || v.actual.v[r] == nil || v.actual.last != m.Issued {
				continue // nothing said, or the step it stands on was not heard
			}
			if p.said[k][r] == nil {
				p.said[k][r] = make([]words, lead+1)
			}
			w := &p.said[k][r][target%schemas.Step(lead+1)]
			w.step, w.last = target, v.actual.v[r][m.Issued%past]
			for j, q := range d.At(slot) {
				w.q[j] = toHalf(q)
			}
		}
	}
}

// came compares; a step that is revised counts once.
func (l *learnt) came(v *vm, step schemas.Step, r int, y float32) {
	p := l.probes[v.id]
	if p == nil || schemas.IsNaN(y) {
		return
	}
	for k := range Leads {
		ring := p.said[k][r]
		if ring == nil {
			continue
		}
		w := &ring[step%schemas.Step(len(ring))]
		if w.step != step || step == 0 {
			continue
		}
		w.step = 0
		s := &l.by[k][r]
		s.N++
		for j, q := range w.q {
			if float64(y) <= q.value() {
				s.Under[j]++
			}
		}
		s.Error += math.Abs(float64(y) - w.q[schemas.NumLevels/2].value())
		if last := w.last.value(); !math.IsNaN(last) {
			s.Still += math.Abs(float64(y) - last)
		}
		s.Sum += math.Abs(float64(y))
	}
}

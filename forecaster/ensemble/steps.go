package ensemble

import (
	"github.com/foreshift/foreshift/forecaster/model"
	"github.com/foreshift/foreshift/schemas"
)

// stepper is an expert's bank that can speak of single steps, beside the slots.
type stepper interface {
	StepQuantiles(i int, from schemas.Step, n int, levels []float32, dst []float32) bool
}

// single is scratch of StepQuantiles.
type single struct {
	steps [][]float32 // by expert: day x levels; nil where there is no stepper
	keep  []float32   // by expert: the slot's quantile, put back after the step
	q     []float32
}

// StepQuantiles writes n steps x len(levels) quantiles of series i from a step after
// the newest observed one, at probabilities that rise: what [Ensemble.Forecast] says,
// with the rhythm within an hour that a slot cannot show, as far as the series was
// seen to have one. False when the series is not known well enough. It learns
// nothing and allocates at its first call.
func (e *Ensemble) StepQuantiles(i int, from schemas.Step, n int, levels []float32, dst []float32) bool {
	if i < 0 || i >= len(e.heard) || !e.used[i] || e.heard[i] < enough || n <= 0 {
		return false
	}
	e.prepare()
	for at := 0; at < n; at += day {
		m := min(day, n-at)
		if !e.daySteps(i, from+schemas.Step(at), m, levels, dst[at*len(levels):(at+m)*len(levels)]) {
			return false
		}
	}
	return true
}

func (e *Ensemble) prepare() {
	if e.single.q != nil {
		return
	}
	e.single.q = make([]float32, schemas.NumLevels)
	e.single.keep = make([]float32, len(e.names)*schemas.NumLevels)
	e.single.steps = make([][]float32, len(e.names))
	k := 0
	for _, b := range e.banks {
		if _, ok := b.(stepper); ok && len(b.Names()) == 1 {
			e.single.steps[k] = make([]float32, day*schemas.NumLevels)
		}
		k += len(b.Names())
	}
}

// daySteps is StepQuantiles within a day.
func (e *Ensemble) daySteps(i int, from schemas.Step, n int, levels []float32, dst []float32) bool {
	g := schemas.Grid{Start: from}
	e.weigh(i, from > e.last+1)
	e.ask(i, g, model.Regressors{}, false)
	share := e.learn.fine[i]
	if share > 0 {
		e.askSteps(i, from, n)
		defer e.listen(0)
	}
	for h := range n {
		s := g.SlotOf(from + schemas.Step(h))
		b := e.bucket(g, s)
		if share > 0 {
			if schemas.SlotLen(s) > 1 && schemas.SlotOffset(s) == h {
				e.listen(share)
			}
			e.blend(s, h, share)
		}
		e.slot(i, g, model.Regressors{}, s, e.single.q)
		if share > 0 {
			e.unblend(s)
		}
		if e.single.q[0] != e.single.q[0] {
			return false
		}
		if !e.tune.NoTracking {
			e.widen(i, b, e.single.q)
		}
		d := schemas.Dist{Q: e.single.q}
		for k, p := range levels {
			dst[h*len(levels)+k] = d.Quantile(0, p)
		}
	}
	return true
}

// listen takes a share of their weight from the experts that cannot tell steps apart,
// which would pull every step towards the hour's mean.
func (e *Ensemble) listen(share float32) {
	for k, steps := range e.single.steps {
		if e.share[k] = 1; steps == nil {
			e.share[k] = 1 - share
		}
	}
	e.at = -1
}

// askSteps lets the experts that were asked for slots speak of the steps; who cannot
// has NaN there.
func (e *Ensemble) askSteps(i int, from schemas.Step, n int) {
	k := 0
	for _, b := range e.banks {
		if q := e.single.steps[k]; q != nil {
			if !e.ok[k] || !b.(stepper).StepQuantiles(i, from, n, schemas.Levels[:], q) {
				for at := range q {
					q[at] = schemas.NaN()
				}
			}
		}
		k += len(b.Names())
	}
}

// blend moves what the experts said of slot s towards what they say of its step h.
func (e *Ensemble) blend(s, h int, share float32) {
	for k, steps := range e.single.steps {
		if steps == nil || !e.ok[k] {
			continue
		}
		q := e.q[k].At(s)
		copy(e.single.keep[k*schemas.NumLevels:], q)
		for l, v := range steps[h*schemas.NumLevels : (h+1)*schemas.NumLevels] {
			if v == v {
				q[l] += share * (v - q[l])
			}
		}
	}
}

// unblend takes back blend.
func (e *Ensemble) unblend(s int) {
	for k, steps := range e.single.steps {
		if steps != nil && e.ok[k] {
			copy(e.q[k].At(s), e.single.keep[k*schemas.NumLevels:(k+1)*schemas.NumLevels])
		}
	}
}

// fineFull is how much better than the hour's profile the step's must be to be
// followed all the way.
const fineFull = .1

// fineness says how much of the rhythm within an hour is worth following, 0..1, from
// a series that ends now: over its last days, the error of the mean of the same step
// on the days before against that of the mean of its hour, which is all that a slot
// tells. Jobs that run at the same five minutes every day have it, and so has a slope;
// noise has not, and a profile by the step would only repeat past accidents.
func fineness(x []float32) float32 {
	var sum, n [day]float32
	var fine, coarse float64
	first := len(x) % day
	for from := first; from < len(x); from += day {
		rows := x[from : from+day]
		if from >= first+2*day {
			for at := 0; at < day; at += hour {
				var s, c float32
				for t := at; t < at+hour; t++ {
					s, c = s+sum[t], c+n[t]
				}
				for t := at; t < at+hour; t++ {
					if y := rows[t]; y-y == 0 && n[t] > 0 {
						fine += float64(abs32(y - sum[t]/n[t]))
						coarse += float64(abs32(y - s/c))
					}
				}
			}
		}
		for t, y := range rows {
			if y-y == 0 {
				sum[t] += y
				n[t]++
			}
		}
	}
	if !(coarse > 0) {
		return 0
	}
	return min(1, max(0, float32((1-fine/coarse)/fineFull)))
}

// hour is the length of a far slot.
const hour = 12

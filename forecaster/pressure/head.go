package pressure

import (
	"math"

	"github.com/foreshift/foreshift/schemas"
)

// Floor is the chance below which nothing is said: no onset, and no message unless
// there was one above it before.
const Floor = .05

// now is how many steps back the present state looks.
const now = 12

// Input is what is known of one VM and resource.
type Input struct {
	Y         []float32    // demand a step, oldest first, the last being the step issued; NaN = missing
	Limit     float32      // same unit
	Dist      schemas.Dist // empty: no forecast, so neither onset nor peak
	Scenarios schemas.Scenarios
	Resource  schemas.Resource
	Step      schemas.Step // of the last value of Y; 0 = not told: then time of day and the long run say nothing
	Long      *LongRun     // what is known of longer ago; nil = nothing
}

// Estimate is what a [Head] says of it.
type Estimate struct {
	Chance schemas.Chance
	Onset  int     // steps after the step issued at which the shortage begins; 0 = now or none expected, see Expected
	Peak   float32 // expected highest demand within the longest horizon
	// Shares of the evidence, probabilities within the horizon that decided.
	Horizon   int     // index of schemas.Horizons
	Usual     float32 // of all past windows
	AfterSuch float32 // of windows after a moment like the present one, as learnt over the fleet
	SameTime  float32 // of the windows at this time of day on the days before
	Paths     float32 // of the scenarios
	Marginal  float32 // the highest of a single slot
	Days      int     // days the same time was seen
	Cold      float32 // share of the forecast in the chance, for want of history
	Expected  bool    // Chance is at or above Floor
}

// Head estimates chances. It learns from the windows it is shown ([Head.Learn]);
// [Head.Fit] makes use of what was learnt. One goroutine owns it.
type Head struct {
	Raw    bool // leave the calibration out, for ablations
	m      moment
	models [schemas.NumResources][len(schemas.Horizons)][numStates]logistic
	fitted schemas.Step
}

// states of a moment: nothing above the limit within the last hour (an exceedance
// would be an onset), or something.
const (
	calm = iota
	hot
	numStates
)

// NewHead makes one that starts from [starts].
func NewHead() *Head { return NewHeadOf(Kept, ridge) }

// NewHeadOf makes one that remembers up to keep examples a model and is pulled to its
// start by pull, see [logistic].
func NewHeadOf(keep int, pull float64) *Head {
	h := &Head{}
	for r := range h.models {
		for i := range h.models[r] {
			for s := range h.models[r][i] {
				l := &h.models[r][i][s]
				l.keep, l.share = keep, float64(schemas.Horizons[i])/now
				l.ridge = pull * math.Sqrt(l.share)
				l.w0 = starts[i][s]
				l.w = l.w0
				l.bends, l.apart = s == calm, l.share > 1
			}
		}
	}
	return h
}

// stateAt is the state before step o.
func (h *Head) stateAt(o int) int {
	if h.m.exceeds(o-now, now) {
		return hot
	}
	return calm
}

// LearnEvery is the number of steps between two calls of [Head.Learn] for a VM, FitEvery
// that between two fits of a model.
const (
	LearnEvery = now
	FitEvery   = schemas.StepsPerDay
)

// minLearn is the history below which a moment is no lesson.
const minLearn = schemas.StepsPerDay

// end of the series, for the moment.
func (in *Input) end() schemas.Step {
	if in.Step <= 0 {
		return 0
	}
	return in.Step + 1
}

// Learn takes from a window the lesson of the moment back steps ago, for each horizon
// whose outcome is known since: with back 0 the latest. The long run is kept up with
// it. Call it every [LearnEvery] steps.
func (h *Head) Learn(in *Input, back int) {
	if !(in.Limit > 0) || len(in.Y) == 0 || int(in.Resource) >= len(h.models) {
		return
	}
	h.m.set(in.Y, in.Limit, in.end())
	if in.Long != nil && h.m.end > 0 {
		in.Long.add(h.m.over, h.m.end)
	}
	var c codes
	for i, n := range schemas.Horizons {
		o := len(h.m.y) - n - back
		if o < minLearn {
			continue
		}
		h.m.look(o, in.Long)
		h.m.features(o, n, &c)
		h.models[in.Resource][i][h.stateAt(o)].take(&c, h.m.exceeds(o, n))
	}
}

// Fit refits the models that are due: each once a day, one after the other, so that a
// call takes at most about a second however large the fleet. Call it every step, or
// every few.
func (h *Head) Fit(s schemas.Step) {
	if s <= h.fitted {
		return
	}
	was := h.fitted
	h.fitted = s
	for r := range h.models {
		k := schemas.Step(0)
		for i := range h.models[r] {
			for st := range h.models[r][i] {
				due := k * FitEvery / (numStates * schemas.Step(len(schemas.Horizons)))
				k++
				if (s+due)/FitEvery == (was+due)/FitEvery {
					continue
				}
				days := 0.
				if was > 0 {
					days = 1
				}
				h.models[r][i][st].fit(days)
			}
		}
	}
}

// Coefficients of the models of a resource, by horizon and state (calm, hot), and how
// many examples they rest on.
func (h *Head) Coefficients(r schemas.Resource) (w [len(schemas.Horizons)][numStates][]float64, n [len(schemas.Horizons)][numStates]int) {
	for i := range w {
		for s := range w[i] {
			l := &h.models[r][i][s]
			w[i][s], n[i][s] = append([]float64{}, l.w[:]...), len(l.ring)
		}
	}
	return w, n
}

// Estimate is O(len(Y)); it allocates only until its scratch has grown.
func (h *Head) Estimate(in *Input) Estimate {
	var e Estimate
	if !(in.Limit > 0) || len(in.Y) == 0 || int(in.Resource) >= len(h.models) {
		return e
	}
	h.m.set(in.Y, in.Limit, in.end())
	o := len(h.m.y)
	h.m.look(o, in.Long)
	state := h.stateAt(o)
	var p [len(schemas.Horizons)]float64
	var parts [len(schemas.Horizons)]Estimate
	var c codes
	known := len(in.Dist.Q) > 0
	for i, n := range schemas.Horizons {
		s := &parts[i]
		is := h.m.features(o, n, &c)
		l := &h.models[in.Resource][i][state]
		if p[i] = l.raw(&c); !h.Raw {
			p[i] = l.cal.at(p[i])
		}
		s.Usual = float32(is.exceeded / max(1, is.windows))
		s.AfterSuch = float32(p[i])
		s.Days = int(is.days)
		s.SameTime = float32((is.same + 2*float64(s.Usual)) / (is.days + 2))
		if known {
			s.Paths, s.Marginal = pathsOver(in, n), marginalOver(in, n)
			s.Cold = max(0, 1-float32(len(in.Y))/coldUntil)
			p[i] += float64(s.Cold) * (float64(max(s.Paths, s.Marginal)) - p[i])
			// With nothing near the limit, in the past or ahead, the chance is nil.
			if s.Usual == 0 && h.m.top(o-7*schemas.StepsPerDay, 7*schemas.StepsPerDay) < nowhereNear*in.Limit && s.Paths == 0 && s.Marginal <= .01 {
				p[i] = 0
			}
		}
	}
	for i := 1; i < len(p); i++ {
		p[i] = max(p[i], p[i-1])
	}
	e = parts[len(p)-1]
	e.Horizon = len(p) - 1
	for i := range p { // the shortest horizon that has most of it explains best
		if p[i] >= .8*p[len(p)-1] {
			e = parts[i]
			e.Horizon = i
			break
		}
	}
	e.Chance = schemas.Chance{H1: schemas.Ratio(p[0]), H6: schemas.Ratio(p[1]), H24: schemas.Ratio(p[2])}
	e.Expected = p[len(p)-1] >= Floor
	if known {
		e.Peak = peak(in)
	}
	if known && e.Expected {
		e.Onset = h.onset(in)
	}
	return e
}

// coldUntil is the history, in steps, up to which the forecast has a part in the
// chance; nowhereNear the share of the limit below which demand is not near it.
const (
	coldUntil   = 2 * schemas.StepsPerDay
	nowhereNear = .7
)

// pathsOver is the share of scenarios whose path exceeds the limit within n steps.
func pathsOver(in *Input, n int) float32 {
	if int(in.Resource) >= schemas.ScenarioResources || len(in.Scenarios.D) == 0 {
		return 0
	}
	slots := schemas.SlotsWithin(n)
	k := len(in.Scenarios.D) / (schemas.Slots * schemas.ScenarioResources)
	var p, total float32
	for i := range k {
		w := in.Scenarios.Weight[i*schemas.Slots+slots-1] // its weight at the far end
		total += w
		for s := range slots {
			if in.Scenarios.D[(i*schemas.Slots+s)*schemas.ScenarioResources+int(in.Resource)] > in.Limit {
				p += w
				break
			}
		}
	}
	if total <= 0 {
		return 0
	}
	return p / total
}

// marginalOver is the highest chance of a single slot within n steps.
func marginalOver(in *Input, n int) float32 {
	var p float32
	for s := range schemas.SlotsWithin(n) {
		if q := in.Dist.At(s); q[0] == q[0] {
			p = max(p, in.Dist.Exceed(s, in.Limit))
		}
	}
	return p
}

// peak is the expected highest demand over the day: the mean over the scenarios of
// their maximum; without scenarios the highest 90 % quantile.
func peak(in *Input) float32 {
	if int(in.Resource) < schemas.ScenarioResources && len(in.Scenarios.D) > 0 {
		k := len(in.Scenarios.D) / (schemas.Slots * schemas.ScenarioResources)
		var sum, total float32
		for i := range k {
			w := in.Scenarios.Weight[i*schemas.Slots+schemas.Slots-1]
			var m float32
			for s := range schemas.Slots {
				m = max(m, in.Scenarios.D[(i*schemas.Slots+s)*schemas.ScenarioResources+int(in.Resource)])
			}
			sum += w * m
			total += w
		}
		if total > 0 {
			return sum / total
		}
	}
	var m float32
	for s := range schemas.Slots {
		if q := in.Dist.At(s); q[10] == q[10] {
			m = max(m, q[10])
		}
	}
	return m
}

// onset is the offset in steps of the first slot by which half of the chance of a
// first exceedance has accrued: along the scenarios, the persistence path with its
// own weight; where no scenario exceeds, along the slots' own chances.
func (h *Head) onset(in *Input) int {
	var first [schemas.Slots]float32
	var total float32
	if int(in.Resource) < schemas.ScenarioResources && len(in.Scenarios.D) > 0 {
		k := len(in.Scenarios.D) / (schemas.Slots * schemas.ScenarioResources)
		for i := range k {
			for s := range schemas.Slots {
				if in.Scenarios.D[(i*schemas.Slots+s)*schemas.ScenarioResources+int(in.Resource)] > in.Limit {
					w := in.Scenarios.Weight[i*schemas.Slots+s]
					first[s] += w
					total += w
					break
				}
			}
		}
	}
	if total == 0 {
		var seen float32
		for s := range schemas.Slots {
			q := in.Dist.At(s)
			if q[0] != q[0] {
				continue
			}
			if p := in.Dist.Exceed(s, in.Limit); p > seen {
				first[s] += p - seen
				total += p - seen
				seen = p
			}
		}
	}
	var sum float32
	for s, p := range first {
		if sum += p; p > 0 && sum >= total/2 {
			return 1 + schemas.SlotOffset(s)
		}
	}
	return 1
}

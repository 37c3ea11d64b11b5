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
	Y         []float32 // demand a step, oldest first, the last being the step issued; NaN = missing
	Limit     float32   // same unit
	Dist      schemas.Dist
	Scenarios schemas.Scenarios
	Resource  schemas.Resource
}

// Estimate is what a [Head] says of it.
type Estimate struct {
	Chance schemas.Chance
	Onset  int     // steps after the step issued at which the shortage begins; 0 = now or none expected, see Expected
	Peak   float32 // expected highest demand within the longest horizon
	// Shares of the evidence, probabilities within the horizon that decided.
	Horizon   int     // index of schemas.Horizons
	Usual     float32 // of all past windows
	AfterSuch float32 // of past windows that began in a state like the present
	SameTime  float32 // of the windows at this time of day on the days before
	Paths     float32 // of the scenarios
	Marginal  float32 // the highest of a single slot
	Days      int     // days the same time was seen
	Expected  bool    // Chance is at or above Floor
}

// Head estimates chances; it holds scratch memory only.
type Head struct {
	next  []int32 // steps from t to the next exceedance after t; large when none
	state []uint8
}

// NewHead makes one.
func NewHead() *Head { return &Head{} }

// weights of the evidence on the logit scale by horizon: bias, usual, after such a
// state, same time of day, paths, highest marginal.
var weights = [len(schemas.Horizons)][6]float64{
	{.0, .05, .50, .10, .15, .20},
	{.0, .10, .35, .20, .25, .10},
	{.0, .15, .30, .25, .25, .05},
}

// states of a moment: above the limit now, within the last hour, the last day, not.
const (
	calm = iota
	dayAgo
	hourAgo
	above
	numStates
)

// Estimate is O(len(Y)); it allocates only until its scratch has grown.
func (h *Head) Estimate(in *Input) Estimate {
	var e Estimate
	if !(in.Limit > 0) || len(in.Y) == 0 {
		return e
	}
	h.scan(in.Y, in.Limit)
	var p [len(schemas.Horizons)]float64
	var parts [len(schemas.Horizons)]Estimate
	for i, n := range schemas.Horizons {
		s := &parts[i]
		h.count(n, s)
		s.Paths = pathsOver(in, n)
		s.Marginal = marginalOver(in, n)
		p[i] = combine(&weights[i], s)
	}
	// With nothing at or near the limit, in the past or ahead, the chance is nil.
	last := &parts[len(parts)-1]
	if last.Usual == 0 && last.Paths == 0 && last.Marginal <= .01 {
		p = [len(schemas.Horizons)]float64{}
	}
	for i := 1; i < len(p); i++ {
		p[i] = max(p[i], p[i-1])
	}
	e = *last
	e.Horizon = len(p) - 1
	for i := range p { // the shortest horizon that has most of it explains best
		if p[i] >= .8*p[len(p)-1] {
			e = parts[i]
			e.Horizon = i
			break
		}
	}
	e.Chance = schemas.Chance{H1: schemas.Ratio(p[0]), H6: schemas.Ratio(p[1]), H24: schemas.Ratio(p[2])}
	e.Peak = peak(in)
	e.Expected = p[len(p)-1] >= Floor
	if e.Expected {
		e.Onset = h.onset(in)
	}
	return e
}

const never = math.MaxInt32 / 2

// scan finds for every step how far the next exceedance is and what state it is in.
func (h *Head) scan(y []float32, limit float32) {
	if cap(h.next) < len(y) {
		h.next, h.state = make([]int32, len(y)), make([]uint8, len(y))
	}
	h.next, h.state = h.next[:len(y)], h.state[:len(y)]
	next := int32(never)
	for t := len(y) - 1; t >= 0; t-- {
		h.next[t] = next
		if next < never {
			next++
		}
		if y[t] > limit {
			next = 1
		}
	}
	since := never
	for t, v := range y {
		since++
		if v > limit {
			since = 0
		}
		switch {
		case since == 0:
			h.state[t] = above
		case since < now:
			h.state[t] = hourAgo
		case since < schemas.StepsPerDay:
			h.state[t] = dayAgo
		default:
			h.state[t] = calm
		}
	}
}

// count fills the frequencies of windows of n steps; origins every 3 steps.
func (h *Head) count(n int, e *Estimate) {
	last := len(h.next) - 1
	var all, over, allSuch, overSuch float64
	state := h.state[last]
	for t := last - n; t >= 0; t -= 3 {
		hit := float64(0)
		if int(h.next[t]) <= n {
			hit = 1
		}
		all++
		over += hit
		if h.state[t] == state {
			allSuch++
			overSuch += hit
		}
	}
	// Few windows say little: shrink to half a window in as many as there are.
	usual := over / max(1, all)
	e.Usual = float32(usual)
	const prior = 6 // windows' worth; they overlap, so counts overstate what they know
	e.AfterSuch = float32((overSuch + prior*usual) / (allSuch + prior))
	same, days := .0, .0
	for t := last - schemas.StepsPerDay; t >= 0 && days < 7; t -= schemas.StepsPerDay {
		days++
		if int(h.next[t]) <= n {
			same++
		}
	}
	e.Days = int(days)
	e.SameTime = float32((same + 2*usual) / (days + 2))
}

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

// combine is the logistic of the weighted logits.
func combine(w *[6]float64, e *Estimate) float64 {
	z := w[0]
	for i, p := range [...]float32{e.Usual, e.AfterSuch, e.SameTime, e.Paths, e.Marginal} {
		z += w[i+1] * logit(float64(p))
	}
	return 1 / (1 + math.Exp(-z))
}

// logit is bounded: no count is certain.
func logit(p float64) float64 {
	p = min(max(p, .002), .998)
	return math.Log(p / (1 - p))
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

package sums

import (
	"cmp"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/foreshift/foreshift/benchmarks/trace"
	"github.com/foreshift/foreshift/forecaster/ensemble"
	"github.com/foreshift/foreshift/schemas"
)

// draws is the number of independent sums drawn to know their quantiles.
const draws = 400

// point is a value and its weight.
type point struct{ v, w float64 }

// quantile of weighted values, which are sorted by it: linear between the middles of
// their weights, the outermost beyond. Every weight is above 0.
func quantile(p []point, level float64) float64 {
	slices.SortFunc(p, func(a, b point) int { return cmp.Compare(a.v, b.v) })
	var total float64
	for _, x := range p {
		total += x.w
	}
	at, before := 0., 0.
	for i, x := range p {
		mid := (at + x.w/2) / total
		if level <= mid {
			if i == 0 {
				return x.v
			}
			return p[i-1].v + (x.v-p[i-1].v)*(level-before)/(mid-before)
		}
		at += x.w
		before = mid
	}
	return p[len(p)-1].v
}

// total is the demand of a group at each t from first; a missing value counts as the
// last seen, and as 0 before there was one.
func total(series []trace.Series, c clock, members []int) []float64 {
	sum := make([]float64, c.end-c.first)
	for _, i := range members {
		s := &series[i]
		last := 0.
		for t := range sum {
			if k := t + c.first - s.Start; k >= 0 && k < len(s.Y) && s.Y[k] == s.Y[k] {
				last = float64(s.Y[k])
			} else if k >= len(s.Y) {
				last = 0
			}
			sum[t] += last
		}
	}
	return sum
}

// group scores all methods on one group.
func (r *Result) group(series []trace.Series, c clock, members []int, said [][]forecast, weight [][]float32, rng *rand.Rand) {
	sum := total(series, c, members)
	var mean float64
	for _, v := range sum {
		mean += v / float64(len(sum))
	}
	if !(mean > 0) {
		return
	}
	points := make([]point, 0, draws)
	var q [numMethods][len(Levels)]float64
	fill := func(m Method) {
		for l, level := range Levels {
			q[m][l] = quantile(points, level)
		}
	}
	for o, origin := range c.origins {
		at := origin - c.first
		points = points[:0]
		for _, v := range sum[at-day : at] {
			points = append(points, point{v, 1})
		}
		fill(PastDay)
		for slot := range schemas.Slots {
			scenarioSum(&points, members, said[o], weight[o], slot)
			fill(Scenarios)
			independentSum(&points, members, said[o], slot, rng)
			fill(Independent)
			off := schemas.SlotOffset(slot)
			points = points[:0]
			for d := 1; d <= 7; d++ {
				mid := at + off + schemas.SlotLen(slot)/2 - d*day
				for t := max(0, mid-hour); t < min(at, mid+hour+1); t++ {
					points = append(points, point{sum[t], 1})
				}
			}
			fill(PastHours)
			for t := off; t < off+schemas.SlotLen(slot); t++ {
				y := sum[at+t]
				for m := range numMethods {
					for n, lead := range Leads {
						if t < lead.From || t >= lead.To {
							continue
						}
						for l, level := range Levels {
							s := &r.tally[m][n][l]
							d := y - q[m][l]
							s.Loss += 100 * math.Max(level*d, (level-1)*d) / mean
							if d <= 0 {
								s.Cover++
							}
							s.n++
						}
					}
				}
			}
		}
	}
}

// scenarioSum adds the members' paths, scenario by scenario.
func scenarioSum(points *[]point, members []int, said []forecast, weight []float32, slot int) {
	*points = (*points)[:0]
	for k := range ensemble.K + 1 {
		p := point{w: float64(weight[k*schemas.Slots+slot])}
		for _, i := range members {
			if d := said[i].paths; d != nil {
				p.v += float64(d[(k*schemas.Slots+slot)*schemas.ScenarioResources])
			}
		}
		if p.w > 0 {
			*points = append(*points, p)
		}
	}
}

// independentSum draws from each member's forecast by itself and adds.
func independentSum(points *[]point, members []int, said []forecast, slot int, rng *rand.Rand) {
	*points = (*points)[:0]
	for range draws {
		*points = append(*points, point{w: 1})
	}
	for _, i := range members {
		if said[i].paths == nil {
			continue
		}
		q := said[i].dist.At(slot)
		for n := range *points {
			(*points)[n].v += draw(q, rng.Float64())
		}
	}
}

// draw is the quantile of level u of a distribution known at schemas.Levels.
func draw(q []float32, u float64) float64 {
	lo := 0
	for lo+2 < schemas.NumLevels && u > float64(schemas.Levels[lo+1]) {
		lo++
	}
	a, b := float64(schemas.Levels[lo]), float64(schemas.Levels[lo+1])
	f := min(max((u-a)/(b-a), 0), 1)
	return max(0, float64(q[lo])+f*float64(q[lo+1]-q[lo]))
}

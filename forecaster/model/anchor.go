package model

import "math"

// shiftSteps is how long a level must last to be one: an hour.
const shiftSteps = 12

// anchored gives x as it would have been at its present level, when that began with a
// leap that no model of the past could expect: for an hour or longer all values lie
// beyond all of at least a day before, by more than those ever differed. Then the older values are
// multiplied by the ratio of the medians, so that shape and rhythm stay and the level
// is today's; a level that was seen before, a burst of minutes and a slow rise leave x as
// it is. The result is valid until the next use of c.pool.
func (c *scored) anchored(x []float32) []float32 {
	t := leap(x, c.said[:len(x)])
	if t == 0 {
		return x
	}
	before, now := c.median(x[:t]), c.median(x[t:])
	ratio := now / before
	if !(ratio > 0) || ratio-ratio != 0 {
		return x
	}
	moved := append(c.pool[:0], x...)
	for k, v := range moved[:t] {
		moved[k] = min(v*ratio, mostValue)
	}
	return moved
}

// leap is the row with which the present level began, 0 without a leap. scratch is as
// long as x.
func leap(x []float32, scratch []float64) (at int) {
	low, high := math.Inf(1), math.Inf(-1) // of what lies before
	for t, v := range x {
		scratch[t] = math.NaN()
		if t >= day && high >= low {
			scratch[t] = high + (high - low)
		}
		if v == v {
			low, high = min(low, float64(v)), max(high, float64(v))
		}
	}
	least, best, known := math.Inf(1), 0., 0
	for t := len(x) - 1; t >= day; t-- {
		if v := x[t]; v == v {
			least = min(least, float64(v))
			known++
		}
		if gap := least - scratch[t]; known >= shiftSteps && gap > best {
			best, at = gap, t
		}
	}
	return at
}

// median of the known values.
func (c *scored) median(x []float32) float32 {
	pool := c.pool[:0]
	for _, v := range x {
		if v == v {
			pool = append(pool, v)
		}
	}
	c.sorter.sort(pool)
	return pool[len(pool)/2]
}

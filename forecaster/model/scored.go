package model

import (
	"math"

	"github.com/foreshift/foreshift/forecaster/window"
	"github.com/foreshift/foreshift/schemas"
)

// scored is what ARIMA and ETS have in common: the transform to normal scores, the
// errors that the model made at several leads, and the way back to quantiles.
//
// Errors are not derived from a variance formula: at each of errorLeads the window
// is forecast from all its past origins, and the quantiles of what was missed are
// kept. Before that the forecast is drawn towards the profile by the slope of the
// regression of what came on what was forecast (Mincer and Zarnowitz, in Economic
// Forecasts and Expectations, 1969): one for leads at which the model is right, less where it,
// as an integrated model must, believes in its last level for too long.
type scored struct {
	roster
	knots []float32 // n x scoreKnots
	err   packed    // n x numLeads
	slope []float32 // n x numLeads
	shape []int8    // n

	x, pool []float32
	rank    []uint64
	sorter  sorter
	z, r    []float64
	got     []float64
	said    []float64
	profile []float64 // by step of the day
	path    []float64 // by lead, what the model says
	season  []float64 // by lead
}

// errorLeads are the leads, in steps, at which errors are kept; between them they are
// interpolated in the logarithm of the lead.
var errorLeads = [...]int{1, 2, 3, 6, 12, 24, 48, 96, 192, 288}

const (
	numLeads = len(errorLeads)
	maxLead  = 2 * day // a grid may begin a day after the last observation
)

// between tells for each lead which of errorLeads lies at or before it, and how far
// on the way to the next it is.
var between = func() (a [maxLead + 1]struct {
	l int
	f float64
}) {
	for h := 1; h <= maxLead; h++ {
		l := 0
		for l+2 < numLeads && errorLeads[l+1] <= h {
			l++
		}
		lo, hi := float64(errorLeads[l]), float64(errorLeads[l+1])
		a[h].l, a[h].f = l, math.Min(1, math.Log(float64(h)/lo)/math.Log(hi/lo))
	}
	return a
}()

func newScored() scored {
	f64 := func(n int) []float64 { return make([]float64, n) }
	return scored{x: make([]float32, 0, window.Rows), pool: make([]float32, 0, window.Rows), rank: make([]uint64, window.Rows),
		z: f64(window.Rows), r: f64(window.Rows), got: f64(window.Rows), said: f64(window.Rows), profile: f64(day), path: f64(maxLead + 1), season: f64(maxLead + 1)}
}

func (c *scored) add(k Key) int {
	i := c.roster.add(k)
	c.knots = Grown(c.knots, i, scoreKnots)
	c.err.grow(i, numLeads)
	c.slope = Grown(c.slope, i, numLeads)
	c.shape = Grown(c.shape, i, 1)
	c.forget(i)
	return i
}

// forget makes series i unknown.
func (c *scored) forget(i int) {
	fill(row(c.knots, i, scoreKnots))
	c.err.clear(i*numLeads, numLeads)
}

// known reports whether series i was fitted.
func (c *scored) known(i int) bool {
	return i >= 0 && i < len(c.used) && c.used[i] && c.err.known(i*numLeads)
}

// tables are the parts of the state that ARIMA and ETS have in common.
func (c *scored) tables() []table {
	return append(c.err.tables(numLeads), table{scoreKnots, &c.knots}, table{numLeads, &c.slope}, table{1, &c.shape})
}

// minRows is the number of known values below which nothing is fitted.
const minRows = 24

// transform fits the transform of series i to x and writes its normal scores to c.z;
// false when there are too few values.
func (c *scored) transform(i int, x []float32) (z []float64, constant, ok bool) {
	knots := row(c.knots, i, scoreKnots)
	n, constant := fitScores(x, c.rank, &c.sorter, knots)
	if n < minRows {
		c.forget(i)
		return nil, false, false
	}
	if c.shape[i] == shapeLinear && !constant {
		fitLinear(x, knots)
	}
	z = c.z[:len(x)]
	for t, v := range x {
		z[t] = math.NaN()
		if v == v {
			z[t] = toScore(knots, v)
		}
	}
	return z, constant, true
}

// learn keeps slope and error quantiles of series i at all leads. past(l, h, t) is
// the forecast made at row t for h = errorLeads[l] rows on and what came, both
// without season; sd[l] the model's standard deviation at that lead, which scales the last
// errors known to leads too long for the history; widen makes up for errors
// being smaller within the sample.
func (c *scored) learn(i, n int, past func(l, h, t int) (said, got float64), sd *[numLeads]float64, widen float64) {
	slope := row(c.slope, i, numLeads)
	c.err.clear(i*numLeads, numLeads)
	var q [levels]float32 // of the lead before, then of this one
	for l, h := range errorLeads {
		stride := 1 // neighbours say much the same, the more so the longer the lead
		if n > 2*day {
			stride = 3
			if h >= 24 {
				stride = 5
			}
		}
		m := 0
		var xx, xy float64
		for t := n - 1 - h; t >= maxLags; t -= stride {
			a, b := past(l, h, t)
			if d := a - b; d != d {
				continue
			}
			c.said[m], c.got[m] = a, b
			xx += a * a
			xy += a * b
			m++
		}
		if m < minPool {
			if l == 0 {
				return
			}
			slope[l] = slope[l-1]
			ratio := float32(1)
			if sd[l-1] > 0 && sd[l] > sd[l-1] {
				// A model fitted to few errors may say anything of leads that it never saw.
				// No error grows faster than that of noise added up twice.
				ratio = float32(min(sd[l]/sd[l-1], math.Pow(float64(h)/float64(errorLeads[l-1]), 1.5)))
			}
			for k := range q {
				q[k] *= ratio
			}
			c.err.put(i*numLeads+l, &q)
			continue
		}
		slope[l] = 1
		if xx > 0 {
			slope[l] = float32(math.Max(0, math.Min(1, xy/xx)))
		}
		pool := c.pool[:m]
		for k := range pool {
			pool[k] = float32((c.got[k] - float64(slope[l])*c.said[k]) * widen)
		}
		c.sorter.quantiles(pool, q[:])
		c.err.put(i*numLeads+l, &q)
	}
}

// slopeAt and errorsAt interpolate slope and error quantiles of series i at a lead.
func (c *scored) slopeAt(i, lead int) float64 {
	b := between[lead]
	s := row(c.slope, i, numLeads)
	return float64(s[b.l]) + b.f*float64(s[b.l+1]-s[b.l])
}

func (c *scored) errorsAt(i, lead int, dst *[levels]float64) {
	b := between[lead]
	var lo, hi [levels]float32
	c.err.get(i*numLeads+b.l, &lo)
	c.err.get(i*numLeads+b.l+1, &hi)
	for k := range dst {
		dst[k] = float64(lo[k]) + b.f*float64(hi[k]-lo[k])
	}
}

// lead is how many steps after the newest observation step s lies, at least 1; false
// when it is too far for a forecast.
func (c *scored) lead(s schemas.Step, n int) (first int, ok bool) {
	h := max(1, s-c.last)
	if h+schemas.Step(n)-1 > maxLead {
		return 0, false
	}
	return int(h), true
}

// spreadSlots writes the quantiles on the grid whose first step is `first` steps after the
// newest observation, from c.path and c.season by lead. A slot of several steps is
// the mixture of its steps' distributions.
func (c *scored) spreadSlots(i, first int, dst *schemas.Dist) {
	knots := row(c.knots, i, scoreKnots)
	var err, mix [levels]float64
	var mid [12]float64
	for s := 0; s < schemas.Slots; s++ {
		n := schemas.SlotLen(s)
		h := first + schemas.SlotOffset(s)
		for k := 0; k < n; k++ { // sorted as they come
			m := c.slopeAt(i, h+k)*c.path[h+k] + c.season[h+k]
			j := k
			for ; j > 0 && mid[j-1] > m; j-- {
				mid[j] = mid[j-1]
			}
			mid[j] = m
		}
		c.errorsAt(i, h+n/2, &err)
		groups := min(n, 4)
		for g := 0; g < groups && n > groups; g++ { // middles of the quarters
			var sum float64
			for _, m := range mid[g*n/groups : (g+1)*n/groups] {
				sum += m
			}
			mid[g] = sum / float64((g+1)*n/groups-g*n/groups)
		}
		mixture(mid[:groups], &err, &mix)
		q := dst.At(s)
		for k := range q {
			q[k] = fromScore(knots, mix[k])
		}
		Tidy(q)
	}
}

// near is how far the parts of a mixture may lie apart, in standard deviations of their
// errors, to be taken for one distribution that is wider.
const near = .4

// asOne says whether the equal mixture of parts at mid, with error quantiles err, is
// near enough to one part at m whose errors are by times as far from their median.
func asOne(mid []float64, err *[levels]float64) (m, by float64, ok bool) {
	var v float64
	for _, x := range mid {
		m += x / float64(len(mid))
	}
	for _, x := range mid {
		v += (x - m) * (x - m) / float64(len(mid))
	}
	sd := (err[levels-3] - err[2]) / (2 * 1.2816) // as if normal
	if v > near*near*sd*sd {
		return m, 1, false
	}
	if v == 0 {
		return m, 1, true
	}
	return m, math.Sqrt(1 + v/(sd*sd)), true
}

// mixture gives the quantiles at schemas.Levels of the equal mixture of the
// distribution with quantiles err shifted by each of mid (sorted).
func mixture(mid []float64, err, dst *[levels]float64) {
	if m, by, ok := asOne(mid, err); ok {
		e := err[levels/2]
		for k := range dst {
			dst[k] = m + e + (err[k]-e)*by
		}
		return
	}
	// merge the shifted quantiles, following the mean of the distribution functions
	var level, rise [levels]float64
	for n := range level {
		level[n] = float64(schemas.Levels[n])
		if n > 0 && err[n] > err[n-1]+1e-12 {
			rise[n] = (level[n] - level[n-1]) / (err[n] - err[n-1])
		}
	}
	var at [4]int
	var next [4]float64
	for j, m := range mid {
		next[j] = m + err[0]
	}
	k := 0
	var x, p float64
	for first := true; k < levels; first = false {
		best := 0
		for j := 1; j < len(mid); j++ {
			if next[j] < next[best] {
				best = j
			}
		}
		y := next[best]
		if math.IsInf(y, 1) {
			break
		}
		if at[best]++; at[best] < levels {
			next[best] = mid[best] + err[at[best]]
		} else {
			next[best] = math.Inf(1)
		}
		var f float64
		for j, m := range mid {
			switch n := at[j]; {
			case n == levels:
				f++
			case n > 0:
				f += level[n-1]
				if j != best {
					f += (y - m - err[n-1]) * rise[n]
				}
			}
		}
		f /= float64(len(mid))
		for k < levels && level[k] <= f {
			dst[k] = y
			if !first && f > p {
				dst[k] = x + (y-x)*(level[k]-p)/(f-p)
			}
			if k > 0 && dst[k] < dst[k-1] { // by rounding
				dst[k] = dst[k-1]
			}
			k++
		}
		x, p = y, f
	}
	for ; k < levels; k++ {
		dst[k] = x
	}
}

// spreadSteps writes n x len(levels) quantiles, one row a step from lead first on.
func (c *scored) spreadSteps(i, first, n int, at []float32, dst []float32) {
	knots := row(c.knots, i, scoreKnots)
	var err [levels]float64
	for k := 0; k < n; k++ {
		h := first + k
		mid := c.slopeAt(i, h)*c.path[h] + c.season[h]
		c.errorsAt(i, h, &err)
		q := dst[k*len(at) : (k+1)*len(at)]
		for j, p := range at {
			l := 0
			for l+2 < levels && schemas.Levels[l+1] < p {
				l++
			}
			f := float64((p - schemas.Levels[l]) / (schemas.Levels[l+1] - schemas.Levels[l]))
			f = math.Min(1, math.Max(0, f))
			q[j] = fromScore(knots, mid+err[l]+f*(err[l+1]-err[l]))
		}
		Tidy(q)
	}
}

package model

import (
	"math"

	"github.com/foreshift/foreshift/schemas"
)

// The regression is fitted to means over half hours: trend, rhythm and events are
// slower than that, and a sixth of the rows is a sixth of the work.
const (
	fitBlock    = 6                        // rows to a block
	fitBlocks   = RefitRows/fitBlock + 2   // most blocks of a fit
	dayBlocks   = day / fitBlock           // blocks to a day
	weekBlocks  = 7 * dayBlocks            // blocks to a week
	maxDaily    = 6                        // order of the daily Fourier series
	maxWeekly   = 3                        // and of the weekly one
	maxChanges  = 14                       // changepoints of the trend
	changeEvery = dayBlocks / 2            // blocks from one to the next
	fourierCols = 2*maxDaily + 2*maxWeekly // columns of rhythm
	baseCols    = 2 + 2*maxChanges + fourierCols
	maxCols     = baseCols + MaxTerms // columns of the widest design
	rounds      = 5                   // of reweighting
)

// Priors, in units of the series' own scale (the standard deviation of its half
// hours) and of days. They were chosen on public traces, where a factor of three in
// any of them changes the CRPS by less than 4 %.
const (
	slopeScale = .1  // of the slope a day: Laplace
	bendScale  = .05 // of a change of slope: Laplace
	stepScale  = .2  // of a change of level: Laplace
	dailySD    = .3  // of the daily Fourier terms of order 1; of order k: /k
	weeklySD   = .15 // of the weekly ones
	ratioSD    = .5  // of an event's effect relative to what its operator expects
	eventSD    = .3  // of an event nobody has an expectation of, as a share of demand
	numericSD  = .5  // of an external series
)

// fit is the scratch of one refit.
type fit struct {
	n     int                // blocks
	first schemas.Step       // of block 0: a multiple of fitBlock
	end   schemas.Step       // one after the last row: what level and slope speak of
	y     [fitBlocks]float64 // mean of the block's rows less centre, in units of scale
	w     [fitBlocks]float64 // share of its rows that are there
	trend [fitBlocks]float64 // of the curve
	mean  [fitBlocks]float64 // trend and rhythm, no events

	terms int
	term  [MaxTerms]termFit
	x     [MaxTerms][fitBlocks]float64 // regressors: mean of the block's rows

	centre, scale float64
	sigma2        float64 // variance of a block's residual
	inflate       float64 // autocorrelation time of the residuals, blocks
	changes       int
	daily, weekly int // orders
	base          int // columns of trend and rhythm

	prior, about, theta [maxCols]float64             // precision and mean of the priors; estimate
	u, v                [maxCols]float64             // scratch
	rows                [fitBlocks][baseCols]float64 // the design without terms
	gram                normal                       // X'X and X'y of trend and rhythm: the data alone
	q                   normal
}

// termFit is a regressor in a fit: its prior, and what came out.
type termFit struct {
	numeric         bool
	mean, precision float64 // prior
	loc, inv        float64 // of a numeric one: (x-loc)*inv
}

// tau is the time of block k's middle in days before the end, not above 0.
func (f *fit) tau(k int) float64 {
	return (float64(f.first-f.end) + float64(k*fitBlock) + (fitBlock-1)/2.) / day
}

// load takes the rows, the newest of step last, as blocks; rows for which free is
// false are clipped to lo..hi. False when fewer than four blocks have any.
func (f *fit) load(x []float32, last schemas.Step, lo, hi float32, free []bool) bool {
	f.end = last + 1
	start := f.end - schemas.Step(len(x))
	f.first = start - (start%fitBlock+fitBlock)%fitBlock
	f.n = min(fitBlocks, int((f.end-f.first+fitBlock-1)/fitBlock))
	clear(f.y[:f.n])
	clear(f.w[:f.n])
	for k, v := range x {
		if b := int(start-f.first+schemas.Step(k)) / fitBlock; v == v && b < f.n {
			if !free[k] {
				v = min(max(v, lo), hi)
			}
			f.y[b] += float64(v)
			f.w[b]++
		}
	}
	var sum, sum2, m float64
	for b := 0; b < f.n; b++ {
		if f.w[b] == 0 {
			continue
		}
		f.y[b] /= f.w[b]
		f.w[b] /= fitBlock
		sum += f.y[b]
		m++
	}
	if m < 4 {
		return false
	}
	f.centre = sum / m
	for b := 0; b < f.n; b++ {
		if f.w[b] > 0 {
			d := f.y[b] - f.centre
			sum2 += d * d
		}
	}
	f.scale = math.Sqrt(sum2 / m)
	if !(f.scale > 1e-6*math.Abs(f.centre)) || !(f.scale > 1e-30) {
		f.scale = 0 // it stood still
		return true
	}
	for b := 0; b < f.n; b++ {
		f.y[b] = (f.y[b] - f.centre) / f.scale
	}
	return true
}

// orders chooses what the length of the history can tell: the daily rhythm is
// begun with one day and whole with three; the week, of which the window holds
// little more than one, is only hinted at.
func (f *fit) orders() {
	f.daily, f.weekly = 0, 0
	switch {
	case f.n >= 3*dayBlocks:
		f.daily = maxDaily
	case f.n >= 3*dayBlocks/2:
		f.daily = 3
	case f.n >= dayBlocks:
		f.daily = 1
	}
	if f.n >= weekBlocks+dayBlocks/2 {
		f.weekly = maxWeekly
	}
	f.changes = min(maxChanges, max(0, f.n/changeEvery-1))
	f.base = 2 + 2*f.changes + 2*f.daily + 2*f.weekly
}

// row writes the columns of block k: 1, t, and at each changepoint s, newest first,
// (s-t)+ and 1{t < s}, which vanish after it, so that level and slope are those at
// the end; then sines and cosines.
func (f *fit) row(k int, c []float64) {
	t := f.tau(k)
	c[0], c[1] = 1, t
	for j := 0; j < f.changes; j++ {
		before := -float64((j+1)*changeEvery)/dayBlocks - t
		c[2+j], c[2+f.changes+j] = max(0, before), 0
		if before > 0 {
			c[2+f.changes+j] = 1
		}
	}
	at := 2 + 2*f.changes
	b := int(f.first/fitBlock) + k
	at += copy(c[at:], waves.daily[b%dayBlocks][:2*f.daily])
	copy(c[at:], waves.weekly[b%weekBlocks][:2*f.weekly])
}

// accumulate forms the normal equations of trend and rhythm, O(rows/6 x columns^2),
// once a refit. They are not carried from refit to refit: a window that slides would
// need as many down-dates, which lose digits and make the outcome depend on how long
// the process has run.
func (f *fit) accumulate() {
	f.gram.reset(f.base)
	for k := 0; k < f.n; k++ {
		c := f.rows[k][:f.base]
		f.row(k, c)
		w := f.w[k]
		if w == 0 {
			continue
		}
		for i, ci := range c {
			if ci == 0 {
				continue
			}
			ci *= w
			f.gram.b[i] += ci * f.y[k]
			r := f.gram.a[i*maxCols : i*maxCols+i+1]
			for j, cj := range c[:i+1] {
				r[j] += ci * cj
			}
		}
	}
}

// priors of all columns; those of the Laplace ones follow the coefficients.
func (f *fit) priors() {
	clear(f.about[:f.base])
	f.prior[0], f.prior[1] = 1e-4, laplace(f.theta[1], slopeScale)
	for j := 2; j < 2+f.changes; j++ {
		f.prior[j] = laplace(f.theta[j], bendScale)
		f.prior[j+f.changes] = laplace(f.theta[j+f.changes], stepScale)
	}
	at := 2 + 2*f.changes
	for k := 0; k < 2*f.daily; k++ {
		o := float64(k/2 + 1)
		f.prior[at+k] = o * o / (dailySD * dailySD)
	}
	at += 2 * f.daily
	for k := 0; k < 2*f.weekly; k++ {
		o := float64(k/2 + 1)
		f.prior[at+k] = o * o / (weeklySD * weeklySD)
	}
	for j := 0; j < f.terms; j++ {
		f.prior[f.base+j], f.about[f.base+j] = f.term[j].precision, f.term[j].mean
	}
}

// laplace is the precision of the Gaussian that touches a Laplace prior of scale b
// from below at d0: |d| <= d^2/(2|d0|) + |d0|/2, equal at d = d0 (Hunter and Li 2005,
// Annals of Statistics 33:1617). Reweighting by it climbs to the MAP estimate; the
// floor under |d0| keeps a column that was dropped within reach.
func laplace(d0, b float64) float64 { return 1 / (b * max(math.Abs(d0), b/20)) }

// event is the column of term j at block k: demand without events times the
// regressor, or the standardised regressor.
func (f *fit) event(j, k int) float64 {
	t := &f.term[j]
	if t.numeric {
		return f.x[j][k]
	}
	return max(0, f.centre/f.scale+f.mean[k]) * f.x[j][k]
}

// solve finds the MAP estimate; false when the equations are singular.
func (f *fit) solve() bool {
	f.orders()
	f.accumulate()
	f.sigma2, f.inflate = .5, 4
	clear(f.mean[:f.n])
	for j := range f.theta {
		f.theta[j] = bendScale
	}
	for r := 0; r < rounds; r++ {
		f.priors()
		f.q.n = f.base + f.terms
		like := 1 / (f.sigma2 * f.inflate)
		for i := 0; i < f.base; i++ {
			to, from := f.q.a[i*maxCols:i*maxCols+i+1], f.gram.a[i*maxCols:i*maxCols+i+1]
			for j, v := range from {
				to[j] = v * like
			}
			f.q.b[i] = f.gram.b[i] * like
		}
		f.addTerms(like)
		for i := 0; i < f.q.n; i++ {
			f.q.a[i*maxCols+i] += f.prior[i]
			f.q.b[i] += f.prior[i] * f.about[i]
		}
		if !f.q.factor() {
			return false
		}
		theta := f.theta[:f.q.n]
		copy(theta, f.q.b[:f.q.n])
		f.q.forward(theta)
		f.q.back(theta)
		f.residuals()
	}
	return true
}

// addTerms forms the rows of the events, which act on the curve of the round before:
// y = m (1 + sum b x) is linear in b for a given m, and m settles within the rounds.
func (f *fit) addTerms(like float64) {
	for j := 0; j < f.terms; j++ {
		i := f.base + j
		r := f.q.a[i*maxCols : i*maxCols+i+1]
		clear(r)
		f.q.b[i] = 0
		for k := 0; k < f.n; k++ {
			c := f.event(j, k)
			if c == 0 || f.w[k] == 0 {
				continue
			}
			c *= f.w[k] * like
			for b, v := range f.rows[k][:f.base] {
				r[b] += c * v
			}
			for o := 0; o <= j; o++ {
				r[f.base+o] += c * f.event(o, k)
			}
			f.q.b[i] += c * f.y[k]
		}
	}
}

// residuals evaluates the curve at every block and takes the residuals' variance and
// autocorrelation time (1+rho)/(1-rho): that many blocks say as much as one
// independent one would, without which the priors would drown in rows that repeat
// each other.
func (f *fit) residuals() {
	var s2, s11, w float64
	before := math.NaN()
	trend := 2 + 2*f.changes
	for k := 0; k < f.n; k++ {
		c := f.rows[k][:f.base]
		var m float64
		for j, v := range c[:trend] {
			m += v * f.theta[j]
		}
		f.trend[k] = m
		for j := trend; j < f.base; j++ {
			m += c[j] * f.theta[j]
		}
		e := f.y[k] - m
		for j := 0; j < f.terms; j++ {
			e -= f.theta[f.base+j] * f.event(j, k)
		}
		f.mean[k] = m
		if f.w[k] == 0 {
			before = math.NaN()
			continue
		}
		s2 += e * e * f.w[k]
		w += f.w[k]
		if before == before {
			s11 += e * before
		}
		before = e
	}
	f.sigma2 = max(s2/w, 1e-6)
	rho := min(max(s11/max(s2, 1e-12), 0), .92)
	f.inflate = (1 + rho) / (1 - rho)
}

// evidence is what blocks from..to-1 alone say of term j, as the precision of its
// coefficient and precision x coefficient.
func (f *fit) evidence(j, from, to int) (precision, weighted float64) {
	like := 1 / (f.sigma2 * f.inflate)
	for k := from; k < min(to, f.n); k++ {
		c := f.event(j, k)
		if c == 0 || f.w[k] == 0 {
			continue
		}
		e := f.y[k] - f.mean[k]
		for o := 0; o < f.terms; o++ {
			if o != j {
				e -= f.theta[f.base+o] * f.event(o, k)
			}
		}
		precision += c * c * f.w[k] * like
		weighted += c * e * f.w[k] * like
	}
	return precision, weighted
}

package model

import (
	"fmt"
	"math"

	"github.com/foreshift/foreshift/forecaster/window"
	"github.com/foreshift/foreshift/schemas"
)

// Prophet is a decomposable regression after Taylor and Letham (Forecasting at
// Scale, The American Statistician 72:37, 2018), here with its equations (1) to (6):
//
//	y(t) = [g(t) + s(t)] * (1 + sum_j b_j x_j(t)) + e(t)
//
// g is a piecewise linear trend with a changepoint every half day, at which slope and
// level may change; the changes have Laplace priors, so that most are none. s are
// Fourier series of the day and the week with Gaussian priors that shrink high
// orders. x_j are calendar events (the share by which the operator expects demand to
// change; b_j is 1 if he is right, and is learnt) and external series (additive,
// standardised). The estimate is the MAP: ridge normal equations in closed form,
// reweighted a few times for the Laplace priors.
//
// It departs from the paper where the paper's choices cost: a Gaussian error becomes
// the empirical distribution of the residuals, by time of day, shrunk to all hours;
// simulated future changepoints become their variance in closed form; the likelihood
// is tempered by the residuals' autocorrelation; rows are half-hour means clipped to
// the bulk, except under an event.
//
// What an event is known to do outlives the window: rows that slide out leave their
// evidence behind as the prior of the next fit, and series share what they learnt of
// a class ([Term.Class]). A wrong entry thus loses its effect with the evidence
// against it, and an entry seen for the first time acts by the operator's word, with
// the uncertainty of that word in the quantiles.
//
// State is 1 KB a series. A refit takes about 1 ms,
// every 24 steps; a forecast about 10 us.
type Prophet struct {
	roster
	end  []schemas.Step // n: the step that level and slope speak of
	coef []float32      // n x coefSize
	res  packed         // n x blocks: residuals
	events
	f     *fit
	x     []float32
	resid []float32
	pool  []float32
	free  []bool
	tod   Empirical // quantiles by time of day
}

// The coefficients of a series, in its unit; NaN in the first: not fitted.
const (
	coLevel     = iota // at end
	coSlope            // a day
	coVar              // variance of the level,
	coCov              // covariance of level and slope,
	coVarSlope         // variance of the slope, a day^2
	coStep             // mean absolute change of level at a changepoint
	coBend             // and of slope, a day
	coDaily            // Fourier coefficients
	coWeekly    = coDaily + 2*maxDaily
	coefSize    = coWeekly + 2*maxWeekly
	clipped     = .05 // share of the rows at either end that count as not the bulk
	byHour      = .7  // weight of the residuals of the time of day, against those of
	recentDays  = 3   // the last days at all hours
	changesADay = dayBlocks / changeEvery
	mostAhead   = 2 // days the trend is followed, should refits fail to come
)

// NewProphet makes an empty bank.
func NewProphet() *Prophet {
	p := &Prophet{f: new(fit), x: make([]float32, 0, window.Rows), resid: make([]float32, window.Rows),
		pool: make([]float32, 0, window.Rows), free: make([]bool, window.Rows)}
	p.tod.pool = make([]float32, 0, window.Rows)
	return p
}

var prophetNames = []string{"prophet"}

// Names implements [Experts].
func (p *Prophet) Names() []string { return prophetNames }

// Add implements [Bank].
func (p *Prophet) Add(k Key) int {
	i := p.add(k)
	p.end = Grown(p.end, i, 1)
	p.coef = Grown(p.coef, i, coefSize)
	p.res.grow(i, blocks)
	p.events.grow(i)
	fill(p.coef[i*coefSize : (i+1)*coefSize])
	return i
}

// Remove implements [Bank].
func (p *Prophet) Remove(i int) {
	if p.has(i) {
		p.roster.Remove(i)
		p.events.grow(i) // what it knew of events is shared no more
	}
}

// Observe implements [Bank]. It keeps known for the next refits.
func (p *Prophet) Observe(s schemas.Step, _ []float32, known Regressors) {
	if _, ok := p.arrive(s); !ok {
		return
	}
	p.known = known
	if s%RefitEvery == 0 {
		p.share()
	}
}

// Refit implements [Bank].
func (p *Prophet) Refit(i int, w window.View, _ uint64) error {
	if !p.has(i) {
		return fmt.Errorf("model prophet: refit of unknown series %d", i)
	}
	x := p.history(i, &w, p.x)
	x, last := learnable(p.keys[i], &w, x)
	co := p.coef[i*coefSize : (i+1)*coefSize]
	fill(co)
	p.pool = p.pool[:0]
	for _, v := range x {
		if v == v {
			p.pool = append(p.pool, v)
		}
	}
	if len(p.pool) < minPool {
		return nil
	}
	p.tod.sorter.sort(p.pool)
	n := float32(len(p.pool) - 1)
	f := p.f
	start := last + 1 - schemas.Step(len(x))
	free := p.free[:len(x)]
	p.underEvents(i, start, free)
	if !f.load(x, last, p.pool[int(clipped*n)], p.pool[int((1-clipped)*n)], free) {
		return nil
	}
	f.terms = 0
	if f.scale > 0 {
		p.begin(i, start, len(x))
		if !f.solve() {
			return nil // nothing but a guess could be made of it
		}
		p.learn(i, len(x))
	}
	p.end[i] = f.end
	p.store(co)
	p.residuals(i, x, start, last)
	return nil
}

// store turns the fit into coefficients in the series' unit.
func (p *Prophet) store(co []float32) {
	f := p.f
	clear(co)
	co[coLevel] = float32(f.centre)
	if f.scale == 0 {
		return
	}
	co[coLevel] = float32(f.centre + f.scale*f.theta[0])
	co[coSlope] = float32(f.scale * f.theta[1])
	v := f.scale * f.scale
	co[coVar] = float32(v * f.q.covariance(0, 0, f.u[:], f.v[:]))
	co[coCov] = float32(v * f.q.covariance(0, 1, f.u[:], f.v[:]))
	co[coVarSlope] = float32(v * f.q.covariance(1, 1, f.u[:], f.v[:]))
	for j := 2; j < 2+f.changes; j++ {
		co[coBend] += float32(f.scale * math.Abs(f.theta[j]) / float64(f.changes))
		co[coStep] += float32(f.scale * math.Abs(f.theta[j+f.changes]) / float64(f.changes))
	}
	at := 2 + 2*f.changes
	for k := 0; k < 2*f.daily; k++ {
		co[coDaily+k] = float32(f.scale * f.theta[at+k])
	}
	at += 2 * f.daily
	for k := 0; k < 2*f.weekly; k++ {
		co[coWeekly+k] = float32(f.scale * f.theta[at+k])
	}
}

// rhythm is s(t).
func rhythm(co []float32, s schemas.Step) (m float32) {
	for k, v := range &waves.ofDay[mod(s, day)] {
		m += v * co[coDaily+k]
	}
	for k, v := range &waves.ofWeek[mod(s, week)] {
		m += v * co[coWeekly+k]
	}
	return m
}

func mod(s, m schemas.Step) schemas.Step { return (s%m + m) % m }

// residuals takes the quantiles of what the curve leaves, by time of day.
func (p *Prophet) residuals(i int, x []float32, start, last schemas.Step) {
	f := p.f
	r := p.resid[:len(x)]
	co := p.coef[i*coefSize : (i+1)*coefSize]
	for k := range x {
		s := start + schemas.Step(k)
		m := co[coLevel]
		if f.scale > 0 {
			m = float32(f.centre+f.scale*f.trend[int(s-f.first)/fitBlock]) + rhythm(co, s)
			share, plus, _ := p.effect(i, s, &p.known, m)
			m += share + plus
		}
		r[k] = x[k] - m
	}
	var all [levels]float32
	p.pool = p.pool[:0]
	for _, v := range r[max(0, len(r)-recentDays*day):] {
		if v == v {
			p.pool = append(p.pool, v)
		}
	}
	if len(p.pool) < minPool { // the last days are missing: all there is, then
		for _, v := range r {
			if v == v {
				p.pool = append(p.pool, v)
			}
		}
	}
	p.tod.sorter.quantiles(p.pool, all[:])
	p.tod.fitBlocks(r, last, len(r), 0, &p.res, i*blocks)
	for b := i * blocks; b < (i+1)*blocks; b++ {
		var q [levels]float32
		p.res.get(b, &q)
		for l, v := range q {
			if v != v {
				q[l] = all[l]
			} else {
				q[l] = all[l] + byHour*(v-all[l])
			}
		}
		p.res.put(b, &q)
	}
}

// Forecast implements [Bank].
func (p *Prophet) Forecast(i int, g schemas.Grid, known Regressors, dst *schemas.Dist) {
	p.Expert(i, 0, g, known, dst)
}

// Expert implements [Experts].
func (p *Prophet) Expert(i, _ int, g schemas.Grid, known Regressors, dst *schemas.Dist) bool {
	if i < 0 || i >= len(p.keys) || p.coef[i*coefSize] != p.coef[i*coefSize] {
		fill(dst.Q)
		return false
	}
	p.res.onBlocks(i*blocks, g, dst)
	for s := 0; s < schemas.Slots; s++ {
		start, n := g.Slot(s)
		// A slot of several steps is looked at in three or four of them; that they differ
		// is part of what a random step of it may be.
		stride := max(1, n/4)
		var sum, sum2, variance, m float32
		for o := schemas.Step(stride / 2); o < schemas.Step(n); o += schemas.Step(stride) {
			c, v := p.centre(i, start+o, &known)
			sum += c
			sum2 += c * c
			variance += v
			m++
		}
		sum /= m
		widenBy(dst.At(s), sum, variance/m+max(0, sum2/m-sum*sum))
	}
	return true
}

// centre is the curve at a step, events included, and the variance of that.
func (p *Prophet) centre(i int, s schemas.Step, known *Regressors) (m, variance float32) {
	co := p.coef[i*coefSize : (i+1)*coefSize]
	h := min(float32(s-p.end[i])/day, mostAhead)
	m = co[coLevel] + co[coSlope]*h + rhythm(co, s)
	share, plus, v := p.effect(i, s, known, m)
	if h > 0 {
		// Var(level + slope h) from the fit, and changepoints to come at the rate and with
		// the mean size of those found: a Laplace of scale b has variance 2 b^2; a bend at
		// u moves the trend by (h-u).
		v += co[coVar] + 2*h*co[coCov] + h*h*co[coVarSlope] +
			2*changesADay*h*(co[coStep]*co[coStep]+co[coBend]*co[coBend]*h*h/3)
	}
	return m + share + plus, max(0, v)
}

// gauss are the standard normal quantiles of schemas.Levels.
var gauss = [levels]float32{-2.3263, -1.6449, -1.2816, -.8416, -.5244, -.2533, 0, .2533, .5244, .8416, 1.2816, 1.6449, 2.3263}

// widenBy moves residual quantiles to the centre and adds a Gaussian uncertainty:
// distances from the median add in squares, as they do if both are Gaussian.
func widenBy(q []float32, centre, variance float32) {
	median := q[levels/2]
	for l, v := range q {
		d := v - median
		if variance > 0 {
			d = float32(math.Copysign(math.Sqrt(float64(d*d+gauss[l]*gauss[l]*variance)), float64(gauss[l])))
		}
		q[l] = centre + median + d
	}
	Tidy(q)
}

// StepQuantiles writes n steps x len(levels) quantiles from a step on: Forecast at
// the resolution of steps, for those who score it. False when nothing is known.
func (p *Prophet) StepQuantiles(i int, from schemas.Step, n int, at []float32, dst []float32) bool {
	if i < 0 || i >= len(p.keys) || p.coef[i*coefSize] != p.coef[i*coefSize] {
		return false
	}
	var q [levels]float32
	one := schemas.Dist{Q: q[:]}
	for k := 0; k < n; k++ {
		s := from + schemas.Step(k)
		p.res.onBlock(i*blocks, 2*int(mod(s, day))+1, &q)
		c, v := p.centre(i, s, &p.known)
		widenBy(q[:], c, v)
		for l, level := range at {
			dst[k*len(at)+l] = one.Quantile(0, level)
		}
	}
	return true
}

func (p *Prophet) tables() []table {
	return append(p.res.tables(blocks), table{1, &p.end}, table{coefSize, &p.coef},
		table{MaxTerms, &p.class}, table{MaxTerms * effectSize, &p.effects}, table{1, &p.left})
}

// AppendState implements [Bank]. What is known of the future is not part of it.
func (p *Prophet) AppendState(b []byte) []byte {
	return p.appendShared(p.appendState(b, p.tables()))
}

// LoadState implements [Bank]. The next Observe brings what is known of the future;
// until then a refit would know of no events.
func (p *Prophet) LoadState(b []byte) error {
	var next Prophet
	rest, err := next.loadState(b, next.tables(), true)
	if err == nil {
		err = next.loadShared(rest)
	}
	if err != nil {
		return fmt.Errorf("model prophet: %w", err)
	}
	next.known = p.known
	p.roster, p.end, p.coef, p.res, p.events = next.roster, next.end, next.coef, next.res, next.events
	return nil
}

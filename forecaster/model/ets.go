package model

import (
	"fmt"
	"math"

	"github.com/foreshift/foreshift/forecaster/window"
	"github.com/foreshift/foreshift/schemas"
)

// ETS forecasts each series by exponential smoothing with additive errors, as
// innovations state space models (Hyndman, Koehler, Ord and Snyder, Forecasting with
// Exponential Smoothing, Springer 2008, table 2.2), on the normal scores of its
// demand ([fitScores]). Of four forms AICc picks one, once a day:
//
//	ETS(A,N,N)  simple          y = l + e           l += alpha e
//	ETS(A,Ad,N) damped trend    y = l + phi b + e   l += phi b + alpha e   b = phi b + beta e
//	ETS(A,N,A)  with season     y = l + s + e       as above, s += gamma e
//	ETS(A,Ad,A) both            Holt and Winters' additive form with damped trend
//
// The season has 288 states; 287 free first values would cost more than a week of
// history can pay for, so they start at the profile fitted to the window ([fitFourier],
// [fitBins]), which counts with the degrees of freedom that its shrinkage leaves it.
// Parameters maximise the Gaussian likelihood of the innovations within 0 < alpha < 1, 0
// < beta < alpha, 0 < gamma < 1 - alpha, .8 <= phi <= .98 by simplex search; the refits
// between searches keep the form and go on from the parameters found. Quantiles are
// those of the errors made in the window, lead by lead; leads too long for a young
// history are scaled by the variance of class 1 (same book, table 6.1).
//
// State is 1.7 KB a series.
type ETS struct {
	scored
	state    []float32      // n x 2: level, trend
	param    []float32      // n x etsParams
	found    []float32      // n x etsParams, those of the search
	states   []float32      // n x day: season by step of the day
	form     []int8         // n x 2: form, harmonics
	searched []schemas.Step // n: step of the search; 0 = none
	seasons  []float64      // scratch: season by row, and as it starts
	level    []float64
	trend    []float64
}

// The forms, and the parameters each has.
const (
	etsDamped   = 1 << iota // has a damped trend
	etsSeasonal             // has a season
	etsForms
)

const (
	alphaAt = iota
	gammaAt
	betaAt
	phiAt
	etsParams
)

var _ Experts = (*ETS)(nil)

// NewETS makes an empty bank.
func NewETS() *ETS {
	f64 := func(n int) []float64 { return make([]float64, n) }
	return &ETS{scored: newScored(), seasons: f64(window.Rows + day), level: f64(window.Rows), trend: f64(window.Rows)}
}

var etsNames = []string{"ets"}

// Names implements [Experts].
func (e *ETS) Names() []string { return etsNames }

// Add implements [Bank].
func (e *ETS) Add(k Key) int {
	i := e.add(k)
	e.state = Grown(e.state, i, 2)
	e.param = Grown(e.param, i, etsParams)
	e.found = Grown(e.found, i, etsParams)
	e.states = Grown(e.states, i, day)
	e.form = Grown(e.form, i, 2)
	e.searched = Grown(e.searched, i, 1)
	return i
}

// Observe implements [Bank].
func (e *ETS) Observe(s schemas.Step, y []float32, _ Regressors) {
	skipped, ok := e.arrive(s)
	if !ok {
		return
	}
	for i := range e.keys {
		if !e.known(i) {
			continue
		}
		for k := 0; k < skipped; k++ {
			e.advance(i, 0, schemas.NaN())
		}
		v := schemas.NaN()
		if i < len(y) {
			v = y[i]
		}
		e.advance(i, s, v)
	}
}

// advance moves the state on to step s, where y was observed; a missing value is
// taken as expected.
func (e *ETS) advance(i int, s schemas.Step, y float32) {
	st, p := row(e.state, i, 2), row(e.param, i, etsParams)
	b := p[phiAt] * st[1]
	at := st[0] + b
	st[0], st[1] = at, b
	if !measured(y) {
		return
	}
	season := &e.states[i*day+int(s%day)]
	miss := float32(toScore(row(e.knots, i, scoreKnots), y)) - at - *season
	st[0] += p[alphaAt] * miss
	st[1] += p[betaAt] * miss
	*season += p[gammaAt] * miss
}

// Refit implements [Bank]. With the search, once a day, about 2.5 ms; otherwise .6 ms.
func (e *ETS) Refit(i int, w window.View, _ uint64) error {
	if !e.has(i) {
		return fmt.Errorf("model ets: refit of unknown series %d", i)
	}
	all := e.history(i, &w, e.x)
	x, due := learnable(e.keys[i], &w, all)
	at := searchDue(e.keys[i], w.First, due)
	switch {
	case at == due && len(x) <= searchRows:
		e.fit(i, x, due, true)
	default:
		if e.searched[i] != at {
			older := x[:max(0, len(x)-int(due-at))]
			e.fit(i, older[max(0, len(older)-searchRows):], at, true)
		}
		e.fit(i, x, due, e.searched[i] != at)
	}
	if !e.any {
		e.last, e.any = w.Last(), true
	}
	if e.known(i) {
		for s := due + 1; s <= min(e.last, w.Last()+maxSkip); s++ {
			y := schemas.NaN()
			if n := int(s - w.First); n < len(all) {
				y = all[n]
			}
			e.advance(i, s, y)
		}
	}
	return nil
}

// fit learns series i from x, whose last value is that of step last, and leaves the
// state there.
func (e *ETS) fit(i int, x []float32, last schemas.Step, anew bool) {
	if anew {
		e.chooseShape(i, x, last)
	}
	z, constant, ok := e.transform(i, x)
	if !ok {
		return
	}
	form, found := row(e.form, i, 2), row(e.found, i, etsParams)
	var curve [dailySize]float32
	most, least := maxHarmonics, 0
	if !anew {
		most = int(form[1])
		least = most
	}
	harmonics := fitFourier(z, last, least, most, curve[:])
	form[1] = int8(harmonics)
	from := last - schemas.Step(len(z)-1)
	r := e.r[:len(z)]
	less(z, curve[:], from, r)
	freedom, widen := fitBins(r, last, e.profile)
	freedom += float64(2 * harmonics)
	run := etsRun{z: z, level: e.level, trend: e.trend, seasons: e.seasons[:day+len(z)]}
	for t := 0; t < day; t++ {
		s := from + schemas.Step(t)
		run.seasons[t] = dailyCurve(curve[:], s) - float64(curve[0]) + e.profile[int(s%day)]
	}
	p := etsStart
	switch {
	case constant:
		form[0], e.searched[i] = 0, 0
		p[alphaAt] = 1
	case anew:
		best := math.Inf(1)
		for f := int8(0); f < etsForms; f++ {
			k, q := 3., etsStart // level, alpha, variance
			if f&etsDamped != 0 {
				k += 3
			}
			if f&etsSeasonal != 0 {
				if freedom == 0 {
					continue
				}
				k += 1 + freedom
			}
			ss := run.search(int(f), &q, 40)
			if a := aicc(ss, run.known(), k); a < best {
				best, form[0], p = a, f, q
			}
		}
		for k := range p {
			found[k] = float32(p[k])
		}
		e.searched[i] = last
	default:
		for k := range p {
			p[k] = float64(found[k])
		}
		run.search(int(form[0]), &p, 24)
	}
	if form[0]&etsSeasonal == 0 {
		widen = 1
	}
	e.settle(i, &run, int(form[0]), &p, from, widen)
}

// settle runs the model once more with its final parameters, keeps the state at the
// end, and learns from the errors on the way.
func (e *ETS) settle(i int, run *etsRun, form int, p *[etsParams]float64, from schemas.Step, widen float64) {
	q := run.masked(form, p)
	run.sum(form, &q, true)
	n := len(run.z)
	param, states := row(e.param, i, etsParams), row(e.states, i, day)
	for k := range q {
		param[k] = float32(q[k])
	}
	e.state[2*i], e.state[2*i+1] = float32(run.level[n-1]), float32(run.trend[n-1])
	clear(states)
	if form&etsSeasonal != 0 {
		for t := n; t < n+day; t++ { // the newest state of each step of the day
			states[int((from+schemas.Step(t))%day)] = float32(run.seasons[t])
		}
	}
	// sums of phi^j: what a trend adds until each lead; and table 6.1's variance
	var damp, sd [numLeads]float64
	var sum, v float64
	v = 1
	l, pow := 0, 1.
	for h := 1; h <= day; h++ {
		pow *= q[phiAt]
		sum += pow
		if h == errorLeads[l] {
			damp[l], sd[l] = sum, math.Sqrt(v)
			l++
		}
		c := q[alphaAt]
		if q[phiAt] > 0 {
			c += q[betaAt] * sum / q[phiAt]
		}
		v += c * c
	}
	e.learn(i, n, func(l, h, t int) (said, got float64) {
		said = run.level[t] + damp[l]*run.trend[t]
		got = run.z[t+h]
		if form&etsSeasonal != 0 {
			got -= run.seasons[t+h] // as known a day before t+h, which is not after t
		}
		return said, got
	}, &sd, widen)
}

// lookAhead fills path and season for leads first to first+n-1, the first being that
// of step from.
func (e *ETS) lookAhead(i int, from schemas.Step, first, n int) {
	phi := float64(e.param[i*etsParams+phiAt])
	level, b := float64(e.state[2*i]), float64(e.state[2*i+1])
	for h := 1; h < first+n; h++ {
		b *= phi
		level += b
		e.path[h] = level
	}
	states := row(e.states, i, day)
	at := int(from % day)
	for k := 0; k < n; k++ {
		e.season[first+k] = float64(states[at])
		if at++; at == day {
			at = 0
		}
	}
}

// Forecast implements [Bank].
func (e *ETS) Forecast(i int, g schemas.Grid, known Regressors, dst *schemas.Dist) {
	e.Expert(i, 0, g, known, dst)
}

// Expert implements [Experts].
func (e *ETS) Expert(i, _ int, g schemas.Grid, _ Regressors, dst *schemas.Dist) bool {
	first, ok := e.lead(g.Start, day)
	if !ok || !e.known(i) {
		fill(dst.Q)
		return false
	}
	e.lookAhead(i, g.Start, first, day)
	e.spreadSlots(i, first, dst)
	return true
}

// StepQuantiles writes the quantiles at levels (rising) of the n steps from `from`
// on into dst, n x len(levels); false when it has nothing to go by or a step is too
// far ahead.
func (e *ETS) StepQuantiles(i int, from schemas.Step, n int, levels []float32, dst []float32) bool {
	first, ok := e.lead(from, n)
	if !ok || !e.known(i) {
		return false
	}
	e.lookAhead(i, from, first, n)
	e.spreadSteps(i, first, n, levels, dst)
	return true
}

func (e *ETS) tables() []table {
	return append(e.scored.tables(), table{2, &e.state}, table{etsParams, &e.param}, table{etsParams, &e.found},
		table{day, &e.states}, table{2, &e.form}, table{1, &e.searched})
}

// AppendState implements [Bank].
func (e *ETS) AppendState(b []byte) []byte { return e.appendState(b, e.tables()) }

// LoadState implements [Bank].
func (e *ETS) LoadState(b []byte) error {
	if _, err := e.loadState(b, e.tables(), false); err != nil {
		return fmt.Errorf("ets: %w", err)
	}
	for i := range e.keys { // what a foreign state may hold must not lead out of bounds
		if f := row(e.form, i, 2); f[0] < 0 || f[0] >= etsForms || f[1] < 0 || f[1] > maxHarmonics {
			f[0], f[1] = 0, 0
			e.searched[i] = 0
		}
	}
	return nil
}

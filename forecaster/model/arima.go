package model

import (
	"fmt"
	"math"

	"github.com/foreshift/foreshift/forecaster/window"
	"github.com/foreshift/foreshift/schemas"
)

// ARIMA forecasts each series by an ARIMA(p, d, q) on the normal scores of its demand
// less a daily profile.
//
// At a refit the window, brought to its present level if that began with a leap
// ([scored.anchored]), is taken to normal scores ([fitScores]); level and daily waves
// are fitted by least squares with AICc's number of harmonics ([fitFourier]) and
// completed by a shrunk mean for each step of the day ([fitBins]). On what remains, once
// a day: d by KPSS tests and p, q stepwise on the conditional likelihood ([searchARMA]),
// then the exact likelihood by Kalman filter ([arma.likelihood]). The refits between
// keep the order and only improve the parameters on the new window. Quantiles are those
// of the errors that the model made in the window, lead by lead.
//
// Between refits each observation moves the filter on by one step of the ARMA recursion,
// which is the Kalman filter in its steady state: O(1), about 0.2 us. A missing value is
// taken as expected. State is 1 KB a series.
type ARIMA struct {
	scored
	curve    []float32      // n x dailySize: level and waves
	bins     []int8         // n x day: profile's rest, in units of
	unit     []float32      // n
	ar       []float32      // n x maxLags: (1-B)^d phi(B) multiplied out
	ma       []float32      // n x maxOrder
	past     []float32      // n x maxLags: remainders, newest first
	shocks   []float32      // n x maxOrder: one-step errors, newest first
	order    []int8         // n x orderSize: p, d, q and harmonics found
	found    []float32      // n x maxOrder: phi, theta found
	searched []schemas.Step // n: step of the search; 0 = none
	work     *armaWork
}

const orderSize = 4

var _ Experts = (*ARIMA)(nil)

// NewARIMA makes an empty bank.
func NewARIMA() *ARIMA {
	return &ARIMA{scored: newScored(), work: newArmaWork(window.Rows)}
}

var arimaNames = []string{"arima"}

// Names implements [Experts].
func (a *ARIMA) Names() []string { return arimaNames }

// Add implements [Bank].
func (a *ARIMA) Add(k Key) int {
	i := a.add(k)
	a.curve = Grown(a.curve, i, dailySize)
	a.bins = Grown(a.bins, i, day)
	a.unit = Grown(a.unit, i, 1)
	a.ar = Grown(a.ar, i, maxLags)
	a.ma = Grown(a.ma, i, maxOrder)
	a.past = Grown(a.past, i, maxLags)
	a.shocks = Grown(a.shocks, i, maxOrder)
	a.order = Grown(a.order, i, orderSize)
	a.found = Grown(a.found, i, maxOrder)
	a.searched = Grown(a.searched, i, 1)
	return i
}

// seasonAt is the daily profile of series i at step s, in scores.
func (a *ARIMA) seasonAt(i int, s schemas.Step) float64 {
	return dailyCurve(row(a.curve, i, dailySize), s) + float64(a.unit[i])*float64(a.bins[i*day+int(s%day)])
}

// Observe implements [Bank].
func (a *ARIMA) Observe(s schemas.Step, y []float32, _ Regressors) {
	skipped, ok := a.arrive(s)
	if !ok {
		return
	}
	for i := range a.keys {
		if !a.known(i) {
			continue
		}
		for k := 0; k < skipped; k++ {
			a.advance(i, 0, schemas.NaN())
		}
		v := schemas.NaN()
		if i < len(y) {
			v = y[i]
		}
		a.advance(i, s, v)
	}
}

// advance moves series i's state on to step s, where y was observed.
func (a *ARIMA) advance(i int, s schemas.Step, y float32) {
	r := math.NaN()
	if measured(y) {
		r = toScore(row(a.knots, i, scoreKnots), y) - a.seasonAt(i, s)
	}
	follow(row(a.ar, i, maxLags), row(a.ma, i, maxOrder), row(a.past, i, maxLags), row(a.shocks, i, maxOrder), r)
}

// follow is one step of the recursion; a missing r is taken as expected.
func follow(ar, ma, past, shocks []float32, r float64) {
	ar, ma, past, shocks = ar[:maxLags], ma[:maxOrder], past[:maxLags], shocks[:maxOrder]
	var at float32
	for k, c := range ar {
		at += c * past[k]
	}
	for k, c := range ma {
		at += c * shocks[k]
	}
	copy(past[1:], past)
	copy(shocks[1:], shocks)
	if r != r {
		past[0], shocks[0] = at, 0
		return
	}
	past[0], shocks[0] = float32(r), float32(r)-at
}

// Refit implements [Bank]. With the search, once a day, about 6 ms; otherwise .8 ms.
func (a *ARIMA) Refit(i int, w window.View, _ uint64) error {
	if !a.has(i) {
		return fmt.Errorf("model arima: refit of unknown series %d", i)
	}
	all := a.history(i, &w, a.x)
	x, due := learnable(a.keys[i], &w, all)
	at := searchDue(a.keys[i], w.First, due)
	switch {
	case at == due && len(x) <= searchRows:
		a.fit(i, x, due, true)
	default:
		if a.searched[i] != at {
			older := x[:max(0, len(x)-int(due-at))]
			a.fit(i, older[max(0, len(older)-searchRows):], at, true)
		}
		a.fit(i, x, due, a.searched[i] != at)
	}
	if !a.any {
		a.last, a.any = w.Last(), true
	}
	if a.known(i) {
		for s := due + 1; s <= min(a.last, w.Last()+maxSkip); s++ {
			y := schemas.NaN()
			if n := int(s - w.First); n < len(all) {
				y = all[n]
			}
			a.advance(i, s, y)
		}
	}
	return nil
}

// fit learns series i from x, whose last value is that of step last, and leaves the
// state there.
func (a *ARIMA) fit(i int, x []float32, last schemas.Step, anew bool) {
	x = a.anchored(x)
	if anew {
		a.chooseShape(i, x, last)
	}
	z, constant, ok := a.transform(i, x)
	if !ok {
		return
	}
	season, unit, bins := row(a.curve, i, dailySize), &a.unit[i], row(a.bins, i, day)
	order, found := row(a.order, i, orderSize), row(a.found, i, maxOrder)
	if anew {
		order[3] = int8(fitFourier(z, last, 0, maxHarmonics, season))
	} else {
		fitFourier(z, last, int(order[3]), int(order[3]), season)
	}
	r := a.r[:len(z)]
	at := last - schemas.Step(len(z)-1)
	less(z, season, at, r)
	_, widen := fitBins(r, last, a.profile)
	*unit = quantise(a.profile, bins)
	b := int(at % day)
	for t := range r {
		r[t] -= float64(*unit) * float64(bins[b])
		if b++; b == day {
			b = 0
		}
	}
	var m armaFound
	switch {
	case constant: // and should it move after all, it is believed
		m.p, m.phi[0] = 1, 1
		a.searched[i] = 0
	case anew:
		m = searchARMA(append(z[:0], r...), a.work)
		diff := append(z[:0], r...)
		for d := 0; d < m.d; d++ {
			diff = differences(diff)
		}
		m.finish(diff, 10+8*(m.p+m.q))
		order[0], order[1], order[2] = int8(m.p), int8(m.d), int8(m.q)
		clear(found)
		for k := 0; k < m.p; k++ {
			found[k] = float32(m.phi[k])
		}
		for k := 0; k < m.q; k++ {
			found[m.p+k] = float32(m.theta[k])
		}
		a.searched[i] = last
	default:
		m.p, m.d, m.q = int(order[0]), int(order[1]), int(order[2])
		for k := 0; k < m.p; k++ {
			m.phi[k] = float64(found[k])
		}
		for k := 0; k < m.q; k++ {
			m.theta[k] = float64(found[m.p+k])
		}
		diff := append(z[:0], r...)
		for d := 0; d < m.d; d++ {
			diff = differences(diff)
		}
		m.improve(diff, a.work, 2)
	}
	a.adopt(i, &m)
	a.errors(i, r, widen)
}

// quantise writes the profile in 127ths of its largest value and gives that unit.
func quantise(profile []float64, dst []int8) float32 {
	var top float64
	for _, v := range profile {
		top = math.Max(top, math.Abs(v))
	}
	unit := top / 127
	clear(dst)
	if unit > 0 {
		for b, v := range profile {
			dst[b] = int8(math.Round(v / unit))
		}
	}
	return float32(unit)
}

// adopt writes the model as one recursion on the undifferenced remainders.
func (a *ARIMA) adopt(i int, m *armaFound) {
	poly := [maxLags + 1]float64{1}
	for k := 0; k < m.p; k++ {
		poly[k+1] = -m.phi[k]
	}
	for d := 0; d < m.d; d++ {
		for k := maxLags; k > 0; k-- {
			poly[k] -= poly[k-1]
		}
	}
	ar, ma := row(a.ar, i, maxLags), row(a.ma, i, maxOrder)
	for k := range ar {
		ar[k] = float32(-poly[k+1])
	}
	clear(ma)
	for k := 0; k < m.q; k++ {
		ma[k] = float32(m.theta[k])
	}
}

// leadWeights are what a forecast makes of the state: at errorLeads[l] it is the sum
// of weights[l][k] past[k] and weights[l][maxLags+k] shocks[k]. sd is the forecast's
// standard deviation in units of the errors': the root of the summed squares of psi
// weights (Box, Jenkins and Reinsel, 5.1).
func leadWeights(ar, ma []float32, weights *[numLeads][maxLags + maxOrder]float64, sd *[numLeads]float64) {
	var past [maxLags]float32
	var shocks [maxOrder]float32
	for u := 0; u <= maxLags+maxOrder; u++ {
		clear(past[:])
		clear(shocks[:])
		switch {
		case u < maxLags:
			past[u] = 1
		case u < maxLags+maxOrder:
			shocks[u-maxLags] = 1
		default:
			past[0], shocks[0] = 1, 1
		}
		l, sum := 0, 1.
		for h := 1; h <= day; h++ {
			if u == maxLags+maxOrder && h == errorLeads[l] {
				sd[l] = math.Sqrt(sum)
			}
			follow(ar, ma, past[:], shocks[:], math.NaN())
			if h == errorLeads[l] {
				if u < maxLags+maxOrder {
					weights[l][u] = float64(past[0])
				}
				l++
			}
			sum += float64(past[0]) * float64(past[0])
		}
	}
}

// errors runs the model over the remainders r, leaves the state at their end, and
// learns from what it missed on the way.
func (a *ARIMA) errors(i int, r []float64, widen float64) {
	ar, ma := row(a.ar, i, maxLags), row(a.ma, i, maxOrder)
	past, shocks := row(a.past, i, maxLags), row(a.shocks, i, maxOrder)
	clear(past)
	clear(shocks)
	filled, e := a.work.filled[:len(r)], a.work.e[:len(r)]
	begun := false
	for t, y := range r {
		if !begun && y == y {
			for k := range past {
				past[k] = float32(y)
			}
			begun = true
		}
		follow(ar, ma, past, shocks, y)
		filled[t], e[t] = float64(past[0]), float64(shocks[0])
	}
	var weights [numLeads][maxLags + maxOrder]float64
	var sd [numLeads]float64
	leadWeights(ar, ma, &weights, &sd)
	a.learn(i, len(r), func(l, h, t int) (said, got float64) {
		w := &weights[l]
		for k := 0; k < maxLags; k++ {
			said += w[k] * filled[t-k]
		}
		for k := 0; k < maxOrder; k++ {
			said += w[maxLags+k] * e[t-k]
		}
		return said, r[t+h]
	}, &sd, widen)
}

// lookAhead fills path and season for leads first to first+n-1, the first being that of
// step from.
func (a *ARIMA) lookAhead(i int, from schemas.Step, first, n int) {
	ar, ma := (*[maxLags]float32)(row(a.ar, i, maxLags)), (*[maxOrder]float32)(row(a.ma, i, maxOrder))
	shocks := row(a.shocks, i, maxOrder)
	var w [maxLags]float32 // what was expected last, newest first
	copy(w[:], row(a.past, i, maxLags))
	for h := 1; h < first+n; h++ {
		at := ar[0]*w[0] + ar[1]*w[1] + ar[2]*w[2] + ar[3]*w[3] + ar[4]*w[4] + ar[5]*w[5] + ar[6]*w[6]
		for k := h - 1; k < maxOrder; k++ { // the last errors are known, those to come are not
			at += ma[k] * shocks[k-h+1]
		}
		w = [maxLags]float32{at, w[0], w[1], w[2], w[3], w[4], w[5]}
		a.path[h] = float64(at)
	}
	for k := 0; k < n; k++ {
		a.season[first+k] = a.seasonAt(i, from+schemas.Step(k))
	}
}

// Forecast implements [Bank].
func (a *ARIMA) Forecast(i int, g schemas.Grid, known Regressors, dst *schemas.Dist) {
	a.Expert(i, 0, g, known, dst)
}

// Expert implements [Experts].
func (a *ARIMA) Expert(i, _ int, g schemas.Grid, _ Regressors, dst *schemas.Dist) bool {
	first, ok := a.lead(g.Start, day)
	if !ok || !a.known(i) {
		fill(dst.Q)
		return false
	}
	a.lookAhead(i, g.Start, first, day)
	a.spreadSlots(i, first, dst)
	return true
}

// StepQuantiles writes the quantiles at levels (rising) of the n steps from `from` on
// into dst, n x len(levels); false when it has nothing to go by or a step is too far
// ahead.
func (a *ARIMA) StepQuantiles(i int, from schemas.Step, n int, levels []float32, dst []float32) bool {
	first, ok := a.lead(from, n)
	if !ok || !a.known(i) {
		return false
	}
	a.lookAhead(i, from, first, n)
	a.spreadSteps(i, first, n, levels, dst)
	return true
}

func (a *ARIMA) tables() []table {
	return append(a.scored.tables(), table{dailySize, &a.curve}, table{day, &a.bins}, table{1, &a.unit},
		table{maxLags, &a.ar}, table{maxOrder, &a.ma}, table{maxLags, &a.past}, table{maxOrder, &a.shocks},
		table{orderSize, &a.order}, table{maxOrder, &a.found}, table{1, &a.searched})
}

// AppendState implements [Bank].
func (a *ARIMA) AppendState(b []byte) []byte { return a.appendState(b, a.tables()) }

// LoadState implements [Bank].
func (a *ARIMA) LoadState(b []byte) error {
	if _, err := a.loadState(b, a.tables(), false); err != nil {
		return fmt.Errorf("arima: %w", err)
	}
	for i := range a.keys { // what a foreign state may hold must not lead out of bounds
		o := row(a.order, i, orderSize)
		if o[0] < 0 || o[1] < 0 || o[2] < 0 || o[3] < 0 || o[0] > maxOrder || o[1] > maxDiff || o[2] > maxOrder || o[0]+o[2] > maxOrder || o[3] > maxHarmonics {
			o[0], o[1], o[2], o[3] = 0, 0, 0, 0
			a.searched[i] = 0
		}
	}
	return nil
}

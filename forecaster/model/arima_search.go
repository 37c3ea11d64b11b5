package model

import "math"

// kpss is the statistic of Kwiatkowski, Phillips, Schmidt and Shin (J. Econometrics
// 54, 1992) for stationarity round a level, with Bartlett's window of
// 12 (n/100)^(1/4) lags; missing values are left out.
func kpss(w []float64) float64 {
	var mean float64
	n := 0
	for _, y := range w {
		if y == y {
			mean += y
			n++
		}
	}
	if n < 3 {
		return 0
	}
	mean /= float64(n)
	lags := int(12 * math.Pow(float64(n)/100, .25))
	var sum, square float64
	for _, y := range w {
		if y == y {
			sum += y - mean
			square += sum * sum
		}
	}
	var variance float64
	for l := 0; l <= lags; l++ {
		var c float64
		for t := l; t < len(w); t++ {
			if a, b := w[t]-mean, w[t-l]-mean; a == a && b == b {
				c += a * b
			}
		}
		if l > 0 {
			c *= 2 * (1 - float64(l)/float64(lags+1))
		}
		variance += c
	}
	if !(variance > 0) {
		return 0
	}
	return square / (float64(n) * variance)
}

// kpssLimit is the statistic's 5 % point.
const kpssLimit = .463

// differences takes first differences of w in place; the first value is lost.
func differences(w []float64) []float64 {
	for t := len(w) - 1; t > 0; t-- {
		w[t] -= w[t-1]
	}
	return w[1:]
}

// starter gives first guesses of any ARMA(p, q) on one series, by Hannan and Rissanen
// (Biometrika 69, 1982): a long autoregression's residuals stand for the errors, and
// w is regressed on lags of both. The cross products of all lags are made once.
type starter struct {
	gram [maxReg * maxReg]float64
	cov  [maxReg]float64
}

const (
	longOrder = 16
	maxReg    = 2 * maxOrder
)

func newStarter(w []float64, s *armaWork) *starter {
	var h starter
	// Durbin-Levinson on the autocovariances
	var c [longOrder + 1]float64
	for l := range c {
		for t := l; t < len(w); t++ {
			if p := w[t] * w[t-l]; p == p {
				c[l] += p
			}
		}
	}
	var a, b [longOrder]float64
	if c[0] > 0 {
		v := c[0]
		for k := 0; k < longOrder; k++ {
			r := c[k+1]
			for i := 0; i < k; i++ {
				r -= a[i] * c[k-i]
			}
			r /= v
			if !(math.Abs(r) < .9999) {
				break
			}
			for i := 0; i < k; i++ {
				b[i] = a[i] - r*a[k-1-i]
			}
			b[k] = r
			a = b
			v *= 1 - r*r
		}
	}
	filled, e := s.filled[:len(w)], s.e[:len(w)]
	for t, y := range w {
		var at float64
		for i := 0; i < min(longOrder, t); i++ {
			at += a[i] * filled[t-1-i]
		}
		filled[t], e[t] = at, 0
		if y == y {
			filled[t], e[t] = y, y-at
		}
	}
	var x [maxReg]float64
	for t := longOrder; t < len(w); t++ {
		y := w[t]
		if y != y {
			continue
		}
		for i := 0; i < maxOrder; i++ {
			x[i], x[maxOrder+i] = filled[t-1-i], e[t-1-i]
		}
		for i := range x {
			h.cov[i] += x[i] * y
			for j := 0; j <= i; j++ {
				h.gram[i*maxReg+j] += x[i] * x[j]
			}
		}
	}
	return &h
}

// guess is the first guess of an ARMA(p, q), drawn towards zero until admissible.
func (h *starter) guess(p, q int) arma {
	m := arma{p: p, q: q}
	k := p + q
	at := func(i int) int {
		if i < p {
			return i
		}
		return maxOrder + i - p
	}
	var g [maxReg * maxReg]float64
	var x [maxReg]float64
	for i := 0; i < k; i++ {
		x[i] = h.cov[at(i)]
		for j := 0; j <= i; j++ {
			a, b := at(i), at(j)
			g[i*k+j] = h.gram[max(a, b)*maxReg+min(a, b)]
		}
		g[i*k+i] *= 1 + 1e-6
	}
	if !cholesky(g[:k*k], x[:k], k) {
		return m
	}
	for f := 1.; f > .01; f *= .8 {
		// roots move outwards when coefficient i shrinks by f^i
		pow := f
		for i := 0; i < max(p, q); i++ {
			if i < p {
				m.phi[i] = x[i] * pow
			}
			if i < q {
				m.theta[i] = x[p+i] * pow
			}
			pow *= f
		}
		if m.admissible() {
			return m
		}
	}
	return arma{p: p, q: q}
}

// armaFound is the outcome of a search.
type armaFound struct {
	arma
	d    int
	aicc float64
}

// searchARMA picks d by repeated KPSS tests and p, q by the stepwise search of Hyndman
// and Khandakar (2008, section 3.2) on AICc of the conditional likelihood. w has mean
// zero where it is stationary, is overwritten and need not be kept.
func searchARMA(w []float64, s *armaWork) armaFound {
	best := armaFound{aicc: math.Inf(1)}
	for best.d < maxDiff && kpss(w) > kpssLimit {
		w = differences(w)
		best.d++
	}
	d := best.d
	h := newStarter(w, s)
	var tried [maxOrder + 1][maxOrder + 1]bool
	try := func(p, q int) bool {
		if p < 0 || q < 0 || p > maxOrder || q > maxOrder || p+q > maxOrder || tried[p][q] {
			return false
		}
		tried[p][q] = true
		m := h.guess(p, q)
		ss, n := m.improve(w, s, 4)
		if a := aicc(ss, n, float64(p+q+1)); a < best.aicc {
			best = armaFound{m, d, a}
			return true
		}
		return false
	}
	try(2, 2)
	try(0, 0)
	try(1, 0)
	try(0, 1)
	for {
		p, q := best.p, best.q
		if try(p-1, q) || try(p+1, q) || try(p, q-1) || try(p, q+1) || try(p-1, q-1) || try(p+1, q+1) {
			continue
		}
		return best
	}
}

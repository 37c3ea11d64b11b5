package model

import "math"

// maxState is the dimension of the state, max(p, q+1).
const maxState = maxOrder + 1

// steadyAt is how near to their limit, that of the errors alone, the state's variances
// are when the filter is taken to be steady.
const steadyAt = 1e-9

// likelihood is -2 log of the exact Gaussian likelihood of w over its number of known
// values, the variance concentrated out, up to a constant; +Inf outside the admissible
// region.
//
// It is the Kalman filter on Harvey's state space form (Harvey, Forecasting,
// Structural Time Series Models and the Kalman Filter, 1989, 3.3; Gardner, Harvey and
// Phillips, AS 154, 1980): the first state element is w(t), the transition has phi in
// its first column and ones above the diagonal, the errors enter by (1, theta). The
// first state has its stationary variance. Missing values are predicted only. Once
// the variance of the prediction has settled at that of the errors, the filter is the
// ARMA recursion itself and costs p+q products a value, until the next gap.
func (m *arma) likelihood(w []float64) float64 {
	if !m.admissible() {
		return math.Inf(1)
	}
	r := max(m.p, m.q+1)
	var phi, load [maxState]float64
	copy(phi[:], m.phi[:m.p])
	load[0] = 1
	copy(load[1:], m.theta[:m.q])
	var p, next [maxState][maxState]float64
	stationary(&phi, &load, r, &p)
	var a [maxState]float64 // state predicted for t
	var ss, logs float64
	n := 0
	steady := false
	for _, y := range w {
		known := y == y
		if steady && !known {
			// The state is known up to what the errors of this step add: P = load load'.
			steady = false
			for i := 0; i < r; i++ {
				for j := 0; j < r; j++ {
					p[i][j] = load[i] * load[j]
				}
			}
		}
		if steady {
			e := y - a[0]
			ss += e * e
			n++
			// what is known of the state is (y, a + load e); then one transition
			first := y
			for i := 0; i < r-1; i++ {
				a[i] = phi[i]*first + a[i+1] + load[i+1]*e
			}
			a[r-1] = phi[r-1] * first
			continue
		}
		f := p[0][0]
		if known {
			e := y - a[0]
			ss += e * e / f
			logs += math.Log(f)
			n++
			for i := r - 1; i >= 0; i-- {
				a[i] += p[i][0] / f * e
			}
			var k [maxState]float64
			for i := 0; i < r; i++ {
				k[i] = p[i][0]
			}
			for i := 0; i < r; i++ {
				for j := 0; j < r; j++ {
					p[i][j] -= k[i] * k[j] / f
				}
			}
		}
		// a' = T a, P' = T P T' + load load'
		first := a[0]
		for i := 0; i < r; i++ {
			a[i] = phi[i] * first
			if i+1 < r {
				a[i] += a[i+1]
			}
		}
		for i := 0; i < r; i++ {
			for j := 0; j < r; j++ {
				v := phi[i]*phi[j]*p[0][0] + load[i]*load[j]
				if j+1 < r {
					v += phi[i] * p[0][j+1]
				}
				if i+1 < r {
					v += p[i+1][0] * phi[j]
					if j+1 < r {
						v += p[i+1][j+1]
					}
				}
				next[i][j] = v
			}
		}
		p = next
		// all of P must have settled: one element may pass its limit on the way
		steady = known
		for i := 0; i < r && steady; i++ {
			steady = p[i][i]-load[i]*load[i] < steadyAt
		}
	}
	if n == 0 || !(ss > 0) {
		return math.Inf(1)
	}
	return math.Log(ss/float64(n)) + logs/float64(n)
}

// stationary solves P = T P T' + load load' by doubling: P(2k) = P(k) + T^k P(k) T^k'
// (Anderson and Moore, Optimal Filtering, 1979, 6.7).
func stationary(phi, load *[maxState]float64, r int, p *[maxState][maxState]float64) {
	var t, tp, add, square [maxState][maxState]float64
	for i := 0; i < r; i++ {
		t[i][0] = phi[i]
		if i+1 < r {
			t[i][i+1] = 1
		}
		for j := 0; j < r; j++ {
			p[i][j] = load[i] * load[j]
		}
	}
	for round := 0; round < 24; round++ {
		var change, size float64
		for i := 0; i < r; i++ {
			for j := 0; j < r; j++ {
				var v, s float64
				for k := 0; k < r; k++ {
					v += t[i][k] * p[k][j]
					s += t[i][k] * t[k][j]
				}
				tp[i][j], square[i][j] = v, s
			}
		}
		for i := 0; i < r; i++ {
			for j := 0; j < r; j++ {
				var v float64
				for k := 0; k < r; k++ {
					v += tp[i][k] * t[j][k]
				}
				add[i][j] = v
			}
		}
		for i := 0; i < r; i++ {
			for j := 0; j < r; j++ {
				p[i][j] += add[i][j]
			}
			change += math.Abs(add[i][i])
			size += p[i][i]
		}
		if change < 1e-12*size {
			return
		}
		t = square
	}
}

// finish takes the parameters from those of the conditional to those of the exact
// likelihood, by simplex with at most evals evaluations.
func (m *arma) finish(w []float64, evals int) float64 {
	k := m.p + m.q
	var x, step [maxOrder]float64
	copy(x[:], m.phi[:m.p])
	copy(x[m.p:], m.theta[:m.q])
	for i := range step {
		step[i] = .02
	}
	start := *m
	try := arma{p: m.p, q: m.q}
	v := simplex(x[:k], step[:k], evals, 1e-7, func(c []float64) float64 {
		copy(try.phi[:], c[:m.p])
		copy(try.theta[:], c[m.p:k])
		return try.likelihood(w)
	})
	if math.IsInf(v, 1) || v != v {
		*m = start
		return v
	}
	copy(m.phi[:], x[:m.p])
	copy(m.theta[:], x[m.p:k])
	return v
}

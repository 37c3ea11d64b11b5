package model

import "math"

// Bounds of the models searched, as Hyndman and Khandakar (J. Statistical Software
// 27(3), 2008) have them: p, q <= 5, p+q <= 5, d <= 2.
const (
	maxOrder = 5
	maxDiff  = 2
	maxLags  = maxOrder + maxDiff // of the autoregression with its differences multiplied out
)

// arma is w(t) = sum phi(i) w(t-i) + e(t) + sum theta(j) e(t-j).
type arma struct {
	p, q       int
	phi, theta [maxOrder]float64
}

// stable reports whether all roots of 1 - sum c(i) B^i lie outside the unit circle:
// all partial autocorrelations, by the Durbin-Levinson recursion backwards, are below
// one.
func stable(c []float64) bool {
	var a, b [maxOrder]float64
	n := copy(a[:], c)
	for k := n; k > 0; k-- {
		r := a[k-1]
		if !(math.Abs(r) < .9985) {
			return false
		}
		for i := 0; i < k-1; i++ {
			b[i] = (a[i] + r*a[k-2-i]) / (1 - r*r)
		}
		a = b
	}
	return true
}

// admissible: stationary and invertible.
func (m *arma) admissible() bool {
	var neg [maxOrder]float64
	for j := 0; j < m.q; j++ {
		neg[j] = -m.theta[j]
	}
	return stable(m.phi[:m.p]) && stable(neg[:m.q])
}

// css is the conditional sum of squares (Box, Jenkins and Reinsel, Time Series Analysis,
// 7.1.2): residuals with the values before the first taken as zero. A missing value is
// taken as what the model expects, with no residual. w is read, filled and e are
// written; n counts the residuals.
func (m *arma) css(w, filled, e []float64) (ss float64, n int) {
	p, q := m.p, m.q
	for t, y := range w {
		var at float64
		for i := 0; i < min(p, t); i++ {
			at += m.phi[i] * filled[t-1-i]
		}
		for j := 0; j < min(q, t); j++ {
			at += m.theta[j] * e[t-1-j]
		}
		if y != y {
			filled[t], e[t] = at, 0
			continue
		}
		filled[t], e[t] = y, y-at
		ss += (y - at) * (y - at)
		n++
	}
	return ss, n
}

// armaWork is scratch for the fits of one bank.
type armaWork struct {
	w, filled, e, u, v []float64
}

func newArmaWork(n int) *armaWork {
	return &armaWork{make([]float64, n), make([]float64, n), make([]float64, n), make([]float64, n), make([]float64, n)}
}

// improve minimises the conditional sum of squares from the model's parameters by Gauss
// and Newton's method, steps halved until they improve and stay admissible. The
// residuals' derivatives are lags of two filtered series (Box, Jenkins and Reinsel,
// 7.2.3): de/dphi(i) = -u(t-i), theta(B) u = w; de/dtheta(j) = -v(t-j), theta(B) v = e.
func (m *arma) improve(w []float64, s *armaWork, rounds int) (ss float64, n int) {
	filled, e, u, v := s.filled[:len(w)], s.e[:len(w)], s.u[:len(w)], s.v[:len(w)]
	ss, n = m.css(w, filled, e)
	k := m.p + m.q
	if k == 0 || n == 0 {
		return ss, n
	}
	for ; rounds > 0; rounds-- {
		var gram [maxOrder * maxOrder]float64
		var grad [maxOrder]float64
		var x [maxOrder]float64
		for t := range w {
			a, b := filled[t], e[t]
			for j := 0; j < min(m.q, t); j++ {
				a -= m.theta[j] * u[t-1-j]
				b -= m.theta[j] * v[t-1-j]
			}
			u[t], v[t] = a, b
			if t < maxOrder || w[t] != w[t] {
				continue
			}
			for i := 0; i < m.p; i++ {
				x[i] = u[t-1-i]
			}
			for j := 0; j < m.q; j++ {
				x[m.p+j] = v[t-1-j]
			}
			for i := 0; i < k; i++ {
				grad[i] += x[i] * e[t]
				for j := 0; j <= i; j++ {
					gram[i*k+j] += x[i] * x[j]
				}
			}
		}
		for i := 0; i < k; i++ {
			gram[i*k+i] *= 1 + 1e-6
		}
		if !cholesky(gram[:k*k], grad[:k], k) {
			return m.css(w, filled, e)
		}
		old, before := *m, ss
		better := false
		for f := 1.; f > .05; f /= 2 {
			for i := 0; i < m.p; i++ {
				m.phi[i] = old.phi[i] + f*grad[i]
			}
			for j := 0; j < m.q; j++ {
				m.theta[j] = old.theta[j] + f*grad[m.p+j]
			}
			if !m.admissible() {
				continue
			}
			if ss, n = m.css(w, filled, e); ss < before {
				better = true
				break
			}
		}
		if !better {
			*m = old
			return m.css(w, filled, e)
		}
		if before-ss < 1e-5*before {
			break
		}
	}
	return ss, n
}

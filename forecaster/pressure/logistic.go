package pressure

import "math"

// example is a past moment and what came of it.
type example struct {
	x   [numFeatures]float32
	p   float32 // what was said of it before its outcome was known
	hit bool
}

// Kept is how many examples are remembered for a resource, horizon and state.
const Kept = 32768

// logistic is a pooled regression for one resource, horizon and state, with the map
// that calibrates it.
//
// It is fitted to the examples at hand by Newton's method on the penalised likelihood
// sum log(1+exp(-s z)) + ridge/2 |w - w0|^2, w0 being the coefficients it starts
// with: with few examples it stays there, with many it follows the fleet.
type logistic struct {
	w0, w [numFeatures]float64
	ring  []example
	next  int
	keep  int
	ridge float64
	share float64 // examples that count as one
	asked uint32  // examples offered since the last fit
	skip  uint32  // takes every (skip+1)-th
	cal   isotonic
}

// ridge is the pull towards the coefficients of the start, per hour of the horizon:
// moments an hour apart share most of a long window, so as many count as one. It is
// strong because a fleet's exceedances are few and cluster in few VMs: what one week
// teaches about them does not hold in the next.
const ridge = 1000.

func (l *logistic) score(f *[numFeatures]float64) (z float64) {
	for i, v := range f {
		z += l.w[i] * v
	}
	return z
}

// raw is the chance before calibration.
func (l *logistic) raw(f *[numFeatures]float64) float64 { return sigmoid(l.score(f)) }

// take remembers an example. In a large fleet it takes every so many, so that what is
// remembered spans more than a week.
func (l *logistic) take(f *[numFeatures]float64, hit bool) {
	l.asked++
	if l.asked%(l.skip+1) != 0 {
		return
	}
	e := example{p: float32(l.raw(f)), hit: hit}
	for i, v := range f {
		e.x[i] = float32(v)
	}
	if len(l.ring) < l.keep {
		l.ring = append(l.ring, e)
		return
	}
	l.ring[l.next] = e
	l.next = (l.next + 1) % l.keep
}

// fit learns the coefficients and the calibration; days is how long ago it last did.
func (l *logistic) fit(days float64) {
	if days > 0 && len(l.ring) == l.keep {
		l.skip = uint32(float64(l.asked) / days * 10 / float64(l.keep))
	}
	l.asked = 0
	hits := 0
	for i := range l.ring {
		if l.ring[i].hit {
			hits++
		}
	}
	if hits < 5 || hits == len(l.ring) {
		return
	}
	l.cal.fit(l.ring, l.share)
	for range 6 {
		if !l.newton() {
			break
		}
	}
}

// newton makes one step; false when it no longer moves.
func (l *logistic) newton() bool {
	const n = numFeatures
	var h [n][n]float64
	var g [n]float64
	for i := range g {
		g[i] = l.ridge * (l.w0[i] - l.w[i])
		h[i][i] = l.ridge
	}
	for k := range l.ring {
		e := &l.ring[k]
		var z float64
		for i, v := range e.x {
			z += l.w[i] * float64(v)
		}
		p := sigmoid(z)
		r := -p
		if e.hit {
			r = 1 - p
		}
		v := p * (1 - p)
		for i := range n {
			x := float64(e.x[i])
			if x == 0 {
				continue
			}
			g[i] += r * x
			vx := v * x
			for j := 0; j <= i; j++ {
				h[i][j] += vx * float64(e.x[j])
			}
		}
	}
	step, ok := solve(&h, &g)
	if !ok {
		return false
	}
	var most float64
	for _, s := range step {
		most = max(most, math.Abs(s))
	}
	damp := min(1, 2/max(most, 1e-12)) // far from the optimum the parabola overshoots
	for i := range l.w {
		l.w[i] += damp * step[i]
	}
	return most > 1e-3
}

// solve gives the solution of the symmetric positive system whose lower triangle is
// h, by Cholesky's decomposition.
func solve(h *[numFeatures][numFeatures]float64, g *[numFeatures]float64) (x [numFeatures]float64, ok bool) {
	const n = numFeatures
	for j := range n {
		for k := range j {
			h[j][j] -= h[j][k] * h[j][k]
		}
		if !(h[j][j] > 0) {
			return x, false
		}
		h[j][j] = math.Sqrt(h[j][j])
		for i := j + 1; i < n; i++ {
			for k := range j {
				h[i][j] -= h[i][k] * h[j][k]
			}
			h[i][j] /= h[j][j]
		}
	}
	for i := range n {
		x[i] = g[i]
		for k := range i {
			x[i] -= h[i][k] * x[k]
		}
		x[i] /= h[i][i]
	}
	for i := n - 1; i >= 0; i-- {
		for k := i + 1; k < n; k++ {
			x[i] -= h[k][i] * x[k]
		}
		x[i] /= h[i][i]
	}
	return x, true
}

package pressure

import "math"

// example is a past moment and what came of it.
type example struct {
	x      codes
	p      float32 // what was said of it before its outcome was known
	weight float32 // how many it stands for
	hit    bool
}

// Kept is how many examples are remembered for a resource, horizon and state.
const Kept = 16384

// logistic is a pooled regression for one resource, horizon and state, with the trees
// that go on from it and the map that calibrates both.
//
// It is fitted to the examples at hand by Newton's method on the penalised likelihood
// sum log(1+exp(-s z)) + ridge/2 |w - w0|^2, w0 being the coefficients it starts
// with: with few examples it stays there, with many it follows the fleet.
type logistic struct {
	w0, w coefficients
	boost boost
	bends bool    // grows trees
	apart bool    // its trees start from the base rate and have half the say; else they go on from the line
	base  float64 // log odds of that
	ring  []example
	next  int
	keep  int
	ridge float64
	share float64 // examples that count as one
	asked uint32  // examples that would have been remembered since the last fit, were there room
	thin  float64 // how many of those one remembered stands for, at least 1
	due   float64 // what is due of the next that came to nothing, and of the next that came to something
	dueOf float64
	cal   isotonic
	from  []float64 // scratch
}

// coefficients are a feature's each, in its units, and the bias.
type coefficients [numFeatures + 1]float64

// ridge is the pull towards the coefficients of the start, by the root of the hours of
// the horizon: moments an hour apart share most of a long window, so that of many the
// fewer count, and as features lie an hour apart too, not all are one. It is strong
// because a fleet's exceedances are few and cluster in few VMs: what one week
// teaches about them does not hold in the next.
const ridge = 300.

func (l *logistic) line(c *codes) float64 {
	z := l.w[numFeatures]
	for i := range c {
		z += l.w[i] * c.value(i)
	}
	return z
}

// raw is the chance before calibration.
func (l *logistic) raw(c *codes) float64 {
	z := l.line(c)
	switch {
	case len(l.boost.trees) == 0:
	case l.apart:
		z = (z + l.base + l.boost.score(c)) / 2
	default:
		z += l.boost.score(c)
	}
	return sigmoid(z)
}

// take remembers an example: those that came to something, and of the others the fewer
// the surer it was of them, each for as many as it stands for. In a large fleet it
// takes a part of these, so that what is remembered spans weeks.
func (l *logistic) take(c *codes, hit bool) {
	p := l.raw(c)
	keep, due := 1., &l.dueOf
	if !hit {
		keep, due = min(1, rarely+often*p), &l.due
	}
	l.thin = max(1, l.thin)
	keep /= l.thin
	if *due += keep; *due < 1 {
		return
	}
	*due--
	l.asked++
	e := example{x: *c, p: float32(p), weight: float32(1 / keep), hit: hit}
	if len(l.ring) < l.keep {
		l.ring = append(l.ring, e)
		return
	}
	l.ring[l.next] = e
	l.next = (l.next + 1) % l.keep
}

// Share of the examples that came to nothing that are remembered: rarely, and often
// times their chance.
const (
	rarely = .05
	often  = 8
)

// span is how many days the examples remembered should reach back.
const span = 20

// fit learns the coefficients and the calibration; days is how long ago it last did.
func (l *logistic) fit(days float64) {
	if days > 0 && len(l.ring) == l.keep {
		l.thin = max(1, l.thin*float64(l.asked)/days*span/float64(l.keep))
	}
	l.asked, l.thin = 0, max(1, l.thin)
	hits := 0
	for i := range l.ring {
		if l.ring[i].hit {
			hits++
		}
	}
	if hits < 5 || hits == len(l.ring) {
		return
	}
	l.cal.fit(l.ring, l.share*l.thin)
	for range 4 {
		if !l.newton() {
			break
		}
	}
	if l.bends {
		l.grow()
	}
}

// grow grows the trees. Within the hour they sharpen the line; over longer horizons,
// where examples overlap and weeks differ, two opinions formed apart err less together.
func (l *logistic) grow() {
	var n, k float64
	for i := range l.ring {
		w := float64(l.ring[i].weight)
		n += w
		if l.ring[i].hit {
			k += w
		}
	}
	l.base = logit(k / n)
	l.from = l.from[:0]
	for i := range l.ring {
		z := l.base
		if !l.apart {
			z = l.line(&l.ring[i].x)
		}
		l.from = append(l.from, z)
	}
	l.boost.fit(l.ring, l.from, math.Pow(l.share, .25)*l.thin)
}

// newton makes one step; false when it no longer moves.
func (l *logistic) newton() bool {
	const n = numFeatures + 1
	var h [n][n]float64
	var g coefficients
	pull := l.ridge * max(1, l.thin)
	for i := range numFeatures {
		g[i] = pull * (l.w0[i] - l.w[i])
		h[i][i] = pull
	}
	h[n-1][n-1] = 1e-3 // the bias is free
	var x coefficients
	x[n-1] = 1
	for k := range l.ring {
		e := &l.ring[k]
		z := l.w[n-1]
		for i := range e.x {
			x[i] = e.x.value(i)
			z += l.w[i] * x[i]
		}
		p := sigmoid(z)
		r := -p
		if e.hit {
			r = 1 - p
		}
		v := p * (1 - p) * float64(e.weight)
		r *= float64(e.weight)
		for i := range n {
			g[i] += r * x[i]
			vx := v * x[i]
			row := h[i][:i+1]
			for j := range row {
				row[j] += vx * x[j]
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
func solve(h *[numFeatures + 1][numFeatures + 1]float64, g *coefficients) (x coefficients, ok bool) {
	const n = numFeatures + 1
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

package model

import "math"

// etsRun is exponential smoothing over one window of scores.
type etsRun struct {
	z            []float64
	level, trend []float64 // after each row, when kept
	seasons      []float64 // day starting states, then the state after each row
}

// etsStart are the parameters that a search begins with.
var etsStart = [etsParams]float64{alphaAt: .3, gammaAt: .05, betaAt: .01, phiAt: .95}

// known counts the values that are not missing.
func (r *etsRun) known() (n int) {
	for _, v := range r.z {
		if v == v {
			n++
		}
	}
	return n
}

// masked is p without what the form does not have.
func (r *etsRun) masked(form int, p *[etsParams]float64) [etsParams]float64 {
	q := *p
	if form&etsSeasonal == 0 {
		q[gammaAt] = 0
	}
	if form&etsDamped == 0 {
		q[betaAt], q[phiAt] = 0, 0
	}
	return q
}

// within reports whether the parameters are within the bounds of the form.
func (r *etsRun) within(form int, p *[etsParams]float64) bool {
	a, b, g, phi := p[alphaAt], p[betaAt], p[gammaAt], p[phiAt]
	return a > 0 && a < 1 &&
		(form&etsSeasonal == 0 || g >= 0 && g < 1-a) &&
		(form&etsDamped == 0 || b >= 0 && b < a && phi >= .8 && phi <= .98)
}

// sum is the sum of squared innovations; with keep the states after each row are
// written down. p is masked. The first level is the mean of the first hour that has values.
func (r *etsRun) sum(form int, p *[etsParams]float64, keep bool) (ss float64) {
	alpha, beta, gamma, phi := p[alphaAt], p[betaAt], p[gammaAt], p[phiAt]
	seasonal := form&etsSeasonal != 0
	level, b := r.start(seasonal), 0.
	next := r.seasons[day:]
	for t, z := range r.z {
		var s float64
		if seasonal {
			s = r.seasons[t]
		}
		b *= phi
		level += b
		if z == z {
			e := z - level - s
			ss += e * e
			level += alpha * e
			b += beta * e
			s += gamma * e
		}
		next[t] = s
		if keep {
			r.level[t], r.trend[t] = level, b
		}
	}
	return ss
}

func (r *etsRun) start(seasonal bool) float64 {
	var sum float64
	n := 0
	for t := 0; t < len(r.z) && n < 12; t++ {
		if v := r.z[t]; v == v {
			sum += v
			if seasonal && t < day {
				sum -= r.seasons[t]
			}
			n++
		}
	}
	if n == 0 {
		return 0
	}
	return sum / float64(n)
}

// search minimises the sum of squares over the form's parameters from p, within
// bounds, with at most evals evaluations a parameter; p becomes the best.
func (r *etsRun) search(form int, p *[etsParams]float64, evals int) float64 {
	var x, step [etsParams]float64
	var at [etsParams]int
	n := 0
	add := func(k int, s float64) {
		x[n], step[n], at[n] = p[k], s, k
		n++
	}
	add(alphaAt, .2)
	if form&etsSeasonal != 0 {
		add(gammaAt, .04)
	}
	if form&etsDamped != 0 {
		add(betaAt, .02)
		add(phiAt, -.05)
	}
	q := r.masked(form, p)
	best := simplex(x[:n], step[:n], evals, 1e-4*float64(len(r.z))*.1, func(c []float64) float64 {
		for k, v := range c {
			q[at[k]] = v
		}
		if !r.within(form, &q) {
			return math.Inf(1)
		}
		return r.sum(form, &q, false)
	})
	for k := 0; k < n; k++ {
		p[at[k]] = x[k]
	}
	return best
}

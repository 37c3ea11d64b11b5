package model

import "math"

// cholesky finds x with a x = b for a symmetric positive definite a (n x n, row major,
// its lower triangle is read and overwritten) by Cholesky's decomposition; b becomes
// x. False when a is not positive definite.
func cholesky(a, b []float64, n int) bool {
	for j := 0; j < n; j++ {
		d := a[j*n+j]
		scale := d
		for k := 0; k < j; k++ {
			d -= a[j*n+k] * a[j*n+k]
		}
		if !(d > 1e-11*scale) {
			return false
		}
		d = math.Sqrt(d)
		a[j*n+j] = d
		for i := j + 1; i < n; i++ {
			s := a[i*n+j]
			for k := 0; k < j; k++ {
				s -= a[i*n+k] * a[j*n+k]
			}
			a[i*n+j] = s / d
		}
	}
	for i := 0; i < n; i++ {
		for k := 0; k < i; k++ {
			b[i] -= a[i*n+k] * b[k]
		}
		b[i] /= a[i*n+i]
	}
	for i := n - 1; i >= 0; i-- {
		for k := i + 1; k < n; k++ {
			b[i] -= a[k*n+i] * b[k]
		}
		b[i] /= a[i*n+i]
	}
	return true
}

// maxSimplex is the number of parameters that simplex takes.
const maxSimplex = 10

// simplex minimises f from x (changed to the best point found) with first steps of
// size step and at most evals evaluations, by the downhill simplex of Nelder and Mead
// (Computer Journal 7, 1965; reflection 1, expansion 2, contraction and shrinkage
// 1/2). Bounds are f's business: it says +Inf outside. Deterministic.
func simplex(x, step []float64, evals int, tolerance float64, f func([]float64) float64) float64 {
	n := len(x)
	if n == 0 {
		return f(x)
	}
	var p [maxSimplex + 1][maxSimplex]float64
	var v [maxSimplex + 1]float64
	copy(p[0][:n], x)
	v[0] = f(p[0][:n])
	used := 1
	for i := 1; i <= n; i++ {
		p[i] = p[0]
		p[i][i-1] += step[i-1]
		if v[i] = f(p[i][:n]); math.IsInf(v[i], 1) {
			p[i][i-1] -= 2 * step[i-1]
			v[i] = f(p[i][:n])
		}
		used++
	}
	var centre, try, far [maxSimplex]float64
	for used < evals {
		lo, hi, next := 0, 0, 0
		for i := 1; i <= n; i++ {
			if v[i] < v[lo] {
				lo = i
			}
			if v[i] > v[hi] {
				hi = i
			}
		}
		next = lo
		for i := 0; i <= n; i++ {
			if i != hi && v[i] > v[next] {
				next = i
			}
		}
		if v[hi]-v[lo] < tolerance {
			break
		}
		for k := 0; k < n; k++ {
			centre[k] = 0
			for i := 0; i <= n; i++ {
				if i != hi {
					centre[k] += p[i][k] / float64(n)
				}
			}
			try[k] = 2*centre[k] - p[hi][k]
		}
		y := f(try[:n])
		used++
		switch {
		case y < v[lo]:
			for k := 0; k < n; k++ {
				far[k] = 3*centre[k] - 2*p[hi][k]
			}
			z := f(far[:n])
			used++
			if z < y {
				p[hi], v[hi] = far, z
			} else {
				p[hi], v[hi] = try, y
			}
			continue
		case y < v[next]:
			p[hi], v[hi] = try, y
			continue
		case y < v[hi]:
			p[hi], v[hi] = try, y
		}
		for k := 0; k < n; k++ {
			try[k] = (centre[k] + p[hi][k]) / 2
		}
		y = f(try[:n])
		used++
		if y < v[hi] {
			p[hi], v[hi] = try, y
			continue
		}
		for i := 0; i <= n; i++ {
			if i == lo {
				continue
			}
			for k := 0; k < n; k++ {
				p[i][k] = (p[i][k] + p[lo][k]) / 2
			}
			v[i] = f(p[i][:n])
			used++
		}
	}
	lo := 0
	for i := 1; i <= n; i++ {
		if v[i] < v[lo] {
			lo = i
		}
	}
	copy(x, p[lo][:n])
	return v[lo]
}

// aicc is Akaike's criterion with Hurvich and Tsai's correction for n residuals of
// sum of squares ss and k parameters (the variance among them).
func aicc(ss float64, n int, k float64) float64 {
	if float64(n) <= k+1 {
		return math.Inf(1)
	}
	return float64(n)*math.Log(math.Max(ss, 1e-300)/float64(n)) + 2*k + 2*k*(k+1)/(float64(n)-k-1)
}

package model

import "math"

// normal are normal equations A x = b of a ridge regression, solved by Cholesky's
// factorisation (Golub and Van Loan, Matrix Computations, 4.2). gonum's works on
// matrices that it allocates; this one stays in place.
type normal struct {
	n int
	a [maxCols * maxCols]float64 // row-major, lower triangle; L after factor
	b [maxCols]float64
}

func (q *normal) reset(n int) {
	q.n = n
	clear(q.a[:n*maxCols])
	clear(q.b[:n])
}

// factor overwrites the lower triangle with L, A = L L'; false when A is not positive
// definite.
func (q *normal) factor() bool {
	for j := 0; j < q.n; j++ {
		rj := q.a[j*maxCols : j*maxCols+j+1]
		d := rj[j]
		for _, v := range rj[:j] {
			d -= v * v
		}
		if !(d > 0) {
			return false
		}
		d = math.Sqrt(d)
		rj[j] = d
		for i := j + 1; i < q.n; i++ {
			ri := q.a[i*maxCols : i*maxCols+j+1]
			s := ri[j]
			for k, v := range rj[:j] {
				s -= ri[k] * v
			}
			ri[j] = s / d
		}
	}
	return true
}

// forward solves L z = b in place.
func (q *normal) forward(b []float64) {
	for i := 0; i < q.n; i++ {
		r := q.a[i*maxCols : i*maxCols+i+1]
		s := b[i]
		for k, v := range r[:i] {
			s -= v * b[k]
		}
		b[i] = s / r[i]
	}
}

// back solves L' x = z in place.
func (q *normal) back(b []float64) {
	for i := q.n - 1; i >= 0; i-- {
		r := q.a[i*maxCols : i*maxCols+i+1]
		b[i] /= r[i]
		for k, v := range r[:i] {
			b[k] -= v * b[i]
		}
	}
}

// covariance of unknowns i and j, (A^-1)_ij, given scratch for two columns.
func (q *normal) covariance(i, j int, u, v []float64) float64 {
	u, v = u[:q.n], v[:q.n]
	clear(u)
	clear(v)
	u[i], v[j] = 1, 1
	q.forward(u)
	q.forward(v)
	var s float64
	for k := range u {
		s += u[k] * v[k]
	}
	return s
}

package model

import (
	"math"

	"github.com/foreshift/foreshift/schemas"
)

// maxHarmonics is the largest number of harmonics of the day that a profile may have,
// dailySize the number of its coefficients: level, then sine and cosine of each.
const (
	maxHarmonics = 8
	dailySize    = 1 + 2*maxHarmonics
)

// dailyWaves holds sine and cosine of 2 pi k t / day at [t*maxHarmonics*2].
var dailyWaves = func() []float64 {
	w := make([]float64, day*2*maxHarmonics)
	for t := 0; t < day; t++ {
		for k := 1; k <= maxHarmonics; k++ {
			s, c := math.Sincos(2 * math.Pi * float64(k*t%day) / day)
			w[t*2*maxHarmonics+2*k-2], w[t*2*maxHarmonics+2*k-1] = s, c
		}
	}
	return w
}()

// dailyCurve is the profile with coefficients c at step s.
func dailyCurve(c []float32, s schemas.Step) float64 {
	w := dailyWaves[int(s%day)*2*maxHarmonics:]
	y := float64(c[0])
	for k := 1; k < dailySize; k += 2 {
		if c[k] == 0 && c[k+1] == 0 {
			break
		}
		y += float64(c[k])*w[k-1] + float64(c[k+1])*w[k]
	}
	return y
}

// less writes z without the profile of coefficients c into dst; the first value is that
// of step from.
func less(z []float64, c []float32, from schemas.Step, dst []float64) {
	var curve [day]float64
	for t := range min(len(z), day) {
		curve[t] = dailyCurve(c, from+schemas.Step(t))
	}
	at := 0
	for t, y := range z {
		dst[t] = y - curve[at]
		if at++; at == day {
			at = 0
		}
	}
}

// fitFourier fits level and harmonics of the day to z, whose last value is that of
// step last, by least squares on the series filtered with 1 - rho B (Cochrane and
// Orcutt, J. American Statistical Association 44, 1949): what is left has memory, and
// a criterion that took it for noise would see waves in every drift. The number of
// harmonics, between the two given, is AICc's choice. Fewer than two days give the
// level alone.
func fitFourier(z []float64, last schemas.Step, atLeast, atMost int, dst []float32) (harmonics int) {
	clear(dst)
	rho, mean := lagOne(z)
	dst[0] = float32(mean)
	if len(z) < 2*day {
		return 0
	}
	rho = math.Min(math.Max(rho, 0), .98)
	size := 1 + 2*atMost
	var gram [dailySize * dailySize]float64
	var cov, x [dailySize]float64
	// The regressors are those of the time of day, so rows are summed by it first.
	var sum, rows [day]float64
	var total float64
	n := 0
	at := int((last-schemas.Step(len(z)-1))%day) + 1
	for t := 1; t < len(z); t++ {
		if at == day {
			at = 0
		}
		if y := z[t] - rho*z[t-1]; y == y {
			n++
			total += y * y
			sum[at] += y
			rows[at]++
		}
		at++
	}
	for t := range sum {
		if rows[t] == 0 {
			continue
		}
		a, b := dailyWaves[t*2*maxHarmonics:], dailyWaves[(t+day-1)%day*2*maxHarmonics:]
		x[0] = 1 - rho
		for k := 1; k < size; k++ {
			x[k] = a[k-1] - rho*b[k-1]
		}
		for i, v := range x[:size] {
			cov[i] += v * sum[t]
			v *= rows[t]
			g := gram[i*dailySize : i*dailySize+i+1]
			for j := range g {
				g[j] += v * x[j]
			}
		}
	}
	best := math.Inf(1)
	for k := atLeast; k <= atMost; k++ {
		m := 1 + 2*k
		var g [dailySize * dailySize]float64
		var c [dailySize]float64
		for i := 0; i < m; i++ {
			for j := 0; j <= i; j++ {
				g[i*m+j] = gram[i*dailySize+j]
			}
			c[i] = cov[i]
		}
		if !cholesky(g[:m*m], c[:m], m) {
			break
		}
		ss := total
		for i := 0; i < m; i++ {
			ss -= c[i] * cov[i]
		}
		if a := aicc(ss, n, float64(m+2)); a < best {
			best, harmonics = a, k
			clear(dst)
			for i := 0; i < m; i++ {
				dst[i] = float32(c[i])
			}
		}
	}
	return harmonics
}

// lagOne is the first autocorrelation of z and its mean, over what is known.
func lagOne(z []float64) (rho, mean float64) {
	n := 0
	for _, y := range z {
		if y == y {
			mean += y
			n++
		}
	}
	if n == 0 {
		return 0, 0
	}
	mean /= float64(n)
	var c0, c1 float64
	for t := 1; t < len(z); t++ {
		if p := (z[t] - mean) * (z[t-1] - mean); p == p {
			c1 += p
			c0 += (z[t] - mean) * (z[t] - mean)
		}
	}
	if c0 > 0 {
		rho = c1 / c0
	}
	return rho, mean
}

// fitBins adds what Fourier's few waves cannot draw, such as a job that runs at the
// same five minutes each day: the mean remainder r at each step of the day, newer
// days weighing more, shrunk towards zero by the empirical Bayes weight tau/(tau +
// s/n) (Efron and Morris, J. American Statistical Association 70, 1975), s the
// variance within a step of the day and tau that between them. dst holds the profile
// by step of the day, last is the step of r's last value. It gives the degrees of
// freedom spent, and the factor by which errors within the sample are smaller than
// those to come.
func fitBins(r []float64, last schemas.Step, dst []float64) (freedom, widen float64) {
	clear(dst)
	if len(r) < 2*day {
		return 0, 1
	}
	var n, n2 [day]float64
	at := int((last - schemas.Step(len(r)-1)) % day)
	b := at
	for t, y := range r {
		if y == y {
			w := recency[len(r)-1-t]
			n[b] += w
			n2[b] += w * w
			dst[b] += w * y
		}
		if b++; b == day {
			b = 0
		}
	}
	var within, spent, between, days float64
	seen := 0
	for b := range dst {
		if n[b] > 0 {
			dst[b] /= n[b]
			between += dst[b] * dst[b]
			days += n[b] * n[b] / n2[b]
			spent += n[b] - n2[b]/n[b]
			seen++
		}
	}
	b = at
	for t, y := range r {
		if y == y {
			within += recency[len(r)-1-t] * (y - dst[b]) * (y - dst[b])
		}
		if b++; b == day {
			b = 0
		}
	}
	if seen == 0 || !(spent > 1e-9) {
		clear(dst)
		return 0, 1
	}
	noise := within / spent
	days /= float64(seen)
	between /= float64(seen)
	tau := math.Max(0, between-noise/days)
	if tau == 0 {
		clear(dst)
		return 0, 1
	}
	w := tau / (tau + noise/days)
	for b := range dst {
		dst[b] *= w
	}
	widen = math.Sqrt((1 + w*w/days) / math.Max(.25, 1-(2*w-w*w)/days))
	return w * float64(seen), widen
}

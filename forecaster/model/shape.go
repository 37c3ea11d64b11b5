package model

import (
	"math"

	"github.com/foreshift/foreshift/schemas"
)

// Shapes of the way from demand to scores.
const (
	shapeScores = iota // through the empirical distribution
	shapeLinear        // deviations from the mean, in standard deviations
)

// dailyShare is the share of the variance that smooth daily waves must explain for
// the linear way. Scores suit skewed and intermittent demand, but where nearly all that
// varies is a wave, the distribution is the wave's and not that of the errors round
// it, which it would bend.
const dailyShare = .6

// chooseShape decides by which transform series i goes, from x whose last value is
// that of step last.
func (c *scored) chooseShape(i int, x []float32, last schemas.Step) {
	c.shape[i] = shapeScores
	if len(x) >= 2*day && waveShare(x, last) > dailyShare {
		c.shape[i] = shapeLinear
	}
}

// waveShare is the part of the variance of x that its first three harmonics of the day
// explain, each taken by projection, which is exact for whole days without gaps.
func waveShare(x []float32, last schemas.Step) float64 {
	x = x[len(x)%day:]
	var mean, square float64
	n := 0
	for _, v := range x {
		if v == v {
			mean += float64(v)
			n++
		}
	}
	if n == 0 {
		return 0
	}
	mean /= float64(n)
	var p [6]float64
	at := int((last - schemas.Step(len(x)-1)) % day)
	for _, v := range x {
		if d := float64(v) - mean; d == d {
			square += d * d
			w := dailyWaves[at*2*maxHarmonics:]
			for k := range p {
				p[k] += d * w[k]
			}
		}
		if at++; at == day {
			at = 0
		}
	}
	if !(square > 0) {
		return 0
	}
	var share float64
	for _, v := range p {
		share += 2 * v * v / float64(n) / square
	}
	return share
}

// fitLinear writes the transform that leaves the shape of x alone: mean and standard
// deviation, newer values weighing more.
func fitLinear(x, knots []float32) {
	var w, sum, square float64
	for t, v := range x {
		if v == v {
			r := recency[len(x)-1-t]
			w += r
			sum += r * float64(v)
		}
	}
	mean := sum / w
	for t, v := range x {
		if v == v {
			square += recency[len(x)-1-t] * (float64(v) - mean) * (float64(v) - mean)
		}
	}
	sd := math.Sqrt(square / w)
	for k := range knots {
		knots[k] = float32(mean + scoreAt[k].z*sd)
	}
}

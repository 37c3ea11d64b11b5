package model

import (
	"math"
	"slices"

	"github.com/foreshift/foreshift/forecaster/window"
	"github.com/foreshift/foreshift/schemas"
)

// Demand is skew, bounded below and often exactly zero, while ARIMA and ETS are at
// home with symmetric errors. So both work on normal scores: y becomes
// z = Phi^-1(F(y)), F being the window's empirical distribution, and quantiles go
// back through it, which is exact for quantiles. In other words the marginal is
// empirical and the dependence is the model's (Cario and Nelson, Operations Research
// Letters 19, 1996, "autoregressive to anything"). Where Box and Cox's family has one
// parameter, this has the whole distribution.

// A series' transform is its quantiles at scoreKnots normal scores, evenly spaced.
const (
	scoreKnots = 41
	scoreMax   = 3.2
	scoreStep  = 2 * scoreMax / (scoreKnots - 1)
	scoreFar   = 1e4 // a value further out is taken as this far
)

// scoreAt holds the normal distribution and density at the knots.
var scoreAt = func() (a [scoreKnots]struct{ z, cdf, pdf float64 }) {
	for k := range a {
		z := -scoreMax + float64(k)*scoreStep
		a[k].z = z
		a[k].cdf = math.Erfc(-z/math.Sqrt2) / 2
		a[k].pdf = math.Exp(-z*z/2) / math.Sqrt(2*math.Pi)
	}
	return a
}()

// halfLife of a value's weight in the distribution and in the daily profile, in days.
const halfLife = 3

// recency is the weight of a value by its age in steps.
var recency = func() (w [window.Rows]float64) {
	for age := range w {
		w[age] = math.Exp2(-float64(age) / (halfLife * day))
	}
	return w
}()

// fitScores writes the transform of x, oldest first, NaN left out, into knots, with the newer
// values weighing more ([recency]). keys is scratch of len(x). It gives the number
// of values and whether all are the same; without a value knots is NaN.
func fitScores(x []float32, keys []uint64, by *sorter, knots []float32) (n int, constant bool) {
	keys = keys[:0]
	var total float64
	for age := range x { // newest first: of equal values the newer comes first
		if v := x[len(x)-1-age]; v == v {
			keys = append(keys, uint64(orderedBits(v))<<32|uint64(age))
			total += recency[age]
		}
	}
	if len(keys) == 0 {
		fill(knots)
		return 0, false
	}
	by.pairs(keys)
	value := func(k uint64) float32 { return fromOrdered(uint32(k >> 32)) }
	// each value stands at the middle of its share of the distribution
	below, at, y := 0., 0., value(keys[0])
	k := 0
	for _, key := range keys {
		w := recency[uint32(key)] / total
		next, v := below+w/2, value(key)
		for k < scoreKnots && scoreAt[k].cdf <= next {
			f := float32(1)
			if next > at {
				f = float32((scoreAt[k].cdf - at) / (next - at))
			}
			knots[k] = y + f*(v-y)
			k++
		}
		below, at, y = below+w, next, v
	}
	for ; k < scoreKnots; k++ {
		knots[k] = y
	}
	for k := 1; k < scoreKnots; k++ { // against rounding
		knots[k] = max(knots[k], knots[k-1])
	}
	return len(keys), value(keys[0]) == y
}

// scoreSlope is how far y goes for one unit of score beyond the outer knots: the mean
// slope between them, so that a level never seen is extrapolated on the series' own
// scale.
func scoreSlope(knots []float32) float64 {
	lo, hi := float64(knots[0]), float64(knots[scoreKnots-1])
	return math.Max((hi-lo)/(2*scoreMax), .02*math.Max(math.Abs(lo), math.Abs(hi))+1e-9)
}

// toScore is the normal score of y; of a value that takes up several knots, the mean
// score of its share of the distribution.
func toScore(knots []float32, y float32) float64 {
	lo, _ := slices.BinarySearch(knots, y)
	if lo == scoreKnots {
		return math.Min(scoreMax+float64(y-knots[scoreKnots-1])/scoreSlope(knots), scoreFar)
	}
	if knots[lo] > y {
		if lo == 0 {
			return math.Max(-scoreMax-float64(knots[0]-y)/scoreSlope(knots), -scoreFar)
		}
		f := float64(y-knots[lo-1]) / float64(knots[lo]-knots[lo-1])
		return -scoreMax + (float64(lo-1)+f)*scoreStep
	}
	hi := lo
	for hi+1 < scoreKnots && knots[hi+1] == y {
		hi++
	}
	if lo == hi {
		return scoreAt[lo].z
	}
	// the mean of a normal between the two scores, the outer knots standing for all beyond
	var a, b float64
	ca, cb := 0., 1.
	if lo > 0 {
		ca, a = scoreAt[lo].cdf, scoreAt[lo].pdf
	}
	if hi < scoreKnots-1 {
		cb, b = scoreAt[hi].cdf, scoreAt[hi].pdf
	}
	return math.Max(-scoreMax, math.Min(scoreMax, (a-b)/(cb-ca)))
}

// fromScore is the value whose normal score is z.
func fromScore(knots []float32, z float64) float32 {
	switch {
	case z != z:
		return schemas.NaN()
	case z >= scoreMax:
		far := float64(knots[scoreKnots-1]) + math.Min(z-scoreMax, scoreFar)*scoreSlope(knots)
		return float32(math.Min(far, math.MaxFloat32))
	case z <= -scoreMax:
		far := float64(knots[0]) - math.Min(-scoreMax-z, scoreFar)*scoreSlope(knots)
		return float32(math.Max(far, -math.MaxFloat32))
	}
	at := (z + scoreMax) / scoreStep
	i := min(int(at), scoreKnots-2)
	return knots[i] + float32(at-float64(i))*(knots[i+1]-knots[i])
}

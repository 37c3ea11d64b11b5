package model

import "github.com/foreshift/foreshift/schemas"

// quantiles writes the quantiles of sorted x at schemas.Levels into dst (Hyndman
// and Fan's type 7: linear between order statistics); NaN when x is empty.
func quantiles(x []float32, dst []float32) {
	if len(x) == 0 {
		fill(dst)
		return
	}
	n := float32(len(x) - 1)
	for l, p := range schemas.Levels {
		at := p * n
		i := int(at)
		if i+1 >= len(x) {
			dst[l] = x[len(x)-1]
			continue
		}
		dst[l] = x[i] + (at-float32(i))*(x[i+1]-x[i])
	}
}

// Tidy makes quantiles honest: not negative, not decreasing with the level.
func Tidy(q []float32) {
	floor := float32(0)
	for l, v := range q {
		if v != v {
			continue
		}
		floor = max(floor, v)
		q[l] = floor
	}
}

// spread copies one slot's quantiles to slots lo..hi-1.
func spread(q []float32, dst *schemas.Dist, lo, hi int) {
	for s := lo; s < hi; s++ {
		copy(dst.At(s), q)
	}
}

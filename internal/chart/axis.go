package chart

import (
	"cmp"
	"math"
	"slices"
	"strconv"
)

// box is what the data span.
type box struct{ x0, x1, y0, y1 float64 }

func extent(series []Series, marks []Mark) box {
	inf := math.Inf(1)
	b := box{inf, -inf, inf, -inf}
	for _, s := range series {
		for _, x := range s.X {
			if finite(x) {
				b.x0, b.x1 = min(b.x0, x), max(b.x1, x)
			}
		}
		for _, y := range s.Y {
			if finite(y) {
				b.y0, b.y1 = min(b.y0, y), max(b.y1, y)
			}
		}
	}
	for _, m := range marks {
		if !m.Upright && finite(m.At) {
			b.y0, b.y1 = min(b.y0, m.At), max(b.y1, m.At)
		}
	}
	return b
}

func finite(x float64) bool { return !math.IsNaN(x) && !math.IsInf(x, 0) }

// scale places the values of an axis between 0 and 1.
type scale struct {
	Axis
	lo, hi float64 // transformed
}

// fit makes the scale of an axis for data between lo and hi; roomy leaves some room
// beside them.
func (a Axis) fit(lo, hi float64, roomy bool) scale {
	if a.Min != a.Max {
		lo, hi = a.Min, a.Max
	}
	s := scale{Axis: a}
	s.lo, s.hi = s.transform(lo), s.transform(hi)
	if !finite(s.lo) || !finite(s.hi) { // no data, or none that this scale can show
		s.lo, s.hi = 0, 1
		if a.Scale == Log && finite(s.transform(hi)) {
			s.lo, s.hi = s.transform(hi)-3, s.transform(hi)
		}
	}
	if s.hi <= s.lo {
		room := max(1e-9, math.Abs(s.hi)/2)
		s.lo, s.hi = s.lo-room, s.hi+room
	}
	switch {
	case a.Min != a.Max || !roomy:
	case a.Scale == Linear: // round outwards
		step := round((s.hi - s.lo) / 4)
		s.lo, s.hi = math.Floor(s.lo/step)*step, math.Ceil(s.hi/step)*step
	case a.Scale == Log:
		room := .05 * (s.hi - s.lo)
		s.lo, s.hi = s.lo-room, s.hi+room
	}
	return s
}

func (s *scale) transform(v float64) float64 {
	switch s.Scale {
	case Sqrt:
		return math.Sqrt(v)
	case Log:
		return math.Log10(v)
	}
	return v
}

// at is NaN where the scale has no place for v.
func (s *scale) at(v float64) float64 {
	x := (s.transform(v) - s.lo) / (s.hi - s.lo)
	if !finite(x) {
		return math.NaN()
	}
	return x
}

// round is the round number at or above x: 1, 2 or 5 times a power of ten.
func round(x float64) float64 {
	if !(x > 0) || !finite(x) {
		return 1
	}
	p := math.Pow(10, math.Floor(math.Log10(x)))
	for _, m := range [...]float64{1, 2, 5} {
		if m*p >= x*(1-1e-9) {
			return m * p
		}
	}
	return 10 * p
}

// ticks are at most a dozen or so values to write at the axis.
func (s *scale) ticks() (out []float64) {
	if s.Ticks != nil {
		return s.Ticks
	}
	const most = 24
	switch s.Scale {
	case Log:
		every := max(1, math.Ceil((s.hi-s.lo)/6))
		for e := math.Ceil(s.lo - 1e-9); e <= s.hi+1e-9 && len(out) < most; e += every {
			out = append(out, math.Pow(10, e))
		}
		if len(out) < 2 {
			out = []float64{math.Pow(10, s.lo), math.Pow(10, s.hi)}
		}
	case Sqrt:
		top := s.hi * s.hi
		for _, f := range [...]float64{0, .05, .2, .5, 1} {
			out = append(out, f*round(top/2)*2)
		}
	default:
		step := round((s.hi - s.lo) / 5)
		for k := math.Ceil(s.lo/step - 1e-9); k*step <= s.hi+step*1e-9 && len(out) < most; k++ {
			out = append(out, k*step)
		}
	}
	return out
}

func (s *scale) format(v float64) string {
	if s.Format != nil {
		return s.Format(v)
	}
	a := math.Abs(v)
	switch {
	case a == 0:
		return "0"
	case a >= 1e9:
		return strconv.FormatFloat(v/1e9, 'g', 4, 64) + "G"
	case a >= 1e6:
		return strconv.FormatFloat(v/1e6, 'g', 4, 64) + "M"
	case a >= 1e4:
		return strconv.FormatFloat(v/1e3, 'g', 4, 64) + "k"
	}
	return strconv.FormatFloat(v, 'g', 4, 64)
}

// frontier is the staircase along the points that no other beats on both axes.
func frontier(series []Series, sx, sy Scale) (x, y []float64) {
	type point struct{ x, y float64 }
	var all []point
	for _, s := range series {
		for i := range s.X {
			if finite(s.X[i]) && finite(s.Y[i]) && (sx != Log || s.X[i] > 0) && (sy != Log || s.Y[i] > 0) {
				all = append(all, point{s.X[i], s.Y[i]})
			}
		}
	}
	slices.SortFunc(all, func(a, b point) int { return cmp.Or(cmp.Compare(a.x, b.x), cmp.Compare(a.y, b.y)) })
	low := math.Inf(1)
	for _, p := range all {
		if p.y >= low {
			continue
		}
		if len(x) > 0 {
			x, y = append(x, p.x), append(y, low)
		}
		x, y = append(x, p.x), append(y, p.y)
		low = p.y
	}
	return x, y
}

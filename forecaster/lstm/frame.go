package lstm

import (
	"math"
	"slices"

	"github.com/foreshift/foreshift/schemas"
)

// What a forecast of one lead is mixed from; for the maximum of a window see top.
const (
	byLast      = iota // the last value
	byHour             // quantiles of the last hour
	byDay              // quantiles of the last day
	byTod              // quantiles of this time of day
	byYesterday        // median of the same hour yesterday
	byWeek             // median of the same hour a week ago
)

type row [levels]float32

// frame holds what the candidates say at one origin. It is scratch: look, then any
// number of lead or top, each followed by mix.
type frame struct {
	c  cell
	s  schemas.Step // the last step seen
	ok [candidates]bool
	is [candidates]*row // what each candidate says
	// unit is, by level, what the candidates disagree by there and at the levels
	// beside it: bends are measured in it, so that there are none where all agree.
	unit row

	same   [byTod]row // the candidates that say the same at every lead
	sameOK [byTod]bool
	lo, hi row // their span
	own    [candidates]row
	hour   [recent]float32
	tmp    [blocks]float32
	gate   [candidates]float32
}

// look takes the origin: c has seen steps up to s.
func (f *frame) look(c cell, s schemas.Step) {
	f.c, f.s = c, s
	y, _ := c.last(s)
	f.sameOK[byLast] = y == y
	constant(&f.same[byLast], y)
	n := 0
	for _, v := range c[atRecent : atRecent+recent] {
		if v == v {
			f.hour[n] = v
			n++
		}
	}
	f.sameOK[byHour] = n >= 3
	if n >= 3 {
		slices.Sort(f.hour[:n])
		quantiles(f.hour[:n], f.same[byHour][:])
	}
	copy(f.same[byDay][:], c[atDay:atDay+levels])
	f.sameOK[byDay] = c[atDay] == c[atDay]
	for l := range f.lo {
		f.lo[l], f.hi[l] = math.MaxFloat32, -math.MaxFloat32
		for k := range f.same {
			if f.sameOK[k] {
				f.lo[l], f.hi[l] = min(f.lo[l], f.same[k][l]), max(f.hi[l], f.same[k][l])
			}
		}
	}
}

// lead makes the candidates speak of the demand h steps ahead; false when none can.
func (f *frame) lead(h int) bool {
	for k := range f.same {
		f.is[k], f.ok[k] = &f.same[k], f.sameOK[k]
	}
	a, b, x := between(f.s + schemas.Step(h))
	f.todAt(&f.own[byTod], a, b, x)
	f.is[byTod], f.ok[byTod] = &f.own[byTod], f.own[byTod][0] == f.own[byTod][0]
	low, high := f.flat(byYesterday, lerp(f.c[atHour+a], f.c[atHour+b], x), math.MaxFloat32, -math.MaxFloat32)
	low, high = f.flat(byWeek, lerp(f.c[atWeek+a], f.c[atWeek+b], x), low, high)
	lo, hi := f.lo, f.hi
	tod := &f.own[byTod]
	for l, v := range tod { // comparisons with a missing tod are all false
		if low < lo[l] {
			lo[l] = low
		}
		if high > hi[l] {
			hi[l] = high
		}
		if v < lo[l] {
			lo[l] = v
		}
		if v > hi[l] {
			hi[l] = v
		}
	}
	return f.units(&lo, &hi)
}

// flat makes candidate k say v at every level and widens low and high by it.
func (f *frame) flat(k int, v, low, high float32) (float32, float32) {
	f.is[k], f.ok[k] = &f.own[k], v == v
	constant(&f.own[k], v)
	if v < low {
		low = v
	}
	if v > high {
		high = v
	}
	return low, high
}

// todAt writes the quantiles by time of day, x from block a to block b.
func (f *frame) todAt(q *row, a, b int, x float32) {
	qa, qb := (*row)(f.c[atTod+a*levels:]), (*row)(f.c[atTod+b*levels:])
	if qa[0] != qa[0] {
		qa = qb
	}
	if qb[0] != qb[0] {
		qb = qa
	}
	for l := range q {
		q[l] = qa[l] + x*(qb[l]-qa[l])
	}
}

// top makes the candidates speak of the maximum over the next n steps, n one of
// maxima: the last value, the last hour's maximum, quantiles of the maxima of such
// windows in the last day (of the days, when n is one), the highest the time of day
// reaches in the window, yesterday's maximum in the same hours, the last day's.
func (f *frame) top(n int) bool {
	for k := range f.own {
		f.is[k], f.ok[k] = &f.own[k], false
	}
	f.set(0, f.same[byLast][0])
	if f.sameOK[byHour] {
		f.set(1, f.same[byHour][levels-1])
		for _, v := range f.c[atRecent : atRecent+recent] {
			if v > f.own[1][0] {
				f.set(1, v)
			}
		}
	}
	first := int((f.s + 1) % day / block)
	hours := max(1, n/block)
	m := 0
	if n == day {
		for _, v := range f.c[atMaxima : atMaxima+maxDays] {
			if v == v {
				f.tmp[m] = v
				m++
			}
		}
	} else {
		for k := 0; k+hours <= blocks; k++ {
			if v := f.highest(first+k, hours); v == v {
				f.tmp[m] = v
				m++
			}
		}
	}
	if m > 0 {
		slices.Sort(f.tmp[:m])
		quantiles(f.tmp[:m], f.own[2][:])
		f.ok[2] = true
	}
	f.todAt(&f.own[3], first, first, 0)
	for k := 1; k <= hours && k < blocks; k++ {
		at := (first + k) % blocks
		for l, v := range (*row)(f.c[atTod+at*levels:]) {
			if v > f.own[3][l] {
				f.own[3][l] = v
			}
		}
	}
	f.ok[3] = f.own[3][0] == f.own[3][0]
	f.set(4, f.highest(first, min(hours+1, blocks)))
	f.set(5, f.highest(0, blocks))
	var lo, hi row
	constant(&lo, math.MaxFloat32)
	constant(&hi, -math.MaxFloat32)
	f.span(0, &lo, &hi)
	return f.units(&lo, &hi)
}

func (f *frame) set(k int, v float32) {
	constant(&f.own[k], v)
	f.ok[k] = v == v
}

// highest is the maximum over n blocks of the last day from block b on.
func (f *frame) highest(b, n int) float32 {
	top := schemas.NaN()
	for k := range n {
		if v := f.c[atMax+(b+k)%blocks]; v > top || top != top {
			top = v
		}
	}
	return top
}

// span widens lo and hi by the candidates from k on.
func (f *frame) span(k int, lo, hi *row) {
	for ; k < candidates; k++ {
		if !f.ok[k] {
			continue
		}
		for l, v := range f.is[k] {
			lo[l], hi[l] = min(lo[l], v), max(hi[l], v)
		}
	}
}

func (f *frame) units(lo, hi *row) bool {
	if lo[0] > hi[0] {
		return false
	}
	a, b := lo[0], hi[0] // of the level below
	for l := range f.unit {
		next := min(l+1, levels-1)
		least, most := lo[l], hi[l]
		if a < least {
			least = a
		}
		if b > most {
			most = b
		}
		if v := lo[next]; v < least {
			least = v
		}
		if v := hi[next]; v > most {
			most = v
		}
		a, b = lo[l], hi[l]
		f.unit[l] = most - least
	}
	return true
}

// shares turns the logits of every target in out [outputs] into shares of 1: their
// softmax, before it is known which candidates speak.
func shares(out []float32) {
	for at := 0; at < len(out); at += perTarget {
		g := out[at : at+candidates]
		var sum float32
		for k, v := range g {
			g[k] = exp(min(max(v, -15), 15))
			sum += g[k]
		}
		for k := range g {
			g[k] /= sum
		}
	}
}

// mix gives the quantiles that the head's numbers for one target, out [perTarget]
// after shares, make of the candidates: with g the shares among those that speak,
//
//	q_l = sum_k g_k c_kl + bend_l unit_l,
//
// taken round the first that speaks, so that candidates that agree are repeated to
// the last bit.
func (f *frame) mix(out []float32, q *row) {
	var sum float32
	first := -1
	for k := candidates - 1; k >= 0; k-- {
		if f.ok[k] {
			sum += out[k]
			first = k
		}
	}
	bend, base := (*row)(out[candidates:perTarget]), f.is[first]
	for l := range q {
		q[l] = base[l] + bend[l]*f.unit[l]
	}
	for k := range f.gate {
		f.gate[k] = 0
		if !f.ok[k] {
			continue
		}
		g := out[k] / sum
		f.gate[k] = g
		if k == first {
			continue
		}
		c := f.is[k]
		for l := range q {
			q[l] += g * (c[l] - base[l])
		}
	}
}

func constant(r *row, v float32) {
	for l := range r {
		r[l] = v
	}
}

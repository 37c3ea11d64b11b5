package model

import (
	"math"

	"github.com/foreshift/foreshift/schemas"
)

// packed is a table of quantile rows, each of [levels] values that rise with the level:
// 28 bytes a row and not 52, for such tables are most of what the banks keep. The
// median is kept as it is; of every other quantile the distance from it, as the upper
// half of a float32 without its sign, which the level tells: 8 bits of exponent, 8 of
// mantissa. So what equals the median or is zero comes back exactly, constant rows
// whole, and the rest within .2 % of the distance (.4 % beside zero), whatever the unit or
// how long the tail.
type packed struct {
	mid []float32 // rows; NaN: the row is missing
	off []uint16  // rows x (levels-1)
}

const (
	offsets = levels - 1
	middle  = levels / 2
	atZero  = math.MaxUint16 // stands for a quantile of zero; no distance of demands is as large
)

// grow makes room for series i, of n rows, all missing.
func (p *packed) grow(i, n int) {
	p.mid, p.off = Grown(p.mid, i, n), Grown(p.off, i, n*offsets)
	fill(row(p.mid, i, n))
}

// clear makes rows at..at+n-1 missing.
func (p *packed) clear(at, n int) { fill(p.mid[at : at+n]) }

func (p *packed) known(at int) bool { return p.mid[at] == p.mid[at] }

// put writes row at; one with a missing quantile is missing.
func (p *packed) put(at int, q *[levels]float32) {
	m := q[middle]
	off := (*[offsets]uint16)(p.off[at*offsets:])
	p.mid[at] = m
	for l, v := range q {
		if d := v - m; d-d != 0 { // neither a distance
			p.mid[at] = schemas.NaN()
			return
		}
		switch {
		case l == middle:
		case v == 0:
			off[offsetOf(l)] = atZero
		case l < middle:
			off[l] = distance(m-v, m, -1, v)
		default:
			off[offsetOf(l)] = distance(v-m, m, 1, v)
		}
	}
}

func offsetOf(l int) int {
	if l > middle {
		return l - 1
	}
	return l
}

// distance rounds d, the way from m to v in the direction given, so that v keeps its sign:
// rows that have exact zeros stay in order.
func distance(d, m, direction, v float32) uint16 {
	u := uint16((math.Float32bits(d) + 1<<14) >> 15)
	switch back := m + direction*wide(u); {
	case back < 0 && v > 0 && direction < 0, back > 0 && v < 0 && direction > 0:
		u--
	case back > 0 && v < 0 && direction < 0, back < 0 && v > 0 && direction > 0:
		u++
	}
	return u
}

func wide(u uint16) float32 { return math.Float32frombits(uint32(u) << 15) }

// get reads row at.
func (p *packed) get(at int, q *[levels]float32) {
	m := p.mid[at]
	off := (*[offsets]uint16)(p.off[at*offsets:])
	q[middle] = m
	for l := range middle {
		if q[l] = m - wide(off[l]); off[l] == atZero {
			q[l] = m - m
		}
	}
	for l := middle; l < offsets; l++ {
		if q[l+1] = m + wide(off[l]); off[l] == atZero {
			q[l+1] = m - m
		}
	}
}

// tables are the parts of its state, with n rows a series.
func (p *packed) tables(n int) []table {
	return []table{{n, &p.mid}, {n * offsets, &p.off}}
}

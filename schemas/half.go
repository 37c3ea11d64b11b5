package schemas

import "math"

// IEEE 754 binary16, as float16 columns carry it. A forecast's row is written as a
// power of two times half-precision numbers, the largest of them in [2^14, 2^15):
// 11 significant bits (a little over 3 digits) over eight decades below the
// largest value, and no overflow whatever the unit.

const (
	halfScale = 14 // exponent of the largest value of a row, as written

	// The least scale, 2^-100: everything down to it times the least half is still a
	// normal float32, so that no rounding hides in between. Smaller is zero.
	minScale = -100

	// maxQuantity bounds what is forecast, in any unit, well within a float32.
	maxQuantity = 1e30
)

// toHalf rounds to the nearest half, ties to even. Values beyond the range become
// infinite; the scale keeps those of forecasts within it.
func toHalf(f float32) uint16 {
	b := math.Float32bits(f)
	sign := uint16(b>>16) & 0x8000
	e := int32(b>>23)&0xff - 127
	m := b & 0x7fffff
	switch {
	case e == 128 && m != 0:
		return sign | 0x7e00
	case e > 15:
		return sign | 0x7c00
	case e >= -14:
		// A carry out of the mantissa runs into the exponent, as it should.
		b = b&0x7fffffff + 0xfff + b>>13&1
		return sign | uint16(b>>13-112<<10)
	case e >= -25:
		m |= 0x800000
		shift := uint32(-e - 1) // 13 bits, and one more for each power below 2^-14
		h := m >> shift
		return sign | uint16(h+roundUp(h, m&(1<<shift-1), 1<<(shift-1)))
	}
	return sign
}

// roundUp is 1 when the rest cut off h rounds up to the nearest, ties to even.
func roundUp(h, rest, half uint32) uint32 {
	if rest > half || rest == half && h&1 == 1 {
		return 1
	}
	return 0
}

// fromHalf is exact.
func fromHalf(h uint16) float32 {
	sign := uint32(h&0x8000) << 16
	e := uint32(h>>10) & 0x1f
	m := uint32(h) & 0x3ff
	switch e {
	case 0:
		v := float32(m) * (1.0 / (1 << 24))
		return math.Float32frombits(sign | math.Float32bits(v))
	case 31:
		return math.Float32frombits(sign | 0x7f800000 | m<<13)
	}
	return math.Float32frombits(sign | (e+112)<<23 | m<<13)
}

// isHalfFinite tells infinities and NaN.
func isHalfFinite(h uint16) bool { return h&0x7c00 != 0x7c00 }

// rowScale is the scale under which a row's largest magnitude is written. It is
// taken from the value as it will be rounded, so that a row that was read is
// written again bit for bit. Every row has one form on the wire.
func rowScale(largest float32) float32 {
	if largest == 0 {
		return 1
	}
	f, e := math.Frexp(float64(largest)) // largest = f * 2^e, f in [1/2, 1)
	if math.RoundToEven(f*2048) == 2048 {
		e++
	}
	return float32(math.Ldexp(1, max(e-1-halfScale, minScale)))
}

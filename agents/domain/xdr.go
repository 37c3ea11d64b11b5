package domain

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// errShort says that a reply ended before what it promised.
var errShort = errors.New("reply is shorter than it says")

// xdrReader reads XDR (RFC 4506) out of one reply. The first fault sticks: after
// it every read gives the zero value, and err says what was wrong. Lengths are
// checked against the bytes that are left before anything is allocated, so that
// a broken server costs an error and never memory.
type xdrReader struct {
	b   []byte
	off int
	err error
}

func (r *xdrReader) fail(err error) {
	if r.err == nil {
		r.err = fmt.Errorf("at byte %d: %w", r.off, err)
	}
}

func (r *xdrReader) take(n int) []byte {
	if r.err != nil {
		return nil
	}
	if n < 0 || n > len(r.b)-r.off {
		r.fail(errShort)
		return nil
	}
	p := r.b[r.off : r.off+n]
	r.off += n
	return p
}

func (r *xdrReader) u32() uint32 {
	if p := r.take(4); p != nil {
		return binary.BigEndian.Uint32(p)
	}
	return 0
}

func (r *xdrReader) u64() uint64 {
	if p := r.take(8); p != nil {
		return binary.BigEndian.Uint64(p)
	}
	return 0
}

func (r *xdrReader) i32() int32 { return int32(r.u32()) }

// opaque reads n bytes and their padding to a multiple of four; the result
// aliases the reply.
func (r *xdrReader) opaque(n int) []byte {
	p := r.take(n)
	r.take(-n & 3)
	return p
}

// text reads a string as bytes that alias the reply.
func (r *xdrReader) text() []byte {
	n := r.u32()
	if n > math.MaxInt32 {
		r.fail(fmt.Errorf("string of %d bytes", n))
		return nil
	}
	return r.opaque(int(n))
}

// count reads the length of an array whose elements take at least min bytes.
func (r *xdrReader) count(min int) int {
	n := r.u32()
	if r.err == nil && uint64(n)*uint64(min) > uint64(len(r.b)-r.off) {
		r.fail(fmt.Errorf("array of %d elements: %w", n, errShort))
		return 0
	}
	return int(n)
}

// param is one typed parameter; name and text alias the reply.
type param struct {
	name []byte
	kind uint32 // 1 int, 2 uint, 3 llong, 4 ullong, 5 double, 6 boolean, 7 string
	bits uint64
	text []byte
}

// param reads a typed parameter.
func (r *xdrReader) param() (p param) {
	p.name = r.text()
	p.kind = r.u32()
	switch p.kind {
	case 1, 6:
		p.bits = uint64(int64(r.i32()))
	case 2:
		p.bits = uint64(r.u32())
	case 3, 4, 5:
		p.bits = r.u64()
	case 7:
		p.text = r.text()
	default:
		r.fail(fmt.Errorf("parameter %.60q is of unknown type %d", p.name, p.kind))
	}
	return p
}

// count gives a non-negative whole number, and false for anything else: a
// negative, a fraction that is no number, a string.
func (p *param) count() (uint64, bool) {
	switch p.kind {
	case 1, 3, 6:
		if int64(p.bits) < 0 {
			return 0, false
		}
		return p.bits, true
	case 2, 4:
		return p.bits, true
	case 5:
		f := math.Float64frombits(p.bits)
		if !(f >= 0 && f < 1<<63) {
			return 0, false
		}
		return uint64(f), true
	}
	return 0, false
}

// xdrWriter builds the arguments of a call.
type xdrWriter struct{ b []byte }

func (w *xdrWriter) u32(v uint32) { w.b = binary.BigEndian.AppendUint32(w.b, v) }
func (w *xdrWriter) i32(v int32)  { w.u32(uint32(v)) }
func (w *xdrWriter) opaque(p []byte) {
	w.b = append(w.b, p...)
	for n := len(p); n&3 != 0; n++ {
		w.b = append(w.b, 0)
	}
}
func (w *xdrWriter) text(s string) {
	w.u32(uint32(len(s)))
	w.b = append(w.b, s...)
	for n := len(s); n&3 != 0; n++ {
		w.b = append(w.b, 0)
	}
}

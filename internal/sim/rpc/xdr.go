package rpc

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// Bounds of the protocol, from libvirt's remote_protocol.x.
const (
	maxString = 4 << 20 // REMOTE_STRING_MAX
	maxCookie = 4 << 20 // REMOTE_MIGRATE_COOKIE_MAX
	maxParams = 64      // REMOTE_DOMAIN_MIGRATE_PARAM_LIST_MAX
	maxList   = 16384   // REMOTE_DOMAIN_LIST_MAX
)

// ErrMalformed is wrapped by every decoding error.
var ErrMalformed = errors.New("malformed packet")

// UUID identifies a domain or a pool on the wire.
type UUID = [16]byte

// Domain is libvirt's remote_nonnull_domain. ID is -1 for one that is not active.
type Domain struct {
	Name string
	UUID UUID
	ID   int32
}

// Pool is libvirt's remote_nonnull_storage_pool.
type Pool struct {
	Name string
	UUID UUID
}

// Types of a [Param].
const (
	TypeInt     = 1
	TypeUint    = 2
	TypeLlong   = 3
	TypeUllong  = 4
	TypeDouble  = 5
	TypeBoolean = 6
	TypeString  = 7
)

// Param is libvirt's typed parameter: a field, its type, and the value as 64 raw
// bits or a string.
type Param struct {
	Field string
	Type  uint32
	Bits  uint64
	Str   string
}

// Constructors of parameters.
func Int(k string, v int32) Param     { return Param{Field: k, Type: TypeInt, Bits: uint64(uint32(v))} }
func Uint(k string, v uint32) Param   { return Param{Field: k, Type: TypeUint, Bits: uint64(v)} }
func Llong(k string, v int64) Param   { return Param{Field: k, Type: TypeLlong, Bits: uint64(v)} }
func Ullong(k string, v uint64) Param { return Param{Field: k, Type: TypeUllong, Bits: v} }
func String(k string, v string) Param { return Param{Field: k, Type: TypeString, Str: v} }
func Boolean(k string, v bool) Param  { return Param{Field: k, Type: TypeBoolean, Bits: b2u(v)} }
func Double(k string, v float64) Param {
	return Param{Field: k, Type: TypeDouble, Bits: math.Float64bits(v)}
}

func b2u(v bool) uint64 {
	if v {
		return 1
	}
	return 0
}

// Encoder appends XDR to B.
type Encoder struct{ B []byte }

func (e *Encoder) U32(v uint32)   { e.B = binary.BigEndian.AppendUint32(e.B, v) }
func (e *Encoder) I32(v int32)    { e.U32(uint32(v)) }
func (e *Encoder) U64(v uint64)   { e.B = binary.BigEndian.AppendUint64(e.B, v) }
func (e *Encoder) Bool(v bool)    { e.U32(uint32(b2u(v))) }
func (e *Encoder) pad(n int)      { e.B = append(e.B, "\x00\x00\x00"[:-n&3]...) }
func (e *Encoder) Fixed(b []byte) { e.B = append(e.B, b...); e.pad(len(b)) }

// Str appends a string: length, bytes, padding.
func (e *Encoder) Str(s string) {
	e.U32(uint32(len(s)))
	e.B = append(e.B, s...)
	e.pad(len(s))
}

// Bytes appends opaque bytes of variable length.
func (e *Encoder) Bytes(b []byte) {
	e.U32(uint32(len(b)))
	e.Fixed(b)
}

// Opt appends an optional string, absent when nil.
func (e *Encoder) Opt(s *string) {
	e.Bool(s != nil)
	if s != nil {
		e.Str(*s)
	}
}

// Domain appends a domain.
func (e *Encoder) Domain(d Domain) {
	e.Str(d.Name)
	e.B = append(e.B, d.UUID[:]...)
	e.I32(d.ID)
}

// Pool appends a storage pool.
func (e *Encoder) Pool(p Pool) {
	e.Str(p.Name)
	e.B = append(e.B, p.UUID[:]...)
}

// Param appends one typed parameter.
func (e *Encoder) Param(p Param) {
	e.Str(p.Field)
	e.U32(p.Type)
	switch p.Type {
	case TypeInt, TypeUint, TypeBoolean:
		e.U32(uint32(p.Bits))
	case TypeString:
		e.Str(p.Str)
	default:
		e.U64(p.Bits)
	}
}

// Params appends a list of typed parameters.
func (e *Encoder) Params(ps []Param) {
	e.U32(uint32(len(ps)))
	for i := range ps {
		e.Param(ps[i])
	}
}

// Count leaves room for a length word, to be set by [Encoder.SetCount].
func (e *Encoder) Count() int { e.U32(0); return len(e.B) - 4 }

// SetCount fills the length word at the position that [Encoder.Count] returned.
func (e *Encoder) SetCount(at, n int) { binary.BigEndian.PutUint32(e.B[at:], uint32(n)) }

// Decoder reads XDR from a packet. The first fault sticks: later reads give zero
// values and [Decoder.Err] tells. It never allocates more than the packet holds.
type Decoder struct {
	b   []byte
	err error
}

// NewDecoder reads b.
func NewDecoder(b []byte) *Decoder { return &Decoder{b: b} }

// Err is the first fault, wrapping [ErrMalformed], or nil.
func (d *Decoder) Err() error { return d.err }

// Rest is the number of bytes not read yet.
func (d *Decoder) Rest() int { return len(d.b) }

func (d *Decoder) fail(format string, a ...any) {
	if d.err == nil {
		d.err = fmt.Errorf("%w: "+format, append([]any{ErrMalformed}, a...)...)
		d.b = nil
	}
}

func (d *Decoder) take(n int) []byte {
	if n < 0 || len(d.b) < n {
		d.fail("%d bytes wanted, %d left", n, len(d.b))
		return nil
	}
	v := d.b[:n]
	d.b = d.b[n:]
	return v
}

func (d *Decoder) U32() uint32 {
	if v := d.take(4); v != nil {
		return binary.BigEndian.Uint32(v)
	}
	return 0
}
func (d *Decoder) I32() int32 { return int32(d.U32()) }
func (d *Decoder) U64() uint64 {
	if v := d.take(8); v != nil {
		return binary.BigEndian.Uint64(v)
	}
	return 0
}

func (d *Decoder) opaque(limit int, what string) []byte {
	n := d.U32()
	if n > uint32(limit) {
		d.fail("%s of %d bytes, at most %d", what, n, limit)
		return nil
	}
	v := d.take(int(n))
	d.take(-int(n) & 3)
	return v
}

// Str reads a string of at most 4 MiB.
func (d *Decoder) Str() string { return string(d.opaque(maxString, "string")) }

// Bytes reads opaque bytes of at most 4 MiB into memory of their own.
func (d *Decoder) Bytes() []byte { return append([]byte(nil), d.opaque(maxCookie, "cookie")...) }

// Opt reads an optional string. Any non-zero word means present: go-libvirt sends
// 0x01000000 in ConnectOpen where RFC 4506 wants 1.
func (d *Decoder) Opt() (string, bool) {
	if d.U32() == 0 || d.err != nil {
		return "", false
	}
	return d.Str(), d.err == nil
}

// UUID reads 16 raw bytes.
func (d *Decoder) UUID() (u UUID) { copy(u[:], d.take(16)); return u }

// Domain reads a domain.
func (d *Decoder) Domain() Domain { return Domain{Name: d.Str(), UUID: d.UUID(), ID: d.I32()} }

// Pool reads a storage pool.
func (d *Decoder) Pool() Pool { return Pool{Name: d.Str(), UUID: d.UUID()} }

// Domains reads a list of domains; each takes at least 24 bytes of the packet,
// which bounds the allocation.
func (d *Decoder) Domains() []Domain {
	n := d.count(maxList, 24, "domains")
	var out []Domain
	for i := 0; i < n && d.err == nil; i++ {
		out = append(out, d.Domain())
	}
	return out
}

// Params reads a list of at most 64 typed parameters.
func (d *Decoder) Params() []Param {
	n := d.count(maxParams, 12, "typed parameters")
	var out []Param
	for i := 0; i < n && d.err == nil; i++ {
		out = append(out, d.param())
	}
	return out
}

func (d *Decoder) count(limit, size int, what string) int {
	n := d.U32()
	if n > uint32(limit) || int(n)*size > len(d.b) {
		d.fail("%d %s in %d bytes, at most %d", n, what, len(d.b), limit)
		return 0
	}
	return int(n)
}

func (d *Decoder) param() Param {
	p := Param{Field: d.Str(), Type: d.U32()}
	switch p.Type {
	case TypeInt, TypeUint, TypeBoolean:
		p.Bits = uint64(d.U32())
	case TypeLlong, TypeUllong, TypeDouble:
		p.Bits = d.U64()
	case TypeString:
		p.Str = d.Str()
	default:
		d.fail("typed parameter %.40q of unknown type %d", p.Field, p.Type)
	}
	return p
}

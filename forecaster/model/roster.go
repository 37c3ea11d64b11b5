package model

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/foreshift/foreshift/schemas"
)

// roster knows which series a bank has and up to which step they were observed. It is
// a ring without the values.
type roster struct {
	keys []Key
	used []bool
	free []int
	last schemas.Step
	any  bool
}

func (r *roster) add(k Key) int {
	if n := len(r.free); n > 0 {
		i := r.free[n-1]
		r.free = r.free[:n-1]
		r.keys[i], r.used[i] = k, true
		return i
	}
	r.keys, r.used = append(r.keys, k), append(r.used, true)
	return len(r.keys) - 1
}

// Remove implements [Bank].
func (r *roster) Remove(i int) {
	if i < 0 || i >= len(r.used) || !r.used[i] {
		return
	}
	r.used[i] = false
	r.keys[i] = Key{}
	r.free = append(r.free, i)
}

// has reports whether i is a series of the bank.
func (r *roster) has(i int) bool { return i >= 0 && i < len(r.used) && r.used[i] }

// maxSkip is the number of steps left out that are told one by one as missing; what
// lies further back has no say in a forecast.
const maxSkip = day

// arrive moves the roster on to step s and gives the number of steps left out before
// it; false when s is not news.
func (r *roster) arrive(s schemas.Step) (skipped int, ok bool) {
	if r.any && s <= r.last {
		return 0, false
	}
	if r.any {
		skipped = int(min(s-r.last-1, maxSkip))
	}
	r.last, r.any = s, true
	return skipped, true
}

const rosterVersion = 1

// appendState writes the roster and the tables, each float32 or int8 or int64.
func (r *roster) appendState(b []byte, tables ...any) []byte {
	b = append(b, rosterVersion, byte(len(tables)))
	b = binary.LittleEndian.AppendUint64(b, uint64(r.last))
	b = appendBool(b, r.any)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(r.keys)))
	for i, k := range r.keys {
		b = append(b, k.VM[:]...)
		b = append(b, byte(k.Resource))
		b = appendBool(b, r.used[i])
	}
	b = binary.LittleEndian.AppendUint32(b, uint32(len(r.free)))
	for _, f := range r.free {
		b = binary.LittleEndian.AppendUint32(b, uint32(f))
	}
	for _, t := range tables {
		switch t := t.(type) {
		case *[]float32:
			b = binary.LittleEndian.AppendUint32(b, uint32(len(*t)))
			for _, v := range *t {
				b = binary.LittleEndian.AppendUint32(b, math.Float32bits(v))
			}
		case *[]int8:
			b = binary.LittleEndian.AppendUint32(b, uint32(len(*t)))
			for _, v := range *t {
				b = append(b, byte(v))
			}
		case *[]int64:
			b = binary.LittleEndian.AppendUint32(b, uint32(len(*t)))
			for _, v := range *t {
				b = binary.LittleEndian.AppendUint64(b, uint64(v))
			}
		}
	}
	return b
}

// loadState reads what appendState wrote; per[t] is the number of values a series
// that table t must have. Nothing is changed on an error.
func (r *roster) loadState(b []byte, per []int, tables ...any) error {
	d := decoder{b: b}
	if v := d.byte(); v != rosterVersion {
		return fmt.Errorf("model state: version %d, want %d", v, rosterVersion)
	}
	if n := int(d.byte()); n != len(tables) {
		return fmt.Errorf("model state: %d tables, want %d", n, len(tables))
	}
	n := roster{last: schemas.Step(d.uint64()), any: d.byte() != 0}
	for k := d.count(18); k > 0; k-- {
		var key Key
		copy(key.VM[:], d.take(16))
		key.Resource = schemas.Resource(d.byte())
		n.keys = append(n.keys, key)
		n.used = append(n.used, d.byte() != 0)
	}
	for k := d.count(4); k > 0; k-- {
		f := int(d.uint32())
		if f >= len(n.keys) || n.used[f] {
			return fmt.Errorf("model state: free index %d is in use or out of range", f)
		}
		n.free = append(n.free, f)
	}
	read := make([]any, len(tables))
	for t := range tables {
		var size int
		switch tables[t].(type) {
		case *[]float32:
			size = d.count(4)
			v := make([]float32, size)
			for i := range v {
				v[i] = math.Float32frombits(d.uint32())
			}
			read[t] = v
		case *[]int8:
			size = d.count(1)
			v := make([]int8, size)
			for i, c := range d.take(size) {
				v[i] = int8(c)
			}
			read[t] = v
		case *[]int64:
			size = d.count(8)
			v := make([]int64, size)
			for i := range v {
				v[i] = int64(d.uint64())
			}
			read[t] = v
		}
		if size != per[t]*len(n.keys) {
			return fmt.Errorf("model state: table %d has %d values for %d series", t, size, len(n.keys))
		}
	}
	if d.short || len(d.b) != 0 {
		return fmt.Errorf("model state: truncated or %d bytes too long", len(d.b))
	}
	for t := range tables {
		switch dst := tables[t].(type) {
		case *[]float32:
			*dst = read[t].([]float32)
		case *[]int8:
			*dst = read[t].([]int8)
		case *[]int64:
			*dst = read[t].([]int64)
		}
	}
	*r = n
	return nil
}

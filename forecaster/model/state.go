package model

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/foreshift/foreshift/schemas"
)

// A bank's state is its roster and its tables, little-endian: version, number of
// tables, last step observed, the keys with a flag for those in use, the free indices
// in the order in which they will be given out, then each table as it lies in memory.
// Every bank writes all it keeps from one step to the next, so that a bank restored
// goes on bit by bit as the one that was written down would have. What it does not
// write is what callers hand in at every step ([Regressors]).
const stateVersion = 3

// mostSteps bounds the steps that a state may speak of, so that arithmetic on them
// cannot overflow: 10^12 steps of a millisecond are 30 years.
const mostSteps = schemas.Step(1e12)

// table is one of a bank's arrays, with the same number of values for every series.
type table struct {
	per int // values a series
	at  any // *[]float32, *[]int8, *[]uint16, *[]uint64 or *[]schemas.Step
}

// appendState writes the roster and the tables.
func (r *roster) appendState(b []byte, tables []table) []byte {
	b = append(b, stateVersion, byte(len(tables)))
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
		switch v := t.at.(type) {
		case *[]float32:
			for _, x := range *v {
				b = binary.LittleEndian.AppendUint32(b, math.Float32bits(x))
			}
		case *[]int8:
			for _, x := range *v {
				b = append(b, byte(x))
			}
		case *[]uint16:
			for _, x := range *v {
				b = binary.LittleEndian.AppendUint16(b, x)
			}
		case *[]uint64:
			for _, x := range *v {
				b = binary.LittleEndian.AppendUint64(b, x)
			}
		case *[]schemas.Step:
			for _, x := range *v {
				b = binary.LittleEndian.AppendUint64(b, uint64(x))
			}
		}
	}
	return b
}

// loadState reads what appendState wrote and gives what follows it, which must be
// nothing unless more is said to come. On an error nothing is changed.
func (r *roster) loadState(b []byte, tables []table, more bool) (rest []byte, err error) {
	d := decoder{b: b}
	if v := d.byte(); v != stateVersion {
		return nil, fmt.Errorf("model state: version %d, want %d", v, stateVersion)
	}
	if n := int(d.byte()); n != len(tables) {
		return nil, fmt.Errorf("model state: %d tables, want %d", n, len(tables))
	}
	next, err := d.roster()
	if err != nil {
		return nil, err
	}
	n, size := len(next.keys), 0
	for _, t := range tables {
		size += t.per * n * width(t.at)
	}
	if d.short || size > len(d.b) {
		return nil, fmt.Errorf("model state: %d bytes are too few for %d series", len(b), n)
	}
	if !more && size < len(d.b) {
		return nil, fmt.Errorf("model state: %d bytes too long", len(d.b)-size)
	}
	for _, t := range tables {
		d.table(t.at, t.per*n)
	}
	*r = next
	return d.b, nil
}

// roster reads the roster, whose indices must be in use or free, and only one.
func (d *decoder) roster() (r roster, err error) {
	r.last, r.any = schemas.Step(d.uint64()), d.byte() != 0
	if r.last < 0 || r.last > mostSteps {
		return r, fmt.Errorf("model state: of step %d", r.last)
	}
	n := d.count(18)
	r.keys, r.used = make([]Key, n), make([]bool, n)
	idle := 0
	for i := range r.keys {
		copy(r.keys[i].VM[:], d.take(16))
		r.keys[i].Resource = schemas.Resource(d.byte())
		if r.used[i] = d.byte() != 0; !r.used[i] {
			idle++
		}
	}
	seen := make([]bool, n)
	for range d.count(4) {
		f := int(d.uint32())
		if f >= n || r.used[f] || seen[f] {
			return r, fmt.Errorf("model state: free index %d is in use, out of range or named twice", f)
		}
		seen[f] = true
		r.free = append(r.free, f)
	}
	if len(r.free) != idle {
		return r, fmt.Errorf("model state: %d indices idle, %d named free", idle, len(r.free))
	}
	return r, nil
}

// width is the length of a table's value in bytes.
func width(at any) int {
	switch at.(type) {
	case *[]int8:
		return 1
	case *[]uint16:
		return 2
	case *[]float32:
		return 4
	}
	return 8
}

// table reads n values, which are there.
func (d *decoder) table(at any, n int) {
	switch v := at.(type) {
	case *[]float32:
		*v = make([]float32, n)
		for i := range *v {
			(*v)[i] = math.Float32frombits(d.uint32())
		}
	case *[]int8:
		*v = make([]int8, n)
		for i, x := range d.take(n) {
			(*v)[i] = int8(x)
		}
	case *[]uint16:
		*v = make([]uint16, n)
		for i := range *v {
			(*v)[i] = binary.LittleEndian.Uint16(d.take(2))
		}
	case *[]uint64:
		*v = make([]uint64, n)
		for i := range *v {
			(*v)[i] = d.uint64()
		}
	case *[]schemas.Step:
		*v = make([]schemas.Step, n)
		for i := range *v {
			(*v)[i] = schemas.Step(d.uint64())
		}
	}
}

func appendBool(b []byte, v bool) []byte {
	if v {
		return append(b, 1)
	}
	return append(b, 0)
}

// decoder reads little-endian values and remembers if there were too few.
type decoder struct {
	b     []byte
	short bool
}

func (d *decoder) take(n int) []byte {
	if n > len(d.b) {
		d.short, d.b = true, nil
		return make([]byte, n)
	}
	v := d.b[:n]
	d.b = d.b[n:]
	return v
}
func (d *decoder) byte() byte     { return d.take(1)[0] }
func (d *decoder) uint32() uint32 { return binary.LittleEndian.Uint32(d.take(4)) }
func (d *decoder) uint64() uint64 { return binary.LittleEndian.Uint64(d.take(8)) }

// count reads a number of items of the given size, bounded by what is left.
func (d *decoder) count(size int) int {
	n := int(d.uint32())
	if n*size > len(d.b) {
		d.short = true
		return 0
	}
	return n
}

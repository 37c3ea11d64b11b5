package schemas

import "encoding/binary"

// flat reads flatbuffers (https://flatbuffers.dev/internals/), the form of the
// metadata in Arrow IPC, from foreign bytes. Every access is bounded: outside the
// buffer it gives zero and sets bad, so that a hostile message costs an error and
// nothing else. The usual generated readers trust their input and panic, or
// allocate what a length claims.
type flat struct {
	b   []byte
	bad bool
}

func (f *flat) inside(i, n int) bool {
	if i < 0 || n < 0 || i > len(f.b)-n {
		f.bad = true
		return false
	}
	return true
}

func (f *flat) u8(i int) uint8 {
	if !f.inside(i, 1) {
		return 0
	}
	return f.b[i]
}

func (f *flat) u16(i int) uint16 {
	if !f.inside(i, 2) {
		return 0
	}
	return binary.LittleEndian.Uint16(f.b[i:])
}

func (f *flat) i32(i int) int32 {
	if !f.inside(i, 4) {
		return 0
	}
	return int32(binary.LittleEndian.Uint32(f.b[i:]))
}

func (f *flat) i64(i int) int64 {
	if !f.inside(i, 8) {
		return 0
	}
	return int64(binary.LittleEndian.Uint64(f.b[i:]))
}

// root is the position of the root table.
func (f *flat) root() int { return f.follow(0) }

// follow resolves the offset that stands at i.
func (f *flat) follow(i int) int {
	o := binaryOffset(f.i32(i))
	if o == 0 {
		f.bad = true
	}
	return i + o
}

// binaryOffset keeps a hostile offset from wrapping round: those beyond 31 bits
// become zero, which no valid offset is.
func binaryOffset(o int32) int {
	if o < 0 {
		return 0
	}
	return int(o)
}

// field is the position of a table's field, 0 when it has the default value.
func (f *flat) field(table, slot int) int {
	v := table - int(f.i32(table))
	size := int(f.u16(v))
	at := 4 + 2*slot
	if f.bad || at+2 > size {
		return 0
	}
	o := int(f.u16(v + at))
	if o == 0 {
		return 0
	}
	return table + o
}

// table is the position of a nested table, 0 when absent.
func (f *flat) table(table, slot int) int {
	i := f.field(table, slot)
	if i == 0 {
		return 0
	}
	return f.follow(i)
}

// vector gives the position of a vector's first element and its length, having
// made sure that elements of the given size fit into the buffer.
func (f *flat) vector(table, slot, size int) (first, n int) {
	i := f.table(table, slot)
	if i == 0 || f.bad {
		return 0, 0
	}
	n = int(f.i32(i))
	first = i + 4
	if n < 0 || first > len(f.b) || n > (len(f.b)-first)/size {
		f.bad = true
		return 0, 0
	}
	return first, n
}

// str is a string field, aliasing the buffer.
func (f *flat) str(table, slot int) []byte {
	first, n := f.vector(table, slot, 1)
	if n == 0 {
		return nil
	}
	return f.b[first : first+n]
}

// scalar fields with their defaults of zero.

func (f *flat) byteAt(table, slot int) uint8 {
	if i := f.field(table, slot); i != 0 {
		return f.u8(i)
	}
	return 0
}

func (f *flat) shortAt(table, slot int) int16 {
	if i := f.field(table, slot); i != 0 {
		return int16(f.u16(i))
	}
	return 0
}

func (f *flat) intAt(table, slot int) int32 {
	if i := f.field(table, slot); i != 0 {
		return f.i32(i)
	}
	return 0
}

func (f *flat) longAt(table, slot int) int64 {
	if i := f.field(table, slot); i != 0 {
		return f.i64(i)
	}
	return 0
}

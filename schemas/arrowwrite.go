package schemas

import (
	"encoding/binary"
	"math"
	"sync"
)

// sheet gathers the columns of one message on their way out. Its memory is used
// again for the next message.
type sheet struct {
	rows  int
	keys  []string
	vals  []string
	cols  []outColumn
	arena []byte // data of all columns
	head  flatWriter
}

// outColumn is one column of a message to be sent.
type outColumn struct {
	name     string
	typ      uint8
	arg      int32 // bits, precision, bytes or list size
	nullable bool
	nulls    int
	buffers  int
	bufs     [3][]byte // of the type's layout in order; a list's are followed by its items'
}

var sheets = sync.Pool{New: func() any { return new(sheet) }}

// maxPooled is the largest arena worth keeping: a full forecast fits.
const maxPooled = 1 << 20

// newSheet takes one from the pool, with room for size bytes of column data.
func newSheet(rows, size int) *sheet {
	s := sheets.Get().(*sheet)
	s.rows = rows
	if cap(s.arena) < size {
		s.arena = make([]byte, 0, size)
	}
	s.arena = s.arena[:0]
	s.keys, s.vals, s.cols, s.head.b = s.keys[:0], s.vals[:0], s.cols[:0], s.head.b[:0]
	return s
}

func (s *sheet) meta(k, v string) {
	s.keys, s.vals = append(s.keys, k), append(s.vals, v)
}

// grab is n bytes of the arena. Columns hold on to what they got, so that a grown
// arena does no harm.
func (s *sheet) grab(n int) []byte {
	if len(s.arena)+n > cap(s.arena) {
		s.arena = make([]byte, 0, max(2*cap(s.arena), n))
	}
	from := len(s.arena)
	s.arena = s.arena[:from+n]
	return s.arena[from : from+n : from+n]
}

// add appends a column with what may be missing and its data; more buffers can be
// added to the result.
func (s *sheet) add(name string, typ uint8, arg int32, data []byte) *outColumn {
	s.cols = append(s.cols, outColumn{name: name, typ: typ, arg: arg, buffers: 2, bufs: [3][]byte{nil, data}})
	return &s.cols[len(s.cols)-1]
}

func (s *sheet) times(name string, ts []Time) {
	b := s.grab(8 * len(ts))
	for i, t := range ts {
		binary.LittleEndian.PutUint64(b[8*i:], uint64(t))
	}
	s.add(name, typeTimestamp, 0, b)
}

func (s *sheet) vms(name string, vs []VMID) {
	b := s.grab(16 * len(vs))
	for i := range vs {
		copy(b[16*i:], vs[i][:])
	}
	s.add(name, typeFixedSizeBinary, 16, b)
}

func (s *sheet) flags(name string, fs []Flags) {
	b := s.grab(len(fs))
	for i, f := range fs {
		b[i] = byte(f)
	}
	s.add(name, typeInt, 8, b)
}

// required writes a column of which nothing may be missing.
func (s *sheet) required(name string, vs []float32) {
	b := s.grab(4 * len(vs))
	for i, v := range vs {
		binary.LittleEndian.PutUint32(b[4*i:], math.Float32bits(v))
	}
	s.add(name, typeFloat, precisionSingle, b)
}

// floats writes a column that may miss values; a nil one is left out.
func (s *sheet) floats(name string, vs []float32) {
	if vs == nil {
		return
	}
	valid := s.bitmap()
	b := s.grab(4 * len(vs))
	nulls := 0
	for i, v := range vs {
		if v != v {
			nulls++
			binary.LittleEndian.PutUint32(b[4*i:], 0)
			continue
		}
		valid[i>>3] |= 1 << (i & 7)
		binary.LittleEndian.PutUint32(b[4*i:], math.Float32bits(v))
	}
	s.add(name, typeFloat, precisionSingle, b).missing(nulls, valid)
}

// bitmap is one bit for each row, all of them missing.
func (s *sheet) bitmap() []byte {
	b := s.grab((s.rows + 7) / 8)
	clear(b)
	return b
}

// missing says which rows are; the bitmap is sent only if there are any.
func (c *outColumn) missing(nulls int, valid []byte) {
	c.nullable, c.nulls = true, nulls
	if nulls > 0 {
		c.bufs[0] = valid
	}
}

func (s *sheet) hosts(name string, hs []HostID) {
	size := 0
	for _, h := range hs {
		size += len(h)
	}
	offsets, text := s.grab(4*(len(hs)+1)), s.grab(size)
	n := 0
	for i, h := range hs {
		binary.LittleEndian.PutUint32(offsets[4*i:], uint32(n))
		n += copy(text[n:], h)
	}
	binary.LittleEndian.PutUint32(offsets[4*len(hs):], uint32(n))
	c := s.add(name, typeUtf8, 0, offsets)
	c.bufs[2], c.buffers = text, 3
}

// stream writes the sheet as an Arrow IPC stream of one record batch
// (https://arrow.apache.org/docs/format/Columnar.html#ipc-streaming-format) and
// gives the sheet back to the pool.
func (s *sheet) stream() []byte {
	w := &s.head
	w.schema(s)
	body := w.batch(s)
	out := make([]byte, len(w.b), len(w.b)+body+8)
	copy(out, w.b)
	for i := range s.cols {
		c := &s.cols[i]
		for _, b := range c.bufs[:c.buffers] {
			out = append(out, b...)
			for n := len(b); n%8 != 0; n++ {
				out = append(out, 0)
			}
		}
		*c = outColumn{}
	}
	out = binary.LittleEndian.AppendUint32(out, ipcContinuation)
	out = append(out, 0, 0, 0, 0)
	if cap(s.arena) <= maxPooled {
		sheets.Put(s)
	}
	return out
}

package schemas

import "encoding/binary"

// flatWriter writes flatbuffers front to back: a table first, then what it refers
// to. Its positions are those of the whole buffer, which begins on an 8-byte
// boundary.
type flatWriter struct{ b []byte }

// layoutOf a table: the offset of each field in it (0 = not written), and its size.
type layoutOf struct {
	fields []uint16
	size   uint16
}

func (w *flatWriter) align(n int) {
	for len(w.b)%n != 0 {
		w.b = append(w.b, 0)
	}
}

func (w *flatWriter) zeros(n int) {
	for ; n > 0; n-- {
		w.b = append(w.b, 0)
	}
}

func (w *flatWriter) put32(at int, v int) {
	binary.LittleEndian.PutUint32(w.b[at:], uint32(int32(v)))
}

func (w *flatWriter) put64(at int, v int64) { binary.LittleEndian.PutUint64(w.b[at:], uint64(v)) }

// table writes an empty table with its vtable before it and gives its position.
func (w *flatWriter) table(l *layoutOf) int {
	w.align(2)
	v := len(w.b)
	w.b = binary.LittleEndian.AppendUint16(w.b, uint16(4+2*len(l.fields)))
	w.b = binary.LittleEndian.AppendUint16(w.b, l.size)
	for _, f := range l.fields {
		w.b = binary.LittleEndian.AppendUint16(w.b, f)
	}
	w.align(8)
	t := len(w.b)
	w.zeros(int(l.size))
	w.put32(t, t-v)
	return t
}

// nested is a table that the reference at the given position points to.
func (w *flatWriter) nested(at int, l *layoutOf) int {
	t := w.table(l)
	w.put32(at, t-at)
	return t
}

// str is a string that the reference at the given position points to.
func (w *flatWriter) str(at int, s string) {
	w.align(4)
	w.put32(at, len(w.b)-at)
	w.b = binary.LittleEndian.AppendUint32(w.b, uint32(len(s)))
	w.b = append(append(w.b, s...), 0)
}

// vector makes room for n elements of the given size and alignment and gives the
// position of the first.
func (w *flatWriter) vector(at, n, size, align int) int {
	for len(w.b)%4 != 0 || (len(w.b)+4)%align != 0 {
		w.b = append(w.b, 0)
	}
	w.put32(at, len(w.b)-at)
	w.b = binary.LittleEndian.AppendUint32(w.b, uint32(n))
	first := len(w.b)
	w.zeros(n * size)
	return first
}

// Layouts of the tables of Message.fbs and Schema.fbs; every table begins with the
// offset of its vtable.
var (
	layMessage   = layoutOf{[]uint16{16, 18, 4, 8}, 20} // version, header_type, header, bodyLength
	laySchema    = layoutOf{[]uint16{0, 4, 8}, 12}      // endianness, fields, custom_metadata
	layField     = layoutOf{[]uint16{4, 16, 17, 8, 0, 12}, 20}
	layKeyValue  = layoutOf{[]uint16{4, 8}, 12}
	layBatch     = layoutOf{[]uint16{8, 4, 16}, 20} // length, nodes, buffers
	layInt       = layoutOf{[]uint16{4, 8}, 12}     // bitWidth, is_signed
	layFloat     = layoutOf{[]uint16{4}, 8}         // precision
	layWidth     = layoutOf{[]uint16{4}, 8}         // byteWidth or listSize
	layUtf8      = layoutOf{nil, 4}
	layTimestamp = layoutOf{[]uint16{8, 4}, 12} // unit, timezone
)

// beginIPC starts a message of the stream and gives the position of its metadata
// and of the reference to its header.
func (w *flatWriter) beginIPC(kind byte, bodyLength int) (start, header int) {
	w.b = binary.LittleEndian.AppendUint32(w.b, ipcContinuation)
	w.zeros(4) // length, set by endIPC
	start = len(w.b)
	w.zeros(4)
	m := w.nested(start, &layMessage)
	w.put64(m+8, int64(bodyLength))
	binary.LittleEndian.PutUint16(w.b[m+16:], ipcVersion5)
	w.b[m+18] = kind
	return start, m + 4
}

func (w *flatWriter) endIPC(start int) {
	w.align(8)
	w.put32(start-4, len(w.b)-start)
}

// schema writes the schema message of a sheet.
func (w *flatWriter) schema(s *sheet) {
	start, header := w.beginIPC(ipcSchema, 0)
	t := w.nested(header, &laySchema)
	first := w.vector(t+4, len(s.cols), 4, 4)
	for i := range s.cols {
		w.field(first+4*i, &s.cols[i])
	}
	first = w.vector(t+8, len(s.keys), 4, 4)
	for i, k := range s.keys {
		kv := w.nested(first+4*i, &layKeyValue)
		w.str(kv+4, k)
		w.str(kv+8, s.vals[i])
	}
	w.endIPC(start)
}

func (w *flatWriter) field(at int, c *outColumn) {
	f := w.nested(at, &layField)
	if c.nullable {
		w.b[f+16] = 1
	}
	w.b[f+17] = c.typ
	w.str(f+4, c.name)
	switch c.typ {
	case typeInt:
		w.put32(w.nested(f+8, &layInt)+4, int(c.arg)) // unsigned
	case typeFloat:
		w.put32(w.nested(f+8, &layFloat)+4, int(c.arg))
	case typeFixedSizeBinary, typeFixedSizeList:
		w.put32(w.nested(f+8, &layWidth)+4, int(c.arg))
	case typeTimestamp:
		t := w.nested(f+8, &layTimestamp)
		binary.LittleEndian.PutUint16(w.b[t+8:], unitNano)
		w.str(t+4, "UTC")
	case typeUtf8:
		w.nested(f+8, &layUtf8)
	}
	if c.typ != typeFixedSizeList {
		w.vector(f+12, 0, 4, 4)
		return
	}
	first := w.vector(f+12, 1, 4, 4)
	w.field(first, &outColumn{name: "item", typ: typeFloat, arg: precisionHalf})
}

// batch writes the head of the record batch; its body is the columns' buffers one
// after another, each padded to 8 bytes.
func (w *flatWriter) batch(s *sheet) (body int) {
	nodes, buffers := 0, 0
	for i := range s.cols {
		c := &s.cols[i]
		nodes++
		buffers += c.buffers
		if c.typ == typeFixedSizeList {
			nodes++
		}
		for _, b := range c.bufs[:c.buffers] {
			body += padded(len(b))
		}
	}
	start, header := w.beginIPC(ipcRecordBatch, body)
	t := w.nested(header, &layBatch)
	w.put64(t+8, int64(s.rows))
	at := w.vector(t+4, nodes, 16, 8)
	for i := range s.cols {
		c := &s.cols[i]
		w.put64(at, int64(s.rows))
		w.put64(at+8, int64(c.nulls))
		at += 16
		if c.typ == typeFixedSizeList {
			w.put64(at, int64(s.rows)*int64(c.arg))
			at += 16
		}
	}
	at = w.vector(t+16, buffers, 16, 8)
	offset := 0
	for i := range s.cols {
		c := &s.cols[i]
		for _, b := range c.bufs[:c.buffers] {
			w.put64(at, int64(offset))
			w.put64(at+8, int64(len(b)))
			at += 16
			offset += padded(len(b))
		}
	}
	w.endIPC(start)
	return body
}

func padded(n int) int { return (n + 7) &^ 7 }

package schemas

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// Types and enumerations of the Arrow IPC format, Message.fbs and Schema.fbs
// (https://arrow.apache.org/docs/format/Columnar.html).
const (
	ipcContinuation = 0xffffffff
	ipcSchema       = 1 // MessageHeader
	ipcRecordBatch  = 3
	ipcVersion4     = 3 // MetadataVersion
	ipcVersion5     = 4

	typeNull            = 1
	typeInt             = 2
	typeFloat           = 3
	typeBinary          = 4
	typeUtf8            = 5
	typeTimestamp       = 10
	typeList            = 12
	typeStruct          = 13
	typeFixedSizeBinary = 15
	typeFixedSizeList   = 16
	typeMap             = 17
	typeDuration        = 18
	typeLargeBinary     = 19
	typeLargeUtf8       = 20
	typeLargeList       = 21

	precisionHalf   = 0
	precisionSingle = 1
	unitNano        = 3

	maxColumns  = 256
	maxMetadata = 64
	maxColName  = 128
	maxMetaText = 32 << 10
)

// column is one column of a received batch; its slices alias the message.
type column struct {
	name    string
	typ     uint8
	a, b    int32 // particulars of the type: width, precision or list size; signed or unit
	n       int
	nulls   int
	valid   []byte // bitmap; nil when nothing is missing
	offsets []byte
	data    []byte
	child   *column
}

// null reports whether row i is missing.
func (c *column) null(i int) bool { return c.nulls > 0 && c.valid[i>>3]&(1<<(i&7)) == 0 }

// batch is one decoded Arrow message.
type batch struct {
	rows int
	meta map[string]string
	cols []column
}

// readBatch takes an Arrow IPC stream apart: a schema, one record batch, the end
// mark, and nothing else. Nothing is allocated but the table of its columns.
func readBatch(b []byte, maxRows int) (*batch, error) {
	head, body, rest, err := nextIPC(b)
	if err != nil {
		return nil, fmt.Errorf("schema: %w", err)
	}
	if head.kind != ipcSchema || len(body) != 0 {
		return nil, errors.New("schema: the stream does not begin with one")
	}
	bt := &batch{}
	if err := bt.readSchema(head); err != nil {
		return nil, fmt.Errorf("schema: %w", err)
	}
	if head, body, rest, err = nextIPC(rest); err != nil {
		return nil, fmt.Errorf("record batch: %w", err)
	}
	if head.kind != ipcRecordBatch {
		return nil, fmt.Errorf("record batch: message of type %d in its place", head.kind)
	}
	if err := bt.readColumns(head, body, maxRows); err != nil {
		return nil, fmt.Errorf("record batch: %w", err)
	}
	if len(rest) != 8 || binary.LittleEndian.Uint32(rest) != ipcContinuation || binary.LittleEndian.Uint32(rest[4:]) != 0 {
		return nil, fmt.Errorf("want the end of the stream after one record batch, have %d more bytes", len(rest))
	}
	return bt, nil
}

// ipcHead is the metadata of one message of the stream.
type ipcHead struct {
	f     *flat
	kind  uint8
	table int // position of the schema or record batch
}

func nextIPC(b []byte) (h ipcHead, body, rest []byte, err error) {
	if len(b) < 8 || binary.LittleEndian.Uint32(b) != ipcContinuation {
		return h, nil, nil, errors.New("not an Arrow IPC stream, or cut short")
	}
	n := int64(binary.LittleEndian.Uint32(b[4:]))
	if n == 0 {
		return h, nil, nil, errors.New("the stream ends before it")
	}
	if n%8 != 0 || n > int64(len(b)-8) {
		return h, nil, nil, fmt.Errorf("claims %d bytes of metadata, %d are there", n, len(b)-8)
	}
	f := &flat{b: b[8 : 8+n]}
	b = b[8+n:]
	root := f.root()
	version := f.shortAt(root, 0)
	h = ipcHead{f: f, kind: f.byteAt(root, 1), table: f.table(root, 2)}
	size := f.longAt(root, 3)
	switch {
	case f.bad || h.table == 0:
		return h, nil, nil, errors.New("malformed metadata")
	case version != ipcVersion4 && version != ipcVersion5:
		return h, nil, nil, fmt.Errorf("metadata version %d is not read here", version)
	case size < 0 || size > int64(len(b)):
		return h, nil, nil, fmt.Errorf("claims %d bytes, %d are there", size, len(b))
	}
	return h, b[:size], b[size:], nil
}

func (bt *batch) readSchema(h ipcHead) error {
	f := h.f
	if f.shortAt(h.table, 0) != 0 {
		return errors.New("big-endian data is not read here")
	}
	first, n := f.vector(h.table, 1, 4)
	if n > maxColumns {
		return fmt.Errorf("%d columns, at most %d are allowed", n, maxColumns)
	}
	bt.cols = make([]column, n)
	for i := range bt.cols {
		if err := readField(f, f.follow(first+4*i), &bt.cols[i], 0); err != nil {
			return err
		}
	}
	first, n = f.vector(h.table, 2, 4)
	if n > maxMetadata {
		return fmt.Errorf("%d metadata keys, at most %d are allowed", n, maxMetadata)
	}
	bt.meta = make(map[string]string, n)
	for i := 0; i < n; i++ {
		kv := f.follow(first + 4*i)
		key, value := f.str(kv, 0), f.str(kv, 1)
		if len(key) > maxColName || len(value) > maxMetaText {
			return fmt.Errorf("metadata: a key of %d bytes, a value of %d, at most %d and %d are allowed", len(key), len(value), maxColName, maxMetaText)
		}
		k := string(key)
		if _, twice := bt.meta[k]; twice {
			return fmt.Errorf("metadata %s: is given twice", clip(k))
		}
		bt.meta[k] = string(value)
	}
	if f.bad {
		return errors.New("malformed metadata")
	}
	return nil
}

// readField reads what a schema says of one column.
func readField(f *flat, t int, c *column, depth int) error {
	name := f.str(t, 0)
	if len(name) > maxColName { // many names may share the same bytes: they must stay small
		return fmt.Errorf("a column's name has %d bytes, at most %d are allowed", len(name), maxColName)
	}
	c.name = string(name)
	c.typ = f.byteAt(t, 2)
	typ := f.table(t, 3)
	if f.bad || typ == 0 {
		return errors.New("malformed metadata")
	}
	if f.field(t, 4) != 0 {
		return fmt.Errorf("column %s: dictionaries are not read here", clip(c.name))
	}
	switch c.typ {
	case typeInt:
		c.a, c.b = f.intAt(typ, 0), int32(f.byteAt(typ, 1))
	case typeFloat:
		c.a = int32(f.shortAt(typ, 0))
	case typeFixedSizeBinary, typeFixedSizeList:
		c.a = f.intAt(typ, 0)
	case typeTimestamp:
		c.b = int32(f.shortAt(typ, 0))
	}
	first, n := f.vector(t, 5, 4)
	switch c.typ {
	case typeList, typeLargeList, typeFixedSizeList, typeMap:
		if n != 1 || depth > 2 {
			return fmt.Errorf("column %s: a list of %d types", clip(c.name), n)
		}
		c.child = new(column)
		return readField(f, f.follow(first), c.child, depth+1)
	}
	if n != 0 {
		return fmt.Errorf("column %s: nested type %d is not read here", clip(c.name), c.typ)
	}
	return nil
}

// layout hands the nodes and buffers of a record batch to the columns in order.
type layout struct {
	f               *flat
	body            []byte
	node, nodes     int // position of the next node, nodes left
	buffer, buffers int
}

func (bt *batch) readColumns(h ipcHead, body []byte, maxRows int) error {
	f := h.f
	rows := f.longAt(h.table, 0)
	if rows < 0 || rows > int64(maxRows) {
		return fmt.Errorf("%d rows, at most %d are allowed", rows, maxRows)
	}
	if f.field(h.table, 3) != 0 {
		return errors.New("compressed data is not read here")
	}
	bt.rows = int(rows)
	l := layout{f: f, body: body}
	l.node, l.nodes = f.vector(h.table, 1, 16)
	l.buffer, l.buffers = f.vector(h.table, 2, 16)
	for i := range bt.cols {
		c := &bt.cols[i]
		if err := l.read(c); err != nil {
			return fmt.Errorf("column %s: %w", clip(c.name), err)
		}
		if c.n != bt.rows {
			return fmt.Errorf("column %s: %d rows, want %d", clip(c.name), c.n, bt.rows)
		}
	}
	if f.bad {
		return errors.New("malformed metadata")
	}
	return nil
}

func (l *layout) read(c *column) error {
	if l.nodes == 0 {
		return errors.New("has no data")
	}
	n, nulls := l.f.i64(l.node), l.f.i64(l.node+8)
	l.node, l.nodes = l.node+16, l.nodes-1
	if n < 0 || nulls < 0 || nulls > n || n > MaxMessage {
		return fmt.Errorf("claims %d rows, %d missing", n, nulls)
	}
	c.n, c.nulls = int(n), int(nulls)
	if c.typ == typeNull {
		return nil
	}
	var err error
	if c.valid, err = l.next(); err != nil {
		return err
	}
	if nulls > 0 && int64(len(c.valid)) < (n+7)/8 {
		return fmt.Errorf("%d bytes say what is missing of %d rows", len(c.valid), n)
	}
	switch c.typ {
	case typeFixedSizeList:
		return l.read(c.child)
	case typeBinary, typeUtf8, typeLargeBinary, typeLargeUtf8:
		if c.offsets, err = l.next(); err != nil {
			return err
		}
		c.data, err = l.next()
		return err
	case typeList, typeLargeList, typeMap:
		if c.offsets, err = l.next(); err != nil {
			return err
		}
		return l.read(c.child)
	case typeInt, typeFloat, 6, 7, 8, 9, typeTimestamp, 11, typeFixedSizeBinary, typeDuration:
		c.data, err = l.next()
		return err
	}
	return fmt.Errorf("type %d is not read here", c.typ)
}

// next is the next buffer of the body.
func (l *layout) next() ([]byte, error) {
	if l.buffers == 0 {
		return nil, errors.New("has no data")
	}
	off, n := l.f.i64(l.buffer), l.f.i64(l.buffer+8)
	l.buffer, l.buffers = l.buffer+16, l.buffers-1
	if off < 0 || n < 0 || off > int64(len(l.body)) || n > int64(len(l.body))-off {
		return nil, fmt.Errorf("claims bytes %d+%d of %d", off, n, len(l.body))
	}
	return l.body[off : off+n], nil
}

// find is the column of a name, nil when absent.
func (bt *batch) find(name string) (*column, error) {
	var found *column
	for i := range bt.cols {
		if bt.cols[i].name == name {
			if found != nil {
				return nil, fmt.Errorf("column %s: is given twice", name)
			}
			found = &bt.cols[i]
		}
	}
	return found, nil
}

// fixed finds a column of a fixed width whose rows are all there in full.
func (bt *batch) fixed(name, want string, width int, is func(*column) bool) (*column, error) {
	c, err := bt.find(name)
	if err != nil || c == nil {
		return nil, err
	}
	if !is(c) {
		return nil, fmt.Errorf("column %s: want %s", name, want)
	}
	if len(c.data) < c.n*width {
		return nil, fmt.Errorf("column %s: %d bytes for %d rows of %d", name, len(c.data), c.n, width)
	}
	return c, nil
}

// present says that a column is there and misses nothing.
func present(name string, c *column, err error) error {
	switch {
	case err != nil:
		return err
	case c == nil:
		return fmt.Errorf("column %s: is missing", name)
	case c.nulls > 0:
		return fmt.Errorf("column %s: %d rows are null", name, c.nulls)
	}
	return nil
}

func (bt *batch) times(name string) ([]Time, error) {
	c, err := bt.fixed(name, "timestamp[ns]", 8, func(c *column) bool { return c.typ == typeTimestamp && c.b == unitNano })
	if err := present(name, c, err); err != nil {
		return nil, err
	}
	out := make([]Time, c.n)
	for i := range out {
		out[i] = Time(binary.LittleEndian.Uint64(c.data[8*i:]))
	}
	return out, nil
}

func (bt *batch) vms(name string) ([]VMID, error) {
	c, err := bt.fixed(name, "fixed_size_binary[16]", 16, func(c *column) bool { return c.typ == typeFixedSizeBinary && c.a == 16 })
	if err := present(name, c, err); err != nil {
		return nil, err
	}
	out := make([]VMID, c.n)
	for i := range out {
		copy(out[i][:], c.data[16*i:])
	}
	return out, nil
}

func (bt *batch) flags(name string) ([]Flags, error) {
	c, err := bt.fixed(name, "uint8", 1, func(c *column) bool { return c.typ == typeInt && c.a == 8 && c.b == 0 })
	if err := present(name, c, err); err != nil {
		return nil, err
	}
	out := make([]Flags, c.n)
	for i := range out {
		out[i] = Flags(c.data[i])
	}
	return out, nil
}

// floats reads an optional float32 column: nil when absent, NaN where null.
func (bt *batch) floats(name string) ([]float32, error) {
	c, err := bt.fixed(name, "float32", 4, func(c *column) bool { return c.typ == typeFloat && c.a == precisionSingle })
	if err != nil || c == nil {
		return nil, err
	}
	out := make([]float32, c.n)
	for i := range out {
		if c.null(i) {
			out[i] = NaN()
			continue
		}
		v := math.Float32frombits(binary.LittleEndian.Uint32(c.data[4*i:]))
		if IsNaN(v) || isInf32(v) {
			return nil, fmt.Errorf("column %s: row %d is %v; what is missing must be null", name, i, v)
		}
		out[i] = v
	}
	return out, nil
}

// required is a float32 column that must be there and miss nothing.
func (bt *batch) required(name string) ([]float32, error) {
	c, err := bt.find(name)
	if err := present(name, c, err); err != nil {
		return nil, err
	}
	return bt.floats(name)
}

// hosts reads a column of short names; a missing one is empty. A name that comes
// again shares its memory.
func (bt *batch) hosts(name string) ([]HostID, error) {
	c, err := bt.find(name)
	switch {
	case err != nil:
		return nil, err
	case c == nil:
		return nil, fmt.Errorf("column %s: is missing", name)
	case c.typ != typeUtf8:
		return nil, fmt.Errorf("column %s: want utf8", name)
	case c.n > 0 && len(c.offsets) < 4*(c.n+1):
		return nil, fmt.Errorf("column %s: %d bytes of offsets for %d rows", name, len(c.offsets), c.n)
	}
	out := make([]HostID, c.n)
	seen := make(map[string]HostID)
	for i := range out {
		if c.null(i) {
			continue
		}
		from, to := int32(binary.LittleEndian.Uint32(c.offsets[4*i:])), int32(binary.LittleEndian.Uint32(c.offsets[4*i+4:]))
		if from < 0 || to < from || int(to) > len(c.data) {
			return nil, fmt.Errorf("column %s: row %d claims bytes %d..%d of %d", name, i, from, to, len(c.data))
		}
		if to-from > 64 {
			return nil, fmt.Errorf("column %s: row %d has %d characters, at most 64 are allowed", name, i, to-from)
		}
		text := c.data[from:to]
		h, ok := seen[string(text)]
		if !ok {
			h = HostID(text)
			seen[string(h)] = h
		}
		out[i] = h
	}
	return out, nil
}

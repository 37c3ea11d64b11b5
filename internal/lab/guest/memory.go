package main

import "encoding/binary"

const (
	pageSize = 4096
	stride   = 512 // one word is written and checked in every stride of a page
)

// memory is the working set: pages written round robin, each checked against what
// was last written there before it is written again.
type memory struct {
	mem    []byte
	expect []uint64 // per page; 0 = never written
	pos    int
	n      uint64
	pages  int64 // checked and written
	bad    int64
}

func newMemory(mem []byte) *memory {
	return &memory{mem: mem, expect: make([]uint64, len(mem)/pageSize)}
}

// touch checks and rewrites the next page.
func (m *memory) touch() {
	page := m.mem[m.pos*pageSize : (m.pos+1)*pageSize]
	want := m.expect[m.pos]
	m.n++
	fresh := m.n*0x9E3779B97F4A7C15 | 1 // never zero, never twice the same in a run
	good := true
	for off := 0; off < pageSize; off += stride {
		w := page[off : off+8]
		if got := binary.LittleEndian.Uint64(w); want != 0 && got != want^uint64(off) {
			good = false
		}
		binary.LittleEndian.PutUint64(w, fresh^uint64(off))
	}
	if !good {
		m.bad++
	}
	m.expect[m.pos] = fresh
	m.pages++
	if m.pos++; m.pos == len(m.expect) {
		m.pos = 0
	}
}

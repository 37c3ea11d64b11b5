package window

import (
	"bytes"
	"cmp"
	"slices"
	"sort"
	"time"

	"github.com/apache/arrow/go/v17/arrow/memory"
	"github.com/foreshift/foreshift/schemas"
)

// Limits bound what an [Accumulator] takes.
type Limits struct {
	Base   time.Duration // length of the base step
	Late   int           // base steps back to which a sample may still correct its step
	Future time.Duration // how far ahead of stream time a sample may be
	VMs    int
}

// Counts says what became of the rows of messages folded so far.
type Counts struct {
	Rows      uint64 // taken
	Late      uint64 // taken for a step that was closed already
	TooLate   uint64 // dropped: older than the limit
	Future    uint64 // dropped: ahead of stream time
	Duplicate uint64 // dropped: seen before
	Invalid   uint64 // dropped: no interval, or nothing in it
	Full      uint64 // dropped: more VMs than the bound
	Known     uint64 // parts dropped: the step they belong to was made with them
	Standby   uint64 // dropped: a paused copy of a VM that runs elsewhere
}

// subslots divide a base step for telling late doubles from late news.
const subslots = 64

// cell gathers the samples of one VM in one base step that is not closed yet, or
// that is to be corrected.
type cell struct {
	step   schemas.Step
	stored int64  // newest stream time
	first  uint64 // lowest and highest sequence that went in; 0 = not told
	read   uint64
	newest schemas.Time // of the sample that gave host and allocation
	cover  float64      // share of the step covered, all columns
	max    [2]float32   // cpu, mem
	alloc  [2]float32
	host   schemas.HostID
	flags  schemas.Flags
	sum    [schemas.NumColumns]float64 // of value x share of the step
	missed [schemas.NumColumns]float64 // share of the step covered without a value: mostly zero and not touched
}

// weight is the share of the step that column k's mean stands for.
func (c *cell) weight(k int) float64 {
	if w := c.cover - c.missed[k]; w > 1e-12 {
		return w
	}
	return 0
}

// pending is what an accumulator keeps of one VM.
type pending struct {
	id     schemas.VMID
	latest schemas.Time   // newest sample
	host   schemas.HostID // where it was last seen not paused
	cells  []cell         // few: the open step, the one in its grace, late ones; sorted by step
	seenAt schemas.Step   // newest step of the ring
	seen   []uint64       // ring by step: which subslots are covered
	Recent
	part int
}

// Accumulator shares samples out over base steps. It knows metrics only: when a
// step closes is told by [Accumulator.Take].
type Accumulator struct {
	lim    Limits
	mem    memory.Allocator
	now    int64 // newest stream time of metrics, ns
	closed schemas.Step
	any    bool // closed is set
	byID   map[schemas.VMID]*pending
	parts  [schemas.Partitions][]*pending // sorted by id
	free   []*pending
	known  Known
	Counts Counts
}

// Known tells up to which sequence of the metrics a step of a partition has been made
// from them already: samples up to there are in it. 0 when nothing is known.
type Known func(part int, s schemas.Step) uint64

// NewAccumulator needs Base, Late and VMs above zero.
func NewAccumulator(mem memory.Allocator, lim Limits) *Accumulator {
	return &Accumulator{lim: lim, mem: mem, byID: map[schemas.VMID]*pending{}}
}

// Now is the newest stream time seen, ns; 0 before the first message.
func (a *Accumulator) Now() int64 { return a.now }

// Len is the number of VMs.
func (a *Accumulator) Len() int { return len(a.byID) }

// Fold takes the rows of a message that was stored at stream time stored (ns).
// Rows of the host itself (zero VMID) are not for forecasts and are passed over.
// It does not allocate once its VMs are known.
func (a *Accumulator) Fold(m *schemas.Metrics, stored int64) { a.FoldOf(m, stored, 0, nil) }

// SetKnown sets what is asked before a sample is added to a step.
func (a *Accumulator) SetKnown(k Known) { a.known = k }

// FoldOf is Fold of the message with sequence seq (0: not told) for the partitions
// that are true alone; nil is all.
func (a *Accumulator) FoldOf(m *schemas.Metrics, stored int64, seq uint64, of *[schemas.Partitions]bool) {
	a.now = max(a.now, stored)
	for i, id := range m.VM {
		if id.IsZero() || of != nil && !of[id.Partition()] {
			continue
		}
		a.row(m, i, id, stored, seq)
	}
}

func (a *Accumulator) row(m *schemas.Metrics, i int, id schemas.VMID, stored int64, seq uint64) {
	t := m.Time[i]
	width := int64(float64(m.IntervalS[i]) * 1e9)
	width = min(width, int64(a.lim.Base)*int64(a.lim.Late))
	last := schemas.StepAt(t-1, a.lim.Base) // (t-width, t]: a sample ending on a border belongs before it
	switch {
	case !(m.IntervalS[i] > 0) || width <= 0 || t <= 0:
		a.Counts.Invalid++
		return
	case int64(t) > stored+int64(a.lim.Future):
		a.Counts.Future++
		return
	case last < schemas.StepAt(schemas.Time(a.now), a.lim.Base)-schemas.Step(a.lim.Late):
		a.Counts.TooLate++
		return
	}
	p := a.byID[id]
	if p == nil {
		if len(a.byID) >= a.lim.VMs {
			a.Counts.Full++
			return
		}
		p = a.add(id)
	}
	if m.Flags[i]&schemas.FlagPaused != 0 && p.host != "" && p.host != m.Host {
		a.Counts.Standby++
		return
	}
	late := a.any && last <= a.closed
	// In open steps a double is the same time once more. For a closed step the exact
	// times are gone: news is what covers something that was not covered yet.
	switch {
	case !late && t > p.latest: // in order, as nearly always
	case late || !p.covers(t):
		if p.covered(t, width, last, a.lim) {
			a.Counts.Duplicate++
			return
		}
	case p.has(t):
		a.Counts.Duplicate++
		return
	}
	if late {
		a.Counts.Late++
	}
	a.Counts.Rows++
	if t >= p.latest && m.Flags[i]&schemas.FlagPaused == 0 {
		p.host = m.Host
	}
	p.latest = max(p.latest, t)
	p.insert(t, value(m, schemas.ColCPU, i), value(m, schemas.ColMem, i))
	a.share(p, m, i, t, width, last, stored, seq)
}

// value is a column's value in row i, NaN where the message has no such column.
func value(m *schemas.Metrics, c schemas.Column, i int) float32 {
	if m.Cols[c] == nil {
		return schemas.NaN()
	}
	return m.Cols[c][i]
}

// add makes room for a VM.
func (a *Accumulator) add(id schemas.VMID) *pending {
	var p *pending
	if n := len(a.free); n > 0 {
		p = a.free[n-1]
		a.free = a.free[:n-1]
		*p = pending{cells: p.cells[:0], seen: p.seen, Recent: p.Recent}
		clear(p.seen)
		p.reset()
	} else {
		p = &pending{cells: make([]cell, 0, 4), seen: make([]uint64, a.lim.Late+8), Recent: newRecent(a.mem)}
	}
	p.id, p.part = id, id.Partition()
	a.byID[id] = p
	list := a.parts[p.part]
	i := sort.Search(len(list), func(i int) bool { return bytes.Compare(list[i].id[:], id[:]) >= 0 })
	list = append(list, nil)
	copy(list[i+1:], list[i:])
	list[i] = p
	a.parts[p.part] = list
	return p
}

// share adds the sample's overlap to each base step it touches.
func (a *Accumulator) share(p *pending, m *schemas.Metrics, i int, t schemas.Time, width int64, last schemas.Step, stored int64, seq uint64) {
	lim := a.lim
	from := t - schemas.Time(width)
	for s := last; ; s-- {
		lo, hi := max(from, s.Start(lim.Base)), min(t, s.End(lim.Base))
		if hi <= lo {
			return
		}
		oldest := schemas.StepAt(schemas.Time(stored), lim.Base) - schemas.Step(lim.Late)
		if s < oldest {
			return
		}
		if seq != 0 && a.known != nil && seq <= a.known(p.part, s) {
			a.Counts.Known++
			continue
		}
		f := float64(hi-lo) / float64(lim.Base)
		c := p.cell(s)
		for k := range m.Cols {
			if col := m.Cols[k]; col != nil {
				if v := col[i]; v == v {
					c.sum[k] += float64(v) * f
					continue
				}
			}
			if col := schemas.Column(k); col != schemas.ColCPUMax && col != schemas.ColMemMax {
				c.missed[k] += f
			}
		}
		// The highest sample is one that ended here or filled at least half the step.
		if s == last || f >= .5 {
			c.max[0] = larger(c.max[0], value(m, schemas.ColCPU, i))
			c.max[1] = larger(c.max[1], value(m, schemas.ColMem, i))
		}
		c.cover += f
		c.flags |= m.Flags[i]
		c.stored = max(c.stored, stored)
		c.read = max(c.read, seq)
		if c.first == 0 || seq < c.first {
			c.first = seq
		}
		if t >= c.newest {
			c.newest, c.host = t, m.Host
			c.alloc = [2]float32{m.AllocCPU[i], m.AllocMem[i]}
		}
		p.mark(s, lo, hi, lim.Base)
	}
}

// cell finds or makes the cell of step s; the newest is last.
func (p *pending) cell(s schemas.Step) *cell {
	i := len(p.cells)
	for i > 0 && p.cells[i-1].step > s {
		i--
	}
	if i > 0 && p.cells[i-1].step == s {
		return &p.cells[i-1]
	}
	p.cells = append(p.cells, cell{})
	copy(p.cells[i+1:], p.cells[i:])
	nan := schemas.NaN()
	p.cells[i] = cell{step: s, max: [2]float32{nan, nan}, alloc: [2]float32{nan, nan}}
	return &p.cells[i]
}

// larger is the maximum where NaN is missing.
func larger(a, b float32) float32 {
	if a != a || b > a {
		return b
	}
	return a
}

// row makes the closed row of a cell.
func (p *pending) row(c *cell, dst *Row) {
	*dst = Row{VM: p.id, Host: c.host, Step: c.step, Coverage: float32(min(1, c.cover)), Flags: c.flags,
		AllocCPU: c.alloc[0], AllocMem: c.alloc[1], Stored: c.stored, First: c.first, Read: c.read}
	for k := range c.sum {
		dst.V[k] = schemas.NaN()
		if w := c.weight(k); w > 0 {
			dst.V[k] = float32(c.sum[k] / w)
			dst.Weight[k] = float32(min(1, w))
		}
	}
	dst.V[schemas.ColCPUMax], dst.V[schemas.ColMemMax] = c.max[0], c.max[1]
}

// Take hands out what was gathered for the steps up to and including upTo of the
// VMs of partition part, by step and id, appended to dst, and forgets it. Samples
// that come later for those steps are gathered anew, as corrections.
func (a *Accumulator) Take(part int, upTo schemas.Step, dst []Row) []Row {
	from := len(dst)
	for _, p := range a.parts[part] {
		n := 0
		for n < len(p.cells) && p.cells[n].step <= upTo {
			dst = append(dst, Row{})
			p.row(&p.cells[n], &dst[len(dst)-1])
			n++
		}
		p.cells = append(p.cells[:0], p.cells[n:]...)
	}
	slices.SortStableFunc(dst[from:], func(a, b Row) int { return cmp.Compare(a.Step, b.Step) })
	return dst
}

// Close says that steps up to and including s are closed everywhere: from now on
// samples for them are late. It never goes back.
func (a *Accumulator) Close(s schemas.Step) {
	if !a.any || s > a.closed {
		a.any, a.closed = true, s
	}
}

// Drop forgets the VMs of a partition.
func (a *Accumulator) Drop(part int) {
	for _, p := range a.parts[part] {
		delete(a.byID, p.id)
		a.free = append(a.free, p)
	}
	clear(a.parts[part])
	a.parts[part] = a.parts[part][:0]
}

// Oldest is the oldest step with something gathered; ok is false when there is none.
func (a *Accumulator) Oldest() (s schemas.Step, ok bool) {
	for _, list := range a.parts {
		for _, p := range list {
			if len(p.cells) > 0 && (!ok || p.cells[0].step < s) {
				s, ok = p.cells[0].step, true
			}
		}
	}
	return s, ok
}

// Evict forgets VMs without a sample for more than Rows steps before now.
func (a *Accumulator) Evict(now schemas.Step) {
	limit := (now - Rows).Start(a.lim.Base)
	for i, list := range a.parts {
		kept := list[:0]
		for _, p := range list {
			if p.latest >= limit {
				kept = append(kept, p)
				continue
			}
			delete(a.byID, p.id)
			a.free = append(a.free, p)
		}
		clear(list[len(kept):])
		a.parts[i] = kept
	}
}

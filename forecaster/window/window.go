package window

import (
	"fmt"
	"math"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/memory"
	"github.com/foreshift/foreshift/schemas"
)

// Rows is the length of a window: 8 days of base steps.
const Rows = 8 * schemas.StepsPerDay

// slack is how many rows may be appended between two memmoves.
// More would make appends cheaper and every VM larger.
const slack = schemas.StepsPerDay / 3

// stride is the length of a column's memory.
const stride = Rows + slack

// base is the number of columns every window has; the others (app_ms, psi, swap)
// are allocated when their first value comes.
const base = int(schemas.ColAppMs)

// Row is one VM's base step. V[c] is NaN where column c is missing.
type Row struct {
	VM       schemas.VMID
	Host     schemas.HostID
	Step     schemas.Step
	Revision int
	Coverage float32 // share of the step that samples covered, 0..1
	Flags    schemas.Flags
	AllocCPU float32 // mCPU; NaN = unknown
	AllocMem float32 // bytes; NaN = unknown
	V        [schemas.NumColumns]float32
	// Weight is the share of the step each column's mean stands for. Windows keep
	// one share a row (Coverage); an accumulator knows it per column.
	Weight [schemas.NumColumns]float32
	Stored int64 // ns, stream time of the newest message that went in
	// First and Read are the sequences of the first and of the newest message that went
	// in; 0 = not told.
	First, Read uint64
}

// Window is the sliding past of one VM. The zero value is not usable: see [New].
// It is not safe for concurrent use; views alias its memory.
type Window struct {
	end   int            // rows in use, including those about to slide out
	first schemas.Step   // step of physical row 0
	flat  []float32      // the base columns, one after the other
	side  *memory.Buffer // cov, rev, flags in one buffer
	cov   []uint16       // coverage in 1/65535
	rev   []uint8
	flags []uint8
	more  bool // an optional column is allocated
	mem   memory.Allocator
	whole *memory.Buffer // of flat
	buf   [schemas.NumColumns]*memory.Buffer
	col   [schemas.NumColumns][]float32
}

// New allocates an empty window of Rows steps.
func New(mem memory.Allocator) *Window {
	w := &Window{mem: mem}
	const n = stride
	w.whole = memory.NewResizableBuffer(mem)
	w.whole.Resize(base * n * arrow.Float32SizeBytes)
	w.flat = arrow.Float32Traits.CastFromBytes(w.whole.Bytes())
	for c := 0; c < base; c++ {
		w.buf[c] = memory.SliceBuffer(w.whole, c*n*arrow.Float32SizeBytes, n*arrow.Float32SizeBytes)
		w.col[c] = w.flat[c*n : (c+1)*n : (c+1)*n]
	}
	w.side = memory.NewResizableBuffer(mem)
	w.side.Resize(n * 4)
	b := w.side.Bytes()
	w.cov = arrow.Uint16Traits.CastFromBytes(b[:2*n])
	w.rev, w.flags = b[2*n:3*n], b[3*n:4*n]
	return w
}

// grow allocates the optional column c, all missing.
func (w *Window) grow(c int) {
	w.more = true
	w.buf[c] = memory.NewResizableBuffer(w.mem)
	w.buf[c].Resize(stride * arrow.Float32SizeBytes)
	w.col[c] = arrow.Float32Traits.CastFromBytes(w.buf[c].Bytes())
	fillNaN(w.col[c][:w.end])
}

// Reset empties the window for another VM and gives optional columns back.
func (w *Window) Reset() {
	w.end, w.first, w.more = 0, 0, false
	for c := base; c < schemas.NumColumns; c++ {
		if w.buf[c] != nil {
			w.buf[c].Release()
			w.buf[c], w.col[c] = nil, nil
		}
	}
}

// Release gives all memory back; the window is unusable after.
func (w *Window) Release() {
	w.Reset()
	for c := 0; c < base; c++ {
		w.buf[c].Release()
		w.buf[c], w.col[c] = nil, nil
	}
	w.whole.Release()
	w.side.Release()
	w.whole, w.flat = nil, nil
	w.side, w.cov, w.rev, w.flags = nil, nil, nil, nil
}

// Len is the number of rows, gaps included, at most [Rows].
func (w *Window) Len() int { return min(w.end, Rows) }

// Last is the newest step; meaningless when Len is 0.
func (w *Window) Last() schemas.Step { return w.first + schemas.Step(w.end-1) }

// First is the oldest step of the view; meaningless when Len is 0.
func (w *Window) First() schemas.Step { return w.first + schemas.Step(w.end-w.Len()) }

// Put writes a row at its step: appended when newer than all (a gap becomes rows of
// NaN), written over when within the window, refused (false) when older than the
// window reaches. It does not allocate, but for the first value of an optional
// column. O(1) amortised for appends and rewrites.
func (w *Window) Put(r *Row) bool {
	i, ok := w.place(r.Step)
	if !ok {
		return false
	}
	f := w.flat[i:]
	for c := 0; c < base; c++ {
		f[c*stride] = r.V[c]
	}
	for c := base; c < schemas.NumColumns; c++ {
		if v := r.V[c]; v == v || w.more {
			w.optional(c, i, v)
		}
	}
	w.cov[i] = quantise(r.Coverage)
	w.rev[i] = uint8(min(r.Revision, math.MaxUint8))
	w.flags[i] = uint8(r.Flags)
	return true
}

func (w *Window) optional(c, i int, v float32) {
	if w.col[c] == nil {
		if v != v {
			return
		}
		w.grow(c)
	}
	w.col[c][i] = v
}

// place makes room for step s and gives its physical row, which the caller writes
// in all columns.
func (w *Window) place(s schemas.Step) (int, bool) {
	next := w.first + schemas.Step(w.end)
	if w.end == 0 || s >= next+Rows {
		w.first, w.end = s, 1
		return 0, true
	}
	if s >= next {
		gap := int(s-next) + 1
		if w.end+gap > Rows+slack {
			w.slide(gap)
		}
		i := w.end + gap - 1
		if gap > 1 {
			w.blank(w.end, i)
		}
		w.end = i + 1
		return i, true
	}
	if s <= w.Last()-Rows {
		return 0, false
	}
	if s < w.first {
		w.unshift(int(w.first - s))
	}
	return int(s - w.first), true
}

// slide drops the oldest rows so that gap rows fit behind the newest Rows-gap.
func (w *Window) slide(gap int) {
	keep := max(Rows-gap, 0)
	from := w.end - keep
	for c := range w.col {
		if w.col[c] != nil {
			copy(w.col[c], w.col[c][from:w.end])
		}
	}
	copy(w.cov, w.cov[from:w.end])
	copy(w.rev, w.rev[from:w.end])
	copy(w.flags, w.flags[from:w.end])
	w.first += schemas.Step(from)
	w.end = keep
}

// unshift makes room for n rows before the first (history that came after). The
// caller has checked that all fit in Rows.
func (w *Window) unshift(n int) {
	for c := range w.col {
		if w.col[c] != nil {
			copy(w.col[c][n:n+w.end], w.col[c][:w.end])
		}
	}
	copy(w.cov[n:n+w.end], w.cov[:w.end])
	copy(w.rev[n:n+w.end], w.rev[:w.end])
	copy(w.flags[n:n+w.end], w.flags[:w.end])
	w.blank(0, n)
	w.end += n
	w.first -= schemas.Step(n)
}

// blank makes physical rows lo..hi-1 missing.
func (w *Window) blank(lo, hi int) {
	for c := range w.col {
		if w.col[c] != nil {
			fillNaN(w.col[c][lo:hi])
		}
	}
	clear(w.cov[lo:hi])
	clear(w.rev[lo:hi])
	clear(w.flags[lo:hi])
}

// Get reads the row at step s into r (V, Coverage, Revision, Flags, Weight); false
// when the window holds nothing for it.
func (w *Window) Get(s schemas.Step, r *Row) bool {
	if w.end == 0 || s > w.Last() || s < w.First() {
		return false
	}
	i := int(s - w.first)
	if w.cov[i] == 0 {
		return false
	}
	r.Step = s
	r.Coverage = float32(w.cov[i]) / math.MaxUint16
	r.Revision = int(w.rev[i])
	r.Flags = schemas.Flags(w.flags[i])
	for c := range w.col {
		r.V[c], r.Weight[c] = schemas.NaN(), 0
		if w.col[c] != nil {
			r.V[c], r.Weight[c] = w.col[c][i], r.Coverage
		}
	}
	return true
}

// Bytes is the memory the window holds in its Arrow buffers.
func (w *Window) Bytes() int {
	n := w.side.Cap() + w.whole.Cap()
	for _, b := range w.buf[base:] {
		if b != nil {
			n += b.Cap()
		}
	}
	return n
}

// quantise maps a share 0..1 to 1/65535; a row that exists never has 0.
func quantise(share float32) uint16 {
	if !(share > 0) {
		return 1
	}
	return uint16(max(1, min(share, 1)*math.MaxUint16+.5))
}

// Merge folds a correction into the row that was closed before: means weighted by
// what each covered, the higher maximum, flags united, coverage added up to 1.
func (r *Row) Merge(late *Row) error {
	if r.Step != late.Step {
		return fmt.Errorf("window: merge step %d into step %d", late.Step, r.Step)
	}
	for c := range r.V {
		switch v := late.V[c]; {
		case v != v:
		case r.V[c] != r.V[c]:
			r.V[c], r.Weight[c] = v, late.Weight[c]
		case schemas.Column(c) == schemas.ColCPUMax || schemas.Column(c) == schemas.ColMemMax:
			r.V[c] = max(r.V[c], v)
		default:
			a, b := float64(r.Weight[c]), float64(late.Weight[c])
			if a+b > 0 {
				r.V[c] = float32((float64(r.V[c])*a + float64(v)*b) / (a + b))
			}
			r.Weight[c] += late.Weight[c]
		}
	}
	r.Coverage = min(1, r.Coverage+late.Coverage)
	r.Flags |= late.Flags
	r.Stored = max(r.Stored, late.Stored)
	return nil
}

func fillNaN(v []float32) {
	nan := schemas.NaN()
	for i := range v {
		v[i] = nan
	}
}

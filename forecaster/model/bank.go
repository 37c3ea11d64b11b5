package model

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/cespare/xxhash/v2"
	"github.com/foreshift/foreshift/forecaster/window"
	"github.com/foreshift/foreshift/schemas"
)

// Key names one series: the demand of a VM for a resource.
type Key struct {
	VM       schemas.VMID
	Resource schemas.Resource
}

// Hash is xxhash64 of the key: what sampling and scheduling by key go by.
func (k Key) Hash() uint64 {
	var b [17]byte
	copy(b[:], k.VM[:])
	b[16] = byte(k.Resource)
	return xxhash.Sum64(b[:])
}

// Regressors are series known for the past and the future (calendar, external):
// X[j][n] is the value of regressor j at step From+n; NaN = unknown. Of tells which
// of them concern which series. A bank may keep them until the next Observe; nobody
// changes their contents.
type Regressors struct {
	From schemas.Step
	X    [][]float32
	Of   [][]Term // by index of the bank; short or nil: nothing concerns the rest
}

// Term is one regressor of a series. Where it is not Numeric, X is a share of the
// demand of the step: coefficient b multiplies demand by 1 + b*X. Numeric ones have
// a unit of their own and are standardised by who uses them.
type Term struct {
	X       int     // index into Regressors.X
	Class   uint64  // not 0: terms of one class share what is learnt of their effect
	Mean    float32 // coefficient to expect before any evidence
	Numeric bool
}

// Bank is one model over many series.
type Bank interface {
	// Add makes room for a series and gives its index, which Remove gives back.
	Add(Key) int
	Remove(i int)
	// Observe tells the demand at a step of all series: y[i] for index i, NaN =
	// missing; indices beyond len(y) are missing. Steps rise; steps left out are
	// missing. O(1) a series, no allocation.
	Observe(s schemas.Step, y []float32, known Regressors)
	// Forecast writes the distribution of series i on grid g into dst; NaN where it
	// has nothing to go by. No allocation.
	Forecast(i int, g schemas.Grid, known Regressors, dst *schemas.Dist)
	// Refit learns from the window up to the last step at which the series was [Due];
	// rows after it only complete the last day. Same window, same outcome, whenever
	// it is called between two due steps.
	Refit(i int, w window.View, seed uint64) error
	AppendState(b []byte) []byte
	LoadState(b []byte) error
}

// Experts is a bank whose parts can be asked one by one.
type Experts interface {
	Bank
	// Names of the experts, in their order.
	Names() []string
	// Expert is Forecast by expert e alone; false when it has nothing to go by.
	Expert(i, e int, g schemas.Grid, known Regressors, dst *schemas.Dist) bool
}

// RefitEvery is the number of base steps between two refits of a series with more
// than a day of history; a younger one is refitted every YoungRefit steps.
const (
	RefitEvery = 24
	YoungRefit = 3
)

// RefitRows is the number of newest rows a refit looks at: short of the window by
// one period, so that a refit repeated later from a window that slid on sees the
// same rows.
const RefitRows = window.Rows - RefitEvery

// learnable cuts the series off at its due step and to RefitRows.
func learnable(k Key, w *window.View, x []float32) (cut []float32, last schemas.Step) {
	last = Due(k, w.First, w.Last())
	cut = x[:max(0, len(x)-int(w.Last()-last))]
	if len(cut) > RefitRows {
		cut = cut[len(cut)-RefitRows:]
	}
	return cut, last
}

// Due is the last step at or before now at which a series is refitted whose history
// begins at first.
func Due(key Key, first, now schemas.Step) schemas.Step {
	h := schemas.Step(key.Hash() % RefitEvery)
	for s := now; s > now-RefitEvery; s-- {
		every := schemas.Step(RefitEvery)
		if s-first < schemas.StepsPerDay {
			every = YoungRefit
		}
		if (s+h)%every == 0 {
			return s
		}
	}
	return now
}

// ring keeps the last day of every series of a bank: value of step s at s % day.
type ring struct {
	keys []Key
	used []bool
	free []int
	last schemas.Step
	any  bool
	y    []float32 // n x day
}

const day = schemas.StepsPerDay

func (r *ring) add(k Key) (i int, fresh bool) {
	if n := len(r.free); n > 0 {
		i = r.free[n-1]
		r.free = r.free[:n-1]
		r.keys[i], r.used[i] = k, true
		fill(r.y[i*day : (i+1)*day])
		return i, false
	}
	i = len(r.keys)
	r.keys, r.used = append(r.keys, k), append(r.used, true)
	r.y = append(r.y, make([]float32, day)...)
	fill(r.y[i*day:])
	return i, true
}

func (r *ring) remove(i int) {
	if i < 0 || i >= len(r.used) || !r.used[i] {
		return
	}
	r.used[i] = false
	r.keys[i] = Key{}
	r.free = append(r.free, i)
}

func (r *ring) observe(s schemas.Step, y []float32) {
	if r.any && s < r.last-day+1 {
		return
	}
	if !r.any {
		r.last, r.any = s-1, true
	}
	for g := max(r.last+1, s-day+1); g <= s; g++ { // what lay between is missing
		p := int(g % day)
		for i := range r.keys {
			r.y[i*day+p] = schemas.NaN()
		}
	}
	p := int(s % day)
	for i := range y {
		if i < len(r.keys) && r.used[i] {
			r.y[i*day+p] = y[i]
		}
	}
	r.last = max(r.last, s)
}

// refill takes the last day of series i from its window, whose newest row is at or
// before the last observed step.
func (r *ring) refill(i int, x []float32, last schemas.Step) {
	if !r.any {
		r.last, r.any = last, true
	}
	for n := 0; n < min(day, len(x)); n++ {
		s := last - schemas.Step(n)
		if s <= r.last && s > r.last-day {
			r.y[i*day+int(s%day)] = x[len(x)-1-n]
		}
	}
}

// tail copies the newest n values of series i, missing ones left out, into dst.
func (r *ring) tail(i, n int, dst []float32) []float32 {
	dst = dst[:0]
	for k := 0; k < n; k++ {
		s := r.last - schemas.Step(k)
		if s < 0 {
			break
		}
		if v := r.y[i*day+int(s%day)]; v == v {
			dst = append(dst, v)
		}
	}
	return dst
}

// at is the value of series i at step s of the last day, NaN outside it.
func (r *ring) at(i int, s schemas.Step) float32 {
	if s > r.last || s <= r.last-day || s < 0 {
		return schemas.NaN()
	}
	return r.y[i*day+int(s%day)]
}

const stateVersion = 1

// appendState writes the ring and n floats a series from each table.
func (r *ring) appendState(b []byte, tables ...[]float32) []byte {
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
	for _, t := range append([][]float32{r.y}, tables...) {
		b = binary.LittleEndian.AppendUint32(b, uint32(len(t)))
		for _, v := range t {
			b = binary.LittleEndian.AppendUint32(b, math.Float32bits(v))
		}
	}
	return b
}

// loadState reads what appendState wrote.
func (r *ring) loadState(b []byte, tables ...*[]float32) error {
	d := decoder{b: b}
	if v := d.byte(); v != stateVersion {
		return fmt.Errorf("model state: version %d, want %d", v, stateVersion)
	}
	if n := int(d.byte()); n != len(tables) {
		return fmt.Errorf("model state: %d tables, want %d", n, len(tables))
	}
	var n ring
	n.last = schemas.Step(d.uint64())
	n.any = d.byte() != 0
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
	read := make([][]float32, len(tables)+1)
	for t := range read {
		size := d.count(4)
		read[t] = make([]float32, size)
		for i := range read[t] {
			read[t][i] = math.Float32frombits(d.uint32())
		}
	}
	if d.short || len(d.b) != 0 {
		return fmt.Errorf("model state: truncated or %d bytes too long", len(d.b))
	}
	if len(read[0]) != len(n.keys)*day {
		return fmt.Errorf("model state: %d values for %d series", len(read[0]), len(n.keys))
	}
	for t, dst := range tables {
		if per := len(*dst); len(n.keys) > 0 && len(read[t+1])%len(n.keys) != 0 {
			return fmt.Errorf("model state: table %d has %d values for %d series (had %d)", t, len(read[t+1]), len(n.keys), per)
		}
	}
	for t, dst := range tables {
		*dst = read[t+1]
	}
	n.y = read[0]
	*r = n
	return nil
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

func fill(v []float32) {
	nan := schemas.NaN()
	for i := range v {
		v[i] = nan
	}
}

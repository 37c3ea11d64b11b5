package lstm

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"

	"github.com/foreshift/foreshift/forecaster/model"
	"github.com/foreshift/foreshift/forecaster/window"
	"github.com/foreshift/foreshift/schemas"
)

// Bank is the network over many series: a model.Experts of one expert. It keeps
// [StateBytes] a series.
type Bank struct {
	w    *Weights
	keys []model.Key
	used []bool
	free []int
	seen []int32        // steps lived through, at most day
	at   []schemas.Step // last step seen
	cell []float32      // n x cellSize
	last schemas.Step   // last step observed
	any  bool

	f      frame
	v, z   []float32
	out    []float32
	x, tmp []float32
}

var _ model.Experts = (*Bank)(nil)

// New makes an empty bank with the weights built in. It panics if those are damaged,
// which a test rules out.
func New() *Bank {
	w, err := Default()
	if err != nil {
		panic(err)
	}
	return NewBank(w)
}

// NewBank makes an empty bank that forecasts with w.
func NewBank(w *Weights) *Bank {
	return &Bank{w: w, v: make([]float32, columns), z: make([]float32, gates), out: make([]float32, outputs),
		x: make([]float32, 0, window.Rows), tmp: make([]float32, window.Rows)}
}

// SetWeights goes over to other weights; memories are kept and adapt within a few
// steps. The bank does not change w, which must not change either.
func (b *Bank) SetWeights(w *Weights) { b.w = w }

// Names implements model.Experts.
func (b *Bank) Names() []string { return names }

var names = []string{"lstm"}

// Add implements model.Bank.
func (b *Bank) Add(k model.Key) int {
	var i int
	if n := len(b.free); n > 0 {
		i = b.free[n-1]
		b.free = b.free[:n-1]
	} else {
		i = len(b.keys)
		b.keys, b.used = append(b.keys, model.Key{}), append(b.used, false)
		b.seen, b.at = append(b.seen, 0), append(b.at, 0)
		b.cell = model.Grown(b.cell, i, cellSize)
	}
	b.keys[i], b.used[i], b.seen[i], b.at[i] = k, true, 0, b.last
	b.of(i).clear()
	return i
}

// Remove implements model.Bank.
func (b *Bank) Remove(i int) {
	if b.known(i) {
		b.used[i], b.keys[i] = false, model.Key{}
		b.free = append(b.free, i)
	}
}

func (b *Bank) of(i int) cell       { return b.cell[i*cellSize : (i+1)*cellSize] }
func (b *Bank) known(i int) bool    { return i >= 0 && i < len(b.used) && b.used[i] }
func (b *Bank) young(i, n int) bool { return int(b.seen[i]) < min(n, warm) }

// warm is the number of rows that a series new to the bank is led through by its first
// refit: the length of the chunks the network was trained on.
const warm = chunk

// maxGap is the number of missing steps after which more of them tell nothing.
const maxGap = 2 * recent

// Observe implements model.Bank: one step of the network a series, about 2 us.
func (b *Bank) Observe(s schemas.Step, y []float32, _ model.Regressors) {
	if b.any && s <= b.last || s < 0 {
		return
	}
	b.last, b.any = s, true
	for i, used := range b.used {
		if !used || s <= b.at[i] && b.seen[i] > 0 {
			continue
		}
		v := schemas.NaN()
		if i < len(y) {
			v = y[i]
		}
		if b.seen[i] == 0 && v != v {
			continue
		}
		if b.seen[i] > 0 {
			b.skip(i, s)
		}
		b.live(i, s, v)
	}
}

// skip lives through the steps that were left out before s.
func (b *Bank) skip(i int, s schemas.Step) {
	if gap := s - b.at[i] - 1; gap >= block { // hours nobody saw are not yesterday's
		c := b.of(i)
		for k := range min(gap/block, blocks) {
			at := int((b.at[i]/block + k) % blocks)
			c[atHour+at], c[atMax+at] = schemas.NaN(), schemas.NaN()
		}
	}
	if s-b.at[i] > maxGap {
		fill(b.of(i)[atRecent : atRecent+recent])
	}
	for g := max(b.at[i]+1, s-maxGap); g < s; g++ {
		b.live(i, g, schemas.NaN())
	}
}

func (b *Bank) live(i int, s schemas.Step, y float32) {
	if y-y != 0 || y < 0 { // neither infinite nor negative is a demand
		y = schemas.NaN()
	}
	c := b.of(i)
	c.see(s, y)
	c.look(b.w, s, b.keys[i].Resource, b.v, b.z)
	b.at[i] = s
	b.seen[i] = min(b.seen[i]+1, day)
}

// Refit implements model.Bank: quantiles, shapes of the day and the week and units
// anew, about 0.1 ms. A series that the bank has not lived with yet is led through the
// newest rows first, another 0.5 ms: its memory is then within a few hundredths of
// one carried on (the network forgets), so a restart needs no state. The fit does not
// depend on the seed.
func (b *Bank) Refit(i int, w window.View, _ uint64) error {
	if !b.known(i) {
		return fmt.Errorf("lstm: refit of unknown series %d", i)
	}
	if w.N == 0 {
		return nil
	}
	x := w.Series(b.keys[i].Resource, b.x)
	for k, v := range x {
		if v-v != 0 || v < 0 {
			x[k] = schemas.NaN()
		}
	}
	c := b.of(i)
	learnt, due := cut(b.keys[i], w.First, w.Last(), x)
	if b.young(i, len(x)) {
		c.clear()
		c.refresh(learnt, due, b.tmp)
		b.replay(i, x, w.First)
		return nil
	}
	c.refresh(learnt, due, b.tmp)
	return nil
}

// replay leads series i through its newest rows: the hours of the last two days, and
// the network through the last of them.
func (b *Bank) replay(i int, x []float32, first schemas.Step) {
	c := b.of(i)
	n := len(x)
	b.seen[i] = 0
	for k := max(0, n-2*day); k < n; k++ {
		s := first + schemas.Step(k)
		if k >= n-warm {
			b.live(i, s, x[k])
		} else {
			c.see(s, x[k])
		}
	}
	b.seen[i] = int32(min(n, day))
	if !b.any {
		b.last, b.any = b.at[i], true
	}
}

// Forecast implements model.Bank.
func (b *Bank) Forecast(i int, g schemas.Grid, known model.Regressors, dst *schemas.Dist) {
	b.Expert(i, 0, g, known, dst)
}

// Expert implements model.Experts. Slots of several steps are asked for at their
// middle; between the leads that the head is trained for, its shares and bends are
// interpolated by the logarithm of the lead.
func (b *Bank) Expert(i, _ int, g schemas.Grid, _ model.Regressors, dst *schemas.Dist) bool {
	if !b.begin(i) {
		fill(dst.Q)
		return false
	}
	ahead := int(g.Start - b.at[i] - 1)
	any := false
	for s := range schemas.Slots {
		lead := ahead + schemas.SlotOffset(s) + (schemas.SlotLen(s)+1)/2
		any = b.quantiles(lead, (*row)(dst.At(s))) || any
	}
	return any
}

// StepQuantiles writes the quantiles at levels, rising within .01 to .99, of n steps
// from from on into dst [n x len(levels)]; false when there is nothing to go by.
func (b *Bank) StepQuantiles(i int, from schemas.Step, n int, at []float32, dst []float32) bool {
	if !b.begin(i) {
		return false
	}
	ahead := int(from - b.at[i])
	any := false
	for h := range n {
		var q row
		any = b.quantiles(ahead+h, &q) || any
		d := schemas.Dist{Q: q[:]}
		for l, p := range at {
			dst[h*len(at)+l] = d.Quantile(0, p)
		}
	}
	return any
}

// WindowMax writes the quantiles, at schemas.Levels, of the maximum over the next
// 12, 72 or 288 steps (which = 0, 1, 2) into dst; false when it knows nothing.
func (b *Bank) WindowMax(i, which int, dst []float32) bool {
	fill(dst)
	if which < 0 || which >= len(maxima) || !b.begin(i) || !b.f.top(maxima[which]) {
		return false
	}
	q := (*row)(dst)
	b.f.mix(b.out[(len(horizons)+which)*perTarget:], q)
	return tidy(q)
}

// begin asks the head about series i.
func (b *Bank) begin(i int) bool {
	if !b.known(i) || b.seen[i] == 0 {
		return false
	}
	c := b.of(i)
	b.w.ask(c[atH:atH+Hidden], b.out)
	shares(b.out)
	b.f.look(c, b.at[i])
	return true
}

// logLead is ln of each lead up to a day and a bit.
var logLead = func() (t [2*day + 1]float32) {
	for h := 1; h < len(t); h++ {
		t[h] = float32(math.Log(float64(h)))
	}
	return t
}()

// quantiles of the demand lead steps after the last seen.
func (b *Bank) quantiles(lead int, q *row) bool {
	lead = min(max(lead, 1), 2*day)
	if !b.f.lead(lead) {
		fill(q[:])
		return false
	}
	t := 0
	for t+2 < len(horizons) && lead > horizons[t+1] {
		t++
	}
	x := (logLead[lead] - logLead[horizons[t]]) / (logLead[horizons[t+1]] - logLead[horizons[t]])
	x = min(max(x, 0), 1)
	var out [perTarget]float32
	near, far := b.out[t*perTarget:(t+1)*perTarget], b.out[(t+1)*perTarget:(t+2)*perTarget]
	for k := range out {
		out[k] = near[k] + x*(far[k]-near[k])
	}
	b.f.mix(out[:], q)
	return tidy(q)
}

// tidy sorts the quantiles, which cross now and then, and lifts them to zero; those
// of values too large for float32 are missing.
func tidy(q *row) bool {
	for l, v := range q {
		if v-v != 0 {
			fill(q[:])
			return false
		}
		v = max(v, 0)
		k := l
		for ; k > 0 && q[k-1] > v; k-- {
			q[k] = q[k-1]
		}
		q[k] = v
	}
	return true
}

const stateVersion = 1

// AppendState implements model.Bank. The weights are not part of it.
func (b *Bank) AppendState(p []byte) []byte {
	le := binary.LittleEndian
	p = append(p, stateVersion)
	p = le.AppendUint16(p, cellSize)
	p = le.AppendUint64(p, uint64(b.last))
	p = append(p, flag(b.any))
	p = le.AppendUint32(p, uint32(len(b.keys)))
	for i, k := range b.keys {
		p = append(p, k.VM[:]...)
		p = append(p, byte(k.Resource), flag(b.used[i]))
		p = le.AppendUint32(p, uint32(b.seen[i]))
		p = le.AppendUint64(p, uint64(b.at[i]))
		for _, v := range b.of(i) {
			p = le.AppendUint32(p, math.Float32bits(v))
		}
	}
	p = le.AppendUint32(p, uint32(len(b.free)))
	for _, f := range b.free {
		p = le.AppendUint32(p, uint32(f))
	}
	return p
}

func flag(v bool) byte {
	if v {
		return 1
	}
	return 0
}

// LoadState implements model.Bank; on an error the bank is as it was.
func (b *Bank) LoadState(p []byte) error {
	const head, each = 1 + 2 + 8 + 1 + 4, 16 + 2 + 4 + 8 + 4*cellSize
	le := binary.LittleEndian
	if len(p) < head || p[0] != stateVersion || le.Uint16(p[1:]) != cellSize {
		return fmt.Errorf("lstm state: %d bytes are not version %d of this shape", len(p), stateVersion)
	}
	last, any, n := schemas.Step(le.Uint64(p[3:])), p[11] != 0, int(le.Uint32(p[12:]))
	p = p[head:]
	if n > len(p)/each || len(p) < n*each+4 {
		return fmt.Errorf("lstm state: %d bytes for %d series", len(p), n)
	}
	s := Bank{last: last, any: any, keys: make([]model.Key, n), used: make([]bool, n), seen: make([]int32, n),
		at: make([]schemas.Step, n), cell: make([]float32, n*cellSize)}
	for i := range n {
		copy(s.keys[i].VM[:], p)
		s.keys[i].Resource, s.used[i] = schemas.Resource(p[16]), p[17] != 0
		s.seen[i], s.at[i] = int32(le.Uint32(p[18:])), schemas.Step(le.Uint64(p[22:]))
		if s.seen[i] < 0 || s.seen[i] > day || s.at[i] < 0 {
			return fmt.Errorf("lstm state: series %d has seen %d steps, the last at %d", i, s.seen[i], s.at[i])
		}
		for k := range cellSize {
			s.cell[i*cellSize+k] = math.Float32frombits(le.Uint32(p[30+4*k:]))
		}
		p = p[each:]
	}
	f := int(le.Uint32(p))
	if len(p) != 4+4*f {
		return fmt.Errorf("lstm state: %d bytes for %d free indices", len(p), f)
	}
	for k := range f {
		i := int(le.Uint32(p[4+4*k:]))
		if i >= n || s.used[i] || slices.Contains(s.free, i) {
			return fmt.Errorf("lstm state: free index %d is in use, out of range or named twice", i)
		}
		s.free = append(s.free, i)
	}
	b.last, b.any, b.keys, b.used, b.free, b.seen, b.at, b.cell = s.last, s.any, s.keys, s.used, s.free, s.seen, s.at, s.cell
	return nil
}

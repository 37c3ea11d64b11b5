package model

import (
	"fmt"

	"github.com/foreshift/foreshift/forecaster/window"
	"github.com/foreshift/foreshift/schemas"
)

// The experts of [Empirical].
const (
	Trailing1h  = iota // quantiles of the last 12 steps
	Trailing4h         // of the last 48
	Trailing24h        // of the last 288
	TimeOfDay          // same time of day +-1 h over the days at hand
	HourOfWeek         // same time +-1 h a week ago
	Increments         // last value plus what followed from such a level
	numExperts
)

var empiricalNames = []string{"trailing-1h", "trailing-4h", "trailing-24h", "time-of-day", "hour-of-week", "increments"}

const (
	levels  = schemas.NumLevels
	blocks  = 24 // blocks of a day, one quantile row each
	block   = day / blocks
	halo    = 12 // +-1 h round a block's middle
	bins    = 5  // of the level, by quantile
	minPool = 12 // values below which a pool says nothing
	minBin  = 24 // increments below which a level's own are not trusted
	week    = 7 * day
)

// leads are the leads for which increments are learnt; a slot takes the nearest.
var leads = [...]int{1, 2, 3, 5, 8, 12, 24, 48}

const (
	incRows = len(leads) * bins
)

// Empirical forecasts by what was seen: quantiles of the recent past, of the same
// time of day, of the same time a week ago, and of the increments that followed a
// level like the present one. It assumes no distribution, so constant, bursty and
// mostly-zero series come out right. See [Experts].
type Empirical struct {
	ring
	tod      packed    // n x blocks
	how      packed    // n x blocks
	inc      packed    // n x leads x bins
	edge     []float32 // n x bins-1: upper edges of the levels
	strength []float32 // n: how much of the variation the time of day explains, 0..1
	x, pool  []float32 // scratch
	sorter   sorter
	bin      []int8
	mixed    schemas.Dist
}

// NewEmpirical makes an empty bank.
func NewEmpirical() *Empirical {
	return &Empirical{x: make([]float32, 0, window.Rows), pool: make([]float32, 0, window.Rows),
		bin: make([]int8, window.Rows), mixed: schemas.NewDist()}
}

// Names implements [Experts].
func (e *Empirical) Names() []string { return empiricalNames }

// Add implements [Bank].
func (e *Empirical) Add(k Key) int {
	i := e.add(k)
	e.tod.grow(i, blocks)
	e.how.grow(i, blocks)
	e.inc.grow(i, incRows)
	e.edge, e.strength = Grown(e.edge, i, bins-1), Grown(e.strength, i, 1)
	fill(row(e.edge, i, bins-1))
	return i
}

// Observe implements [Bank].
func (e *Empirical) Observe(s schemas.Step, y []float32, _ Regressors) { e.observe(s, y) }

// Strength says how much of series i's variation its time of day explains, 0..1: 1 -
// the error of yesterday's same time over that of yesterday's mean.
func (e *Empirical) Strength(i int) float32 { return e.strength[i] }

// Last is the newest value of series i, NaN when missing.
func (e *Empirical) Last(i int) float32 { return e.at(i, e.last) }

// Refit implements [Bank]. w is the window of the series' VM. O(rows log rows), about
// 0.4 ms.
func (e *Empirical) Refit(i int, w window.View, _ uint64) error {
	if !e.has(i) {
		return fmt.Errorf("model empirical: refit of unknown series %d", i)
	}
	x := e.history(i, &w, e.x)
	e.refill(i, x, w.Last())
	x, last := learnable(e.keys[i], &w, x)
	e.fitBlocks(x, last, len(x), 0, &e.tod, i*blocks)
	e.how.clear(i*blocks, blocks)
	if len(x) > week-halo {
		e.fitBlocks(x, last, week+halo, week-day-halo, &e.how, i*blocks)
	}
	e.fitIncrements(i, x)
	e.strength[i] = strength(x)
	return nil
}

// fitBlocks takes, for each block of the day, the quantiles of the rows that lie
// within an hour of the block's middle and between from and to steps back. The rows
// of dst begin at the given one.
func (e *Empirical) fitBlocks(x []float32, last schemas.Step, from, to int, dst *packed, at int) {
	n := len(x)
	var q [levels]float32
	for b := 0; b < blocks; b++ {
		pool := e.pool[:0]
		mid := schemas.Step(b*block + block/2)
		// the newest row at this time of day, and the same time of the days before
		back := int(((last-mid)%day + day) % day)
		for m := n - 1 - back + day; m > -halo; m -= day {
			for k := max(m-halo, n-from, 0); k < min(m+halo, n-to); k++ {
				if x[k] == x[k] {
					pool = append(pool, x[k])
				}
			}
		}
		if len(pool) < minPool {
			dst.clear(at+b, 1)
			continue
		}
		e.sorter.quantiles(pool, q[:])
		dst.put(at+b, &q)
	}
}

// fitIncrements learns what follows within leads after each level.
func (e *Empirical) fitIncrements(i int, x []float32) {
	edge := row(e.edge, i, bins-1)
	e.inc.clear(i*incRows, incRows)
	pool := e.pool[:0]
	for t := len(x) - 1; t >= 0; t -= 2 {
		if v := x[t]; v == v {
			pool = append(pool, v)
		}
	}
	if len(pool) < minPool {
		fill(edge)
		return
	}
	e.sorter.sort(pool)
	for b := range edge {
		edge[b] = pool[(b+1)*(len(pool)-1)/bins]
	}
	bin := e.bin[:len(x)]
	for t, v := range x {
		bin[t] = -1
		if v == v {
			bin[t] = int8(binOf(edge, v))
		}
	}
	for l, h := range leads {
		known := false
		var own, all [levels]float32 // all: of every level, for levels seen too rarely
		for b := 0; b < bins; b++ {
			at := i*incRows + l*bins + b
			pool = followed(x, bin, h, b, pool[:0])
			if len(pool) >= minBin {
				e.sorter.quantiles(pool, own[:])
				e.inc.put(at, &own)
				continue
			}
			if !known {
				pool = followed(x, bin, h, -1, pool[:0])
				if len(pool) < minPool {
					break
				}
				e.sorter.quantiles(pool, all[:])
				known = true
			}
			e.inc.put(at, &all)
		}
	}
}

// followed gathers the increments over h steps from the rows in bin b, or in any bin
// when b is negative; of a long series every third row, for neighbours say the same.
func followed(x []float32, bin []int8, h, b int, pool []float32) []float32 {
	stride := 1
	if len(x) > 2*day {
		stride = 3
	}
	for t := (len(x) - 1 - h) % stride; t >= 0 && t+h < len(x); t += stride {
		if bin[t] < 0 || b >= 0 && bin[t] != int8(b) {
			continue
		}
		if d := x[t+h] - x[t]; d == d {
			pool = append(pool, d)
		}
	}
	return pool
}

// binOf is the level's bin: the first whose upper edge is not below v.
func binOf(edge []float32, v float32) int {
	b := 0
	for b < len(edge) && v > edge[b] {
		b++
	}
	return b
}

// strength compares, over the days after the first, the error of yesterday's hour
// round the same time with that of yesterday's mean.
func strength(x []float32) float32 {
	var same, flat float64
	n := len(x)
	for lo := n - day; lo >= day; lo -= day {
		var mean float64
		var m int
		for t := lo - day; t < lo; t++ {
			if x[t] == x[t] {
				mean += float64(x[t])
				m++
			}
		}
		if m < day/2 {
			continue
		}
		mean /= float64(m)
		var sum float64
		k := 0
		add := func(t int, sign float64) {
			if t >= 0 && t < n && x[t] == x[t] {
				sum += sign * float64(x[t])
				k += int(sign)
			}
		}
		for t := lo - day - 6; t < lo-day+6; t++ {
			add(t, 1)
		}
		for t := lo; t < lo+day; t++ { // running mean of +-half an hour a day before
			add(t-day+6, 1)
			if x[t] == x[t] && k > 0 {
				same += abs(float64(x[t]) - sum/float64(k))
				flat += abs(float64(x[t]) - mean)
			}
			add(t-day-6, -1)
		}
	}
	if flat <= 0 {
		return 0
	}
	return float32(max(0, 1-same/flat))
}

func abs(x float64) float64 {
	if x < 0 {
		return -x
	}
	return x
}

// Expert implements [Experts].
func (e *Empirical) Expert(i, expert int, g schemas.Grid, _ Regressors, dst *schemas.Dist) bool {
	switch expert {
	case Trailing1h:
		return e.trailing(i, 12, dst)
	case Trailing4h:
		return e.trailing(i, 48, dst)
	case Trailing24h:
		return e.trailing(i, day, dst)
	case TimeOfDay:
		return e.tod.demandAt(i*blocks, g, dst)
	case HourOfWeek:
		return e.how.demandAt(i*blocks, g, dst)
	case Increments:
		return e.increments(i, g, dst)
	}
	return false
}

func (e *Empirical) trailing(i, n int, dst *schemas.Dist) bool {
	x := e.tail(i, n, e.pool)
	if len(x) < min(n, minPool)/2 {
		fill(dst.Q)
		return false
	}
	var q [levels]float32
	e.sorter.quantiles(x, q[:])
	spread(q[:], dst, 0, schemas.Slots)
	return true
}

// onBlocks gives each slot the quantiles at its middle, from the rows of a day's blocks
// that begin at the given one.
func (p *packed) onBlocks(at int, g schemas.Grid, dst *schemas.Dist) bool {
	any := false
	for s := 0; s < schemas.Slots; s++ {
		start, n := g.Slot(s)
		q := (*[levels]float32)(dst.At(s))
		p.onBlock(at, int(start%day)*2+n, q)
		any = any || q[0] == q[0]
	}
	return any
}

// demandAt is onBlocks of a demand, which is not negative.
func (p *packed) demandAt(at int, g schemas.Grid, dst *schemas.Dist) bool {
	any := p.onBlocks(at, g, dst)
	for s := range schemas.Slots {
		Tidy(dst.At(s))
	}
	return any
}

// onBlock interpolates between the rows of the two blocks whose middles lie round mid,
// which is in half steps of the day, so that middles are whole numbers; one that is
// missing gives way to the other.
func (p *packed) onBlock(at, mid int, q *[levels]float32) {
	mid = (mid - block + 2*day) % (2 * day)
	a := mid / (2 * block)
	f := float32(mid%(2*block)) / (2 * block)
	b := at + (a+1)%blocks
	if a += at; !p.known(a) {
		a = b
	}
	p.get(a, q)
	if f == 0 || a == b || !p.known(b) {
		return
	}
	var next [levels]float32
	p.get(b, &next)
	for l := range q {
		q[l] += f * (next[l] - q[l])
	}
}

// increments shifts what followed the present level to the last value; it speaks of
// the next 4 hours only.
func (e *Empirical) increments(i int, g schemas.Grid, dst *schemas.Dist) bool {
	fill(dst.Q)
	y := e.at(i, g.Start-1)
	edge := e.edge[i*(bins-1) : (i+1)*(bins-1)]
	if y != y || edge[0] != edge[0] {
		return false
	}
	b := binOf(edge, y)
	any := false
	var from [levels]float32
	for s := 0; s < schemas.SlotsWithin(leads[len(leads)-1]); s++ {
		h := schemas.SlotOffset(s) + (schemas.SlotLen(s)+1)/2
		l := 0
		for l+1 < len(leads) && abs(float64(leads[l+1]-h)) <= abs(float64(leads[l]-h)) {
			l++
		}
		e.inc.get(i*incRows+l*bins+b, &from)
		q := dst.At(s)
		for k := range q {
			q[k] = y + from[k]
		}
		any = any || q[0] == q[0]
		Tidy(q)
	}
	return any
}

// Forecast implements [Bank]: the bank by itself, its experts in equal parts where
// each is at home (short trailing windows and increments within 4 hours).
func (e *Empirical) Forecast(i int, g schemas.Grid, known Regressors, dst *schemas.Dist) {
	var sum [schemas.Slots * levels]float32
	var weight [schemas.Slots]float32
	for x := 0; x < numExperts; x++ {
		if !e.Expert(i, x, g, known, &e.mixed) {
			continue
		}
		for s := 0; s < schemas.Slots; s++ {
			q := e.mixed.At(s)
			if q[0] != q[0] || s >= 24 && (x == Trailing1h || x == Trailing4h) {
				continue
			}
			weight[s]++
			for l, v := range q {
				sum[s*levels+l] += v
			}
		}
	}
	for s := range weight {
		q := dst.At(s)
		for l := range q {
			q[l] = sum[s*levels+l] / weight[s] // 0/0 is NaN: nothing to go by
		}
		Tidy(q)
	}
}

func (e *Empirical) tables() []table {
	t := append(e.ring.tables(), table{bins - 1, &e.edge}, table{1, &e.strength})
	t = append(t, e.tod.tables(blocks)...)
	t = append(t, e.how.tables(blocks)...)
	return append(t, e.inc.tables(incRows)...)
}

// AppendState implements [Bank].
func (e *Empirical) AppendState(b []byte) []byte { return e.appendState(b, e.tables()) }

// LoadState implements [Bank].
func (e *Empirical) LoadState(b []byte) error {
	if _, err := e.loadState(b, e.tables(), false); err != nil {
		return fmt.Errorf("model empirical: %w", err)
	}
	return nil
}

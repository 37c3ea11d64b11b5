package model

import (
	"fmt"

	"github.com/foreshift/foreshift/forecaster/window"
	"github.com/foreshift/foreshift/schemas"
)

// The experts of [Rises].
const (
	DailyRise  = iota // value now + what was added from this time of day on, the days before
	RecentRise        // value now + what was added over the same lead in the last hours
	Hold              // value now, with the spread of the last half hour
	numRises
)

var riseNames = []string{"daily-rise", "recent-rise", "hold"}

const (
	riseBlocks = 3  // thirds of the time between two refits, one table each
	riseHalo   = 12 // origins within an hour of the block's middle
	recentPast = 36 // origins of the recent rise, and its longest lead
)

// riseLeads are the leads learnt; slots between take the line between two.
var riseLeads = [...]int{1, 2, 4, 7, 12, 18, 27, 36, 48}

const riseRows = riseBlocks * len(riseLeads)

// Rises forecasts by what is added to the present value: with F the empirical
// distribution over past origins o of x[o+h] - x[o], it says y + F at lead h. On a
// ramp that comes every day it is there at the first step, where quantiles of the
// recent past lag behind and those of the time of day do not know today's level.
//
// Both rises speak of the next 48 steps only; hold of the whole
// grid, and is soon outweighed.
type Rises struct {
	ring
	inc    packed         // n x riseBlocks x leads
	base   []schemas.Step // n: the step the tables were made for
	x      []float32
	pool   []float32
	tmp    []float32
	sorter sorter
}

// NewRises makes an empty bank.
func NewRises() *Rises {
	return &Rises{x: make([]float32, 0, window.Rows), pool: make([]float32, 0, 8*(2*riseHalo+1)), tmp: make([]float32, 0, recentPast)}
}

// Names implements [Experts].
func (r *Rises) Names() []string { return riseNames }

// Add implements [Bank].
func (r *Rises) Add(k Key) int {
	i := r.add(k)
	r.inc.grow(i, riseRows)
	r.base = Grown(r.base, i, 1)
	return i
}

// Observe implements [Bank].
func (r *Rises) Observe(s schemas.Step, y []float32, _ Regressors) { r.observe(s, y) }

// Refit implements [Bank]: the tables for the origins until the next refit. About 0.1
// ms.
func (r *Rises) Refit(i int, w window.View, _ uint64) error {
	if !r.has(i) {
		return fmt.Errorf("model rises: refit of unknown series %d", i)
	}
	x := r.history(i, &w, r.x)
	r.refill(i, x, w.Last())
	x, last := learnable(r.keys[i], &w, x)
	r.base[i] = last
	var q [levels]float32
	for b := range riseBlocks {
		mid := len(x) - 1 + (2*b+1)*RefitEvery/(2*riseBlocks) // row of the middle of the block's origins, to come
		for l, h := range riseLeads {
			pool := r.pool[:0]
			for m := mid - day; m > -riseHalo; m -= day {
				for o := max(m-riseHalo, 0); o <= m+riseHalo && o+h < len(x); o += 2 {
					if d := x[o+h] - x[o]; d == d {
						pool = append(pool, d)
					}
				}
			}
			at := i*riseRows + b*len(riseLeads) + l
			if len(pool) < minPool {
				r.inc.clear(at, 1)
				continue
			}
			r.sorter.quantiles(pool, q[:])
			r.inc.put(at, &q)
		}
	}
	return nil
}

// Expert implements [Experts].
func (r *Rises) Expert(i, expert int, g schemas.Grid, _ Regressors, dst *schemas.Dist) bool {
	fill(dst.Q)
	y := r.at(i, g.Start-1)
	if y != y {
		return false
	}
	var table riseTable
	switch expert {
	case DailyRise:
		b := min(max(int(g.Start-1-r.base[i])*riseBlocks/RefitEvery, 0), riseBlocks-1)
		for l := range table {
			r.inc.get(i*riseRows+b*len(riseLeads)+l, &table[l])
		}
		return along(&table, y, dst)
	case RecentRise:
		for l, h := range riseLeads {
			pool := r.tmp[:0]
			if h <= recentPast {
				for o := g.Start - 1 - schemas.Step(h); o > g.Start-1-schemas.Step(h)-recentPast; o-- {
					if d := r.at(i, o+schemas.Step(h)) - r.at(i, o); d == d {
						pool = append(pool, d)
					}
				}
			}
			if len(pool) < minPool {
				fill(table[l][:])
				continue
			}
			r.sorter.quantiles(pool, table[l][:])
		}
		return along(&table, y, dst)
	case Hold:
		return r.hold(i, g.Start-1, y, dst)
	}
	return false
}

// hold says that the present value stays, with the spread of the last half hour.
func (r *Rises) hold(i int, s schemas.Step, y float32, dst *schemas.Dist) bool {
	pool := append(r.tmp[:0], y)
	for k := schemas.Step(1); k < 6; k++ {
		if v := r.at(i, s-k); v == v {
			pool = append(pool, (v+y)/2)
		}
	}
	if len(pool) < 3 {
		return false
	}
	r.sorter.sort(pool)
	q := dst.At(0)
	quantiles(pool, q)
	spread(q, dst, 1, schemas.Slots)
	return true
}

// riseTable holds increments by lead.
type riseTable [len(riseLeads)][levels]float32

// along adds increments learnt at riseLeads to y, by slot up to the last lead.
func along(table *riseTable, y float32, dst *schemas.Dist) bool {
	any := false
	l := 0
	for s := 0; s < schemas.SlotsWithin(riseLeads[len(riseLeads)-1]); s++ {
		h := float32(schemas.SlotOffset(s)) + float32(schemas.SlotLen(s)+1)/2
		for l+2 < len(riseLeads) && float32(riseLeads[l+1]) < h {
			l++
		}
		a, b := &table[l], &table[l+1]
		f := (h - float32(riseLeads[l])) / float32(riseLeads[l+1]-riseLeads[l])
		q := dst.At(s)
		for k := range q {
			q[k] = y + a[k] + f*(b[k]-a[k])
		}
		any = any || q[0] == q[0]
		Tidy(q)
	}
	return any
}

// Forecast implements [Bank]: the daily rise, or the recent one where that is not
// known.
func (r *Rises) Forecast(i int, g schemas.Grid, known Regressors, dst *schemas.Dist) {
	if !r.Expert(i, DailyRise, g, known, dst) {
		r.Expert(i, RecentRise, g, known, dst)
	}
}

func (r *Rises) tables() []table {
	return append(append(r.ring.tables(), r.inc.tables(riseRows)...), table{1, &r.base})
}

// AppendState implements [Bank].
func (r *Rises) AppendState(b []byte) []byte { return r.appendState(b, r.tables()) }

// LoadState implements [Bank].
func (r *Rises) LoadState(b []byte) error {
	if _, err := r.loadState(b, r.tables(), false); err != nil {
		return fmt.Errorf("model rises: %w", err)
	}
	return nil
}

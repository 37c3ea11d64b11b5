package model

import (
	"fmt"
	"slices"

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
	recent     = 72 // steps kept: 6 hours
	recentPast = 36 // origins of the recent rise
)

// riseLeads are the leads learnt; slots between take the line between two.
var riseLeads = [...]int{1, 2, 4, 7, 12, 18, 27, 36, 48}

const riseSize = riseBlocks * len(riseLeads) * levels

// Rises forecasts by what is added to the present value: with F the empirical
// distribution over past origins o of x[o+h] - x[o], it says y + F at lead h. On a
// ramp that comes every day it is there at the first step, where quantiles of the
// recent past lag behind and those of the time of day do not know today's level.
//
// It keeps 1.7 KB a series. Both rises speak of the next 48 steps only; hold of the whole
// grid, and is soon outweighed.
type Rises struct {
	keys []Key
	used []bool
	free []int
	last schemas.Step
	any  bool
	y    []float32      // n x recent
	inc  []float32      // n x riseBlocks x leads x levels
	base []schemas.Step // n: the step the tables were made for
	x    []float32
	pool []float32
	tmp  []float32
}

// NewRises makes an empty bank.
func NewRises() *Rises {
	return &Rises{x: make([]float32, 0, window.Rows), pool: make([]float32, 0, 8*(2*riseHalo+1)), tmp: make([]float32, 0, recent)}
}

// Names implements [Experts].
func (r *Rises) Names() []string { return riseNames }

// Add implements [Bank].
func (r *Rises) Add(k Key) int {
	i := len(r.keys)
	if n := len(r.free); n > 0 {
		i, r.free = r.free[n-1], r.free[:n-1]
	} else {
		r.keys, r.used = append(r.keys, Key{}), append(r.used, false)
		r.y = append(r.y, make([]float32, recent)...)
		r.inc = append(r.inc, make([]float32, riseSize)...)
		r.base = append(r.base, 0)
	}
	r.keys[i], r.used[i], r.base[i] = k, true, 0
	fill(r.y[i*recent : (i+1)*recent])
	fill(r.inc[i*riseSize : (i+1)*riseSize])
	return i
}

// Remove implements [Bank].
func (r *Rises) Remove(i int) {
	if i < 0 || i >= len(r.used) || !r.used[i] {
		return
	}
	r.used[i], r.keys[i] = false, Key{}
	r.free = append(r.free, i)
}

// Observe implements [Bank].
func (r *Rises) Observe(s schemas.Step, y []float32, _ Regressors) {
	if r.any && s < r.last-recent+1 {
		return
	}
	if !r.any {
		r.last, r.any = s-1, true
	}
	for g := max(r.last+1, s-recent+1); g <= s; g++ { // what lay between is missing
		p := int(g % recent)
		for i := range r.keys {
			r.y[i*recent+p] = schemas.NaN()
		}
	}
	p := int(s % recent)
	for i := range min(len(y), len(r.keys)) {
		if r.used[i] {
			r.y[i*recent+p] = y[i]
		}
	}
	r.last = max(r.last, s)
}

func (r *Rises) at(i int, s schemas.Step) float32 {
	if s > r.last || s <= r.last-recent || s < 0 {
		return schemas.NaN()
	}
	return r.y[i*recent+int(s%recent)]
}

// Refit implements [Bank]: the tables for the origins until the next refit. About 0.1
// ms.
func (r *Rises) Refit(i int, w window.View, _ uint64) error {
	if i < 0 || i >= len(r.keys) || !r.used[i] {
		return fmt.Errorf("model rises: refit of unknown series %d", i)
	}
	x := w.Series(r.keys[i].Resource, r.x)
	if !r.any {
		r.last, r.any = w.Last(), true
	}
	for n := 0; n < min(recent, len(x)); n++ {
		if s := w.Last() - schemas.Step(n); s <= r.last && s > r.last-recent {
			r.y[i*recent+int(s%recent)] = x[len(x)-1-n]
		}
	}
	x, last := learnable(r.keys[i], &w, x)
	inc := r.inc[i*riseSize : (i+1)*riseSize]
	r.base[i] = last
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
			dst := inc[(b*len(riseLeads)+l)*levels:][:levels]
			if len(pool) < minPool {
				fill(dst)
				continue
			}
			sortedQuantiles(pool, dst)
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
	switch expert {
	case DailyRise:
		b := min(max(int(g.Start-1-r.base[i])*riseBlocks/RefitEvery, 0), riseBlocks-1)
		table := r.inc[i*riseSize+b*len(riseLeads)*levels:][:len(riseLeads)*levels]
		return along(table, y, dst)
	case RecentRise:
		var table [len(riseLeads) * levels]float32
		for l, h := range riseLeads {
			pool := r.tmp[:0]
			if h <= recent-recentPast {
				for o := g.Start - 1 - schemas.Step(h); o > g.Start-1-schemas.Step(h)-recentPast; o-- {
					if d := r.at(i, o+schemas.Step(h)) - r.at(i, o); d == d {
						pool = append(pool, d)
					}
				}
			}
			if len(pool) < minPool {
				fill(table[l*levels : (l+1)*levels])
				continue
			}
			sortedQuantiles(pool, table[l*levels:(l+1)*levels])
		}
		return along(table[:], y, dst)
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
	slices.Sort(pool)
	q := dst.At(0)
	quantiles(pool, q)
	spread(q, dst, 1, schemas.Slots)
	return true
}

// along adds increments learnt at riseLeads to y, by slot up to the last lead.
func along(table []float32, y float32, dst *schemas.Dist) bool {
	any := false
	l := 0
	for s := 0; s < schemas.SlotsWithin(riseLeads[len(riseLeads)-1]); s++ {
		h := float32(schemas.SlotOffset(s)) + float32(schemas.SlotLen(s)+1)/2
		for l+2 < len(riseLeads) && float32(riseLeads[l+1]) < h {
			l++
		}
		a, b := table[l*levels:(l+1)*levels], table[(l+1)*levels:(l+2)*levels]
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

package lstm

import (
	"math"
	"slices"

	"github.com/foreshift/foreshift/forecaster/model"
	"github.com/foreshift/foreshift/schemas"
)

const (
	recent  = 12 // values of the last hour
	blocks  = 24 // blocks of a day
	block   = day / blocks
	maxDays = 7  // days whose maxima are kept
	halo    = 12 // +-1 h round a block's middle
	minPool = 12 // values below which a pool says nothing
)

// cell is what is kept of one series, flat: its memory and what the candidates are
// made from. Where each part lies:
const (
	atH      = 0                     // memory
	atC      = atH + Hidden          // cell
	atRecent = atC + Hidden          // last hour, value of step s at s % recent
	atHour   = atRecent + recent     // last whole hour at this time of day: median
	atMax    = atHour + blocks       // and maximum
	atDay    = atMax + blocks        // quantiles of the last day
	atTod    = atDay + levels        // quantiles by time of day
	atWeek   = atTod + blocks*levels // median at the same time a week ago
	atMaxima = atWeek + blocks       // sorted maxima of the last days
	atLoc    = atMaxima + maxDays    // what inputs are measured from
	atScale  = atLoc + 1             // and in
	atAtom   = atScale + 1           // share of the last day at its most frequent end
	cellSize = atAtom + 1
)

// StateBytes is what the bank keeps of one series, keys and bookkeeping included.
const StateBytes = cellSize*4 + 40

type cell []float32

// clear forgets everything.
func (c cell) clear() {
	nan := schemas.NaN()
	for i := range c {
		c[i] = nan
	}
	clear(c[atH : atC+Hidden])
}

// see takes the value of step s, NaN = missing. Steps must follow each other.
func (c cell) see(s schemas.Step, y float32) {
	c[atRecent+int(s%recent)] = y
	if s%block == block-1 { // recent is this hour
		b := int(s % day / block)
		c[atHour+b], c[atMax+b] = middle(c[atRecent : atRecent+recent])
	}
	if c[atLoc] != c[atLoc] && y == y { // until the first refresh: some unit is needed
		c[atLoc], c[atScale] = y, floorOf(y)+.1*float32(math.Abs(float64(y)))
	}
}

// middle gives the median and the maximum of up to an hour of values. The median, for
// an hour that is mostly zero should say so.
func middle(x []float32) (mid, top float32) {
	var v [block]float32
	n := 0
	for _, y := range x {
		if y != y {
			continue
		}
		k := n
		for ; k > 0 && v[k-1] > y; k-- {
			v[k] = v[k-1]
		}
		v[k] = y
		n++
	}
	if n == 0 {
		return schemas.NaN(), schemas.NaN()
	}
	return v[(n-1)/2] + (v[n/2]-v[(n-1)/2])/2, v[n-1]
}

// last is the newest value of the last hour, and how many steps ago it was.
func (c cell) last(s schemas.Step) (float32, int) {
	for k := 0; k < recent && schemas.Step(k) <= s; k++ {
		if v := c[atRecent+int((s-schemas.Step(k))%recent)]; v == v {
			return v, k
		}
	}
	return schemas.NaN(), recent
}

func floorOf(y float32) float32 { return 1e-4*float32(math.Abs(float64(y))) + 1e-9 }

// refresh learns the slow parts from rows x, whose newest is of step last. scratch
// is as long as x at least.
func (c cell) refresh(x []float32, last schemas.Step, scratch []float32) {
	n := len(x)
	pool := scratch[:0]
	for _, v := range x[max(0, n-day):] {
		if v == v {
			pool = append(pool, v)
		}
	}
	if len(pool) == 0 { // nothing for a day: what was before is no news
		fill(c[atDay:atLoc])
		return
	}
	slices.Sort(pool)
	quantiles(pool, c[atDay:atDay+levels])
	lo, hi := 0, len(pool)-1
	for lo < len(pool) && pool[lo] == pool[0] {
		lo++
	}
	for hi >= 0 && pool[hi] == pool[len(pool)-1] {
		hi--
	}
	c[atAtom] = float32(max(lo, len(pool)-1-hi)) / float32(len(pool))
	c[atLoc] = pool[len(pool)/2]
	var dev float64
	m := 0
	for k := n - 1; k >= 0; k -= 3 {
		if v := x[k]; v == v {
			dev += math.Abs(float64(v - c[atLoc]))
			m++
		}
	}
	c[atScale] = floorOf(c[atLoc])
	if m > 0 {
		c[atScale] += float32(dev / float64(m))
	}
	c.byTimeOfDay(x, last, scratch)
	c.byWeek(x, last)
	c.dailyMaxima(x)
}

// byTimeOfDay takes, for each block of the day, the quantiles of every second row
// within an hour of its middle.
func (c cell) byTimeOfDay(x []float32, last schemas.Step, scratch []float32) {
	n := len(x)
	for b := range blocks {
		pool := scratch[:0]
		mid := schemas.Step(b*block + block/2)
		back := int(((last-mid)%day + day) % day)
		for m := n - 1 - back + day; m > -halo; m -= day {
			for k := max(m-halo, 0); k < min(m+halo, n); k += 2 {
				if x[k] == x[k] {
					pool = append(pool, x[k])
				}
			}
		}
		q := c[atTod+b*levels : atTod+(b+1)*levels]
		if len(pool) < minPool {
			fill(q)
			continue
		}
		slices.Sort(pool)
		quantiles(pool, q)
	}
}

// byWeek takes the median of each block of the coming day, a week before.
func (c cell) byWeek(x []float32, last schemas.Step) {
	n := len(x)
	from := last + 1 - (last+1)%block // the block of the next step
	for k := range schemas.Step(blocks) {
		s := from + k*block
		b := int(s % day / block)
		c[atWeek+b] = schemas.NaN()
		if at := n - 1 - int(last-(s-week)); at >= 0 && at+block <= n {
			c[atWeek+b], _ = middle(x[at : at+block])
		}
	}
}

// dailyMaxima keeps the maxima of the last whole days before now, sorted.
func (c cell) dailyMaxima(x []float32) {
	d := c[atMaxima : atMaxima+maxDays]
	fill(d)
	n := 0
	for hi := len(x); hi >= day/2 && n < maxDays; hi -= day {
		top, any := float32(0), false
		for _, v := range x[max(0, hi-day):hi] {
			if v == v {
				top, any = max(top, v), true
			}
		}
		if any {
			d[n] = top
			n++
		}
	}
	slices.Sort(d[:n])
}

// squash keeps inputs within +-5, straight near zero; missing is zero.
func squash(x float32) float32 {
	if x != x {
		return 0
	}
	x = min(max(x, -1e6), 1e6)
	if x < 0 {
		return x / (1 - .2*x)
	}
	return x / (1 + .2*x)
}

// clock is sine and cosine of the time of day and of the week.
var clock = func() (t [week][4]float32) {
	for s := range t {
		sh, ch := math.Sincos(2 * math.Pi * float64(s%day) / day)
		sw, cw := math.Sincos(2 * math.Pi * float64(s) / week)
		t[s] = [4]float32{float32(sh), float32(ch), float32(sw), float32(cw)}
	}
	return t
}()

// inputsAt writes what the network sees at step s into dst [inputs].
func (c cell) inputsAt(s schemas.Step, r schemas.Resource, dst []float32) {
	clear(dst)
	y, age := c.last(s)
	loc, scale := c[atLoc], c[atScale]
	if !(scale > 0) {
		return
	}
	dst[0] = squash((y - loc) / scale)
	var sum float32
	n := 0
	for _, v := range c[atRecent : atRecent+recent] {
		if v == v {
			sum += v
			n++
		}
	}
	if n > 0 {
		dst[1] = squash((sum/float32(n) - loc) / scale)
	}
	a, b, f := between(s + 1)
	dst[2] = squash((lerp(c[atHour+a], c[atHour+b], f) - loc) / scale)
	dst[3] = squash((lerp(c[atWeek+a], c[atWeek+b], f) - loc) / scale)
	const median = levels / 2
	dst[4] = squash((lerp(c[atTod+a*levels+median], c[atTod+b*levels+median], f) - loc) / scale)
	a, b, f = between(s + block)
	dst[5] = squash((lerp(c[atTod+a*levels+median], c[atTod+b*levels+median], f) - loc) / scale)
	if q := c[atDay : atDay+levels]; q[0] == q[0] && y == y {
		below := 0
		for _, v := range q {
			if v < y {
				below++
			} else if v > y {
				below--
			}
		}
		dst[6] = float32(below) / levels
		if w := q[levels-2] - q[1]; w > 0 {
			tod := c[atTod+a*levels : atTod+(a+1)*levels]
			if v := (tod[levels-2] - tod[1]) / w; v == v {
				dst[7] = squash(v - .5)
			}
		}
		dst[8] = c[atAtom]
	}
	if l := float32(math.Abs(float64(loc))); l > 0 {
		dst[9] = float32(math.Log10(float64(min(max(scale/l, 1e-3), 1e3)))) / 3
	} else {
		dst[9] = 1
	}
	dst[10] = float32(age) / recent
	copy(dst[11:15], clock[s%week][:])
	switch r {
	case schemas.Memory:
		dst[15] = 1
	case schemas.Net, schemas.Disk:
		dst[16] = 1
	}
	for i, v := range dst { // values at the ends of float32 have no ratio
		if v != v {
			dst[i] = 0
		}
	}
}

// look lets the network see step s, which c has seen, and moves the memory on. v
// [columns] and z [gates] are scratch.
func (c cell) look(w *Weights, s schemas.Step, r schemas.Resource, v, z []float32) {
	c.inputsAt(s, r, v[:inputs])
	copy(v[inputs:], c[atH:atH+Hidden])
	v[columns-1] = 1
	w.step(v, c[atC:atC+Hidden], z)
	copy(c[atH:atH+Hidden], v[inputs:])
}

// between gives the two blocks round step s and how far it is from the first to the
// second.
func between(s schemas.Step) (a, b int, f float32) {
	at := (int(s%day)*2 + 1 - block + 2*day) % (2 * day)
	a = at / (2 * block)
	return a, (a + 1) % blocks, float32(at%(2*block)) / (2 * block)
}

// lerp goes from a to b; one that is missing gives way to the other.
func lerp(a, b, f float32) float32 {
	if a != a {
		return b
	}
	if b != b {
		return a
	}
	return a + f*(b-a)
}

// quantiles of sorted x at schemas.Levels, linear between order statistics (Hyndman
// and Fan's type 7).
func quantiles(x, dst []float32) {
	n := float32(len(x) - 1)
	for l, p := range schemas.Levels {
		at := p * n
		i := min(int(at), len(x)-1)
		j := min(i+1, len(x)-1)
		dst[l] = x[i] + (at-float32(i))*(x[j]-x[i])
	}
}

func fill(v []float32) {
	nan := schemas.NaN()
	for i := range v {
		v[i] = nan
	}
}

// cut gives the rows a refit may learn from: up to the series' due step, and no more
// than a window that slides on still holds.
func cut(k model.Key, first, last schemas.Step, x []float32) ([]float32, schemas.Step) {
	due := model.Due(k, first, last)
	x = x[:max(0, len(x)-int(last-due))]
	return x[max(0, len(x)-model.RefitRows):], due
}

package lstm

import (
	"math/rand/v2"

	"github.com/cespare/xxhash/v2"
	"github.com/foreshift/foreshift/forecaster/window"
	"github.com/foreshift/foreshift/schemas"
)

// Series is one past to learn from: the demand of a VM for a resource, one value a
// base step from First on, NaN = missing.
type Series struct {
	VM       schemas.VMID
	Resource schemas.Resource
	First    schemas.Step
	Y        []float32
}

// FromView copies the series of a VM's window; those without a day of values are
// left out.
func FromView(vm schemas.VMID, v window.View) []Series {
	var out []Series
	for r := range schemas.Resource(schemas.NumResources) {
		s := Series{VM: vm, Resource: r, First: v.First, Y: v.Series(r, nil)}
		n := 0
		for k, y := range s.Y {
			if y-y != 0 || y < 0 { // no demand
				s.Y[k] = schemas.NaN()
				continue
			}
			n++
		}
		if n >= day {
			out = append(out, s)
		}
	}
	return out
}

// Split parts series into those to train on and those to judge by: all series of a
// VM go to one side, by the hash of its id and the seed; about share are held back.
func Split(all []Series, seed uint64, share float64) (train, held []Series) {
	for _, s := range all {
		h := xxhash.NewWithSeed(seed)
		_, _ = h.Write(s.VM[:]) // a hash takes everything
		if float64(h.Sum64()>>11)/(1<<53) < share {
			held = append(held, s)
		} else {
			train = append(train, s)
		}
	}
	return train, held
}

// walk goes through one series, from a row on, as a bank would have lived through it.
type walk struct {
	s    *Series
	y    []float32
	from schemas.Step // step of y[0]
	at   int          // rows seen
	c    cell
	tmp  []float32
}

func newWalk() walk { return walk{c: make(cell, cellSize), tmp: make([]float32, window.Rows)} }

// start begins at row lo of s and ends before hi.
func (k *walk) start(s *Series, lo, hi int) {
	k.s, k.y, k.from, k.at = s, s.Y[lo:hi], s.First+schemas.Step(lo), 0
	k.c.clear()
}

// refreshEvery is how many steps lie between two refreshes, as between two refits.
const refreshEvery = 24

// see takes the next row and gives its step.
func (k *walk) see() schemas.Step {
	s := k.from + schemas.Step(k.at)
	k.c.see(s, k.y[k.at])
	k.at++
	every := refreshEvery
	if k.at < day {
		every /= 4
	}
	if k.at%every == 0 || k.at == 3 {
		k.c.refresh(k.y[max(0, k.at-window.Rows+refreshEvery):k.at], s, k.tmp)
	}
	return s
}

// truth is the value h rows after the last seen, NaN beyond the end.
func (k *walk) truth(h int) float32 {
	if n := k.at - 1 + h; n < len(k.y) {
		return k.y[n]
	}
	return schemas.NaN()
}

// highest is the maximum of the next n rows; NaN when they end before or more than
// half are missing.
func (k *walk) highest(n int) float32 {
	if k.at+n > len(k.y) {
		return schemas.NaN()
	}
	top, m := float32(0), 0
	for _, v := range k.y[k.at : k.at+n] {
		if v == v {
			top = max(top, v)
			m++
		}
	}
	if m < n/2 {
		return schemas.NaN()
	}
	return top
}

// jitter spreads the leads that are trained round those asked for, as forecasts at
// leads between them will be.
func jitter(h int, r *rand.Rand) int {
	if h < 12 || r == nil {
		return h
	}
	lo, hi := h*3/4, min(h*4/3, day)
	return lo + r.IntN(hi-lo+1)
}

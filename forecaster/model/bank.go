package model

import (
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
	// missing, and so is what no demand can be (infinite, negative); indices beyond len(y) are missing. Steps rise; steps left out are
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

func fill(v []float32) {
	nan := schemas.NaN()
	for i := range v {
		v[i] = nan
	}
}

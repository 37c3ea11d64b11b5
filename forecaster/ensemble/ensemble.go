package ensemble

import (
	"fmt"

	"github.com/foreshift/foreshift/forecaster/model"
	"github.com/foreshift/foreshift/forecaster/window"
	"github.com/foreshift/foreshift/schemas"
)

// Ensemble is a [model.Bank] over the experts of other banks.
//
// Forecast and Expert work in scratch memory of the ensemble: one goroutine owns it.
type Ensemble struct {
	banks  []model.Experts
	emp    *model.Empirical // nil without one: then no series counts as daily
	events lifter           // nil without one: then nothing known of the future is heard
	names  []string
	keys   []model.Key
	used   []bool
	heard  []uint8      // values known of each series, up to enough
	last   schemas.Step // newest step observed
	learn  *learner
	wait   waiting
	tune   Tuning

	q        []schemas.Dist // scratch, one an expert: what those asked said
	asked    []bool         // by expert
	ok       []bool         // by expert: asked and had something to say
	weights  []float32      // buckets x groups x experts
	x        []float32
	share    []float32 // by expert: on its weight, see listen
	paired   []float32 // halves x experts
	order    []opinion
	at       int // the bucket that paired and order are of, -1 none
	speakers int // the experts in order
	single   single
	lifted   [schemas.Slots]float32
}

var _ model.Bank = (*Ensemble)(nil)

// Tuning switches parts off, for ablations. The zero value is all on.
type Tuning struct {
	NoLearning bool // the clusters' starting weights throughout
	NoTracking bool // quantiles as the mix has them
}

// New makes an ensemble of all banks there are.
func New() *Ensemble { return Of(Banks()...) }

// Of makes an ensemble of the given banks, which are empty. Those that can read the last
// day of their series from the bank of empirical quantiles, which must come before
// them, do.
func Of(banks ...model.Experts) *Ensemble {
	e := &Ensemble{banks: banks}
	for _, b := range banks {
		if emp, ok := b.(*model.Empirical); ok {
			e.emp = emp
		}
		if l, ok := b.(lifter); ok {
			e.events = l
		}
		e.names = append(e.names, b.Names()...)
	}
	for _, b := range banks {
		if s, ok := b.(interface{ Share(*model.Empirical) }); ok && e.emp != nil {
			s.Share(e.emp)
		}
	}
	e.q = make([]schemas.Dist, len(e.names))
	for i := range e.q {
		e.q[i] = schemas.NewDist()
	}
	e.ok, e.asked = make([]bool, len(e.names)), make([]bool, len(e.names))
	e.weights = make([]float32, NumBuckets*groups*len(e.names))
	e.share = make([]float32, len(e.names))
	for k := range e.share {
		e.share[k] = 1
	}
	e.order = make([]opinion, len(e.names))
	e.paired = make([]float32, len(halves)*len(e.names))
	e.learn = newLearner(e.names)
	e.wait = newWaiting(len(e.names))
	e.x = make([]float32, 0, window.Rows)
	return e
}

const (
	enough  = 6  // values below which a series is not forecast
	grownUp = 72 // values from which it is no newcomer
)

// youth is how new series i is, from 1 to 0: so much of what newcomers' quantiles lack is
// added to its own.
func (e *Ensemble) youth(i int) float32 { return 1 - float32(e.heard[i])/grownUp }

// Names of the experts, in the order of the weights.
func (e *Ensemble) Names() []string { return e.names }

// Tune sets what is switched off.
func (e *Ensemble) Tune(t Tuning) { e.tune = t }

// Add implements [model.Bank].
func (e *Ensemble) Add(k model.Key) int {
	i := e.banks[0].Add(k)
	for _, b := range e.banks[1:] {
		if j := b.Add(k); j != i {
			panic(fmt.Sprintf("ensemble: banks disagree on the index of a series: %d and %d", i, j))
		}
	}
	for len(e.keys) <= i {
		e.keys, e.used, e.heard = append(e.keys, model.Key{}), append(e.used, false), append(e.heard, 0)
	}
	e.keys[i], e.used[i], e.heard[i] = k, true, 0
	e.learn.grow(i)
	e.wait.grow(i)
	return i
}

// Remove implements [model.Bank].
func (e *Ensemble) Remove(i int) {
	for _, b := range e.banks {
		b.Remove(i)
	}
	if i >= 0 && i < len(e.used) {
		e.used[i] = false
	}
}

// Observe implements [model.Bank]. Targets captured earlier that fall on the step are
// learnt from.
func (e *Ensemble) Observe(s schemas.Step, y []float32, known model.Regressors) {
	if s > e.last && !e.tune.NoLearning {
		for i := range min(len(y), len(e.keys)) {
			if e.used[i] && y[i]-y[i] == 0 {
				e.settle(i, s, y[i])
			}
		}
	}
	for i := range min(len(y), len(e.keys)) {
		if y[i]-y[i] == 0 && e.heard[i] < grownUp {
			e.heard[i]++
		}
	}
	e.last = max(e.last, s)
	for _, b := range e.banks {
		b.Observe(s, y, known)
	}
}

// settle learns from the targets of series i that fall on step s.
func (e *Ensemble) settle(i int, s schemas.Step, y float32) {
	for n := i * captures; n < (i+1)*captures; n++ {
		from := e.wait.from[n]
		if s < from || from == 0 {
			continue
		}
		slot := int(e.wait.slot[n])
		size := schemas.SlotLen(slot)
		if s >= from+schemas.Step(size) {
			e.wait.from[n] = 0
			continue
		}
		q := e.wait.get(n)
		at := len(e.names) * groups
		b := BucketOf(slot)
		e.learn.learn(i, b, y, q[:at], q[at:], 1/float32(size), e.youth(i))
	}
}

// Refit implements [model.Bank].
func (e *Ensemble) Refit(i int, w window.View, seed uint64) error {
	for _, b := range e.banks {
		if err := b.Refit(i, w, seed); err != nil {
			return fmt.Errorf("ensemble: %w", err)
		}
	}
	e.x = w.Series(e.keys[i].Resource, e.x)
	known := uint8(0)
	for n := len(e.x) - 1; n >= 0 && known < grownUp; n-- {
		if e.x[n] == e.x[n] {
			known++
		}
	}
	e.heard[i] = max(e.heard[i], known)
	e.learn.cluster[i] = clusterOf(e.strength(i), e.x)
	e.learn.fine[i] = fineness(e.x)
	if e.tune.NoLearning {
		return nil
	}
	if w.N >= warmFrom && e.learn.unseen(i) {
		if err := e.warm(i, &w); err != nil {
			return fmt.Errorf("ensemble: warm start: %w", err)
		}
	}
	e.learn.share(i, e.weights)
	return nil
}

func (e *Ensemble) strength(i int) float32 {
	if e.emp == nil {
		return 0
	}
	return e.emp.Strength(i)
}

// Captures says whether a forecast of series i from step s is kept to learn from: who
// does not forecast at every step must at these, or learns less.
func (e *Ensemble) Captures(s schemas.Step) bool { return s%CaptureEvery == 0 }

// Forecast implements [model.Bank]. When the step before the grid is one at which
// [Ensemble.Captures] the experts' quantiles of a few slots are kept, to be weighed
// when the outcomes come.
func (e *Ensemble) Forecast(i int, g schemas.Grid, known model.Regressors, dst *schemas.Dist) {
	if e.heard[i] < enough {
		for n := range dst.Q {
			dst.Q[n] = schemas.NaN()
		}
		return
	}
	s := g.Start - 1
	capture := e.Captures(s) && s == e.last && !e.tune.NoLearning
	e.weigh(i, g.Start > e.last+1)
	e.ask(i, g, known, capture)
	for s := range schemas.Slots {
		e.slot(i, g, known, s, dst.At(s))
	}
	if capture {
		e.capture(i, s, dst)
	}
	if e.tune.NoTracking {
		return
	}
	for s := range schemas.Slots {
		e.widen(i, e.bucket(g, s), dst.At(s))
	}
}

// slot mixes one slot. Where nobody with a weight has a word on it, whoever has one
// counts.
func (e *Ensemble) slot(i int, g schemas.Grid, known model.Regressors, s int, q []float32) {
	b := e.bucket(g, s)
	if b != e.at {
		e.at, e.speakers = b, e.pair(b, false)
	}
	if e.mix(e.speakers, s, q) {
		return
	}
	e.ask(i, g, known, true)
	e.mix(e.pair(b, true), s, q)
	e.at = -1
}

// weigh gets the weights of series i in all buckets, or in the last alone.
func (e *Ensemble) weigh(i int, lastOnly bool) {
	size := groups * len(e.names)
	for b := range NumBuckets {
		if w := e.weights[b*size : (b+1)*size]; lastOnly && b < NumBuckets-1 {
			clear(w)
		} else {
			e.learn.weigh(i, b, w)
		}
	}
	clear(e.asked)
	clear(e.ok)
	e.at = -1
}

// ask lets the experts that have a weight somewhere, or all, speak of the grid. The
// others cost more time than anything else in a forecast.
func (e *Ensemble) ask(i int, g schemas.Grid, known model.Regressors, all bool) {
	told, concerned := known, e.concerned(i, &known)
	if concerned {
		told = model.Regressors{}
		e.lifts(i, g, known)
	}
	k := 0
	for _, b := range e.banks {
		for x := range b.Names() {
			if !e.asked[k] && (all || e.counts(k)) {
				e.asked[k], e.ok[k] = true, b.Expert(i, x, g, told, &e.q[k])
				if concerned && e.ok[k] {
					e.raise(&e.q[k])
				}
			}
			k++
		}
	}
}

// counts says whether expert k has a weight in any bucket.
func (e *Ensemble) counts(k int) bool {
	for at := k; at < len(e.weights); at += len(e.names) {
		if e.weights[at] > 0 {
			return true
		}
	}
	return false
}

// bucket is the bucket of a slot; on a grid that begins later than the next step all
// slots are of the longest leads.
func (e *Ensemble) bucket(g schemas.Grid, slot int) int {
	if g.Start > e.last+1 {
		return NumBuckets - 1
	}
	return BucketOf(slot)
}

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
	banks []model.Experts
	emp   *model.Empirical // nil without one: then no series counts as daily
	names []string
	keys  []model.Key
	used  []bool
	heard []uint8      // values known of each series, up to enough
	last  schemas.Step // newest step observed
	learn *learner
	wait  waiting
	tune  Tuning

	q       []schemas.Dist // scratch, one an expert
	ok      []bool
	weights []float32 // groups x experts
	x       []float32
	order   []opinion
}

var _ model.Bank = (*Ensemble)(nil)

// Tuning switches parts off, for ablations. The zero value is all on.
type Tuning struct {
	NoLearning bool // the clusters' starting weights throughout
	NoTracking bool // quantiles as the mix has them
}

// New makes an ensemble of all banks there are.
func New() *Ensemble { return Of(Banks()...) }

// Of makes an ensemble of the given banks.
func Of(banks ...model.Experts) *Ensemble {
	e := &Ensemble{banks: banks}
	for _, b := range banks {
		if emp, ok := b.(*model.Empirical); ok {
			e.emp = emp
		}
		e.names = append(e.names, b.Names()...)
	}
	e.q = make([]schemas.Dist, len(e.names))
	for i := range e.q {
		e.q[i] = schemas.NewDist()
	}
	e.ok = make([]bool, len(e.names))
	e.weights = make([]float32, groups*len(e.names))
	e.order = make([]opinion, len(e.names))
	e.learn = newLearner(e.names)
	e.wait.experts = len(e.names)
	e.x = make([]float32, 0, window.Rows)
	return e
}

// enough is the number of values below which a series is not forecast.
const enough = 6

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
			if e.used[i] && y[i] == y[i] {
				e.settle(i, s, y[i])
			}
		}
	}
	for i := range min(len(y), len(e.keys)) {
		if y[i] == y[i] && e.heard[i] < enough {
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
		q := e.wait.row(n)
		at := len(e.names) * groups
		b := BucketOf(slot)
		e.learn.learn(i, b, y, q[:at], q[at:], 1/float32(size))
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
	for n := len(e.x) - 1; n >= 0 && known < enough; n-- {
		if e.x[n] == e.x[n] {
			known++
		}
	}
	e.heard[i] = max(e.heard[i], known)
	e.learn.cluster[i] = clusterOf(e.strength(i), e.x)
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
	k := 0
	for _, b := range e.banks {
		for x := range b.Names() {
			e.ok[k] = b.Expert(i, x, g, known, &e.q[k])
			k++
		}
	}
	b := -1
	for s := range schemas.Slots {
		if at := e.bucket(g, s); at != b {
			b = at
			e.learn.weigh(i, b, e.weights)
		}
		e.mix(s, dst.At(s))
	}
	if s := g.Start - 1; e.Captures(s) && s == e.last && !e.tune.NoLearning {
		e.capture(i, s, dst)
	}
	if e.tune.NoTracking {
		return
	}
	for s := range schemas.Slots {
		e.widen(i, e.bucket(g, s), dst.At(s))
	}
}

// bucket is the bucket of a slot; on a grid that begins later than the next step all
// slots are of the longest leads.
func (e *Ensemble) bucket(g schemas.Grid, slot int) int {
	if g.Start > e.last+1 {
		return NumBuckets - 1
	}
	return BucketOf(slot)
}

// mix combines what the experts said of a slot, level by level.
func (e *Ensemble) mix(s int, q []float32) {
	for l := range q {
		n := e.sorted(s, l)
		if n == 0 {
			q[l] = schemas.NaN()
			continue
		}
		q[l] = trimmed(e.order[:n])
	}
	model.Tidy(q)
}

// opinion is an expert's quantile and its weight.
type opinion struct{ q, w float32 }

// sorted fills e.order with the opinions on a level of a slot that have a weight, by
// quantile; if none has, with all there are, alike.
func (e *Ensemble) sorted(s, l int) (n int) {
	a, b := levelGroup[l][0]*len(e.names), levelGroup[l][1]*len(e.names)
	for pass := 0; pass < 2 && n == 0; pass++ {
		for k := range e.q {
			v := e.q[k].Q[s*schemas.NumLevels+l]
			w := e.weights[a+k] + e.weights[b+k]
			if pass == 1 {
				w = 1
			}
			if !e.ok[k] || v != v || w <= 0 {
				continue
			}
			i := n
			for ; i > 0 && e.order[i-1].q > v; i-- {
				e.order[i] = e.order[i-1]
			}
			e.order[i] = opinion{v, w}
			n++
		}
	}
	return n
}

// trimmed is the mean of the opinions between the trim and 1 - trim quantile by
// weight: the mean where experts are close, and unmoved by a minority that is far off.
func trimmed(o []opinion) float32 {
	var total float32
	for _, x := range o {
		total += x.w
	}
	lo, hi := trim*total, (1-trim)*total
	var sum, at float32
	for _, x := range o {
		from, to := max(at, lo), min(at+x.w, hi)
		if to > from {
			sum += (to - from) * (x.q - o[0].q)
		}
		at += x.w
	}
	return o[0].q + sum/(hi-lo)
}

// widen puts the quantiles at their tracked distance from the median.
func (e *Ensemble) widen(i, b int, q []float32) {
	l := e.learn
	at := (i*NumBuckets + b) * groups
	pool := l.breadth[(int(l.cluster[i])*NumBuckets+b)*groups:]
	m := q[schemas.NumLevels/2]
	var f [groups]float32
	for g := range f {
		f[g] = widthOf(l.width[at+g] + pool[g])
	}
	for k := range q {
		if k != schemas.NumLevels/2 {
			q[k] = m + (q[k]-m)*(f[levelGroup[k][0]]+f[levelGroup[k][1]])/2
		}
	}
	model.Tidy(q)
}

// capture keeps the experts' quantiles of the buckets whose turn it is.
func (e *Ensemble) capture(i int, s schemas.Step, dst *schemas.Dist) {
	phase := int(e.keys[i].Hash() % 16)
	for b := range NumBuckets {
		n, slot, ok := target(i, b, s, phase)
		if !ok {
			continue
		}
		e.wait.from[n] = s + 1 + schemas.Step(schemas.SlotOffset(slot))
		e.wait.slot[n] = uint8(slot)
		row := e.wait.row(n)
		for k := range e.q {
			q := e.q[k].At(slot)
			for g, l := range groupLevel {
				row[k*groups+g] = q[l]
				if !e.ok[k] {
					row[k*groups+g] = schemas.NaN()
				}
			}
		}
		q := dst.At(slot)
		for g, l := range groupLevel {
			row[len(e.q)*groups+g] = q[l]
		}
	}
}

package model

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/foreshift/foreshift/schemas"
)

// MaxTerms is the most regressors of one series that a bank learns; further ones of
// [Regressors.Of] are left out.
const MaxTerms = 6

// maxClasses bounds the classes whose effect is shared among series.
const maxClasses = 64

// The effect of a class on a series.
const (
	efCoef     = iota // estimate: b of [Prophet]
	efVar             // its variance; 0: never fitted
	efMemory          // evidence of rows that left the window: precision,
	efMemoryBy        // and precision x coefficient
	efSeen            // evidence in all, window included: precision,
	efSeenBy          // and precision x coefficient
	efLoc             // of a numeric one: (x - loc) * inv, coefficient in demand
	efInv
	effectSize
)

const (
	memoryDays  = 60 // of the evidence kept: its weight falls by e in so long
	operatorVMs = 2  // series whose evidence weighs as much as the operator's word
	mostSD      = 6  // standard deviations a numeric series is believed to leave its mean
	mostEffect  = 5  // estimates of a coefficient beyond are taken for this
)

// events are what is known of regressors: slots of a series, each for one class.
type events struct {
	known   Regressors
	class   []uint64       // n x MaxTerms; 0: free
	effects []float32      // n x MaxTerms x effectSize
	left    []schemas.Step // n: rows before are in the memory
	learnt  bool           // some series has learnt of some class
	shared  [maxClasses]sharedClass
	classes int
}

// sharedClass is what all series together know of a class.
type sharedClass struct {
	class            uint64
	weight, weighted float64 // sum of precisions between series, and x coefficient
}

// grow makes room for series i and forgets what its index knew.
func (e *events) grow(i int) {
	e.class = Grown(e.class, i, MaxTerms)
	e.effects = Grown(e.effects, i, MaxTerms*effectSize)
	e.left = Grown(e.left, i, 1)
}

// slot is the effect of a class on series i, nil when it has none.
func (e *events) slot(i int, class uint64) []float32 {
	for j := i * MaxTerms; j < (i+1)*MaxTerms; j++ {
		if e.class[j] == class {
			return e.effects[j*effectSize : (j+1)*effectSize]
		}
	}
	return nil
}

// take finds the slot of a class or makes room for it, at the cost of the class that
// is not among terms and about which least is known.
func (e *events) take(i int, class uint64, terms []Term) []float32 {
	if s := e.slot(i, class); s != nil {
		return s
	}
	best, least := -1, float32(math.Inf(1))
	for j := i * MaxTerms; j < (i+1)*MaxTerms; j++ {
		if e.class[j] == 0 {
			best = j
			break
		}
		if m := e.effects[j*effectSize+efSeen]; m < least && !concerns(terms, e.class[j]) {
			best, least = j, m
		}
	}
	if best < 0 {
		return nil
	}
	e.class[best] = class
	s := e.effects[best*effectSize : (best+1)*effectSize]
	clear(s)
	return s
}

func concerns(terms []Term, class uint64) bool {
	for t := range terms {
		if terms[t].Class == class {
			return true
		}
	}
	return false
}

// of are the terms of a series that are learnt.
func (r *Regressors) of(i int) []Term {
	if i >= len(r.Of) {
		return nil
	}
	return r.Of[i][:min(len(r.Of[i]), MaxTerms)]
}

// at is the value of regressor x at a step; 0 where it is not known: no event.
func (r *Regressors) at(x int, s schemas.Step) (v float32, known bool) {
	if x < 0 || x >= len(r.X) {
		return 0, false
	}
	k := s - r.From
	if k < 0 || k >= schemas.Step(len(r.X[x])) {
		return 0, false
	}
	if v = r.X[x][k]; v != v || math.IsInf(float64(v), 0) {
		return 0, false
	}
	return v, true
}

// prior of a term's coefficient before the series' own evidence: the operator's word
// (or none: no effect), and what other series learnt of the class.
func (e *events) prior(t *Term) (mean, precision float64) {
	switch {
	case t.Numeric:
		return 0, 1 / (numericSD * numericSD)
	case t.Mean == 0:
		precision = 1 / (eventSD * eventSD)
	default:
		precision = 1 / (ratioSD * ratioSD)
	}
	mean = float64(t.Mean)
	for c := range e.shared[:e.classes] {
		if s := &e.shared[c]; s.class == t.Class {
			w := operatorVMs * precision
			return (w*mean + s.weighted) / (w + s.weight), precision
		}
	}
	return mean, precision
}

// underEvents marks the rows of series i at which an event takes place.
func (e *events) underEvents(i int, start schemas.Step, under []bool) {
	clear(under)
	for _, t := range e.known.of(i) {
		if t.Numeric {
			continue
		}
		for k := range under {
			if v, _ := e.known.at(t.X, start+schemas.Step(k)); v != 0 {
				under[k] = true
			}
		}
	}
}

// begin sets the regressors and priors of a fit.
func (p *Prophet) begin(i int, start schemas.Step, n int) {
	f := p.f
	terms := p.known.of(i)
	for j := range terms {
		t := &terms[j]
		slot := p.take(i, t.Class, terms)
		tf := &f.term[j]
		*tf = termFit{numeric: t.Numeric}
		tf.mean, tf.precision = p.prior(t)
		if slot != nil && !t.Numeric {
			tf.mean = (tf.mean*tf.precision + float64(slot[efMemoryBy])) / (tf.precision + float64(slot[efMemory]))
			tf.precision += float64(slot[efMemory])
		}
		if t.Numeric {
			tf.loc, tf.inv = p.standard(t.X, start, n)
		}
		p.regressor(t, tf, start, n, f.x[j][:f.n])
	}
	f.terms = len(terms)
}

// regressor writes the block means of a regressor.
func (p *Prophet) regressor(t *Term, tf *termFit, start schemas.Step, n int, dst []float64) {
	clear(dst)
	for k := 0; k < n; k++ {
		s := start + schemas.Step(k)
		v, known := p.known.at(t.X, s)
		b := int(s-p.f.first) / fitBlock
		if !known || b >= len(dst) {
			continue
		}
		if t.Numeric {
			dst[b] += standardised(float64(v), tf.loc, tf.inv) / fitBlock
		} else {
			dst[b] += float64(v) / fitBlock
		}
	}
	// A block that is there in part only was averaged over what is there.
	p.f.partial(start, n, dst)
}

// partial corrects block means at the two ends of the window for the rows they lack.
func (f *fit) partial(start schemas.Step, n int, x []float64) {
	if head := int(start - f.first); head > 0 {
		x[0] *= fitBlock / float64(min(fitBlock-head, n))
	}
	if tail := int(f.end-f.first) % fitBlock; tail > 0 && len(x) > 1 {
		x[len(x)-1] *= fitBlock / float64(tail)
	}
}

func standardised(v, loc, inv float64) float64 {
	return min(max((v-loc)*inv, -mostSD), mostSD)
}

// standard is the mean of a numeric regressor over the window and one over its
// standard deviation, 0 if it stands still.
func (p *Prophet) standard(x int, start schemas.Step, n int) (loc, inv float64) {
	var sum, sum2, m float64
	for pass := 0; pass < 2; pass++ {
		for k := 0; k < n; k++ {
			v, known := p.known.at(x, start+schemas.Step(k))
			if !known {
				continue
			}
			if pass == 0 {
				sum += float64(v)
				m++
			} else {
				d := float64(v) - loc
				sum2 += d * d
			}
		}
		if pass == 0 {
			if m < 2 {
				return 0, 0
			}
			loc = sum / m
		}
	}
	sd := math.Sqrt(sum2 / m)
	if !(sd > 1e-9*math.Abs(loc)) {
		return loc, 0
	}
	return loc, 1 / sd
}

// learn keeps what the fit says of its terms, and of rows about to leave the window.
func (p *Prophet) learn(i, rows int) {
	f := p.f
	terms := p.known.of(i)
	// The rows that the next refit will not see, if this one was on time.
	leaving := f.first + RefitEvery
	from := int(max(0, (p.left[i]-f.first)/fitBlock))
	for j := range terms {
		s := p.slot(i, terms[j].Class)
		if s == nil {
			continue
		}
		p.events.learnt = true
		b, v := f.theta[f.base+j], f.q.covariance(f.base+j, f.base+j, f.u[:], f.v[:])
		s[efCoef], s[efVar] = float32(b), float32(v)
		if terms[j].Numeric {
			s[efCoef], s[efVar] = float32(b*f.scale), float32(v*f.scale*f.scale)
			s[efLoc], s[efInv] = float32(f.term[j].loc), float32(f.term[j].inv)
			continue
		}
		mean, precision := p.prior(&terms[j])
		s[efSeen], s[efSeenBy] = float32(max(0, 1/v-precision)), float32(b/v-mean*precision)
		if rows == RefitRows && from < RefitEvery/fitBlock {
			a, ab := f.evidence(j, from, RefitEvery/fitBlock)
			keep := math.Exp(-RefitEvery / (memoryDays * float64(day)))
			s[efMemory] = float32(float64(s[efMemory])*keep + a)
			s[efMemoryBy] = float32(float64(s[efMemoryBy])*keep + ab)
		}
	}
	if rows == RefitRows {
		p.left[i] = max(p.left[i], leaving)
	}
}

// share gathers what the series know of each class: a mean over series, each with
// the precision of its own evidence and of how much series differ (DerSimonian and
// Laird's random effects with the prior's variance as theirs).
func (e *events) share() {
	if !e.learnt {
		return
	}
	e.classes = 0
	for j, class := range e.class {
		s := e.effects[j*effectSize : (j+1)*effectSize]
		if class == 0 || s[efInv] != 0 || !(s[efSeen] > 0) {
			continue
		}
		k := 0
		for k < e.classes && e.shared[k].class != class {
			k++
		}
		if k == maxClasses {
			continue
		}
		if k == e.classes {
			e.shared[k] = sharedClass{class: class}
			e.classes++
		}
		a := float64(s[efSeen])
		b := min(max(float64(s[efSeenBy])/a, -mostEffect), mostEffect)
		w := 1 / (ratioSD*ratioSD + 1/a)
		e.shared[k].weight += w
		e.shared[k].weighted += w * b
	}
}

// effect is what the regressors do to series i at a step where demand without them is
// m: the part of the events, that of numeric series, and the variance of both. Demand
// is not believed to fall below nothing.
func (e *events) effect(i int, s schemas.Step, known *Regressors, m float32) (share, plus, variance float32) {
	terms := known.of(i)
	if len(terms) == 0 {
		return 0, 0, 0
	}
	m = max(0, m)
	for t := range terms {
		v, ok := known.at(terms[t].X, s)
		if !ok || v == 0 && !terms[t].Numeric {
			continue
		}
		slot := e.slot(i, terms[t].Class)
		if terms[t].Numeric {
			if slot == nil || slot[efVar] == 0 {
				continue // its unit means nothing before a fit
			}
			z := float32(standardised(float64(v), float64(slot[efLoc]), float64(slot[efInv])))
			plus += z * slot[efCoef]
			variance += z * z * slot[efVar]
			continue
		}
		var b, bv float32
		if slot != nil && slot[efVar] > 0 {
			b, bv = slot[efCoef], slot[efVar]
		} else {
			mean, precision := e.prior(&terms[t])
			b, bv = float32(mean), float32(1/precision)
		}
		share += m * v * b
		variance += m * v * m * v * bv
	}
	return max(-m, share), plus, variance
}

// Lift is the part of the demand of series i at a step that regressors add (or, when
// negative, take away): why a forecast is what it is.
func (p *Prophet) Lift(i int, s schemas.Step, known Regressors) float32 {
	if i < 0 || i >= len(p.keys) || p.coef[i*coefSize] != p.coef[i*coefSize] {
		return 0
	}
	co := p.coef[i*coefSize : (i+1)*coefSize]
	m := co[coLevel] + co[coSlope]*min(float32(s-p.end[i])/day, mostAhead) + rhythm(co, s)
	share, plus, _ := p.effect(i, s, &known, m)
	return share + plus
}

// Coefficient is the learnt coefficient of a class on series i and its variance; ok
// is false before its first fit.
func (p *Prophet) Coefficient(i int, class uint64) (b, variance float32, ok bool) {
	if i < 0 || i >= len(p.keys) || class == 0 {
		return 0, 0, false
	}
	s := p.slot(i, class)
	if s == nil || s[efVar] == 0 {
		return 0, 0, false
	}
	return s[efCoef], s[efVar], true
}

// appendShared writes what all series together know.
func (e *events) appendShared(b []byte) []byte {
	b = appendBool(b, e.learnt)
	b = binary.LittleEndian.AppendUint32(b, uint32(e.classes))
	for _, s := range e.shared[:e.classes] {
		b = binary.LittleEndian.AppendUint64(b, s.class)
		b = binary.LittleEndian.AppendUint64(b, math.Float64bits(s.weight))
		b = binary.LittleEndian.AppendUint64(b, math.Float64bits(s.weighted))
	}
	return b
}

// loadShared reads what appendShared wrote, and no more.
func (e *events) loadShared(b []byte) error {
	d := decoder{b: b}
	e.learnt = d.byte() != 0
	n := d.count(24)
	if d.short || n > maxClasses || len(d.b) != 24*n {
		return fmt.Errorf("model state: %d bytes for %d shared classes, at most %d", len(b), n, maxClasses)
	}
	for k := range n {
		e.shared[k] = sharedClass{d.uint64(), math.Float64frombits(d.uint64()), math.Float64frombits(d.uint64())}
	}
	e.classes = n
	return nil
}

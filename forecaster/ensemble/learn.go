package ensemble

import (
	"math"

	"github.com/foreshift/foreshift/forecaster/model"
	"github.com/foreshift/foreshift/schemas"
)

// learner holds what was learnt of every series: for each bucket of leads and group
// of levels the experts' regrets. It is a table, not an object a series.
//
// The weights are those of Bernstein Online Aggregation (Wintenberger, Optimal
// learning with Bernstein online aggregation, Machine Learning 106, 2017, eq. 2-4)
// on the pinball loss of each level: with r_k = loss(mix) - loss(k),
//
//	R_k += r_k (1 - eta_k r_k),  V += max_k r_k^2,  eta_k = min(1/2B, sqrt(ln(1/p_k)/V)),
//	w_k ~ p_k exp(eta_k R_k),
//
// p being the prior, B the largest |r| seen: no unit and no rate to be chosen. One V
// serves all experts, which halves the memory and changes no score. Past
// regrets fade, so that weights follow a pattern that changes; experts that have
// nothing to say sleep. Taking it level by level is Berrisch and Ziel, CRPS learning,
// J. Econometrics 237 (2023).
type learner struct {
	experts int
	reg     []float32 // n x buckets x groups x experts
	vol     []float32 // n x buckets x groups: V
	top     []float32 // n x buckets x groups: B
	width   []float32 // n x buckets x groups: log of the factor on the distance from the median
	seen    []float32 // n x buckets: outcomes, fading
	fine    []float32 // n: see fineness
	cluster []uint8   // n
	pool    []float32 // clusters x buckets x groups x experts: prior weights
	breadth []float32 // clusters x buckets x groups: prior of width
	young   []float32 // buckets x groups: of width, for newcomers of all clusters
	odds    []odds    // of pool, which changes seldom
	gain    []float32 // scratch, by expert: what the mix loses more than it
}

// odds are what the weights need of a prior p.
type odds struct {
	log  float32 // ln p
	root float32 // sqrt(-ln p)
}

const (
	cell = NumBuckets * groups
	// fade is what a capture leaves of the past (see capturePeriod): the last 20 or so
	// count. Fleets change more than adversaries lie.
	fade = .95
	// haste is the rate as a share of what the theory allows.
	haste = 1
	// poolRate is how much a member moves its cluster's prior at each refit.
	poolRate = .01
	// drop is the weight, as a share of the largest, below which an expert is left out:
	// a trace of a wrong one would blur what stands still.
	drop = .1
	// trim is the share of the weight left out at either end, see trimmed.
	trim = .3
	// widthRate is the step of the quantile tracking, widthPool of its pool.
	widthRate = .04
	widthPool = .002
	widest    = 1.5
)

// youngWidth is what newcomers' width begins with in each bucket, before any was seen: of
// the day ahead half an hour says less than of the next step.
var youngWidth = [NumBuckets]float32{.3, .4, .5, .7, .9, 1}

func newLearner(names []string) *learner {
	l := &learner{experts: len(names)}
	l.pool = make([]float32, numClusters*cell*l.experts)
	l.breadth = make([]float32, numClusters*cell)
	for c := range numClusters {
		for b := range NumBuckets {
			for g := range groups {
				startWeights(names, clusterDaily(c), b, l.prior(c, b, g))
			}
		}
	}
	l.young = make([]float32, cell)
	for k := range l.young {
		l.young[k] = youngWidth[k/groups]
	}
	l.odds, l.gain = make([]odds, len(l.pool)), make([]float32, l.experts)
	l.reckon(0, len(l.pool))
	return l
}

// reckon brings the odds of the n priors from at on up to date.
func (l *learner) reckon(at, n int) {
	for k, p := range l.pool[at : at+n] {
		log := math.Log(float64(p))
		l.odds[at+k] = odds{float32(log), float32(math.Sqrt(max(0, -log)))}
	}
}

func (l *learner) prior(c, b, g int) []float32 {
	at := l.priorAt(c, b, g)
	return l.pool[at : at+l.experts]
}

func (l *learner) priorAt(c, b, g int) int { return ((c*NumBuckets+b)*groups + g) * l.experts }

// grow makes room for series i and forgets what its index had learnt.
func (l *learner) grow(i int) {
	l.reg = model.Grown(l.reg, i, cell*l.experts)
	for _, t := range []*[]float32{&l.vol, &l.top, &l.width} {
		*t = model.Grown(*t, i, cell)
	}
	l.seen = model.Grown(l.seen, i, NumBuckets)
	l.fine = model.Grown(l.fine, i, 1)
	l.cluster = model.Grown(l.cluster, i, 1)
}

// pinball is the loss of quantile q at level tau when y comes.
func pinball(y, q, tau float32) float32 {
	if y >= q {
		return (y - q) * tau
	}
	return (q - y) * (1 - tau)
}

// rates are the bound of eta from B, and what sqrt(-ln p) is multiplied by from V.
func rates(vol, top float32) (most, by float32) {
	if !(vol > 0) || !(top > 0) {
		return 0, 0
	}
	return haste * .5 / top, haste / float32(math.Sqrt(float64(vol)))
}

// learn takes the outcome y of a target in bucket b: q[k*groups+g] is what expert k
// said at the level of group g, mix what the ensemble did before tracking. share
// counts the outcome, for the steps of one slot share one target; youth is that of the
// series.
func (l *learner) learn(i, b int, y float32, q, mix []float32, share, youth float32) {
	c := int(l.cluster[i])
	keep := 1 - (1-fade)*share
	l.seen[i*NumBuckets+b] = keep*l.seen[i*NumBuckets+b] + share
	for g := range groups {
		m := mix[g]
		if m-m != 0 || y-m-(y-m) != 0 {
			continue
		}
		tau := schemas.Levels[groupLevel[g]]
		at := (i*NumBuckets+b)*groups + g
		reg := l.reg[at*l.experts : (at+1)*l.experts]
		from := l.priorAt(c, b, g)
		odds := l.odds[from : from+l.experts]
		loss := pinball(y, m, tau)
		var most float32
		gain := l.gain[:len(reg)]
		for k := range gain {
			gain[k] = 0 // of an expert that was silent
			if x := q[k*groups+g]; x == x {
				gain[k] = loss - pinball(y, x, tau)
				most = max(most, abs32(gain[k]))
			}
		}
		if square := most * most; square-square != 0 {
			continue // beyond what can be counted: nothing to learn from
		}
		top := max(l.top[at]*(1-(1-keep)/4), most)
		vol := keep*l.vol[at] + share*most*most
		l.top[at], l.vol[at] = top, vol
		fastest, by := rates(vol, top)
		for k, r := range gain {
			if x := q[k*groups+g]; x == x {
				reg[k] = keep*reg[k] + share*r*(1-min(fastest, by*odds[k].root)*r)
			}
		}
	}
	l.track(i, b, c, y, mix, share, youth)
}

// track moves the widths so that the outer quantiles are exceeded as often as they
// should be: the proportional term of Angelopoulos, Candes and Tibshirani, Conformal
// PID control (2307.16895, eq. 5), on the logarithm of the distance from the median.
// An outcome that equals the quantile counts as inside. The median is left alone.
func (l *learner) track(i, b, c int, y float32, mix []float32, share, youth float32) {
	m := mix[groups/2]
	if m != m {
		return
	}
	for g := range groups {
		if g == groups/2 {
			continue
		}
		at := (i*NumBuckets+b)*groups + g
		pool, young := &l.breadth[(c*NumBuckets+b)*groups+g], &l.young[b*groups+g]
		tau := schemas.Levels[groupLevel[g]]
		out := tau
		q := m + (mix[g]-m)*widthOf(l.width[at]+*pool+youth**young)
		d := q - y
		if g > groups/2 {
			out, d = 1-tau, y-q
		}
		move := -out
		if d > 0 {
			move = 1 - out
		}
		l.width[at] = min(max(l.width[at]+share*widthRate*move, -widest), widest)
		*pool = min(max(*pool+(1-youth)*share*widthPool*move, -widest), widest)
		*young = min(max(*young+youth*share*widthPool*move, 0), widest)
	}
}

func widthOf(a float32) float32 { return float32(math.Exp(float64(a))) }

// weigh writes the weights of series i in bucket b: dst[g*experts+k].
func (l *learner) weigh(i, b int, dst []float32) {
	c := int(l.cluster[i])
	for g := range groups {
		at := (i*NumBuckets+b)*groups + g
		reg := l.reg[at*l.experts : (at+1)*l.experts]
		from := l.priorAt(c, b, g)
		odds := l.odds[from : from+l.experts]
		fastest, by := rates(l.vol[at], l.top[at])
		w := dst[g*l.experts : (g+1)*l.experts]
		most := float32(math.Inf(-1))
		for k := range w {
			w[k] = odds[k].log + min(fastest, by*odds[k].root)*reg[k]
			most = max(most, w[k])
		}
		for k := range w {
			if w[k] = float32(math.Exp(float64(w[k] - most))); w[k] < drop {
				w[k] = 0
			}
		}
	}
}

// share moves the cluster's prior a little towards the weights of member i.
func (l *learner) share(i int, scratch []float32) {
	c := int(l.cluster[i])
	for b := range NumBuckets {
		if l.seen[i*NumBuckets+b] < 4 {
			continue
		}
		l.weigh(i, b, scratch)
		for g := range groups {
			w, p := scratch[g*l.experts:(g+1)*l.experts], l.prior(c, b, g)
			var total float32
			for _, v := range w {
				total += v
			}
			for k := range p {
				p[k] += poolRate * (w[k]/total - p[k])
			}
			normalise(p, 1)
			l.reckon(l.priorAt(c, b, g), l.experts)
		}
	}
}

func abs32(x float32) float32 {
	if x < 0 {
		return -x
	}
	return x
}

package ensemble

import (
	"math"

	"github.com/foreshift/foreshift/schemas"
)

// learner holds what was learnt of every series: for each bucket of leads and group
// of levels the experts' regrets. It is a table, not an object a series.
//
// The weights are those of Bernstein Online Aggregation (Wintenberger, Optimal
// learning with Bernstein online aggregation, Machine Learning 106, 2017, eq. 2-4)
// on the pinball loss of each level: with r_k = loss(mix) - loss(k),
//
//	R_k += r_k (1 - eta_k r_k),  V_k += r_k^2,  eta_k = min(1/2B, sqrt(ln(1/p_k)/V_k)),
//	w_k ~ p_k exp(eta_k R_k),
//
// p being the prior, B the largest |r| seen: no unit and no rate to be chosen. Past
// regrets fade, so that weights follow a pattern that changes; experts that have
// nothing to say sleep. Taking it level by level is Berrisch and Ziel, CRPS learning,
// J. Econometrics 237 (2023).
type learner struct {
	experts int
	reg     []float32 // n x buckets x groups x experts
	vol     []float32 // as reg
	top     []float32 // n x buckets x groups: B
	width   []float32 // n x buckets x groups: log of the factor on the distance from the median
	seen    []float32 // n x buckets: outcomes, fading
	cluster []uint8   // n
	pool    []float32 // clusters x buckets x groups x experts: prior weights
	breadth []float32 // clusters x buckets x groups: prior of width
}

const (
	cell = NumBuckets * groups
	// fade is what a capture leaves of the past (see capturePeriod): the last 20 or so
	// count. Fleets change more than adversaries lie.
	fade = .95
	// haste is the rate as a share of what the theory allows.
	haste = .5
	// poolRate is how much a member moves its cluster's prior at each refit.
	poolRate = .01
	// drop is the weight, as a share of the largest, below which an expert is left out:
	// a trace of a wrong one would blur what stands still.
	drop = .02
	// trim is the share of the weight left out at either end, see trimmed.
	trim = .3
	// widthRate is the step of the quantile tracking, widthPool of its pool.
	widthRate = .04
	widthPool = .002
	widest    = 1.5
)

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
	return l
}

func (l *learner) prior(c, b, g int) []float32 {
	at := ((c*NumBuckets+b)*groups + g) * l.experts
	return l.pool[at : at+l.experts]
}

// grow makes room for series i and forgets what its index had learnt.
func (l *learner) grow(i int) {
	for len(l.cluster) <= i {
		l.reg = append(l.reg, make([]float32, cell*l.experts)...)
		l.vol = append(l.vol, make([]float32, cell*l.experts)...)
		l.top = append(l.top, make([]float32, cell)...)
		l.width = append(l.width, make([]float32, cell)...)
		l.seen = append(l.seen, make([]float32, NumBuckets)...)
		l.cluster = append(l.cluster, 0)
	}
	n := cell * l.experts
	clear(l.reg[i*n : (i+1)*n])
	clear(l.vol[i*n : (i+1)*n])
	clear(l.top[i*cell : (i+1)*cell])
	clear(l.width[i*cell : (i+1)*cell])
	clear(l.seen[i*NumBuckets : (i+1)*NumBuckets])
	l.cluster[i] = 0
}

// pinball is the loss of quantile q at level tau when y comes.
func pinball(y, q, tau float32) float32 {
	if y >= q {
		return (y - q) * tau
	}
	return (q - y) * (1 - tau)
}

func (l *learner) rate(p, vol, top float32) float32 {
	if !(vol > 0) || !(top > 0) {
		return 0
	}
	return haste * min(.5/top, float32(math.Sqrt(float64(-logOf(p)/vol))))
}

func logOf(p float32) float32 { return float32(math.Log(float64(p))) }

// learn takes the outcome y of a target in bucket b: q[k*groups+g] is what expert k
// said at the level of group g, mix what the ensemble did before tracking. share
// counts the outcome, for the steps of one slot share one target.
func (l *learner) learn(i, b int, y float32, q, mix []float32, share float32) {
	c := int(l.cluster[i])
	keep := 1 - (1-fade)*share
	l.seen[i*NumBuckets+b] = keep*l.seen[i*NumBuckets+b] + share
	for g := range groups {
		m := mix[g]
		if m != m {
			continue
		}
		tau := schemas.Levels[groupLevel[g]]
		at := (i*NumBuckets+b)*groups + g
		reg := l.reg[at*l.experts : (at+1)*l.experts]
		vol := l.vol[at*l.experts : (at+1)*l.experts]
		p := l.prior(c, b, g)
		loss := pinball(y, m, tau)
		top := l.top[at] * (1 - (1-keep)/4)
		for k := range reg {
			if x := q[k*groups+g]; x == x {
				top = max(top, abs32(loss-pinball(y, x, tau)))
			}
		}
		l.top[at] = top
		for k := range reg {
			x := q[k*groups+g]
			if x != x {
				continue
			}
			r := loss - pinball(y, x, tau)
			v := keep*vol[k] + share*r*r
			vol[k] = v
			reg[k] = keep*reg[k] + share*r*(1-l.rate(p[k], v, top)*r)
		}
	}
	l.track(i, b, c, y, mix, share)
}

// track moves the widths so that the outer quantiles are exceeded as often as they
// should be: the proportional term of Angelopoulos, Candes and Tibshirani, Conformal
// PID control (2307.16895, eq. 5), on the logarithm of the distance from the median.
// An outcome that equals the quantile counts as inside. The median is left alone.
func (l *learner) track(i, b, c int, y float32, mix []float32, share float32) {
	m := mix[groups/2]
	if m != m {
		return
	}
	for g := range groups {
		if g == groups/2 {
			continue
		}
		at := (i*NumBuckets+b)*groups + g
		pool := &l.breadth[(c*NumBuckets+b)*groups+g]
		tau := schemas.Levels[groupLevel[g]]
		out := tau
		q := m + (mix[g]-m)*widthOf(l.width[at]+*pool)
		d := q - y
		if g > groups/2 {
			out, d = 1-tau, y-q
		}
		move := -out
		if d > 0 {
			move = 1 - out
		}
		l.width[at] = min(max(l.width[at]+share*widthRate*move, -widest), widest)
		*pool = min(max(*pool+share*widthPool*move, -widest), widest)
	}
}

func widthOf(a float32) float32 { return float32(math.Exp(float64(a))) }

// weigh writes the weights of series i in bucket b: dst[g*experts+k].
func (l *learner) weigh(i, b int, dst []float32) {
	c := int(l.cluster[i])
	for g := range groups {
		at := (i*NumBuckets+b)*groups + g
		reg := l.reg[at*l.experts : (at+1)*l.experts]
		vol := l.vol[at*l.experts : (at+1)*l.experts]
		p := l.prior(c, b, g)
		w := dst[g*l.experts : (g+1)*l.experts]
		most := float32(math.Inf(-1))
		for k := range w {
			w[k] = logOf(p[k]) + l.rate(p[k], vol[k], l.top[at])*reg[k]
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
			var sum float32
			for k := range p {
				p[k] = max(least, p[k]+poolRate*(w[k]/total-p[k]))
				sum += p[k]
			}
			for k := range p {
				p[k] /= sum
			}
		}
	}
}

func abs32(x float32) float32 {
	if x < 0 {
		return -x
	}
	return x
}

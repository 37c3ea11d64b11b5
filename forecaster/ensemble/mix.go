package ensemble

import (
	"math"

	"github.com/foreshift/foreshift/forecaster/model"
	"github.com/foreshift/foreshift/schemas"
)

// halves are the distinct pairs in levelGroup, and halfOf the pair of each level.
var halves, halfOf = func() (h [][2]int, of [schemas.NumLevels]int) {
	for l, p := range levelGroup {
		if l == 0 || p != h[len(h)-1] {
			h = append(h, p)
		}
		of[l] = len(h) - 1
	}
	return h, of
}()

// opinion is an expert's quantile and its weight.
type opinion struct {
	q, w float32
	k    int
}

// pair writes the experts' weights in bucket b, times share, or 1 for all alike, by
// pair of halves into e.paired, and those that have one at all and a say into the first n of e.order.
func (e *Ensemble) pair(b int, alike bool) (n int) {
	size := len(e.names)
	w := e.weights[b*groups*size : (b+1)*groups*size]
	for k := range e.q {
		any := false
		for h, p := range halves {
			v := (w[p[0]*size+k] + w[p[1]*size+k]) * e.share[k]
			if alike {
				v = 1
			}
			e.paired[h*size+k] = v
			any = any || v > 0
		}
		if any && e.ok[k] {
			e.order[n].k = k
			n++
		}
	}
	return n
}

// mix combines what the first n of e.order said of slot s, level by level; false when
// nobody with a weight did.
func (e *Ensemble) mix(n, s int, q []float32) bool {
	o := e.order[:n]
	some := false
	for l := range q {
		w := e.paired[halfOf[l]*len(e.names):]
		var total float32
		for i := range o {
			x := &o[i]
			x.q, x.w = e.q[x.k].Q[s*schemas.NumLevels+l], w[x.k]
			if x.q-x.q != 0 {
				x.q, x.w = math.MaxFloat32, 0
			}
			total += x.w
		}
		// Sorted at one level they are nearly so at the next.
		for i := 1; i < n; i++ {
			x := o[i]
			at := i
			for ; at > 0 && o[at-1].q > x.q; at-- {
				o[at] = o[at-1]
			}
			o[at] = x
		}
		if q[l] = schemas.NaN(); total > 0 {
			q[l], some = trimmed(o, total), true
		}
	}
	model.Tidy(q)
	return some
}

// Weights writes the share of each expert, in the order of [Ensemble.Names], in the
// median of a slot of series i: they sum to 1, or are all 0 when the series is not
// known. An expert that has nothing to say in a forecast leaves its share to the rest.
func (e *Ensemble) Weights(i, slot int, dst []float32) {
	clear(dst)
	if i < 0 || i >= len(e.used) || !e.used[i] || slot < 0 || slot >= schemas.Slots || len(dst) < len(e.names) {
		return
	}
	e.weigh(i, false)
	size := len(e.names)
	b := BucketOf(slot)
	w := e.weights[b*groups*size+groups/2*size:][:size]
	var total float32
	for _, v := range w {
		total += v
	}
	if !(total > 0) {
		return
	}
	for k, v := range w {
		dst[k] = v / total
	}
}

// trimmed is the mean of the opinions between the trim and 1 - trim quantile by
// weight: the mean where experts are close, and unmoved by a minority that is far off.
func trimmed(o []opinion, total float32) float32 {
	lo, hi := trim*total, (1-trim)*total
	var sum, at float32
	for i := range o {
		x := &o[i]
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
		f[g] = widthOf(l.width[at+g] + pool[g] + e.youth(i)*l.young[b*groups+g])
	}
	for k := range q {
		if k != schemas.NumLevels/2 {
			q[k] = min(m+(q[k]-m)*(f[levelGroup[k][0]]+f[levelGroup[k][1]])/2, math.MaxFloat32)
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
		row := e.wait.wide
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
		e.wait.put(n)
	}
}

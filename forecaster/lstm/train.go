package lstm

import (
	"math"
	"math/rand/v2"

	"github.com/foreshift/foreshift/schemas"
	"gonum.org/v1/gonum/blas"
)

// How training goes: truncated back-propagation through time over chunk steps, the
// memory carried from chunk to chunk (Williams and Peng, Neural Computation 2(4),
// 1990), on lanes series side by side in each half of a batch.
const (
	chunk    = 96
	lossEach = 4 // steps from one judged forecast to the next
	lanes    = 16
)

// importance of a target in the loss. Maxima are larger than values; halved, they
// pull alike.
func importance(t int) float32 {
	if t >= len(horizons) || t < 2 {
		return .5
	}
	return 1
}

// lane is a walk and the mean loss of its series so far. Gradients are divided by
// it, which makes them those of the sum of logarithms of the series' losses: a quiet
// series counts as much as a loud one, and one easily foreseen as one that is not.
type lane struct {
	walk
	loss, n, floor float64
}

// half is one half of a batch, with scratch and gradient of its own: two run at once.
type half struct {
	w    *Weights
	lane [lanes]lane
	rng  *rand.Rand
	pool []Series

	v    []float32 // chunk x lanes x columns: what each step read
	z    []float32 // chunk x lanes x gates, squashed
	cell []float32 // (chunk+1) x lanes x Hidden
	tc   []float32 // chunk x lanes x Hidden: tanh of the cell
	hv   []float32 // lanes x headRows: memory and 1
	dh   []float32 // chunk x lanes x Hidden: from the head
	out  []float32 // lanes x outputs
	dout []float32
	dz   []float32 // chunk x lanes x gates
	dc   []float32 // lanes x Hidden
	back []float32 // lanes x Hidden
	grad []float32
	f    frame
	sum  float64 // of weighted losses of the chunk
	num  float64 // and of their importance
}

func newHalf(w *Weights, pool []Series, seed, stream uint64) *half {
	const n = chunk * lanes
	h := &half{w: w, pool: pool, rng: rand.New(rand.NewPCG(seed, stream)),
		v: make([]float32, n*columns), z: make([]float32, n*gates), cell: make([]float32, (n+lanes)*Hidden),
		tc: make([]float32, n*Hidden), hv: make([]float32, lanes*headRows), dh: make([]float32, n*Hidden),
		out: make([]float32, lanes*outputs), dout: make([]float32, lanes*outputs), dz: make([]float32, n*gates),
		dc: make([]float32, lanes*Hidden), back: make([]float32, lanes*Hidden), grad: make([]float32, Size)}
	for i := range h.lane {
		h.lane[i].walk = newWalk()
		h.begin(&h.lane[i])
	}
	return h
}

// begin puts a lane at a random place of a random series.
func (h *half) begin(l *lane) {
	s := &h.pool[h.rng.IntN(len(h.pool))]
	n := len(s.Y)
	lo := h.rng.IntN(max(1, n-2*day))
	hi := min(n, lo+(2+h.rng.IntN(8))*day)
	l.start(s, lo, hi)
	var mean, dev float64
	m := 0.
	for _, y := range l.y {
		if y == y {
			mean += float64(y)
			m++
		}
	}
	mean /= max(m, 1)
	for _, y := range l.y {
		if y == y {
			dev += math.Abs(float64(y) - mean)
		}
	}
	dev /= max(m, 1)
	l.floor = .01*dev + 1e-6*math.Abs(mean) + 1e-12
	l.loss, l.n = 8*(.15*dev+l.floor), 8
}

// run goes one chunk forward and back and leaves the gradient of the summed loss in
// h.grad.
func (h *half) run() {
	clear(h.grad)
	h.sum, h.num = 0, 0
	for i := range h.lane {
		l := &h.lane[i]
		if l.at+chunk >= len(l.y) {
			h.begin(l)
		}
		copy(h.cell[i*Hidden:(i+1)*Hidden], l.c[atC:])
	}
	for t := range chunk {
		h.forward(t)
	}
	clear(h.dc)
	clear(h.back)
	for t := chunk - 1; t >= 0; t-- {
		h.backward(t)
	}
	kernel.Sgemm(blas.Trans, blas.NoTrans, columns, gates, chunk*lanes, 1, h.v, columns, h.dz, gates, 1, h.grad[:recSize], gates)
}

func (h *half) forward(t int) {
	v, z := h.v[t*lanes*columns:(t+1)*lanes*columns], h.z[t*lanes*gates:(t+1)*lanes*gates]
	for i := range h.lane {
		l := &h.lane[i]
		s := l.see()
		x := v[i*columns : (i+1)*columns]
		l.c.inputsAt(s, l.s.Resource, x[:inputs])
		copy(x[inputs:], l.c[atH:atH+Hidden])
		x[columns-1] = 1
	}
	kernel.Sgemm(blas.NoTrans, blas.NoTrans, lanes, gates, columns, 1, v, columns, h.w.rec(), gates, 0, z, gates)
	for i := range h.lane {
		l := &h.lane[i]
		z := z[i*gates : (i+1)*gates]
		old := h.cell[(t*lanes+i)*Hidden:][:Hidden]
		now := h.cell[((t+1)*lanes+i)*Hidden:][:Hidden]
		tc := h.tc[(t*lanes+i)*Hidden:][:Hidden]
		hv := h.hv[i*headRows : (i+1)*headRows]
		for j := range Hidden {
			in, fg, og, g := sigmoid(z[j]), sigmoid(z[Hidden+j]), sigmoid(z[2*Hidden+j]), tanh(z[3*Hidden+j])
			z[j], z[Hidden+j], z[2*Hidden+j], z[3*Hidden+j] = in, fg, og, g
			now[j] = fg*old[j] + in*g
			tc[j] = tanh(now[j])
			hv[j] = og * tc[j]
		}
		hv[Hidden] = 1
		copy(l.c[atH:], hv[:Hidden])
		copy(l.c[atC:], now)
	}
	dh := h.dh[t*lanes*Hidden : (t+1)*lanes*Hidden]
	if t%lossEach != 0 {
		clear(dh)
		return
	}
	kernel.Sgemm(blas.NoTrans, blas.NoTrans, lanes, outputs, headRows, 1, h.hv, headRows, h.w.head(), outputs, 0, h.out, outputs)
	for i := range h.lane {
		l := &h.lane[i]
		out, dout := h.out[i*outputs:(i+1)*outputs], h.dout[i*outputs:(i+1)*outputs]
		clear(dout)
		shares(out)
		weight := l.n / (l.loss + l.n*l.floor)
		sum, num := judge(&l.walk, &h.f, h.rng, out, dout, float32(weight))
		if num > 0 {
			l.loss += sum / num
			l.n++
			h.sum += weight * sum
			h.num += num
		}
	}
	kernel.Sgemm(blas.NoTrans, blas.Trans, lanes, Hidden, outputs, 1, h.dout, outputs, h.w.head(), outputs, 0, dh, Hidden)
	kernel.Sgemm(blas.Trans, blas.NoTrans, headRows, outputs, lanes, 1, h.hv, headRows, h.dout, outputs, 1, h.grad[recSize:], outputs)
}

// judge gives the pinball loss of all targets at the walk's origin, mean over levels
// and weighted by importance, with the sum of those weights. out is the head's after
// shares; dout, unless nil, gets weight times the gradient by what it was before.
func judge(k *walk, f *frame, r *rand.Rand, out, dout []float32, weight float32) (sum, num float64) {
	f.look(k.c, k.from+schemas.Step(k.at-1))
	var q row
	for t := range targets {
		var y float32
		var ok bool
		if t < len(horizons) {
			lead := jitter(horizons[t], r)
			if y = k.truth(lead); y == y {
				ok = f.lead(lead)
			}
		} else {
			n := maxima[t-len(horizons)]
			if y = k.highest(n); y == y {
				ok = f.top(n)
			}
		}
		if !ok {
			continue
		}
		part := out[t*perTarget : (t+1)*perTarget]
		f.mix(part, &q)
		w := importance(t)
		var d []float32
		if dout != nil {
			d = dout[t*perTarget : (t+1)*perTarget]
		}
		sum += float64(w) * f.pinball(y, &q, d, w*weight)
		num += float64(w)
	}
	return sum, num
}

// pinball is the mean over levels of 2 max(tau d, (tau-1) d), d = y - q; d, unless
// nil, gets weight times its gradient by the numbers that were mixed.
func (f *frame) pinball(y float32, q *row, d []float32, weight float32) float64 {
	var sum float64
	var dq row
	for l, tau := range schemas.Levels {
		e := y - q[l]
		switch {
		case e > 0:
			sum += float64(2 * tau * e)
			dq[l] = -2 * tau * weight / levels
		case e < 0:
			sum += float64(2 * (tau - 1) * e)
			dq[l] = 2 * (1 - tau) * weight / levels
		}
	}
	if d != nil {
		f.unmix(&dq, d)
	}
	return sum / levels
}

// unmix is the gradient of mix: dq by the quantiles becomes d by the numbers.
func (f *frame) unmix(dq *row, d []float32) {
	var by [candidates]float32
	var mean float32
	first := 0
	for !f.ok[first] {
		first++
	}
	base := f.is[first]
	for k := first; k < candidates; k++ {
		if !f.ok[k] {
			continue
		}
		for l, v := range f.is[k] {
			by[k] += dq[l] * (v - base[l])
		}
		mean += f.gate[k] * by[k]
	}
	for k := range by {
		d[k] = 0
		if f.ok[k] {
			d[k] = f.gate[k] * (by[k] - mean)
		}
	}
	for l := range dq {
		d[candidates+l] = dq[l] * f.unit[l]
	}
}

func (h *half) backward(t int) {
	z, dz := h.z[t*lanes*gates:(t+1)*lanes*gates], h.dz[t*lanes*gates:(t+1)*lanes*gates]
	for i := range lanes {
		z, dz := z[i*gates:(i+1)*gates], dz[i*gates:(i+1)*gates]
		old := h.cell[(t*lanes+i)*Hidden:][:Hidden]
		tc, dh := h.tc[(t*lanes+i)*Hidden:][:Hidden], h.dh[(t*lanes+i)*Hidden:][:Hidden]
		dc, back := h.dc[i*Hidden:][:Hidden], h.back[i*Hidden:][:Hidden]
		for j := range Hidden {
			in, fg, og, g := z[j], z[Hidden+j], z[2*Hidden+j], z[3*Hidden+j]
			d := dh[j] + back[j]
			c := dc[j] + d*og*(1-tc[j]*tc[j])
			dz[j] = c * g * in * (1 - in)
			dz[Hidden+j] = c * old[j] * fg * (1 - fg)
			dz[2*Hidden+j] = d * tc[j] * og * (1 - og)
			dz[3*Hidden+j] = c * in * (1 - g*g)
			dc[j] = c * fg
		}
	}
	// what the step before left behind reaches it through the memory columns
	kernel.Sgemm(blas.NoTrans, blas.Trans, lanes, Hidden, gates, 1, dz, gates, h.w.rec()[inputs*gates:], gates, 0, h.back, Hidden)
}

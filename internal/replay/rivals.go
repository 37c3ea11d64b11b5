package replay

import (
	"cmp"
	"slices"
)

// Policy decides, after the demand of step t was seen, which moves begin.
type Policy interface {
	Decide(w *World, t int) []Move
}

// rival is what all policies without our placer look at: the projected load, with VMs
// counted where moves take them.
type rival struct {
	load []float64
	out  []Move
	in   []bool // taken by moves decided just now
	hot  []int32
}

func (r *rival) look(w *World, t int) {
	if r.load == nil {
		r.load, r.in = make([]float64, w.F.H), make([]bool, w.F.H)
	}
	clear(r.load)
	clear(r.in)
	r.out, r.hot = r.out[:0], r.hot[:0]
	for v, b := range w.Bound {
		r.load[b] += w.H.At(v, t)
	}
}

// hottest first.
func (r *rival) sort() {
	slices.SortFunc(r.hot, func(a, b int32) int { return cmp.Or(cmp.Compare(r.load[b], r.load[a]), cmp.Compare(a, b)) })
}

func (r *rival) move(v, from, to int32, d float64) {
	r.out = append(r.out, Move{VM: v, From: from, To: to, Lead: -1})
	r.load[from] -= d
	r.load[to] += d
	r.in[to] = true
}

// react is the threshold rule: a host above .9 of its cores for two steps gives the
// smallest VM that brings it to .85, or else its largest, to the least loaded host, if
// that stays below .9.
type react struct {
	rival
	held []int
}

// Decide implements [Policy].
func (r *react) Decide(w *World, t int) []Move {
	const high, target, least = .9, .85, .02
	r.look(w, t)
	if r.held == nil {
		r.held = make([]int, w.F.H)
	}
	c := w.F.C
	for b, load := range w.Load {
		if r.held[b]++; load <= high*c {
			r.held[b] = 0
		}
		if r.held[b] >= 2 && r.load[b] > high*c && w.Out[b] == 0 {
			r.hot = append(r.hot, int32(b))
		}
	}
	r.sort()
	for _, a := range r.hot {
		need := r.load[a] - target*c
		best, to, size, enough := int32(-1), int32(-1), 0.0, false
		for v := range int32(len(w.At)) {
			d := w.H.At(int(v), t)
			if w.Bound[v] != a || !w.Free(v, t) || d < least*c {
				continue
			}
			dest := int32(-1)
			for b := range int32(w.F.H) {
				if b != a && !r.in[b] && w.Fits(v, b) && r.load[b]+d <= high*c && (dest < 0 || r.load[b] < r.load[dest]) {
					dest = b
				}
			}
			if dest < 0 {
				continue
			}
			ok := d >= need
			if best < 0 || ok && !enough || ok && enough && d < size || !ok && !enough && d > size {
				best, to, size, enough = v, dest, d, ok
			}
		}
		if best >= 0 {
			r.move(best, a, to, size)
		}
	}
	return r.out
}

// balancer is the fair peer without a forecast: sources short of cores at the last step
// and by the projected load above .95, hottest first; of all pairs of VM and host that
// fit, the one that removes most load above .95 on both together, at least .01 of a
// host. A destination may end above .95 if the sum falls. Ties go to less memory, then
// to the emptier host.
type balancer struct{ rival }

// Decide implements [Policy].
func (r *balancer) Decide(w *World, t int) []Move {
	const theta, least, tie = .95, .01, 1e-9
	r.look(w, t)
	c := w.F.C
	for b, load := range w.Load {
		if load > c && r.load[b] > theta*c && w.Out[b] == 0 {
			r.hot = append(r.hot, int32(b))
		}
	}
	r.sort()
	over := func(x float64) float64 { return max(0, x-theta*c) }
	for _, a := range r.hot {
		best, to, most, size := int32(-1), int32(-1), 0.0, 0.0
		for v := range int32(len(w.At)) {
			if w.Bound[v] != a || !w.Free(v, t) {
				continue
			}
			d, gib := w.H.At(int(v), t), w.H.VMs[v].GiB
			for b := range int32(w.F.H) {
				if b == a || r.in[b] || !w.Fits(v, b) {
					continue
				}
				gain := over(r.load[a]) + over(r.load[b]) - over(r.load[a]-d) - over(r.load[b]+d)
				if gain < least*c || gain < most-tie {
					continue
				}
				if best >= 0 && gain <= most+tie {
					old := w.H.VMs[best].GiB
					if gib > old || gib == old && r.load[b] >= r.load[to] {
						continue
					}
				}
				best, to, most, size = v, b, max(gain, most), d
			}
		}
		if best >= 0 {
			r.move(best, a, to, size)
		}
	}
	return r.out
}

// spread evens out loads every half hour: while the fullest and the emptiest host lie
// more than a fifth of a host apart, the VM that best halves the distance moves.
type spread struct{ rival }

// Decide implements [Policy].
func (r *spread) Decide(w *World, t int) []Move {
	const gap, every, least = .2, 6, .02
	if t%every != 0 {
		return nil
	}
	r.look(w, t)
	gone := make([]bool, w.F.H)
	for len(r.out) < maxFlying {
		hi, lo := int32(-1), int32(-1)
		for b := range int32(w.F.H) {
			if w.Out[b] == 0 && !gone[b] && (hi < 0 || r.load[b] > r.load[hi]) {
				hi = b
			}
			if w.In[b] == 0 && !r.in[b] && (lo < 0 || r.load[b] < r.load[lo]) {
				lo = b
			}
		}
		if hi < 0 || lo < 0 || hi == lo || r.load[hi]-r.load[lo] < gap*w.F.C {
			break
		}
		want := (r.load[hi] - r.load[lo]) / 2
		best, size := int32(-1), 0.0
		for v := range int32(len(w.At)) {
			d := w.H.At(int(v), t)
			if w.Bound[v] != hi || !w.Free(v, t) || !w.Fits(v, lo) || d <= least*w.F.C || d >= 2*want {
				continue
			}
			if best < 0 || abs(d-want) < abs(size-want) {
				best, size = v, d
			}
		}
		if best < 0 {
			break
		}
		r.move(best, hi, lo, size)
		gone[hi] = true
	}
	return r.out
}

func abs(x float64) float64 { return max(x, -x) }

package world

import "math"

// share is the bandwidth of every flow in bytes/s: max-min fair (Bertsekas and
// Gallager, Data Networks, 6.5.2) over the source's and the destination's NIC and
// the link between their sites. A ceiling does not hold once the guest is stopped.
func (w *World) share() []float64 {
	var limits []float64
	resource := map[any]int{}
	use := func(key any, limit float64) int {
		i, ok := resource[key]
		if !ok {
			i = len(limits)
			resource[key] = i
			limits = append(limits, limit)
		}
		return i
	}
	type nic struct {
		host int
		out  bool
	}
	uses := make([][]int, len(w.flows))
	caps := make([]float64, len(w.flows))
	for i, f := range w.flows {
		a, b := f.src.host, f.dst.host
		uses[i] = []int{use(nic{a.index, true}, w.cfg.NICBandwidth), use(nic{b.index, false}, w.cfg.NICBandwidth)}
		if a.Site != b.Site {
			limit := w.cfg.LinkBandwidth
			if w.link(a.Site, b.Site).cutUntil > w.now {
				limit = 0
			}
			uses[i] = append(uses[i], use(linkKey(a.Site, b.Site), limit))
		}
		caps[i] = math.Inf(1)
		if f.src.maxSpeed > 0 && !f.stopped {
			caps[i] = f.src.maxSpeed
		}
	}
	return fairShare(limits, uses, caps)
}

// fairShare raises all rates together and freezes a flow when it meets its ceiling
// or a resource that is used up.
func fairShare(limits []float64, uses [][]int, caps []float64) []float64 {
	rates := make([]float64, len(uses))
	frozen := make([]bool, len(uses))
	left := append([]float64(nil), limits...)
	count := make([]int, len(limits))
	for active := len(uses); active > 0; {
		for r := range count {
			count[r] = 0
		}
		for i, u := range uses {
			if !frozen[i] {
				for _, r := range u {
					count[r]++
				}
			}
		}
		step := math.Inf(1)
		for r, n := range count {
			if n > 0 {
				step = min(step, left[r]/float64(n))
			}
		}
		for i := range uses {
			if !frozen[i] {
				step = min(step, caps[i]-rates[i])
			}
		}
		step = max(step, 0)
		for r, n := range count {
			left[r] -= step * float64(n)
		}
		before := active
		for i, u := range uses {
			if frozen[i] {
				continue
			}
			rates[i] += step
			full := rates[i] >= caps[i]*(1-1e-12)
			for _, r := range u {
				full = full || left[r] <= limits[r]*1e-12
			}
			if full {
				frozen[i] = true
				active--
			}
		}
		if active == before { // rounding only: nothing can rise any more
			break
		}
	}
	return rates
}

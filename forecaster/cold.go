package forecaster

import (
	"github.com/foreshift/foreshift/forecaster/window"
	"github.com/foreshift/foreshift/schemas"
)

// prior is how the fleet's demand for a resource is distributed ahead, as a multiple
// of what it is now: what is expected of a VM so new that no expert speaks of it.
type prior struct {
	sum [schemas.Slots * schemas.NumLevels]float64
	n   float64
}

// A VM counts for at most mostRise times its own demand, and the fleet's shape takes
// over from the one built in as VMs come: that one counts as much as fewVMs of them.
const (
	mostRise = 20
	fewVMs   = 4
)

// unknown are the multiples at schemas.Levels before anything is known of a fleet.
var unknown = [schemas.NumLevels]float64{.2, .35, .5, .65, .8, .9, 1, 1.1, 1.25, 1.5, 2, 2.5, 3.5}

// reset forgets the fleet.
func (p *prior) reset() {
	p.n = fewVMs
	for i := range p.sum {
		p.sum[i] = fewVMs * unknown[i%schemas.NumLevels]
	}
}

// add takes a VM's forecast and its present demand.
func (p *prior) add(q schemas.Dist, level float32) {
	if !(level > 0) || q.Q[0] != q.Q[0] {
		return
	}
	for i, v := range q.Q {
		p.sum[i] += float64(min(v/level, mostRise))
	}
	p.n++
}

// apply writes the forecast of a new VM from its present demand; without one it is
// missing.
func (p *prior) apply(level float32, q schemas.Dist) {
	for i := range q.Q {
		q.Q[i] = level * float32(p.sum[i]/p.n)
	}
}

// levelNow is the mean demand of the newest hour of a window, NaN when nothing is
// known of it.
func levelNow(w *window.View, r schemas.Resource) float32 {
	var sum, n float32
	for i := max(0, w.N-12); i < w.N; i++ {
		if y := w.At(r, i); y == y {
			sum, n = sum+y, n+1
		}
	}
	return sum / n
}

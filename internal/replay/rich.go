package replay

import (
	"math"

	"github.com/foreshift/foreshift/placer/plan"
	"github.com/foreshift/foreshift/schemas"
)

// Rich is a world nearer to real hosts than the one of the benchmark, for the question
// what would have been: a full host is shared out, memory may be promised twice, and a
// move takes what pre-copy takes over the links it has. The zero value is not it:
// [DefaultRich].
type Rich struct {
	// Link is what a host's link carries, bytes/s, shared out equally among the moves in
	// and out of it.
	Link float64
	// Dirty is what one busy core rewrites of its memory, bytes/s.
	Dirty float64
	// Overcommit is how much memory a host may promise, as a multiple of what it has.
	Overcommit float64
	// Swap is how much of a host's work waits for its disk for each share of memory that
	// is promised beyond what it has and is in use: at .25 and a tenth too much, 2.5 %.
	Swap float64
	// Touched is the share of the promised memory that is in use.
	Touched float64
}

// DefaultRich has 10 Gbit/s a host, memory promised by a fifth more than there is, and
// what the placer takes a busy core to rewrite.
func DefaultRich() *Rich {
	return &Rich{Link: 10e9 / 8, Dirty: 4 << 20, Overcommit: 1.2, Swap: .25, Touched: .9}
}

const (
	mostWaits  = .9 // of a host's work waits for its disk, at the most
	slow       = .9 // of its demand: a VM that gets less is slowed down
	givesUp    = 12 // steps after which a move that does not converge is given up
	stepLength = stepSeconds
)

// serve shares host b's cores out and tells what goes unserved of a load that is on it:
// what exceeds the cores, and what waits for swapped memory.
func (r *Rich) serve(w *World, b int, load float64) float64 {
	over := max(0, r.Touched*w.Mem[b]-w.F.M) / w.F.M
	waits := min(mostWaits, r.Swap*over)
	served := min(load, w.F.C) * (1 - waits)
	if load > 0 && served < slow*load {
		// Shares are in proportion to demand, so that all VMs of the host are slowed alike.
		for v, at := range w.At {
			if int(at) == b && w.H.At(v, w.now) > 0 {
				w.score.Slowed++
			}
		}
	}
	return load - served
}

// send carries a move on for a step; done when it has ended, landed when at its
// destination.
func (r *Rich) send(w *World, f *flight) (done, landed bool) {
	moves := max(w.In[f.To]+w.Out[f.To], w.In[f.From]+w.Out[f.From], 1)
	link := r.Link / float64(moves)
	dirty := r.Dirty * w.H.At(int(f.VM), w.now)
	t := plan.PreCopy(schemas.Bytes(f.left), schemas.BytesPerSecond(dirty), schemas.BytesPerSecond(link))
	f.steps++
	if !t.Converges {
		return f.steps >= givesUp, false
	}
	if t.Duration.Seconds() > stepLength {
		// What is sent in a step, less what is written again meanwhile.
		f.left -= (link - dirty) * stepLength
		return f.steps >= 10*givesUp, false
	}
	f.still = t.Downtime.Seconds()
	return true, true
}

// fits reports whether a host may promise so much more memory.
func (r *Rich) fits(w *World, to int32, gib float64) bool {
	return w.Mem[to]+gib <= w.F.M*math.Max(1, r.Overcommit)
}

package share

import (
	"math"

	"github.com/foreshift/foreshift/schemas"
)

// Bounds of a measured bandwidth.
const (
	narrowAfter = 5    // looks, one after the other, before a link is believed to be narrower: a move may be between its phases for some
	underUse    = 0.9  // of what was granted: moves that get less are held up
	narrowing   = 0.3  // how far one look moves what is believed
	widening    = 1.02 // by which it grows again with each look without a queue, for the way may have got wider
	leastWidth  = 0.02 // of the rate: nothing narrower is believed
	coarse      = 0.05 // what is told changes by no less, so that shares do not follow every look
	drops       = 0.2  // of the probes: one that was lost may be chance
	queue       = 5    // ms beyond twice the least round trip: packets wait somewhere on the way
)

// Bandwidth measures what a link really carries, by what its moves get: a link that is
// narrower than the rate its classes are shaped to drops and queues packets beyond the
// gateway, where no class sees it. Then the moves together get less than they were
// granted, while the round trip has grown or probes are lost; a sender that is slow by
// itself makes no queue. The zero value knows nothing yet.
type Bandwidth struct {
	rate, width float64 // bytes/s: as configured, and as believed
	told        float64 // bytes/s: what was last given
	least       float64 // ms: round trip of an empty way
	row         int     // of looks at which moves were held up
	most        float64 // bytes/s: what passed at best in that row
}

// Observe takes one look, a second after the last: the configured rate of the link, what
// passed it, what its moves together were granted, the round trip and the share of probes
// lost. It gives the bandwidth: the rate, or less where the link is narrower.
func (b *Bandwidth) Observe(rate, passed, granted schemas.BytesPerSecond, rtt schemas.Millis, lost schemas.Ratio) schemas.BytesPerSecond {
	if b.rate != float64(rate) {
		b.rate, b.width, b.told, b.row = float64(rate), float64(rate), float64(rate), 0
	}
	if rtt > 0 {
		if b.least *= 1.001; b.least == 0 || float64(rtt) < b.least { // another way may be longer
			b.least = float64(rtt)
		}
	}
	queued := float64(rtt) > 2*b.least+queue || lost > drops
	switch {
	case !queued:
		b.row = 0
		b.width = min(b.rate, b.width*widening)
	case granted <= 0 || float64(passed) >= underUse*min(float64(granted), b.width):
		b.row = 0
	default:
		if b.row++; b.row == 1 {
			b.most = 0
		}
		if b.most = max(b.most, float64(passed)); b.row >= narrowAfter {
			b.width += narrowing * (max(b.most, leastWidth*b.rate) - b.width)
		}
	}
	if b.width == b.rate || math.Abs(b.width-b.told) > coarse*b.told {
		b.told = b.width
	}
	return schemas.BytesPerSecond(b.told)
}

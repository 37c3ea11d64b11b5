package ensemble

import (
	"github.com/foreshift/foreshift/schemas"
)

// A forecast is captured every capturePeriod steps of a bucket, at one of its slots,
// and kept until the slot's steps have come. depth targets are on the way at most:
// the longest lead over the period.
var (
	capturePeriod = [NumBuckets]int{3, 3, 6, 12, 36, 48}
	captureDepth  = [NumBuckets]int{1, 1, 2, 5, 5, 7}
)

// captures is how many targets a series has on the way.
const captures = 1 + 1 + 2 + 5 + 5 + 7

// CaptureEvery is the number of steps between two captures of a series: those at
// which [Ensemble.Captures] is true.
const CaptureEvery = 3

// waiting holds the targets of every series: what was said of a slot to come.
type waiting struct {
	experts int
	from    []schemas.Step // n x captures: first step of the slot; 0 = none
	slot    []uint8        // n x captures
	q       []float32      // n x captures x (experts + 1) x groups; the last row is the mix
}

func (w *waiting) grow(i int) {
	for len(w.from) < (i+1)*captures {
		w.from = append(w.from, make([]schemas.Step, captures)...)
		w.slot = append(w.slot, make([]uint8, captures)...)
		w.q = append(w.q, make([]float32, captures*(w.experts+1)*groups)...)
	}
	clear(w.from[i*captures : (i+1)*captures])
}

func (w *waiting) row(n int) []float32 {
	size := (w.experts + 1) * groups
	return w.q[n*size : (n+1)*size]
}

// target is where a bucket's capture at step s goes, and the slot it looks at; ok is
// false when s is not the bucket's turn.
func target(i, b int, s schemas.Step, phase int) (n, slot int, ok bool) {
	period := schemas.Step(capturePeriod[b])
	at := s + schemas.Step(phase*CaptureEvery)
	if at%period != 0 {
		return 0, 0, false
	}
	n = i * captures
	for k := range b {
		n += captureDepth[k]
	}
	n += int(at / period % schemas.Step(captureDepth[b]))
	lo, hi := bucketSlots[b], bucketSlots[b+1]
	return n, lo + int(hash(s, b, 3)%uint64(hi-lo)), true
}

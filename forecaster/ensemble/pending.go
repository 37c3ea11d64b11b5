package ensemble

import (
	"math"

	"github.com/foreshift/foreshift/forecaster/model"
	"github.com/foreshift/foreshift/schemas"
)

// A forecast is captured every capturePeriod steps of a bucket, at one of its slots,
// and kept until the slot's steps have come. captureDepth targets are on the way at
// most: the longest lead over the period.
var (
	capturePeriod = [NumBuckets]int{3, 3, 6, 24, 72, 96}
	captureDepth  = [NumBuckets]int{1, 1, 2, 3, 3, 4}
)

// captures is how many targets a series has on the way.
const captures = 1 + 1 + 2 + 3 + 3 + 4

// CaptureEvery is the number of steps between two captures of a series: those at
// which [Ensemble.Captures] is true.
const CaptureEvery = 3

// waiting holds the targets of every series: what was said of a slot to come. A row
// is what the experts and, last, the mix said at the groups' levels, as 16-bit
// shares of the way from the row's lowest value to its highest: half the memory, and
// precise to a hundred thousandth of what the experts differ by, whatever the unit.
type waiting struct {
	experts int
	from    []schemas.Step // n x captures: first step of the slot; 0 = none
	slot    []uint8        // n x captures
	low     []float32      // n x captures
	step    []float32      // n x captures: of the 16-bit scale
	q       []uint16       // n x captures x (experts + 1) x groups
	wide    []float32      // scratch: one row
}

// silent stands for an expert that said nothing.
const silent = math.MaxUint16

func newWaiting(experts int) waiting {
	return waiting{experts: experts, wide: make([]float32, (experts+1)*groups)}
}

func (w *waiting) grow(i int) {
	w.from = model.Grown(w.from, i, captures)
	w.slot = model.Grown(w.slot, i, captures)
	w.low = model.Grown(w.low, i, captures)
	w.step = model.Grown(w.step, i, captures)
	w.q = model.Grown(w.q, i, captures*w.size())
}

func (w *waiting) size() int { return (w.experts + 1) * groups }

// put stores w.wide as row n.
func (w *waiting) put(n int) {
	low, high := float32(math.Inf(1)), float32(math.Inf(-1))
	for _, v := range w.wide {
		if v-v == 0 {
			low, high = min(low, v), max(high, v)
		}
	}
	step := (high - low) / (silent - 1)
	if !(step >= 0) || step-step != 0 { // nothing finite, or too wide to be told apart
		step, low = 0, schemas.NaN()
	}
	w.low[n], w.step[n] = low, step
	row := w.q[n*w.size() : (n+1)*w.size()]
	for k, v := range w.wide {
		switch {
		case low != low || v-v != 0:
			row[k] = silent
		case step == 0:
			row[k] = 0
		default:
			row[k] = uint16(min((v-low)/step+.5, silent-1))
		}
	}
}

// get gives row n, valid until the next call.
func (w *waiting) get(n int) []float32 {
	low, step := w.low[n], w.step[n]
	for k, v := range w.q[n*w.size() : (n+1)*w.size()] {
		w.wide[k] = low + float32(v)*step
		if v == silent {
			w.wide[k] = schemas.NaN()
		}
	}
	return w.wide
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

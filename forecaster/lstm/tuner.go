package lstm

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/cespare/xxhash/v2"
)

// Tuner goes on training weights on a fleet's own series, a few updates at a time, so
// that whoever runs it in the background decides when. It is a function of weights,
// series, options and the number of updates: how they are shared out over calls does
// not matter, and two tuners told the same come to the same weights. It reads no clock
// and starts no goroutine but inside a call.
//
// A fifth of the VMs is held back, by the hash of their ids; weights are judged on
// them every so many updates, training stops when that has not helped for a while or
// all updates are made, and the weights handed out are the best seen, if they beat
// those it began with by [Margin].
type Tuner struct {
	t        *Trainer
	out      Tuned
	best     *Weights
	made     int // updates
	bad      int // judgements without progress
	finished bool
}

// Bounds of a tuner's sample: what is beyond is left out evenly, so that memory and a
// judgement stay small however large the fleet.
const (
	MaxTuneSeries = 4096
	minHeld       = 8
)

// NewTuner takes a sample of the fleet's series ([FromView]) and weights to go on from,
// which it copies. Options that are zero mean: a rate of 5e-4, 600 updates, judged
// every tenth of them, patience for 3 judgements. It fails when fewer than 8 series
// are left to judge by.
func NewTuner(from *Weights, series []Series, o Options) (*Tuner, error) {
	if n := len(series); n > MaxTuneSeries {
		some := make([]Series, MaxTuneSeries)
		for i := range some {
			some[i] = series[i*n/MaxTuneSeries]
		}
		series = some
	}
	train, held := Split(series, o.Seed, .2)
	if len(held) < minHeld {
		return nil, fmt.Errorf("lstm: fine-tuning needs %d series of other VMs to judge by, has %d of %d", minHeld, len(held), len(series))
	}
	if o.Rate == 0 {
		o.Rate = 5e-4
	}
	if o.Updates == 0 {
		o.Updates = 600
	}
	if o.Every == 0 {
		o.Every = max(1, o.Updates/10)
	}
	if o.Patience == 0 {
		o.Patience = 3
	}
	t, err := NewTrainer(from, train, held, o)
	if err != nil {
		return nil, err
	}
	before := Judge(from, t.held)
	return &Tuner{t: t, best: from.Clone(), out: Tuned{Weights: from, Before: before, After: before, Train: len(train), Held: len(held)}}, nil
}

// Tune makes up to n updates, about 50 ms of CPU each and at most on two cores, with
// the judgements that fall among them, and says whether there is more to do. Once
// there is not, it does nothing.
func (t *Tuner) Tune(n int) (more bool) {
	for ; n > 0 && !t.finished; n-- {
		if t.made >= t.t.opt.Updates {
			t.finished = true
			break
		}
		t.t.Update()
		t.made++
		last := t.made == t.t.opt.Updates
		if t.made%t.t.opt.Every == 0 || last {
			t.judge()
		}
		t.finished = t.finished || last || t.bad >= t.t.opt.Patience
	}
	return !t.finished
}

func (t *Tuner) judge() {
	s := Judge(t.t.w, t.t.held)
	if !(s < t.out.After) { // NaN is no progress either
		t.bad++
		return
	}
	t.out.After, t.bad = s, 0
	copy(t.best.p, t.t.w.p)
}

// Made is the number of updates made so far.
func (t *Tuner) Made() int { return t.made }

// Result is what tuning has come to so far; it may be asked at any time. Weights are
// the new ones only if Adopted.
func (t *Tuner) Result() Tuned {
	out := t.out
	if out.After < out.Before-Margin && !math.IsNaN(out.Before) {
		out.Weights, out.Adopted = t.best.Clone(), true
	}
	return out
}

// Sum is a checksum of the weights: the same for the same weights, and what tells
// versions apart.
func (w *Weights) Sum() uint64 {
	h := xxhash.New()
	var b [4]byte
	for _, v := range w.p {
		binary.LittleEndian.PutUint32(b[:], math.Float32bits(v))
		_, _ = h.Write(b[:]) // a hash takes everything
	}
	return h.Sum64()
}

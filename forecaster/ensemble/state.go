package ensemble

import (
	"encoding/binary"
	"fmt"
	"math"
	"strings"

	"github.com/cespare/xxhash/v2"
	"github.com/foreshift/foreshift/forecaster/model"
	"github.com/foreshift/foreshift/schemas"
)

// stateVersion is the version of the layout below.
const stateVersion = 4

// stateHead is the version, the checksum of the rest, and the hash of the experts'
// names.
const stateHead = 1 + 8 + 8

// AppendState implements [model.Bank]: the banks' states, then what was learnt of the
// weights and the targets on the way. An ensemble restored goes on bit by bit as if
// nothing had been.
func (e *Ensemble) AppendState(b []byte) []byte {
	start := len(b)
	b = append(b, stateVersion)
	b = binary.LittleEndian.AppendUint64(b, 0)
	b = binary.LittleEndian.AppendUint64(b, e.nameHash())
	b = binary.LittleEndian.AppendUint32(b, uint32(len(e.keys)))
	b = binary.LittleEndian.AppendUint64(b, uint64(e.last))
	for i, k := range e.keys {
		b = append(b, k.VM[:]...)
		flags := e.heard[i] << 1
		if e.used[i] {
			flags |= 1
		}
		b = append(b, byte(k.Resource), flags, e.learn.cluster[i])
	}
	for _, t := range e.learn.tables() {
		for _, v := range *t.at {
			b = binary.LittleEndian.AppendUint32(b, math.Float32bits(v))
		}
	}
	for n, from := range e.wait.from {
		b = binary.LittleEndian.AppendUint64(b, uint64(from))
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(e.wait.low[n]))
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(e.wait.step[n]))
		b = append(b, e.wait.slot[n])
	}
	for _, v := range e.wait.q {
		b = binary.LittleEndian.AppendUint16(b, v)
	}
	for _, bank := range e.banks {
		at := len(b)
		b = binary.LittleEndian.AppendUint64(b, 0)
		b = bank.AppendState(b)
		binary.LittleEndian.PutUint64(b[at:], uint64(len(b)-at-8))
	}
	binary.LittleEndian.PutUint64(b[start+1:], xxhash.Sum64(b[start+9:]))
	return b
}

func (e *Ensemble) nameHash() uint64 { return xxhash.Sum64String(strings.Join(e.names, ",")) }

// table is one of the learner's arrays: so many values a series, or in all.
type table struct {
	at        *[]float32
	per, once int
}

func (l *learner) tables() []table {
	shared := numClusters * cell
	return []table{{&l.reg, cell * l.experts, 0}, {&l.vol, cell, 0}, {&l.top, cell, 0}, {&l.width, cell, 0},
		{&l.seen, NumBuckets, 0}, {&l.fine, 1, 0}, {&l.pool, 0, shared * l.experts}, {&l.breadth, 0, shared}, {&l.young, 0, cell}}
}

// LoadState implements [model.Bank]. What is damaged, cut short or of other experts is
// refused before anything changes. Should a bank refuse its part of a sound state,
// because its own version has changed, the ensemble is left half loaded: throw it
// away and let the windows teach a new one.
func (e *Ensemble) LoadState(b []byte) error {
	const perKey, perTarget = 19, 17
	switch {
	case len(b) < stateHead+12 || b[0] != stateVersion:
		return fmt.Errorf("ensemble state: %d bytes, not of version %d", len(b), stateVersion)
	case xxhash.Sum64(b[9:]) != binary.LittleEndian.Uint64(b[1:]):
		return fmt.Errorf("ensemble state: damaged: the checksum differs")
	case binary.LittleEndian.Uint64(b[9:]) != e.nameHash():
		return fmt.Errorf("ensemble state: not of the experts %s", strings.Join(e.names, ", "))
	}
	n := int(binary.LittleEndian.Uint32(b[stateHead:]))
	last := schemas.Step(binary.LittleEndian.Uint64(b[stateHead+4:]))
	b = b[stateHead+12:]
	l, wait := newLearner(e.names), newWaiting(len(e.names))
	need := n * (perKey + captures*(perTarget+2*wait.size()))
	for _, t := range l.tables() {
		need += 4 * (n*t.per + t.once)
	}
	if need > len(b) || last < 0 {
		return fmt.Errorf("ensemble state: %d bytes at step %d, want %d for %d series", len(b), last, need, n)
	}
	keys, used, heard := make([]model.Key, n), make([]bool, n), make([]uint8, n)
	l.cluster = make([]uint8, n)
	for i := range keys {
		copy(keys[i].VM[:], b)
		keys[i].Resource, used[i], heard[i] = schemas.Resource(b[16]), b[17]&1 != 0, b[17]>>1
		if l.cluster[i] = b[18]; int(b[18]) >= numClusters {
			return fmt.Errorf("ensemble state: series %d in cluster %d of %d", i, b[18], numClusters)
		}
		b = b[perKey:]
	}
	for _, t := range l.tables() {
		*t.at = make([]float32, n*t.per+t.once)
		for k := range *t.at {
			v := math.Float32frombits(binary.LittleEndian.Uint32(b))
			if v-v != 0 {
				return fmt.Errorf("ensemble state: a weight is %v", v)
			}
			(*t.at)[k], b = v, b[4:]
		}
	}
	for _, p := range l.pool {
		if !(p > 0 && p <= 1) {
			return fmt.Errorf("ensemble state: a prior weight is %v", p)
		}
	}
	l.reckon(0, len(l.pool))
	targets := n * captures
	wait.from, wait.slot = make([]schemas.Step, targets), make([]uint8, targets)
	wait.low, wait.step = make([]float32, targets), make([]float32, targets)
	wait.q = make([]uint16, targets*wait.size())
	for k := range wait.from {
		wait.from[k], wait.slot[k] = schemas.Step(binary.LittleEndian.Uint64(b)), b[16]
		wait.low[k] = math.Float32frombits(binary.LittleEndian.Uint32(b[8:]))
		wait.step[k] = math.Float32frombits(binary.LittleEndian.Uint32(b[12:]))
		if wait.slot[k] >= schemas.Slots || wait.from[k] < 0 {
			return fmt.Errorf("ensemble state: a target in slot %d at step %d", wait.slot[k], wait.from[k])
		}
		b = b[perTarget:]
	}
	for k := range wait.q {
		wait.q[k], b = binary.LittleEndian.Uint16(b), b[2:]
	}
	for i, bank := range e.banks {
		if len(b) < 8 || binary.LittleEndian.Uint64(b) > uint64(len(b)-8) {
			return fmt.Errorf("ensemble state: the state of bank %d is cut short", i)
		}
		size := binary.LittleEndian.Uint64(b)
		if err := bank.LoadState(b[8 : 8+size]); err != nil {
			return fmt.Errorf("ensemble state: bank %d: %w", i, err)
		}
		b = b[8+size:]
	}
	if len(b) != 0 {
		return fmt.Errorf("ensemble state: %d bytes too many", len(b))
	}
	e.keys, e.used, e.heard, e.learn, e.wait, e.last = keys, used, heard, l, wait, last
	return nil
}

// Bytes is the memory that the ensemble and its banks keep for their series, without
// what serves all: for the banks, the length of their state, which is all they keep.
func (e *Ensemble) Bytes() int {
	n := 4 * (cap(e.learn.reg) + cap(e.learn.vol) + cap(e.learn.top) + cap(e.learn.width) + cap(e.learn.seen) + cap(e.learn.fine))
	n += cap(e.learn.cluster) + 18*cap(e.keys)
	n += 8*cap(e.wait.from) + cap(e.wait.slot) + 4*cap(e.wait.low) + 4*cap(e.wait.step) + 2*cap(e.wait.q)
	for _, b := range e.banks {
		if m, ok := b.(interface{ Bytes() int }); ok {
			n += m.Bytes()
			continue
		}
		n += len(b.AppendState(nil))
	}
	return n
}

// BytesPerSeries is [Ensemble.Bytes] over the number of series there is room for, 0
// without one.
func (e *Ensemble) BytesPerSeries() int { return e.Bytes() / max(1, len(e.keys)) }

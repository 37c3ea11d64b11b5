package ensemble

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/foreshift/foreshift/forecaster/model"
	"github.com/foreshift/foreshift/schemas"
)

// stateVersion is the version of the layout below.
const stateVersion = 2

// AppendState implements [model.Bank]: the banks' states, then what was learnt of the
// weights and the targets on the way: an ensemble restored goes on as if nothing had
// been.
func (e *Ensemble) AppendState(b []byte) []byte {
	b = append(b, stateVersion)
	for _, bank := range e.banks {
		at := len(b)
		b = append(b, 0, 0, 0, 0, 0, 0, 0, 0)
		b = bank.AppendState(b)
		binary.LittleEndian.PutUint64(b[at:], uint64(len(b)-at-8))
	}
	b = binary.LittleEndian.AppendUint32(b, uint32(len(e.names)))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(e.keys)))
	b = binary.LittleEndian.AppendUint64(b, uint64(e.last))
	for i, k := range e.keys {
		b = append(b, k.VM[:]...)
		b = append(b, byte(k.Resource), e.heard[i]<<1, e.learn.cluster[i])
		if e.used[i] {
			b[len(b)-2] |= 1
		}
	}
	for _, t := range e.learn.tables() {
		for _, v := range *t {
			b = binary.LittleEndian.AppendUint32(b, math.Float32bits(v))
		}
	}
	for n, from := range e.wait.from {
		b = binary.LittleEndian.AppendUint64(b, uint64(from))
		b = append(b, e.wait.slot[n])
	}
	for _, v := range e.wait.q {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(v))
	}
	return b
}

func (l *learner) tables() [7]*[]float32 {
	return [...]*[]float32{&l.reg, &l.vol, &l.top, &l.width, &l.seen, &l.pool, &l.breadth}
}

// LoadState implements [model.Bank].
func (e *Ensemble) LoadState(b []byte) error {
	if len(b) < 1 || b[0] != stateVersion {
		return fmt.Errorf("ensemble state: not of version %d", stateVersion)
	}
	b = b[1:]
	for i, bank := range e.banks {
		if len(b) < 8 {
			return fmt.Errorf("ensemble state: bank %d is missing", i)
		}
		n := binary.LittleEndian.Uint64(b)
		if n > uint64(len(b)-8) {
			return fmt.Errorf("ensemble state: bank %d is truncated", i)
		}
		if err := bank.LoadState(b[8 : 8+n]); err != nil {
			return fmt.Errorf("ensemble state: bank %d: %w", i, err)
		}
		b = b[8+n:]
	}
	if len(b) < 16 {
		return fmt.Errorf("ensemble state: the weights are missing")
	}
	experts, n := int(binary.LittleEndian.Uint32(b)), int(binary.LittleEndian.Uint32(b[4:]))
	last := schemas.Step(binary.LittleEndian.Uint64(b[8:]))
	b = b[16:]
	if experts != len(e.names) {
		return fmt.Errorf("ensemble state: of %d experts, want %d", experts, len(e.names))
	}
	const perKey = 19
	floats := 2*cell*experts + 2*cell + NumBuckets
	shared := numClusters * cell * (experts + 1)
	pending := captures * (9 + 4*(experts+1)*groups)
	if want := n*(perKey+4*floats+pending) + 4*shared; len(b) != want {
		return fmt.Errorf("ensemble state: %d bytes of weights, want %d", len(b), want)
	}
	l := newLearner(e.names)
	keys, used, heard := make([]model.Key, n), make([]bool, n), make([]uint8, n)
	wait := waiting{experts: experts}
	for i := range keys {
		copy(keys[i].VM[:], b[:16])
		keys[i].Resource, used[i] = schemas.Resource(b[16]), b[17]&1 != 0
		heard[i] = b[17] >> 1
		l.grow(i)
		if l.cluster[i] = b[18]; int(b[18]) >= numClusters {
			return fmt.Errorf("ensemble state: series %d in cluster %d of %d", i, b[18], numClusters)
		}
		wait.grow(i)
		b = b[perKey:]
	}
	for _, t := range l.tables() {
		for k := range *t {
			v := math.Float32frombits(binary.LittleEndian.Uint32(b))
			if v != v || math.IsInf(float64(v), 0) {
				return fmt.Errorf("ensemble state: a weight is %v", v)
			}
			(*t)[k], b = v, b[4:]
		}
	}
	for k := range wait.from {
		wait.from[k], wait.slot[k] = schemas.Step(binary.LittleEndian.Uint64(b)), b[8]
		if b[8] >= schemas.Slots || wait.from[k] < 0 {
			return fmt.Errorf("ensemble state: a target in slot %d at step %d", b[8], wait.from[k])
		}
		b = b[9:]
	}
	for k := range wait.q {
		wait.q[k] = math.Float32frombits(binary.LittleEndian.Uint32(b))
		b = b[4:]
	}
	e.keys, e.used, e.heard, e.learn, e.wait, e.last = keys, used, heard, l, wait, last
	return nil
}

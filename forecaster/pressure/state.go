package pressure

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/foreshift/foreshift/schemas"
)

// stateVersion is the version of the layout below.
const stateVersion = 1

// AppendState appends all that was learnt: a head that loads it goes on as this one
// would.
func (h *Head) AppendState(b []byte) []byte {
	b = append(b, stateVersion, numFeatures)
	b = binary.LittleEndian.AppendUint64(b, uint64(h.fitted))
	h.each(func(l *logistic) {
		b = appendFloat(b, l.base)
		for _, w := range l.w {
			b = appendFloat(b, w)
		}
		for _, n := range [...]uint32{uint32(len(l.ring)), uint32(l.next), l.asked, uint32(len(l.cal.x)), uint32(len(l.boost.trees))} {
			b = binary.LittleEndian.AppendUint32(b, n)
		}
		for _, v := range [...]float64{l.thin, l.due, l.dueOf} {
			b = appendFloat(b, v)
		}
		for i := range l.boost.trees {
			t := &l.boost.trees[i]
			b = append(append(b, t.feature[:]...), t.at[:]...)
			for _, v := range t.out {
				b = binary.LittleEndian.AppendUint32(b, math.Float32bits(v))
			}
		}
		for i := range l.cal.x {
			b = appendFloat(appendFloat(b, l.cal.x[i]), l.cal.y[i])
		}
		for i := range l.ring {
			e := &l.ring[i]
			hit := byte(0)
			if e.hit {
				hit = 1
			}
			b = append(b, hit)
			b = binary.LittleEndian.AppendUint32(b, math.Float32bits(e.p))
			b = binary.LittleEndian.AppendUint32(b, math.Float32bits(e.weight))
			b = append(b, e.x[:]...)
		}
	})
	return b
}

// each visits the models, in order of resource, horizon and state.
func (h *Head) each(f func(*logistic)) {
	for r := range h.models {
		for i := range h.models[r] {
			for s := range h.models[r][i] {
				f(&h.models[r][i][s])
			}
		}
	}
}

// LoadState puts back what AppendState appended. The head is unchanged when it fails.
func (h *Head) LoadState(b []byte) error {
	r := reader{b: b}
	if v, n := r.byte(), r.byte(); v != stateVersion || n != numFeatures {
		return fmt.Errorf("pressure state: version %d of %d features, want %d of %d", v, n, stateVersion, numFeatures)
	}
	g := *h
	g.m = moment{}
	g.fitted = schemas.Step(r.uint64())
	g.each(func(l *logistic) {
		l.base = r.float()
		for i := range l.w {
			l.w[i] = r.float()
		}
		n, next, asked, knots, trees := r.uint32(), r.uint32(), r.uint32(), r.uint32(), r.uint32()
		if n > uint32(l.keep) || next > n || knots > n || trees > numTrees {
			r.bad = true
			return
		}
		l.next, l.asked = int(next), asked
		for _, v := range [...]*float64{&l.thin, &l.due, &l.dueOf} {
			*v = r.float()
			r.bad = r.bad || *v < 0
		}
		l.boost = boost{trees: make([]tree, trees)}
		for i := range l.boost.trees {
			r.tree(&l.boost.trees[i])
		}
		l.cal, l.from = isotonic{}, nil
		for range knots {
			if r.bad {
				return
			}
			l.cal.x, l.cal.y = append(l.cal.x, r.float()), append(l.cal.y, r.float())
		}
		l.ring = nil
		if !r.bad && n > 0 && len(r.b) >= int(n)*(9+numFeatures) {
			l.ring = make([]example, n)
		} else if n > 0 {
			r.bad = true
		}
		for i := range l.ring {
			e := &l.ring[i]
			hit := r.byte()
			r.bad = r.bad || hit > 1
			e.hit, e.p = hit == 1, r.float32()
			e.weight = r.float32()
			copy(e.x[:], r.take(numFeatures))
		}
	})
	if r.bad || len(r.b) != 0 || g.fitted < 0 {
		return fmt.Errorf("pressure state: truncated, or not a state: %d bytes, %d left over", len(b), len(r.b))
	}
	*h = g
	return nil
}

func appendFloat(b []byte, v float64) []byte {
	return binary.LittleEndian.AppendUint64(b, math.Float64bits(v))
}

// reader takes numbers off a state; bad once there are too few, or one is no number.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) take(n int) []byte {
	if len(r.b) < n {
		r.bad, r.b = true, nil
		return make([]byte, n)
	}
	x := r.b[:n]
	r.b = r.b[n:]
	return x
}

func (r *reader) tree(t *tree) {
	copy(t.feature[:], r.take(len(t.feature)))
	copy(t.at[:], r.take(len(t.at)))
	for i := range t.feature {
		r.bad = r.bad || t.feature[i] >= numFeatures || t.at[i] >= buckets
	}
	for i := range t.out {
		t.out[i] = r.float32()
	}
}

func (r *reader) byte() byte     { return r.take(1)[0] }
func (r *reader) uint32() uint32 { return binary.LittleEndian.Uint32(r.take(4)) }
func (r *reader) uint64() uint64 { return binary.LittleEndian.Uint64(r.take(8)) }

func (r *reader) float() float64 {
	v := math.Float64frombits(r.uint64())
	r.bad = r.bad || v != v || math.IsInf(v, 0)
	return v
}

func (r *reader) float32() float32 {
	v := math.Float32frombits(r.uint32())
	r.bad = r.bad || v != v || math.IsInf(float64(v), 0)
	return v
}

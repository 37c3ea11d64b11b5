package model

import (
	"bytes"
	"math"
	"slices"
	"testing"

	"github.com/apache/arrow/go/v17/arrow/memory"
	"github.com/foreshift/foreshift/forecaster/window"
	"github.com/foreshift/foreshift/schemas"
)

// life plays the same days to any bank: series of all kinds, gaps, an event, one
// series that goes and one that comes in its place.
type life struct {
	bank  Experts
	keys  []Key
	index []int
	win   []*window.Window
	next  schemas.Step
	event []float32
}

func newLife(b Experts) *life {
	l := &life{bank: b, next: first + 17, event: make([]float32, 12*day)}
	for k := range l.event {
		if k/40%5 == 3 {
			l.event[k] = .4
		}
	}
	for n := range 6 {
		l.join(byte(n + 1))
	}
	return l
}

func (l *life) join(id byte) {
	k := Key{VM: schemas.VMID{id}, Resource: schemas.CPU}
	l.keys = append(l.keys, k)
	l.index = append(l.index, l.bank.Add(k))
	l.win = append(l.win, window.New(memory.NewGoAllocator()))
}

func (l *life) leave(n int) {
	l.bank.Remove(l.index[n])
	l.keys, l.index, l.win = slices.Delete(l.keys, n, n+1), slices.Delete(l.index, n, n+1), slices.Delete(l.win, n, n+1)
}

func (l *life) known() Regressors {
	r := Regressors{From: first, X: [][]float32{l.event}}
	for range 8 {
		r.Of = append(r.Of, []Term{{X: 0, Class: 77, Mean: 1}})
	}
	return r
}

// demand of series id at a step.
func demand(id byte, s schemas.Step, event float32) float32 {
	h := uint32(s)*2654435761 + uint32(id)*40503
	h ^= h >> 15
	noise := float32(h%1000) / 1000
	wave := float32(math.Sin(2 * math.Pi * float64(s%day) / day))
	switch id % 6 {
	case 0:
		return 7
	case 1:
		return (100 + 30*wave + 5*noise) * (1 + event)
	case 2:
		if h%20 != 0 {
			return 0
		}
		return 50 * noise
	case 3:
		if h%9 < 2 {
			return schemas.NaN()
		}
		return 20 + 10*noise
	case 4:
		if s > first+3*day {
			return 1000 + 100*noise
		}
		return 100 + 10*noise
	}
	return float32(s%200) + noise
}

func (l *life) play(t *testing.T, steps int) {
	t.Helper()
	for range steps {
		y := make([]float32, 8)
		fill(y)
		for n, k := range l.keys {
			r := window.Row{Step: l.next, Coverage: 1}
			fill(r.V[:])
			r.V[schemas.ColCPU] = demand(k.VM[0], l.next, l.event[int(l.next-first)%len(l.event)])
			y[l.index[n]] = r.V[schemas.ColCPU]
			l.win[n].Put(&r)
		}
		l.bank.Observe(l.next, y, l.known())
		for n, k := range l.keys {
			v := l.win[n].View()
			if Due(k, v.First, l.next) != l.next {
				continue
			}
			if err := l.bank.Refit(l.index[n], v, k.Hash()); err != nil {
				t.Fatal(err)
			}
		}
		l.next++
	}
}

// said are all quantiles of all series by all experts.
func (l *life) said() (q []uint32) {
	d := schemas.NewDist()
	for _, i := range l.index {
		for e := range l.bank.Names() {
			l.bank.Expert(i, e, schemas.Grid{Start: l.next}, l.known(), &d)
			for _, v := range d.Q {
				q = append(q, math.Float32bits(v))
			}
		}
	}
	return q
}

// A bank that was written down and read again goes on bit by bit as the one that
// was not, through observations, refits, and series that come and go.
func TestAStateGoesOnBitByBit(t *testing.T) {
	for name, make := range banks() {
		t.Run(name, func(t *testing.T) {
			for _, steps := range []int{0, 5, day + 31} {
				a := newLife(make())
				a.play(t, steps)
				a.leave(2)
				a.leave(0)
				b := *a
				b.keys, b.index, b.win = slices.Clone(a.keys), slices.Clone(a.index), nil
				for _, w := range a.win {
					b.win = append(b.win, again(w))
				}
				b.bank = make()
				b.bank.Add(Key{VM: schemas.VMID{200}}) // what was there before is gone
				state := a.bank.AppendState([]byte("before"))
				if err := b.bank.LoadState(state[len("before"):]); err != nil {
					t.Fatal(err)
				}
				for round := range 4 {
					if !slices.Equal(a.said(), b.said()) || !bytes.Equal(a.bank.AppendState(nil), b.bank.AppendState(nil)) {
						t.Fatalf("%d steps, then in round %d: another went on", steps, round)
					}
					if round == 0 {
						a.join(9)
						b.join(9)
						if !slices.Equal(a.index, b.index) {
							t.Fatalf("indices %v and %v", a.index, b.index)
						}
					}
					a.play(t, 1+round*40)
					b.play(t, 1+round*40)
				}
			}
		})
	}
}

// again is a window with the rows of w.
func again(w *window.Window) *window.Window {
	c := window.New(memory.NewGoAllocator())
	var r window.Row
	for s := w.First(); w.Len() > 0 && s <= w.Last(); s++ {
		if w.Get(s, &r) {
			c.Put(&r)
		}
	}
	return c
}

// What is cut, longer, of another version or of another bank is refused, and changes
// nothing.
func TestStatesAreRefusedWhole(t *testing.T) {
	all := banks()
	for name, make := range all {
		l := newLife(make())
		l.play(t, 40)
		l.leave(3)
		good := l.bank.AppendState(nil)
		bad := [][]byte{nil, append(slices.Clone(good), 0), append([]byte{9}, good[1:]...)}
		for cut := 0; cut < len(good); cut += 1 + len(good)/60 {
			bad = append(bad, good[:cut])
		}
		for other, make2 := range all {
			if other != name {
				bad = append(bad, newLife(make2()).bank.AppendState(nil))
			}
		}
		for n, b := range bad {
			if err := l.bank.LoadState(b); err == nil {
				t.Fatalf("%s took bad state %d of %d bytes", name, n, len(b))
			}
		}
		if !bytes.Equal(l.bank.AppendState(nil), good) {
			t.Fatalf("%s was changed by what it refused", name)
		}
	}
}

// Whatever bytes are taken for a state, the bank works on: quantiles may be anything,
// but nothing leads out of bounds.
func FuzzLoadState(f *testing.F) {
	for _, make := range banks() {
		b := make()
		b.Add(Key{VM: schemas.VMID{1}})
		b.Remove(b.Add(Key{VM: schemas.VMID{2}}))
		b.Observe(19, []float32{4}, Regressors{})
		f.Add(b.AppendState(nil))
	}
	f.Add([]byte{stateVersion, 5})
	w := windowOf([]float32{1, 2, 3, 4, 5, 6, 7, 8}, 12)
	f.Fuzz(func(t *testing.T, state []byte) {
		for name, make := range banks() {
			b := make()
			if b.LoadState(state) != nil {
				continue
			}
			d := schemas.NewDist()
			b.Observe(20, []float32{1, 2, 3}, Regressors{})
			for i := range 4 {
				if err := b.Refit(i, w.View(), 1); err != nil {
					continue
				}
				b.Forecast(i, schemas.Grid{Start: 21}, Regressors{}, &d)
				for e := range b.Names() {
					b.Expert(i, e, schemas.Grid{Start: 21}, Regressors{}, &d)
				}
			}
			b.Remove(0)
			if i := b.Add(Key{}); i < 0 {
				t.Fatalf("%s: index %d", name, i)
			}
		}
	})
}

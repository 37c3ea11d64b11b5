package ensemble

import (
	"bytes"
	"encoding/binary"
	"math"
	"slices"
	"testing"

	"github.com/apache/arrow/go/v17/arrow/memory"
	"github.com/cespare/xxhash/v2"
	"github.com/foreshift/foreshift/forecaster/model"
	"github.com/foreshift/foreshift/forecaster/window"
	"github.com/foreshift/foreshift/schemas"
)

// fleet is a few series of different kinds that live on in an ensemble.
type fleet struct {
	e    *Ensemble
	keys []model.Key
	win  []*window.Window
	y    []float32
	dist schemas.Dist
}

const fleetFirst = 288 * 1000

func newFleet(n int) *fleet {
	f := &fleet{e: New(), y: make([]float32, n), dist: schemas.NewDist()}
	for i := range n {
		f.keys = append(f.keys, model.Key{VM: schemas.VMID{byte(i), 7}, Resource: schemas.Memory})
		f.win = append(f.win, window.New(memory.NewGoAllocator()))
		f.e.Add(f.keys[i])
	}
	return f
}

// demand of series i at step k: daily, bursty, constant, with gaps.
func demand(i, k int) float32 {
	h := xxhash.Sum64([]byte{byte(i), byte(k), byte(k >> 8)})
	switch i % 4 {
	case 0:
		return 4e9 + 1e9*float32(math.Sin(2*math.Pi*float64(k)/day)) + float32(h%1e8)
	case 1:
		if h%10 == 0 {
			return float32(h % 1000)
		}
		return 0
	case 2:
		return 5
	}
	if k/50%3 == 1 {
		return schemas.NaN()
	}
	return float32(k%144) + float32(h%20)
}

// live takes the fleet through steps from..to-1 and adds what it forecast to out.
func (f *fleet) live(t testing.TB, from, to int, out []float32) []float32 {
	for k := from; k < to; k++ {
		s := schemas.Step(fleetFirst + k)
		for i, w := range f.win {
			f.y[i] = demand(i, k)
			r := window.Row{Step: s, Coverage: 1}
			for c := range r.V {
				r.V[c] = schemas.NaN()
			}
			r.V[schemas.ColMem] = f.y[i]
			w.Put(&r)
		}
		f.e.Observe(s, f.y, model.Regressors{})
		for i, w := range f.win {
			if v := w.View(); model.Due(f.keys[i], v.First, s) == s {
				if err := f.e.Refit(i, v, 1); err != nil {
					t.Fatal(err)
				}
			}
			if f.e.Captures(s) || k%5 == 0 {
				f.e.Forecast(i, schemas.Grid{Start: s + 1}, model.Regressors{}, &f.dist)
				out = append(out, f.dist.Q...)
			}
		}
	}
	return out
}

func sameBits(a, b float32) bool { return math.Float32bits(a) == math.Float32bits(b) }

// An ensemble restored from its state goes on bit by bit like the one that went on.
func TestRestoredGoesOnAlike(t *testing.T) {
	f := newFleet(4)
	f.live(t, 0, 2*day, nil)
	state := f.e.AppendState(nil)
	again := &fleet{e: New(), keys: f.keys, win: f.win, y: f.y, dist: f.dist}
	if err := again.e.LoadState(state); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(again.e.AppendState(nil), state) {
		t.Fatal("the state changed on its way")
	}
	wins := f.win
	again.win = nil
	for _, w := range wins { // the windows are restored from elsewhere
		c := window.New(memory.NewGoAllocator())
		v := w.View()
		for n := range v.N {
			r := window.Row{Step: v.First + schemas.Step(n), Coverage: 1}
			for col := range r.V {
				r.V[col] = schemas.NaN()
			}
			r.V[schemas.ColMem] = v.At(schemas.Memory, n)
			c.Put(&r)
		}
		again.win = append(again.win, c)
	}
	a := f.live(t, 2*day, 2*day+60, nil)
	b := again.live(t, 2*day, 2*day+60, nil)
	if len(a) == 0 || !slices.EqualFunc(a, b, sameBits) {
		t.Fatal("forecasts differ after the restart")
	}
	if !bytes.Equal(f.e.AppendState(nil), again.e.AppendState(nil)) {
		t.Fatal("what was learnt differs after the restart")
	}
}

// sealed puts the right checksum on a state, so that what is behind it is looked at.
func sealed(b []byte) []byte {
	if len(b) >= 9 {
		binary.LittleEndian.PutUint64(b[1:], xxhash.Sum64(b[9:]))
	}
	return b
}

func TestBadStateIsRefusedAndChangesNothing(t *testing.T) {
	f := newFleet(2)
	f.live(t, 0, 40, nil)
	state := f.e.AppendState(nil)
	e := New()
	before := e.AppendState(nil)
	for n := 0; n < len(state); n += 1 + len(state)/200 {
		if err := e.LoadState(state[:n]); err == nil {
			t.Fatalf("took %d of %d bytes", n, len(state))
		}
		bad := slices.Clone(state)
		bad[n] ^= 1
		if err := e.LoadState(bad); err == nil {
			t.Fatalf("took a state with byte %d changed", n)
		}
	}
	if err := Of(model.NewARIMA()).LoadState(state); err == nil {
		t.Fatal("took the state of other experts")
	}
	many := slices.Clone(state)
	binary.LittleEndian.PutUint32(many[stateHead:], math.MaxUint32)
	if err := e.LoadState(sealed(many)); err == nil {
		t.Fatal("took a state of four thousand million series")
	}
	if !bytes.Equal(e.AppendState(nil), before) {
		t.Fatal("a refused state left traces")
	}
}

func FuzzLoadState(f *testing.F) {
	fl := newFleet(2)
	fl.live(f, 0, 20, nil)
	state := fl.e.AppendState(nil)
	f.Add(state[:0], uint16(0), byte(0))
	f.Add(state, uint16(stateHead), byte(1))
	f.Add(state, uint16(300), byte(255))
	f.Add(state[:len(state)/2], uint16(77), byte(3))
	e := New()
	f.Fuzz(func(t *testing.T, b []byte, at uint16, v byte) {
		b = slices.Clone(b)
		if len(b) > 0 {
			b[int(at)%len(b)] = v
		}
		if e.LoadState(sealed(b)) == nil {
			again := New()
			if err := again.LoadState(e.AppendState(nil)); err != nil {
				t.Fatalf("its own state is refused: %v", err)
			}
		}
	})
}

// Targets are kept to a hundred thousandth of what the experts differ by.
func TestTargetsArePrecise(t *testing.T) {
	w := newWaiting(2)
	w.grow(0)
	for _, base := range []float32{0, 1e-3, 7, 6.4e10} {
		for k := range w.wide {
			w.wide[k] = base + base/1000*float32(k)
		}
		w.wide[3] = schemas.NaN()
		w.wide[5] = float32(math.Inf(1))
		want := slices.Clone(w.wide)
		want[5] = schemas.NaN()
		w.put(2)
		for k, v := range w.get(2) {
			if v != v && want[k] != want[k] {
				continue
			}
			if d := abs32(v - want[k]); !(d <= base/1000*float32(len(want))/60000+base*2e-7) {
				t.Fatalf("value %d of %v is %v, want %v", k, base, v, want[k])
			}
		}
	}
	for k := range w.wide {
		w.wide[k] = schemas.NaN()
	}
	w.put(0)
	if v := w.get(0)[0]; v == v {
		t.Fatalf("out of nothing came %v", v)
	}
}

// The ensemble's own part of a series' memory.
func TestMemoryIsBounded(t *testing.T) {
	e := New()
	for i := range 2000 {
		e.Add(model.Key{VM: schemas.VMID{byte(i), byte(i >> 8)}})
	}
	banks := 0
	for _, b := range e.banks {
		banks += len(b.AppendState(nil))
	}
	own := e.BytesPerSeries() - banks/2000
	t.Logf("%d bytes a series, %d of them the ensemble's own", e.BytesPerSeries(), own)
	if own > 3200 {
		t.Fatalf("the ensemble itself keeps %d bytes a series", own)
	}
}

package lstm

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"testing"

	"github.com/cespare/xxhash/v2"
	"github.com/foreshift/foreshift/schemas"
)

// The losses of the first updates from a seed: any change of network, features,
// generator or optimiser shows here. The last digits differ between processors that
// fuse multiplication and addition and those that do not.
func TestGoldenUpdates(t *testing.T) {
	made := func() *Trainer {
		tr, err := NewTrainer(NewWeights(1), Generate(1, 24, 3), nil, Options{Seed: 1})
		if err != nil {
			t.Fatal(err)
		}
		return tr
	}
	a, b := made(), made()
	want := []float64{1.944091, 1.017769, .951249, 1.011625}
	for u, w := range want {
		got := a.Update()
		if math.Abs(got-w) > 2e-3*w {
			t.Errorf("update %d: loss %.6f, want %.6f", u+1, got, w)
		}
		b.Update()
	}
	if !bytes.Equal(a.Weights().Encode(), b.Weights().Encode()) {
		t.Fatal("the same seed gave other weights")
	}
}

// A little training already helps on series that were not trained on.
func TestTrainingLearns(t *testing.T) {
	all := Generate(21, 36, 3)
	tr, err := NewTrainer(NewWeights(1), all[:28], all[28:], Options{Seed: 2, Every: 8, Updates: 16, Rate: 5e-3})
	if err != nil {
		t.Fatal(err)
	}
	var first float64
	_, score := tr.Train(16, func(u int, s float64) bool {
		if u == 0 {
			first = s
		}
		return true
	})
	if !(score < .97*first) {
		t.Fatalf("loss %.4f before, %.4f after", first, score)
	}
}

// The weights built in beat the plainest forecast by far on series from a seed they
// have not seen.
func TestBuiltInWeightsAreGood(t *testing.T) {
	w, err := Default()
	if err != nil {
		t.Fatal(err)
	}
	if s := Judge(w, Generate(4242, 24, 5)); !(s < .95) {
		t.Fatalf("loss %.4f of the last day's quantiles", s)
	}
	if s := Judge(w, nil); s == s {
		t.Fatalf("a score without series: %v", s)
	}
}

func TestFineTuneAdoptsOnlyTheBetter(t *testing.T) {
	all := Generate(33, 44, 3)
	before := append([]float32(nil), NewWeights(1).p...)
	from := NewWeights(1)
	out, err := FineTune(from, all, 1, 5, nil)
	if err != nil {
		t.Fatal(err)
	}
	if !out.Adopted || !(out.After < out.Before-Margin) || out.Weights == from || out.Train+out.Held != len(all) {
		t.Fatalf("untrained weights were not improved on: %+v", out)
	}
	for i, v := range before {
		if from.p[i] != v {
			t.Fatal("the weights handed in were changed")
		}
	}
	still, err := NewTuner(from, all, Options{Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	if same := still.Result(); same.Adopted || same.Weights != from {
		t.Fatalf("nothing was learnt and yet: %+v", same)
	}
	if _, err := FineTune(from, all[:5], 1, 10, nil); err == nil {
		t.Fatal("nobody was left to judge by")
	}
}

// No VM is on both sides of a split, whatever its resources.
func TestSplitKeepsVMsWhole(t *testing.T) {
	var all []Series
	for i := range 200 {
		for r := range schemas.Resource(schemas.NumResources) {
			all = append(all, Series{VM: schemas.VMID{byte(i), 7}, Resource: r})
		}
	}
	train, held := Split(all, 3, .2)
	side := map[schemas.VMID]bool{}
	for _, s := range held {
		side[s.VM] = true
	}
	for _, s := range train {
		if side[s.VM] {
			t.Fatalf("VM %v is on both sides", s.VM)
		}
	}
	if len(train)+len(held) != len(all) || len(side) < 20 || len(side) > 60 {
		t.Fatalf("%d VMs of 200 held back", len(side))
	}
}

func TestFromViewTakesWhatHasADay(t *testing.T) {
	x := make([]float32, 2*day)
	v := windowOf(x, schemas.Memory, start).View()
	got := FromView(schemas.VMID{4}, v)
	if len(got) != 1 || got[0].Resource != schemas.Memory || len(got[0].Y) != 2*day || got[0].First != start {
		t.Fatalf("%+v", got)
	}
	if got := FromView(schemas.VMID{4}, windowOf(x[:100], schemas.CPU, start).View()); got != nil {
		t.Fatalf("a hundred rows became %d series", len(got))
	}
}

func TestWeightsRoundTripAndRefusals(t *testing.T) {
	w := NewWeights(5)
	good := w.Encode()
	back, err := Decode(good)
	if err != nil || !bytes.Equal(back.Encode(), good) || len(good) != EncodedSize || EncodedSize >= 64<<10 {
		t.Fatalf("%d bytes, %v", len(good), err)
	}
	reseal := func(b []byte) []byte {
		binary.LittleEndian.PutUint64(b[len(b)-8:], xxhash.Sum64(b[:len(b)-8]))
		return b
	}
	for name, spoil := range map[string]func(b []byte) []byte{
		"empty":      func([]byte) []byte { return nil },
		"magic":      func(b []byte) []byte { b[0]++; return reseal(b) },
		"version":    func(b []byte) []byte { b[len(magic)]++; return reseal(b) },
		"shape":      func(b []byte) []byte { b[len(magic)+4]++; return reseal(b) },
		"bit flip":   func(b []byte) []byte { b[500] ^= 4; return b },
		"truncated":  func(b []byte) []byte { return b[:len(b)-1] },
		"not finite": func(b []byte) []byte { copy(b[prefix+40:], []byte{0, 0, 0x80, 0x7f}); return reseal(b) },
	} {
		if _, err := Decode(spoil(bytes.Clone(good))); !errors.Is(err, ErrWeights) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(NewWeights(1).Encode())
	f.Add([]byte(magic))
	f.Fuzz(func(t *testing.T, b []byte) {
		w, err := Decode(b)
		if err == nil && !bytes.Equal(w.Encode(), b) {
			t.Fatal("decoded to other weights")
		}
	})
}

// The generator makes demands: finite, not negative, of many kinds, the same again
// from the same seed.
func TestGenerate(t *testing.T) {
	a, b := Generate(8, 60, 3), Generate(8, 60, 3)
	zeros, still := 0, 0
	for i, s := range a {
		if len(s.Y) != 3*day || s.VM == (schemas.VMID{}) || s.VM != b[i].VM {
			t.Fatalf("series %d: %d rows of VM %v", i, len(s.Y), s.VM)
		}
		z := 0
		top, least := float32(0), float32(math.MaxFloat32)
		for k, y := range s.Y {
			if y != y {
				continue
			}
			if y != b[i].Y[k] || y < 0 || y-y != 0 {
				t.Fatalf("series %d, row %d: %v and %v", i, k, y, b[i].Y[k])
			}
			if y == 0 {
				z++
			}
			top, least = max(top, y), min(least, y)
		}
		if z > len(s.Y)/2 {
			zeros++
		}
		if top < 1.2*least {
			still++
		}
	}
	if zeros < 3 || still < 2 || zeros > 40 {
		t.Fatalf("%d of 60 mostly zero, %d nearly still", zeros, still)
	}
}

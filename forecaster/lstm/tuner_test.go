package lstm

import (
	"bytes"
	"math"
	"testing"

	"github.com/foreshift/foreshift/schemas"
)

// However the updates are shared out over calls, the tuner comes to the same.
func TestTunerGoesOnWhereItStopped(t *testing.T) {
	all := Generate(34, 40, 3)
	var sums []uint64
	for _, each := range []int{1, 3, 100} {
		u, err := NewTuner(NewWeights(1), all, Options{Seed: 2, Updates: 6, Every: 2})
		if err != nil {
			t.Fatal(err)
		}
		calls := 1
		for u.Tune(each) {
			calls++
		}
		if u.Made() != 6 || calls != (6+each-1)/each || u.Tune(5) || u.Made() != 6 {
			t.Fatalf("%d a call: %d updates in %d calls", each, u.Made(), calls)
		}
		r := u.Result()
		if !r.Adopted {
			t.Fatalf("%+v", r)
		}
		sums = append(sums, r.Weights.Sum())
	}
	if sums[0] != sums[1] || sums[0] != sums[2] {
		t.Fatalf("%x", sums)
	}
}

// Weights that training cannot better are kept, and training stops early.
func TestTunerStopsWhenNothingHelps(t *testing.T) {
	from, err := Default()
	if err != nil {
		t.Fatal(err)
	}
	before := from.Encode()
	u, err := NewTuner(from, Generate(35, 44, 2), Options{Seed: 1, Rate: 10, Updates: 30, Every: 1, Patience: 2})
	if err != nil {
		t.Fatal(err)
	}
	for u.Tune(1) {
	}
	if r := u.Result(); r.Adopted || r.Weights != from || u.Made() > 29 {
		t.Fatalf("a rate of 10 made %d updates and %+v", u.Made(), r)
	}
	if !bytes.Equal(before, from.Encode()) {
		t.Fatal("the weights handed in were changed")
	}
}

// Series that hold nothing but what no demand can be do not spoil the weights.
func TestTunerTakesAnything(t *testing.T) {
	all := Generate(36, 40, 2)
	for i := range all {
		for k := range all[i].Y {
			switch {
			case i%4 == 0:
				all[i].Y[k] = schemas.NaN()
			case i%4 == 1:
				all[i].Y[k] = 3
			case i%4 == 2 && k%10 == 0:
				all[i].Y[k] = float32(math.Inf(1 - k%20/10*2))
			case i%4 == 3 && k%7 == 0:
				all[i].Y[k] = -1e30
			}
		}
	}
	u, err := NewTuner(NewWeights(1), all, Options{Seed: 1, Updates: 4, Every: 2})
	if err != nil {
		t.Fatal(err)
	}
	for u.Tune(2) {
	}
	if _, err := Decode(u.t.Weights().Encode()); err != nil {
		t.Fatalf("after what is no demand: %v", err)
	}
	if _, err := NewTuner(NewWeights(1), nil, Options{}); err == nil {
		t.Fatal("a tuner without a fleet")
	}
}

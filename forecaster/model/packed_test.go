package model

import (
	"math"
	"slices"
	"testing"

	"github.com/foreshift/foreshift/schemas"
	"pgregory.net/rapid"
)

// Packed rows come back within .4 % of the distance from the median, rising, with what
// equals the median and what is zero exact; one that lacks a quantile is missing.
func TestPackedRows(t *testing.T) {
	var p packed
	p.grow(2, 3)
	if p.known(8) {
		t.Fatal("a new row is known")
	}
	rapid.Check(t, func(t *rapid.T) {
		var q, got [levels]float32
		scale := rapid.SampledFrom([]float32{1e-30, 1, 1e15}).Draw(t, "scale")
		copy(q[:], rapid.SliceOfN(rapid.OneOf(rapid.Just(float32(0)), rapid.Just(float32(.7)), rapid.Float32Range(-1, 1)), levels, levels).Draw(t, "q"))
		slices.Sort(q[:])
		for l := range q {
			q[l] *= scale
		}
		p.put(7, &q)
		p.get(7, &got)
		if !slices.IsSorted(got[:]) {
			t.Fatalf("%v came back as %v", q, got)
		}
		for l, v := range q {
			away := math.Abs(float64(v - q[middle]))
			if (away == 0 || v == 0) && got[l] != v || math.Abs(float64(got[l]-v)) > away/250+1e-6*math.Abs(float64(v))+1e-38 {
				t.Fatalf("%v came back as %v", q, got)
			}
		}
	})
	q := [levels]float32{1: schemas.NaN()}
	p.put(7, &q)
	if p.known(7) || p.known(6) {
		t.Fatal("a row without a quantile is known")
	}
}

// Banks that read the last day of another say what they say when they keep it
// themselves.
func TestSharedDaysAreTheSame(t *testing.T) {
	for _, name := range []string{"naive", "rises"} {
		e := NewEmpirical()
		alone, shared := map[string]func() (Experts, Experts){
			"naive": func() (Experts, Experts) { b := NewSeasonalNaive(); b.Share(e); return NewSeasonalNaive(), b },
			"rises": func() (Experts, Experts) { b := NewRises(); b.Share(e); return NewRises(), b },
		}[name]()
		lives := []*life{newLife(e), newLife(alone), newLife(shared)}
		for range 9 {
			for _, l := range lives {
				l.play(t, day/4)
			}
			lives[0].said()
			if a, b := lives[1].said(), lives[2].said(); len(a) == 0 || !slices.Equal(a, b) {
				t.Fatalf("%s: shared and alone differ at step %d", name, lives[1].next)
			}
			for _, l := range lives {
				l.next += 5 // steps nobody told
			}
		}
		if a, b := len(alone.AppendState(nil)), len(shared.AppendState(nil)); a-b < 6*day*4 {
			t.Errorf("%s: state of %d bytes alone, %d shared", name, a, b)
		}
	}
}

package model

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func TestSorterAgainstSort(t *testing.T) {
	var s sorter
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(0, 700).Draw(t, "n")
		some := rapid.SliceOfN(rapid.Float32Range(-1e30, 1e30), 40, 40).Draw(t, "values")
		x := make([]float32, n)
		for i := range x {
			x[i] = some[i*i%len(some)]
			if i%3 == 0 {
				x[i] = float32(i % 7)
			}
		}
		want := slices.Clone(x)
		slices.Sort(want)
		s.sort(x)
		if !slices.Equal(x, want) {
			t.Fatalf("%v", x)
		}
	})
}

func BenchmarkSort(b *testing.B) {
	var s sorter
	x := make([]float32, 288)
	for b.Loop() {
		for i := range x {
			x[i] = float32(i * 7919 % 1009)
		}
		s.sort(x)
	}
}

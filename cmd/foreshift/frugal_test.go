package main

import "testing"

func TestMemoryIsGivenBackWhenItIsQuiet(t *testing.T) {
	var q quietness
	for i, step := range []struct {
		allocated, free uint64
		want            bool
	}{
		{500 << 20, 20 << 20, false}, // reading
		{900 << 20, 30 << 20, false}, // still
		{901 << 20, 30 << 20, true},  // over
		{902 << 20, 1 << 20, false},  // nothing to give
	} {
		if got := q.giveBack(step.allocated, step.free); got != step.want {
			t.Errorf("look %d: give back %v, want %v", i, got, step.want)
		}
	}
}

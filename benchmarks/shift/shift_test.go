package shift

import (
	"bytes"
	"slices"
	"testing"
)

// After a change of pattern the weights move and the score recovers; learning is no
// worse than the weights it began with.
func TestRecovers(t *testing.T) {
	if testing.Short() {
		t.Skip("half a minute of walking")
	}
	r, err := Run(t.Context(), 1, 0)
	if err != nil {
		t.Fatal(err)
	}
	const whole, still = "auto", "auto-learning"
	first, last := r.Mean(whole, 0, 24), r.Mean(whole, 48, 72)
	if last > .5*first {
		t.Errorf("loss is %.2f on the first day after the change and %.2f on the third", first, last)
	}
	if l := r.Mean(still, 48, 72); last > l {
		t.Errorf("with learning %.2f, without %.2f on the third day", last, l)
	}
	for _, m := range Models[2:] {
		t.Logf("%-16s before %.2f, first day %.2f, third day %.2f", m, r.Mean(m, -24, 0), r.Mean(m, 0, 24), r.Mean(m, 48, 72))
	}
	t.Logf("%-16s before %.2f, first day %.2f, third day %.2f", whole, r.Mean(whole, -24, 0), first, last)
	moved := 0.0
	for k, name := range r.Experts {
		w := r.Weights[k]
		most, least := slices.Max(w), slices.Min(w)
		moved = max(moved, most-least)
		if most-least > .05 {
			t.Logf("share of %-16s %.2f before, %.2f to %.2f after", name, w[0], least, most)
		}
	}
	if moved < .1 {
		t.Errorf("no expert's share moved by more than %.3f", moved)
	}
	loss, shares := r.Plot()
	if !bytes.Contains(loss, []byte("the pattern changes")) || !bytes.Contains(shares, []byte("the pattern changes")) {
		t.Error("a plot does not show the change")
	}
}

package model

import (
	"slices"
	"testing"

	"github.com/foreshift/foreshift/schemas"
)

// A level that leaps beyond all that was seen and stays for an hour is today's level; a
// shorter one, one seen before, and a slow rise are not.
func TestLeap(t *testing.T) {
	for _, c := range []struct {
		name string
		y    func(k int) float32
		want int
	}{
		{"an hour ago", func(k int) float32 { return map[bool]float32{false: 40, true: 400}[k >= 700] + noisy(k) }, 700},
		{"ten minutes ago", func(k int) float32 { return map[bool]float32{false: 40, true: 400}[k >= 710] + noisy(k) }, 0},
		{"seen before", func(k int) float32 {
			return map[bool]float32{false: 40, true: 400}[k >= 690 || k/12 == 20] + noisy(k)
		}, 0},
		{"rises slowly", func(k int) float32 { return float32(k) }, 0},
		{"with gaps", func(k int) float32 {
			if k%3 == 1 {
				return schemas.NaN()
			}
			return map[bool]float32{false: 40, true: 400}[k >= 600] + noisy(k)
		}, 600},
		{"in the first day", func(k int) float32 { return map[bool]float32{false: 40, true: 400}[k >= 200] + noisy(k) }, 0},
	} {
		x := make([]float32, 714)
		for k := range x {
			x[k] = c.y(k)
		}
		if got := leap(x, make([]float64, len(x))); got != c.want {
			t.Errorf("%s: a leap at %d, want %d", c.name, got, c.want)
		}
		s := newScored()
		kept := slices.Clone(x)
		moved := s.anchored(x)
		if !slices.EqualFunc(x, kept, func(a, b float32) bool { return a == b || a != a && b != b }) {
			t.Errorf("%s: the window was changed", c.name)
		}
		if c.want > 0 && (moved[c.want-3] < 350 || moved[c.want+3] != x[c.want+3]) {
			t.Errorf("%s: %v before, %v after", c.name, moved[c.want-3], moved[c.want+3])
		}
	}
}

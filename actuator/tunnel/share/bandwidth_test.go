package share

import (
	"testing"

	"github.com/foreshift/foreshift/schemas"
	"pgregory.net/rapid"
)

// TestBandwidth plays a link that carries less than its gateway shapes it to: what passes is
// the lesser of what moves are granted and what the way takes, and packets queue when more is sent.
func TestBandwidth(t *testing.T) {
	const rate = 50e6
	for _, c := range []struct {
		name        string
		way, sender float64 // bytes/s that the way takes, and that the moves can send
		want        float64
	}{
		{"as wide as its rate", 60e6, 1e12, rate},
		{"half of it", 25e6, 1e12, 25e6},
		{"a tenth of it", 5e6, 1e12, 5e6},
		{"a slow sender", 60e6, 10e6, rate},
	} {
		var b Bandwidth
		width := b.Observe(rate, 0, 0, 20, 0) // before any move
		sum, n := 0., 0.
		for i := range 300 {
			granted := .9 * float64(width)
			sent := min(granted, c.sender)
			passed, rtt := sent, 20.
			if sent > c.way {
				passed, rtt = c.way, 120
			}
			width = b.Observe(rate, schemas.BytesPerSecond(passed), schemas.BytesPerSecond(granted), schemas.Millis(rtt), 0)
			if i >= 100 {
				sum, n = sum+float64(width), n+1
			}
		}
		if mean := sum / n; mean < .85*c.want || mean > 1.25*c.want {
			t.Errorf("%s: %.1f MB/s is believed, want %.1f", c.name, mean/1e6, c.want/1e6)
		}
	}
	// The way gets as wide as it was: a minute and a half without a queue, and it is believed.
	b := Bandwidth{rate: rate, width: rate / 5, least: 20}
	for range 90 {
		b.Observe(rate, 1e6, 1e6, 20, 0)
	}
	if b.width != rate {
		t.Errorf("still %.1f MB/s", b.width/1e6)
	}
}

// TestBandwidthBounds: whatever is seen, it is above nothing and never above the rate.
func TestBandwidthBounds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var b Bandwidth
		num := rapid.Float64Range(0, 1e9)
		rate := schemas.BytesPerSecond(rapid.Float64Range(1e5, 1e9).Draw(t, "rate"))
		for range rapid.IntRange(1, 60).Draw(t, "looks") {
			w := b.Observe(rate, schemas.BytesPerSecond(num.Draw(t, "passed")), schemas.BytesPerSecond(num.Draw(t, "granted")),
				schemas.Millis(rapid.Float64Range(0, 2000).Draw(t, "rtt")), schemas.Ratio(rapid.Float64Range(0, 1).Draw(t, "lost")))
			if w > rate || w < leastWidth*rate*.99 {
				t.Fatalf("%g of %g", float64(w), float64(rate))
			}
		}
	})
}

package schemas

import (
	"testing"
	"time"
)

func TestSpanIsAsAPersonSaysIt(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0 s", 250 * time.Millisecond: "0.25 s", 9500 * time.Millisecond: "9.5 s", 40 * time.Second: "40 s", 59700 * time.Millisecond: "1 min", 185 * time.Second: "3 min 05 s", 10 * time.Minute: "10 min",
		2 * time.Hour: "2 h", 90 * time.Minute: "1 h 30 min", 24 * time.Hour: "24 h", 72 * time.Hour: "3 days", -4 * time.Second: "-4 s",
	} {
		if got := Span(d); got != want {
			t.Errorf("%v: %q, want %q", d, got, want)
		}
	}
}

func TestFigureIsAsAPersonReadsIt(t *testing.T) {
	for v, want := range map[float64]string{0: "0", .0123456: "0.0123", 12.345: "12.3", 99.96: "100", 17600: "17600", -250.4: "-250"} {
		if got := Figure(v); got != want {
			t.Errorf("%v: %q, want %q", v, got, want)
		}
	}
}

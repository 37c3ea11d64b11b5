package schemas

import (
	"fmt"
	"math"
	"time"
)

// Span writes a length of time as a person says it: 0.25 s, 9.5 s, 40 s, 3 min 05 s,
// 2 h, 1 h 30 min, 3 days.
func Span(d time.Duration) string {
	switch {
	case d < 0:
		return "-" + Span(-d)
	case d < time.Second:
		return fmt.Sprintf("%.2g s", d.Seconds())
	case d < 10*time.Second:
		return fmt.Sprintf("%.3g s", d.Round(100*time.Millisecond).Seconds())
	case d.Round(time.Second) < time.Minute:
		return fmt.Sprintf("%.0f s", d.Seconds())
	case d.Round(time.Second) < time.Hour:
		d = d.Round(time.Second)
		return two(d/time.Minute, "min", d%time.Minute/time.Second, "s")
	case d < 48*time.Hour:
		d = d.Round(time.Minute)
		return two(d/time.Hour, "h", d%time.Hour/time.Minute, "min")
	}
	return fmt.Sprintf("%.3g days", d.Hours()/24)
}

func two(n time.Duration, unit string, rest time.Duration, small string) string {
	if rest == 0 {
		return fmt.Sprintf("%d %s", n, unit)
	}
	return fmt.Sprintf("%d %s %02d %s", n, unit, rest, small)
}

// Figure writes a number as a person reads it: three digits, and whole from a hundred on.
func Figure(v float64) string {
	if math.Abs(v) >= 99.95 {
		return fmt.Sprintf("%.0f", v)
	}
	return fmt.Sprintf("%.3g", v)
}

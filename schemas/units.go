package schemas

import (
	"fmt"
	"math"
	"time"
)

// Units. One type per dimension, so that a byte is never added to a core.
type (
	// MilliCPU is a thousandth of one core of reference speed.
	MilliCPU float64
	// Bytes is an amount of memory or storage.
	Bytes float64
	// BytesPerSecond is a rate of network or disk traffic, or of memory dirtied.
	BytesPerSecond float64
	// Ratio is a dimensionless share; 1 means all of it.
	Ratio float64
	// Seconds is a duration in seconds.
	Seconds float64
	// Millis is a duration in milliseconds.
	Millis float64
)

// Time is nanoseconds since the Unix epoch. In JSON it is an RFC 3339 string in
// UTC, because people read it there. Zero means unknown and is the empty string.
type Time int64

// At converts a wall-clock time at the border of a shell.
func At(t time.Time) Time { return Time(t.UnixNano()) }

// Std converts back for printing.
func (t Time) Std() time.Time { return time.Unix(0, int64(t)).UTC() }

// Add gives the time d later.
func (t Time) Add(d time.Duration) Time { return t + Time(d) }

// Sub gives the duration since u.
func (t Time) Sub(u Time) time.Duration { return time.Duration(t - u) }

func (t Time) String() string {
	if t == 0 {
		return ""
	}
	return t.Std().Format(time.RFC3339Nano)
}

// MarshalText writes RFC 3339 with nanoseconds, or nothing for the zero time.
func (t Time) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// UnmarshalText reads what MarshalText writes.
func (t *Time) UnmarshalText(b []byte) error {
	if len(b) == 0 {
		*t = 0
		return nil
	}
	v, err := time.Parse(time.RFC3339Nano, string(b))
	if err != nil {
		return fmt.Errorf("time %q: want RFC 3339 such as 2026-03-14T09:26:53Z", clip(string(b)))
	}
	if y := v.UTC().Year(); y < 1971 || y > 2250 {
		return fmt.Errorf("time: year %d is out of range 1971..2250", y)
	}
	*t = At(v)
	return nil
}

// Step is the absolute index of a base step: Unix time divided by the base step's
// length (default [DefaultBase]). Every grid and clock in the core is in steps.
type Step int64

// DefaultBase is the length of a base step unless the fleet is configured
// otherwise; demonstrations run the same code with one second or less.
const DefaultBase = 5 * time.Minute

// StepsPerDay is the number of base steps of one (simulated) day: the seasonal
// period, whatever the base step's real length.
const StepsPerDay = 288

// StepAt is the step that holds t.
func StepAt(t Time, base time.Duration) Step {
	s := Step(int64(t) / int64(base))
	if int64(t)%int64(base) < 0 {
		s--
	}
	return s
}

// Start is the time at which the step begins.
func (s Step) Start(base time.Duration) Time { return Time(int64(s) * int64(base)) }

// End is the time at which the step ends and the next one begins.
func (s Step) End(base time.Duration) Time { return (s + 1).Start(base) }

// NaN marks a missing value in memory. On the wire missing is null.
func NaN() float32 { return float32(math.NaN()) }

// IsNaN reports whether v is missing.
func IsNaN(v float32) bool { return v != v }

// Finite reports whether v is neither missing nor infinite.
func Finite(v float64) bool { return !math.IsNaN(v) && !math.IsInf(v, 0) }

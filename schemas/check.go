package schemas

import (
	"fmt"
	"math"
	"time"
	"unicode/utf8"
)

// Bounds on the parts of messages: wide enough for any fleet Foreshift is made
// for, narrow enough that no message can be used to fill a service's memory.
const (
	MaxName             = 256    // bytes of a name for people
	MaxText             = 4096   // bytes of a sentence
	MaxLabels           = 256    // labels of a host or VM
	MaxInventory        = 4096   // VMs of one host
	MaxMetricsRows      = 8192   // rows of one metrics message
	MaxStepsRows        = 16384  // rows of one steps message
	MaxDeclines         = 65536  // declines of a plan, hosts in a ranking
	MaxActions          = 4096   // moves of one plan
	MaxSeries           = 262144 // values of an external series
	MaxDeadPayload      = 64 << 10
	MaxHandOver         = 4 << 20 // bytes of a domain XML or of a migration cookie
	maxGroup            = 65536   // VMs or hosts in a list of a policy
	maxSmallList        = 1024
	maxInterval         = 24 * 3600 // s
	maxBase             = 24 * time.Hour
	minBase             = time.Millisecond
	maxSubject          = 512
	earliest       Time = Time(366 * 24 * time.Hour) // within 1971
)

// latestTime is the end of 2250: nanoseconds since 1970 stay far from overflow.
var latestTime = At(time.Date(2250, 12, 31, 23, 59, 59, 999999999, time.UTC))

// CommandLife is the longest life of a [Command] from issue to expiry: a command
// that was held up on its way is stale, and moving on stale news is how VMs get
// lost.
const CommandLife = 60 * time.Second

// check collects the first fault of a message; all its methods do nothing after
// it. The field is named as on the wire.
type check struct{ err error }

func (c *check) fail(field, format string, args ...any) {
	if c.err == nil {
		c.err = fmt.Errorf(field+": "+format, args...)
	}
}

// in prefixes the faults found by f with the name and index of a list's item.
func (c *check) in(list string, i int, f func(*check)) {
	if c.err != nil {
		return
	}
	var inner check
	if f(&inner); inner.err != nil {
		c.err = fmt.Errorf("%s[%d].%w", list, i, inner.err)
	}
}

// under prefixes the faults found by f with the name of the enclosing object.
func (c *check) under(name string, f func(*check)) {
	if c.err != nil {
		return
	}
	var inner check
	if f(&inner); inner.err != nil {
		c.err = fmt.Errorf("%s.%w", name, inner.err)
	}
}

func token[T ~string](c *check, field string, s T) {
	if c.err == nil {
		c.err = CheckToken(field, string(s))
	}
}

func optToken[T ~string](c *check, field string, s T) {
	if s != "" {
		token(c, field, s)
	}
}

func (c *check) text(field, s string, most int) {
	switch {
	case c.err != nil:
	case len(s) > most:
		c.fail(field, "%d bytes, at most %d are allowed", len(s), most)
	case !utf8.ValidString(s):
		c.fail(field, "not UTF-8")
	}
}

// given is text that may not be empty.
func (c *check) given(field, s string, most int) {
	if s == "" {
		c.fail(field, "is missing")
	}
	c.text(field, s, most)
}

func (c *check) hex(field, s string, digits int) {
	if len(s) != digits {
		c.fail(field, "%q: want %d hex digits", clip(s), digits)
		return
	}
	for i := 0; i < len(s); i++ {
		if !(s[i] >= '0' && s[i] <= '9' || s[i] >= 'a' && s[i] <= 'f') {
			c.fail(field, "%q: want %d lower-case hex digits", clip(s), digits)
			return
		}
	}
}

// digest is 16 hex digits, or empty.
func (c *check) digest(field, s string) {
	if s != "" {
		c.hex(field, s, 16)
	}
}

func (c *check) vm(field string, v VMID) {
	if v.IsZero() {
		c.fail(field, "is missing")
	}
}

// when is a time that must be known.
func (c *check) when(field string, t Time) {
	if t == 0 {
		c.fail(field, "is missing")
	}
	c.optWhen(field, t)
}

func (c *check) optWhen(field string, t Time) {
	if t != 0 && (t < earliest || t > latestTime) {
		c.fail(field, "%s is out of range 1971..2250", t)
	}
}

// order says that a must not be after b, where both are known.
func (c *check) order(fieldA string, a Time, fieldB string, b Time) {
	if a != 0 && b != 0 && a > b {
		c.fail(fieldA, "%s is after %s %s", a, fieldB, b)
	}
}

func finite[T ~float64](c *check, field string, v T) {
	if !Finite(float64(v)) {
		c.fail(field, "%v is not a finite number", float64(v))
	}
}

// amount is a quantity that cannot be negative.
func amount[T ~float64](c *check, field string, v T) {
	finite(c, field, v)
	if v < 0 {
		c.fail(field, "%v is negative", float64(v))
	}
}

// share is a probability or a share of a whole.
func share[T ~float64](c *check, field string, v T) {
	if !(v >= 0 && v <= 1) {
		c.fail(field, "%v is not within 0..1", float64(v))
	}
}

// within is a number in [low, high].
func within[T ~float64 | ~int](c *check, field string, v, low, high T) {
	if !(v >= low && v <= high) {
		c.fail(field, "%v is not within %v..%v", v, low, high)
	}
}

func (c *check) atLeast(field string, n, least int) {
	if n < least {
		c.fail(field, "%d, want at least %d", n, least)
	}
}

func (c *check) sequence(field string, n uint64) {
	if n == 0 {
		c.fail(field, "is missing")
	}
}

func (c *check) count(field string, n, most int) {
	if n > most {
		c.fail(field, "%d entries, at most %d are allowed", n, most)
	}
}

func oneOf[T ~string](c *check, field string, s T, allowed ...T) {
	for _, a := range allowed {
		if s == a {
			return
		}
	}
	c.fail(field, "%q is not one of %q", clip(string(s)), allowed)
}

// labels are names with values, as operators give them.
func (c *check) labels(field string, m map[string]string) {
	c.count(field, len(m), MaxLabels)
	for _, k := range sortedKeys(m) {
		c.given(field+" key", k, MaxName)
		c.text(field+" "+clip(k), m[k], MaxText)
	}
}

// resourceName is the wire name of a resource.
func (c *check) resourceName(field, s string) {
	oneOf(c, field, s, resourceNames[:]...)
}

func (c *check) optResource(field, s string) {
	if s != "" {
		c.resourceName(field, s)
	}
}

// uniqueVMs says that no VM is named twice.
func (c *check) uniqueVMs(field string, n int, at func(int) VMID) {
	if c.err != nil || n < 2 {
		return
	}
	seen := make(map[VMID]struct{}, n)
	for i := 0; i < n; i++ {
		v := at(i)
		if _, twice := seen[v]; twice {
			c.fail(field, "%s is named twice", v)
			return
		}
		seen[v] = struct{}{}
	}
}

// isInf32 tells an infinity of either sign.
func isInf32(v float32) bool { return v > math.MaxFloat32 || v < -math.MaxFloat32 }

package console

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/foreshift/foreshift/schemas"
)

// Term is one line of what a move achieved, in units of people. Low and High bound the
// difference that the move made, with nine chances in ten.
type Term struct {
	What                   string // "the VM: cpu"
	Before, After, Without string
	Difference, Low, High  string
	Certain                bool // the interval has no 0 in it
}

// whose are the parts of an effect in the order in which people ask: the VM, where it
// was, where it is.
var whose = []struct{ prefix, says string }{{"vm.", "the VM"}, {"source.", "the host it left"}, {"destination.", "its host now"}}

var effectUnits = []struct {
	suffix, unit string
	div          float64
}{{"_mcpu", "cores", 1000}, {"_bytes_per_second", "MB/s", 1e6}, {"_bytes", "GiB", 1 << 30}, {"_ms", "ms", 1}, {"_ratio", "%", .01}}

// Achieved writes the terms of an effect for people; the name of a term ends with its
// unit.
func Achieved(e *schemas.Effect) (out []Term) {
	order := func(name string) string {
		for i, x := range whose {
			if rest, ok := strings.CutPrefix(name, x.prefix); ok {
				return fmt.Sprint(i, rest)
			}
		}
		return "9" + name
	}
	for _, name := range slices.SortedFunc(maps.Keys(e.Terms), func(a, b string) int { return strings.Compare(order(a), order(b)) }) {
		c := e.Terms[name]
		div, unit, what := 1., "", name
		for _, u := range effectUnits {
			if w, ok := strings.CutSuffix(name, u.suffix); ok {
				div, unit, what = u.div, " "+u.unit, w
				break
			}
		}
		for _, x := range whose {
			if rest, ok := strings.CutPrefix(what, x.prefix); ok {
				what = x.says + ": " + rest
			}
		}
		w := func(format string, v float64) string {
			return strings.ReplaceAll(fmt.Sprintf(format, v/div), "-", "−")
		}
		out = append(out, Term{What: strings.ReplaceAll(what, "_", " "), Before: w("%.2f", c.Before) + unit, After: w("%.2f", c.After) + unit, Without: w("%.2f", c.Without) + unit,
			Difference: w("%+.2f", c.After-c.Without) + unit, Low: w("%+.2f", c.Low), High: w("%+.2f", c.High) + unit, Certain: c.Low > 0 || c.High < 0})
	}
	return out
}

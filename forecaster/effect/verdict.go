package effect

import (
	"math"

	"github.com/foreshift/foreshift/schemas"
)

// verdict says in a sentence what is certain, in units people use: what was measured
// after the move, what was to be expected without it, and how much apart they are.
func verdict(terms map[string]schemas.Change) string {
	for _, t := range [...]struct {
		term, less, more string
		unit             func(most float64) unit
	}{
		{"vm.app_ms", "the VM answers faster", "the VM answers more slowly", milliseconds},
		{"vm.steal_mcpu", "the VM waits less for cores", "the VM waits more for cores", cores},
		{"source.steal_mcpu", "the VMs that stayed wait less for cores", "the VMs that stayed wait more for cores", cores},
		{"source.swap_bytes", "the VMs that stayed swap less", "the VMs that stayed swap more", binary},
		{"destination.steal_mcpu", "the new neighbours wait less for cores", "the new neighbours wait more for cores", cores},
	} {
		c, ok := terms[t.term]
		if !ok || c.Low <= 0 && c.High >= 0 {
			continue
		}
		words, near, far, apart := t.less, -c.High, -c.Low, "less"
		if c.Low > 0 {
			words, near, far, apart = t.more, c.Low, c.High, "more"
		}
		u := t.unit(max(math.Abs(c.After), math.Abs(c.Without), far))
		return words + ": " + u.figure(c.After) + " " + u.name + " instead of " + u.figure(c.Without) +
			", a difference of " + u.figure(near) + " to " + u.figure(far) + " " + u.name + " " + apart + " (90 % sure)"
	}
	return "no clear effect on waiting or response times"
}

// unit is how a person reads a term.
type unit struct {
	name string
	size float64 // in the term's own unit
}

func (u unit) figure(v float64) string { return schemas.Figure(v / u.size) }

func milliseconds(float64) unit { return unit{"ms", 1} }

func cores(float64) unit { return unit{"cores", 1000} }

// binary takes the largest unit in which the largest amount is at least one.
func binary(most float64) unit {
	for _, u := range []unit{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}} {
		if most >= u.size {
			return u
		}
	}
	return unit{"bytes", 1}
}

package pressure

import (
	"cmp"
	"slices"
)

// Leads are the warnings in steps at which alarms are judged: 15 min, 1 h, 6 h.
var Leads = [...]int{3, hour, 6 * hour}

// PerWeek is the budget of alarms for a VM and week, on the average of the fleet.
const PerWeek = 1

// Alarms says what a fixed number of alarms is worth. Alarms are the highest chances
// given in a calm moment, a VM's not twice within the horizon.
type Alarms struct {
	Given int           `json:"given"`
	AtP   float64       `json:"at_p"` // the lowest chance that made an alarm
	Lead  []AlarmsAhead `json:"lead"`
}

// AlarmsAhead counts what came with at least some steps of warning.
type AlarmsAhead struct {
	Steps     int     `json:"lead_steps"`
	Precision float64 `json:"precision"` // alarms after which, no sooner, the limit was exceeded within the horizon
	Recall    float64 `json:"recall"`    // exceedances that began (none in the hour before) and of which an alarm warned
}

// alarms takes the rows of one horizon of h steps, of VMs whose exceedances began at
// begins, in order.
func alarms(rows []said, begins [][]int, h, span int) Alarms {
	var set []said
	for _, r := range rows {
		if r.onset {
			set = append(set, r)
		}
	}
	slices.SortFunc(set, func(a, b said) int {
		return cmp.Or(cmp.Compare(b.p, a.p), cmp.Compare(a.origin, b.origin), cmp.Compare(a.vm, b.vm))
	})
	budget := max(1, len(begins)*span*PerWeek/(7*day))
	given := make([][]int, len(begins)) // origins of alarms by VM
	var a Alarms
	var took []said
	for _, r := range set {
		if a.Given == budget {
			break
		}
		if slices.ContainsFunc(given[r.vm], func(o int) bool { return r.origin-o < h && o-r.origin < h }) {
			continue
		}
		given[r.vm] = append(given[r.vm], r.origin)
		took = append(took, r)
		a.Given++
		a.AtP = r.p
	}
	total := 0
	for _, b := range begins {
		total += len(b)
	}
	for _, lead := range Leads {
		if lead >= h {
			break
		}
		var right, warned float64
		for _, r := range took {
			if r.hit && r.ahead >= lead {
				right++
			}
		}
		for v, list := range begins {
			for _, t := range list {
				if slices.ContainsFunc(given[v], func(o int) bool { return t-o >= lead && t-o < h }) {
					warned++
				}
			}
		}
		a.Lead = append(a.Lead, AlarmsAhead{Steps: lead, Precision: right / float64(max(1, a.Given)), Recall: warned / float64(max(1, total))})
	}
	return a
}

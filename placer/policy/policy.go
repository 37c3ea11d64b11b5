// Package policy holds what the operator allows and asks for: the default
// policy, its checks, the resolution of modes, and the limits on moves.
//
// What comes in: a [Policy] (the message of bucket policy), and the history of
// moves as plain [Attempt] values. What goes out: a mode for a move, a [Tally]
// that answers "may this move start?", and a typed reason whenever it may not.
//
// What is promised:
//
//   - Everything is a pure function of its arguments: no clock, no state of its own.
//   - Attempts are counted, not successes: a move that fails uses its budget.
//   - The more careful side holds: of policy, VM, source and destination, the
//     lowest mode; of two limits, the tighter.
//   - [Validate] reports all faults at once, each with field, value and unit.
//
// Why apart from the search: limits must hold however clever or however wrong
// the search is, so they are small enough to be read and proved by themselves.
package policy

import (
	"errors"
	"fmt"
	"sort"
	"time"

	"github.com/foreshift/foreshift/schemas"
)

// Policy is the operator's policy as it travels on the bus.
type Policy = schemas.Policy

// Default is the policy of a fleet that was told nothing: it observes and moves
// nothing. Limits are those that operators of other systems settled on: one move
// in and one out per host, two per link, five per cluster, twenty an hour.
func Default() Policy {
	return Complete(Policy{
		Version:           0,
		Mode:              schemas.ModeObserve,
		AutoOnlySimulated: true,
		Trigger:           .25,
		HoldSteps:         2,
		MinBenefit:        300,
		MarginSteps:       1,
		LookAheadSteps:    24,
		SoftCapacity:      .9,
		SoftWeight:        .05,
		MemQuantile:       .95,
		CoolDownSteps:     6,
		MaxPerHost:        1,
		MaxPerLink:        2,
		MaxPerCluster:     5,
		MaxPerHour:        20,
		MaxPerVMDay:       2,
		BreakerRow:        2,
		BreakerShare:      .2,
		Weights:           map[string]float64{},
	})
}

// Validate reports every fault of a policy, joined; nil when there is none.
func Validate(p Policy) error {
	var errs []error
	fault := func(field string, value any, unit, want string) {
		if unit != "" {
			unit = " " + unit
		}
		errs = append(errs, fmt.Errorf("policy: %s = %v%s: want %s", field, value, unit, want))
	}
	ratio := func(field string, v schemas.Ratio, low float64) {
		if !schemas.Finite(float64(v)) || float64(v) < low || v > 1 {
			fault(field, float64(v), "(ratio)", fmt.Sprintf("%g to 1", low))
		}
	}
	count := func(field string, v, low, high int, unit string) {
		if v < low || v > high {
			fault(field, v, unit, fmt.Sprintf("%d to %d", low, high))
		}
	}
	if rank(p.Mode) < 0 {
		fault("mode", p.Mode, "", "observe, recommend, approve or auto")
	}
	for _, h := range sortedHosts(p.HostModes) {
		if rank(p.HostModes[h]) < 0 {
			fault("host_modes."+string(h), p.HostModes[h], "", "observe, recommend, approve or auto")
		}
	}
	for _, v := range sortedVMs(p.VMModes) {
		if rank(p.VMModes[v]) < 0 {
			fault("vm_modes."+v.String(), p.VMModes[v], "", "observe, recommend, approve or auto")
		}
	}
	ratio("trigger_ratio", p.Trigger, 0)
	ratio("soft_capacity_ratio", p.SoftCapacity, .1)
	ratio("soft_weight_ratio", p.SoftWeight, 0)
	ratio("mem_quantile_ratio", p.MemQuantile, .5)
	ratio("breaker_share_ratio", p.BreakerShare, .01)
	count("hold_steps", p.HoldSteps, 0, schemas.StepsPerDay, "base steps")
	count("look_ahead_steps", p.LookAheadSteps, 1, schemas.StepsPerDay, "base steps")
	count("cool_down_steps", p.CoolDownSteps, 0, 7*schemas.StepsPerDay, "base steps")
	count("max_per_host", p.MaxPerHost, 0, 64, "moves")
	count("max_per_link", p.MaxPerLink, 0, 256, "moves")
	count("max_per_cluster", p.MaxPerCluster, 0, 1024, "moves")
	count("max_per_hour", p.MaxPerHour, 0, 100000, "attempts in 12 base steps")
	count("max_per_vm_day", p.MaxPerVMDay, 0, 1000, "attempts in 288 base steps")
	count("breaker_in_a_row", p.BreakerRow, 1, 1000, "failures")
	if !schemas.Finite(p.MinBenefit) || p.MinBenefit < 0 {
		fault("min_benefit_core_seconds", p.MinBenefit, "core-seconds", "a finite number, at least 0")
	}
	if !schemas.Finite(p.MarginSteps) || p.MarginSteps < 0 || p.MarginSteps > schemas.StepsPerDay {
		fault("margin_steps", p.MarginSteps, "base steps", "0 to 288")
	}
	for _, k := range sortedKeys(p.Weights) {
		if w := p.Weights[k]; !schemas.Finite(w) || w < 0 || w > 1000 {
			fault("weights."+k, w, "", "0 to 1000")
		}
	}
	for _, h := range p.Cordoned {
		if err := schemas.CheckToken("host", string(h)); err != nil {
			fault("cordoned", h, "", err.Error())
		}
	}
	groups := func(field string, gs [][]schemas.VMID) {
		for i, g := range gs {
			if len(g) < 2 {
				fault(fmt.Sprintf("%s[%d]", field, i), len(g), "VMs", "at least 2")
			}
		}
	}
	groups("apart", p.Apart)
	groups("together", p.Together)
	groups("soft_apart", p.SoftApart)
	groups("soft_together", p.SoftTogether)
	validateRules(&p, fault)
	return errors.Join(errs...)
}

// MinBenefit is the least benefit of a move in core-seconds for a fleet of this
// base step: what the policy says for steps of 5 minutes, in proportion.
func MinBenefit(p Policy, base time.Duration) float64 {
	return p.MinBenefit * base.Seconds() / schemas.DefaultBase.Seconds()
}

// Weight is the weight of a VM with these labels: by its label slo, 1 when the
// policy does not name it.
func Weight(p Policy, labels map[string]string) float64 {
	if w, ok := p.Weights[labels[LabelSLO]]; ok {
		return w
	}
	return 1
}

func sortedHosts[V any](m map[schemas.HostID]V) []schemas.HostID {
	out := make([]schemas.HostID, 0, len(m))
	for h := range m {
		out = append(out, h)
	}
	sort.Slice(out, func(i, j int) bool { return out[i] < out[j] })
	return out
}

func sortedVMs[V any](m map[schemas.VMID]V) []schemas.VMID {
	out := make([]schemas.VMID, 0, len(m))
	for v := range m {
		out = append(out, v)
	}
	sort.Slice(out, func(i, j int) bool { return string(out[i][:]) < string(out[j][:]) })
	return out
}

func sortedKeys[V any](m map[string]V) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	sort.Strings(out)
	return out
}

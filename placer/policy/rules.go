package policy

import (
	"fmt"
	"slices"
	"time"

	"github.com/foreshift/foreshift/schemas"
)

// Labels of a VM that are rules of their own, so that an operator can give them
// where the VM is defined. Groups are named by the label's value.
const (
	LabelSite         = "foreshift.site"          // the VM stays at this site
	LabelApart        = "foreshift.apart"         // no two of the group share a host
	LabelTogether     = "foreshift.together"      // all of the group share a host
	LabelSoftApart    = "foreshift.apart-soft"    // the same, as a wish
	LabelSoftTogether = "foreshift.together-soft" // the same, as a wish
	LabelTalks        = "foreshift.talks"         // VMs of one group talk; names separated by commas
	LabelSLO          = "slo"                     // class that [Policy.Weights] knows
)

// Complete fills in what a policy leaves to the default: a policy that was written
// before a field existed keeps its meaning.
func Complete(p Policy) Policy {
	fill := func(v *float64, d float64) {
		if *v == 0 {
			*v = d
		}
	}
	fill(&p.RuleWeight, 60)
	fill(&p.LatencyWeight, 2)
	fill(&p.GateJump, 2)
	if p.GateVMs == 0 {
		p.GateVMs = 8
	}
	if p.GateStale == 0 {
		p.GateStale = .5
	}
	if p.ApprovalSteps == 0 {
		p.ApprovalSteps = 72
	}
	return p
}

// validateRules reports the faults of where VMs may be and what goes before balance.
func validateRules(p *Policy, fault func(field string, value any, unit, want string)) {
	for _, k := range sortedKeys(p.TagModes) {
		if rank(p.TagModes[k]) < 0 {
			fault("tag_modes."+k, p.TagModes[k], "", "observe, recommend, approve or auto")
		}
		if _, _, ok := cutTag(k); !ok {
			fault("tag_modes", k, "", "key=value of a label")
		}
	}
	hosts := func(field string, hs []schemas.HostID) {
		for _, h := range hs {
			if err := schemas.CheckToken("host", string(h)); err != nil {
				fault(field, h, "", err.Error())
			}
		}
	}
	hosts("draining", p.Draining)
	for i := range p.Windows {
		w, name := &p.Windows[i], fmt.Sprintf("windows[%d]", i)
		hosts(name+".hosts", w.Hosts)
		if w.Start == 0 || w.End <= w.Start {
			fault(name, fmt.Sprintf("%s to %s", w.Start, w.End), "", "a start before its end")
		}
		if w.Lead < 0 || w.Lead > 7*schemas.StepsPerDay {
			fault(name+".lead_steps", w.Lead, "base steps", fmt.Sprintf("0 to %d", 7*schemas.StepsPerDay))
		}
		if len(w.Hosts) == 0 && !w.Freeze {
			fault(name+".hosts", 0, "hosts", "at least 1: maintenance of every host leaves no place for its VMs")
		}
	}
	for i := range p.Residency {
		if len(p.Residency[i].Sites) == 0 {
			fault(fmt.Sprintf("residency[%d].sites", i), 0, "sites", "at least 1")
		}
	}
	for i, s := range p.Spread {
		name := fmt.Sprintf("spread[%d]", i)
		if s.Label == "" {
			fault(name+".label", `""`, "", "the name of a label")
		}
		if s.By != schemas.SpreadByHost && s.By != schemas.SpreadByDomain && s.By != schemas.SpreadBySite {
			fault(name+".by", s.By, "", "host, failure_domain or site")
		}
		if s.Most < 1 {
			fault(name+".most", s.Most, "VMs", "at least 1")
		}
	}
	number := func(field string, v, low, high float64, unit string) {
		if !schemas.Finite(v) || v < low || v > high {
			fault(field, v, unit, fmt.Sprintf("%g to %g", low, high))
		}
	}
	number("rule_weight_core_seconds", p.RuleWeight, 0, 1e9, "core-seconds")
	number("latency_weight_core_seconds_per_ms", p.LatencyWeight, 0, 1e6, "core-seconds per ms")
	number("pack_target_ratio", float64(p.PackTarget), 0, 1, "(ratio)")
	number("gate_stale_ratio", float64(p.GateStale), 0, 1, "(ratio)")
	if p.GateJump != 0 {
		number("gate_jump_ratio", p.GateJump, 1.1, 1000, "(ratio)")
	}
	number("gate_vms", float64(p.GateVMs), 0, 1e6, "VMs")
	number("approval_steps", float64(p.ApprovalSteps), 0, 7*schemas.StepsPerDay, "base steps")
}

// cutTag splits key=value.
func cutTag(tag string) (key, value string, ok bool) {
	for i := 1; i < len(tag); i++ {
		if tag[i] == '=' {
			return tag[:i], tag[i+1:], true
		}
	}
	return "", "", false
}

// ModeOf is the mode of a VM with these labels on a host of mode host: its own
// override, else the most careful one of its tags, else the host's; never bolder
// than the host.
func ModeOf(p Policy, v schemas.VMID, labels map[string]string, host schemas.Mode) schemas.Mode {
	if m, ok := p.VMModes[v]; ok {
		return Careful(m, host)
	}
	mode := host
	for tag, m := range p.TagModes { // the least of all: the order does not matter
		if k, want, _ := cutTag(tag); labels[k] == want && want != "" {
			mode = Careful(mode, m)
		}
	}
	return mode
}

// Sites are those at which a VM with these labels may be; bound is false when it
// may be anywhere. Of several rules all must hold, so none may be left.
func Sites(p Policy, labels map[string]string) (sites []schemas.SiteID, bound bool) {
	if s := labels[LabelSite]; s != "" {
		sites, bound = []schemas.SiteID{schemas.SiteID(s)}, true
	}
	for i := range p.Residency {
		r := &p.Residency[i]
		if !matches(r.Match, labels) {
			continue
		}
		if !bound {
			sites, bound = slices.Clone(r.Sites), true
			continue
		}
		sites = slices.DeleteFunc(sites, func(s schemas.SiteID) bool { return !slices.Contains(r.Sites, s) })
	}
	return sites, bound
}

func matches(want, labels map[string]string) bool {
	for k, v := range want {
		if labels[k] != v {
			return false
		}
	}
	return true
}

// HostRules are what the operator wants of hosts at one moment.
type HostRules struct {
	takes, leave, frozen map[schemas.HostID]schemas.Reason
	all                  schemas.Reason // a freeze of the whole fleet
}

// NewHostRules works out cordons, drains and windows at now.
func NewHostRules(p Policy, now schemas.Time, base time.Duration) *HostRules {
	r := &HostRules{map[schemas.HostID]schemas.Reason{}, map[schemas.HostID]schemas.Reason{}, map[schemas.HostID]schemas.Reason{}, schemas.Reason{}}
	why := func(code schemas.ReasonCode, format string, a ...any) schemas.Reason {
		return schemas.Reason{Code: code, Detail: fmt.Sprintf(format, a...)}
	}
	for _, h := range p.Cordoned {
		r.takes[h] = why(schemas.ReasonCordoned, "%s takes no VM while cordoned", h)
	}
	for i := range p.Windows {
		w := &p.Windows[i]
		if now >= w.End {
			continue
		}
		for _, h := range w.Hosts {
			switch {
			case w.Freeze && now >= w.Start:
				r.frozen[h] = why(schemas.ReasonFrozen, "moves of %s are frozen until %s%s", h, clock(w.End), because(w.Why))
			case w.Freeze:
			case now >= w.Start.Add(-time.Duration(w.Lead)*base):
				m := why(schemas.ReasonMaintenance, "maintenance of %s from %s to %s%s", h, clock(w.Start), clock(w.End), because(w.Why))
				r.takes[h], r.leave[h] = m, m
			}
		}
		if len(w.Hosts) == 0 && w.Freeze && now >= w.Start {
			r.all = why(schemas.ReasonFrozen, "all moves are frozen until %s%s", clock(w.End), because(w.Why))
		}
	}
	for _, h := range p.Draining {
		m := why(schemas.ReasonDraining, "%s is being emptied", h)
		r.takes[h], r.leave[h] = m, m
	}
	return r
}

// clock writes a moment for people.
func clock(t schemas.Time) string { return t.Std().Format("2006-01-02 15:04 UTC") }

func because(why string) string {
	if why == "" {
		return ""
	}
	return ": " + why
}

// Takes is why a host takes no VM, ok when it does.
func (r *HostRules) Takes(h schemas.HostID) schemas.Reason { return r.takes[h] }

// Leave is why every VM has to leave a host, ok when none has to.
func (r *HostRules) Leave(h schemas.HostID) schemas.Reason { return r.leave[h] }

// Frozen is why no move from or to a host may start, ok when one may.
func (r *HostRules) Frozen(h schemas.HostID) schemas.Reason {
	if !r.all.OK() {
		return r.all
	}
	return r.frozen[h]
}

// Fleet is why no move at all may start by the windows, ok when one may.
func (r *HostRules) Fleet() schemas.Reason { return r.all }

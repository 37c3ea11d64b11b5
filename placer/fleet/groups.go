package fleet

import (
	"cmp"
	"slices"
	"strings"

	"github.com/foreshift/foreshift/placer/policy"
	"github.com/foreshift/foreshift/schemas"
)

// Groups are the rules among VMs of a view, from the policy and from labels. Each
// group holds indices of VMs in order, at least two; groups are in order of their
// source and name, so that the same fleet gives the same groups.
type Groups struct {
	Apart, Together         [][]int32 // hard
	SoftApart, SoftTogether [][]int32 // a wish, [policy.Policy.RuleWeight] each
	Talk                    [][]int32 // VMs that talk with each other
	Spread                  []SpreadGroup
}

// SpreadGroup is a group of which only so many may share a place.
type SpreadGroup struct {
	By      string // host, failure_domain or site
	Most    int
	Value   string // of the label
	Members []int32
}

// Groups finds them all.
func (v *View) Groups(p policy.Policy) Groups {
	var g Groups
	listed := func(gs [][]schemas.VMID) (out [][]int32) {
		for _, ids := range gs {
			var members []int32
			for _, id := range ids {
				if i := v.VMIndex(id); i >= 0 {
					members = append(members, i)
				}
			}
			slices.Sort(members)
			if members = slices.Compact(members); len(members) > 1 {
				out = append(out, members)
			}
		}
		return out
	}
	g.Apart = append(listed(p.Apart), v.labelled(policy.LabelApart)...)
	g.Together = append(listed(p.Together), v.labelled(policy.LabelTogether)...)
	g.SoftApart = append(listed(p.SoftApart), v.labelled(policy.LabelSoftApart)...)
	g.SoftTogether = append(listed(p.SoftTogether), v.labelled(policy.LabelSoftTogether)...)
	g.Talk = v.labelled(policy.LabelTalks)
	for _, s := range p.Spread {
		for _, x := range v.byLabel(s.Label, false) {
			if len(x.members) > s.Most {
				g.Spread = append(g.Spread, SpreadGroup{s.By, s.Most, x.value, x.members})
			}
		}
	}
	return g
}

type labelGroup struct {
	value   string
	members []int32
}

func (v *View) labelled(label string) (out [][]int32) {
	for _, x := range v.byLabel(label, label == policy.LabelTalks) {
		if len(x.members) > 1 {
			out = append(out, x.members)
		}
	}
	return out
}

// byLabel groups the VMs by a label's value, in order of the values; with several,
// a value is a list of names separated by commas.
func (v *View) byLabel(label string, several bool) []labelGroup {
	index := map[string]int{}
	var out []labelGroup
	put := func(name string, vm int) {
		if name == "" {
			return
		}
		i, ok := index[name]
		if !ok {
			i = len(out)
			index[name], out = i, append(out, labelGroup{value: name})
		}
		if m := out[i].members; len(m) == 0 || m[len(m)-1] != int32(vm) {
			out[i].members = append(m, int32(vm))
		}
	}
	for i := range v.VMs {
		value := v.VMs[i].Inv.Labels[label]
		if !several {
			put(value, i)
			continue
		}
		for name := range strings.SplitSeq(value, ",") {
			put(strings.TrimSpace(name), i)
		}
	}
	slices.SortFunc(out, func(a, b labelGroup) int { return cmp.Compare(a.value, b.value) })
	return out
}

// Places gives for every host the number of its place: hosts with the same number
// share it. A host without a failure domain is one of its own.
func (v *View) Places(by string) []int32 {
	out := make([]int32, len(v.Hosts))
	index := map[string]int32{}
	for h := range v.Hosts {
		host := &v.Hosts[h]
		key := "host " + string(host.ID)
		switch {
		case by == schemas.SpreadBySite:
			key = "site " + string(host.Msg.Site)
		case by == schemas.SpreadByDomain && host.Msg.Domain != "":
			key = "domain " + string(host.Msg.Site) + " " + host.Msg.Domain
		}
		n, ok := index[key]
		if !ok {
			n = int32(len(index))
			index[key] = n
		}
		out[h] = n
	}
	return out
}

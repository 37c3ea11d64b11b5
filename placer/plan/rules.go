package plan

import (
	"slices"
	"strings"

	"github.com/foreshift/foreshift/placer/fleet"
	"github.com/foreshift/foreshift/placer/policy"
	"github.com/foreshift/foreshift/schemas"
)

// ties are the groups of one kind: members by group, groups by VM.
type ties struct {
	members [][]int32
	of      [][]int32
}

func tie(groups [][]int32, vms int) ties {
	t := ties{members: groups, of: make([][]int32, vms)}
	for g, members := range groups {
		for _, i := range members {
			t.of[i] = append(t.of[i], int32(g))
		}
	}
	return t
}

// rules are who may be where, as indices.
type rules struct {
	apart, together         ties
	softApart, softTogether ties
	talks, spread           ties
	talkers                 [][]int32           // by group that talks and site: how many
	spreads                 []fleet.SpreadGroup // by group of spread
	places                  map[string][]int32  // what a spread counts in, by host
	sites                   [][]bool            // by VM, then site; nil: anywhere
	rtt                     []float64           // site*sites+site, ms
	left                    []bool              // by host: it is being emptied
}

// newRules reads the groups of the policy and of the labels of VMs.
func (s *State) newRules() *rules {
	v := s.V
	g := v.Groups(s.P)
	r := &rules{sites: make([][]bool, len(v.VMs)), places: map[string][]int32{}, spreads: g.Spread}
	r.apart, r.together, r.softApart, r.softTogether, r.talks = tie(g.Apart, len(v.VMs)), tie(g.Together, len(v.VMs)), tie(g.SoftApart, len(v.VMs)), tie(g.SoftTogether, len(v.VMs)), tie(g.Talk, len(v.VMs))
	var members [][]int32
	for _, sp := range g.Spread {
		members = append(members, sp.Members)
		if r.places[sp.By] == nil {
			r.places[sp.By] = v.Places(sp.By)
		}
	}
	r.spread = tie(members, len(v.VMs))
	for i := range v.VMs {
		if at, bound := policy.Sites(s.P, v.VMs[i].Inv.Labels); bound {
			ok := make([]bool, len(v.Sites))
			for j := range v.Sites {
				ok[j] = slices.Contains(at, v.Sites[j])
			}
			r.sites[i] = ok
		}
	}
	r.left = make([]bool, len(v.Hosts))
	for h := range v.Hosts {
		r.left[h] = !s.hosts.Leave(v.Hosts[h].ID).OK()
	}
	r.rtt = make([]float64, len(v.Sites)*len(v.Sites))
	for a := range v.Sites {
		for b := range v.Sites {
			// Nobody knows how far an unmeasured site is: far enough not to be tempting.
			ms, ok := v.RTT(int32(a), int32(b))
			if !ok {
				ms = unknownRTT
			}
			r.rtt[a*len(v.Sites)+b] = float64(ms)
		}
	}
	for g, members := range r.talks.members {
		r.talkers = append(r.talkers, make([]int32, len(v.Sites)))
		for _, i := range members {
			r.talkers[g][v.Hosts[s.at[i]].Site]++
		}
	}
	return r
}

// unknownRTT is what the round trip to a site is taken to be whose link was not
// measured lately, ms.
const unknownRTT = 100

// tied reports which group rule forbids VM i on host b, and a VM that stands for it.
// A VM that is about to leave b still counts, since it might fail to.
func (s *State) tied(i, b int32) (schemas.ReasonCode, int32) {
	r := s.rules
	for _, g := range r.apart.of[i] {
		for _, j := range r.apart.members[g] {
			if j != i && (s.at[j] == b || s.V.VMs[j].Host == b) {
				return schemas.ReasonAntiAffinity, j
			}
		}
	}
	for _, g := range r.together.of[i] {
		if r.left[s.V.VMs[i].Host] {
			if why, other := s.follow(r.together.members[g], i, b); why != schemas.ReasonOK {
				return why, other
			}
			continue
		}
		// Towards the others only: a group that is whole stays. Live migration takes one VM at
		// a time, so that it would be apart on its way.
		here, there, other := 0, 0, int32(-1)
		for _, j := range r.together.members[g] {
			switch {
			case j == i:
			case s.at[j] == b:
				there++
			default:
				other = j
				if s.at[j] == s.at[i] {
					here++
				}
			}
		}
		if there <= here {
			return schemas.ReasonAffinity, other
		}
	}
	for _, g := range r.spread.of[i] {
		sp := &r.spreads[g]
		places := r.places[sp.By]
		n, other := 0, int32(-1)
		if places[b] == places[s.at[i]] {
			continue
		}
		for _, j := range sp.Members {
			if j != i && (places[s.at[j]] == places[b] || places[s.V.VMs[j].Host] == places[b]) {
				n, other = n+1, j
			}
		}
		if n >= sp.Most {
			return schemas.ReasonSpread, other
		}
	}
	return schemas.ReasonOK, -1
}

// follow is the rule for VM i of a group that must be together when its host is being
// emptied: to where others of the group are or will be, or else to a host that has the
// memory for all of them.
func (s *State) follow(group []int32, i, b int32) (schemas.ReasonCode, int32) {
	need, promise, there, other := s.sums.vpeak[i], s.sums.vpromise[i], false, int32(-1)
	for _, j := range group {
		switch {
		case j == i:
		case s.at[j] == b:
			there = true
		case s.rules.left[s.at[j]]:
			need, promise = need+s.sums.vpeak[j], promise+s.sums.vpromise[j]
		default:
			other = j
		}
	}
	switch {
	case there:
		return schemas.ReasonOK, -1
	case other >= 0:
		return schemas.ReasonAffinity, other
	}
	if s.sums.promised[b]+promise > s.sums.room[b] {
		return schemas.ReasonNoRoom, i
	}
	if s.sums.endTop[b]+need > s.sums.capMem[b] {
		if s.sums.exact(int(b)); s.sums.endTop[b]+need > s.sums.capMem[b] {
			return schemas.ReasonNoRoom, i
		}
	}
	return schemas.ReasonOK, -1
}

// breach is the hard rule that VM i breaks where it is or will be, ok when none.
func (s *State) breach(i int32) schemas.Reason {
	r, at, name := s.rules, s.at[i], s.V.VMs[i].Name
	if ok := r.sites[i]; ok != nil && !ok[s.V.Hosts[at].Site] {
		return no(schemas.ReasonResidency, "%s may not be at site %s", name, s.V.Sites[s.V.Hosts[at].Site])
	}
	for _, g := range r.apart.of[i] {
		for _, j := range r.apart.members[g] {
			if j != i && s.at[j] == at {
				return no(schemas.ReasonAntiAffinity, "%s and %s must be apart and share %s", name, s.V.VMs[j].Name, s.V.Hosts[at].ID)
			}
		}
	}
	for _, g := range r.together.of[i] {
		if meet := s.meeting(r.together.members[g]); meet != at {
			return no(schemas.ReasonAffinity, "%s must be with the others of its group on %s", name, s.V.Hosts[meet].ID)
		}
	}
	for _, g := range r.spread.of[i] {
		sp := &r.spreads[g]
		places, n := r.places[sp.By], 0
		for _, j := range sp.Members {
			if places[s.at[j]] == places[at] {
				n++
			}
		}
		if n > sp.Most {
			return no(schemas.ReasonSpread, "%d VMs of group %s, with %s, share a %s; at most %d may", n, sp.Value, name, strings.ReplaceAll(sp.By, "_", " "), sp.Most)
		}
	}
	return schemas.Reason{Code: schemas.ReasonOK}
}

// meeting is the host that has most of a group, the first of equals; one that is being
// emptied only while all of the group are on such.
func (s *State) meeting(group []int32) int32 {
	best, most := s.at[group[0]], -len(group)-1
	for _, i := range group {
		n := 0
		if s.rules.left[s.at[i]] {
			n = -len(group)
		}
		for _, j := range group {
			if s.at[j] == s.at[i] {
				n++
			}
		}
		if n > most || n == most && s.at[i] < best {
			best, most = s.at[i], n
		}
	}
	return best
}

// wishes is the change of what soft rules and the distance between VMs that talk
// cost when VM i goes from where it is to b, in weighted core-seconds.
func (s *State) wishes(i, b int32) float64 {
	r, a, sum := s.rules, s.at[i], 0.0
	for _, g := range r.softApart.of[i] {
		for _, j := range r.softApart.members[g] {
			if j != i {
				sum += s.ruleCost * (is(s.at[j] == b) - is(s.at[j] == a))
			}
		}
	}
	for _, g := range r.softTogether.of[i] {
		for _, j := range r.softTogether.members[g] {
			if j != i {
				sum += s.ruleCost * (is(s.at[j] == a) - is(s.at[j] == b))
			}
		}
	}
	return sum + s.distance(i, s.V.Hosts[a].Site, s.V.Hosts[b].Site)
}

// distance is the change of the round trips to the VMs that i talks with.
func (s *State) distance(i, a, b int32) float64 {
	if a == b {
		return 0
	}
	sum := 0.0
	for _, g := range s.rules.talks.of[i] {
		for site, n := range s.rules.talkers[g] {
			if int32(site) == a {
				n-- // itself
			}
			sum += float64(n) * (s.rules.rtt[int(b)*len(s.V.Sites)+site] - s.rules.rtt[int(a)*len(s.V.Sites)+site])
		}
	}
	return s.rttCost * sum
}

// settleAt notes that VM i is or will be on b.
func (s *State) settleAt(i, b int32) {
	for _, g := range s.rules.talks.of[i] {
		s.rules.talkers[g][s.V.Hosts[s.at[i]].Site]--
		s.rules.talkers[g][s.V.Hosts[b].Site]++
	}
	s.at[i] = b
}

func is(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// bound reports whether any group rule speaks of VM i: what others do then matters to
// it wherever they are.
func (r *rules) bound(i int32) bool {
	return len(r.apart.of[i])+len(r.together.of[i])+len(r.softApart.of[i])+len(r.softTogether.of[i])+len(r.talks.of[i])+len(r.spread.of[i]) > 0
}

// wishable bounds what any destination can bring VM i by way of wishes.
func (s *State) wishable(i int32) float64 {
	r, sum := s.rules, 0.0
	for _, g := range r.softApart.of[i] {
		sum += s.ruleCost * float64(len(r.softApart.members[g]))
	}
	for _, g := range r.softTogether.of[i] {
		sum += s.ruleCost * float64(len(r.softTogether.members[g]))
	}
	home := int(s.V.Hosts[s.at[i]].Site) * len(s.V.Sites)
	for _, g := range r.talks.of[i] {
		for site, n := range r.talkers[g] {
			sum += s.rttCost * float64(n) * r.rtt[home+site]
		}
	}
	return sum
}

package live

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/foreshift/foreshift/console"
	"github.com/foreshift/foreshift/placer/policy"
	"github.com/foreshift/foreshift/schemas"
)

// Summary is what stands on every page.
type Summary struct {
	Time       schemas.Time
	Hosts, VMs int
	Sites      []schemas.SiteID
	Silent     []schemas.HostID // stale hosts
	Policy     schemas.Policy   // in force
	Counts     console.Counts
	Twice      []Twice // VMs seen running on several hosts
	Unknown    []console.Move
	Shortfalls []schemas.Shortfall
	Feeds      []Feed // by name
	Ready      bool   // the present has been read: hosts, pressures, moves, plans
	Errors     []Feed // streams that are not being read
	Newest     schemas.Time
}

// Twice is a VM of which several copies run.
type Twice struct {
	ID    schemas.VMID
	Name  string
	Hosts []schemas.HostID
}

// Summary gives it as of now.
func (m *Model) Summary(now schemas.Time) Summary {
	m.mu.RLock()
	defer m.mu.RUnlock()
	s := Summary{Time: now, Policy: m.words.Policy(policy.Default()), Counts: m.counts(), Ready: len(m.feeds) > 0}
	for _, h := range m.hosts {
		if h.Seen == 0 {
			continue
		}
		s.Hosts++
		if h.Stale || console.StaleHost(h.Seen, now) {
			s.Silent = append(s.Silent, h.ID)
		}
		if !slices.Contains(s.Sites, h.Site) {
			s.Sites = append(s.Sites, h.Site)
		}
	}
	for _, v := range m.vms {
		if v.seen == 0 {
			continue
		}
		s.VMs++
		if len(v.running) > 1 {
			s.Twice = append(s.Twice, Twice{v.id, v.name, slices.Sorted(slices.Values(v.running))})
		}
	}
	for _, mv := range slices.Backward(m.order) {
		if mv.Outcome != nil && mv.Outcome.Result == schemas.ResultUnknown {
			s.Unknown = append(s.Unknown, *mv)
		}
	}
	for _, x := range m.shortfalls {
		s.Shortfalls = append(s.Shortfalls, *x)
	}
	for _, f := range m.feeds {
		s.Feeds = append(s.Feeds, *f)
		if f.Err != "" {
			s.Errors = append(s.Errors, *f)
		}
		if !f.Ready && f.Stream != "STEPS" && f.Stream != "FORECASTS" {
			s.Ready = false
		}
		s.Newest = max(s.Newest, f.Last)
	}
	slices.Sort(s.Sites)
	slices.Sort(s.Silent)
	slices.SortFunc(s.Twice, func(a, b Twice) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortFunc(s.Shortfalls, func(a, b schemas.Shortfall) int { return cmp.Compare(a.Site, b.Site) })
	for _, l := range [][]Feed{s.Feeds, s.Errors} {
		slices.SortFunc(l, func(a, b Feed) int { return cmp.Compare(a.Stream, b.Stream) })
	}
	return s
}

func (m *Model) counts() console.Counts {
	v := console.View{}
	for _, mv := range m.order {
		v.Moves = append(v.Moves, *mv)
	}
	return v.Count()
}

// Host is a host with what it will be asked for and what an operator said of it.
type Host struct {
	console.Host
	Report  schemas.CapacityHost
	State   schemas.Reason // why VMs leave it, do not come, or do not move; ok: ready
	Sum     Sum
	Running int
	Steps   []schemas.Step // of Actual
	Actual  [tracked][]float64
}

// Headroom is the share of capacity that stays free with 90 % certainty, by slot, of
// the scarcer of CPU and memory; nil before the first forecast. Below 0 it is short.
func (h *Host) Headroom() []Room {
	if h.Sum.Q[0][0] == nil && h.Running > 0 {
		return nil
	}
	limit := h.Capacity.Vec()
	out := make([]Room, schemas.Slots)
	for s := range out {
		out[s].Free = 1
		for r := range tracked {
			if h.Sum.Q[r][2] == nil || limit[r] <= 0 || h.Running == 0 {
				continue
			}
			if free := 1 - float64(h.Sum.Q[r][2][s])/limit[r]; free < out[s].Free {
				out[s] = Room{free, schemas.Resource(r)}
			}
		}
	}
	return out
}

// Room is what stays free, and of which resource.
type Room struct {
	Free     float64
	Resource schemas.Resource
}

func (m *Model) hostValue(h *host, rules *policy.HostRules, now schemas.Time) Host {
	out := Host{Host: h.Host, Report: h.report, Sum: h.sum.shown, Running: m.running(h), State: schemas.Reason{Code: schemas.ReasonOK}}
	out.Stale = console.StaleHost(h.Seen, now)
	for _, why := range []schemas.Reason{rules.Leave(h.ID), rules.Takes(h.ID), rules.Frozen(h.ID)} {
		if !why.OK() {
			out.State = why
			break
		}
	}
	return out
}

// Fleet gives all hosts by site and name, and the links between sites.
func (m *Model) Fleet(now schemas.Time) (hosts []Host, links []Link) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	rules := policy.NewHostRules(m.words.Policy(policy.Default()), now, m.base)
	sites := map[schemas.SiteID]bool{}
	for _, h := range m.hosts {
		if h.Seen == 0 {
			continue
		}
		hosts = append(hosts, m.hostValue(h, rules, now))
		sites[h.Site] = true
	}
	slices.SortFunc(hosts, func(a, b Host) int {
		return cmp.Or(cmp.Compare(a.Site, b.Site), cmp.Compare(a.Domain, b.Domain), natural(string(a.ID), string(b.ID)))
	})
	names := slices.Sorted(maps.Keys(sites))
	for i, a := range names {
		for _, b := range names[i+1:] {
			links = append(links, m.link(a, b, now))
		}
	}
	return hosts, links
}

// natural compares names with the numbers in them as numbers.
func natural(a, b string) int {
	if len(a) != len(b) && strings.TrimRight(a, "0123456789") == strings.TrimRight(b, "0123456789") {
		return cmp.Compare(len(a), len(b))
	}
	return strings.Compare(a, b)
}

// Link is a pair of sites: what was measured, how it is shared out, what moves on it.
type Link struct {
	A, B     schemas.SiteID
	Measured *schemas.CapacityLink // nil: never
	Stale    bool
	Moves    []console.Move // under way
}

// linkFresh is the age up to which the placer believes a link's measurement.
const linkFresh = 5 * time.Minute

func (m *Model) link(a, b schemas.SiteID, now schemas.Time) Link {
	key := policy.LinkOf(a, b)
	l := Link{A: key.A, B: key.B, Measured: m.links[key]}
	l.Stale = l.Measured == nil || now.Sub(l.Measured.Time) > linkFresh
	for _, mv := range slices.Backward(m.order) {
		if mv.Outcome != nil {
			continue
		}
		s, d := m.hosts[mv.Command.Source], m.hosts[mv.Command.Destination]
		if s != nil && d != nil && policy.LinkOf(s.Site, d.Site) == key {
			l.Moves = append(l.Moves, *mv)
		}
	}
	return l
}

// Moves are the newest first; keep says which, nil all of them.
func (m *Model) Moves(most int, keep func(*console.Move) bool) (out []console.Move) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	for _, mv := range slices.Backward(m.order) {
		if len(out) == most {
			break
		}
		if keep == nil || keep(mv) {
			out = append(out, *mv)
		}
	}
	return out
}

// Plans gives the newest plan whole, nil without one, and what earlier ones said, the
// newest first.
func (m *Model) Plans() (*schemas.Plan, []PlanLine) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	out := slices.Clone(m.plans)
	slices.Reverse(out)
	return m.plan, out
}

// Said are the acts of people, the newest first.
func (m *Model) Said() []schemas.Act {
	m.mu.RLock()
	defer m.mu.RUnlock()
	out := slices.Clone(m.said)
	slices.Reverse(out)
	return out
}

// Calendar are the entries in force, by id.
func (m *Model) Calendar() (out []*schemas.Calendar) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	for _, id := range slices.Sorted(maps.Keys(m.calendar)) {
		out = append(out, m.calendar[id])
	}
	return out
}

// Learning is what was learnt and what it is worth.
type Learning struct {
	Models   []schemas.Model // newest first
	Policies []PolicyLine    // newest first
	Checks   [len(Leads)][tracked]Score
	Probes   int
}

// Learning gives it.
func (m *Model) Learning() Learning {
	m.mu.RLock()
	defer m.mu.RUnlock()
	out := Learning{Models: slices.Clone(m.models), Policies: slices.Clone(m.policies), Checks: m.learnt.by, Probes: len(m.learnt.probes)}
	slices.Reverse(out.Models)
	slices.SortStableFunc(out.Policies, func(a, b PolicyLine) int { return cmp.Compare(b.Time, a.Time) })
	return out
}

package live

import (
	"cmp"
	"slices"
	"strings"

	"github.com/foreshift/foreshift/console"
	"github.com/foreshift/foreshift/internal/explain"
	"github.com/foreshift/foreshift/placer/policy"
	"github.com/foreshift/foreshift/schemas"
)

// VM is a VM as pages show it.
type VM struct {
	console.VM
	VCPUs     int
	Resident  schemas.Bytes
	Dirty     schemas.BytesPerSecond
	DirtyHigh schemas.BytesPerSecond
	Pinned    string // why it cannot move live
	Labels    map[string]string
	Seen      schemas.Time
	Steps     []schemas.Step // of Actual
	Actual    [tracked][]float64
	Issued    schemas.Step // of Fan; 0: no forecast
	Start     schemas.Step
	Fan       [schemas.NumResources][len(fanLevels)][]float64 // p10, p50, p90 by slot; nil: not forecast
}

// Worst is the higher of its two pressures, nil without any.
func (v VM) Worst() *schemas.PressureVM {
	if v.OwnLimit == nil || v.Contention != nil && v.Contention.Score >= v.OwnLimit.Score {
		return v.Contention
	}
	return v.OwnLimit
}

func (m *Model) line(x *vm) console.VM {
	return console.VM{ID: x.id, Name: x.name, Hosts: slices.Sorted(slices.Values(x.running)), Host: x.host, State: x.state, AllocCPU: x.allocCPU, AllocMem: x.allocMem,
		OwnLimit: x.own.message(x.id), Contention: x.contention.message(x.id), Benefit: x.benefit}
}

// value gives a VM with its last steps of the past.
func (m *Model) value(x *vm, steps int) VM {
	out := VM{VM: m.line(x), VCPUs: x.vcpus, Resident: x.resident, Dirty: x.dirty, DirtyHigh: x.dirtyHigh, Pinned: x.pinned, Labels: x.labels, Seen: x.seen, Issued: x.fan.issued, Start: x.fan.start}
	for r := range tracked {
		out.Steps, out.Actual[r] = x.actual.series(r, steps)
	}
	for r := range out.Fan {
		for k := range fanLevels {
			out.Fan[r][k] = x.fan.quantile(schemas.Resource(r), k)
		}
	}
	return out
}

// VM gives one VM whole.
func (m *Model) VM(id schemas.VMID) (VM, bool) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	x := m.vms[id]
	if x == nil || x.seen == 0 {
		return VM{}, false
	}
	return m.value(x, past), true
}

// Find gives the ids of VMs and hosts of that name or id, or whose name begins so.
func (m *Model) Find(name string) (vms []schemas.VMID, hosts []schemas.HostID) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if h := m.hosts[schemas.HostID(name)]; h != nil && h.Seen != 0 {
		hosts = append(hosts, h.ID)
	}
	if id, err := schemas.ParseVMID(name); err == nil && m.vms[id] != nil {
		return []schemas.VMID{id}, hosts
	}
	for _, x := range m.vms {
		if x.seen != 0 && x.name == name {
			vms = append(vms, x.id)
		}
	}
	slices.SortFunc(vms, func(a, b schemas.VMID) int { return slices.Compare(a[:], b[:]) })
	return vms, hosts
}

// Query chooses VMs.
type Query struct {
	Text    string         // part of the name, id or host; empty: any
	Host    schemas.HostID // empty: any
	Pressed schemas.Ratio  // pressure at least this
	From, N int            // which of them
	Steps   int            // of the past
}

// VMs are those that the query chooses, the most pressed first, and how many there
// are in all.
func (m *Model) VMs(q Query) (out []VM, total int) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	text := strings.ToLower(q.Text)
	var found []*vm
	for _, x := range m.vms {
		if x.seen == 0 || x.score() < q.Pressed || q.Host != "" && x.host != q.Host && !slices.Contains(x.running, q.Host) {
			continue
		}
		if text != "" && !strings.Contains(strings.ToLower(x.name), text) && !strings.Contains(x.id.String(), text) && !strings.Contains(strings.ToLower(string(x.host)), text) {
			continue
		}
		found = append(found, x)
	}
	slices.SortFunc(found, func(a, b *vm) int {
		return cmp.Or(cmp.Compare(b.score(), a.score()), natural(a.name, b.name), slices.Compare(a.id[:], b.id[:]))
	})
	from := min(max(q.From, 0), len(found))
	for _, x := range found[from:min(len(found), from+q.N)] {
		out = append(out, m.value(x, q.Steps))
	}
	return out, len(found)
}

// Host gives one host with its past.
func (m *Model) Host(id schemas.HostID, now schemas.Time) (Host, bool) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	h := m.hosts[id]
	if h == nil || h.Seen == 0 {
		return Host{}, false
	}
	out := m.hostValue(h, policy.NewHostRules(m.words.Policy(policy.Default()), now, m.base), now)
	for r := range tracked {
		out.Steps, out.Actual[r] = h.actual.series(r, past)
	}
	return out, true
}

// Name is a VM's name, its id when nobody has told one.
func (m *Model) Name(id schemas.VMID) string {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if x := m.vms[id]; x != nil {
		return x.name
	}
	return id.String()
}

// View is the fleet as the command line shows it: everything, or, with an id, one VM
// with what is needed to explain it.
func (m *Model) View(now schemas.Time, only *schemas.VMID) *console.View {
	m.mu.RLock()
	defer m.mu.RUnlock()
	v := &console.View{Time: now, Policy: m.words.Policy(policy.Default()), Sites: []schemas.SiteID{}, Hosts: []console.Host{}, VMs: []console.VM{}, Links: []schemas.CapacityLink{}, Moves: []console.Move{}, Plans: []schemas.Plan{}, Shortfalls: []schemas.Shortfall{}}
	v.Paused = v.Policy.Paused
	if m.plan != nil {
		v.Plans = append(v.Plans, *m.plan)
	}
	for _, mv := range slices.Backward(m.order) {
		if only == nil || mv.Command.VM == *only {
			v.Moves = append(v.Moves, *mv)
		}
	}
	if only != nil {
		if x := m.vms[*only]; x != nil && x.seen != 0 {
			v.VMs = append(v.VMs, m.line(x))
			if h := m.hosts[x.host]; h != nil && h.Seen != 0 {
				v.Hosts = append(v.Hosts, h.Host)
				v.Hosts[0].Stale = console.StaleHost(h.Seen, now)
			}
		}
		return v
	}
	for _, h := range m.hosts {
		if h.Seen != 0 {
			one := h.Host
			one.Stale = console.StaleHost(h.Seen, now)
			v.Hosts = append(v.Hosts, one)
			if !slices.Contains(v.Sites, one.Site) {
				v.Sites = append(v.Sites, one.Site)
			}
		}
	}
	for _, x := range m.vms {
		if x.seen != 0 {
			v.VMs = append(v.VMs, m.line(x))
		}
	}
	for _, l := range m.links {
		v.Links = append(v.Links, *l)
	}
	for _, s := range m.shortfalls {
		v.Shortfalls = append(v.Shortfalls, *s)
	}
	v.Sort()
	return v
}

// FleetFacts are what is to be explained of the whole fleet, as [console.View.FleetFacts]
// has them of a view.
func (m *Model) FleetFacts(now schemas.Time) explain.Fleet {
	m.mu.RLock()
	defer m.mu.RUnlock()
	p := m.words.Policy(policy.Default())
	f := explain.Fleet{Now: now, Plan: m.plan, Mode: p.Mode, Paused: p.Paused, Trigger: p.Trigger, Name: m.Name}
	for _, h := range m.hosts {
		if h.Seen == 0 {
			continue
		}
		f.Hosts++
		if console.StaleHost(h.Seen, now) {
			f.Silent = append(f.Silent, h.ID)
		}
		if h.Pressure != nil {
			f.Pressures = append(f.Pressures, *h.Pressure)
		}
	}
	for _, x := range m.vms {
		if x.seen != 0 {
			f.VMs++
		}
	}
	for _, s := range m.shortfalls {
		f.Shortfalls = append(f.Shortfalls, *s)
	}
	slices.Sort(f.Silent)
	slices.SortFunc(f.Shortfalls, func(a, b schemas.Shortfall) int { return cmp.Compare(a.Site, b.Site) })
	return f
}

// Effects are the newest moves of which it was measured what they achieved.
func (m *Model) Effects(most int) []console.Move {
	return m.Moves(most, func(mv *console.Move) bool { return mv.Effect != nil })
}

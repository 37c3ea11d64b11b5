package console

import (
	"cmp"
	"slices"
	"time"

	"github.com/foreshift/foreshift/schemas"
	"github.com/foreshift/foreshift/streams"
)

// View is the fleet as it stands, for people. Lists are sorted by what matters
// most first, then by name.
type View struct {
	Time       schemas.Time           `json:"time"`
	Sites      []schemas.SiteID       `json:"sites"`
	Hosts      []Host                 `json:"hosts"`
	VMs        []VM                   `json:"vms"`
	Links      []schemas.CapacityLink `json:"links"`
	Moves      []Move                 `json:"moves"` // newest first
	Plans      []schemas.Plan         `json:"plans"` // newest first, those with actions or changed reasons
	Shortfalls []schemas.Shortfall    `json:"shortfalls"`
	Policy     schemas.Policy         `json:"policy"` // in force, with what single acts say over it
	Paused     bool                   `json:"paused"`

	Base      time.Duration                            `json:"-"` // base step of the fleet
	Words     Words                                    `json:"-"`
	Reports   map[schemas.HostID]*schemas.CapacityHost `json:"-"` // the last of each host
	Inventory map[schemas.VMID]*schemas.InventoryVM    `json:"-"` // of the last report that had the VM
}

// Host is one host with its forecast trouble.
type Host struct {
	ID        schemas.HostID        `json:"host"`
	Site      schemas.SiteID        `json:"site"`
	Capacity  schemas.Amounts       `json:"capacity"`
	Used      schemas.Amounts       `json:"used"`
	VMs       int                   `json:"vms"`
	Seen      schemas.Time          `json:"seen"`
	Stale     bool                  `json:"stale"`
	Pressure  *schemas.PressureHost `json:"pressure"` // nil when none was told
	Domain    string                `json:"failure_domain"`
	Simulated bool                  `json:"simulated"`
}

// VM is one VM with its pressures and its best move.
type VM struct {
	ID         schemas.VMID        `json:"vm"`
	Name       string              `json:"name"`
	Hosts      []schemas.HostID    `json:"hosts"` // where a copy is running now; more than one is an alarm
	Host       schemas.HostID      `json:"host"`  // where it was seen last
	State      schemas.VMState     `json:"state"`
	AllocCPU   schemas.MilliCPU    `json:"alloc_mcpu"`
	AllocMem   schemas.Bytes       `json:"alloc_mem_bytes"`
	OwnLimit   *schemas.PressureVM `json:"own_limit"`
	Contention *schemas.PressureVM `json:"host_contention"`
	Benefit    *schemas.Benefit    `json:"benefit"`
}

// Score is the VM's highest pressure.
func (v *VM) Score() schemas.Ratio {
	var s schemas.Ratio
	for _, p := range []*schemas.PressureVM{v.OwnLimit, v.Contention} {
		if p != nil {
			s = max(s, p.Score)
		}
	}
	return s
}

// Move is a command with what became of it.
type Move struct {
	Epoch    uint64            `json:"epoch"`
	Command  schemas.Command   `json:"command"`
	Progress *schemas.Progress `json:"progress"` // nil before the first
	Outcome  *schemas.Outcome  `json:"outcome"`  // nil while under way
	Effect   *schemas.Effect   `json:"effect"`   // nil until an hour of steps after its end
}

// Predicted reports whether the move ended before the trouble it foresaw: its
// outcome is a success and the predicted onset lies later.
func (m *Move) Predicted() bool {
	return m.Outcome != nil && m.Outcome.Result == schemas.ResultSucceeded && m.Command.Predicted.Onset > m.Outcome.Time
}

// Lead is the warning that was left when the move had ended.
func (m *Move) Lead() time.Duration {
	if m.Outcome == nil || m.Command.Predicted.Onset == 0 {
		return 0
	}
	return m.Command.Predicted.Onset.Sub(m.Outcome.Time)
}

// Timing says how a move that succeeded stood to the trouble it foresaw, in words:
// "12 s before it" or "8 s too late"; empty where there is nothing to say.
func (m *Move) Timing() string {
	switch {
	case m.Outcome == nil || m.Outcome.Result != schemas.ResultSucceeded || m.Command.Predicted.Onset == 0:
		return ""
	case m.Predicted():
		return schemas.Span(m.Lead()) + " before it"
	}
	return schemas.Span(-m.Lead()) + " too late"
}

// Counts sums moves up by how they ended.
type Counts struct {
	Succeeded int `json:"succeeded"`
	Predicted int `json:"predicted"` // succeeded before the onset they foresaw
	Failed    int `json:"failed"`
	Refused   int `json:"refused"`
	Unknown   int `json:"unknown"`
	Running   int `json:"running"`
}

// Count sums the moves up.
func (v *View) Count() Counts {
	var c Counts
	for i := range v.Moves {
		m := &v.Moves[i]
		switch {
		case m.Outcome == nil:
			c.Running++
		case m.Outcome.Result == schemas.ResultSucceeded:
			c.Succeeded++
			if m.Predicted() {
				c.Predicted++
			}
		case m.Outcome.Result == schemas.ResultFailed:
			c.Failed++
		case m.Outcome.Result == schemas.ResultRefused:
			c.Refused++
		default:
			c.Unknown++
		}
	}
	return c
}

// staleAfter is the age at which a host's capacity is no longer believed.
const staleAfter = time.Minute

// StaleHost says whether a host that was last seen then is no longer believed now.
func StaleHost(seen, now schemas.Time) bool { return now.Sub(seen) > staleAfter }

// maxPlans bounds the plans a view keeps.
const maxPlans = 200

// Build folds events, given in stream order per stream, into a view.
func Build(events []streams.Event, now schemas.Time) *View {
	v := &View{Time: now, Base: schemas.DefaultBase, Reports: map[schemas.HostID]*schemas.CapacityHost{}, Inventory: map[schemas.VMID]*schemas.InventoryVM{}}
	hosts := map[schemas.HostID]*Host{}
	vms := map[schemas.VMID]*VM{}
	seen := map[schemas.VMID]schemas.Time{}
	moves := map[schemas.CommandID]*Move{}
	progress := map[schemas.CommandID]*schemas.Progress{}
	pressures := map[schemas.HostID]*schemas.PressureHost{}
	shortfalls := map[schemas.SiteID]schemas.Shortfall{}
	vm := func(id schemas.VMID) *VM {
		x := vms[id]
		if x == nil {
			x = &VM{ID: id, Name: id.String()}
			vms[id] = x
		}
		return x
	}
	for _, e := range events {
		switch m := e.Msg.(type) {
		case *schemas.CapacityHost:
			h := &Host{ID: m.Host, Site: m.Site, Capacity: m.Capacity, Used: m.Used, VMs: len(m.VMs), Seen: m.Time,
				Stale: StaleHost(m.Time, now), Domain: m.Domain, Simulated: m.Simulated}
			hosts[m.Host] = h
			v.Reports[m.Host] = m
			for n := range m.VMs {
				i := &m.VMs[n]
				x := vm(i.VM)
				if m.Time >= seen[i.VM] {
					v.Inventory[i.VM] = i
				}
				if i.State == schemas.VMRunning {
					x.Hosts = append(x.Hosts, m.Host)
				}
				if m.Time >= seen[i.VM] || i.State == schemas.VMRunning {
					x.Name, x.Host, x.State, x.AllocCPU, x.AllocMem = i.Name, m.Host, i.State, i.AllocCPU, i.AllocMem
					seen[i.VM] = m.Time
				}
			}
		case *schemas.CapacityLink:
			v.Links = append(v.Links, *m)
		case *schemas.PressureHost:
			pressures[m.Host] = m
		case *schemas.PressureVM:
			if m.Cause == schemas.CauseOwnLimit {
				vm(m.VM).OwnLimit = m
			} else {
				vm(m.VM).Contention = m
			}
		case *schemas.Benefit:
			vm(m.VM).Benefit = m
		case *schemas.Shortfall:
			shortfalls[m.Site] = *m
		case *schemas.Command:
			moves[m.ID] = &Move{Epoch: e.Seq, Command: *m}
		case *schemas.Outcome:
			if x := moves[m.Command]; x != nil {
				x.Outcome = m
			}
		case *schemas.Effect:
			if x := moves[m.Command]; x != nil {
				x.Effect = m
			}
		case *schemas.Progress:
			progress[m.Command] = m
		case *schemas.Plan:
			v.Plans = append(v.Plans, *m)
		}
	}
	for _, h := range hosts {
		h.Pressure = pressures[h.ID]
		v.Hosts = append(v.Hosts, *h)
		if !slices.Contains(v.Sites, h.Site) {
			v.Sites = append(v.Sites, h.Site)
		}
	}
	for id, x := range vms {
		if seen[id] == 0 {
			continue // spoken of, but on no host that was seen
		}
		slices.Sort(x.Hosts)
		v.VMs = append(v.VMs, *x)
	}
	for id, m := range moves {
		m.Progress = progress[id]
		v.Moves = append(v.Moves, *m)
	}
	for _, s := range shortfalls {
		if s.Onset != 0 {
			v.Shortfalls = append(v.Shortfalls, s)
		}
	}
	v.Sort()
	if p := v.Newest(); p != nil && p.Basis.Base > 0 {
		v.Base = time.Duration(float64(p.Basis.Base) * float64(time.Second))
	}
	v.words(events)
	return v
}

// Sort puts everything into the order in which people look.
func (v *View) Sort() {
	slices.Sort(v.Sites)
	slices.SortFunc(v.Hosts, func(a, b Host) int {
		return cmp.Or(cmp.Compare(a.Site, b.Site), cmp.Compare(a.ID, b.ID))
	})
	slices.SortFunc(v.VMs, func(a, b VM) int {
		return cmp.Or(cmp.Compare(b.Score(), a.Score()), cmp.Compare(a.Name, b.Name), slices.Compare(a.ID[:], b.ID[:]))
	})
	slices.SortFunc(v.Moves, func(a, b Move) int { return cmp.Compare(b.Epoch, a.Epoch) })
	slices.SortFunc(v.Plans, func(a, b schemas.Plan) int {
		return cmp.Or(cmp.Compare(b.Time, a.Time), cmp.Compare(a.ID, b.ID))
	})
	if len(v.Plans) > maxPlans {
		v.Plans = v.Plans[:maxPlans]
	}
	slices.SortFunc(v.Shortfalls, func(a, b schemas.Shortfall) int { return cmp.Compare(a.Site, b.Site) })
	slices.SortFunc(v.Links, func(a, b schemas.CapacityLink) int {
		return cmp.Or(cmp.Compare(a.A, b.A), cmp.Compare(a.B, b.B))
	})
}

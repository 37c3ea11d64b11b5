package fleet

import (
	"fmt"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/foreshift/foreshift/placer/policy"
	"github.com/foreshift/foreshift/placer/policy/learning"
	"github.com/foreshift/foreshift/schemas"
)

// View is the whole fleet at one moment, as decisions want it: flat, with int32
// ids in the order of the names. It aliases the fold and holds until the next
// Apply. Scenario values are slot-major: [slot*K+k], so that a look-ahead is a
// prefix of every path.
type View struct {
	Now    schemas.Time
	Base   time.Duration
	Step   schemas.Step // the step that holds Now
	Issued schemas.Step // newest closed step any forecast has seen; 0 without
	Grid   schemas.Grid
	K      int
	Weight []float32 // slot*K+k, sums to 1 over k
	Own    []float32 // the same as they came with the forecast

	Hosts []Host
	VMs   []VM
	Sites []schemas.SiteID
	Costs *learning.Costs // what moves have taught of what they take

	// Running is how many VMs run; Unforecast how many of them have no fresh
	// forecast, Lagging how many of those one that came too late after its step;
	// StaleHosts how many hosts have been silent for too long.
	Running, Unforecast, Lagging, StaleHosts int

	Attempts []policy.Attempt
	Unknown  []*Move // moves whose end nobody knows
	Resumed  schemas.Time

	unfit     map[cpuKey]cpuRefusal
	links     map[policy.Link]linkState
	linkAge   time.Duration
	bandwidth schemas.BytesPerSecond
}

// Host is one host of a view.
type Host struct {
	ID    schemas.HostID
	Site  int32
	Fresh bool
	Cap   schemas.Vec // real capacity; 0 = not limited (net and disk)
	Room  float64     // memory that may be promised: capacity times overcommit, bytes
	Msg   *schemas.CapacityHost
	VMs   []int32 // those that run or rest here, in order
	Speed float64 // of a core, relative to the reference core
	Age   time.Duration
	// Stale is why nothing is decided on the host's word, ok while it is fresh.
	Stale schemas.Reason

	models   map[string]bool // guest CPU models it can run; nil = unknown
	cpuSince schemas.Time    // when it began to report the CPU it has
}

// VM is one running or paused VM of a view.
type VM struct {
	ID      schemas.VMID
	Name    string
	Host    int32 // where it is
	Dest    int32 // where a move under way takes it; -1 without
	From    int   // first slot in which it is there
	Inv     *schemas.InventoryVM
	Running bool
	Fresh   bool // has a fresh forecast
	Known   bool // has a forecast at all; without one CPU and Mem are a stand-in
	// Duplicate: reported running by two hosts. Certain: and not merely by two
	// reports of different age.
	Duplicate, Certain bool
	Move               *Move
	OwnLimit           schemas.Ratio // pressure by its own allocation, 0 = none
	Advice             string
	// Stale is why nothing is decided on the VM's forecast, ok while it is fresh.
	Stale schemas.Reason
	// DirtyRate is the rate at which it dirties memory and DirtyHigh about its .9
	// quantile, bytes/s; 0 = not measured within the hour. See [View.Dirty].
	DirtyRate, DirtyHigh schemas.BytesPerSecond
	CPU, Mem             []float32                  // slot*K+k: mCPU, bytes
	Mid, Spread          *[2][schemas.Slots]float32 // net, disk: bytes/s; nil = none known
}

// View joins the streams at a moment.
func (f *Fleet) View(now schemas.Time) *View {
	v := &View{Now: now, Base: f.cfg.Base, Step: schemas.StepAt(now, f.cfg.Base), links: f.links, unfit: f.unfit, linkAge: f.cfg.LinkAge, bandwidth: f.cfg.SiteBandwidth, Costs: &f.costs, Resumed: f.acts.ResumedAt}
	f.viewHosts(v)
	f.viewGrid(v)
	f.viewVMs(v)
	f.viewMoves(v)
	v.Attempts = f.attempts(now)
	for i := range v.VMs {
		m := &v.VMs[i]
		v.Hosts[m.Host].VMs = append(v.Hosts[m.Host].VMs, int32(i))
		if m.Running {
			v.Running++
			if !m.Fresh {
				v.Unforecast++
			}
			if m.Stale.Code == schemas.ReasonLag {
				v.Lagging++
			}
		}
	}
	return v
}

func (f *Fleet) viewHosts(v *View) {
	v.Hosts = make([]Host, 0, len(f.hosts))
	for id, h := range f.hosts {
		m := h.Msg
		room := float64(m.Capacity.Mem)
		if m.Overcommit.Mem > 0 {
			room *= float64(m.Overcommit.Mem)
		}
		speed := float64(m.Speed)
		if !(speed > 0 && speed <= 100) {
			speed = 1
		}
		age := v.Now.Sub(h.At)
		host := Host{ID: id, Fresh: age <= f.cfg.HostAge, Cap: m.Capacity.Vec(), Room: room, Msg: m, Speed: speed, Age: age, models: h.Models, cpuSince: h.CPUSince}
		if !host.Fresh {
			host.Stale = stale("%s has not been heard of for over %s", id, f.cfg.HostAge)
		}
		v.Hosts = append(v.Hosts, host)
		v.Sites = append(v.Sites, m.Site)
	}
	sort.Slice(v.Hosts, func(i, j int) bool { return v.Hosts[i].ID < v.Hosts[j].ID })
	slices.Sort(v.Sites)
	v.Sites = slices.Compact(v.Sites)
	for i := range v.Hosts {
		s, _ := slices.BinarySearch(v.Sites, v.Hosts[i].Msg.Site)
		v.Hosts[i].Site = int32(s)
		if !v.Hosts[i].Fresh {
			v.StaleHosts++
		}
	}
}

// HostIndex finds a host by name, -1 when the view has none such.
func (v *View) HostIndex(id schemas.HostID) int32 {
	i, ok := slices.BinarySearchFunc(v.Hosts, id, func(h Host, id schemas.HostID) int { return strings.Compare(string(h.ID), string(id)) })
	if !ok {
		return -1
	}
	return int32(i)
}

// VMIndex finds a VM by id, -1 when the view has none such.
func (v *View) VMIndex(id schemas.VMID) int32 {
	i, ok := slices.BinarySearchFunc(v.VMs, id, func(m VM, id schemas.VMID) int { return strings.Compare(string(m.ID[:]), string(id[:])) })
	if !ok {
		return -1
	}
	return int32(i)
}

// Bandwidth is what one more move gets between two hosts' sites: the fleet's figure
// within a site; between two what its tunnel role says is left, else the measured free
// bandwidth. ok is false when the link was not measured lately.
func (v *View) Bandwidth(a, b int32) (bps schemas.BytesPerSecond, ok bool) {
	if a == b {
		return v.bandwidth, true
	}
	l, found := v.Link(a, b)
	if !found || !l.Fresh {
		return 0, false
	}
	if l.Shared {
		return l.Left, true
	}
	return l.Free, true
}

// Uncounted is how many of the moves under way between two sites are not in
// [View.Bandwidth] yet: all of them where nobody shares the link out; else those that the
// tunnel role has not named, or not let in: they will have their part first.
func (v *View) Uncounted(a, b int32, flying int) int {
	if l, ok := v.Link(a, b); ok && l.Shared {
		return max(l.Waits, flying-l.Moves)
	}
	return flying
}

// viewGrid takes the grid, the scenarios and their weights of the newest forecast.
func (f *Fleet) viewGrid(v *View) {
	var ref *forecastRow
	var refID schemas.VMID
	for id, r := range f.forecasts {
		if ref == nil || r.Issued > ref.Issued || r.Issued == ref.Issued && string(id[:]) < string(refID[:]) {
			ref, refID = r, id
		}
	}
	if ref == nil {
		v.Grid, v.K, v.Weight = schemas.Grid{Start: v.Step}, 1, alike()
		return
	}
	v.Issued, v.Grid = ref.Issued, schemas.Grid{Start: ref.Start}
	if f.cfg.Persistence {
		v.K, v.Weight = 1, alike()
		return
	}
	v.K, v.Weight = ref.K, f.Memory.Trust.Apply(ref.Weight, ref.K)
	v.Own = ref.Weight
}

// alike are the weights of a single scenario.
func alike() []float32 {
	w := make([]float32, schemas.Slots)
	for i := range w {
		w[i] = 1
	}
	return w
}

// viewVMs finds each VM's place: running beats paused, then the later report, then
// the lower name.
func (f *Fleet) viewVMs(v *View) {
	index := map[schemas.VMID]int{}
	for hi := range v.Hosts {
		h := &v.Hosts[hi]
		st := f.hosts[h.ID]
		for j := range h.Msg.VMs {
			inv := &h.Msg.VMs[j]
			if inv.State != schemas.VMRunning && inv.State != schemas.VMPaused {
				continue
			}
			running := inv.State == schemas.VMRunning
			i, ok := index[inv.VM]
			if !ok {
				index[inv.VM] = len(v.VMs)
				v.VMs = append(v.VMs, VM{ID: inv.VM, Name: inv.Name, Host: int32(hi), Dest: -1, Inv: inv, Running: running})
				continue
			}
			m := &v.VMs[i]
			other := f.hosts[v.Hosts[m.Host].ID]
			if running && m.Running && h.Fresh && v.Hosts[m.Host].Fresh {
				m.Duplicate = true
				m.Certain = m.Certain || certain(st, other, inv.VM)
			}
			if running && !m.Running || running == m.Running && st.At > other.At {
				m.Host, m.Inv, m.Name, m.Running = int32(hi), inv, inv.Name, running
			}
		}
	}
	sort.Slice(v.VMs, func(i, j int) bool { return string(v.VMs[i].ID[:]) < string(v.VMs[j].ID[:]) })
	alloc := make([]float64, len(v.Hosts))
	for i := range v.VMs {
		alloc[v.VMs[i].Host] += float64(v.VMs[i].Inv.AllocCPU)
	}
	for i := range v.VMs {
		m := &v.VMs[i]
		if o, ok := f.ownLimit[m.ID]; ok && v.Now.Sub(o.At) <= 4*f.cfg.ForecastAge {
			m.OwnLimit, m.Advice = o.Score, o.Advice
		}
		if m.Name == "" {
			m.Name = m.ID.String()
		}
		if d, ok := f.dirty[m.ID]; ok && v.Now.Sub(d.At) <= dirtyFor {
			m.DirtyRate, m.DirtyHigh = d.Rate, d.High
		}
		if row := f.forecasts[m.ID]; row != nil {
			age := v.Now.Sub(row.At)
			lag := row.At.Sub(row.Issued.End(f.cfg.Base))
			m.Known, m.Fresh = true, age <= f.cfg.ForecastAge && lag <= f.cfg.Lag
			switch {
			case m.Fresh:
			case lag > f.cfg.Lag:
				m.Stale = schemas.Reason{Code: schemas.ReasonLag, Detail: fmt.Sprintf("the forecast of %s came %s after its step, at most %s are allowed", m.Name, lag.Round(time.Second), f.cfg.Lag)}
			default:
				m.Stale = stale("the forecast of %s is %s old, at most %s are allowed", m.Name, age.Round(time.Second), f.cfg.ForecastAge)
			}
			f.rebin(v, m, row)
			continue
		}
		m.Stale = schemas.Reason{Code: schemas.ReasonNoForecast, Detail: m.Name + " has no forecast yet"}
		standIn(v, m, alloc[m.Host])
	}
}

// certain tells two running copies from two reports of different age: the host
// that has had the VM longer must have reported it twice since the other began to.
func certain(a, b *hostState, vm schemas.VMID) bool {
	if a.Since[vm] > b.Since[vm] {
		a, b = b, a
	}
	return a.Prev >= b.Since[vm] && a.Prev > 0
}

func stale(format string, a ...any) schemas.Reason {
	return schemas.Reason{Code: schemas.ReasonStale, Detail: fmt.Sprintf(format, a...)}
}

// rebin puts a forecast on the decision's grid. One of the same grid and number of
// scenarios is used as it is; an older one is shifted; beyond its end its last
// slot holds. Where the number of scenarios differs they are repeated, and the
// last, persistence, stays the last.
func (f *Fleet) rebin(v *View, m *VM, row *forecastRow) {
	m.Mid, m.Spread = &row.Mid, &row.Spread
	if row.Start == v.Grid.Start && row.K == v.K && !f.cfg.Persistence {
		m.CPU, m.Mem = row.D[0], row.D[1]
		return
	}
	old := schemas.Grid{Start: row.Start}
	m.CPU, m.Mem = make([]float32, schemas.Slots*v.K), make([]float32, schemas.Slots*v.K)
	mid, spread := new([2][schemas.Slots]float32), new([2][schemas.Slots]float32)
	for s := 0; s < schemas.Slots; s++ {
		first, n := v.Grid.Slot(s)
		o := old.SlotOf(first + schemas.Step(n/2))
		if o < 0 {
			o = 0
			if first >= row.Start {
				o = schemas.Slots - 1
			}
		}
		for k := 0; k < v.K; k++ {
			ok := row.K - 1
			if k < v.K-1 && row.K > 1 {
				ok = k % (row.K - 1)
			}
			m.CPU[s*v.K+k] = row.D[0][o*row.K+ok]
			m.Mem[s*v.K+k] = row.D[1][o*row.K+ok]
		}
		for j := range mid {
			mid[j][s], spread[j][s] = row.Mid[j][o], row.Spread[j][o]
			if f.cfg.Persistence { // what is now, and no doubt about it
				mid[j][s], spread[j][s] = row.Mid[j][0], 0
			}
		}
	}
	m.Mid, m.Spread = mid, spread
}

// standIn is the demand of a VM without a forecast: its share by allocation of
// what its host measures in use, at most its allocation, and its resident memory.
func standIn(v *View, m *VM, hostAlloc float64) {
	cpu := 0.0
	if m.Running && hostAlloc > 0 {
		cpu = min(float64(m.Inv.AllocCPU), float64(v.Hosts[m.Host].Msg.Used.CPU)*float64(m.Inv.AllocCPU)/hostAlloc)
	}
	mem := float64(m.Inv.Resident)
	if mem <= 0 {
		mem = float64(m.Inv.AllocMem)
	}
	n := schemas.Slots * v.K
	buf := make([]float32, 2*n)
	m.CPU, m.Mem = buf[:n:n], buf[n:]
	for i := range m.CPU {
		m.CPU[i], m.Mem[i] = clean(float32(cpu)), clean(float32(mem))
	}
}

// viewMoves lays the moves under way over the places: a VM counts at its source
// until its predicted arrival and at its destination from then on, and its memory
// at both, until telemetry later than the end of the move shows where it is.
func (f *Fleet) viewMoves(v *View) {
	for _, m := range f.sortedMoves() {
		if m.lapsed(v.Now) {
			continue
		}
		if m.unknown(v.Now, &f.acts) {
			v.Unknown = append(v.Unknown, m)
		}
		i := v.VMIndex(m.Command.VM)
		if i < 0 || f.settled(m) {
			continue
		}
		vm := &v.VMs[i]
		vm.Move = m
		to := m.Command.Destination
		if m.final() {
			to = m.RunsAt
			if to == "" {
				to = m.Command.Source
				if m.Outcome == schemas.ResultSucceeded {
					to = m.Command.Destination
				}
			}
		}
		d := v.HostIndex(to)
		if d < 0 || d == vm.Host {
			continue
		}
		vm.Dest, vm.From = d, 0
		if !m.final() {
			left := m.Command.Issued.Add(seconds(m.Command.Predicted.Duration)).Sub(v.Now)
			vm.From = SlotAfter(v.Grid, v.Base, v.Now.Add(max(left, 0)))
		}
	}
}

// settled reports whether telemetry later than the move's end has shown the VM, or
// both hosts have spoken since and neither has it. A refused move never began.
func (f *Fleet) settled(m *Move) bool {
	end := m.OutcomeAt
	if r := f.acts.resolved(m); r != nil {
		end = r.At
	} else if !m.final() {
		return false
	} else if m.Outcome == schemas.ResultRefused {
		return true
	}
	both := true
	for _, id := range [2]schemas.HostID{m.Command.Source, m.Command.Destination} {
		h := f.hosts[id]
		if h == nil || h.At <= end {
			both = false
			continue
		}
		if _, ok := h.Since[m.Command.VM]; ok {
			return true
		}
	}
	return both
}

func seconds(s schemas.Seconds) time.Duration {
	return time.Duration(float64(s) * float64(time.Second))
}

// SlotAfter is the first slot that begins at or after t; Slots when none does.
func SlotAfter(g schemas.Grid, base time.Duration, t schemas.Time) int {
	for s := 0; s < schemas.Slots; s++ {
		if first, _ := g.Slot(s); first.Start(base) >= t {
			return s
		}
	}
	return schemas.Slots
}

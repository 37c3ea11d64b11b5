// Package fleettest makes small fleets for the placer's tests: hosts and VMs with
// demands drawn as a level and a peak, and the messages that tell of them.
//
// What comes in: [Host] and [VM] values and a clock. What goes out: capacity and
// forecast messages as the agents and the forecaster would publish them, ready to
// be folded. The same values give the same messages, so that scripts and
// properties can be repeated.
package fleettest

import (
	"cmp"
	"fmt"
	"sort"
	"time"

	"github.com/foreshift/foreshift/placer/fleet"
	"github.com/foreshift/foreshift/schemas"
)

// Host is a host of the world.
type Host struct {
	ID    schemas.HostID
	Site  schemas.SiteID
	Cores float64
	GiB   float64
	Net   float64 // MB/s, 0 = not limited
	// Overcommit of memory; 0 is 1.
	Overcommit float64
	CPUModel   string
	Simulated  bool
	Silent     bool
}

// VM is a VM of the world. Its demand is Cores and GiB; from Peak.From on, for
// Peak.Len steps, Peak.Cores and Peak.GiB in those scenarios that Peak.In names.
type VM struct {
	Name   string
	Host   schemas.HostID
	Also   schemas.HostID // a second host that reports it as running
	Cores  float64
	GiB    float64
	Net    float64 // MB/s
	Alloc  float64 // cores
	Peak   Peak
	State  schemas.VMState
	Labels map[string]string
	Local  bool // has a disk on local storage
	Fixed  bool // not movable
	Dark   bool // has no forecast
	Late   bool // its forecast is no longer renewed
}

// Peak is a burst of a VM.
type Peak struct {
	From  schemas.Step // absolute
	Len   int
	Cores float64
	GiB   float64
	In    int // in the first In of the 12 past scenarios, and in persistence while it lasts
}

// World is a fleet with a clock.
type World struct {
	Base  time.Duration
	Begin schemas.Step
	Now   schemas.Time
	Hosts []Host
	VMs   []VM
	Links []schemas.CapacityLink
	Seq   map[string]uint64
	// Behind is how many steps the forecasters lag.
	Behind schemas.Step
}

// New makes an empty world whose clock stands just after the end of a step.
func New(base time.Duration) *World {
	start := schemas.StepAt(schemas.Time(1_767_225_600e9), base) // 2026-01-01
	return &World{Base: base, Begin: start, Now: start.Start(base).Add(base / 10), Seq: map[string]uint64{}}
}

// Step is the step that holds the world's clock.
func (w *World) Step() schemas.Step { return schemas.StepAt(w.Now, w.Base) }

// ID is the id of a VM by its name: the name's own bytes, so that ids sort as
// names do.
func ID(name string) (v schemas.VMID) {
	copy(v[:], name)
	return v
}

// Input stamps a message with the next sequence of its stream and the clock.
func (w *World) Input(stream string, m any) fleet.Input {
	w.Seq[stream]++
	return fleet.Input{Seq: w.Seq[stream], Time: w.Now, Lease: 1, Msg: m}
}

// Capacity are the reports of all hosts that are not silent.
func (w *World) Capacity() []*schemas.CapacityHost {
	var out []*schemas.CapacityHost
	for i := range w.Hosts {
		h := &w.Hosts[i]
		if h.Silent {
			continue
		}
		m := &schemas.CapacityHost{Host: h.ID, Site: h.Site, Time: w.Now, URI: "test:///", Speed: 1, Overcommit: schemas.Overcommit{CPU: 1, Mem: schemas.Ratio(cmp.Or(h.Overcommit, 1))}, CPUModel: h.CPUModel, Simulated: h.Simulated,
			Capacity: schemas.Amounts{CPU: schemas.MilliCPU(1000 * h.Cores), Mem: schemas.Bytes(h.GiB * (1 << 30)), Net: schemas.BytesPerSecond(h.Net * 1e6)}}
		for j := range w.VMs {
			v := &w.VMs[j]
			if v.Host != h.ID && v.Also != h.ID {
				continue
			}
			alloc := v.Alloc
			if alloc == 0 {
				alloc = max(1, v.Cores, v.Peak.Cores)
			}
			inv := schemas.InventoryVM{VM: ID(v.Name), Name: v.Name, State: v.State, VCPUs: 1 + int(alloc), AllocCPU: schemas.MilliCPU(1000 * alloc), AllocMem: schemas.Bytes(max(v.GiB, v.Peak.GiB) * (1 << 30)),
				Resident: schemas.Bytes(v.GiB * (1 << 30)), Labels: v.Labels, Persistent: true, Movable: !v.Fixed}
			if v.Fixed {
				inv.WhyPinned = "a host device is attached"
			}
			if inv.State == "" {
				inv.State = schemas.VMRunning
			}
			inv.Disks = []schemas.VMDisk{{Target: "vda", Path: "/pool/" + v.Name, Shared: !v.Local}}
			m.Used.CPU += schemas.MilliCPU(1000 * v.Cores)
			m.VMs = append(m.VMs, inv)
		}
		out = append(out, m)
	}
	return out
}

// persistence is the weight of the last scenario in slots up to an hour's steps.
const persistence = .4

// Forecasts are those of every VM that has one, issued for the step that has just
// closed, in messages of up to 64 VMs of one
// partition.
func (w *World) Forecasts() []*schemas.Forecasts {
	var out []*schemas.Forecasts
	var vms []*VM
	for i := range w.VMs {
		if v := &w.VMs[i]; !v.Dark && !v.Late {
			vms = append(vms, v)
		}
	}
	sort.Slice(vms, func(i, j int) bool {
		if a, b := ID(vms[i].Name).Partition(), ID(vms[j].Name).Partition(); a != b {
			return a < b
		}
		return vms[i].Name < vms[j].Name
	})
	for len(vms) > 0 {
		p := ID(vms[0].Name).Partition()
		n := 1
		for n < len(vms) && n < schemas.MaxForecastVMs && ID(vms[n].Name).Partition() == p {
			n++
		}
		m := w.chunk(vms[:n])
		m.Partition = p
		if len(out) > 0 && out[len(out)-1].Partition == p {
			m.Chunk = out[len(out)-1].Chunk + 1
		}
		out = append(out, m)
		vms = vms[n:]
	}
	chunks := map[int]int{}
	for _, m := range out {
		chunks[m.Partition]++
	}
	for _, m := range out {
		m.Chunks = chunks[m.Partition]
	}
	return out
}

func (w *World) chunk(vms []*VM) *schemas.Forecasts {
	const k = schemas.NumScenarios
	issued := w.Step() - 1 - w.Behind
	m := &schemas.Forecasts{Issued: issued, Grid: schemas.Grid{Start: issued + 1}, Base: w.Base, Lease: 1, Model: "test", K: k}
	for i := 0; i < k; i++ {
		m.Origins = append(m.Origins, issued-schemas.Step((k-1-i)*schemas.StepsPerDay/2))
	}
	m.Weight = make([]float32, k*schemas.Slots)
	for s := 0; s < schemas.Slots; s++ {
		p := 0.0
		if s < 12 {
			p = persistence
		}
		for i := 0; i < k-1; i++ {
			m.Weight[i*schemas.Slots+s] = float32((1 - p) / (k - 1))
		}
		m.Weight[(k-1)*schemas.Slots+s] = float32(p)
	}
	for _, v := range vms {
		m.VM, m.Host = append(m.VM, ID(v.Name)), append(m.Host, v.Host)
		m.AllocCPU, m.AllocMem = append(m.AllocCPU, schemas.NaN()), append(m.AllocMem, schemas.NaN())
		for i := 0; i < k; i++ {
			for s := 0; s < schemas.Slots; s++ {
				cpu, gib := v.at(m.Grid, s, i, issued)
				m.D = append(m.D, float32(1000*cpu), float32(gib*(1<<30)))
			}
		}
		for s := 0; s < schemas.Slots; s++ {
			for range schemas.NumLevels {
				m.Q[schemas.CPU] = append(m.Q[schemas.CPU], float32(1000*v.Cores))
				m.Q[schemas.Memory] = append(m.Q[schemas.Memory], float32(v.GiB*(1<<30)))
				m.Q[schemas.Net] = append(m.Q[schemas.Net], float32(v.Net*1e6))
				m.Q[schemas.Disk] = append(m.Q[schemas.Disk], 0)
			}
		}
	}
	return m
}

// at is the demand of scenario i in a slot. Persistence holds what is now.
func (v *VM) at(g schemas.Grid, slot, i int, issued schemas.Step) (cpu, gib float64) {
	first, n := g.Slot(slot)
	step := first + schemas.Step(n/2)
	if i == schemas.NumScenarios-1 {
		step = issued
	}
	p := &v.Peak
	in := p.Len > 0 && step >= p.From && step < p.From+schemas.Step(p.Len)
	if !in || i < schemas.NumScenarios-1 && i >= p.In {
		return v.Cores, v.GiB
	}
	return p.Cores, max(v.GiB, p.GiB)
}

// VM finds a VM by name.
func (w *World) VM(name string) (*VM, error) {
	for i := range w.VMs {
		if w.VMs[i].Name == name {
			return &w.VMs[i], nil
		}
	}
	return nil, fmt.Errorf("no VM %q in this world", name)
}

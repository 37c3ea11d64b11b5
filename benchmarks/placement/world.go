// Package placement measures the live placer on fleets of production size: how fast a
// plan is made, and what it is worth beside a plain balancer and an integer programme on
// the same snapshot.
//
// What comes in: a number of hosts and VMs, a seed, and how hard to search. What goes
// out: CPU-seconds of the first plan and of the refined one, memory, and for each
// planner the demand that stays unserved, moves, bytes and broken rules.
//
// What is promised:
//
//   - The placer is the real one: messages are folded as live, and Decide is called as
//     live, under the objective of production.
//   - The future that planners are scored on is drawn from the same process as the
//     forecasts but is none of the paths that any of them has seen.
//   - All planners are given the same snapshot and the same rules, and are scored by one
//     evaluator that shares nothing with the placer. The balancer is also given the
//     expected demand in place of what is used now; it is reported both ways.
//   - Figures are CPU time of the process. The same seed gives the same plans.
//
// Why a made-up fleet: no public snapshot of this size has what a day ahead will bring.
package placement

import (
	"fmt"
	"math"
	"math/rand/v2"

	"github.com/foreshift/foreshift/placer/fleet"
	"github.com/foreshift/foreshift/schemas"
)

// Sizes of the fleets drawn.
const (
	classes  = 12  // of VMs that burst together
	futures  = 12  // paths that a score is the mean of
	cores    = 64  // of a host
	gib      = 512 // of a host
	groupOf  = 3   // VMs that must be apart
	grouped  = .1  // share of VMs in such groups
	baseStep = schemas.DefaultBase
)

// vm is one VM of a made-up fleet: what it asks for is its level, times its class's
// course of the day, times the burst of its class if there is one and it takes part.
type vm struct {
	host  int
	level float64 // cores
	mem   float64 // GiB
	class int
	share float64 // of its class's bursts that it takes part in, 0..1
	group int     // VMs of one group must be apart; 0 = none
}

// World is a made-up fleet.
type World struct {
	hosts int
	vms   []vm
	seed  uint64
	now   schemas.Time
	paths [][][schemas.Slots]float64 // by path and class: the factor on a VM's level
}

// NewWorld draws one: two sites; VMs of twelve classes, each with a course of the day
// and bursts of its own; placed evenly by memory and mean load, as a balancer would have
// done before, with no look at who bursts with whom.
func NewWorld(hosts, vms int, seed uint64) *World {
	r := rand.New(rand.NewPCG(seed, 1))
	w := &World{hosts: hosts, seed: seed, now: schemas.Time(1_767_225_600e9).Add(baseStep / 10)}
	per := float64(vms) / float64(hosts)
	w.vms = make([]vm, vms)
	for i := range w.vms {
		v := &w.vms[i]
		v.level = cores * .74 / per * math.Exp(.7*r.NormFloat64()-.245)
		v.mem = min(gib/4, gib*.55/per*math.Exp(.6*r.NormFloat64()-.18))
		v.class, v.share = r.IntN(classes), .4+.6*r.Float64()
	}
	for g := 1; g*groupOf <= int(grouped*float64(vms)); g++ {
		for k := range groupOf {
			w.vms[(g-1)*groupOf+k].group = g
		}
	}
	used := make([]float64, hosts)
	for i := range w.vms {
		v := &w.vms[i]
		best := -1
		for range 3 {
			h := r.IntN(hosts)
			if r.IntN(4) == 0 { // teams deploy together: the like end up side by side
				h = (h - h%classes + v.class) % hosts
			}
			if v.group != 0 && i%groupOf > 0 && (w.vms[i-1].host == h || i%groupOf > 1 && w.vms[i-2].host == h) {
				continue
			}
			if best < 0 || used[h] < used[best] {
				best = h
			}
		}
		if best < 0 {
			best = (w.vms[i-1].host + 1) % hosts
			for v.group != 0 && i%groupOf > 1 && w.vms[i-2].host == best {
				best = (best + 1) % hosts
			}
		}
		v.host = best
		used[best] += v.mem/(.55*gib) + v.level/(.74*cores)
	}
	for k := 0; k < schemas.NumScenarios-1+futures; k++ {
		w.paths = append(w.paths, w.path(rand.New(rand.NewPCG(seed, uint64(100+k)))))
	}
	return w
}

// path draws one future of all classes.
func (w *World) path(r *rand.Rand) [][schemas.Slots]float64 {
	out := make([][schemas.Slots]float64, classes)
	grid := w.grid()
	for c := range out {
		from, length, height := schemas.Step(r.IntN(288)), schemas.Step(6+r.IntN(48)), .4+.8*r.Float64()
		if r.IntN(3) == 0 {
			height = 0 // a day without a burst
		}
		level := 1 + .05*r.NormFloat64()
		for s := range out[c] {
			first, n := grid.Slot(s)
			at := first + schemas.Step(n/2) - grid.Start
			hour := 2 * math.Pi * float64(at) / 288
			out[c][s] = level * (1 + .25*math.Sin(hour+2*math.Pi*float64(c)/classes))
			// A class bursts at about the same hour every day: that is what a forecast knows.
			usual := schemas.Step(288 * c / classes)
			start := usual + (from%48 - 24)
			if at >= start && at < start+length {
				out[c][s] += height
			}
		}
	}
	return out
}

func (w *World) step() schemas.Step { return schemas.StepAt(w.now, baseStep) }

func (w *World) grid() schemas.Grid { return schemas.Grid{Start: w.step()} }

// demand is what VM i asks for in a slot of path k, in cores.
func (w *World) demand(i, k, slot int) float64 {
	v := &w.vms[i]
	f := w.paths[k][v.class][slot]
	return v.level * (1 + v.share*(f-1))
}

func (w *World) host(h int) schemas.HostID { return schemas.HostID(fmt.Sprintf("host-%05d", h)) }

func id(i int) (v schemas.VMID) {
	copy(v[:], fmt.Sprintf("vm-%09d", i))
	return v
}

// Fold tells a fleet of the world as agents and forecaster would.
func (w *World) Fold(f *fleet.Fleet) error {
	seq := uint64(0)
	apply := func(m any) error {
		seq++
		return f.Apply(fleet.Input{Seq: seq, Time: w.now, Lease: 1, Msg: m})
	}
	on := make([][]int, w.hosts)
	for i := range w.vms {
		on[w.vms[i].host] = append(on[w.vms[i].host], i)
	}
	for h := range on {
		m := &schemas.CapacityHost{Host: w.host(h), Site: []schemas.SiteID{"east", "west"}[h%2], Time: w.now, URI: "test:///", Speed: 1, Simulated: true,
			Overcommit: schemas.Overcommit{CPU: 1, Mem: 1}, Capacity: schemas.Amounts{CPU: 1000 * cores, Mem: gib << 30, Net: 3e9, Disk: 2e9}}
		for _, i := range on[h] {
			v := &w.vms[i]
			inv := schemas.InventoryVM{VM: id(i), Name: fmt.Sprintf("vm-%d", i), State: schemas.VMRunning, VCPUs: 1 + int(2*v.level), AllocCPU: schemas.MilliCPU(2000 * v.level),
				AllocMem: schemas.Bytes(1.2 * v.mem * (1 << 30)), Resident: schemas.Bytes(v.mem * (1 << 30)), Persistent: true, Movable: true}
			m.VMs = append(m.VMs, inv)
		}
		if err := apply(m); err != nil {
			return err
		}
	}
	if err := apply(&schemas.CapacityLink{A: "east", B: "west", Time: w.now, RTT: 8, Bandwidth: 1.25e9, Free: 1e9}); err != nil {
		return err
	}
	for at := 0; at < len(w.vms); at += schemas.MaxForecastVMs {
		if err := apply(w.forecasts(at, min(at+schemas.MaxForecastVMs, len(w.vms)))); err != nil {
			return err
		}
	}
	return nil
}

// persistence is the weight of the last scenario in the slots of the first hour.
const persistence = .4

func (w *World) forecasts(from, to int) *schemas.Forecasts {
	const k = schemas.NumScenarios
	grid := w.grid()
	m := &schemas.Forecasts{Issued: grid.Start - 1, Grid: grid, Base: baseStep, Lease: 1, Model: "drawn", K: k, Chunks: 1, Weight: make([]float32, k*schemas.Slots)}
	for i := range k {
		m.Origins = append(m.Origins, m.Issued-schemas.Step((k-1-i)*schemas.StepsPerDay))
	}
	for s := range schemas.Slots {
		p := 0.0
		if s < 12 {
			p = persistence
		}
		for i := range k - 1 {
			m.Weight[i*schemas.Slots+s] = float32((1 - p) / (k - 1))
		}
		m.Weight[(k-1)*schemas.Slots+s] = float32(p)
	}
	for i := from; i < to; i++ {
		v := &w.vms[i]
		m.VM, m.Host = append(m.VM, id(i)), append(m.Host, w.host(v.host))
		m.AllocCPU, m.AllocMem = append(m.AllocCPU, schemas.NaN()), append(m.AllocMem, schemas.NaN())
		mem := float32(v.mem * (1 << 30))
		for p := range k {
			for s := range schemas.Slots {
				cpu := 0.0
				if p < k-1 {
					cpu = w.demand(i, p, s)
				} else {
					cpu = w.now0(i)
				}
				m.D = append(m.D, float32(1000*cpu), mem)
			}
		}
		for s := range schemas.Slots {
			for l := range schemas.NumLevels {
				x := float32(l) / (schemas.NumLevels - 1)
				m.Q[schemas.CPU] = append(m.Q[schemas.CPU], float32(1000*w.demand(i, 0, s)))
				m.Q[schemas.Memory] = append(m.Q[schemas.Memory], mem)
				m.Q[schemas.Net] = append(m.Q[schemas.Net], float32(4e6*v.level)*(1+x))
				m.Q[schemas.Disk] = append(m.Q[schemas.Disk], float32(3e6*v.level)*(1+x))
			}
		}
	}
	return m
}

// now0 is what VM i uses at the moment of the snapshot.
func (w *World) now0(i int) float64 {
	sum := 0.0
	for k := schemas.NumScenarios - 1; k < len(w.paths); k++ {
		sum += w.demand(i, k, 0)
	}
	return sum / futures
}

// expected is VM i's highest expected demand over the first slots, in cores, as a
// forecast of one number would tell it.
func (w *World) expected(i, slots int) float64 {
	top := 0.0
	for s := range slots {
		sum := 0.0
		for k := range schemas.NumScenarios - 1 {
			sum += w.demand(i, k, s)
		}
		top = max(top, sum/(schemas.NumScenarios-1))
	}
	return top
}

// Score is what a placement is worth.
type Score struct {
	Unmet    float64 `json:"unmet_core_hours"` // mean over futures, over the look-ahead
	Moves    int     `json:"moves"`
	GiB      float64 `json:"gib_moved"`
	Over     int     `json:"hosts_over_memory"`
	Together int     `json:"groups_broken"`
}

// Score judges where every VM is, by futures nobody has seen, over the first slots.
func (w *World) Score(at []int, slots int) Score {
	var out Score
	mem := make([]float64, w.hosts)
	seen := map[[2]int]bool{}
	for i := range w.vms {
		v := &w.vms[i]
		mem[at[i]] += v.mem
		if at[i] != v.host {
			out.Moves++
			out.GiB += v.mem
		}
		if v.group != 0 {
			if seen[[2]int{v.group, at[i]}] {
				out.Together++
			}
			seen[[2]int{v.group, at[i]}] = true
		}
	}
	for _, x := range mem {
		if x > gib {
			out.Over++
		}
	}
	load := make([]float64, w.hosts)
	for k := schemas.NumScenarios - 1; k < len(w.paths); k++ {
		for s := range slots {
			clear(load)
			for i := range w.vms {
				load[at[i]] += w.demand(i, k, s)
			}
			hours := float64(schemas.SlotLen(s)) * baseStep.Hours() / futures
			for _, x := range load {
				out.Unmet += max(0, x-cores) * hours
			}
		}
	}
	return out
}

// Stay is the placement as it is.
func (w *World) Stay() []int {
	at := make([]int, len(w.vms))
	for i := range at {
		at[i] = w.vms[i].host
	}
	return at
}

// Package console measures the console with a fleet of any size.
//
// What comes in: the number of hosts and VMs. What goes out: the memory of the
// console's own process, the size of its pages, how long a page takes and how long a
// change needs from the bus to an open page.
//
// What is promised: the fleet is invented but told in the messages a real one sends,
// over a real bus, to the console as it is started by people; the demand is a pure
// function of VM and step.
package console

import (
	"encoding/binary"
	"fmt"
	"iter"
	"math"
	"time"

	"github.com/foreshift/foreshift/schemas"
)

// Crowd is an invented fleet: VM v runs on host v modulo Hosts.
type Crowd struct {
	Hosts, VMs int
	Base       time.Duration
}

// Host is the name of host h; the first half is at site private.
func (c Crowd) Host(h int) schemas.HostID { return schemas.HostID(fmt.Sprintf("host-%04d", h)) }

func (c Crowd) site(h int) schemas.SiteID {
	if h < (c.Hosts+1)/2 {
		return "private"
	}
	return "public"
}

// VM is the id of VM v.
func (c Crowd) VM(v int) (id schemas.VMID) {
	id[6], id[8] = 0x40, 0x80
	binary.BigEndian.PutUint32(id[12:], uint32(v))
	binary.BigEndian.PutUint32(id[0:], uint32(v)*2654435761)
	return id
}

const (
	allocCPU = 2000 // mCPU
	allocMem = 4 << 30
)

// demand of a VM at a step, as a share of its size.
func (c Crowd) demand(v int, s schemas.Step) float64 {
	phase := float64(v%97) / 97
	day := math.Sin(2 * math.Pi * (float64(s%schemas.StepsPerDay)/schemas.StepsPerDay + .3*phase))
	return .35 + .25*day + .05*math.Sin(float64(int64(s)*int64(v%13+1))) + .2*float64(v%7)/7
}

// Capacity is what host h reports.
func (c Crowd) Capacity(h int, at schemas.Time) *schemas.CapacityHost {
	per := float64(c.VMs) / float64(c.Hosts)
	m := &schemas.CapacityHost{Host: c.Host(h), Site: c.site(h), Time: at, URI: "qemu:///system", CPUModel: "EPYC", Domain: fmt.Sprintf("rack-%02d", h/20), Speed: 1, Labels: map[string]string{},
		Capacity: schemas.Amounts{CPU: schemas.MilliCPU(allocCPU * per * .62), Mem: schemas.Bytes(allocMem * per * 1.2)}, Overcommit: schemas.Overcommit{CPU: 1, Mem: 1}, Pools: []schemas.StoragePool{}, VMs: []schemas.InventoryVM{}}
	s := schemas.StepAt(at, c.Base)
	for v := h; v < c.VMs; v += c.Hosts {
		m.VMs = append(m.VMs, schemas.InventoryVM{VM: c.VM(v), Name: fmt.Sprintf("vm-%05d", v), State: schemas.VMRunning, VCPUs: 2, AllocCPU: allocCPU, AllocMem: allocMem, Resident: allocMem / 2,
			Labels: map[string]string{"tier": []string{"web", "db", "batch"}[v%3]}, Disks: []schemas.VMDisk{}, Persistent: true, Movable: true, DirtyRate: 20e6, DirtyHigh: 30e6})
		m.Used.CPU += schemas.MilliCPU(allocCPU * c.demand(v, s))
		m.Used.Mem += allocMem * .6
	}
	return m
}

// members are the VMs of a partition.
func (c Crowd) members() (out [schemas.Partitions][]int) {
	for v := range c.VMs {
		p := c.VM(v).Partition()
		out[p] = append(out[p], v)
	}
	return out
}

// Steps are the messages of one closed step.
func (c Crowd) Steps(step schemas.Step) iter.Seq[*schemas.Steps] {
	return func(yield func(*schemas.Steps) bool) {
		for p, vms := range c.members() {
			m := &schemas.Steps{Partition: p, Step: step, Base: c.Base, Lease: 1}
			for _, v := range vms {
				d := float32(c.demand(v, step))
				m.VM, m.Host, m.Coverage, m.Flags = append(m.VM, c.VM(v)), append(m.Host, c.Host(v%c.Hosts)), append(m.Coverage, 1), append(m.Flags, 0)
				m.AllocCPU, m.AllocMem = append(m.AllocCPU, allocCPU), append(m.AllocMem, allocMem)
				m.Cols[schemas.ColCPU], m.Cols[schemas.ColMem] = append(m.Cols[schemas.ColCPU], allocCPU*d), append(m.Cols[schemas.ColMem], allocMem*(.5+.2*d))
			}
			if !yield(m) {
				return
			}
		}
	}
}

// Forecasts are the messages of one issue: whole grids, K joint scenarios.
func (c Crowd) Forecasts(issued schemas.Step) iter.Seq[*schemas.Forecasts] {
	const k = schemas.NumScenarios
	weight := make([]float32, k*schemas.Slots)
	for i := range weight {
		weight[i] = 1. / k
	}
	origins := make([]schemas.Step, k)
	for i := range origins {
		origins[i] = issued - schemas.Step(i*24)
	}
	return func(yield func(*schemas.Forecasts) bool) {
		for p, vms := range c.members() {
			chunks := (len(vms) + schemas.MaxForecastVMs - 1) / schemas.MaxForecastVMs
			for n := range chunks {
				part := vms[n*schemas.MaxForecastVMs : min(len(vms), (n+1)*schemas.MaxForecastVMs)]
				m := &schemas.Forecasts{Partition: p, Chunk: n, Chunks: chunks, Issued: issued, Grid: schemas.Grid{Start: issued + 1}, Base: c.Base, Lease: 1, Model: "invented", K: k, Origins: origins, Weight: weight}
				for _, v := range part {
					m.VM, m.Host = append(m.VM, c.VM(v)), append(m.Host, c.Host(v%c.Hosts))
					m.AllocCPU, m.AllocMem = append(m.AllocCPU, allocCPU), append(m.AllocMem, allocMem)
					c.quantiles(m, v)
					for s := range k {
						for slot := range schemas.Slots {
							d := float32(c.demand(v, issued+1+schemas.Step(schemas.SlotOffset(slot)))) * (.9 + .02*float32(s))
							m.D = append(m.D, allocCPU*d, allocMem*(.5+.2*d))
						}
					}
				}
				if !yield(m) {
					return
				}
			}
		}
	}
}

func (c Crowd) quantiles(m *schemas.Forecasts, v int) {
	for r, size := range [schemas.NumResources]float32{allocCPU, allocMem, 20e6, 10e6} {
		for slot := range schemas.Slots {
			d := float32(c.demand(v, m.Grid.Start+schemas.Step(schemas.SlotOffset(slot))))
			for _, l := range schemas.Levels {
				m.Q[r] = append(m.Q[r], size*d*(.9+.2*l))
			}
		}
	}
}

// Pressures are what is told of every host and VM: a tenth of the VMs is pressed
// hard, with its reasons and with the hosts it does not go to.
func (c Crowd) Pressures(at schemas.Time) iter.Seq[schemas.Message] {
	return func(yield func(schemas.Message) bool) {
		for h := range c.Hosts {
			score := schemas.Ratio(h%10) / 10
			if !yield(&schemas.PressureHost{Host: c.Host(h), Site: c.site(h), Time: at, Resource: "cpu", Score: score, Chances: chances(score), Onset: at.Add(2 * time.Hour), Peak: 12000, Limit: 11000, Why: why(3)}) {
				return
			}
		}
		for v := range c.VMs {
			host := c.Host(v % c.Hosts)
			score := schemas.Ratio(v%c.Hosts%10) / 10
			own := schemas.Ratio(v%50) / 500
			hard := score >= .9
			var reasons []schemas.Why
			if hard {
				reasons = why(3)
			}
			out := []schemas.Message{
				&schemas.PressureVM{VM: c.VM(v), Host: host, Cause: schemas.CauseHostContention, Time: at, Resource: "cpu", Score: score, Chances: chances(score), Onset: at.Add(2 * time.Hour), Peak: 12000, Limit: 11000, Why: reasons},
				&schemas.PressureVM{VM: c.VM(v), Host: host, Cause: schemas.CauseOwnLimit, Time: at, Resource: "memory", Score: own, Chances: chances(own), Peak: 3e9, Limit: allocMem, Why: []schemas.Why{}}}
			if hard {
				b := &schemas.Benefit{VM: c.VM(v), Host: host, Time: at, Destination: c.Host((v + 1) % c.Hosts), Gain: schemas.Gain{Before: 100, After: 20, Cost: 3, Benefit: 77, Ratio: .77, Terms: []schemas.Term{}}, Reason: schemas.Reason{Code: schemas.ReasonOK}, WhyNot: []schemas.Decline{}}
				for k := range 16 {
					b.WhyNot = append(b.WhyNot, schemas.Decline{VM: c.VM(v), Host: c.Host((v + 2 + k) % c.Hosts), Reason: schemas.Reason{Code: schemas.ReasonNoBenefit, Detail: "saves 12.3 core-seconds, costs 14.8"}, Score: -2})
				}
				out = append(out, b)
			}
			for _, m := range out {
				if !yield(m) {
					return
				}
			}
		}
	}
}

func chances(s schemas.Ratio) map[string]schemas.Chance {
	return map[string]schemas.Chance{"cpu": {H1: s / 2, H6: s * .8, H24: s}, "memory": {H24: s / 10}, "net": {}, "disk": {}}
}

func why(n int) (out []schemas.Why) {
	for i := range n {
		out = append(out, schemas.Why{Kind: "neighbour", Text: fmt.Sprintf("vm-%05d asks for 1.70 cores, 13 %% of the host's demand then", i), Share: .13})
	}
	return out
}

package sim

import (
	"encoding/binary"
	"fmt"
	"math"
	"net"
	"slices"
	"sort"
	"strings"

	"github.com/foreshift/foreshift/internal/sim/load"
	"github.com/foreshift/foreshift/internal/sim/world"
	"github.com/foreshift/foreshift/schemas"
)

// Host is one simulated host.
type Host struct {
	ID       schemas.HostID
	Site     schemas.SiteID
	Address  string          // its own loopback address
	URI      string          // qemu+tcp://ADDRESS:PORT/system; complete once the fleet listens
	Capacity schemas.Amounts // for VMs
	Speed    schemas.Ratio
	CPUModel string
	Lacks    []string // features that guests' CPUs want and this host's has not
	Domain   string   // failure domain
	Labels   map[string]string
	UUID     schemas.VMID
}

// memory is all that the host has: what its VMs may use, and what its own system takes.
func (h *Host) memory() float64 { return float64(h.Capacity.Mem) + world.HostMemory }

// VM is one simulated VM and where it begins.
type VM struct {
	ID       schemas.VMID
	Name     string
	Class    string
	Host     schemas.HostID
	VCPUs    int
	AllocCPU schemas.MilliCPU
	AllocMem schemas.Bytes
	Disk     schemas.Bytes
	Labels   map[string]string
}

// Rules of sizing, as shares of the fleet's capacity or of a host's.
const (
	fleetPeak = .66 // of the fleet's CPU wanted at the usual daily peak
	hotPeak   = 1.2 // of its CPU wanted on a hot host at that time
	memRoom   = 1.7 // memory of the hosts over memory of the VMs
)

func uuidOf(seed uint64, kind, i int) (id schemas.VMID) {
	a := uint64(load.Unit(seed, uint64(kind), uint64(i), 1) * (1 << 53))
	b := uint64(load.Unit(seed, uint64(kind), uint64(i), 2) * (1 << 53))
	binary.BigEndian.PutUint64(id[:], a<<11|a>>42)
	binary.BigEndian.PutUint64(id[8:], b<<11|b>>42)
	id[6], id[8] = id[6]&15|0x40, id[8]&63|0x80
	return id
}

// class deals the classes out in fixed shares, evenly over the VMs.
func class(i int) load.Class {
	deal := [...]load.Class{load.Web, load.Database, load.Web, load.Batch, load.Web, load.Office, load.Web, load.Idle,
		load.Web, load.Database, load.Web, load.Flash, load.Web, load.Office, load.Web, load.Batch, load.Web, load.Idle, load.Web, load.Database}
	return deal[i%len(deal)]
}

// profiles makes the VMs of the synthetic week.
func profiles(seed uint64, n int) []load.Profile {
	out := make([]load.Profile, n)
	for i := range out {
		u := func(purpose uint64) float64 { return load.Unit(seed, 1000+purpose, uint64(i)) }
		p := load.Profile{Seed: seed<<20 ^ uint64(i)*0x9e3779b97f4a7c15, Class: class(i), Level: .55 + .3*u(1)}
		switch p.Class {
		case load.Idle, load.Office:
			p.VCPUs = 1 + int(2*u(2))
		case load.Web:
			p.VCPUs = 2 + int(2*u(2))
			if u(3) > .85 { // some serve another part of the world
				p.Zone = 84 + int(48*u(4))
			} else {
				p.Zone = int(9*u(4)) - 4
			}
		default:
			p.VCPUs = 2 + int(2.4*u(2))
			p.Level = .4 + .25*u(1)
		}
		if p.Class == load.Batch {
			p.Level = .85
		}
		p.Mem = float64(int(1)<<30) * math.Round(1+float64(p.VCPUs)*(.5+.7*u(5)))
		out[i] = p
	}
	return out
}

// vmsOf names the profiles.
func vmsOf(seed uint64, ps []load.Profile) []VM {
	count := map[string]int{}
	vms := make([]VM, len(ps))
	for i, p := range ps {
		c := p.Class.String()
		count[c]++
		vms[i] = VM{ID: uuidOf(seed, 2, i), Name: fmt.Sprintf("%s-%02d", c, count[c]), Class: c, VCPUs: p.VCPUs,
			AllocCPU: schemas.MilliCPU(1000 * p.VCPUs), AllocMem: schemas.Bytes(p.Mem),
			Disk:   schemas.Bytes(float64(int64(8+8*int(4*load.Unit(seed, 9, uint64(i))))) * (1 << 30)),
			Labels: map[string]string{"class": c}}
	}
	return vms
}

// vmsOfTrace makes VMs in the size of a trace's.
func vmsOfTrace(seed uint64, t *load.Trace, n int) []VM {
	vms := make([]VM, n)
	for i := range vms {
		vcpus, mem := t.Size(i)
		name := strings.Map(func(r rune) rune {
			if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '_' {
				return r
			}
			return '-'
		}, t.Names[i%len(t.Names)])
		if i >= len(t.Names) {
			name = fmt.Sprintf("%s-%d", name, i/len(t.Names))
		}
		vms[i] = VM{ID: uuidOf(seed, 2, i), Name: name, Class: "trace", VCPUs: vcpus, AllocCPU: schemas.MilliCPU(1000 * vcpus),
			AllocMem: schemas.Bytes(mem), Disk: 16 << 30, Labels: map[string]string{"class": "trace"}}
	}
	return vms
}

// hostsOf sizes the hosts for the VMs and gives each an address.
func hostsOf(c *Config, vms []VM, src *load.Source) []Host {
	peak, mem, largest := 0.0, 0.0, 0.0
	for tod := 0; tod < schemas.StepsPerDay; tod += 4 {
		peak = max(peak, src.Usual(tod))
	}
	vcpus := 0
	for _, v := range vms {
		mem += float64(v.AllocMem)
		largest = max(largest, float64(v.AllocMem))
		vcpus = max(vcpus, v.VCPUs)
	}
	n := float64(c.Hosts)
	cores := math.Max(math.Round(peak/n/1000/fleetPeak), math.Max(2, float64(vcpus)))
	gib := math.Ceil(math.Max(mem*memRoom/n, 1.5*largest)/(1<<30)/8) * 8
	if c.Hosts == 1 {
		gib = math.Ceil(mem*1.1/(1<<30)/8)*8 + 8
	}
	var hosts []Host
	for _, s := range c.Sites {
		for k := 1; k <= s.Hosts; k++ {
			i := len(hosts) + 1
			hosts = append(hosts, Host{
				ID: schemas.HostID(fmt.Sprintf("%s-%d", s.ID, k)), Site: s.ID, Address: net.IPv4(127, 77, byte(i>>8), byte(i)).String(),
				Capacity: schemas.Amounts{CPU: schemas.MilliCPU(cores * 1000), Mem: schemas.Bytes(gib * (1 << 30)), Net: c.NICBandwidth},
				Speed:    1, CPUModel: "Skylake-Server", Domain: fmt.Sprintf("%s-rack-%d", s.ID, (k+1)/2),
				Lacks: c.Lacking[i-1], Labels: map[string]string{"kind": s.Kind, "site": string(s.ID)}, UUID: uuidOf(c.Seed, 1, i)})
		}
	}
	return hosts
}

// place gives every VM its first host. One host in four is made hot: it gets VMs
// that are busiest at the fleet's peak until it will want hotPeak of its CPU then.
// The rest go, largest first, to the host that will be least busy at its worst
// time. Memory fits everywhere. Only usual days are looked at, as a person would.
func place(hosts []Host, vms []VM, src *load.Source) error {
	const stride = 12
	slots := schemas.StepsPerDay / stride
	usual := make([][]float64, len(vms))
	own := make([]float64, len(vms)) // each VM's own peak
	sum := make([]float64, slots)
	for i := range vms {
		usual[i] = make([]float64, slots)
		for k := range usual[i] {
			usual[i][k] = src.UsualOf(i, k*stride)
			sum[k] += usual[i][k]
		}
		own[i] = slices.Max(usual[i])
	}
	top := 0
	for k := range sum {
		if sum[k] > sum[top] {
			top = k
		}
	}
	order := make([]int, len(vms))
	for i := range order {
		order[i] = i
	}
	sort.SliceStable(order, func(a, b int) bool { return usual[order[a]][top] > usual[order[b]][top] })

	wanted := make([][]float64, len(hosts))
	mem := make([]float64, len(hosts))
	for h := range hosts {
		wanted[h] = make([]float64, slots)
		mem[h] = 1 << 30
	}
	placed := make([]bool, len(vms))
	put := func(i, h int) {
		placed[i], vms[i].Host = true, hosts[h].ID
		mem[h] += float64(vms[i].AllocMem)
		for k, x := range usual[i] {
			wanted[h][k] += x
		}
	}
	for h := 0; h < max(1, len(hosts)/4) && len(hosts) > 1; h++ {
		target := (hotPeak - .07*float64(h%2)) * float64(hosts[h].Capacity.CPU)
		for _, i := range order {
			fits := usual[i][top] >= .7*own[i] && wanted[h][top]+usual[i][top] <= target && mem[h]+float64(vms[i].AllocMem) <= .92*float64(hosts[h].Capacity.Mem)
			if !placed[i] && fits {
				put(i, h)
			}
		}
	}
	for _, i := range order {
		if placed[i] {
			continue
		}
		best, least := -1, math.Inf(1)
		for h := range hosts {
			if mem[h]+float64(vms[i].AllocMem) > float64(hosts[h].Capacity.Mem) {
				continue
			}
			worst, c := 0.0, float64(hosts[h].Capacity.CPU)
			for k, x := range usual[i] {
				if worst = max(worst, wanted[h][k]+x); worst >= least*c {
					break
				}
			}
			if worst /= c; worst < least {
				best, least = h, worst
			}
		}
		if best < 0 {
			return fmt.Errorf("sim: no host has memory for VM %s of %.0f bytes", vms[i].Name, float64(vms[i].AllocMem))
		}
		put(i, best)
	}
	return nil
}

package forecastaware

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
)

// Family describes instances in which demand, links and K trade off. Hosts stand in
// sites a few time zones apart, so that one site's peak is another's night; the
// machines that would best cross are large, and the links take only some of them;
// inside a site there is room for small moves that gain less each, and K is less
// than what it takes to mend everything with those.
type Family struct {
	Sites int     // at least 1
	Hosts int     // at each site
	VMs   int     // per host, on average
	Slots int     // of the horizon, a day
	K     int     // most moves
	Load  float64 // mean demand of the fleet as a share of its cores
	Skew  float64 // 0: VMs are spread evenly; 1: the first hosts of a site hold twice their share
	Link  float64 // memory that may cross each link, as a share of a site's memory in use
	Seed  uint64
}

// DefaultFamily is of middle size.
func DefaultFamily(seed uint64) Family {
	return Family{Sites: 3, Hosts: 20, VMs: 10, Slots: 24, K: 45, Load: .55, Skew: .6, Link: .06, Seed: seed}
}

const hostCores, hostMemory = 38, 256

// Validate reports all that is wrong.
func (f Family) Validate() error {
	var errs []error
	if f.Sites < 1 || f.Hosts < 1 || f.VMs < 1 || f.Slots < 1 || f.K < 0 ||
		f.Sites > MaxHosts/max(f.Hosts, 1) || f.VMs > MaxCells/max(f.Slots, 1)/max(f.Hosts*f.Sites, 1) {
		errs = append(errs, fmt.Errorf("sites %d, hosts %d, VMs %d, slots %d, K %d: must be above 0 (K: not below) and within the bounds of an instance", f.Sites, f.Hosts, f.VMs, f.Slots, f.K))
	}
	for _, x := range []struct {
		name  string
		value float64
		most  float64
	}{{"load", f.Load, 1}, {"skew", f.Skew, 1}, {"link", f.Link, 1}} {
		if !(x.value >= 0 && x.value <= x.most) {
			errs = append(errs, fmt.Errorf("%s %g is not within 0..%g", x.name, x.value, x.most))
		}
	}
	return errors.Join(errs...)
}

// Generate makes the instance; the same family and seed always make the same.
func (f Family) Generate() (*Instance, error) {
	if err := f.Validate(); err != nil {
		return nil, fmt.Errorf("forecast-aware: generate: %w", err)
	}
	r := rand.New(rand.NewPCG(f.Seed, 0x666f7265))
	in := &Instance{H: f.Sites * f.Hosts, V: f.Sites * f.Hosts * f.VMs, T: f.Slots, Thr: .7, K: f.K}
	for h := range in.H {
		in.Cores = append(in.Cores, hostCores)
		in.Mem = append(in.Mem, hostMemory)
		in.Site = append(in.Site, h/f.Hosts)
	}
	held := make([]float64, in.H)
	for range in.V {
		site := r.IntN(f.Sites)
		m := f.machine(r, site)
		at, ok := f.host(r, site, held, m.Mem)
		if !ok {
			continue // the site is full
		}
		held[at] += m.Mem
		in.VMs = append(in.VMs, m)
		in.Cur = append(in.Cur, at)
	}
	in.V = len(in.VMs)
	in.scale(f.Load)
	for a := range f.Sites {
		used := 0.0
		for _, m := range held[a*f.Hosts:][:f.Hosts] {
			used += m
		}
		row := make([]float64, f.Sites)
		for b := range row {
			if a != b {
				row[b] = math.Round(f.Link * used)
			}
		}
		in.Link = append(in.Link, row)
	}
	return in, in.Validate()
}

// machine draws a VM: its size, how much of it the day moves, and its hour.
func (f Family) machine(r *rand.Rand, site int) VM {
	cores := float64(int(2) << r.IntN(4)) // 2, 4, 8, 16
	m := VM{Cores: cores, Mem: cores * float64(int(1)<<r.IntN(3))}
	daily := .3 + .6*r.Float64()
	peak := float64(site)/float64(f.Sites) + .08*r.NormFloat64()
	walk := 0.0
	for t := range f.Slots {
		walk = .8*walk + .08*r.NormFloat64()
		day := .5 + .5*math.Cos(2*math.Pi*(float64(t)/float64(f.Slots)-peak))
		share := .15 + daily*day*day + walk
		m.Demand = append(m.Demand, cores*math.Min(1, math.Max(.02, share)))
	}
	return m
}

// host draws a host of the site with room; the first half of them more often, by the
// skew.
func (f Family) host(r *rand.Rand, site int, held []float64, mem float64) (int, bool) {
	for range 16 {
		h := r.IntN(f.Hosts)
		if h >= (f.Hosts+1)/2 && r.Float64() < f.Skew/(1+f.Skew) {
			h = r.IntN((f.Hosts + 1) / 2)
		}
		if h += site * f.Hosts; held[h]+mem <= .85*hostMemory {
			return h, true
		}
	}
	return 0, false
}

// scale brings the mean demand to a share of all cores.
func (in *Instance) scale(load float64) {
	sum := 0.0
	for _, m := range in.VMs {
		for _, d := range m.Demand {
			sum += d
		}
	}
	if sum == 0 {
		return
	}
	by := load * hostCores * float64(in.H*in.T) / sum
	for _, m := range in.VMs {
		for t := range m.Demand {
			m.Demand[t] *= by
		}
	}
}

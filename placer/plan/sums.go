package plan

import (
	"math"

	"github.com/foreshift/foreshift/placer/fleet"
	"github.com/foreshift/foreshift/placer/policy"
	"github.com/foreshift/foreshift/schemas"
)

// correlation is what the spread of two VMs' network or disk traffic is taken to
// have in common. Adding upper quantiles as if all VMs peaked together (1) sees a
// shortage on every host; adding variances as if they were strangers (0) misses
// the common bursts. With it the .9 quantile of a sum is
//
//	sum(mid) + sqrt(rho*sum(spread)^2 + (1-rho)*sum(spread^2))
//
// for VMs of median mid and .9 quantile mid+spread. CPU and memory need no such
// figure: their joint scenarios are added path by path.
const correlation = .3

// z90 turns a spread (.9 quantile less median) into a standard deviation.
const z90 = 1.2815515655446004

// traffic sums one resource of one slot over the VMs of a host.
type traffic struct{ mid, spread, square float64 }

func (t traffic) upper() float64 { return t.mid + t.width() }

func (t traffic) width() float64 {
	return math.Sqrt(max(0, correlation*t.spread*t.spread+(1-correlation)*t.square))
}

func (t traffic) plus(mid, spread float32, sign float64) traffic {
	m, d := float64(mid), float64(spread)
	return traffic{t.mid + sign*m, t.spread + sign*d, t.square + sign*d*d}
}

// sums are the demands of all hosts, path by path, and what they cost. Host h has
// cpu[h*full:(h+1)*full], slot-major; the first n entries are the look-ahead.
type sums struct {
	v       *fleet.View
	k, s    int       // scenarios, slots of the look-ahead
	n, full int       // s*k, Slots*k
	w       []float32 // n: weight of a scenario times the slot's seconds, per mCPU in core-seconds
	secs    []float64 // s: length of a slot in seconds
	soft    float64   // load above this share of capacity costs
	alpha   float32   // this much, relative to unmet demand
	q       float64   // memory must fit at this quantile

	cpu, mem []float32
	nd       [][2]traffic // host*Slots+slot: net, disk
	share    []float64    // sum of weight times allocation of the host's VMs
	alloc    []float64    // sum of allocation
	// Highest memory and CPU of any path within the look-ahead: what stays below its
	// limit even so needs no summing.
	memPeak, cpuPeak []float32
	cost             []float64 // expected unmet demand, weighted core-seconds

	vmWeight, vmAlloc []float64
	vmPeak, vmCPUPeak []float32
}

func newSums(v *fleet.View, p policy.Policy) *sums {
	s := &sums{v: v, k: v.K, s: schemas.SlotsWithin(p.LookAheadSteps), soft: float64(p.SoftCapacity), alpha: float32(p.SoftWeight), q: float64(p.MemQuantile)}
	s.n, s.full = s.s*s.k, schemas.Slots*s.k
	s.w, s.secs = make([]float32, s.n), make([]float64, s.s)
	for i := 0; i < s.s; i++ {
		s.secs[i] = float64(schemas.SlotLen(i)) * v.Base.Seconds()
		for k := 0; k < s.k; k++ {
			s.w[i*s.k+k] = v.Weight[i*s.k+k] * float32(s.secs[i]/1000)
		}
	}
	nh, nv := len(v.Hosts), len(v.VMs)
	s.cpu, s.mem = make([]float32, nh*s.full), make([]float32, nh*s.full)
	s.nd = make([][2]traffic, nh*schemas.Slots)
	s.share, s.alloc, s.cost, s.memPeak, s.cpuPeak = make([]float64, nh), make([]float64, nh), make([]float64, nh), make([]float32, nh), make([]float32, nh)
	s.vmWeight, s.vmAlloc, s.vmPeak, s.vmCPUPeak = make([]float64, nv), make([]float64, nv), make([]float32, nv), make([]float32, nv)
	for i := range v.VMs {
		m := &v.VMs[i]
		s.vmWeight[i] = policy.Weight(p, m.Inv.Labels)
		s.vmAlloc[i] = max(1, float64(m.Inv.AllocCPU))
		s.vmPeak[i], s.vmCPUPeak[i] = highest(m.Mem[:s.n]), highest(m.CPU[:s.n])
		s.add(i, int(m.Host), 1, 0, 0)
		if m.Dest >= 0 {
			s.move(i, int(m.Host), int(m.Dest), m.From)
			// Its memory is held at both ends until the move is seen to have ended.
			s.addPath(s.mem, int(m.Host), m.Mem, 1, m.From)
		}
	}
	for h := range v.Hosts {
		s.refresh(h)
	}
	return s
}

// refresh recomputes what is cached of a host.
func (s *sums) refresh(h int) {
	s.memPeak[h] = highest(s.mem[h*s.full : h*s.full+s.n])
	s.cpuPeak[h] = highest(s.cpu[h*s.full : h*s.full+s.n])
	s.cost[h] = s.hostCost(h, -1, 0, 0)
}

func highest(path []float32) float32 {
	top := float32(0)
	for _, x := range path {
		if x > top {
			top = x
		}
	}
	return top
}

func (s *sums) addPath(dst []float32, h int, d []float32, sign float32, from int) {
	a := dst[h*s.full : (h+1)*s.full]
	for i := from * s.k; i < len(a); i++ {
		a[i] += sign * d[i]
	}
}

// add counts VM i on host h from slot from on; its memory from slot memFrom on.
func (s *sums) add(i, h int, sign float64, from, memFrom int) {
	m := &s.v.VMs[i]
	s.addPath(s.cpu, h, m.CPU, float32(sign), from)
	s.addPath(s.mem, h, m.Mem, float32(sign), memFrom)
	if m.Mid != nil {
		for t := from; t < schemas.Slots; t++ {
			nd := &s.nd[h*schemas.Slots+t]
			for j := range nd {
				nd[j] = nd[j].plus(m.Mid[j][t], m.Spread[j][t], sign)
			}
		}
	}
	s.share[h] += sign * s.vmWeight[i] * s.vmAlloc[i]
	s.alloc[h] += sign * s.vmAlloc[i]
}

// move takes VM i from a to b at slot from; b holds its memory from now on.
func (s *sums) move(i, a, b, from int) {
	s.add(i, a, -1, from, from)
	s.add(i, b, 1, from, 0)
}

// hostCost is the expected unmet demand of host h over the look-ahead in weighted
// core-seconds, with VM i (-1: none) added (sign 1) or taken away (sign -1) from
// slot from on:
//
//	sum over slots and scenarios of W * seconds * (max(0, x-C) + alpha*max(0, x-soft*C))
//
// Memory, net and disk above capacity count as the same share of the host's cores.
// Unmet demand weighs what the host's VMs weigh, by allocation, since all of them
// share a contended host.
func (s *sums) hostCost(h, i int, sign float32, from int) float64 {
	host := &s.v.Hosts[h]
	share, alloc := s.share[h], s.alloc[h]
	var dc, dm []float32
	if i >= 0 {
		m := &s.v.VMs[i]
		dc, dm = m.CPU[:s.n], m.Mem[:s.n]
		share += float64(sign) * s.vmWeight[i] * s.vmAlloc[i]
		alloc += float64(sign) * s.vmAlloc[i]
	}
	c := float32(host.Cap[schemas.CPU])
	at := min(from*s.k, s.n)
	cm := float32(host.Cap[schemas.Memory])
	bound, cpuBound := s.memPeak[h], s.cpuPeak[h]
	if i >= 0 && sign > 0 {
		bound += s.vmPeak[i]
		cpuBound += s.vmCPUPeak[i]
	}
	sum := 0.0
	if soft := c * float32(s.soft); cpuBound > soft {
		sum = over(s.cpu[h*s.full:h*s.full+s.n], dc, s.w, sign, at, c, soft, s.alpha)
	}
	if bound > cm {
		memAt := at
		if sign > 0 {
			memAt = 0 // reserved at once
		}
		sum += over(s.mem[h*s.full:h*s.full+s.n], dm, s.w, sign, memAt, cm, cm, 0) * float64(c) / float64(cm)
	}
	for j, r := range [2]schemas.Resource{schemas.Net, schemas.Disk} {
		if limit := host.Cap[r]; limit > 0 {
			sum += s.trafficOver(h, i, j, float64(sign), from, limit) * host.Cap[schemas.CPU] / limit / 1000
		}
	}
	if alloc > 0.5 {
		sum *= share / alloc
	}
	return sum
}

// over sums w * (excess over c + alpha * excess over soft) of load, to which
// sign*d is added from entry at on; d may be nil. It has no branch in the loop:
// whether a scenario exceeds is as good as random, and a wrong guess of the
// processor costs more than the sum.
func over(load, d, w []float32, sign float32, at int, c, soft, alpha float32) float64 {
	var some, all float32
	w = w[:len(load)]
	if d == nil {
		at = len(load)
	}
	gap := c - soft
	for i, x := range load[:at] {
		e := positive(x - soft)
		some += w[i] * e
		all += w[i] * positive(e-gap)
	}
	tail := load[at:]
	if len(tail) > 0 {
		d, w = d[at:][:len(tail)], w[at:][:len(tail)]
		for i, x := range tail {
			e := positive(x + sign*d[i] - soft)
			some += w[i] * e
			all += w[i] * positive(e-gap)
		}
	}
	return float64(alpha)*float64(some) + float64(all)
}

// positive is max(0, x) without a branch: a negative sign clears all bits.
func positive(x float32) float32 {
	u := math.Float32bits(x)
	return math.Float32frombits(u &^ uint32(int32(u)>>31))
}

// trafficOver sums what the .9 quantile of net (j 0) or disk (j 1) is above limit
// over the look-ahead, in bytes.
func (s *sums) trafficOver(h, i, j int, sign float64, from int, limit float64) float64 {
	sum := 0.0
	for t := 0; t < s.s; t++ {
		x := s.nd[h*schemas.Slots+t][j]
		if i >= 0 && t >= from {
			if m := &s.v.VMs[i]; m.Mid != nil {
				x = x.plus(m.Mid[j][t], m.Spread[j][t], sign)
			}
		}
		sum += max(0, x.upper()-limit) * s.secs[t]
	}
	return sum
}

// delta is the change of the objective when VM i leaves a for b at slot from:
// below 0 is better.
func (s *sums) delta(i, a, b, from int) float64 {
	return s.hostCost(a, i, -1, from) - s.cost[a] + s.hostCost(b, i, 1, from) - s.cost[b]
}

// memFits reports whether VM i's memory fits on host b at the policy's quantile in
// every slot of the look-ahead: the scenarios in which it would not weigh at most
// 1-q.
func (s *sums) memFits(i, b int) bool {
	room := float32(s.v.Hosts[b].Room)
	if s.memPeak[b]+s.vmPeak[i] <= room {
		return true
	}
	load, d := s.mem[b*s.full:b*s.full+s.n], s.v.VMs[i].Mem
	for t := 0; t < s.s; t++ {
		out := 0.0
		for k := t * s.k; k < (t+1)*s.k; k++ {
			if load[k]+d[k] > room {
				out += float64(s.v.Weight[k])
			}
		}
		if out > 1-s.q+1e-6 {
			return false
		}
	}
	return true
}

// trafficFits says which of net and disk VM i would take above b's capacity at the
// .9 quantile, and whether both fit.
func (s *sums) trafficFits(i, b, from int) (schemas.Resource, bool) {
	host := &s.v.Hosts[b]
	m := &s.v.VMs[i]
	if m.Mid == nil {
		return 0, true
	}
	for j, r := range [2]schemas.Resource{schemas.Net, schemas.Disk} {
		limit := host.Cap[r]
		if limit <= 0 {
			continue
		}
		for t := min(from, s.s); t < s.s; t++ {
			if s.nd[b*schemas.Slots+t][j].plus(m.Mid[j][t], m.Spread[j][t], 1).upper() > limit && m.Mid[j][t]+m.Spread[j][t] > 0 {
				return r, false
			}
		}
	}
	return 0, true
}

// total is the objective of the whole fleet.
func (s *sums) total() float64 {
	t := 0.0
	for h := range s.cost {
		t += s.cost[h]
	}
	return t
}

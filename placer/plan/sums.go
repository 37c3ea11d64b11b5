package plan

import (
	"math"

	"github.com/foreshift/foreshift/placer/fleet"
	"github.com/foreshift/foreshift/placer/policy"
	"github.com/foreshift/foreshift/schemas"
)

// sums are the demands of all hosts over the look-ahead, path by path, and what they
// cost. Paths are slot-major: host h has cpu[h*n:(h+1)*n].
//
// What is added is whole: mCPU, MiB, kB/s; what it is compared with, too. Sums of whole numbers are exact in a
// float whatever their order, so a move that is made and taken back leaves no trace,
// an incremental delta is the difference of two evaluations from scratch, and the
// order of the inputs cannot matter.
type sums struct {
	v     *fleet.View
	k, s  int       // scenarios, slots of the look-ahead
	n     int       // s*k
	w     []float32 // n: weight of a scenario times the slot's seconds, per mCPU in core-seconds
	chain []float32 // n: weight of a scenario
	secs  []float64 // s: length of a slot in seconds
	soft  float64   // load above this share of capacity costs
	alpha float32   // this much, relative to unmet demand
	q     float64   // memory must fit at this quantile

	// By VM: its paths, the highest of any path by slot, its highest memory; what memory
	// it is promised.
	vcpu, vmem, vtop, vpeak []float32
	vpromise                []float32
	vweight, valloc         []float64
	vtraffic                [][2]float64 // highest .9 quantile of net and disk

	// By host: capacity, memory that may be promised, paths, bounds of the paths.
	capCPU, capMem, room []float32
	cpu, mem             []float32
	end                  []float32         // memory by place at the end of all moves, in every slot
	top                  []float32         // s: highest CPU of any path in the slot
	memTop, endTop       []float32         // highest memory of any path, or above it: see exact
	promised             []float32         // memory promised to its VMs at the end of all moves
	nd                   [][2]traffic      // Slots: net, disk
	ndTop                [][2]float64      // highest .9 quantile of net and disk, or above it
	late                 []late            // what mem, end and nd do not count yet
	limit                [][2]float64      // kB/s; 0 = not limited
	share, alloc         []float64         // sum of weight times allocation of its VMs; of allocation
	cost                 []float64         // expected unmet demand, weighted core-seconds
	stamp                []uint32          // changes with every change of the host
	grid                 [2][]float32      // CPU and memory over the whole grid, as it is without a plan
	arriving             map[int32][]int32 // VMs on their way to a host
}

const mib = 1 << 20

func newSums(v *fleet.View, p policy.Policy) *sums {
	s := &sums{v: v, k: v.K, s: schemas.SlotsWithin(p.LookAheadSteps), soft: float64(p.SoftCapacity), alpha: float32(p.SoftWeight), q: float64(p.MemQuantile), arriving: map[int32][]int32{}}
	s.n = s.s * s.k
	s.chain = v.Weight[:s.n]
	s.w, s.secs = make([]float32, s.n), make([]float64, s.s)
	for t := range s.secs {
		s.secs[t] = float64(schemas.SlotLen(t)) * v.Base.Seconds()
		for k := 0; k < s.k; k++ {
			s.w[t*s.k+k] = v.Weight[t*s.k+k] * float32(s.secs[t]/1000)
		}
	}
	s.fillVMs(p)
	s.fillHosts()
	for i := range v.VMs {
		m := &v.VMs[i]
		s.add(i, int(m.Host), 1, 0, 0)
		s.addGrid(i, int(m.Host), 1, 0, 0)
		if m.Dest >= 0 {
			s.arriving[m.Dest] = append(s.arriving[m.Dest], int32(i))
			s.move(i, int(m.Host), int(m.Dest), m.From)
			s.addGrid(i, int(m.Host), -1, m.From, schemas.Slots)
			s.addGrid(i, int(m.Dest), 1, m.From, 0)
			s.linger(i, int(m.Host), m.From)
		}
	}
	for h := range v.Hosts {
		s.late[h].unsure = true
		s.exact(h)
		s.refresh(h)
	}
	return s
}

func (s *sums) fillVMs(p policy.Policy) {
	nv := len(s.v.VMs)
	s.vcpu, s.vmem, s.vtop, s.vpeak = make([]float32, nv*s.n), make([]float32, nv*s.n), make([]float32, nv*s.s), make([]float32, nv)
	s.vpromise = make([]float32, nv)
	s.vweight, s.valloc, s.vtraffic = make([]float64, nv), make([]float64, nv), make([][2]float64, nv)
	for i := range s.v.VMs {
		m := &s.v.VMs[i]
		// Weights are cut to steps that a float adds without error.
		s.vweight[i] = math.Round(1024*policy.Weight(p, m.Inv.Labels)) / 1024
		s.valloc[i] = max(1, math.Round(float64(m.Inv.AllocCPU)))
		cpu, mem := s.vcpu[i*s.n:(i+1)*s.n], s.memory(i)
		for j := range cpu {
			cpu[j] = float32(int64(m.CPU[j] + .5))
			mem[j] = float32(math.Ceil(float64(m.Mem[j]) / mib))
		}
		tops(s.vtop[i*s.s:(i+1)*s.s], cpu)
		s.vpeak[i] = highest(mem)
		if s.vpromise[i] = float32(math.Ceil(float64(m.Inv.AllocMem) / mib)); m.Inv.AllocMem <= 0 {
			s.vpromise[i] = s.vpeak[i]
		}
		if m.Mid != nil {
			for t := 0; t < s.s; t++ {
				for j := range s.vtraffic[i] {
					s.vtraffic[i][j] = max(s.vtraffic[i][j], kilo(m.Mid[j][t])+kilo(m.Spread[j][t]))
				}
			}
		}
	}
}

func (s *sums) fillHosts() {
	nh := len(s.v.Hosts)
	s.cpu, s.mem, s.end, s.top = make([]float32, nh*s.n), make([]float32, nh*s.n), make([]float32, nh*s.n), make([]float32, nh*s.s)
	s.capCPU, s.capMem, s.room, s.memTop, s.endTop = make([]float32, nh), make([]float32, nh), make([]float32, nh), make([]float32, nh), make([]float32, nh)
	s.nd, s.ndTop, s.limit = make([][2]traffic, nh*schemas.Slots), make([][2]float64, nh), make([][2]float64, nh)
	s.late, s.promised = make([]late, nh), make([]float32, nh)
	s.share, s.alloc, s.cost, s.stamp = make([]float64, nh), make([]float64, nh), make([]float64, nh), make([]uint32, nh)
	for j := range s.grid {
		s.grid[j] = make([]float32, nh*schemas.Slots*s.k)
	}
	for h := range s.v.Hosts {
		host := &s.v.Hosts[h]
		s.capCPU[h], s.capMem[h], s.room[h] = float32(math.Floor(host.Cap[schemas.CPU])), float32(math.Floor(host.Cap[schemas.Memory]/mib)), float32(host.Room/mib)
		s.limit[h] = [2]float64{host.Cap[schemas.Net] / 1000, host.Cap[schemas.Disk] / 1000}
	}
}

// Doubt is how far a host's sum may lie above or below what a path says of it, as a share
// of the host's capacity. Without it a search finds placements that just miss every path
// it knows; with .1 moves are made for shortages that do not come (docs/BACKTEST.md).
const Doubt = .01

// doubtOf is Doubt of a host of so many mCPU.
func doubtOf(c float32) float32 { return float32(math.Round(Doubt * float64(c))) }

// softOf is the load above which a host of so many mCPU is near its capacity.
func (s *sums) softOf(c float32) float32 { return float32(math.Round(float64(c) * s.soft)) }

// memory is VM i's memory over the look-ahead, path by path, in MiB.
func (s *sums) memory(i int) []float32 { return s.vmem[i*s.n : (i+1)*s.n] }

// highest is the largest of numbers that are at least 0, which their bits order as they
// do themselves. Four at a time: each comparison would wait for the one before.
func highest(path []float32) float32 {
	var a, b, c, d uint32
	for ; len(path) >= 4; path = path[4:] {
		a, b = max(a, math.Float32bits(path[0])), max(b, math.Float32bits(path[1]))
		c, d = max(c, math.Float32bits(path[2])), max(d, math.Float32bits(path[3]))
	}
	for _, x := range path {
		a = max(a, math.Float32bits(x))
	}
	return math.Float32frombits(max(a, b, c, d))
}

// tops fills in the highest of the paths by slot.
func tops(dst, paths []float32) {
	k := len(paths) / max(1, len(dst))
	for t := range dst {
		dst[t] = highest(paths[t*k : (t+1)*k])
	}
}

// refresh recomputes a host's cost after a change.
func (s *sums) refresh(h int) {
	s.cost[h] = s.hostCost(h, -1, 0, 0, 0)
	s.stamp[h]++
}

// addCPU counts VM i's paths on host h, and keeps the highest of each slot.
func (s *sums) addCPU(i, h int, sign float32, from int) {
	k := s.k
	top := s.top[h*s.s : (h+1)*s.s]
	for t := min(from, s.s); t < s.s; t++ {
		a := s.cpu[h*s.n+t*k:][:k]
		d := s.vcpu[i*s.n+t*k:][:len(a)]
		var x, y uint32
		for j := range a {
			a[j] += sign * d[j]
			x, y = y, max(x, math.Float32bits(a[j]))
		}
		top[t] = math.Float32frombits(max(x, y))
	}
}

func (s *sums) addPath(dst []float32, h int, d []float32, sign float32, from int) {
	at := min(from*s.k, s.n)
	a := dst[h*s.n+at : (h+1)*s.n]
	d = d[at:][:len(a)]
	if sign > 0 {
		for i, x := range d {
			a[i] += x
		}
		return
	}
	for i, x := range d {
		a[i] -= x
	}
}

// addGrid counts VM i on host h over the whole grid, which pressures are read from.
func (s *sums) addGrid(i, h int, sign float32, from, memFrom int) {
	m, size := &s.v.VMs[i], schemas.Slots*s.k
	a := s.grid[0][h*size : (h+1)*size]
	for j := from * s.k; j < len(a); j++ {
		a[j] += sign * m.CPU[j]
	}
	a = s.grid[1][h*size : (h+1)*size]
	for j := memFrom * s.k; j < len(a); j++ {
		a[j] += sign * m.Mem[j]
	}
}

// add counts VM i on host h from slot from on; its memory from slot memFrom on, and at
// the end of all moves.
func (s *sums) add(i, h int, sign float64, from, memFrom int) {
	s.addCPU(i, h, float32(sign), from)
	s.later(h, change{int32(i), int16(from), int16(memFrom), float32(sign)})
	s.share[h] += sign * s.vweight[i] * s.valloc[i]
	s.alloc[h] += sign * s.valloc[i]
	s.promised[h] += float32(sign) * s.vpromise[i]
}

// move takes VM i from a to b at slot from; b holds its memory from now on.
func (s *sums) move(i, a, b, from int) {
	s.add(i, a, -1, from, from)
	s.add(i, b, 1, from, 0)
}

// linger holds the memory of VM i, which moves away at slot from, at its source a as well,
// until the move is seen to have ended.
func (s *sums) linger(i, a, from int) {
	s.settle(a)
	s.addPath(s.mem, a, s.memory(i), 1, from)
	s.addPath(s.end, a, s.memory(i), 1, 0)
	s.promised[a] += s.vpromise[i]
	s.late[a].unsure = true
}

// back takes the move back.
func (s *sums) back(i, a, b, from int) {
	s.add(i, b, -1, from, 0)
	s.add(i, a, 1, from, from)
}

// hostCost is the expected unmet demand of host h over the look-ahead in weighted
// core-seconds, with VM i (-1: none) added (sign 1) or taken away (sign -1) from
// slot from on, its memory from slot memFrom on:
//
//	sum over slots and scenarios of W * seconds * (unmet(x) + alpha*max(0, x-soft*C))
//
// unmet(x) is the mean of max(0, x+u-C) over u from -Doubt*C to Doubt*C: a dozen paths are
// a small sample of what may come, and between them the sum may lie as well. It is 0 up
// to (1-Doubt)*C, x-C from (1+Doubt)*C on, and a parabola between.
//
// Memory, net and disk above capacity count as the same share of the host's cores.
// Unmet demand weighs what the host's VMs weigh, by allocation, since all of them
// share a contended host.
func (s *sums) hostCost(h, i int, sign float32, from, memFrom int) float64 {
	share, alloc := s.share[h], s.alloc[h]
	if i >= 0 {
		share += float64(sign) * s.vweight[i] * s.valloc[i]
		alloc += float64(sign) * s.valloc[i]
	}
	c, cm := s.capCPU[h], s.capMem[h]
	sum := s.cpuOver(h, i, sign, from, s.softOf(c), c, doubtOf(c))
	peak := float32(0)
	if i >= 0 && sign > 0 {
		peak = s.vpeak[i]
	}
	if s.memTop[h]+peak > cm {
		s.exact(h)
	}
	if s.memTop[h]+peak > cm {
		sum += s.memOver(h, i, sign, memFrom) * float64(c) / float64(cm)
	}
	for j, limit := range s.limit[h] {
		if limit > 0 {
			sum += s.trafficOver(h, i, j, float64(sign), from, limit) * float64(c) / limit / 1000
		}
	}
	if alloc > 0.5 {
		sum *= share / alloc
	}
	return sum
}

// cpuOver sums w * (unmet + alpha * excess over soft), where what is unmet is a mean over
// sums that lie up to doubt off. A slot in which not even the highest path reaches soft or
// where that begins is passed over.
func (s *sums) cpuOver(h, i int, sign float32, from int, soft, c, doubt float32) float64 {
	if i < 0 {
		from = s.s
	}
	begin, wide, k := c-doubt, 2*doubt, s.k
	low, bend := min(soft, begin), float32(0)
	if wide > 0 {
		bend = 1 / (2 * wide)
	}
	var some, all float32
	load, top := s.cpu[h*s.n:(h+1)*s.n], s.top[h*s.s:(h+1)*s.s]
	for t := 0; t < min(from, s.s); t++ {
		if top[t] <= low {
			continue
		}
		w := s.w[t*k:][:k]
		for j, x := range load[t*k:][:k] {
			some += w[j] * positive(x-soft)
			e := positive(x - begin)
			r := positive(e - wide)
			e -= r
			all += w[j] * (bend*e*e + r)
		}
	}
	if from >= s.s {
		return float64(s.alpha)*float64(some) + float64(all)
	}
	d, vtop := s.vcpu[i*s.n:(i+1)*s.n], s.vtop[i*s.s:(i+1)*s.s]
	for t := from; t < s.s; t++ {
		if sign > 0 && top[t]+vtop[t] <= low || sign < 0 && top[t] <= low {
			continue
		}
		w, dt := s.w[t*k:][:k], d[t*k:][:k]
		for j, x := range load[t*k:][:k] {
			x += sign * dt[j]
			some += w[j] * positive(x-soft)
			e := positive(x - begin)
			r := positive(e - wide)
			e -= r
			all += w[j] * (bend*e*e + r)
		}
	}
	return float64(s.alpha)*float64(some) + float64(all)
}

// memOver sums w * excess of memory over capacity.
func (s *sums) memOver(h, i int, sign float32, from int) float64 {
	cm, at := s.capMem[h], s.n
	var d []float32
	if i >= 0 {
		d, at = s.memory(i), min(from*s.k, s.n)
	}
	var all float32
	for j, x := range s.mem[h*s.n : (h+1)*s.n] {
		if j >= at {
			x += sign * d[j]
		}
		all += s.w[j] * positive(x-cm)
	}
	return float64(all)
}

// positive is max(0, x) without a branch: whether a scenario exceeds is as good as
// random, and a wrong guess of the processor costs more than the sum.
func positive(x float32) float32 {
	u := math.Float32bits(x)
	return math.Float32frombits(u &^ uint32(int32(u)>>31))
}

// delta is the change of the objective when VM i leaves a for b at slot from:
// below 0 is better.
func (s *sums) delta(i, a, b, from int) float64 { return s.leaving(i, a, from) + s.joining(i, b, from) }

// leaving is the change at a host that VM i leaves at slot from.
func (s *sums) leaving(i, a, from int) float64 {
	return s.hostCost(a, i, -1, from, from) - s.cost[a]
}

// joining is the change at a host that VM i joins at slot from; its memory is held
// from now on.
func (s *sums) joining(i, b, from int) float64 { return s.hostCost(b, i, 1, from, 0) - s.cost[b] }

// memFits reports whether VM i's memory fits on host b among those that will be there
// once all moves are done: what is promised to all within what may be, and what they use
// within what there is, at the policy's quantile in every slot of the look-ahead: the
// scenarios in which it would not weigh at most 1-q.
func (s *sums) memFits(i, b int) bool {
	if s.promised[b]+s.vpromise[i] > s.room[b] {
		return false
	}
	if s.endTop[b]+s.vpeak[i] <= s.capMem[b] {
		return true
	}
	if s.exact(b); s.endTop[b]+s.vpeak[i] <= s.capMem[b] {
		return true
	}
	return s.usedFits(s.end[b*s.n:(b+1)*s.n], i, b)
}

// usedFits is what memFits says of memory in use, among the VMs that use load.
func (s *sums) usedFits(load []float32, i, b int) bool {
	room, d := s.capMem[b], s.memory(i)
	for t := 0; t < s.s; t++ {
		out := 0.0
		for k := t * s.k; k < (t+1)*s.k; k++ {
			if load[k]+d[k] > room {
				out += float64(s.chain[k])
			}
		}
		if out > 1-s.q+1e-6 {
			return false
		}
	}
	return true
}

// total is the objective of the whole fleet.
func (s *sums) total() float64 {
	t := 0.0
	for h := range s.cost {
		t += s.cost[h]
	}
	return t
}

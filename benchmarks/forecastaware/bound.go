package forecastaware

import (
	"cmp"
	"math"
	"slices"
)

// Bounds on the work of the branch and bound: nodes in all, and on one host.
const (
	maxNodes     = 1 << 24
	maxHostNodes = 1 << 18
)

// LowerBound is below every reachable objective. Each host on its own gets rid of
// the VMs whose departure pays best, and nobody arrives anywhere: arrivals only add,
// and K, memory and links only forbid. Per host that is a small exact search, by
// branch and bound; a host that takes too long counts as nothing. Demand above what
// the whole fleet allows is a bound as well, and the larger of both counts.
func LowerBound(in *Instance) float64 {
	bound, _ := newProblem(in).relax()
	return bound
}

// relax is the bound of [LowerBound] and the departures behind it, of a problem in
// which nothing has moved: by host, most gained per move first.
func (p *problem) relax() (float64, [][]int32) {
	type part struct {
		gain  float64 // per move
		leave []int32
	}
	var parts []part
	hosts := 0.0
	for h, over := range p.over {
		least, leave := p.departures(int32(h))
		hosts += least
		if len(leave) > 0 {
			parts = append(parts, part{(over - least) / float64(len(leave)), leave})
		}
	}
	slices.SortStableFunc(parts, func(a, b part) int { return cmp.Compare(b.gain, a.gain) })
	var leave [][]int32
	for _, x := range parts {
		leave = append(leave, x.leave)
	}
	fleet := 0.0
	for t := range p.slots {
		all := 0.0
		for h := range p.in.Cores {
			all += p.excess[h*p.slots+t]
		}
		fleet += max(0, all)
	}
	return max(hosts, fleet), leave
}

// branch is the search for the best departures from a host.
type branch struct {
	p     *problem
	vms   []int32     // largest memory first: the decisions that cost most
	rest  [][]float64 // by depth: demand of the VMs from there on
	gone  []int32     // VMs that leave in the branch under way
	best  float64
	leave []int32 // those that leave in the best one
	nodes int     // left
}

// departures are the VMs at home on a host, and there now, whose leaving pays best,
// and what is then left: their price and the demand above the threshold.
func (p *problem) departures(h int32) (float64, []int32) {
	if p.over[h] <= 0 {
		return 0, nil
	}
	b := &branch{p: p, vms: slices.Clone(p.resident[h]), best: p.over[h], nodes: min(maxHostNodes, maxNodes/p.in.H)}
	slices.SortFunc(b.vms, func(v, w int32) int { return cmp.Or(cmp.Compare(p.mem[w], p.mem[v]), cmp.Compare(v, w)) })
	b.rest = make([][]float64, len(b.vms)+1)
	b.rest[len(b.vms)] = make([]float64, p.slots)
	for i := len(b.vms) - 1; i >= 0; i-- {
		b.rest[i] = slices.Clone(b.rest[i+1])
		for t, d := range p.demand[int(b.vms[i])*p.slots:][:p.slots] {
			b.rest[i][t] += d
		}
	}
	b.search(0, slices.Clone(p.excess[int(h)*p.slots:][:p.slots]), 0)
	if b.nodes < 0 {
		return 0, b.leave
	}
	return b.best, b.leave
}

// search decides on the VMs from i on; paid is the price of those that leave.
func (b *branch) search(i int, row []float64, paid float64) {
	if b.nodes--; b.nodes < 0 {
		return
	}
	if over := above(row); over <= 0 || i == len(b.vms) {
		if paid+over < b.best {
			b.best = paid + over
			b.leave = append(b.leave[:0], b.gone...)
		}
		return
	}
	least := paid // if all the others left for nothing
	for t, x := range row {
		least += max(0, x-b.rest[i][t])
	}
	if least >= b.best {
		return
	}
	b.search(i+1, row, paid)
	v := b.vms[i]
	if paid += Price * b.p.mem[v]; paid >= b.best {
		return
	}
	less := slices.Clone(row)
	for t, d := range b.p.demand[int(v)*b.p.slots:][:b.p.slots] {
		less[t] -= d
	}
	b.gone = append(b.gone, v)
	b.search(i+1, less, paid)
	b.gone = b.gone[:len(b.gone)-1]
}

// begin makes the moves that the bound would have, each to the host where it adds
// least, as far as K, memory and links allow, and gives up those that do not pay. It
// is the state the search starts from.
func (p *problem) begin(leave [][]int32) {
	for _, vms := range leave {
		for _, v := range vms {
			p.place(v)
		}
	}
	p.tidy()
}

// place moves a VM from home to the host with the smallest objective.
func (p *problem) place(v int32) {
	if len(p.moved) >= p.in.K {
		return
	}
	best, least := int32(-1), 0.0
	for h := range int32(p.in.H) {
		p.steps = append(p.steps[:0], step{v, p.at[v], h})
		if h == p.at[v] {
			continue
		}
		if change, made := p.make(math.MaxFloat64); made {
			if best < 0 || change < least {
				best, least = h, change
			}
			p.steps = append(p.steps[:0], step{v, h, p.home[v]})
			p.make(math.MaxFloat64)
		}
	}
	if best >= 0 {
		p.steps = append(p.steps[:0], step{v, p.at[v], best})
		p.make(math.MaxFloat64)
	}
}

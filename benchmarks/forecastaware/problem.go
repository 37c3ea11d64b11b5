package forecastaware

import "slices"

// problem is an instance as flat arrays. It implements search.Annealable.
type problem struct {
	in       *Instance
	slots    int
	demand   []float64 // VM x slot
	mem      []float64 // by VM
	home, at []int32   // by VM: host
	resident [][]int32 // by host: the VMs at home there

	excess []float64 // host x slot: demand less what the threshold allows
	over   []float64 // by host: the sum of what is above 0
	room   []float64 // by host: memory free at first, less what arrives
	link   []float64 // site x site: what may still cross
	sites  int32
	site   []int32 // by host

	moved []int32 // VMs away from home
	where []int32 // by VM: index in moved, -1 = home
	hot   []int32 // hosts with demand above the threshold
	hotAt []int32 // by host: index in hot, -1 = none
	kept  []int32

	// Scratch of one move.
	steps []step
	hosts []int32
	rows  []float64 // hosts x slot
	sums  []float64
}

// step is a part of a move: a VM goes to a host.
type step struct{ vm, from, to int32 }

// maxSteps is the most parts a move has.
const maxSteps = 4

// slack is what a sum of memory may exceed its bound by: rounding.
const slack = 1e-9

func newProblem(in *Instance) *problem {
	p := &problem{
		in: in, slots: in.T,
		resident: make([][]int32, in.H),
		excess:   make([]float64, in.H*in.T),
		over:     make([]float64, in.H),
		room:     slices.Clone(in.Mem),
		site:     make([]int32, in.H),
		hotAt:    make([]int32, in.H),
		steps:    make([]step, 0, maxSteps),
		hosts:    make([]int32, 0, 2*maxSteps),
		rows:     make([]float64, 2*maxSteps*in.T),
		sums:     make([]float64, 2*maxSteps),
	}
	for v, m := range in.VMs {
		p.demand = append(p.demand, m.Demand...)
		p.mem = append(p.mem, m.Mem)
		h := int32(in.Cur[v])
		p.home = append(p.home, h)
		p.where = append(p.where, -1)
		p.resident[h] = append(p.resident[h], int32(v))
		p.room[h] -= m.Mem
	}
	for h, s := range in.Site {
		p.site[h] = int32(s)
	}
	p.sites = int32(len(in.Link))
	for _, row := range in.Link {
		p.link = append(p.link, row...)
	}
	for h := range p.hotAt {
		p.hotAt[h] = -1
	}
	p.at = slices.Clone(p.home)
	p.kept = slices.Clone(p.home)
	p.moved = make([]int32, 0, in.V)
	p.hot = make([]int32, 0, in.H)
	for h := range in.Cores {
		p.reload(int32(h))
	}
	return p
}

// reload sums up a host's demand from nothing, so that rounding does not gather.
func (p *problem) reload(h int32) {
	row := p.excess[int(h)*p.slots:][:p.slots]
	for t := range row {
		row[t] = -p.in.Thr * p.in.Cores[h]
	}
	add := func(v int32) {
		for t, d := range p.demand[int(v)*p.slots:][:p.slots] {
			row[t] += d
		}
	}
	for _, v := range p.resident[h] {
		if p.at[v] == h {
			add(v)
		}
	}
	for _, v := range p.moved {
		if p.at[v] == h {
			add(v)
		}
	}
	p.setOver(h, above(row))
}

func above(row []float64) (sum float64) {
	for _, x := range row {
		if x > 0 {
			sum += x
		}
	}
	return sum
}

func (p *problem) setOver(h int32, x float64) {
	p.over[h] = x
	i := p.hotAt[h]
	switch {
	case x > 0 && i < 0:
		p.hotAt[h] = int32(len(p.hot))
		p.hot = append(p.hot, h)
	case x <= 0 && i >= 0:
		last := p.hot[len(p.hot)-1]
		p.hot[i], p.hotAt[last] = last, i
		p.hot = p.hot[:len(p.hot)-1]
		p.hotAt[h] = -1
	}
}

// objective sums up what the search's deltas have led to.
func (p *problem) objective() (sum float64) {
	for _, x := range p.over {
		sum += x
	}
	for _, v := range p.moved {
		sum += Price * p.mem[v]
	}
	return sum
}

// Keep remembers the placement.
func (p *problem) Keep() { copy(p.kept, p.at) }

// Restore goes back to the placement last kept.
func (p *problem) Restore() {
	for v, h := range p.kept {
		if p.at[v] != h {
			p.settle(step{int32(v), p.at[v], h})
		}
	}
	for h := range p.in.Cores {
		p.reload(int32(h))
	}
	for h := range p.room {
		p.room[h] = p.in.Mem[h]
		for _, v := range p.resident[h] {
			p.room[h] -= p.mem[v]
		}
	}
	for a, row := range p.in.Link {
		copy(p.link[a*len(row):], row)
	}
	for _, v := range p.moved {
		p.reserve(v, p.at[v], 1)
	}
}

// reserve takes the memory a VM needs at a host and on the link to it, or with sign
// -1 gives it back. At home it needs none. It says whether there was enough.
func (p *problem) reserve(v, h int32, sign float64) bool {
	from := p.home[v]
	if h == from {
		return true
	}
	m := sign * p.mem[v]
	p.room[h] -= m
	fits := p.room[h] >= -slack
	if a, b := p.site[from], p.site[h]; a != b {
		l := &p.link[a*p.sites+b]
		*l -= m
		fits = fits && *l >= -slack
	}
	return fits
}

// settle files a VM under its new host; demand and memory are already accounted.
func (p *problem) settle(s step) {
	p.at[s.vm] = s.to
	away, i := s.to != p.home[s.vm], p.where[s.vm]
	switch {
	case away && i < 0:
		p.where[s.vm] = int32(len(p.moved))
		p.moved = append(p.moved, s.vm)
	case !away && i >= 0:
		last := p.moved[len(p.moved)-1]
		p.moved[i], p.where[last] = last, i
		p.moved = p.moved[:len(p.moved)-1]
		p.where[s.vm] = -1
	}
}

package roadef

import (
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/foreshift/foreshift/placer/search"
)

// Problem is a model with a placement that the search changes. All state is in flat
// arrays. Load and balance costs have one form, weight*max(0, level): a process adds
// to the level of its machine a number that depends on the process alone: for a load
// its requirement, for a balance a difference of two. So a process is a row of
// increments, of which the first are its requirements, a machine a row of free
// capacities and levels, and the cost of a move is read from two machines' rows.
type Problem struct {
	m      *Model
	nr, nk int // resources; levels: the loads of all resources, then weighted balances
	nm, np int

	hold   []int64 // per resource: all ones if transient
	weight []int64 // per level
	proc   []int64 // per process: an increment per level
	mach   []int64 // per machine: free capacities, then levels
	cost   []int64 // per machine: load and balance
	move   []int64 // per process: weighted cost of not being at home

	first, at, kept []int32
	gone            []int32 // processes that are not at home
	goneAt          []int32 // place of a process in gone; -1 = at home
	travel          []int32 // machine move cost, from*nm+to
	service         []int32 // per process

	// Rules. A service that a rule cannot touch has row -1 in it.
	alone      []int32  // row in present: services of more than one process
	present    []uint64 // bits of machines
	words      int
	place      []int32 // row in placeCount: services that must spread
	placeCount []int32 // processes per location
	spare      []int32 // locations above the spread needed
	hood       []int32 // row in hoodCount: services with dependencies either way
	hoodCount  []int32
	needs      [][]int32 // services that a service depends on
	neededBy   [][]int32
	location   []int32
	neighbour  []int32

	// Service moves: how many services have how many processes away.
	away    []int32
	withN   []int32
	most    int32
	on      [][]int32 // processes per machine
	slot    []int32   // place of a process in on
	bySize  []int32   // processes, small to large
	rank    []int32   // place of a process in bySize
	draw    []int32   // processes, as often as they are large
	total   int64
	price   int64 // of being away from home, for now
	undo    []step
	options Tuning
}

var (
	_ search.Annealable = (*Problem)(nil)
	_ search.Warmed     = (*Problem)(nil)
)

type step struct{ item, from int32 }

// New places the processes of a model where they were at first. The error says
// which rule that placement breaks.
func New(m *Model, first []int32) (*Problem, error) {
	c, err := Evaluate(m, first, first)
	if err != nil {
		return nil, fmt.Errorf("the first assignment: %w", err)
	}
	p := &Problem{m: m, nr: len(m.Resources), nm: len(m.Machines), np: len(m.Processes)}
	transient := slices.ContainsFunc(m.Resources, func(r Resource) bool { return r.Transient })
	p.options = Suited(p.np, transient)
	p.levels()
	p.services()
	p.first = append([]int32(nil), first...)
	p.at = append([]int32(nil), first...)
	p.kept = append([]int32(nil), first...)
	p.slot = make([]int32, p.np)
	p.gone = make([]int32, 0, p.np)
	p.goneAt = make([]int32, p.np)
	p.on = make([][]int32, p.nm)
	p.withN[0] = int32(len(m.Services))
	for i, k := range first {
		p.settle(int32(i), k)
		p.goneAt[i] = -1
	}
	for k := range p.cost {
		p.cost[k] = p.machineCost(k)
		// Room for twice the processes, so that the search seldom has to grow it.
		p.on[k] = append(make([]int32, 0, 2*len(p.on[k])+16), p.on[k]...)
	}
	p.total = c.Total()
	p.undo = make([]step, 0, 16)
	p.sizes()
	return p, nil
}

// levels fills the rows of processes and of empty machines.
func (p *Problem) levels() {
	m := p.m
	var balances []int
	for _, res := range m.Resources {
		h := int64(0)
		if res.Transient {
			h = -1
		}
		p.hold = append(p.hold, h)
		p.weight = append(p.weight, res.Weight)
	}
	for i, b := range m.Balances {
		if b.Weight > 0 {
			balances = append(balances, i)
			p.weight = append(p.weight, b.Weight)
		}
	}
	p.nk = len(p.weight)
	for _, q := range m.Processes {
		p.proc = append(p.proc, q.Requirement...)
		for _, i := range balances {
			b := m.Balances[i]
			p.proc = append(p.proc, q.Requirement[b.Of]-b.Target*q.Requirement[b.Per])
		}
		p.move = append(p.move, m.ProcessWeight*q.MoveCost)
		p.service = append(p.service, q.Service)
	}
	p.cost = make([]int64, p.nm)
	for _, k := range m.Machines {
		p.mach = append(p.mach, k.Capacity...)
		for _, safe := range k.Safety {
			p.mach = append(p.mach, -safe)
		}
		for _, i := range balances {
			b := m.Balances[i]
			p.mach = append(p.mach, b.Target*k.Capacity[b.Per]-k.Capacity[b.Of])
		}
		p.travel = append(p.travel, k.MoveCost...)
		p.location = append(p.location, k.Location)
		p.neighbour = append(p.neighbour, k.Neighbourhood)
	}
}

// services gives each service a row in the tables of the rules that can touch it.
func (p *Problem) services() {
	m := p.m
	ns := len(m.Services)
	size := make([]int32, ns)
	for _, s := range p.service {
		size[s]++
	}
	largest := int32(0)
	p.needs, p.neededBy = make([][]int32, ns), make([][]int32, ns)
	for s, v := range m.Services {
		largest = max(largest, size[s])
		p.needs[s] = v.DependsOn
		for _, d := range v.DependsOn {
			p.neededBy[d] = append(p.neededBy[d], int32(s))
		}
	}
	p.away = make([]int32, ns)
	p.withN = make([]int32, largest+2)
	p.alone, p.place, p.hood, p.spare = make([]int32, ns), make([]int32, ns), make([]int32, ns), make([]int32, ns)
	var nAlone, nPlace, nHood int32
	row := func(n *int32, want bool) int32 {
		if !want {
			return -1
		}
		*n++
		return *n - 1
	}
	for s, v := range m.Services {
		p.alone[s] = row(&nAlone, size[s] > 1)
		p.place[s] = row(&nPlace, v.Spread > 1)
		p.hood[s] = row(&nHood, len(v.DependsOn)+len(p.neededBy[s]) > 0)
		p.spare[s] = -int32(v.Spread)
	}
	p.words = (p.nm + 63) / 64
	p.present = make([]uint64, int(nAlone)*p.words)
	p.placeCount = make([]int32, int(nPlace)*m.Locations)
	p.hoodCount = make([]int32, int(nHood)*m.Neighbourhoods)
}

// settle puts a process on a machine that had not counted it, at home.
func (p *Problem) settle(i, k int32) {
	s := p.service[i]
	p.enter(s, k)
	row := p.mach[int(k)*(p.nr+p.nk):]
	q := p.proc[int(i)*p.nk:][:p.nk]
	for r := range p.nr {
		row[r] -= q[r]
	}
	for l, x := range q {
		row[p.nr+l] += x
	}
	p.slot[i] = int32(len(p.on[k]))
	p.on[k] = append(p.on[k], i)
}

// enter counts a process of a service on a machine, leave uncounts it.
func (p *Problem) enter(s, k int32) {
	if a := p.alone[s]; a >= 0 {
		p.present[int(a)*p.words+int(k>>6)] |= 1 << (k & 63)
	}
	if a := p.place[s]; a >= 0 {
		n := &p.placeCount[int(a)*p.m.Locations+int(p.location[k])]
		if *n++; *n == 1 {
			p.spare[s]++
		}
	}
	if a := p.hood[s]; a >= 0 {
		p.hoodCount[int(a)*p.m.Neighbourhoods+int(p.neighbour[k])]++
	}
}

func (p *Problem) leave(s, k int32) {
	if a := p.alone[s]; a >= 0 {
		p.present[int(a)*p.words+int(k>>6)] &^= 1 << (k & 63)
	}
	if a := p.place[s]; a >= 0 {
		n := &p.placeCount[int(a)*p.m.Locations+int(p.location[k])]
		if *n--; *n == 0 {
			p.spare[s]--
		}
	}
	if a := p.hood[s]; a >= 0 {
		p.hoodCount[int(a)*p.m.Neighbourhoods+int(p.neighbour[k])]--
	}
}

func (p *Problem) machineCost(k int) int64 {
	var c int64
	row := p.mach[k*(p.nr+p.nk)+p.nr:]
	for l, w := range p.weight {
		v := row[l]
		c += w * (v &^ (v >> 63))
	}
	return c
}

// Total is what the present placement costs.
func (p *Problem) Total() int64 { return p.total }

// Assignment is the present placement: one machine per process.
func (p *Problem) Assignment() []int32 { return append([]int32(nil), p.at...) }

// Keep remembers the present placement.
func (p *Problem) Keep() { copy(p.kept, p.at) }

// Restore goes back to the placement last kept. It passes through placements that
// break rules, never shown to anyone, so it counts without asking.
func (p *Problem) Restore() {
	for i, k := range p.kept {
		if p.at[i] != k {
			p.apply(int32(i), k)
		}
	}
	// Conflict bits of a service may have been cleared by one process after another
	// of it had set them: set them again.
	for i, k := range p.at {
		if a := p.alone[p.service[i]]; a >= 0 {
			p.present[int(a)*p.words+int(k>>6)] |= 1 << (k & 63)
		}
	}
}

// pick maps 32 random bits to 0..n-1.
func pick(bits uint64, n int) int32 { return int32((bits & 0xffffffff) * uint64(n) >> 32) }

// Try draws a move of some kind and makes it if the rules and the limit allow.
func (p *Problem) Try(rng *rand.Rand, limit float64) (float64, bool) {
	lim := int64(min(limit, 1<<60))
	x := rng.Uint64()
	kind := int(x>>32) & 1023
	i := pick(x, p.np)
	if int(x>>42)&1023 < p.options.Big {
		i = p.draw[x&(drawSlots-1)]
	}
	if int(x>>52)&1023 < p.options.Gone && len(p.gone) > 0 {
		i = p.gone[pick(x, len(p.gone))]
	}
	var d int64
	var made bool
	switch o := &p.options; {
	case kind < o.Swap:
		d, made = p.trySwap(rng, i, lim)
	case kind < o.Swap+o.Eject:
		d, made = p.tryEject(rng, i, lim)
	default:
		d, made = p.tryShift(rng, i, lim)
	}
	return float64(d), made
}

package rescheduling

import "slices"

// SlotCores is the size of the machine that room is made for: y counts places of so
// many cores on one NUMA node.
const SlotCores = 16

// problem is a snapshot as flat arrays. NUMA node n is node n&1 of host n>>1; a VM on
// both nodes is filed under the even one. It implements search.Annealable.
type problem struct {
	cores, huge []int32 // by VM, of one node
	wide        []bool  // by VM: on both nodes
	home, at    []int32 // by VM: node
	movable     []int32 // VMs that may move

	free           []int32   // by node: cores free once all moves are done
	room, hugeRoom []int32   // by node: what is free at first less what arrives
	active         []bool    // by node
	worth          []float64 // by free cores of a node: what the search sees in them
	price          float64   // what the search counts a moved VM as

	most  int     // K
	moved []int32 // VMs away from home
	where []int32 // by VM: index in moved, -1 = home

	open  []int32 // nodes with room for somebody
	index []int32 // by node: index in open, -1 = full

	y     int
	best  result
	kept  []int32
	steps [3]step
}

// step is a part of a move: a VM goes to a node.
type step struct{ vm, from, to int32 }

// result is the best state seen.
type result struct {
	y     int
	moves []step
}

func newProblem(s *Snapshot, most int) *problem {
	p := &problem{most: most}
	ids := map[string]int32{}
	widest := int32(0)
	for c := range s.Clusters {
		for i := range s.Clusters[c].Hosts {
			h := &s.Clusters[c].Hosts[i]
			ids[h.ID] = int32(len(p.free))
			for _, n := range h.NUMA {
				p.free = append(p.free, int32(n.Free))
				p.hugeRoom = append(p.hugeRoom, int32(n.HugeNow))
				p.active = append(p.active, h.Status == active)
				widest = max(widest, int32(n.Cores))
			}
		}
	}
	for c := range s.Clusters {
		for i := range s.Clusters[c].VMs {
			p.addVM(&s.Clusters[c].VMs[i], ids)
		}
	}
	p.room = slices.Clone(p.free)
	p.index = make([]int32, len(p.free))
	for n := range p.free {
		p.index[n] = -1
		p.reopen(int32(n))
		if p.active[n] {
			p.y += int(p.free[n] / SlotCores)
		}
	}
	p.worth = make([]float64, widest+1)
	p.shape(0)
	p.kept = slices.Clone(p.at)
	p.moved = make([]int32, 0, most+1)
	p.best = result{y: p.y}
	return p
}

func (p *problem) addVM(v *VM, ids map[string]int32) {
	n := ids[v.Host]
	wide := len(v.NUMA) == 2
	if !wide {
		n += int32(v.NUMA[0].Number)
	}
	id := int32(len(p.at))
	p.cores = append(p.cores, int32(v.NUMA[0].Cores))
	p.huge = append(p.huge, int32(v.NUMA[0].Huge))
	p.wide = append(p.wide, wide)
	p.home = append(p.home, n)
	p.at = append(p.at, n)
	p.where = append(p.where, -1)
	if v.Movable && p.active[n] && p.cores[id] > 0 {
		p.movable = append(p.movable, id)
	}
}

// shape sets what the search sees in free cores: whole slots, and of the rest the
// square of its share of a slot, times weight, so that rests gather on few nodes.
func (p *problem) shape(weight float64) {
	for f := range p.worth {
		rest := float64(f%SlotCores) / SlotCores
		p.worth[f] = float64(f/SlotCores) + weight*rest*rest
	}
}

// reopen files a node among those with room, or takes it out.
func (p *problem) reopen(n int32) {
	i := p.index[n]
	switch {
	case !p.active[n]:
	case p.room[n] > 0 && i < 0:
		p.index[n] = int32(len(p.open))
		p.open = append(p.open, n)
	case p.room[n] <= 0 && i >= 0:
		last := p.open[len(p.open)-1]
		p.open[i], p.index[last] = last, i
		p.open = p.open[:len(p.open)-1]
		p.index[n] = -1
	}
}

// leave and enter change the free cores of a VM's node, or of both, and return what
// the search sees in the change. A VM takes room only where it is not at home, and
// enter says whether there was enough; at home there always is.
func (p *problem) leave(v, n int32) (gain float64) {
	away := n != p.home[v]
	for i := n; i <= n+b2i(p.wide[v]); i++ {
		gain += p.change(i, p.cores[v])
		if away {
			p.room[i] += p.cores[v]
			p.hugeRoom[i] += p.huge[v]
		}
	}
	return gain
}

func (p *problem) enter(v, n int32) (gain float64, fits bool) {
	away := n != p.home[v]
	fits = true
	for i := n; i <= n+b2i(p.wide[v]); i++ {
		if away {
			p.room[i] -= p.cores[v]
			p.hugeRoom[i] -= p.huge[v]
			fits = fits && p.room[i] >= 0 && p.hugeRoom[i] >= 0
		}
		gain += p.change(i, -p.cores[v])
	}
	return gain, fits
}

// change adds free cores to a node. Below zero, which a move that does not fit may
// reach before it is undone, nothing is worth anything.
func (p *problem) change(n, cores int32) float64 {
	was := p.free[n]
	now := was + cores
	p.free[n] = now
	if was < 0 || now < 0 {
		return 0
	}
	p.y += int(now/SlotCores) - int(was/SlotCores)
	return p.worth[now] - p.worth[was]
}

// Keep and Restore serve the annealing's own best; the best by y is kept apart.
func (p *problem) Keep() { copy(p.kept, p.at) }

// Restore goes back to the placement last kept.
func (p *problem) Restore() { p.goTo(p.kept) }

// goTo brings every VM to the given node.
func (p *problem) goTo(at []int32) {
	for v, n := range at {
		if p.at[v] != n {
			p.leave(int32(v), p.at[v])
		}
	}
	for v, n := range at {
		if from := p.at[v]; from != n {
			p.enter(int32(v), n)
			p.settle(step{int32(v), from, n})
		}
	}
	p.y = 0
	for n, f := range p.free {
		if p.active[n] {
			p.y += int(f / SlotCores)
		}
	}
}

// settle brings the lists up to date with a step whose cores are already taken.
func (p *problem) settle(s step) {
	p.at[s.vm] = s.to
	for i := int32(0); i <= b2i(p.wide[s.vm]); i++ {
		p.reopen(s.from + i)
		p.reopen(s.to + i)
	}
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

// fit says which node the VM would go to for a place on n, if any: not where it is,
// and on its first host only where it was.
func (p *problem) fit(v, n int32) (int32, bool) {
	if p.wide[v] {
		n &^= 1
	}
	h := p.home[v]
	return n, n != p.at[v] && (n == h || n>>1 != h>>1)
}

func b2i(b bool) int32 {
	if b {
		return 1
	}
	return 0
}

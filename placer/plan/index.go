package plan

import (
	"cmp"
	"slices"
)

// index ranks hosts by how much room they have at which time, roughly.
type index struct {
	s     *State
	all   []int32
	slack []float32 // host*parts+part: mCPU free on average in the part's worst slot
	least []float32 // by host: of its parts
	order []int32   // the hosts, those with most room in their worst part first

	changed []bool // since they were measured
	stale   []int32
}

// Sizes of the index. A fleet of up to small hosts needs none.
const (
	small   = 64
	parts   = 4  // of the look-ahead
	roomy   = 24 // hosts with most room for the VM
	strange = 16 // and others at random

	nearMost = roomy + strange + 2 // with the best so far and the one planned before
)

func (s *State) newIndex() *index {
	x := &index{s: s}
	for h := range s.V.Hosts {
		x.all = append(x.all, int32(h))
	}
	if n := len(x.all); n > small {
		x.slack, x.least, x.changed = make([]float32, parts*n), make([]float32, n), make([]bool, n)
		for h := range x.all {
			x.measure(int32(h))
		}
		x.order, x.stale = slices.Clone(x.all), make([]int32, 0, n)
		slices.SortFunc(x.order, x.compare)
	}
	return x
}

// compare puts the host with most room in its worst part first.
func (x *index) compare(a, b int32) int {
	return cmp.Or(cmp.Compare(x.least[b], x.least[a]), cmp.Compare(a, b))
}

// renew notes that a host has changed; it is measured when somebody asks.
func (x *index) renew(h int32) {
	if x.slack != nil && !x.changed[h] {
		x.changed[h] = true
		x.stale = append(x.stale, h)
	}
}

// settle brings the hosts that have changed to their places.
func (x *index) settle() {
	for _, h := range x.stale {
		x.changed[h] = false
		at, _ := slices.BinarySearchFunc(x.order, h, x.compare)
		x.order = slices.Delete(x.order, at, at+1)
		x.measure(h)
		at, _ = slices.BinarySearchFunc(x.order, h, x.compare)
		x.order = slices.Insert(x.order, at, h)
	}
	x.stale = x.stale[:0]
}

// part is the share of the look-ahead that a slot belongs to.
func (x *index) part(slot int) int { return slot * parts / x.s.sums.s }

// measure works out a host's room.
func (x *index) measure(h int32) {
	s := x.s.sums
	room := x.slack[int(h)*parts:][:parts]
	for j := range room {
		room[j] = s.capCPU[h] * float32(s.soft)
	}
	for t := 0; t < s.s; t++ {
		load := float32(0)
		for k := t * s.k; k < (t+1)*s.k; k++ {
			load += s.chain[k] * s.cpu[int(h)*s.n+k]
		}
		// Half-way to the highest path: bursts count, but not as if they were certain.
		load = (load + s.top[int(h)*s.s+t]) / 2
		j := x.part(t)
		room[j] = min(room[j], s.capCPU[h]*float32(s.soft)-load)
	}
	x.least[h] = slices.Min(room)
}

// targets are the hosts worth a look for a candidate, those with most room first; in a
// small fleet all, in their order.
func (b *board) targets(c *candidate) []int32 {
	x := b.index
	if len(x.all) <= small {
		return x.all
	}
	if len(c.near) > 0 {
		return c.near
	}
	x.settle()
	if c.near == nil {
		c.near = make([]int32, 0, nearMost)
	}
	s := b.s.sums
	var want [parts]float32
	for t := 0; t < s.s; t++ {
		load := float32(0)
		for k := t * s.k; k < (t+1)*s.k; k++ {
			load += s.chain[k] * s.vcpu[int(c.vm)*s.n+k]
		}
		want[x.part(t)] = max(want[x.part(t)], (load+s.vtop[int(c.vm)*s.s+t])/2)
	}
	type scored struct {
		h    int32
		left float32
	}
	var best [roomy + 1]scored
	n, was, lowest := 0, int32(-1), slices.Min(want[:])
	if c.has {
		was = c.best.dest
		c.near = append(c.near, was)
	}
	for _, h := range x.order {
		// What is left in any part is at most what is left in the worst.
		if n == roomy && x.least[h]-lowest <= best[roomy-1].left {
			break
		}
		left, room := x.least[h], x.slack[int(h)*parts:][:parts]
		for j := range want {
			left = min(left, room[j]-want[j])
		}
		if n == roomy && left <= best[roomy-1].left || h == c.home || !b.s.hostWhy[h].OK() {
			continue
		}
		at := n
		for ; at > 0 && best[at-1].left < left; at-- {
			best[at] = best[at-1]
		}
		best[at] = scored{h, left}
		n = min(n+1, roomy)
	}
	for _, h := range best[:n] {
		if h.h != was {
			c.near = append(c.near, h.h)
		}
	}
	if p := b.s.planned[c.vm]; p != nil {
		if h := b.s.V.HostIndex(p.Destination); h >= 0 && !slices.Contains(c.near, h) {
			c.near = append(c.near, h)
		}
	}
	for range strange {
		if h := int32(b.rng.IntN(len(x.all))); !slices.Contains(c.near, h) {
			c.near = append(c.near, h)
		}
	}
	return c.near
}

package rescheduling

import "math/rand/v2"

// Try draws a move of one to three VMs: a shift to another node, or two, a shift home,
// a new destination for one that moved, a destination made free by sending another on;
// and, at the limit, a VM sent home for another that leaves.
func (p *problem) Try(r *rand.Rand, limit float64) (float64, bool) {
	n, ok := p.draw(r)
	if !ok {
		return 0, false
	}
	was := len(p.moved)
	now := was
	for _, s := range p.steps[:n] {
		now += int(b2i(s.from == p.home[s.vm]) - b2i(s.to == p.home[s.vm]))
	}
	if now > p.most && now > was {
		// At the limit somebody else has to stay where it was.
		if now-1 > p.most || was == 0 {
			return 0, false
		}
		u := p.moved[r.IntN(was)]
		for _, s := range p.steps[:n] {
			if s.vm == u {
				return 0, false
			}
		}
		p.steps[n] = step{u, p.at[u], p.home[u]}
		n++
		now--
	}
	steps := p.steps[:n]
	change := p.price * float64(now-was)
	if n == 1 && (!p.hasRoom(steps[0]) || change+p.loss(steps[0]) > limit) {
		return 0, false
	}
	y := p.y
	for i := range steps {
		change -= p.leave(steps[i].vm, steps[i].from)
	}
	done := 0
	fits := true
	for ; done < len(steps) && fits; done++ {
		var g float64
		g, fits = p.enter(steps[done].vm, steps[done].to)
		change -= g
	}
	if !fits || change > limit {
		for i := range steps[:done] {
			p.leave(steps[i].vm, steps[i].to)
		}
		for i := range steps {
			p.enter(steps[i].vm, steps[i].from)
		}
		p.y = y
		return 0, false
	}
	for i := range steps {
		p.settle(steps[i])
	}
	if p.y > p.best.y || p.y == p.best.y && len(p.moved) < len(p.best.moves) {
		p.record()
	}
	return change, true
}

// hasRoom says whether a step that is a whole move fits, and loss what the search sees
// in it: most moves are refused, and this finds out without making them.
func (p *problem) hasRoom(s step) bool {
	if s.to == p.home[s.vm] {
		return true
	}
	for i := s.to; i <= s.to+b2i(p.wide[s.vm]); i++ {
		if p.room[i] < p.cores[s.vm] || p.hugeRoom[i] < p.huge[s.vm] {
			return false
		}
	}
	return true
}

func (p *problem) loss(s step) (loss float64) {
	c := p.cores[s.vm]
	for i := int32(0); i <= b2i(p.wide[s.vm]); i++ {
		a, b := p.free[s.from+i], p.free[s.to+i]
		loss += p.worth[a] - p.worth[a+c] + p.worth[b] - p.worth[b-c]
	}
	return loss
}

// Draws of a VM and of a node that are given another chance, but for one draw in
// eight: what looks like a step back is at times the way to two forward.
const redrawVM, redrawNode = 2, 4

// draw fills p.steps with a move and returns the number of its steps.
func (p *problem) draw(r *rand.Rand) (int, bool) {
	if len(p.movable) == 0 || p.most == 0 || len(p.open) == 0 {
		return 0, false
	}
	kind := r.IntN(16)
	vms, nodes := redrawVM, redrawNode
	if r.IntN(8) == 0 {
		vms, nodes = 0, 0
	}
	v := p.movable[r.IntN(len(p.movable))]
	if len(p.moved) > 0 && (kind < 6 || kind == 15) {
		v = p.moved[r.IntN(len(p.moved))]
	}
	// A departure that frees a slot, and room that costs none, are worth a few draws.
	for i := 0; i < vms && kind >= 6 && kind < 15 && p.free[p.at[v]]%SlotCores+p.cores[v] < SlotCores; i++ {
		v = p.movable[r.IntN(len(p.movable))]
	}
	from := p.at[v]
	if kind < 2 {
		p.steps[0] = step{v, from, p.home[v]}
		return 1, from != p.home[v]
	}
	if kind < 13 || len(p.moved) == 0 {
		n := p.open[r.IntN(len(p.open))]
		for i := 0; i < nodes && p.room[n]%SlotCores < p.cores[v]; i++ {
			n = p.open[r.IntN(len(p.open))]
		}
		to, ok := p.fit(v, n)
		p.steps[0] = step{v, from, to}
		if kind < 12 || !ok || r.IntN(8) != 0 {
			return 1, ok
		}
		// Another goes as well, once in a while: either by itself may be a loss.
		w := p.movable[r.IntN(len(p.movable))]
		to, ok = p.fit(w, p.open[r.IntN(len(p.open))])
		p.steps[1] = step{w, p.at[w], to}
		return 2, ok && w != v
	}
	// v takes the destination of w, which goes to v's, to a third, or home.
	w := p.moved[r.IntN(len(p.moved))]
	to, ok := p.fit(v, p.at[w]|int32(r.IntN(2))*b2i(p.wide[w]))
	if w == v || !ok {
		return 0, false
	}
	on := p.home[w]
	switch {
	case kind == 13:
	case from != p.home[v] && r.IntN(2) == 0:
		on, ok = p.fit(w, from|int32(r.IntN(2))*b2i(p.wide[v]))
	default:
		on, ok = p.fit(w, p.open[r.IntN(len(p.open))])
	}
	p.steps[0] = step{v, from, to}
	p.steps[1] = step{w, p.at[w], on}
	return 2, ok
}

// record keeps the present state as the best one. Its moves need no order: every
// destination has room for all that arrive before anybody has left.
func (p *problem) record() {
	p.best.y = p.y
	p.best.moves = p.best.moves[:0]
	for _, v := range p.moved {
		p.best.moves = append(p.best.moves, step{v, p.home[v], p.at[v]})
	}
}

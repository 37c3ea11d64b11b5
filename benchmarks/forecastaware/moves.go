package forecastaware

import "math/rand/v2"

// Try draws a move of up to four VMs (see draw), and gives up on it as soon as what
// is known exceeds the limit: first by the price of the memory against all demand
// that its hosts have above the threshold, then host by host.
func (p *problem) Try(r *rand.Rand, limit float64) (float64, bool) {
	p.steps = p.steps[:0]
	if !p.draw(r) || !p.atLimit(r) {
		return 0, false
	}
	return p.make(limit)
}

// make makes the move in p.steps if it is allowed and within the limit.
func (p *problem) make(limit float64) (float64, bool) {
	change := 0.0
	p.hosts = p.hosts[:0]
	for _, s := range p.steps {
		switch {
		case s.from == p.home[s.vm]:
			change += Price * p.mem[s.vm]
		case s.to == p.home[s.vm]:
			change -= Price * p.mem[s.vm]
		}
		change -= p.touch(s.from) + p.touch(s.to)
	}
	if change > limit || !p.reserveAll() {
		return 0, false
	}
	// From the last, a destination most often: there a move fails first.
	for i := len(p.hosts) - 1; i >= 0; i-- {
		p.sums[i] = p.row(p.hosts[i], p.rows[i*p.slots:][:p.slots])
		if change += p.sums[i]; change > limit {
			p.release(len(p.steps))
			return 0, false
		}
	}
	for i, h := range p.hosts {
		copy(p.excess[int(h)*p.slots:], p.rows[i*p.slots:][:p.slots])
		p.setOver(h, p.sums[i])
	}
	for _, s := range p.steps {
		p.settle(s)
	}
	return change, true
}

// touch adds a host to the move's, and returns what it has above the threshold if it
// is new among them.
func (p *problem) touch(h int32) float64 {
	for _, k := range p.hosts {
		if k == h {
			return 0
		}
	}
	p.hosts = append(p.hosts, h)
	return p.over[h]
}

// row writes a host's demand less what the threshold allows, after the move, and
// returns the sum of what is above 0. The first VM's part is one pass with the sum:
// most hosts of a move see one VM only.
func (p *problem) row(h int32, row []float64) (sum float64) {
	now := p.excess[int(h)*p.slots:][:len(row)]
	seen := 0
	for _, s := range p.steps {
		if s.from != h && s.to != h {
			continue
		}
		d := p.demand[int(s.vm)*p.slots:][:len(row)]
		if seen++; seen > 1 {
			now = row
		}
		sum = 0
		if s.to == h {
			for t, x := range d {
				y := now[t] + x
				row[t] = y
				if y > 0 {
					sum += y
				}
			}
			continue
		}
		for t, x := range d {
			y := now[t] - x
			row[t] = y
			if y > 0 {
				sum += y
			}
		}
	}
	return sum
}

// reserveAll moves the reservations of all steps, or none.
func (p *problem) reserveAll() bool {
	for _, s := range p.steps {
		p.reserve(s.vm, s.from, -1)
	}
	for i, s := range p.steps {
		if !p.reserve(s.vm, s.to, 1) {
			p.release(i + 1)
			return false
		}
	}
	return true
}

// release takes back the first n reservations.
func (p *problem) release(n int) {
	for _, s := range p.steps[:n] {
		p.reserve(s.vm, s.to, -1)
	}
	for _, s := range p.steps {
		p.reserve(s.vm, s.from, 1)
	}
}

// atLimit adds to a move that would exceed K a VM that goes home in exchange.
func (p *problem) atLimit(r *rand.Rand) bool {
	more := 0
	for _, s := range p.steps {
		if s.from == p.home[s.vm] {
			more++
		} else if s.to == p.home[s.vm] {
			more--
		}
	}
	if more <= 0 || len(p.moved)+more <= p.in.K {
		return true
	}
	if len(p.moved)+more-1 > p.in.K || len(p.moved) == 0 || len(p.steps) == maxSteps {
		return false
	}
	u := p.moved[r.IntN(len(p.moved))]
	return p.step(u, p.home[u])
}

// step adds a part to the move; false when it is none, or its VM is in the move.
func (p *problem) step(v, to int32) bool {
	for _, s := range p.steps {
		if s.vm == v {
			return false
		}
	}
	p.steps = append(p.steps, step{v, p.at[v], to})
	return p.at[v] != to
}

// draw fills p.steps: a shift, a new destination, a VM sent home, one sent home for
// one or two of its neighbours, or with another for one, one making place for another, two that change
// destinations or hosts.
func (p *problem) draw(r *rand.Rand) bool {
	if p.in.V == 0 || p.in.K == 0 {
		return false
	}
	host := int32(r.IntN(p.in.H))
	kind := r.IntN(16)
	switch {
	case kind == 15: // two VMs, anywhere, change hosts
		v, w := p.pick(r), int32(r.IntN(p.in.V))
		return p.step(v, p.at[w]) && p.step(w, p.at[v])
	case len(p.moved) == 0 || kind < 3:
		return p.step(p.pick(r), host)
	}
	u := p.moved[r.IntN(len(p.moved))]
	home := p.home[u]
	switch {
	case kind == 3 && r.IntN(2) == 0:
		return p.step(u, home)
	case kind == 3: // one goes instead of two
		w := p.moved[r.IntN(len(p.moved))]
		n := p.resident[p.home[w]]
		return p.step(u, home) && p.step(w, p.home[w]) && p.step(n[r.IntN(len(n))], p.either(r, p.at[u], host))
	case kind < 7:
		return p.step(u, host)
	case kind < 10: // a neighbour goes instead
		v := p.resident[home][r.IntN(len(p.resident[home]))]
		return p.step(u, home) && p.step(v, p.either(r, p.at[u], host))
	case kind == 10: // any other goes instead
		return p.step(u, home) && p.step(p.pick(r), p.either(r, p.at[u], host))
	case kind == 11: // two neighbours go instead
		n := p.resident[home]
		v, w := n[r.IntN(len(n))], n[r.IntN(len(n))]
		return p.step(u, home) && p.step(v, p.either(r, p.at[u], host)) && p.step(w, p.either(r, p.at[u], int32(r.IntN(p.in.H))))
	case kind == 12: // a neighbour goes instead, to a place that another makes
		w := p.moved[r.IntN(len(p.moved))]
		n := p.resident[home]
		return p.step(u, home) && p.step(n[r.IntN(len(n))], p.at[w]) && p.step(w, p.either(r, p.at[u], host))
	case kind == 13: // u makes place for another
		return p.step(p.pick(r), p.at[u]) && p.step(u, host)
	default: // destinations change
		w := p.moved[r.IntN(len(p.moved))]
		return p.step(w, p.at[u]) && p.step(u, p.at[w])
	}
}

func (p *problem) either(r *rand.Rand, a, b int32) int32 {
	if r.IntN(2) == 0 {
		return a
	}
	return b
}

// pick draws a VM: one that moved, one from a host above the threshold, or any.
func (p *problem) pick(r *rand.Rand) int32 {
	k := r.IntN(8)
	if k < 4 && len(p.hot) > 0 {
		if n := p.resident[p.hot[r.IntN(len(p.hot))]]; len(n) > 0 {
			return n[r.IntN(len(n))]
		}
	}
	if k < 6 && len(p.moved) > 0 {
		return p.moved[r.IntN(len(p.moved))]
	}
	return int32(r.IntN(p.in.V))
}

package plan

import "github.com/foreshift/foreshift/schemas"

// itemised is the gain of a candidate's best move with the terms it is made of. A move
// on the board is looked at as if it were not made.
func (s *State) itemised(c *candidate) schemas.Gain {
	g, ch := c.best.gain, &c.best
	to := c.dest
	if to >= 0 {
		s.lift(c)
	}
	i, a, b := int(c.vm), int(c.home), int(ch.dest)
	before, after := s.sums.terms(a, -1, 0, 0, 0), s.sums.terms(a, i, -1, ch.from, ch.from)
	joinedBefore, joined := s.sums.terms(b, -1, 0, 0, 0), s.sums.terms(b, i, 1, ch.from, 0)
	distance := s.distance(c.vm, s.V.Hosts[a].Site, s.V.Hosts[b].Site)
	wishes := s.wishes(c.vm, ch.dest) - distance
	if to >= 0 {
		s.put(c, to)
	}
	g.Terms = []schemas.Term{}
	add := func(name string, amount float64) {
		if amount != 0 {
			g.Terms = append(g.Terms, schemas.Term{Name: name, Amount: amount})
		}
	}
	for j, name := range [...]string{"cpu", "near_capacity", "memory", "net", "disk"} {
		add(name, before[j]+joinedBefore[j]-after[j]-joined[j])
	}
	add("wishes", -wishes)
	add("distance", -distance)
	add("sending", -ch.price.sending)
	add("downtime", -ch.price.downtime)
	add("brown_out", -ch.price.brownOut)
	add("failing", -ch.transfer.Failing*max(0, ch.saved))
	return g
}

// terms are the parts of hostCost: CPU above capacity, CPU near capacity, memory, net,
// disk.
func (s *sums) terms(h, i int, sign float32, from, memFrom int) (out [5]float64) {
	share, alloc := s.share[h], s.alloc[h]
	if i >= 0 {
		share += float64(sign) * s.vweight[i] * s.valloc[i]
		alloc += float64(sign) * s.valloc[i]
	}
	c := s.capCPU[h]
	alpha := s.alpha
	s.alpha = 0
	out[0] = s.cpuOver(h, i, sign, from, c, c, 0)
	s.alpha = alpha
	out[1] = s.cpuOver(h, i, sign, from, s.softOf(c), c, doubtOf(c)) - out[0]
	out[2] = s.memOver(h, i, sign, memFrom) * float64(c) / float64(s.capMem[h])
	for j, limit := range s.limit[h] {
		if limit > 0 {
			out[3+j] = s.trafficOver(h, i, j, float64(sign), from, limit) * float64(c) / limit / 1000
		}
	}
	if alloc > 0.5 {
		for j := range out {
			out[j] *= share / alloc
		}
	}
	return out
}

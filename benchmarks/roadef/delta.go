package roadef

// homeMask is all ones when machine k is home to process i.
func (p *Problem) homeMask(i, k int32) int64 {
	if p.first[i] == k {
		return -1
	}
	return 0
}

// sited is what process i costs by being on machine k, but for the service's part.
func (p *Problem) sited(i, k int32) int64 {
	f := p.first[i]
	c := p.m.MachineWeight * int64(p.travel[int(f)*p.nm+int(k)])
	if f != k {
		c += p.move[i]
	}
	return c
}

// alreadyThere says whether a machine runs a process of the service.
func (p *Problem) alreadyThere(s, k int32) bool {
	a := p.alone[s]
	return a >= 0 && p.present[int(a)*p.words+int(k>>6)]>>(k&63)&1 != 0
}

// spreads says whether the service is in enough locations after a process of it goes
// from a to b.
func (p *Problem) spreads(s, a, b int32) bool {
	row := p.place[s]
	if row < 0 {
		return true
	}
	la, lb := p.location[a], p.location[b]
	if la == lb || p.spare[s] > 0 {
		return true
	}
	n := p.placeCount[int(row)*p.m.Locations:]
	return n[la] > 1 || n[lb] == 0
}

// served says whether dependencies hold, counts being as after a process of the
// service went from neighbourhood a to b.
func (p *Problem) served(s, a, b int32) bool {
	row := p.hood[s]
	n := p.m.Neighbourhoods
	for _, d := range p.needs[s] {
		if p.hoodCount[int(p.hood[d])*n+int(b)] == 0 {
			return false
		}
	}
	if p.hoodCount[int(row)*n+int(a)] == 0 {
		for _, d := range p.neededBy[s] {
			if p.hoodCount[int(p.hood[d])*n+int(a)] != 0 {
				return false
			}
		}
	}
	return true
}

// depends says whether dependencies hold after one process goes from machine a to b.
func (p *Problem) depends(s, a, b int32) bool {
	row := p.hood[s]
	na, nb := p.neighbour[a], p.neighbour[b]
	if row < 0 || na == nb {
		return true
	}
	n := p.hoodCount[int(row)*p.m.Neighbourhoods:]
	n[na]--
	n[nb]++
	ok := p.served(s, na, nb)
	n[na]++
	n[nb]--
	return ok
}

// dependsSwap is the same for one process of s going from a to b and one of t back.
func (p *Problem) dependsSwap(s, t, a, b int32) bool {
	rs, rt := p.hood[s], p.hood[t]
	na, nb := p.neighbour[a], p.neighbour[b]
	if na == nb || (rs < 0 && rt < 0) {
		return true
	}
	w := p.m.Neighbourhoods
	shift := func(row, from, to int32) {
		if row >= 0 {
			p.hoodCount[int(row)*w+int(from)]--
			p.hoodCount[int(row)*w+int(to)]++
		}
	}
	shift(rs, na, nb)
	shift(rt, nb, na)
	ok := (rs < 0 || p.served(s, na, nb)) && (rt < 0 || p.served(t, nb, na))
	shift(rs, nb, na)
	shift(rt, na, nb)
	return ok
}

// count changes how many processes of a service are away from home, and gives by how
// much that changes the largest such number.
func (p *Problem) count(s, by int32) int32 {
	if by == 0 {
		return 0
	}
	n := p.away[s]
	p.withN[n]--
	n += by
	p.away[s] = n
	p.withN[n]++
	before := p.most
	p.most = max(p.most, n)
	for p.withN[p.most] == 0 {
		p.most--
	}
	return p.most - before
}

// awayBy is +1 when process i leaves home by going from a to b, -1 when it returns.
func (p *Problem) awayBy(i, a, b int32) int32 {
	switch p.first[i] {
	case a:
		return 1
	case b:
		return -1
	}
	return 0
}

// serviceDelta is the change of the service move cost when process i goes from a to b.
func (p *Problem) serviceDelta(i, a, b int32) int64 {
	by := p.awayBy(i, a, b)
	if by == 0 {
		return 0
	}
	s := p.service[i]
	switch n := p.away[s]; {
	case by > 0 && n == p.most:
		return p.m.ServiceWeight
	case by < 0 && n == p.most && p.withN[n] == 1:
		return -p.m.ServiceWeight
	}
	return 0
}

// never is a change of the objective that no limit allows.
const never = int64(1) << 61

// shiftDelta is the change of the objective when process i goes to machine b: never
// when a rule forbids it or, maybe, when it exceeds the limit.
func (p *Problem) shiftDelta(i, b int32, limit int64) int64 {
	a := p.at[i]
	if a == b {
		return never
	}
	nr, nk, w := p.nr, p.nk, p.nr+p.nk
	q := p.proc[int(i)*nk : int(i)*nk+nk]
	to := p.mach[int(b)*w : int(b)*w+w]
	home := p.homeMask(i, b)
	hold := p.hold
	for r := 0; r < nr && r < len(q) && r < len(to) && r < len(hold); r++ {
		if to[r] < q[r]&^(hold[r]&home) {
			return never
		}
	}
	s := p.service[i]
	if p.alreadyThere(s, b) {
		return never
	}
	d := p.sited(i, b) - p.sited(i, a) - p.cost[a] - p.cost[b]
	limit += p.m.ServiceWeight // the service part can lower d by this much
	up := to[nr:][:len(q)]
	weight := p.weight[:len(q)]
	for l, x := range q {
		v := up[l] + x
		d += weight[l] * (v &^ (v >> 63))
	}
	if d > limit {
		return never
	}
	down := p.mach[int(a)*w+nr : int(a)*w+w][:len(q)]
	for l, x := range q {
		v := down[l] - x
		d += weight[l] * (v &^ (v >> 63))
	}
	if d > limit || !p.spreads(s, a, b) || !p.depends(s, a, b) {
		return never
	}
	return d + p.serviceDelta(i, a, b)
}

// swapDelta is the same for process i and j changing places.
func (p *Problem) swapDelta(i, j int32, limit int64) int64 {
	a, b := p.at[i], p.at[j]
	if a == b {
		return never
	}
	nr, nk, w := p.nr, p.nk, p.nr+p.nk
	qi := p.proc[int(i)*nk : int(i)*nk+nk]
	qj := p.proc[int(j)*nk : int(j)*nk+nk]
	ra := p.mach[int(a)*w : int(a)*w+w]
	rb := p.mach[int(b)*w : int(b)*w+w]
	iHomeB, iHomeA := p.homeMask(i, b), p.homeMask(i, a)
	jHomeB, jHomeA := p.homeMask(j, b), p.homeMask(j, a)
	for r, h := range p.hold {
		x, y := qi[r], qj[r]
		if rb[r]+y&^(h&jHomeB) < x&^(h&iHomeB) || ra[r]+x&^(h&iHomeA) < y&^(h&jHomeA) {
			return never
		}
	}
	s, t := p.service[i], p.service[j]
	if s != t && (p.alreadyThere(s, b) || p.alreadyThere(t, a)) {
		return never
	}
	d := p.sited(i, b) - p.sited(i, a) + p.sited(j, a) - p.sited(j, b) - p.cost[a] - p.cost[b]
	limit += 2 * p.m.ServiceWeight
	up, down, weight := rb[nr:][:len(qi)], ra[nr:][:len(qi)], p.weight[:len(qi)]
	qj = qj[:len(qi)]
	for l, x := range qi {
		x -= qj[l]
		u, v := up[l]+x, down[l]-x
		d += weight[l] * (u&^(u>>63) + v&^(v>>63))
	}
	if d > limit {
		return never
	}
	if s != t && (!p.spreads(s, a, b) || !p.spreads(t, b, a) || !p.dependsSwap(s, t, a, b)) {
		return never
	}
	bi, bj := p.awayBy(i, a, b), p.awayBy(j, b, a)
	if bi|bj != 0 {
		before := p.most
		p.count(s, bi)
		p.count(t, bj)
		d += p.m.ServiceWeight * int64(p.most-before)
		p.count(s, -bi)
		p.count(t, -bj)
	}
	return d
}

// apply moves process i to machine b without asking, and gives the change of the
// objective.
func (p *Problem) apply(i, b int32) int64 {
	a := p.at[i]
	nr, nk, w := p.nr, p.nk, p.nr+p.nk
	q := p.proc[int(i)*nk : int(i)*nk+nk]
	ra := p.mach[int(a)*w : int(a)*w+w]
	rb := p.mach[int(b)*w : int(b)*w+w]
	ha, hb := p.homeMask(i, a), p.homeMask(i, b)
	for r, h := range p.hold {
		ra[r] += q[r] &^ (h & ha)
		rb[r] -= q[r] &^ (h & hb)
	}
	for l, x := range q {
		ra[nr+l] -= x
		rb[nr+l] += x
	}
	d := p.sited(i, b) - p.sited(i, a) - p.cost[a] - p.cost[b]
	p.cost[a], p.cost[b] = p.machineCost(int(a)), p.machineCost(int(b))
	d += p.cost[a] + p.cost[b]
	s := p.service[i]
	p.leave(s, a)
	p.enter(s, b)
	by := p.awayBy(i, a, b)
	d += p.m.ServiceWeight * int64(p.count(s, by))
	p.file(i, by)

	last := len(p.on[a]) - 1
	moved := p.on[a][last]
	p.on[a][p.slot[i]] = moved
	p.slot[moved] = p.slot[i]
	p.on[a] = p.on[a][:last]
	p.slot[i] = int32(len(p.on[b]))
	p.on[b] = append(p.on[b], i)
	p.at[i] = b
	p.total += d
	return d
}

// file lists a process that left home, by 1, and unlists one that returned, by -1.
func (p *Problem) file(i, by int32) {
	switch {
	case by > 0:
		p.goneAt[i] = int32(len(p.gone))
		p.gone = append(p.gone, i)
	case by < 0:
		n, last := p.goneAt[i], p.gone[len(p.gone)-1]
		p.gone[n], p.goneAt[last] = last, n
		p.goneAt[i] = -1
		p.gone = p.gone[:len(p.gone)-1]
	}
}

// swap exchanges two processes without asking.
func (p *Problem) swap(i, j int32) int64 {
	a, b := p.at[i], p.at[j]
	d := p.apply(i, b) + p.apply(j, a)
	if p.service[i] == p.service[j] {
		// The second left where the first had come: both are there still.
		p.enterBit(p.service[i], b)
	}
	return d
}

func (p *Problem) enterBit(s, k int32) {
	if a := p.alone[s]; a >= 0 {
		p.present[int(a)*p.words+int(k>>6)] |= 1 << (k & 63)
	}
}

package plan

import (
	"cmp"
	"slices"

	"github.com/foreshift/foreshift/schemas"
)

// pack empties hosts so that they may be switched off, where the policy asks for it and
// no host is pressed: the least loaded host first, and only if all of its VMs can go to
// hosts that have some already and stay below the target share of capacity on every
// path. A host is emptied whole or not at all.
func (b *board) pack() {
	s := b.s
	if s.P.PackTarget <= 0 || len(b.moves) > 0 {
		return
	}
	var hosts []int32
	for h := range s.V.Hosts {
		if s.Pressed(int32(h)) {
			return
		}
		if len(s.V.Hosts[h].VMs) > 0 && s.hostWhy[h].OK() && len(s.sums.arriving[int32(h)]) == 0 {
			hosts = append(hosts, int32(h))
		}
	}
	slices.SortStableFunc(hosts, func(x, y int32) int { return cmp.Compare(s.sums.alloc[x], s.sums.alloc[y]) })
	taken := map[int32]bool{}
	for _, h := range hosts {
		if taken[h] {
			continue // it was given VMs of others
		}
		if len(s.V.Hosts[h].VMs) > s.limits.hour {
			return
		}
		b.clear(h, hosts, taken)
	}
}

// clear sends all VMs of a host to the fullest others that may take them, or none.
func (b *board) clear(h int32, hosts []int32, taken map[int32]bool) {
	s := b.s
	gone := map[int32]bool{}
	for _, c := range b.moves {
		gone[c.home] = true
	}
	mark := len(b.moves)
	vms := slices.Clone(s.V.Hosts[h].VMs)
	slices.SortStableFunc(vms, func(x, y int32) int { return cmp.Compare(s.sums.vpeak[y], s.sums.vpeak[x]) })
	for _, vm := range vms {
		c := s.candidate(vm)
		c.duty = no(schemas.ReasonOK, "packing")
		c.duty.Code = packing
		ok := c.why.OK() && s.modeOf(int(vm), int(h)) != schemas.ModeObserve
		for i := len(hosts) - 1; ok && i >= 0 && c.dest < 0; i-- {
			to := hosts[i]
			if to == h || gone[to] || !b.s.below(vm, to) {
				continue
			}
			if ch := s.pair(c, to); ch.why == schemas.ReasonOK {
				c.best, c.has, c.judged = ch, true, true
				b.put(c, to)
			}
		}
		if c.dest < 0 {
			for len(b.moves) > mark {
				b.lift(b.moves[len(b.moves)-1])
			}
			return
		}
	}
	for _, c := range b.moves[mark:] {
		taken[c.dest] = true
		b.cands = append(b.cands, c)
	}
	b.first = len(b.moves)
	slices.SortFunc(b.cands, func(x, y *candidate) int { return cmp.Compare(x.vm, y.vm) })
}

// packing is the duty of a VM whose host is to become empty. It is no reason of a
// refusal and appears in words only.
const packing schemas.ReasonCode = "packing"

// below reports whether host to stays below the target with VM i on it.
func (st *State) below(i, to int32) bool {
	s := st.sums
	limit := s.capCPU[to] * float32(st.P.PackTarget)
	load, d := s.cpu[int(to)*s.n:(int(to)+1)*s.n], s.vcpu[int(i)*s.n:(int(i)+1)*s.n]
	for j, x := range load {
		if x+d[j] > limit {
			return false
		}
	}
	return true
}

// Package balancer is a plain balancer of the kind that most virtualisation stacks
// have, to compare ours with: it evens out what is used now.
//
// What comes in: hosts with capacity, VMs with what they use now and where they are,
// groups that must not share a host, and the gap between the fullest and the emptiest
// host that is tolerated. What goes out: the moves, in order.
//
// What is promised: it looks at one number per VM and resource, as such balancers do,
// and knows nothing of the hours ahead, of what a move costs, or of whether one pays.
// It keeps memory and groups, so that a comparison is about judgement and not about
// broken rules. The same input gives the same moves.
//
// Why our own: the products need a cluster to run on; their rule is a loop.
package balancer

// Host is what a host has.
type Host struct{ CPU, Mem float64 }

// VM is what a VM uses, and where it is.
type VM struct {
	CPU, Mem float64
	Host     int
	Group    int // VMs of one group share no host; 0 = none
}

// Move takes a VM to a host.
type Move struct{ VM, To int }

// Balance moves VMs from the host whose CPU is used most, as a share of its capacity,
// to the one used least that may take it, until they are no more than gap apart, nothing moves any more,
// or the moves are used up. Of the VMs of the fullest host it takes the largest whose
// move still narrows the gap; one that has moved stays.
func Balance(hosts []Host, vms []VM, gap float64, most int) []Move {
	cpu, mem := make([]float64, len(hosts)), make([]float64, len(hosts))
	groups := make([]map[int]bool, len(hosts))
	on := make([][]int, len(hosts))
	for h := range groups {
		groups[h] = map[int]bool{}
	}
	for i, v := range vms {
		cpu[v.Host] += v.CPU
		mem[v.Host] += v.Mem
		on[v.Host] = append(on[v.Host], i)
		if v.Group != 0 {
			groups[v.Host][v.Group] = true
		}
	}
	moved := make([]bool, len(vms))
	stuck := make([]bool, len(hosts))
	var out []Move
	for len(out) < most {
		full, low := -1, -1
		for h := range hosts {
			if !stuck[h] && (full < 0 || cpu[h]/hosts[h].CPU > cpu[full]/hosts[full].CPU) {
				full = h
			}
			if low < 0 || cpu[h]/hosts[h].CPU < cpu[low]/hosts[low].CPU {
				low = h
			}
		}
		if full < 0 || cpu[full]/hosts[full].CPU-cpu[low]/hosts[low].CPU <= gap {
			return out
		}
		best, empty := -1, -1
		for _, i := range on[full] {
			v := &vms[i]
			if moved[i] || v.CPU <= 0 || best >= 0 && v.CPU <= vms[best].CPU {
				continue
			}
			to := -1
			for h := range hosts {
				fits := mem[h]+v.Mem <= hosts[h].Mem && !(v.Group != 0 && groups[h][v.Group])
				if h != full && fits && (to < 0 || cpu[h]/hosts[h].CPU < cpu[to]/hosts[to].CPU) {
					to = h
				}
			}
			if to >= 0 && (cpu[to]+v.CPU)/hosts[to].CPU < cpu[full]/hosts[full].CPU {
				best, empty = i, to
			}
		}
		if best < 0 {
			stuck[full] = true
			continue
		}
		v := &vms[best]
		cpu[full], cpu[empty] = cpu[full]-v.CPU, cpu[empty]+v.CPU
		mem[full], mem[empty] = mem[full]-v.Mem, mem[empty]+v.Mem
		if v.Group != 0 {
			delete(groups[full], v.Group)
			groups[empty][v.Group] = true
		}
		for k, i := range on[full] {
			if i == best {
				on[full] = append(on[full][:k], on[full][k+1:]...)
				break
			}
		}
		on[empty] = append(on[empty], best)
		moved[best] = true
		out = append(out, Move{best, empty})
	}
	return out
}

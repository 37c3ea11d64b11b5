package rescheduling

import (
	"fmt"
	"strconv"
	"strings"
)

// Move is one line of the answer: a VM goes from one place to another. A place is
// "node_id/numa", or "node_id" for a VM on both NUMA nodes of its host.
type Move struct {
	VM   string `json:"vm"`
	From string `json:"from"`
	To   string `json:"to"`
}

// Slots counts the places for machines of [SlotCores] cores on single NUMA nodes of
// active hosts.
func Slots(s *Snapshot) int {
	y := 0
	for c := range s.Clusters {
		for i := range s.Clusters[c].Hosts {
			if h := &s.Clusters[c].Hosts[i]; h.Status == active {
				for _, n := range h.NUMA {
					y += int(n.Free) / SlotCores
				}
			}
		}
	}
	return y
}

// Check carries the moves out on a copy of the snapshot, one after the other, and
// returns the slots there are in the end. It shares no code with the search, and
// names the first move that breaks a rule: a VM moved twice, one that may not move,
// a wrong place, a host that is not active, too few free cores or huge pages, or
// more moves than most.
func Check(s *Snapshot, moves []Move, most int) (int, error) {
	if len(moves) > most {
		return 0, fmt.Errorf("rescheduling: %d moves, and only %d allowed", len(moves), most)
	}
	hosts := map[string]*Host{}
	vms := map[string]*VM{}
	end := Snapshot{Clusters: make([]Cluster, len(s.Clusters))}
	for c := range s.Clusters {
		for _, h := range s.Clusters[c].Hosts {
			h.NUMA = append([]Node(nil), h.NUMA...)
			end.Clusters[c].Hosts = append(end.Clusters[c].Hosts, h)
		}
		for i := range end.Clusters[c].Hosts {
			hosts[end.Clusters[c].Hosts[i].ID] = &end.Clusters[c].Hosts[i]
		}
		for i := range s.Clusters[c].VMs {
			vms[s.Clusters[c].VMs[i].ID] = &s.Clusters[c].VMs[i]
		}
	}
	moved := map[string]bool{}
	for i, m := range moves {
		v := vms[m.VM]
		if v == nil || moved[m.VM] || !v.Movable {
			return 0, fmt.Errorf("rescheduling: move %d: VM %q is unknown, has moved already or may not move", i, m.VM)
		}
		moved[m.VM] = true
		if was := place(v.Host, v.NUMA); was != m.From {
			return 0, fmt.Errorf("rescheduling: move %d: VM %s is on %s, not on %s", i, m.VM, was, m.From)
		}
		name, number, split := strings.Cut(m.To, "/")
		to, from := hosts[name], hosts[v.Host]
		if to == nil || to.Status != active || from.Status != active || split != (len(v.NUMA) == 1) {
			return 0, fmt.Errorf("rescheduling: move %d: VM %s cannot go from %s to %s", i, m.VM, m.From, m.To)
		}
		target := []int{0, 1}
		if split {
			n, err := strconv.Atoi(number)
			if err != nil || n < 0 || n > 1 {
				return 0, fmt.Errorf("rescheduling: move %d: %s is no NUMA node", i, m.To)
			}
			target = []int{n}
		}
		for k, part := range v.NUMA {
			n := &to.NUMA[target[k]]
			if n.Free < part.Cores || n.HugeNow < part.Huge {
				return 0, fmt.Errorf("rescheduling: move %d: %s has %g cores and %g MB free, VM %s needs %g and %g", i, m.To, n.Free, n.HugeNow, m.VM, part.Cores, part.Huge)
			}
			n.Free -= part.Cores
			n.HugeNow -= part.Huge
			home := &from.NUMA[part.Number]
			home.Free += part.Cores
			home.HugeNow += part.Huge
		}
	}
	return Slots(&end), nil
}

func place(host string, on []Share) string {
	if len(on) == 2 {
		return host
	}
	return host + "/" + strconv.Itoa(on[0].Number)
}

package plan

import (
	"hash/fnv"

	"github.com/foreshift/foreshift/placer/policy/learning"
	"github.com/foreshift/foreshift/placer/trust"
	"github.com/foreshift/foreshift/schemas"
)

// compare holds what earlier steps expected of the hosts against what is now, and notes
// what this one expects. What is now is the path in which the last measured demand
// persists: demand, not use, which ends where a host is full.
func (s *State) compare(t *trust.State) {
	v, k := s.V, s.sums.k
	if k != schemas.NumScenarios {
		return
	}
	n := min(len(v.Hosts), trust.MaxHosts)
	seen := make([]trust.Seen, 0, n)
	index := make([]int, 0, n)
	for i := range n {
		h := i * len(v.Hosts) / n // of many, some at even distances in order of names
		vms, ok := s.tenants(h)
		if !ok {
			continue
		}
		load := float64(s.sums.path(h, schemas.CPU)[k-1]) / v.Hosts[h].Cap[schemas.CPU]
		index, seen = append(index, h), append(seen, trust.Seen{Host: v.Hosts[h].ID, VMs: vms, Load: load})
	}
	t.Learn(v.Issued, seen)
	for b, lead := range trust.Leads {
		slot := v.Grid.SlotOf(v.Issued + lead)
		if slot < 0 {
			continue
		}
		o := trust.Origin{Step: v.Issued, Own: float64(v.Own[slot*k+k-1]), Guesses: make([]trust.Guess, len(index))}
		for i, h := range index {
			at, full := s.sums.path(h, schemas.CPU)[slot*k:][:k], float32(v.Hosts[h].Cap[schemas.CPU])
			g := trust.Guess{Host: seen[i].Host, VMs: seen[i].VMs, Stays: at[k-1] / full}
			for j := range g.Paths {
				g.Paths[j] = at[j] / full
			}
			o.Guesses[i] = g
		}
		t.Expect(b, o)
	}
}

// verify holds what was decided in shadow against what the hosts ask for now: the path in
// which the last measured demand persists.
func (s *State) verify(l *learning.Ladder) {
	k := s.sums.k
	if k != schemas.NumScenarios || len(l.Open) == 0 {
		return
	}
	for h := range s.V.Hosts {
		host := &s.V.Hosts[h]
		if !host.Fresh {
			continue
		}
		short := false
		for r := schemas.CPU; r <= schemas.Memory; r++ {
			short = short || host.Cap[r] > 0 && float64(s.sums.path(h, r)[k-1]) > host.Cap[r]
		}
		l.Measured(host.ID, s.V.Issued.End(s.V.Base), short, s.V.Base)
	}
}

// tenants hashes the VMs of a host; ok while all of them are known and none comes or
// goes.
func (s *State) tenants(h int) (uint64, bool) {
	host := &s.V.Hosts[h]
	if !host.Fresh || len(host.VMs) == 0 || len(s.sums.arriving[int32(h)]) > 0 || host.Cap[schemas.CPU] <= 0 {
		return 0, false
	}
	f := fnv.New64a()
	for _, i := range host.VMs {
		m := &s.V.VMs[i]
		if m.Dest >= 0 || !m.Fresh {
			return 0, false
		}
		f.Write(m.ID[:])
	}
	return f.Sum64(), true
}

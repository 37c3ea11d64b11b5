package replay

import (
	"bytes"
	"hash/fnv"
	"slices"

	"github.com/foreshift/foreshift/placer/trust"
	"github.com/foreshift/foreshift/schemas"
)

// The placer learns at every step how far persistence is to be believed. The steps that
// are not put to it are learnt from here, from the same sums, so that it knows what it
// would have known.

// slots is how many slots of the sums are needed: those of the look-ahead, and those at
// which forecasts are judged.
func (o *ours) slots() int {
	n := schemas.SlotsWithin(o.set.LookAhead)
	if o.set.Trust {
		for _, lead := range trust.Leads {
			n = max(n, o.frame.Msg.Grid.SlotOf(o.frame.Msg.Issued+lead)+1)
		}
	}
	return n
}

// add counts a VM's paths on a host.
func (o *ours) add(v int, b int32) {
	n := o.slots()
	sum, row := o.sums[int(b)*K*n:(int(b)+1)*K*n], o.frame.CPU[v*K*schemas.Slots:(v+1)*K*schemas.Slots]
	for k := range K {
		at, x := sum[k*n:(k+1)*n], row[k*schemas.Slots:][:n]
		for s := range at {
			at[s] += x[s]
		}
	}
}

// weights are those of the scenarios by scenario and slot, as the placer has them.
func (o *ours) weights() []float32 {
	own := o.frame.Msg.Weight
	t := &o.fleet.Memory.Trust
	if !o.set.Trust || t.Weights() == nil {
		return own
	}
	turned := make([]float32, len(own)) // by slot and scenario
	for k := range K {
		for s := range schemas.Slots {
			turned[s*K+k] = own[k*schemas.Slots+s]
		}
	}
	turned = t.Apply(turned, K)
	out := make([]float32, len(own))
	for k := range K {
		for s := range schemas.Slots {
			out[k*schemas.Slots+s] = turned[s*K+k]
		}
	}
	return out
}

// compare is what a decision would have learnt of the hosts from which and to which
// nothing is on its way. The sums are those of near.
func (o *ours) compare(w *World) {
	t, f, n := &o.fleet.Memory.Trust, o.frame, o.slots()
	busy := make([]bool, w.F.H)
	tenants := make([][]schemas.VMID, w.F.H)
	for v, b := range w.At {
		tenants[b] = append(tenants[b], o.ids[v])
		if to := w.Bound[v]; to != b {
			busy[b], busy[to] = true, true
		}
	}
	full := float64(schemas.MilliCPU(1000 * w.F.C))
	var seen []trust.Seen
	var at []int
	count := min(w.F.H, trust.MaxHosts)
	for i := range count {
		b := i * w.F.H / count
		if busy[b] || len(tenants[b]) == 0 {
			continue
		}
		slices.SortFunc(tenants[b], func(x, y schemas.VMID) int { return bytes.Compare(x[:], y[:]) })
		hash := fnv.New64a()
		for _, id := range tenants[b] {
			hash.Write(id[:]) // a hash's Write has no error
		}
		at = append(at, b)
		seen = append(seen, trust.Seen{Host: hostID(int32(b)), VMs: hash.Sum64(), Load: float64(o.sums[b*K*n+(K-1)*n]) / full})
	}
	t.Learn(f.Msg.Issued, seen)
	for j, lead := range trust.Leads {
		slot := f.Msg.Grid.SlotOf(f.Msg.Issued + lead)
		origin := trust.Origin{Step: f.Msg.Issued, Own: float64(f.Msg.Weight[(K-1)*schemas.Slots+slot]), Guesses: make([]trust.Guess, len(at))}
		for i, b := range at {
			g := trust.Guess{Host: seen[i].Host, VMs: seen[i].VMs, Stays: o.sums[b*K*n+(K-1)*n+slot] / float32(full)}
			for k := range g.Paths {
				g.Paths[k] = o.sums[b*K*n+k*n+slot] / float32(full)
			}
			origin.Guesses[i] = g
		}
		t.Expect(j, origin)
	}
}

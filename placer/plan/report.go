package plan

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/foreshift/foreshift/schemas"
)

// HostPressure is what is told of host h.
func (s *State) HostPressure(h int32) *schemas.PressureHost {
	p, host := &s.Pressure[h], &s.V.Hosts[h]
	m := &schemas.PressureHost{Host: host.ID, Site: host.Msg.Site, Time: s.V.Now, Issued: s.V.Issued, Resource: p.Resource.String(), Score: schemas.Ratio(p.Score),
		Chances: s.chances(h), Onset: p.Onset, Peak: p.Peak, Limit: p.Limit, Unmet: p.Unmet, Why: []schemas.Why{}}
	if p.Score > 0 {
		m.Why = s.sums.why(s.sums.parts(p), p.Resource)
	}
	return m
}

func (s *State) chances(h int32) map[string]schemas.Chance {
	out := map[string]schemas.Chance{}
	for r := schemas.Resource(0); r < schemas.NumResources; r++ {
		if s.V.Hosts[h].Cap[r] > 0 {
			out[r.String()] = s.Pressure[h].Chances[r]
		}
	}
	return out
}

// VMPressures is what host h's pressure means for each VM on it: when the host
// runs short all of its VMs wait, each for its share. moving are those that the
// plan moves away.
func (s *State) VMPressures(h int32, moving map[schemas.VMID]bool) []*schemas.PressureVM {
	p, host := &s.Pressure[h], &s.V.Hosts[h]
	parts := s.sums.parts(p)
	out := make([]*schemas.PressureVM, 0, len(parts))
	why := s.sums.why(parts, p.Resource)
	for i := range parts {
		m := &s.V.VMs[parts[i].vm]
		if m.Host != h {
			continue // on its way here: it is told of where it is
		}
		v := &schemas.PressureVM{VM: m.ID, Host: host.ID, Cause: schemas.CauseHostContention, Time: s.V.Now, Issued: s.V.Issued, Resource: p.Resource.String(), Score: schemas.Ratio(p.Score),
			Chances: s.chances(h), Onset: p.Onset, Peak: parts[i].demand, Limit: parts[i].share * p.Limit, Why: why}
		if moving[m.ID] {
			v.Advice = "move"
		}
		out = append(out, v)
	}
	return out
}

// Shortfalls are the sites with demand that no placement serves: of the site's hosts
// together, of a VM that needs more than the largest host has, of VMs that cannot leave a
// host that is too small for them, or of a host of which the last plan found that no move
// relieves it. A site is told of when there is such demand
// with a chance of at least a half, and all of its hosts are heard of.
func (s *State) Shortfalls() []*schemas.Shortfall {
	var out []*schemas.Shortfall
	for _, r := range [2]schemas.Resource{schemas.CPU, schemas.Memory} {
		stuck := s.stuck(r)
		for site := range s.V.Sites {
			if f := s.shortfall(int32(site), r, stuck[site]); f != nil {
				out = append(out, f)
			}
		}
	}
	// CPU before memory, one of a site.
	slices.SortStableFunc(out, func(x, y *schemas.Shortfall) int { return cmp.Compare(x.Site, y.Site) })
	return slices.CompactFunc(out, func(x, y *schemas.Shortfall) bool { return x.Site == y.Site })
}

// stuck is by site, path by path, the demand that stays unserved wherever what can move
// goes; nil where there is none.
func (s *State) stuck(r schemas.Resource) [][]float32 {
	n, largest := schemas.Slots*s.sums.k, 0.0
	for h := range s.V.Hosts {
		largest = max(largest, s.V.Hosts[h].Cap[r])
	}
	out := make([][]float32, len(s.V.Sites))
	add := func(site int32, load []float32, limit float32) {
		for i, x := range load {
			if x <= limit {
				continue
			}
			if out[site] == nil {
				out[site] = make([]float32, n)
			}
			out[site][i] += x - limit
		}
	}
	fixed := make([][]float32, len(s.V.Hosts))
	for i := range s.V.VMs {
		m := &s.V.VMs[i]
		d := m.CPU
		if r == schemas.Memory {
			d = m.Mem
		}
		if s.helpless[s.at[i]] {
			continue // all that its host lacks is counted below
		}
		switch s.vmWhy[i].Code {
		case schemas.ReasonPinned, schemas.ReasonExcluded, schemas.ReasonStorage:
			if fixed[m.Host] == nil {
				fixed[m.Host] = make([]float32, n)
			}
			plus(fixed[m.Host], d[:n], 1)
		default:
			add(s.V.Hosts[s.at[i]].Site, d[:n], float32(largest))
		}
	}
	for h := range s.V.Hosts {
		load := fixed[h]
		if s.helpless[int32(h)] {
			load = s.sums.path(h, r)
		}
		add(s.V.Hosts[h].Site, load, float32(s.V.Hosts[h].Cap[r]))
	}
	return out
}

func (s *State) shortfall(site int32, r schemas.Resource, stuck []float32) *schemas.Shortfall {
	load, limit := make([]float32, schemas.Slots*s.sums.k), 0.0
	for h := range s.V.Hosts {
		if s.V.Hosts[h].Site != site {
			continue
		}
		if !s.V.Hosts[h].Fresh {
			return nil // who knows what it has free
		}
		limit += s.V.Hosts[h].Cap[r]
		for i, x := range s.sums.path(h, r) {
			load[i] += x
		}
	}
	for i := range load {
		if load[i] = max(0, load[i]-float32(limit)); stuck != nil {
			load[i] = max(load[i], stuck[i])
		}
	}
	var cum [schemas.Slots]float64
	s.sums.cumulate(load, 0, &cum)
	if limit <= 0 || cum[schemas.Slots-1] < .5 {
		return nil
	}
	f := &schemas.Shortfall{Site: s.V.Sites[site], Time: s.V.Now, Resource: r.String()}
	for t := range cum {
		first, n := s.V.Grid.Slot(t)
		if f.Onset == 0 && cum[t] >= .5 {
			f.Onset = first.Start(s.V.Base)
		}
		excess := 0.0
		for k := t * s.sums.k; k < (t+1)*s.sums.k; k++ {
			excess += float64(s.V.Weight[k]) * float64(load[k])
		}
		f.Amount = max(f.Amount, excess)
		f.Unmet += excess * float64(n) * s.V.Base.Seconds()
	}
	return f
}

// String is one line for logs and tests.
func (p Pressure) String() string {
	onset := "none"
	if p.OnsetSlot >= 0 {
		onset = fmt.Sprintf("slot %d", p.OnsetSlot)
	}
	return fmt.Sprintf("%s score %.2f look-ahead %.2f onset %s peak %s of %s", p.Resource, p.Score, p.Look, onset, Amount(p.Resource, p.Peak), Amount(p.Resource, p.Limit))
}

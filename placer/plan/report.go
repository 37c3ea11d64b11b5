package plan

import (
	"fmt"

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

// Shortfalls are the sites whose hosts together run short: what no move within
// the site can mend. A site is told of when its whole demand exceeds its whole
// capacity with a chance of at least a half, and all of its hosts are heard of.
func (s *State) Shortfalls() []*schemas.Shortfall {
	var out []*schemas.Shortfall
	for site := range s.V.Sites {
		for _, r := range [2]schemas.Resource{schemas.CPU, schemas.Memory} {
			if f := s.shortfall(int32(site), r); f != nil {
				out = append(out, f)
				break
			}
		}
	}
	return out
}

func (s *State) shortfall(site int32, r schemas.Resource) *schemas.Shortfall {
	load := make([]float32, s.sums.full)
	src, limit := s.sums.cpu, 0.0
	if r == schemas.Memory {
		src = s.sums.mem
	}
	for h := range s.V.Hosts {
		if s.V.Hosts[h].Site != site {
			continue
		}
		if !s.V.Hosts[h].Fresh {
			return nil // who knows what it has free
		}
		limit += s.V.Hosts[h].Cap[r]
		for i, x := range src[h*s.sums.full : (h+1)*s.sums.full] {
			load[i] += x
		}
	}
	var cum [schemas.Slots]float64
	s.sums.cumulate(load, limit, &cum)
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
			excess += float64(s.V.Weight[k]) * max(0, float64(load[k])-limit)
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

package plan

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"github.com/foreshift/foreshift/schemas"
)

// Pressure is how likely a host runs short, and of what.
type Pressure struct {
	Host     int32
	Resource schemas.Resource // of the highest chance
	Chances  [schemas.NumResources]schemas.Chance
	Score    float64 // highest chance within the longest horizon
	Look     float64 // highest chance within the policy's look-ahead
	// OnsetSlot is the slot in which the shortage is expected to begin, -1 without.
	OnsetSlot int
	Onset     schemas.Time
	Peak      float64 // expected highest sum of demand over the grid
	Limit     float64
	Unmet     float64 // resource-seconds above capacity over the grid
}

// assess computes a host's pressure. The chance by slot t is the weight, as slot t
// weighs them, of those scenarios whose path has exceeded capacity in any slot up
// to t; a horizon's chance is the highest of its slots'. Net and disk, which have
// no paths, take the highest slot's chance of a normal sum. The onset is the
// median given that it happens: the first slot by which half of the chance of the
// look-ahead (of the grid, where the look-ahead has none) has gathered.
func (s *sums) assess(h int) Pressure {
	host := &s.v.Hosts[h]
	p := Pressure{Host: int32(h), OnsetSlot: -1}
	best := -1.0
	var bestCum [schemas.Slots]float64
	var cum [schemas.Slots]float64
	for r := schemas.Resource(0); r < schemas.NumResources; r++ {
		limit := host.Cap[r]
		if limit <= 0 {
			continue
		}
		if r <= schemas.Memory {
			s.cumulate(s.path(h, r), limit, &cum)
		} else {
			s.cumulateTraffic(h, int(r-schemas.Net), limit/1000, &cum)
		}
		look := cum[s.s-1]
		p.Chances[r] = schemas.Chance{H1: within(&cum, 0), H6: within(&cum, 1), H24: within(&cum, 2)}
		p.Look = max(p.Look, look)
		// The nearer trouble names the resource; the farther only where none is near.
		if rank := 10*look + cum[schemas.Slots-1]; rank > best+1e-12 {
			best, bestCum, p.Resource, p.Limit = rank, cum, r, limit
		}
		p.Score = max(p.Score, cum[schemas.Slots-1])
	}
	p.Peak, p.Unmet = s.peak(h, p.Resource, p.Limit)
	end := bestCum[s.s-1]
	if end <= 0 {
		end = bestCum[schemas.Slots-1]
	}
	if end > 0 {
		for t := range bestCum {
			if bestCum[t] >= end/2 {
				first, _ := s.v.Grid.Slot(t)
				p.OnsetSlot, p.Onset = t, first.Start(s.v.Base)
				break
			}
		}
	}
	return p
}

// path is a host's CPU or memory over the grid, path by path.
func (s *sums) path(h int, r schemas.Resource) []float32 {
	size := schemas.Slots * s.k
	return s.grid[r][h*size : (h+1)*size]
}

func within(cum *[schemas.Slots]float64, horizon int) schemas.Ratio {
	return schemas.Ratio(min(1, cum[schemas.SlotsWithin(schemas.Horizons[horizon])-1]))
}

// cumulate fills cum[t], the chance that the limit was exceeded in a slot up to t,
// as the highest so far.
func (s *sums) cumulate(load []float32, limit float64, cum *[schemas.Slots]float64) {
	var hit [schemas.NumScenarios]bool
	last := 0.0
	for t := 0; t < schemas.Slots; t++ {
		c := 0.0
		for k := 0; k < s.k; k++ {
			if load[t*s.k+k] > float32(limit) {
				hit[k] = true
			}
			if hit[k] {
				c += float64(s.v.Weight[t*s.k+k])
			}
		}
		last = max(last, c)
		cum[t] = min(1, last)
	}
}

func (s *sums) cumulateTraffic(h, j int, limit float64, cum *[schemas.Slots]float64) {
	last := 0.0
	for t := 0; t < schemas.Slots; t++ {
		x := s.nd[h*schemas.Slots+t][j]
		if sd := x.width() / z90; sd > 0 {
			last = max(last, .5*math.Erfc((limit-x.mid)/sd/math.Sqrt2))
		} else if x.mid > limit {
			last = 1
		}
		if last < 1e-4 {
			last = 0 // the tail of a normal is no evidence
		}
		cum[t] = last
	}
}

// peak is the expected highest demand over the grid and the expected demand above
// the limit, in the resource's unit and its seconds.
func (s *sums) peak(h int, r schemas.Resource, limit float64) (peak, unmet float64) {
	base := s.v.Base.Seconds()
	if r > schemas.Memory {
		for t := 0; t < schemas.Slots; t++ {
			x := 1000 * s.nd[h*schemas.Slots+t][r-schemas.Net].upper()
			peak = max(peak, x)
			unmet += max(0, x-limit) * float64(schemas.SlotLen(t)) * base
		}
		return peak, unmet
	}
	load := s.path(h, r)
	total := 0.0
	for k := 0; k < s.k; k++ {
		top, weight := 0.0, 0.0
		for t := 0; t < schemas.Slots; t++ {
			x, w := float64(load[t*s.k+k]), float64(s.v.Weight[t*s.k+k])
			weight += w
			if w > 0 {
				top = max(top, x)
			}
			unmet += w * max(0, x-limit) * float64(schemas.SlotLen(t)) * base
		}
		peak += weight * top
		total += weight
	}
	if total > 0 {
		peak /= total
	}
	return peak, unmet
}

// part is what one VM has of a host's demand.
type part struct {
	vm     int32
	demand float64
	share  float64
}

// parts are the VMs of a host by what they demand of the pressed resource in the
// slot of the onset (the first without one), most first.
func (s *sums) parts(p *Pressure) []part {
	t := max(0, p.OnsetSlot)
	var out []part
	sum := 0.0
	for _, i := range append(slices.Clone(s.v.Hosts[p.Host].VMs), s.arriving[p.Host]...) {
		d := s.demandAt(int(i), p.Resource, t)
		sum += d
		out = append(out, part{vm: i, demand: d})
	}
	for i := range out {
		if sum > 0 {
			out[i].share = out[i].demand / sum
		}
	}
	slices.SortStableFunc(out, func(a, b part) int { return cmp.Or(cmp.Compare(b.demand, a.demand), cmp.Compare(a.vm, b.vm)) })
	return out
}

// demandAt is a VM's expected demand in a slot; net and disk at their .9 quantile.
func (s *sums) demandAt(i int, r schemas.Resource, t int) float64 {
	m := &s.v.VMs[i]
	d := m.CPU
	switch r {
	case schemas.Memory:
		d = m.Mem
	case schemas.Net, schemas.Disk:
		if m.Mid == nil {
			return 0
		}
		j := r - schemas.Net
		return float64(m.Mid[j][t] + m.Spread[j][t])
	}
	sum := 0.0
	for k := t * s.k; k < (t+1)*s.k; k++ {
		sum += float64(s.v.Weight[k] * d[k])
	}
	return sum
}

// why names the three VMs that add most.
func (s *sums) why(ps []part, r schemas.Resource) []schemas.Why {
	out := []schemas.Why{}
	for _, p := range ps[:min(3, len(ps))] {
		if p.demand <= 0 {
			break
		}
		out = append(out, schemas.Why{Kind: "neighbour", Share: schemas.Ratio(p.share),
			Text: fmt.Sprintf("%s asks for %s, %.0f %% of the host's demand then", s.v.VMs[p.vm].Name, Amount(r, p.demand), 100*p.share)})
	}
	return out
}

// Amount writes a quantity of a resource for people.
func Amount(r schemas.Resource, x float64) string {
	switch r {
	case schemas.CPU:
		return fmt.Sprintf("%.2f cores", x/1000)
	case schemas.Memory:
		return fmt.Sprintf("%.2f GiB", x/(1<<30))
	default:
		return fmt.Sprintf("%.1f MB/s", x/1e6)
	}
}

package plan

import (
	"math"

	"github.com/foreshift/foreshift/schemas"
)

// correlation is what the spread of two VMs' network or disk traffic is taken to
// have in common. Adding upper quantiles as if all VMs peaked together (1) sees a
// shortage on every host; adding variances as if they were strangers (0) misses
// the common bursts. With it the .9 quantile of a sum is
//
//	sum(mid) + sqrt(rho*sum(spread)^2 + (1-rho)*sum(spread^2))
//
// for VMs of median mid and .9 quantile mid+spread. CPU and memory need no such
// figure: their joint scenarios are added path by path.
const correlation = .3

// z90 turns a spread (.9 quantile less median) into a standard deviation.
const z90 = 1.2815515655446004

// traffic sums one resource of one slot over the VMs of a host, in kB/s.
type traffic struct{ mid, spread, square float64 }

func (t traffic) upper() float64 { return t.mid + t.width() }

func (t traffic) width() float64 {
	return math.Sqrt(max(0, correlation*t.spread*t.spread+(1-correlation)*t.square))
}

func (t traffic) plus(mid, spread float32, sign float64) traffic {
	m, d := kilo(mid), kilo(spread)
	return traffic{t.mid + sign*m, t.spread + sign*d, t.square + sign*d*d}
}

// kilo turns bytes/s into whole kB/s.
func kilo(x float32) float64 { return float64(int64(x/1000 + .5)) }

func (s *sums) addTraffic(i, h int, sign float64, from int) {
	m := &s.v.VMs[i]
	if m.Mid == nil {
		return
	}
	for t := from; t < schemas.Slots; t++ {
		nd := &s.nd[h*schemas.Slots+t]
		for j := range nd {
			nd[j] = nd[j].plus(m.Mid[j][t], m.Spread[j][t], sign)
		}
	}
}

func (s *sums) topTraffic(h int) {
	for j := range s.ndTop[h] {
		s.ndTop[h][j] = 0
		if s.limit[h][j] <= 0 {
			continue
		}
		for t := 0; t < s.s; t++ {
			s.ndTop[h][j] = max(s.ndTop[h][j], s.nd[h*schemas.Slots+t][j].upper())
		}
	}
}

// trafficOver sums what the .9 quantile of net (j 0) or disk (j 1) is above limit
// over the look-ahead, in kB. The quantile of a sum is at most the sum of quantiles,
// so that most hosts need no look.
func (s *sums) trafficOver(h, i, j int, sign float64, from int, limit float64) float64 {
	more := 0.0
	if i >= 0 && sign > 0 {
		more = s.vtraffic[i][j]
	}
	if s.ndTop[h][j]+more <= limit {
		return 0
	}
	if s.exact(h); s.ndTop[h][j]+more <= limit {
		return 0
	}
	sum := 0.0
	for t := 0; t < s.s; t++ {
		x := s.nd[h*schemas.Slots+t][j]
		if i >= 0 && t >= from {
			if m := &s.v.VMs[i]; m.Mid != nil {
				x = x.plus(m.Mid[j][t], m.Spread[j][t], sign)
			}
		}
		sum += max(0, x.upper()-limit) * s.secs[t]
	}
	return sum
}

// trafficFits says which of net and disk VM i would take above b's capacity at the
// .9 quantile, and whether both fit.
func (s *sums) trafficFits(i, b, from int) (schemas.Resource, bool) {
	m := &s.v.VMs[i]
	if m.Mid == nil {
		return 0, true
	}
	for j, limit := range s.limit[b] {
		if limit <= 0 || s.ndTop[b][j]+s.vtraffic[i][j] <= limit {
			continue
		}
		if s.exact(b); s.ndTop[b][j]+s.vtraffic[i][j] <= limit {
			continue
		}
		for t := min(from, s.s); t < s.s; t++ {
			if s.nd[b*schemas.Slots+t][j].plus(m.Mid[j][t], m.Spread[j][t], 1).upper() > limit && m.Mid[j][t]+m.Spread[j][t] > 0 {
				return schemas.Net + schemas.Resource(j), false
			}
		}
	}
	return 0, true
}

package pressure

import (
	"cmp"
	"math"
	"math/rand/v2"
	"slices"
)

// Scores of the chances of one horizon over a set of origins.
type Scores struct {
	N        int        `json:"n"`
	Events   int        `json:"events"`
	Base     float64    `json:"base_rate"`
	Brier    float64    `json:"brier"`
	BSS      float64    `json:"bss"`               // against the base rate of these origins
	BSSVM    float64    `json:"bss_vs_vm_history"` // against each VM's own past frequency
	LogLoss  float64    `json:"log_loss"`
	ECE      float64    `json:"ece_10"`      // ten bins of equal width
	ECEEqual float64    `json:"ece_eq_freq"` // ten bins of equal number
	AP       float64    `json:"ap"`          // area under precision over recall
	BSSRange [2]float64 `json:"bss_95"`      // bootstrap over VMs
	APRange  [2]float64 `json:"ap_95"`
	Usual    Usual      `json:"vm_history"` // the same for each VM's own past frequency
	Bins     []Bin      `json:"bins"`       // of equal number, for the reliability diagram
}

// Usual is how a VM's own past frequency scores.
type Usual struct {
	BSS float64 `json:"bss"`
	AP  float64 `json:"ap"`
}

// Bin is a point of a reliability diagram.
type Bin struct {
	N    int     `json:"n"`
	Said float64 `json:"said"`
	Came float64 `json:"came"`
}

const (
	bins      = 10
	resamples = 200
)

func score(rows []said, vms int, onset bool) Scores {
	var set []said
	for _, r := range rows {
		if !onset || r.onset {
			set = append(set, r)
		}
	}
	s := Scores{N: len(set)}
	if s.N == 0 {
		return s
	}
	ours := func(r *said) float64 { return r.p }
	var usual float64
	s.Brier, s.Base, s.Events = brier(set, ours)
	usual, _, _ = brier(set, func(r *said) float64 { return r.usual })
	if v := s.Base * (1 - s.Base); v > 0 {
		s.BSS, s.Usual.BSS = 1-s.Brier/v, 1-usual/v
	}
	if usual > 0 {
		s.BSSVM = 1 - s.Brier/usual
	}
	for i := range set {
		p := min(max(set[i].p, 1e-4), 1-1e-4)
		if !set[i].hit {
			p = 1 - p
		}
		s.LogLoss -= math.Log(p) / float64(s.N)
	}
	s.ECE = equalWidth(set)
	s.Usual.AP = precision(set, func(r *said) float64 { return r.usual })
	s.AP = precision(set, ours) // leaves the set in order of p
	slices.Reverse(set)
	for b := range bins { // as numpy's array_split
		lo, hi := split(len(set), b), split(len(set), b+1)
		if lo == hi {
			continue
		}
		var x Bin
		for _, r := range set[lo:hi] {
			x.Said += r.p
			if r.hit {
				x.Came++
			}
		}
		x.N = hi - lo
		x.Said /= float64(x.N)
		x.Came /= float64(x.N)
		s.ECEEqual += math.Abs(x.Said-x.Came) / bins
		s.Bins = append(s.Bins, x)
	}
	s.BSSRange, s.APRange = bootstrap(set, vms)
	return s
}

// split is where bin b of n items begins: the first n%bins bins have one more.
func split(n, b int) int { return b*(n/bins) + min(b, n%bins) }

func brier(set []said, p func(*said) float64) (score, base float64, events int) {
	for i := range set {
		d := p(&set[i])
		if set[i].hit {
			d -= 1
			events++
		}
		score += d * d
	}
	n := float64(len(set))
	return score / n, float64(events) / n, events
}

func equalWidth(set []said) (ece float64) {
	var n, said, came [bins]float64
	for _, r := range set {
		k := min(int(r.p*bins), bins-1)
		n[k]++
		said[k] += r.p
		if r.hit {
			came[k]++
		}
	}
	for k := range n {
		ece += math.Abs(said[k]-came[k]) / float64(len(set))
	}
	return ece
}

// precision is the average precision: the sum over thresholds of precision times the
// gain in recall, equal chances taken together. It sorts the set, highest first.
func precision(set []said, p func(*said) float64) (ap float64) {
	slices.SortFunc(set, func(a, b said) int {
		return cmp.Or(cmp.Compare(p(&b), p(&a)), cmp.Compare(a.vm, b.vm), cmp.Compare(a.origin, b.origin))
	})
	var events float64
	for i := range set {
		if set[i].hit {
			events++
		}
	}
	if events == 0 {
		return 0
	}
	var hits, before float64
	for i := range set {
		if set[i].hit {
			hits++
		}
		if i+1 == len(set) || p(&set[i+1]) != p(&set[i]) {
			ap += hits / float64(i+1) * (hits - before) / events
			before = hits
		}
	}
	return ap
}

// bootstrap draws VMs with replacement and gives the 2.5 and 97.5 % points of skill and
// average precision. set is sorted by p, lowest first; a VM drawn twice counts twice.
func bootstrap(set []said, vms int) (bss, ap [2]float64) {
	rng := rand.New(rand.NewPCG(20, 13))
	var b, a []float64
	weight := make([]float64, vms)
	for range resamples {
		clear(weight)
		for range vms {
			weight[rng.IntN(vms)]++
		}
		var n, events, loss float64
		for i := range set {
			w, d := weight[set[i].vm], set[i].p
			n += w
			if set[i].hit {
				events += w
				d -= 1
			}
			loss += w * d * d
		}
		if events == 0 || events == n {
			continue
		}
		base := events / n
		b = append(b, 1-loss/n/(base*(1-base)))
		var hits, seen, before, sum float64
		for i := len(set) - 1; i >= 0; i-- {
			w := weight[set[i].vm]
			seen += w
			if set[i].hit {
				hits += w
			}
			if (i == 0 || set[i-1].p != set[i].p) && seen > 0 {
				sum += hits / seen * (hits - before) / events
				before = hits
			}
		}
		a = append(a, sum)
	}
	return ends(b), ends(a)
}

func ends(x []float64) [2]float64 {
	if len(x) == 0 {
		return [2]float64{}
	}
	slices.Sort(x)
	return [2]float64{x[len(x)*25/1000], x[min(len(x)-1, len(x)*975/1000)]}
}

package replay

import (
	"errors"
	"fmt"
	"math"
	"math/rand"
	"slices"

	"github.com/foreshift/foreshift/schemas"
)

const (
	warmDays  = 8 // before the first scored step
	meanDays  = 7 // whose mean load the first placement goes by
	day       = schemas.StepsPerDay
	perHour   = 12    // steps
	sizedBy   = .999  // quantile of the fleet's demand that the hosts are sized for
	tightest  = .96   // utilisation at which the number of hosts is chosen
	roomy     = 2.9   // a host holds so many of the largest VM's peak
	memFactor = 1.7   // memory of all hosts over that of all VMs
	memLeast  = 1.5   // memory of a host over that of the largest VM
	maxHosts  = 10000 // tried
)

// Fleet is the hosts a history is put on, and the steps that are scored.
type Fleet struct {
	H          int
	C, M       float64 // cores and GiB of a host
	U          float64 // utilisation that C is for
	Start, End int     // steps scored: Start <= t < End
	Peak       float64 // of the largest VM while scored, cores
}

// Size works out the hosts for a utilisation, after the rule by which C is the .999
// quantile of the fleet's demand in the scored time over H*u, and H the largest even
// number of hosts that at u = .96 are still 2.9 times as large as any VM's peak, unless
// hosts says otherwise. The scored time is from day from, at least 8, to day to, 0 for
// the last.
func Size(h *History, u float64, hosts, from, to int) (Fleet, error) {
	f := Fleet{U: u, Start: max(from, warmDays) * day, End: h.Steps}
	if to > 0 {
		f.End = min(f.End, to*day)
	}
	if !(u > 0) || u > 2 {
		return f, fmt.Errorf("backtest: utilisation %g: want above 0 and at most 2", u)
	}
	if f.End-f.Start < day {
		return f, fmt.Errorf("backtest: days %d to %d of %d leave no whole day to score", f.Start/day, f.End/day, h.Steps/day)
	}
	total := make([]float64, 0, f.End-f.Start)
	for t := f.Start; t < f.End; t++ {
		sum := 0.0
		for v := range h.VMs {
			d := h.At(v, t)
			sum += d
			f.Peak = max(f.Peak, d)
		}
		total = append(total, sum)
	}
	slices.Sort(total)
	need := total[int(sizedBy*float64(len(total)-1))]
	if need <= 0 || f.Peak <= 0 {
		return f, errors.New("backtest: the history has no demand")
	}
	f.H = hosts
	if hosts == 0 {
		f.H = min(maxHosts, int(need/(tightest*roomy*f.Peak))) / 2 * 2
	}
	if f.H < 2 {
		return f, fmt.Errorf("backtest: the largest VM peaks at %.3g cores and the fleet at %.4g: too few VMs for two hosts", f.Peak, need)
	}
	f.C = need / (float64(f.H) * u)
	mem, most := 0.0, 0.0
	for i := range h.VMs {
		mem, most = mem+h.VMs[i].GiB, max(most, h.VMs[i].GiB)
	}
	f.M = max(memFactor*mem/float64(f.H), memLeast*most)
	return f, nil
}

// Place puts the VMs in random order, each on the host of least mean load in the first
// week that has the memory. ok is false when one found none.
func Place(h *History, f Fleet, seed int64) (at []int32, ok bool) {
	load, mem := make([]float64, f.H), make([]float64, f.H)
	at, ok = make([]int32, len(h.VMs)), true
	for _, v := range rand.New(rand.NewSource(seed)).Perm(len(h.VMs)) {
		mean := 0.0
		for t := range meanDays * day {
			mean += h.At(v, t)
		}
		mean /= meanDays * day
		best := -1
		for b := range f.H {
			if mem[b]+h.VMs[v].GiB <= f.M && (best < 0 || load[b] < load[best]) {
				best = b
			}
		}
		if best < 0 {
			best, ok = slices.Index(mem, slices.Min(mem)), false
		}
		at[v] = int32(best)
		load[best] += mean
		mem[best] += h.VMs[v].GiB
	}
	return at, ok
}

// Gate is one of the conditions under which the comparison means anything.
type Gate struct {
	Name   string  `json:"name"`
	Value  float64 `json:"value"`
	Bound  float64 `json:"bound"`
	AtMost bool    `json:"at_most"` // the value must not be above the bound; otherwise not below
	OK     bool    `json:"ok"`
	Why    string  `json:"why"`
}

func gate(name string, value, bound float64, atMost bool, why string) Gate {
	ok := value >= bound
	if atMost {
		ok = value <= bound
	}
	return Gate{name, value, bound, atMost, ok && !math.IsNaN(value), why}
}

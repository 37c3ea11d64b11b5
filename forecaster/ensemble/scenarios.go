package ensemble

import (
	"math"

	"github.com/foreshift/foreshift/forecaster/window"
	"github.com/foreshift/foreshift/schemas"
)

// K is the number of past origins; the persistence scenario comes after them.
const K = schemas.NumScenarios - 1

const (
	day         = schemas.StepsPerDay
	persistFor  = 12 // steps in which the persistence scenario counts
	persistPart = .4 // its weight there
	persistMean = 2  // steps whose mean persists: ten minutes
	levelSteps  = 3  // steps whose mean is the level at an origin
	levelFor    = 12 // steps after which 1/e of that level is still looked at
	together    = .5 // weight of the fleet's rank beside a VM's own
)

// held is the part of the level at the origin that is taken off what came in a slot: what
// a VM did at one moment says how the next hour differed from it, and nothing of the
// evening.
var held = func() (a [schemas.Slots]float32) {
	for s := range a {
		a[s] = float32(math.Exp(-float64(schemas.SlotOffset(s)) / levelFor))
	}
	return a
}()

// Joint makes the scenarios of one issue: Begin, then Join for every VM of the
// fleet, then Paths for each.
type Joint struct {
	chosen   []schemas.Step // by SetOrigins at chosenAt; nil: Origins
	chosenAt schemas.Step
	issued   schemas.Step
	period   schemas.Step
	Origins  [K]schemas.Step
	Weight   []float32                            // (K+1) x slots
	step     [K][schemas.Slots]schemas.Step       // the past step whose demand stands for the slot
	sum      [K][schemas.Slots][resources]float64 // of scaled changes over the VMs joined
	total    [schemas.Slots][resources][K]float64 // of changes as they are
	ranks    [schemas.Slots][resources][K]int8    // of total
	ranked   bool                                 // ranks are of what was joined
	count    [K][schemas.Slots][resources]int32
	common   [K][schemas.Slots]float32 // where nobody has history: one path for all
	rank     [K]levelAt
	key      [K]float32
	change   [K][schemas.Slots]float32
}

const resources = schemas.ScenarioResources

// levelAt is a probability as a place between two levels of a distribution.
type levelAt struct {
	lo int
	f  float32
}

// Begin sets the step issued and the steps of history the fleet has.
func (j *Joint) Begin(issued schemas.Step, history int) {
	j.issued = issued
	j.period = schemas.Step(max(1, min(day, history)))
	j.Origins = j.originsAt(issued, history)
	j.Weight = make([]float32, (K+1)*schemas.Slots)
	clear(j.sum[:])
	clear(j.total[:])
	j.ranked = false
	clear(j.count[:])
	for k := range j.step {
		for s := range j.step[k] {
			p := j.Origins[k] + 1 + schemas.Step(schemas.SlotOffset(s))
			p += schemas.Step(hash(issued, s, 1) % uint64(schemas.SlotLen(s)))
			if over := p - issued; over > 0 { // not seen yet: the same place a day (or history) before
				p -= (over + j.period - 1) / j.period * j.period
			}
			j.step[k][s] = p
			j.common[k][s] = float32(hash(issued, k, 2)%1000)/1000 - .5
			w := float32(1) / K
			if schemas.SlotOffset(s) < persistFor {
				w *= 1 - persistPart
				j.Weight[K*schemas.Slots+s] = persistPart
			}
			j.Weight[k*schemas.Slots+s] = w
		}
		p := (float32(k) + .5) / K
		lo := 0
		for lo+2 < schemas.NumLevels && p > schemas.Levels[lo+1] {
			lo++
		}
		j.rank[k] = levelAt{lo, (p - schemas.Levels[lo]) / (schemas.Levels[lo+1] - schemas.Levels[lo])}
	}
}

// changes fills j.change with how demand in each slot differed from its mean, less what
// is held of that at the origin; NaN where the window has none. It gives that mean, the
// series' scale.
func (j *Joint) changes(v *window.View, r schemas.Resource) (scale float32) {
	var sum float64
	n := 0
	for k := range j.change {
		for s := range j.change[k] {
			y := v.At(r, int(j.step[k][s]-v.First))
			if y == y {
				sum += float64(y)
				n++
			}
			j.change[k][s] = y
		}
	}
	if n == 0 {
		return schemas.NaN()
	}
	scale = float32(sum / float64(n))
	for k := range j.change {
		level := levelOf(v, r, j.Origins[k], levelSteps) - scale
		for s, y := range j.change[k] {
			j.change[k][s] = y - scale - held[s]*level
		}
	}
	return scale
}

// levelOf is the mean of the last n steps up to s, NaN when all are missing.
func levelOf(v *window.View, r schemas.Resource, s schemas.Step, n int) float32 {
	var sum float32
	k := 0
	for t := s - schemas.Step(n) + 1; t <= s; t++ {
		if y := v.At(r, int(t-v.First)); y == y {
			sum += y
			k++
		}
	}
	return sum / float32(k)
}

// Join adds a VM to the common path, which VMs without history follow and the others are
// drawn to. The order of VMs must be the same in every run.
func (j *Joint) Join(v *window.View) {
	j.ranked = false
	for r := range resources {
		scale := j.changes(v, schemas.Resource(r))
		if !(scale > 0) {
			continue
		}
		for k := range j.change {
			for s, d := range j.change[k] {
				if d == d {
					j.sum[k][s][r] += float64(d / scale)
					j.count[k][s][r]++
					j.total[s][r][k] += float64(d)
				}
			}
		}
	}
}

// Paths writes the VM's scenarios, K+1 x slots x {cpu, mem}, into dst: along each
// origin's path the VM takes the quantile of dist (cpu, mem) that the origin's rank
// among the origins says, its own and, with a part, the fleet's: a dozen moments are too
// few to tell what VMs share from what each does by itself, and a sum errs by what is
// missed of the former.
func (j *Joint) Paths(v *window.View, dist [resources]schemas.Dist, dst []float32) {
	j.rankTotals()
	for r := range resources {
		if q := dist[r].Q[0]; q != q { // no forecast, no paths
			for i := r; i < len(dst); i += resources {
				dst[i] = q
			}
			continue
		}
		scale := j.changes(v, schemas.Resource(r))
		if !(scale > 0) {
			scale = 1
		}
		for s := range schemas.Slots {
			for k := range j.key {
				d := j.change[k][s]
				if d != d {
					d = j.path(k, s, r) * scale
				}
				j.key[k] = d
			}
			j.place(s, r, dist[r].At(s), dst)
		}
		now := levelOf(v, schemas.Resource(r), j.issued, persistMean)
		for s := range schemas.Slots {
			y := now
			if y != y {
				y = dist[r].At(s)[schemas.NumLevels/2]
			}
			dst[(K*schemas.Slots+s)*resources+r] = max(0, y)
		}
	}
}

// path is the scaled change that VMs without history follow in scenario k.
func (j *Joint) path(k, s, r int) float32 {
	if n := j.count[k][s][r]; n > 0 {
		return float32(j.sum[k][s][r] / float64(n))
	}
	return j.common[k][s]
}

// place gives each scenario the quantile of its rank in slot s. Equal keys follow
// the others' path, so that VMs that stood still do not burst by themselves.
func (j *Joint) place(s, r int, q []float32, dst []float32) {
	var order [K]int8
	for k := range order { // insertion sort: K is small
		i := k
		for i > 0 && j.less(k, int(order[i-1]), s, r) {
			order[i] = order[i-1]
			i--
		}
		order[i] = int8(k)
	}
	var drawn [K]float32
	for n, k := range order {
		drawn[k] = float32(n) + together*float32(j.ranks[s][r][k])
	}
	for n, k := range order {
		i := n
		for i > 0 && drawn[k] < drawn[order[i-1]] {
			order[i] = order[i-1]
			i--
		}
		order[i] = k
	}
	for n, k := range order {
		at := j.rank[n]
		dst[(int(k)*schemas.Slots+s)*resources+r] = max(0, q[at.lo]+at.f*(q[at.lo+1]-q[at.lo]))
	}
}

// rankTotals ranks the scenarios by what the VMs joined do together in each slot.
func (j *Joint) rankTotals() {
	if j.ranked {
		return
	}
	j.ranked = true
	for s := range j.total {
		for r := range j.total[s] {
			t, rank := &j.total[s][r], &j.ranks[s][r]
			for k := range t {
				rank[k] = 0
				for i := range t {
					if t[i] < t[k] || t[i] == t[k] && i < k {
						rank[k]++
					}
				}
			}
		}
	}
}

func (j *Joint) less(a, b, s, r int) bool {
	if j.key[a] != j.key[b] {
		return j.key[a] < j.key[b]
	}
	pa, pb := j.path(a, s, r), j.path(b, s, r)
	if pa != pb {
		return pa < pb
	}
	if ca, cb := j.common[a][s], j.common[b][s]; ca != cb {
		return ca < cb
	}
	return a < b
}

package live

import (
	"math"
	"slices"

	"github.com/foreshift/foreshift/schemas"
)

// half keeps the upper 16 bits of a float32: any range, eight bits of precision (a
// quarter of a percent), NaN for missing. Charts show no more.
type half uint16

func toHalf(v float32) half {
	if v != v {
		return 0x7fc0
	}
	b := math.Float32bits(v)
	return half((b + 0x7fff + b>>16&1) >> 16)
}

func (h half) value() float64 { return float64(math.Float32frombits(uint32(h) << 16)) }

// tracked are the resources of which the past is kept.
const tracked = 2 // CPU and memory

// track is the last day of closed steps, a ring by step.
type track struct {
	last schemas.Step // newest step; 0: nothing yet
	v    [tracked][]half
}

// put records a step and gives what was there before (missing when nothing was).
func (t *track) put(step schemas.Step, r int, v float32) (before float64) {
	if t.v[r] == nil {
		for i := range t.v {
			t.v[i] = slices.Repeat([]half{0x7fc0}, past)
		}
	}
	switch {
	case step > t.last:
		gap := min(step-t.last-1, past)
		for s := step - gap; s < step && t.last != 0; s++ {
			for i := range t.v {
				t.v[i][s%past] = 0x7fc0
			}
		}
		for i := range t.v {
			t.v[i][step%past] = 0x7fc0
		}
		t.last = step
	case step <= t.last-past:
		return math.NaN()
	}
	at := &t.v[r][step%past]
	before = at.value()
	*at = toHalf(v)
	return before
}

// add is put for a sum: it takes away what a part had said before.
func (t *track) add(step schemas.Step, r int, v, before float64) {
	if math.IsNaN(v) {
		return
	}
	if !math.IsNaN(before) {
		v -= before
	}
	if t.v[r] != nil && step <= t.last && step > t.last-past {
		if have := t.v[r][step%past].value(); !math.IsNaN(have) {
			v += have
		}
	}
	t.put(step, r, float32(v))
}

// series are the last n steps up to the newest, oldest first, with their steps.
func (t *track) series(r, n int) (steps []schemas.Step, out []float64) {
	if t.last == 0 || t.v[r] == nil {
		return nil, nil
	}
	n = min(n, past)
	for s := t.last - schemas.Step(n) + 1; s <= t.last; s++ {
		steps, out = append(steps, s), append(out, t.v[r][(s%past+past)%past].value())
	}
	return steps, out
}

// fanLevels are the quantiles kept of a forecast: p10, p50, p90 of [schemas.Levels].
var fanLevels = [3]int{2, 6, 10}

// fan is a VM's newest forecast, thinned out.
type fan struct {
	issued, start schemas.Step
	lease         uint64
	q             [schemas.NumResources][]half // slots x fanLevels; nil: not forecast
}

func (f *fan) fill(m *schemas.Forecasts, i int) {
	f.issued, f.start, f.lease = m.Issued, m.Grid.Start, m.Lease
	for r := range m.Q {
		d := m.Dist(i, schemas.Resource(r))
		if schemas.IsNaN(d.Q[0]) {
			f.q[r] = nil
			continue
		}
		if f.q[r] == nil {
			f.q[r] = make([]half, schemas.Slots*len(fanLevels))
		}
		for s := range schemas.Slots {
			q := d.At(s)
			for k, l := range fanLevels {
				f.q[r][s*len(fanLevels)+k] = toHalf(q[l])
			}
		}
	}
}

// quantile is level k of fanLevels by slot.
func (f *fan) quantile(r schemas.Resource, k int) []float64 {
	if f.q[r] == nil {
		return nil
	}
	out := make([]float64, schemas.Slots)
	for s := range out {
		out[s] = f.q[r][s*len(fanLevels)+k].value()
	}
	return out
}

// sum adds up the joint scenarios of a host's VMs, step by step: one is being filled
// while the one before is shown.
type sum struct {
	open   bool
	step   schemas.Step // being filled
	start  schemas.Step
	n      int
	k      int
	at     schemas.Time // of the last addition
	d      []float32    // k x slots x ScenarioResources
	weight []float32

	shown Sum
}

// Sum is what a host will be asked for.
type Sum struct {
	Issued, Start schemas.Step
	VMs           int                                // whose forecasts are in it
	Q             [tracked][len(fanLevels)][]float32 // by resource and level, by slot; nil before the first
}

// add adds row i of a message.
func (s *sum) add(m *schemas.Forecasts, i int, at schemas.Time) {
	switch {
	case m.K == 0 || s.step > m.Issued || s.step == m.Issued && s.k != m.K && s.n > 0:
		return
	case s.step < m.Issued:
		s.close()
		s.open, s.step, s.start, s.n, s.k, s.weight = true, m.Issued, m.Grid.Start, 0, m.K, m.Weight
		if need := m.K * schemas.Slots * schemas.ScenarioResources; len(s.d) == need {
			clear(s.d)
		} else {
			s.d = make([]float32, need)
		}
	}
	s.n++
	s.at, s.open = at, true
	for j, v := range m.Scenarios(i).D {
		if v > 0 { // missing is left out; the count of VMs tells
			s.d[j] += v
		}
	}
}

// close makes what was filled the one that is shown.
func (s *sum) close() {
	if !s.open || s.n == 0 {
		return
	}
	s.open = false
	out := Sum{Issued: s.step, Start: s.start, VMs: s.n}
	for r := range out.Q {
		for l := range out.Q[r] {
			out.Q[r][l] = make([]float32, schemas.Slots)
		}
	}
	var v, w [schemas.NumScenarios]float32
	for slot := range schemas.Slots {
		for r := range out.Q {
			for k := range s.k {
				v[k], w[k] = s.d[(k*schemas.Slots+slot)*schemas.ScenarioResources+r], s.weight[k*schemas.Slots+slot]
			}
			sortPaths(v[:s.k], w[:s.k])
			for l, level := range fanLevels {
				out.Q[r][l][slot] = quantileOf(v[:s.k], w[:s.k], schemas.Levels[level])
			}
		}
	}
	s.shown = out
}

// sortPaths sorts values with their weights; there are a dozen.
func sortPaths(v, w []float32) {
	for i := 1; i < len(v); i++ {
		for j := i; j > 0 && v[j] < v[j-1]; j-- {
			v[j], v[j-1], w[j], w[j-1] = v[j-1], v[j], w[j-1], w[j]
		}
	}
}

// quantileOf is the least value at or below which the share p of the weight lies.
func quantileOf(v, w []float32, p float32) float32 {
	var have float32
	for i := range v {
		if have += w[i]; have >= p-1e-4 {
			return v[i]
		}
	}
	return v[len(v)-1]
}

package effect

import (
	"math"

	"github.com/foreshift/foreshift/forecaster/window"
	"github.com/foreshift/foreshift/schemas"
)

// series is one quantity by step as prefix sums, so that the mean of any span is one
// subtraction. Step first+i has its value in sum[i+1]-sum[i].
type series struct {
	first schemas.Step
	sum   []float64
	n     []int32 // values that were there, as prefix sums too
}

// mean of the steps lo <= s < hi; false when less than half of them have a value.
func (s *series) mean(lo, hi schemas.Step) (float64, bool) {
	i, j := int(lo-s.first), int(hi-s.first)
	if i < 0 || j >= len(s.sum) || i >= j {
		return 0, false
	}
	n := s.n[j] - s.n[i]
	if int(n)*2 < j-i {
		return 0, false
	}
	return (s.sum[j] - s.sum[i]) / float64(n), true
}

// quantity is what a term measures.
type quantity struct {
	name    string
	a, b    schemas.Column // added up; the same when it is one column
	average bool           // over VMs: the mean and not the sum
}

// quantities in the order in which verdicts look at them.
var quantities = []quantity{
	{"cpu_mcpu", schemas.ColCPU, schemas.ColCPU, false},
	{"mem_bytes", schemas.ColMem, schemas.ColMem, false},
	{"steal_mcpu", schemas.ColSteal, schemas.ColSteal, false},
	{"swap_bytes", schemas.ColSwap, schemas.ColSwap, false},
	{"net_bytes_per_second", schemas.ColNetRx, schemas.ColNetTx, false},
	{"app_ms", schemas.ColAppMs, schemas.ColAppMs, true},
	{"psi_ratio", schemas.ColPSI, schemas.ColPSI, true},
}

// carried says that a host's sum of it changes because the VM left or came, and not
// only because the others fare better or worse.
func (q *quantity) carried() bool {
	return q.a == schemas.ColCPU || q.a == schemas.ColMem || q.a == schemas.ColNetRx
}

// spare says that most VMs have nothing of it most of the time.
func (q *quantity) spare() bool { return q.a == schemas.ColSteal || q.a == schemas.ColSwap }

// value of row i of a window, NaN when missing or not the VM's own doing.
func (q *quantity) value(w *window.View, i int) float32 {
	if i < 0 || i >= w.N || schemas.Flags(w.Flags[i])&window.Unlearnt != 0 {
		return schemas.NaN()
	}
	x := schemas.NaN()
	if c := w.Cols[q.a]; c != nil {
		x = c[i]
	}
	if q.a == q.b {
		return x
	}
	y := schemas.NaN()
	if c := w.Cols[q.b]; c != nil {
		y = c[i]
	}
	return window.Sum(x, y)
}

// of makes the series of a quantity over some VMs from first to last. A step at which
// less than half of them have a value has none; for the others the present ones stand.
func (q *quantity) of(vms []*Past, first, last schemas.Step) *series {
	n := int(last-first) + 1
	s := &series{first: first, sum: make([]float64, n+1), n: make([]int32, n+1)}
	total, count := make([]float64, n), make([]int32, n)
	for _, v := range vms {
		off := int(first - v.View.First)
		for i := max(0, -off); i < n && i+off < v.View.N; i++ {
			if x := q.value(&v.View, i+off); x == x {
				total[i] += float64(x)
				count[i]++
			}
		}
	}
	for i := range n {
		s.sum[i+1], s.n[i+1] = s.sum[i], s.n[i]
		if count[i] == 0 || int(count[i])*2 < len(vms) {
			continue
		}
		x := total[i] / float64(count[i])
		if !q.average {
			x *= float64(len(vms))
		}
		s.sum[i+1] += x
		s.n[i+1]++
	}
	return s
}

// sample is what is known of a moment before it, and what came.
type sample struct {
	x      float64 // mean of the hour before
	rhythm float64 // how much the hour after used to differ from the hour before, on the days before
	away   float64 // how far the hour before was below what it used to be
	y      float64 // mean of the hour after
}

// at looks at a moment: before ends where the move begins, after begins where it has
// ended. ok is false when either is missing.
func (s *series) at(from, to schemas.Step) (p sample, ok bool) {
	x, ok1 := s.mean(from-Span, from)
	y, ok2 := s.mean(to+1, to+1+Span)
	if !ok1 || !ok2 {
		return p, false
	}
	p.x, p.y = x, y
	p.rhythm, p.away = s.known(from, to, x)
	return p, true
}

// known is what the days before say of a moment whose hour before had the mean x: the
// rhythm, and how far x is below the usual.
func (s *series) known(from, to schemas.Step, x float64) (rhythm, away float64) {
	days, usual := 0.0, 0.0
	for d := schemas.Step(schemas.StepsPerDay); d <= window.Rows; d += schemas.StepsPerDay {
		a, ok1 := s.mean(from-Span-d, from-d)
		b, ok2 := s.mean(to+1-d, to+1+Span-d)
		if ok1 && ok2 {
			rhythm += b - a
			usual += a
			days++
		}
	}
	if days == 0 {
		return 0, 0
	}
	return rhythm / days, usual/days - x
}

// weights are how much of the rhythm and of the way back to the usual level a series
// has shown: y = x + w[0]*rhythm + w[1]*away.
type weights [2]float64

// fit finds the weights by least squares over moments, drawn a little to half the
// rhythm and no return, and bounded.
func fit(all []sample) (w weights) {
	var a, b, c, d, e, scale float64
	for i := range all {
		p := &all[i]
		dy := p.y - p.x
		a += p.rhythm * p.rhythm
		b += p.rhythm * p.away
		c += p.away * p.away
		d += p.rhythm * dy
		e += p.away * dy
		scale += p.rhythm*p.rhythm + p.away*p.away
	}
	ridge := scale/float64(max(1, len(all)))*2 + 1e-12
	a, c = a+ridge, c+ridge
	d += ridge * .5
	det := a*c - b*b
	if !(det > 0) {
		return weights{}
	}
	return weights{min(max((d*c-e*b)/det, 0), 1.2), min(max((a*e-b*d)/det, 0), 1)}
}

// forecast is what the moment was expected to lead to.
func (w weights) forecast(p *sample) float64 {
	return max(0, p.x+w[0]*p.rhythm+w[1]*p.away)
}

// spread is the median of absolute values, as a standard deviation of a normal. It
// sorts its argument.
func spread(x []float64) float64 { return 1.4826 * quantile(x, .5) }

// quantile of sorted values, between the neighbours.
func quantile(sorted []float64, p float64) float64 {
	if len(sorted) == 0 {
		return math.NaN()
	}
	at := p * float64(len(sorted)-1)
	i := int(at)
	if i+1 >= len(sorted) {
		return sorted[len(sorted)-1]
	}
	return sorted[i] + (at-float64(i))*(sorted[i+1]-sorted[i])
}

package replay

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/foreshift/foreshift/internal/chart"
	"github.com/foreshift/foreshift/schemas"
)

// fanLevels are the quantiles that are kept of what was foreseen when a move was decided.
var fanLevels = [...]float64{.05, .25, .5, .75, .95}

// fanBands are pairs of levels, the widest first; fanMid is the median.
var fanBands = [...][2]int{{0, 4}, {1, 3}}

const fanMid = 2

// Fan is what was foreseen of a move's source had the VM stayed: by slot of the
// look-ahead, quantiles over the scenarios of the sum of its VMs, in cores.
type Fan struct {
	Source [][len(fanLevels)]float32
}

// fan sums up what is foreseen of a host, of the VMs that are there and stay.
func (o *ours) fan(w *World, host int32) *Fan {
	type path struct{ sum, weight float32 }
	f := &Fan{Source: make([][len(fanLevels)]float32, schemas.SlotsWithin(o.set.LookAhead))}
	paths := make([]path, K)
	for s := range f.Source {
		for k := range paths {
			paths[k] = path{weight: o.frame.Msg.Weight[k*schemas.Slots+s]}
			for v, b := range w.Bound {
				if b == host {
					paths[k].sum += o.frame.CPU[(v*K+k)*schemas.Slots+s] / 1000
				}
			}
		}
		slices.SortFunc(paths, func(a, b path) int { return cmp.Compare(a.sum, b.sum) })
		at, upTo := 0, float64(paths[0].weight)
		for i, level := range fanLevels {
			for upTo < level && at < K-1 {
				at++
				upTo += float64(paths[at].weight)
			}
			f.Source[s][i] = paths[at].sum
		}
	}
	return f
}

// moveChart is what was foreseen of the source when a move was decided, and the demand
// of both hosts round it, as if it had not been made.
func (r *Result) moveChart(m judged, k int) []byte {
	at := slices.Clone(r.Policies["predictive"].runs[m.placement].world.start)
	for _, x := range r.Policies["predictive"].runs[m.placement].world.log {
		if x.Step >= m.Step {
			break
		}
		at[x.VM] = x.To
	}
	from, to, vm := chart.Series{Name: "source, had it stayed"}, chart.Series{Name: "destination, had it stayed"}, chart.Series{Name: "the VM"}
	for t := max(0, m.Step-2*perHour); t <= min(m.Step+3*perHour, r.h.Steps-1); t++ {
		var sum [2]float64
		for v, b := range at {
			switch b {
			case m.From:
				sum[0] += r.h.At(v, t)
			case m.To:
				sum[1] += r.h.At(v, t)
			}
		}
		x := float64(t-m.Step) / perHour
		from.X, from.Y = append(from.X, x), append(from.Y, sum[0])
		to.X, to.Y = append(to.X, x), append(to.Y, sum[1])
		vm.X, vm.Y = append(vm.X, x), append(vm.Y, r.h.At(int(m.VM), t))
	}
	fan := chart.Band{Name: "foreseen of the source", Low: make([][]float64, len(fanBands)), Top: make([][]float64, len(fanBands))}
	if m.Fan != nil {
		for s, q := range m.Fan.Source {
			fan.X, fan.Mid = append(fan.X, (float64(1+schemas.SlotOffset(s))+float64(schemas.SlotLen(s)-1)/2)/perHour), append(fan.Mid, float64(q[fanMid]))
			for k, b := range fanBands {
				fan.Low[k], fan.Top[k] = append(fan.Low[k], float64(q[b[0]])), append(fan.Top[k], float64(q[b[1]]))
			}
		}
	}
	return chart.Fan(chart.Figure{Title: fmt.Sprintf("%s, day %d (%d)", r.h.VMs[m.VM].Name, m.Step/day, k+1), Desc: "What was foreseen of the source with the VM, with its bands of 50 and 90 %, and the demand of both hosts and of the VM in the hours round its move.",
		X: chart.Axis{Label: "hours from the decision"}, Y: chart.Axis{Label: "cores"}}, fan, []chart.Series{from, to, vm}, chart.Mark{At: r.f.C, Name: "cores of a host"}, chart.Mark{At: 0, Name: "decided", Upright: true})
}

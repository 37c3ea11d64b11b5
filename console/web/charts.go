package web

import (
	"fmt"
	"html/template"
	"math"
	"time"

	"github.com/foreshift/foreshift/console"
	"github.com/foreshift/foreshift/console/live"
	"github.com/foreshift/foreshift/internal/chart"
	"github.com/foreshift/foreshift/schemas"
)

// figure is the frame of the charts of one VM or host.
func figure(title, desc, unit string) chart.Figure {
	return chart.Figure{Title: title, Desc: desc, Width: 620, Height: 210, Bare: true, Y: chart.Axis{Label: unit}}
}

// horizon is the unit of time in which a day of base steps is told.
func horizon(base time.Duration) (unit time.Duration, name string) {
	switch day := schemas.StepsPerDay * base; {
	case day >= 4*time.Hour:
		return time.Hour, "hours from now"
	case day >= 4*time.Minute:
		return time.Minute, "minutes from now"
	}
	return time.Second, "seconds from now"
}

// resourceUnit is the unit in which a resource is drawn.
func resourceUnit(r schemas.Resource) (divide float64, name string) {
	switch r {
	case schemas.CPU:
		return 1000, "cores"
	case schemas.Memory:
		return 1 << 30, "GiB"
	}
	return 1e6, "MB/s"
}

// outlook is what one chart shows: what came, and the fan of what is expected.
type outlook struct {
	title, desc string
	r           schemas.Resource
	steps       []schemas.Step
	actual      []float64
	start       schemas.Step // of the fan
	fan         [3][]float64
	limit       float64
	limitName   string
	marks       []chart.Mark
}

// draw draws it. Time is told from the end of the last closed step, so that a chart
// changes only when something is known anew.
func (o *outlook) draw(base time.Duration) template.HTML {
	unit, name := horizon(base)
	div, unitName := resourceUnit(o.r)
	f := figure(o.title, o.desc, unitName)
	zero := o.start
	if n := len(o.steps); n > 0 {
		zero = o.steps[n-1] + 1
	}
	at := func(s schemas.Step, n int) float64 {
		return (float64(s-zero) + float64(n)/2) * float64(base) / float64(unit)
	}
	f.X = chart.Axis{Label: name}
	came := chart.Series{Name: "came"}
	for i, s := range o.steps {
		came.X, came.Y = append(came.X, at(s, 1)), append(came.Y, o.actual[i]/div)
	}
	band := chart.Band{Name: "expected: median, and p10 to p90", Low: [][]float64{nil}, Top: [][]float64{nil}}
	for i := range o.fan[1] {
		s, n := schemas.Grid{Start: o.start}.Slot(i)
		band.X, band.Mid = append(band.X, at(s, n)), append(band.Mid, o.fan[1][i]/div)
		band.Low[0], band.Top[0] = append(band.Low[0], o.fan[0][i]/div), append(band.Top[0], o.fan[2][i]/div)
	}
	marks := o.marks
	if o.limit > 0 {
		marks = append(marks, chart.Mark{At: o.limit / div, Name: o.limitName})
	}
	marks = append(marks, chart.Mark{At: 0, Name: "now", Upright: true})
	return template.HTML(chart.Fan(f, band, []chart.Series{came}, marks...))
}

// upright are marks in time: moves that ended, and what the calendar says.
func (s *Server) upright(zero schemas.Step, moves []console.Move, entries []entry) (out []chart.Mark) {
	base := s.cfg.Model.Base()
	unit, _ := horizon(base)
	day := schemas.StepsPerDay * base
	add := func(t schemas.Time, name string) {
		d := t.Sub(zero.Start(base))
		if t != 0 && d > -day && d < day {
			out = append(out, chart.Mark{At: float64(d) / float64(unit), Name: name, Upright: true})
		}
	}
	for i := range moves {
		if o := moves[i].Outcome; o != nil && o.Result == schemas.ResultSucceeded && len(out) < 6 {
			add(o.Time, "moved")
		}
	}
	for _, e := range entries {
		if len(out) < 9 {
			add(e.Next, e.Entry.Name)
		}
	}
	return out
}

func zeroOf(steps []schemas.Step, start schemas.Step) schemas.Step {
	if n := len(steps); n > 0 {
		return steps[n-1] + 1
	}
	return start
}

func (s *Server) vmCharts(v live.VM, moves []console.Move, now schemas.Time) (out []template.HTML) {
	base := s.cfg.Model.Base()
	marks := s.upright(zeroOf(v.Steps, v.Start), moves, s.entriesOf(v, now))
	for r, limit := range []float64{float64(v.AllocCPU), float64(v.AllocMem), 0, 0} {
		res := schemas.Resource(r)
		o := outlook{title: resourceTitle(res), r: res, start: v.Start, fan: v.Fan[r], limit: limit, limitName: "its allocation", marks: marks,
			desc: fmt.Sprintf("What %s asked for of %s, and what it is expected to ask for.", v.Name, res)}
		if r < len(v.Actual) {
			o.steps, o.actual = v.Steps, v.Actual[r]
		}
		if len(o.actual) == 0 && o.fan[1] == nil || r > 1 && flat(o.fan[2]) {
			continue
		}
		out = append(out, o.draw(base))
	}
	return out
}

func flat(v []float64) bool {
	for _, x := range v {
		if x > 0 && !math.IsNaN(x) {
			return false
		}
	}
	return true
}

func resourceTitle(r schemas.Resource) string {
	switch r {
	case schemas.CPU:
		return "CPU"
	case schemas.Memory:
		return "Memory"
	case schemas.Net:
		return "Network"
	}
	return "Disk"
}

func (s *Server) hostCharts(h live.Host, moves []console.Move, now schemas.Time) (out []template.HTML) {
	base := s.cfg.Model.Base()
	limits := h.Capacity.Vec()
	marks := s.upright(zeroOf(h.Steps, h.Sum.Start), moves, nil)
	for r := range h.Actual {
		res := schemas.Resource(r)
		o := outlook{title: resourceTitle(res), r: res, steps: h.Steps, actual: h.Actual[r], start: h.Sum.Start, limit: limits[r], limitName: "capacity", marks: marks,
			desc: fmt.Sprintf("What the VMs on %s asked for of %s together, and what they are expected to ask for.", h.ID, res)}
		for k, q := range h.Sum.Q[r] {
			for _, x := range q {
				o.fan[k] = append(o.fan[k], float64(x))
			}
		}
		if len(o.actual) == 0 && o.fan[1] == nil {
			continue
		}
		out = append(out, o.draw(base))
	}
	return out
}

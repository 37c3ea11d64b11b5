package replay

import (
	"bytes"
	"fmt"
	"html"
	"io"
	"strings"

	"github.com/foreshift/foreshift/internal/chart"
	"github.com/foreshift/foreshift/placer/policy/learning"
)

// Table writes the result for people.
func (r *LearnResult) Table(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s, u = %.2f: %d days, %d placements; loss in core-hours: unserved demand, and %d core-seconds a move and %d a GiB\n", r.History, r.U, r.Days, r.Placements, movePrice, gibPrice)
	fmt.Fprintf(&b, "tuned settings: %.1f, of these %.1f in the last %d days\n\n", r.Full, r.Tuned, r.Judged)
	fmt.Fprintf(&b, "%-12s %-22s %-22s %8s | %9s %9s %9s | %9s %9s %9s\n", "start", "benefit, trigger", "learnt", "changes", "last: off", "on", "/ tuned", "all: off", "learnt", "/ tuned")
	for i := range r.Starts {
		s := &r.Starts[i]
		fmt.Fprintf(&b, "%-12s %-22s %-22s %8d | %9.1f %9.1f %9.3f | %9.1f %9.1f %9.3f\n", s.Name, pair(s.From), pair(s.To), len(s.Changes), s.Off, s.On, s.On/r.Tuned, s.Whole, s.Final, s.Final/r.Full)
	}
	for i := range r.Starts {
		s := &r.Starts[i]
		fmt.Fprintf(&b, "%s: not changed: %v; median error of durations %.0f %% by arithmetic, %.0f %% learnt\n", s.Name, s.Refusals, 100*s.Durations[0], 100*s.Durations[1])
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func pair(v map[string]float64) string {
	return fmt.Sprintf("%.0f, %.3f", v[learning.MinBenefit], v[learning.Trigger])
}

// HTML is a page that shows how the settings moved and what that was worth.
func (r *LearnResult) HTML() []byte {
	var b bytes.Buffer
	b.WriteString(pageHead)
	fmt.Fprintf(&b, "<h1>Learning on %s</h1><p>%d days at a utilisation of %.2f. Loss is unserved demand and the price of moves, in core-hours, all placements together.</p>\n<pre>", html.EscapeString(r.History), r.Days, r.U)
	var t strings.Builder
	if err := r.Table(&t); err == nil { // a builder's Write has no error
		b.WriteString(html.EscapeString(t.String()))
	}
	b.WriteString("</pre>\n")
	var lost, benefit, trigger []chart.Series
	tuned := chart.Series{Name: "tuned"}
	acc := 0.0
	for d, x := range r.Curve {
		acc += x
		tuned.X, tuned.Y = append(tuned.X, float64(d+1)*float64(r.Days)/float64(len(r.Curve))), append(tuned.Y, acc)
	}
	lost = append(lost, tuned)
	for i := range r.Starts {
		s := &r.Starts[i]
		on, off := chart.Series{Name: s.Name + ", learning"}, chart.Series{Name: s.Name + ", as it was"}
		set, share := chart.Series{Name: s.Name}, chart.Series{Name: s.Name}
		a, c := 0.0, 0.0
		for _, p := range s.Path {
			a, c = a+p.LossOn, c+p.LossOff
			on.X, on.Y = append(on.X, p.Day), append(on.Y, a)
			off.X, off.Y = append(off.X, p.Day), append(off.Y, c)
			set.X, set.Y = append(set.X, p.Day), append(set.Y, p.Set[learning.MinBenefit])
			share.X, share.Y = append(share.X, p.Day), append(share.Y, p.Set[learning.Trigger])
		}
		lost = append(lost, on, off)
		benefit, trigger = append(benefit, set), append(trigger, share)
	}
	b.Write(chart.Line(chart.Figure{Title: "Loss so far", Desc: "Core-hours lost up to a day, with learning and without, from each start.", X: chart.Axis{Label: "day"}, Y: chart.Axis{Label: "core-hours"}}, lost))
	b.Write(chart.Line(chart.Figure{Title: "Least benefit", Desc: "The least benefit of a move, as learnt from each start.", X: chart.Axis{Label: "day"}, Y: chart.Axis{Label: "core-seconds"}}, benefit))
	b.Write(chart.Line(chart.Figure{Title: "Trigger", Desc: "The chance of a shortage from which a host gives VMs away, as learnt from each start.", X: chart.Axis{Label: "day"}, Y: chart.Axis{Label: "share"}}, trigger))
	b.WriteString("</body></html>\n")
	return b.Bytes()
}

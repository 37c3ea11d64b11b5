// Package chart draws small charts as SVG.
//
// What comes in: numbers with names, axes with labels, a title and a sentence that says
// what is to be seen. What goes out: one self-contained SVG element, to be written to
// a file or put into a page as it is: lines ([Line]), a forecast's bands ([Fan]),
// said against came ([Reliability]), cost against benefit ([Scatter]), and [Bars].
//
// What is promised:
//
//   - The same input gives the same bytes; nothing is fetched, no script, no font.
//   - Colours are CSS variables (--chart-ink, --chart-paper, --chart-grid, --chart-1 to
//     --chart-6), which a page may set; by themselves they follow the reader's light or
//     dark scheme. Series differ in dash or shape as well as in colour.
//   - Title and description are told to screen readers; every mark says its numbers on
//     hovering, where marks are few.
//   - A value that is not finite is a gap, never a wrong place; charts without any value
//     say so. Lines of more points than pixels keep the extremes of each pixel.
//   - Text from outside is escaped.
package chart

import (
	"fmt"
	"math"
)

// Scale is how an axis places values.
type Scale uint8

// The scales. Log needs values above 0, Sqrt none below 0: others are gaps.
const (
	Linear Scale = iota
	Sqrt
	Log
)

// Axis describes one axis. Min = Max takes both from the data.
type Axis struct {
	Label    string
	Min, Max float64
	Scale    Scale
	Ticks    []float64            // nil: round numbers
	Format   func(float64) string // of tick labels; nil: short decimals
}

// Figure is what every chart has. Sizes are in pixels of one panel; 0 takes 640 x 260.
type Figure struct {
	Title  string
	Desc   string // one sentence: what is to be seen
	X, Y   Axis
	Width  int
	Height int
	// Bare leaves the style out, for a page that carries [CSS] itself because it
	// forbids styles within it.
	Bare bool
}

// Series is a named list of points in the order in which they are joined. A NaN in Y
// breaks the line.
type Series struct {
	Name  string
	X, Y  []float64 // of one length
	Label []string  // of points, for Scatter; may be nil
}

// Mark is a line across the chart at a value of the y axis or, if Upright, the x axis.
type Mark struct {
	At      float64
	Name    string
	Upright bool
}

// Line draws series as lines, with marks across.
func Line(f Figure, series []Series, marks ...Mark) []byte {
	d := f.begin(1)
	p := d.panel(0, f, extent(series, marks), true)
	for k, s := range series {
		p.line(s.X, s.Y, fmt.Sprintf("c%d d%d", hue(k), k/hues))
	}
	p.marks(marks)
	d.legend(names(series), line)
	return d.end()
}

// Band is a forecast over x: its middle and one or more bands, the widest first.
type Band struct {
	Name     string
	X, Mid   []float64
	Low, Top [][]float64 // by band
}

// Fan draws a forecast's bands with its median, and what came as lines.
func Fan(f Figure, fan Band, series []Series, marks ...Mark) []byte {
	d := f.begin(1)
	all := append([]Series{{X: fan.X, Y: fan.Mid}}, series...)
	for k := range fan.Low {
		all = append(all, Series{X: fan.X, Y: fan.Low[k]}, Series{X: fan.X, Y: fan.Top[k]})
	}
	p := d.panel(0, f, extent(all, marks), true)
	for k := range fan.Low {
		p.area(fan.X, fan.Low[k], fan.Top[k], "c1 band")
	}
	p.line(fan.X, fan.Mid, "c1 d0")
	for k, s := range series {
		p.line(s.X, s.Y, fmt.Sprintf("c%d d%d", hue(k+1), (k+1)/hues))
	}
	p.marks(marks)
	d.legend(append([]string{fan.Name}, names(series)...), line)
	return d.end()
}

// Bin is one group of probabilities: their mean, how often the event came, of how many.
type Bin struct {
	Said, Came float64
	N          int
}

// Curve is a named list of bins, with a note such as its skill.
type Curve struct {
	Name, Note string
	Bins       []Bin
}

// Panel is one reliability diagram.
type Panel struct {
	Title  string
	Curves []Curve
}

// Reliability draws how often events came over how often they were said to, a panel
// each, with the diagonal where both agree and bars of two standard errors. Axes are
// square roots unless the figure says otherwise, for most chances are small.
func Reliability(f Figure, panels []Panel) []byte {
	if f.Width == 0 {
		f.Width, f.Height = 260, 260
	}
	if f.X.Label == "" {
		f.X.Label = "said"
	}
	if f.Y.Label == "" {
		f.Y.Label = "came"
	}
	for _, a := range [...]*Axis{&f.X, &f.Y} {
		if a.Min == a.Max {
			*a = Axis{Label: a.Label, Max: 1, Scale: Sqrt, Ticks: []float64{0, .01, .05, .1, .25, .5, 1}, Format: a.Format}
		}
	}
	d := f.begin(max(1, len(panels)))
	var all []string
	for n, one := range panels {
		p := d.panel(n, f, box{0, 1, 0, 1}, true)
		p.heading(one.Title)
		p.line([]float64{0, 1}, []float64{0, 1}, "mark")
		for k, c := range one.Curves {
			if k >= len(all) {
				all = append(all, c.Name)
			}
			x, y := make([]float64, len(c.Bins)), make([]float64, len(c.Bins))
			for b, bin := range c.Bins {
				x[b], y[b] = bin.Said, bin.Came
				if bin.N > 0 {
					se := 2 * math.Sqrt(bin.Came*(1-bin.Came)/float64(bin.N))
					p.line([]float64{bin.Said, bin.Said}, []float64{max(0, bin.Came-se), min(1, bin.Came+se)}, fmt.Sprintf("c%d thin", hue(k)))
				}
			}
			p.line(x, y, fmt.Sprintf("c%d thin", hue(k)))
			for _, bin := range c.Bins {
				p.dot(bin.Said, bin.Came, k, fmt.Sprintf("%s: said %.4g, came %.4g of %d", c.Name, bin.Said, bin.Came, bin.N))
			}
			if c.Note != "" {
				p.note(k, c.Name+": "+c.Note)
			}
		}
	}
	d.legend(all, dots)
	return d.end()
}

// Scatter draws points with their labels; with pareto the points that no other beats on
// both axes (less is better) are joined by a staircase.
func Scatter(f Figure, series []Series, pareto bool, marks ...Mark) []byte {
	d := f.begin(1)
	p := d.panel(0, f, extent(series, marks), false)
	if pareto {
		x, y := frontier(series, f.X.Scale, f.Y.Scale)
		p.line(x, y, "mark")
	}
	for k, s := range series {
		for i := range s.X {
			label := ""
			if i < len(s.Label) {
				label = s.Label[i]
			}
			p.dot(s.X[i], s.Y[i], k, fmt.Sprintf("%s %s: %.4g, %.4g", s.Name, label, s.X[i], s.Y[i]))
			p.tag(s.X[i], s.Y[i], label)
		}
	}
	p.marks(marks)
	d.legend(names(series), dots)
	return d.end()
}

// Bars draws a group of bars for each of the names, one bar a series: series[k].Y[i]
// belongs to groups[i]. X of the series is not looked at.
func Bars(f Figure, groups []string, series []Series, marks ...Mark) []byte {
	d := f.begin(1)
	e := extent(series, marks)
	e.x0, e.x1 = 0, float64(len(groups))
	e.y0, e.y1 = min(e.y0, 0), max(e.y1, 0)
	f.X.Min, f.X.Max, f.X.Scale, f.X.Ticks = 0, max(1, float64(len(groups))), Linear, []float64{}
	p := d.panel(0, f, e, false)
	wide := .8 / float64(max(1, len(series)))
	for k, s := range series {
		for i := range groups {
			if i < len(s.Y) {
				x := float64(i) + .1 + float64(k)*wide
				p.bar(x, x+wide, s.Y[i], k, fmt.Sprintf("%s, %s: %.4g", groups[i], s.Name, s.Y[i]))
			}
		}
	}
	for i, g := range groups {
		p.below(float64(i)+.5, g)
	}
	p.marks(marks)
	d.legend(names(series), dots)
	return d.end()
}

func names(series []Series) (out []string) {
	for _, s := range series {
		out = append(out, s.Name)
	}
	return out
}

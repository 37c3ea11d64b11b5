package chart

import (
	"bytes"
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode"

	"github.com/cespare/xxhash/v2"
)

// hues is the number of colours; further series are told apart by their dashes.
const hues = 6

func hue(k int) int { return k%hues + 1 }

// style holds all colours and strokes. The palette is that of Okabe and Ito (Color
// Universal Design, 2008), in the dark somewhat lighter.
const style = "<style>\n" + CSS + "</style>"

// CSS is the style of every chart.
const CSS = `.fc{--ink:var(--chart-ink,#24292f);--paper:var(--chart-paper,#fff);--grid:var(--chart-grid,#d8dee4);
--a:var(--chart-1,#0072b2);--b:var(--chart-2,#d55e00);--c:var(--chart-3,#009e73);--d:var(--chart-4,#b0508c);--e:var(--chart-5,#b98600);--f:var(--chart-6,#3a9bd0);font:11px system-ui,sans-serif}
@media(prefers-color-scheme:dark){.fc{--ink:var(--chart-ink,#d6dbe1);--paper:var(--chart-paper,#12161b);--grid:var(--chart-grid,#333b45);
--a:var(--chart-1,#4aa8e0);--b:var(--chart-2,#ff8a3d);--c:var(--chart-3,#2fc79b);--d:var(--chart-4,#e08cc0);--e:var(--chart-5,#efc04a);--f:var(--chart-6,#8fd0f5)}}
.fc .paper{fill:var(--paper)}.fc text{fill:var(--ink)}.fc .t{font-size:14px;font-weight:600}.fc .h{font-weight:600}
.fc .grid{stroke:var(--grid);fill:none}.fc .c1{--k:var(--a)}.fc .c2{--k:var(--b)}.fc .c3{--k:var(--c)}.fc .c4{--k:var(--d)}.fc .c5{--k:var(--e)}.fc .c6{--k:var(--f)}
.fc path{fill:none;stroke:var(--k);stroke-width:1.6;stroke-linejoin:round}.fc .thin{stroke-width:1;opacity:.7}.fc .d1{stroke-dasharray:5 3}.fc .d2{stroke-dasharray:1.5 3}
.fc .band{fill:var(--k);stroke:none;opacity:.22}.fc .full{fill:var(--k);stroke:none}.fc .mark{stroke:var(--ink);stroke-dasharray:4 3;stroke-width:1;opacity:.65}.fc .n{fill:var(--k)}
`

// drawing is an SVG under way.
type drawing struct {
	b             bytes.Buffer
	f             Figure
	panels        int
	left          float64 // margin
	width, height float64
	rows          int // of the legend under the axes
}

const (
	head  = 50. // room for the title and the legend
	foot  = 38.
	right = 14.
	under = 16. // a row of the legend under the axes
	wide  = 6.1 // pixels of a character at most, on average
)

func (f *Figure) begin(panels int) *drawing {
	if f.Width <= 0 || f.Height <= 0 {
		f.Width, f.Height = 640, 260
	}
	d := &drawing{f: *f, panels: panels, left: 58, width: float64(f.Width), height: float64(f.Height)}
	return d
}

// end puts the frame round what was drawn.
func (d *drawing) end() []byte {
	w := float64(d.panels)*(d.left+d.width) + right
	h := head + d.height + foot + under*float64(d.rows)
	id := strconv.FormatUint(xxhash.Sum64(append([]byte(d.f.Title+"\x00"+d.f.Desc), d.b.Bytes()...)), 36)
	var out bytes.Buffer
	fmt.Fprintf(&out, `<svg xmlns="http://www.w3.org/2000/svg" class="fc" role="img" aria-labelledby="t%s d%s" viewBox="0 0 %s %s" width="%s" height="%s">`+"\n",
		id, id, num(w), num(h), num(w), num(h))
	fmt.Fprintf(&out, `<title id="t%s">%s</title><desc id="d%s">%s</desc>`+"\n", id, escape(d.f.Title), id, escape(d.f.Desc))
	if !d.f.Bare {
		out.WriteString(style + "\n")
	}
	fmt.Fprintf(&out, `<rect class="paper" width="%s" height="%s"/><text class="t" x="10" y="20">%s</text>`+"\n", num(w), num(h), escape(d.f.Title))
	out.Write(d.b.Bytes())
	out.WriteString("</svg>\n")
	return out.Bytes()
}

// The ways in which the legend shows a series.
const (
	line = iota
	dots
)

// legend stands under the title; what finds no room there, under the axes.
func (d *drawing) legend(all []string, how int) {
	x, y := 10., 33.
	room := float64(d.panels)*(d.left+d.width) + right
	for k, name := range all {
		need := 24 + wide*float64(len([]rune(name)))
		if name == "" || need > room {
			continue
		}
		if x+need > room {
			x, y = 10, head+d.height+foot+under*float64(d.rows)+4
			d.rows++
		}
		if how == line {
			fmt.Fprintf(&d.b, `<path class="c%d d%d" d="M%s %sh16"/>`, hue(k), k/hues, num(x), num(y))
		} else {
			d.b.WriteString(shape(x+8, y, k, ""))
		}
		fmt.Fprintf(&d.b, `<text x="%s" y="%s">%s</text>`+"\n", num(x+20), num(y+4), escape(name))
		x += need + 10
	}
}

// panel is one pair of axes.
type panel struct {
	d    *drawing
	x, y scale
	left float64
}

// panel draws the axes of the n-th panel; tight ones end where the data do.
func (d *drawing) panel(n int, f Figure, e box, tight bool) *panel {
	p := &panel{d: d, x: f.X.fit(e.x0, e.x1, !tight), y: f.Y.fit(e.y0, e.y1, true)}
	p.left = d.left*float64(n+1) + d.width*float64(n)
	d.b.WriteString(`<g class="axes">`)
	for _, t := range p.y.ticks() {
		if at := p.y.at(t); at >= -1e-9 && at <= 1+1e-9 {
			y := num(p.py(t))
			fmt.Fprintf(&d.b, `<path class="grid" d="M%s %sh%s"/><text x="%s" y="%s" text-anchor="end" dy=".33em">%s</text>`,
				num(p.left), y, num(d.width), num(p.left-5), y, escape(p.y.format(t)))
		}
	}
	for _, t := range p.x.ticks() {
		if at := p.x.at(t); at >= -1e-9 && at <= 1+1e-9 {
			x := num(p.px(t))
			fmt.Fprintf(&d.b, `<path class="grid" d="M%s %sv4"/><text x="%s" y="%s" text-anchor="middle">%s</text>`,
				x, num(head+d.height), x, num(head+d.height+16), escape(p.x.format(t)))
		}
	}
	fmt.Fprintf(&d.b, `<path class="grid" d="M%s %sh%s"/>`, num(p.left), num(head+d.height), num(d.width))
	fmt.Fprintf(&d.b, `<text x="%s" y="%s" text-anchor="middle">%s</text>`, num(p.left+d.width/2), num(head+d.height+32), escape(f.X.Label))
	if f.Y.Label != "" {
		fmt.Fprintf(&d.b, `<text transform="translate(%s %s) rotate(-90)" text-anchor="middle">%s</text>`, num(p.left-46), num(head+d.height/2), escape(f.Y.Label))
	}
	d.b.WriteString("</g>\n")
	if e.x1 < e.x0 || e.y1 < e.y0 {
		fmt.Fprintf(&d.b, `<text x="%s" y="%s" text-anchor="middle">no data</text>`+"\n", num(p.left+d.width/2), num(head+d.height/2))
	}
	return p
}

func (p *panel) px(v float64) float64 { return p.left + p.d.width*min(max(p.x.at(v), 0), 1) }
func (p *panel) py(v float64) float64 {
	return head + p.d.height*(1-min(max(p.y.at(v), 0), 1))
}

// seen says whether a point has a place on the panel.
func (p *panel) seen(x, y float64) bool { return finite(p.x.at(x)) && finite(p.y.at(y)) }

// line joins points; values beyond a fixed axis run along its edge.
func (p *panel) line(x, y []float64, class string) {
	var path bytes.Buffer
	open := false
	for i := 0; i < min(len(x), len(y)); i++ {
		if !p.seen(x[i], y[i]) {
			open = false
			continue
		}
		at := p.px(x[i])
		lo, hi := p.py(y[i]), p.py(y[i])
		j := i + 1 // points of the same half pixel become one upright stroke
		for ; j < min(len(x), len(y)) && p.seen(x[j], y[j]) && math.Abs(p.px(x[j])-at) < .5; j++ {
			lo, hi = min(lo, p.py(y[j])), max(hi, p.py(y[j]))
		}
		verb := byte('L')
		if !open {
			verb = 'M'
		}
		switch {
		case j-i <= 2:
			for k := i; k < j; k++ {
				fmt.Fprintf(&path, "%c%s %s", verb, num(p.px(x[k])), num(p.py(y[k])))
				verb = 'L'
			}
		default:
			fmt.Fprintf(&path, "%c%s %sV%s", verb, num(at), num(lo), num(hi))
			if last := p.py(y[j-1]); last != hi {
				fmt.Fprintf(&path, "V%s", num(last))
			}
		}
		open = true
		i = j - 1
	}
	if path.Len() > 0 {
		fmt.Fprintf(&p.d.b, `<path class="%s" d="%s"/>`+"\n", class, path.Bytes())
	}
}

// area fills between two lines, in pieces where either has gaps.
func (p *panel) area(x, low, top []float64, class string) {
	n := min(len(x), len(low), len(top))
	ok := func(i int) bool { return p.seen(x[i], low[i]) && p.seen(x[i], top[i]) }
	for i := 0; i < n; i++ {
		if !ok(i) {
			continue
		}
		j := i
		var up, down bytes.Buffer
		for ; j < n && ok(j); j++ {
			fmt.Fprintf(&up, "%c%s %s", "ML"[min(1, j-i)], num(p.px(x[j])), num(p.py(top[j])))
		}
		for k := j - 1; k >= i; k-- {
			fmt.Fprintf(&down, "L%s %s", num(p.px(x[k])), num(p.py(low[k])))
		}
		fmt.Fprintf(&p.d.b, `<path class="%s" d="%s%sZ"/>`+"\n", class, up.Bytes(), down.Bytes())
		i = j
	}
}

func (p *panel) marks(marks []Mark) {
	for _, m := range marks {
		switch {
		case m.Upright && finite(p.x.at(m.At)):
			x := p.px(m.At)
			fmt.Fprintf(&p.d.b, `<path class="mark" d="M%s %sv%s"/><text x="%s" y="%s">%s</text>`+"\n", num(x), num(head), num(p.d.height), num(x+4), num(head+11), escape(m.Name))
		case !m.Upright && finite(p.y.at(m.At)):
			y := p.py(m.At)
			fmt.Fprintf(&p.d.b, `<path class="mark" d="M%s %sh%s"/><text x="%s" y="%s" text-anchor="end">%s</text>`+"\n", num(p.left), num(y), num(p.d.width), num(p.left+p.d.width-3), num(y-4), escape(m.Name))
		}
	}
}

// shape is the k-th mark: a circle, a square or a diamond, by turns.
func shape(x, y float64, k int, title string) string {
	var d string
	switch k % 3 {
	case 0:
		d = fmt.Sprintf("M%s %sa4 4 0 1 1 8 0a4 4 0 1 1-8 0Z", num(x-4), num(y))
	case 1:
		d = fmt.Sprintf("M%s %sh7v7h-7Z", num(x-3.5), num(y-3.5))
	default:
		d = fmt.Sprintf("M%s %sl5 5l-5 5l-5-5Z", num(x), num(y-5))
	}
	if title != "" {
		title = "<title>" + escape(title) + "</title>"
	}
	return fmt.Sprintf(`<path class="c%d full" d="%s">%s</path>`, hue(k), d, title)
}

func (p *panel) dot(x, y float64, k int, title string) {
	if p.seen(x, y) {
		p.d.b.WriteString(shape(p.px(x), p.py(y), k, title) + "\n")
	}
}

// tag writes a label beside a point, on the side that has room.
func (p *panel) tag(x, y float64, label string) {
	if label == "" || !p.seen(x, y) {
		return
	}
	at, anchor := p.px(x)+7, "start"
	if at+wide*float64(len([]rune(label))) > p.left+p.d.width {
		at, anchor = p.px(x)-7, "end"
	}
	fmt.Fprintf(&p.d.b, `<text x="%s" y="%s" text-anchor="%s">%s</text>`+"\n", num(at), num(p.py(y)-4), anchor, escape(label))
}

func (p *panel) bar(x0, x1, y float64, k int, title string) {
	if !p.seen(x0, y) {
		return
	}
	a, b := p.py(y), p.py(min(max(0, p.y.lo), p.y.hi))
	fmt.Fprintf(&p.d.b, `<path class="c%d full" d="M%s %sH%sV%sH%sZ"><title>%s</title></path>`+"\n", hue(k), num(p.px(x0)), num(b), num(p.px(x1)-1), num(a), num(p.px(x0)), escape(title))
}

func (p *panel) below(x float64, name string) {
	fmt.Fprintf(&p.d.b, `<text x="%s" y="%s" text-anchor="middle">%s</text>`+"\n", num(p.px(x)), num(head+p.d.height+16), escape(name))
}

func (p *panel) heading(title string) {
	fmt.Fprintf(&p.d.b, `<text class="h" x="%s" y="%s">%s</text>`+"\n", num(p.left+6), num(head+14), escape(title))
}

func (p *panel) note(k int, text string) {
	fmt.Fprintf(&p.d.b, `<text class="c%d n" x="%s" y="%s">%s</text>`+"\n", hue(k), num(p.left+6), num(head+30+14*float64(k)), escape(text))
}

// num writes a coordinate with a tenth of a pixel.
func num(v float64) string {
	if v = math.Round(v*10) / 10; v == 0 || !finite(v) {
		return "0"
	}
	return strconv.FormatFloat(v, 'f', -1, 64)
}

var entities = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", `"`, "&quot;")

// escape makes text of XML; what XML cannot hold becomes a replacement character.
func escape(s string) string {
	return entities.Replace(strings.Map(func(r rune) rune {
		if r < ' ' || r == 0xfffe || r == 0xffff {
			return unicode.ReplacementChar
		}
		return r
	}, s))
}

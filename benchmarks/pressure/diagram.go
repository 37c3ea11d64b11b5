package pressure

import (
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/foreshift/foreshift/schemas"
)

// Diagram draws what came over what was said, a panel a horizon, as SVG. Both axes are
// square roots, for most chances are small.
func Diagram(r *Result, metric string) []byte {
	const side, margin = 260, 48
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="sans-serif" font-size="11">`+"\n",
		len(r.Horizons)*(side+margin)+margin, side+2*margin)
	b.WriteString(`<rect width="100%" height="100%" fill="white"/>` + "\n")
	place := func(p float64) float64 { return math.Sqrt(min(max(p, 0), 1)) * side }
	for k, h := range r.Horizons {
		x0, y0 := margin+k*(side+margin), margin+side
		fmt.Fprintf(&b, `<g transform="translate(%d,%d)">`+"\n", x0, y0)
		fmt.Fprintf(&b, `<text x="0" y="%d" font-size="13">%s &gt; %g within %v</text>`+"\n", -side-14, escape(metric), r.Limit, time.Duration(h.Steps)*schemas.DefaultBase)
		fmt.Fprintf(&b, `<path d="M0 0H%d V%d H0Z M0 0L%d %d" fill="none" stroke="#999"/>`+"\n", side, -side, side, -side)
		for _, p := range [...]float64{.01, .05, .1, .25, .5, 1} {
			at := place(p)
			fmt.Fprintf(&b, `<text x="%.1f" y="14" text-anchor="middle">%g</text><text x="-5" y="%.1f" text-anchor="end">%g</text>`+"\n", at, p, -at+4, p)
		}
		fmt.Fprintf(&b, `<text x="%d" y="30" text-anchor="middle">said</text>`+"\n", side/2)
		for _, set := range [...]struct {
			s     *Scores
			color string
			row   int
			name  string
		}{{&h.All, "#1f77b4", 0, "all"}, {&h.Onset, "#d62728", 1, "onsets"}} {
			for _, bin := range set.s.Bins {
				fmt.Fprintf(&b, `<circle cx="%.1f" cy="%.1f" r="4" fill="%s" fill-opacity=".7"><title>%s: said %.4f, came %.4f of %d</title></circle>`+"\n",
					place(bin.Said), -place(bin.Came), set.color, set.name, bin.Said, bin.Came, bin.N)
			}
			fmt.Fprintf(&b, `<text x="8" y="%d" fill="%s">%s: skill %.3f, calibration error %.4f</text>`+"\n", -side+16+14*set.row, set.color, set.name, set.s.BSS, set.s.ECEEqual)
		}
		b.WriteString("</g>\n")
	}
	b.WriteString("</svg>\n")
	return []byte(b.String())
}

func escape(s string) string {
	return strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;").Replace(s)
}

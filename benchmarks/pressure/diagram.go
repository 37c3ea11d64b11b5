package pressure

import (
	"fmt"
	"time"

	"github.com/foreshift/foreshift/internal/chart"
	"github.com/foreshift/foreshift/schemas"
)

// Diagram draws what came over what was said, a panel a horizon, as SVG.
func Diagram(r *Result, metric string) []byte {
	var panels []chart.Panel
	for k := range r.Horizons {
		h := &r.Horizons[k]
		p := chart.Panel{Title: fmt.Sprintf("within %g h", (time.Duration(h.Steps) * schemas.DefaultBase).Hours())}
		for _, set := range [...]struct {
			name string
			s    *Scores
		}{{"all origins", &h.All}, {"onsets", &h.Onset}} {
			c := chart.Curve{Name: set.name, Note: fmt.Sprintf("skill %.3f, off by %.4f", set.s.BSS, set.s.ECEEqual)}
			for _, b := range set.s.Bins {
				c.Bins = append(c.Bins, chart.Bin{Said: b.Said, Came: b.Came, N: b.N})
			}
			p.Curves = append(p.Curves, c)
		}
		panels = append(panels, p)
	}
	return chart.Reliability(chart.Figure{
		Title: fmt.Sprintf("Chance that %s exceeds %g: said and came", metric, r.Limit),
		Desc:  "How often the limit was exceeded, over the chance that was given for it, in ten groups of equal number; on the diagonal both agree.",
	}, panels)
}

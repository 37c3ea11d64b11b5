package web

import (
	"html/template"
	"maps"
	"slices"
	"time"

	"github.com/foreshift/foreshift/console/live"
	"github.com/foreshift/foreshift/internal/chart"
	"github.com/foreshift/foreshift/schemas"
)

// check is how forecasts at one lead did, for a table.
type check struct {
	Resource string
	Lead     time.Duration
	N        int
	Error    float64 // mean absolute error of the median, as a share of the mean demand
	Still    float64 // the same of somebody who says that all stays as it is
	Inside   float64 // share of what came between p10 and p90
}

// change is one value of the policy that a version changed.
type change struct{ Name, From, To string }

// version is one version of the policy with what it changed.
type version struct {
	live.PolicyLine
	Changes []change
	InForce bool
}

func (s *Server) learning(r *request) *sheet {
	l := s.cfg.Model.Learning()
	base := s.cfg.Model.Base()
	var checks []check
	var panels []chart.Panel
	for res := range schemas.Resource(len(l.Checks[0])) {
		panel := chart.Panel{Title: resourceTitle(res)}
		for k, lead := range live.Leads {
			c := l.Checks[k][res]
			if c.N == 0 || c.Sum == 0 {
				continue
			}
			after := time.Duration(lead) * base
			checks = append(checks, check{resourceTitle(res), after, c.N, c.Error / c.Sum, c.Still / c.Sum, float64(c.Under[10]-c.Under[2]) / float64(c.N)})
			curve := chart.Curve{Name: span(after) + " ahead"}
			for j, level := range schemas.Levels {
				curve.Bins = append(curve.Bins, chart.Bin{Said: float64(level), Came: float64(c.Under[j]) / float64(c.N), N: c.N})
			}
			panel.Curves = append(panel.Curves, curve)
		}
		if len(panel.Curves) > 0 {
			panels = append(panels, panel)
		}
	}
	var drawn template.HTML
	if len(panels) > 0 {
		axis := func(label string) chart.Axis {
			return chart.Axis{Label: label, Max: 1, Ticks: []float64{0, .1, .25, .5, .75, .9, 1}}
		}
		drawn = template.HTML(chart.Reliability(chart.Figure{Title: "Said against came", Desc: "How often demand stayed below each quantile that was forecast. On the diagonal a forecast means what it says.",
			X: axis("quantile that was forecast"), Y: axis("share of demand below it"), Width: 280, Height: 260, Bare: true}, panels))
	}
	d := map[string]any{"Checks": checks, "Chart": drawn, "Probes": l.Probes, "Models": newestModels(l.Models), "Policies": versions(l.Policies, r.summary.Policy), "Effects": s.cfg.Model.Effects(40)}
	sh := &sheet{title: "Learning", nav: "learning", wide: true}
	for _, name := range []string{"learn-forecast", "learn-effects", "learn-policy", "learn-models"} {
		sh.regions = append(sh.regions, region{name, name, d})
	}
	return sh
}

// newestModels keeps the newest version of each name.
func newestModels(all []schemas.Model) (out []schemas.Model) {
	for _, m := range all {
		if !slices.ContainsFunc(out, func(o schemas.Model) bool { return o.Name == m.Name }) {
			out = append(out, m)
		}
	}
	return out
}

// versions tells what each version changed of the one before; the newest first.
func versions(lines []live.PolicyLine, now schemas.Policy) (out []version) {
	for i, l := range lines {
		v := version{PolicyLine: l, InForce: l.Policy.Version == now.Version}
		if i+1 < len(lines) {
			v.Changes = differences(lines[i+1].Policy, l.Policy)
		}
		out = append(out, v)
	}
	return out
}

func differences(a, b schemas.Policy) (out []change) {
	from, to := flatten(a), flatten(b)
	for _, k := range slices.Sorted(maps.Keys(to)) {
		if k != "version" && from[k] != to[k] {
			out = append(out, change{k, clip(from[k]), clip(to[k])})
		}
	}
	return out
}

func clip(s string) string {
	if len(s) > 60 {
		return s[:57] + "…"
	}
	if s == "" {
		return "–"
	}
	return s
}

func (s *Server) about(r *request) *sheet {
	return &sheet{title: "About", nav: "about", regions: []region{{"about", "about", map[string]any{"Tokens": s.cfg.Tokens.Path()}}}}
}

func (s *Server) calendarPage(r *request) *sheet {
	d := map[string]any{"Entries": s.entries(r.now)}
	return &sheet{title: "Calendar", nav: "calendar", regions: []region{{"cal-form", "cal-form", d}, {"cal-list", "cal-list", d}}}
}

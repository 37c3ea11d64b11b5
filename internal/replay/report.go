package replay

import (
	"bytes"
	"cmp"
	"fmt"
	"html"
	"slices"
	"strings"

	"github.com/foreshift/foreshift/internal/chart"
)

const pageHead = `<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">
<title>Foreshift backtest</title><style>
:root{color-scheme:light dark;--ink:#24292f;--paper:#fff;--line:#d8dee4}
@media(prefers-color-scheme:dark){:root{--ink:#d6dbe1;--paper:#12161b;--line:#333b45}}
body{font:15px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper);max-width:60rem;margin:2rem auto;padding:0 1rem}
table{border-collapse:collapse;margin:1rem 0;display:block;overflow-x:auto}td,th{padding:.25rem .6rem;border-bottom:1px solid var(--line);text-align:right}
td:first-child,th:first-child{text-align:left}svg{max-width:100%;height:auto}.void{font-weight:600}
</style></head><body>
`

// listed is how many of the best and of the worst moves the page shows.
const listed = 10

// HTML is a page that shows the result: what happened, what each policy did, the best
// and worst moves of the predictive policy. It stands alone: nothing is fetched.
func (r *Result) HTML() []byte {
	var b bytes.Buffer
	b.WriteString(pageHead)
	fmt.Fprintf(&b, "<h1>Backtest on %s</h1><p>%d VMs on %d hosts of %.1f cores and %.0f GiB, sized for a utilisation of %.2f; %.0f days, %d random placements.</p>\n",
		html.EscapeString(r.History), r.VMs, r.Hosts, r.C, r.M, r.U, r.Days, r.Placements)
	verdict := "The validity gates hold."
	if !r.Valid {
		verdict = `<span class="void">A validity gate fails or could not be asked: the comparison is void.</span>`
	}
	fmt.Fprintf(&b, "<p>%s</p><table><tr><th>Gate</th><th>Value</th><th>Bound</th><th>Holds</th></tr>\n", verdict)
	for _, g := range r.Gates {
		sign := "at least"
		if g.AtMost {
			sign = "at most"
		}
		fmt.Fprintf(&b, "<tr><td>%s: %s</td><td>%.4f</td><td>%s %g</td><td>%t</td></tr>\n", g.Name, html.EscapeString(g.Why), g.Value, sign, g.Bound, g.OK)
	}
	b.WriteString("</table>\n<h2>What happened</h2>\n")
	b.Write(r.demandChart())
	b.WriteString("\n<h2>What each policy did</h2>\n")
	r.policyTable(&b)
	b.Write(r.unmetChart())
	b.Write(r.tradeChart())
	if best := r.recommended(); best != "" {
		fmt.Fprintf(&b, "<p>Of the settings tried, <b>%s</b> leaves the least demand unserved, a thousandth of it for each move counted against it.</p>\n", html.EscapeString(best))
	}
	if s := r.Policies["predictive"]; s != nil {
		r.moveTables(&b, s)
	}
	b.WriteString("</body></html>\n")
	return b.Bytes()
}

func (r *Result) policyTable(b *bytes.Buffer) {
	b.WriteString("<table><tr><th>Policy</th><th>Unserved core-hours</th><th>GiB-hours</th><th>Moves</th><th>GiB moved</th><th>Returns</th><th>of react</th><th>of balancer</th><th>of persist</th></tr>\n")
	for _, name := range r.Names {
		s := r.Policies[name]
		fmt.Fprintf(b, "<tr><td>%s</td><td>%.1f</td><td>%.1f</td><td>%d</td><td>%.0f</td><td>%d</td><td>%s</td><td>%s</td><td>%s</td></tr>\n", html.EscapeString(name), s.Unmet, s.UnmetMem, s.Moves, s.GiB, s.PingPong,
			s.cell("react", true), s.cell("balancer", true), s.cell("persist", true))
	}
	b.WriteString("</table><p>Sums over placements; in brackets the 90 % interval over placements and days.</p>\n")
}

// demandChart is the fleet's demand against what all hosts can serve.
func (r *Result) demandChart() []byte {
	h, f := r.h, r.f
	s := chart.Series{Name: "demand of the fleet"}
	for t := f.Start; t < f.End; t++ {
		sum := 0.0
		for v := range h.VMs {
			sum += h.At(v, t)
		}
		s.X, s.Y = append(s.X, float64(t)/day), append(s.Y, sum)
	}
	return chart.Line(chart.Figure{Title: "Demand", Desc: "The fleet's demand in cores by day, and what all hosts together can serve.",
		X: chart.Axis{Label: "day"}, Y: chart.Axis{Label: "cores"}}, []chart.Series{s}, chart.Mark{At: float64(f.H) * f.C, Name: "all hosts"})
}

// unmetChart is the demand gone unserved by day, added up.
func (r *Result) unmetChart() []byte {
	var all []chart.Series
	for _, name := range r.Names {
		if name == "none" || strings.Contains(name, ":") {
			continue // one would flatten the rest, the other crowd it
		}
		s, sum := chart.Series{Name: name}, 0.0
		for d := range int(r.Days) {
			for _, x := range r.Policies[name].runs {
				sum += x.world.score.daily(d)
			}
			s.X, s.Y = append(s.X, float64(r.f.Start/day+d+1)), append(s.Y, sum)
		}
		all = append(all, s)
	}
	return chart.Line(chart.Figure{Title: "Unserved so far", Desc: "Core-hours that went unserved up to a day, by policy, all placements together.",
		X: chart.Axis{Label: "day"}, Y: chart.Axis{Label: "core-hours"}}, all)
}

// tradeChart is unserved demand against moves, with the settings none beats on both.
func (r *Result) tradeChart() []byte {
	var all []chart.Series
	for _, name := range r.Names {
		if name == "none" {
			continue
		}
		s := r.Policies[name]
		kind, setting, _ := strings.Cut(name, ":")
		at := slices.IndexFunc(all, func(x chart.Series) bool { return x.Name == kind })
		if at < 0 {
			at, all = len(all), append(all, chart.Series{Name: kind})
		}
		all[at].X, all[at].Y, all[at].Label = append(all[at].X, float64(s.Moves)), append(all[at].Y, s.Unmet), append(all[at].Label, setting)
	}
	return chart.Scatter(chart.Figure{Title: "Moves against unserved demand", Desc: "Each policy and setting by its moves and the core-hours that went unserved; the line joins those that none beats on both.",
		X: chart.Axis{Label: "moves", Scale: chart.Sqrt}, Y: chart.Axis{Label: "core-hours", Scale: chart.Sqrt}}, all, true)
}

// recommended is the setting of the predictive policy with the least unserved demand
// plus a thousandth of it a move.
func (r *Result) recommended() string {
	best, least := "", 0.0
	for _, name := range r.Names {
		if kind, _, _ := strings.Cut(name, ":"); kind != "predictive" {
			continue
		}
		s := r.Policies[name]
		if cost := s.Unmet * (1 + float64(s.Moves)/float64(1000*r.Placements)); best == "" || cost < least {
			best, least = name, cost
		}
	}
	return best
}

// judged is a move with what it turned out to save on its two hosts within 2 hours, had
// nothing else moved.
type judged struct {
	Logged
	placement int
	saved     float64 // core-hours
}

// judge works out what a move saved: the two hosts' unserved demand without it less that
// with it, over the hours after it, with all other VMs where they are at that moment.
func (r *Result) judge(s *Scored) (all []judged) {
	const hours = 2 * perHour
	h, c := r.h, r.f.C
	for p, one := range s.runs {
		at := slices.Clone(one.world.start)
		for _, m := range one.world.log {
			saved := 0.0
			for t := m.Step + 1 + Takes(h.VMs[m.VM].GiB); t <= min(m.Step+hours, h.Steps-1); t++ {
				from, to := 0.0, 0.0
				for v, b := range at {
					switch {
					case b == m.From:
						from += h.At(v, t)
					case b == m.To:
						to += h.At(v, t)
					}
				}
				d := h.At(int(m.VM), t)
				saved += (max(0, from-c) + max(0, to-c) - max(0, from-d-c) - max(0, to+d-c)) / perHour
			}
			all = append(all, judged{m, p, saved})
			at[m.VM] = m.To
		}
	}
	slices.SortStableFunc(all, func(a, b judged) int { return cmp.Compare(b.saved, a.saved) })
	return all
}

func (r *Result) moveTables(b *bytes.Buffer, s *Scored) {
	all := r.judge(s)
	show := func(title string, list []judged) {
		fmt.Fprintf(b, "<h2>%s</h2><table><tr><th>VM</th><th>Placement</th><th>Day, time</th><th>From</th><th>To</th><th>Expected core-hours</th><th>Came</th><th>Minutes before the shortage</th></tr>\n", title)
		for _, m := range list {
			lead := "it was there"
			if m.Lead >= 0 {
				lead = fmt.Sprint(5 * m.Lead)
			}
			fmt.Fprintf(b, "<tr><td>%s</td><td>%d</td><td>%d, %02d:%02d</td><td>%d</td><td>%d</td><td>%.2f</td><td>%.2f</td><td>%s</td></tr>\n", html.EscapeString(r.h.VMs[m.VM].Name), m.placement+1,
				m.Step/day, m.Step%day/perHour, m.Step%perHour*5, m.From, m.To, m.Benefit/3600, m.saved, lead)
		}
		b.WriteString("</table>\n")
	}
	n := min(listed, len(all))
	show("The best moves", all[:n])
	worst := slices.Clone(all[max(n, len(all)-listed):])
	slices.Reverse(worst)
	show("The worst moves", worst)
	for k, m := range slices.Concat(all[:n], worst) {
		b.Write(r.moveChart(m, k))
	}
}

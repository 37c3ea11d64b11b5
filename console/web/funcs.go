package web

import (
	"fmt"
	"html/template"
	"math"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/foreshift/foreshift/console"
	"github.com/foreshift/foreshift/console/agenda"
	"github.com/foreshift/foreshift/console/live"
	"github.com/foreshift/foreshift/internal/chart"
	"github.com/foreshift/foreshift/internal/explain"
	"github.com/foreshift/foreshift/schemas"
)

// funcs are what templates may call.
func (s *Server) funcs() template.FuncMap {
	return template.FuncMap{
		"pct": percent, "cores": cores, "gib": gib, "rate": rate, "num": number, "span": span, "rel": rel, "clock": clock, "stamp": stamp,
		"heat": heat, "room": roomClass, "percentOf": percentOf, "amount": explain.Amount, "plural": plural, "cause": cause,
		"vmURL":   func(v schemas.VMID) string { return "/vms/" + v.String() },
		"hostURL": func(h schemas.HostID) string { return "/hosts/" + url.PathEscape(string(h)) },
		"spark":   spark, "list": func(v ...any) []any { return v }, "first": first, "join": joinHosts,
		"reason": reason, "short": short, "done": done, "add": func(a, b int) int { return a + b },
		"add100": func(x float64) float64 { return 100 * x }, "abs": math.Abs, "hold": hold, "saves": func(g schemas.Gain) float64 { return g.Before - g.After }, "linkUse": linkUse,
		"pctOf": func(part, whole any) string {
			if w := toFloat(whole); w > 0 {
				return percent(toFloat(part) / w)
			}
			return "–"
		},
		"base": filepath.Base, "meter": meter, "matchText": agenda.MatchText, "expectedText": agenda.ExpectedText, "effects": console.Achieved,
		"words": func(s string) string { return strings.ReplaceAll(s, "_", " ") },
		"safe":  func(b []byte) template.HTML { return template.HTML(b) }, // charts only: they escape what comes from outside
	}
}

func percent(v any) string {
	x := toFloat(v)
	switch {
	case math.IsNaN(x):
		return "–"
	case x > 0 && x < .01:
		return "<1 %"
	}
	return fmt.Sprintf("%.0f %%", 100*x)
}

func toFloat(v any) float64 {
	switch x := v.(type) {
	case schemas.Ratio:
		return float64(x)
	case float64:
		return x
	case float32:
		return float64(x)
	case schemas.Bytes:
		return float64(x)
	case schemas.MilliCPU:
		return float64(x)
	case schemas.BytesPerSecond:
		return float64(x)
	case schemas.Seconds:
		return float64(x)
	case schemas.Millis:
		return float64(x)
	case int:
		return float64(x)
	}
	return math.NaN()
}

func cores(m schemas.MilliCPU) string      { return fmt.Sprintf("%.1f", float64(m)/1000) }
func gib(b schemas.Bytes) string           { return fmt.Sprintf("%.1f", float64(b)/(1<<30)) }
func rate(b schemas.BytesPerSecond) string { return fmt.Sprintf("%.1f MB/s", float64(b)/1e6) }

// number writes with three digits, and whole from a hundred on.
func number(v any) string { return schemas.Figure(toFloat(v)) }

// span writes a length of time as a person says it.
func span(d time.Duration) string {
	sign := ""
	if d < 0 {
		sign, d = "−", -d
	}
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%s%.0f s", sign, d.Seconds())
	case d < 10*time.Minute && d%time.Minute >= time.Second:
		return fmt.Sprintf("%s%d min %02d s", sign, int(d.Minutes()), int(d.Seconds())%60)
	case d < time.Hour:
		return fmt.Sprintf("%s%.0f min", sign, d.Minutes())
	case d < 48*time.Hour && d%time.Hour >= time.Minute:
		return fmt.Sprintf("%s%d h %02d min", sign, int(d.Hours()), int(d.Minutes())%60)
	case d < 48*time.Hour:
		return fmt.Sprintf("%s%.0f h", sign, d.Hours())
	}
	return fmt.Sprintf("%s%.0f days", sign, d.Hours()/24)
}

func clock(t schemas.Time) string {
	if t == 0 {
		return "–"
	}
	return t.Std().Format("15:04:05")
}

func stamp(t schemas.Time) string {
	if t == 0 {
		return "–"
	}
	return t.Std().Format("2006-01-02 15:04:05 UTC")
}

// rel is a moment: the clock for who has no script, and how far it is for who has one.
func rel(t schemas.Time) template.HTML {
	if t == 0 {
		return "–"
	}
	return template.HTML(fmt.Sprintf(`<time class="rel" datetime="%s" title="%s">%s</time>`, t.Std().Format(time.RFC3339), stamp(t), clock(t)))
}

// heat is the class of a chance.
func heat(v any) string {
	switch x := toFloat(v); {
	case x >= .6:
		return "hot"
	case x >= .3:
		return "warm"
	case x >= .1:
		return "mild"
	}
	return "calm"
}

// roomClass is the class of what stays free; see the legend of the fleet page.
func roomClass(free float64) string {
	switch {
	case math.IsNaN(free):
		return "k-none"
	case free < 0:
		return "k0"
	case free < .1:
		return "k1"
	case free < .2:
		return "k2"
	case free < .3:
		return "k3"
	case free < .5:
		return "k4"
	}
	return "k5"
}

// percentOf is a share of a whole in percent, for the attribute of a bar.
func percentOf(part, whole any) string {
	p, w := toFloat(part), toFloat(whole)
	if !(w > 0) || math.IsNaN(p) {
		return "0"
	}
	return fmt.Sprintf("%.1f", 100*min(1, max(0, p/w)))
}

// meter draws a share as a bar; the number stands beside it.
func meter(part, whole any, class string) template.HTML {
	return template.HTML(fmt.Sprintf(`<svg class="meter %s" viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true"><rect class="track" width="100" height="8"/><rect class="fill" width="%s" height="8"/></svg>`, class, percentOf(part, whole)))
}

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

func cause(c schemas.Cause) string {
	if c == schemas.CauseOwnLimit {
		return "its own limit"
	}
	return "its host"
}

func first(n int, v any) any {
	switch x := v.(type) {
	case []schemas.Decline:
		return x[:min(n, len(x))]
	case []console.Move:
		return x[:min(n, len(x))]
	}
	return v
}

func joinHosts(hs []schemas.HostID) string {
	var b strings.Builder
	for i, h := range hs {
		if i == 12 {
			fmt.Fprintf(&b, " and %d more", len(hs)-i)
			break
		}
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(string(h))
	}
	return b.String()
}

// hold keeps a number and its unit on one line.
func hold(text string) string { return numbered.ReplaceAllString(text, "$1\u00a0$2") }

var numbered = regexp.MustCompile(`(\d) (%|h|s|min|ms|GiB|MB/s|cores|core-s|core-seconds|days)`)

// reason is a typed reason in words, with its code for who looks it up.
func reason(r schemas.Reason) string {
	if r.Detail == "" {
		return strings.ReplaceAll(string(r.Code), "_", " ")
	}
	return r.Detail
}

func short(id any) string {
	s := fmt.Sprint(id)
	return s[:min(8, len(s))]
}

// done is how far a move has come, 0..100.
func done(m console.Move) float64 {
	p := m.Progress
	switch {
	case m.Outcome != nil:
		return 100
	case p == nil:
		return 0
	case p.Phase == schemas.PhasePreCopy || p.Phase == schemas.PhaseDisk:
		if p.Processed+p.Remaining <= 0 {
			return 5
		}
		return 5 + 85*float64(p.Processed/(p.Processed+p.Remaining))
	}
	for at, x := range map[float64][]schemas.Phase{2: {schemas.PhaseAccepted}, 4: {schemas.PhasePrepare}, 92: {schemas.PhaseSwitchover}, 94: {schemas.PhaseHandOver},
		96: {schemas.PhaseFinish}, 97: {schemas.PhaseResume}, 99: {schemas.PhaseConfirm}, 100: {schemas.PhaseDone}} {
		if x[0] == p.Phase {
			return at
		}
	}
	return 0
}

// spark draws what was and what is expected of a VM as one small line: the past dark,
// the median light, against its limit.
func spark(v live.VM) template.HTML {
	w := v.Worst()
	r := schemas.CPU
	if w != nil && w.Resource == schemas.Memory.String() {
		r = schemas.Memory
	}
	limit := float64(v.AllocCPU)
	if r == schemas.Memory {
		limit = float64(v.AllocMem)
	}
	return template.HTML(chart.Spark(r.String()+" of the last steps, and the median expected", 110, 24, v.Actual[r], v.Fan[r][1], limit))
}

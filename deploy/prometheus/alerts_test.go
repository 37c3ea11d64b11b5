package prometheus

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

func read(t *testing.T, path ...string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(path...))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestPromtool has Prometheus's own tool check the rules and the example.
func TestPromtool(t *testing.T) {
	tool, err := exec.LookPath("promtool")
	if err != nil {
		t.Skip("promtool is not installed; it is in Debian's package prometheus")
	}
	for _, args := range [][]string{{"check", "rules", "alerts.yml"}, {"check", "config", "prometheus.yml"}} {
		if out, err := exec.CommandContext(t.Context(), tool, args...).CombinedOutput(); err != nil {
			t.Errorf("promtool %v: %v\n%s", args, err, out)
		}
	}
}

// TestEveryAlertHasAnEntry: the runbook has a heading for each alert's link.
func TestEveryAlertHasAnEntry(t *testing.T) {
	rules, anchors := read(t, "alerts.yml"), map[string]bool{}
	for line := range strings.SplitSeq(read(t, "..", "..", "docs", "RUNBOOK.md"), "\n") {
		if h, ok := strings.CutPrefix(line, "## "); ok {
			slug := regexp.MustCompile(`[^a-z0-9 -]`).ReplaceAllString(strings.ToLower(h), "")
			anchors[strings.ReplaceAll(slug, " ", "-")] = true
		}
	}
	links := regexp.MustCompile(`runbook: "docs/RUNBOOK\.md#([^"]+)"`).FindAllStringSubmatch(rules, -1)
	if alerts := strings.Count(rules, "- alert:"); alerts < 10 || len(links) != alerts {
		t.Errorf("%d alerts, %d links to the runbook", alerts, len(links))
	}
	for _, l := range links {
		if !anchors[l[1]] {
			t.Errorf("the runbook has no entry #%s", l[1])
		}
	}
}

// TestEveryMetricIsThere: what alerts and the dashboard ask for is what services have.
func TestEveryMetricIsThere(t *testing.T) {
	where := map[string]string{"forecaster": "forecaster", "placer": "placer", "actuator": "actuator", "service": "streams"}
	source := map[string]string{}
	for _, dir := range []string{"forecaster", "placer", "actuator", "streams"} {
		files, err := filepath.Glob(filepath.Join("..", "..", dir, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			if !strings.HasSuffix(f, "_test.go") {
				source[dir] += read(t, f)
			}
		}
	}
	name := regexp.MustCompile(`\bforeshift_[a-z_]+`)
	seen := map[string]bool{}
	for _, text := range []string{read(t, "alerts.yml"), read(t, "..", "grafana", "foreshift.json")} {
		for _, m := range name.FindAllString(text, -1) {
			seen[m] = true
		}
	}
	if len(seen) < 15 {
		t.Fatalf("only %d metrics named", len(seen))
	}
	for m := range seen {
		rest := strings.TrimSuffix(strings.TrimPrefix(m, "foreshift_"), "_bucket")
		part, tail, _ := strings.Cut(rest, "_")
		dir, short := where[part], tail
		if dir == "" {
			dir, short = "streams", rest
		}
		if !strings.Contains(source[dir], `"`+short+`"`) && !strings.Contains(source[dir], `"`+m+`"`) {
			t.Errorf("no service has %s", m)
		}
	}
}

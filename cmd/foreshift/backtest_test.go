package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// backtest runs the command and gives what it printed.
func backtest(args ...string) (string, error) {
	c := root()
	var out, errs bytes.Buffer
	c.SetOut(&out)
	c.SetErr(&errs)
	c.SetArgs(append([]string{"backtest"}, args...))
	err := c.Execute()
	return out.String(), err
}

func TestBacktestCommand(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "small.csv")
	if err := os.WriteFile(path, tinyHistory(12, 9), 0o600); err != nil {
		t.Fatal(err)
	}
	page := filepath.Join(dir, "page.html")
	out, err := backtest("--traces", path, "--hosts", "2", "-u", ".9", "--placements", "2", "--policy", "none,react,persist", "--json", "--report", page)
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Gates    []any
		Policies map[string]struct {
			Unmet *float64 `json:"unmet_core_hours"`
			Moves *int     `json:"moves"`
			GiB   *float64 `json:"gib_moved"`
			Ping  *int     `json:"ping_pong"`
		}
	}
	if err := json.Unmarshal([]byte(out), &got); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	for _, name := range []string{"none", "react", "persist"} {
		p := got.Policies[name]
		if p.Unmet == nil || p.Moves == nil || p.GiB == nil || p.Ping == nil {
			t.Errorf("%s lacks a figure: %s", name, out)
		}
	}
	if len(got.Gates) == 0 {
		t.Error("no gates")
	}
	if html, err := os.ReadFile(page); err != nil || !strings.Contains(string(html), "<svg") {
		t.Error("no page: ", err)
	}
}

func TestBacktestUsage(t *testing.T) {
	for _, args := range [][]string{{}, {"--traces", "x", "--policy", "magic"}, {"--traces", "x", "--placements", "-1"}} {
		if _, err := backtest(args...); !errors.As(err, new(usageError)) {
			t.Errorf("%v: %v, want a usage error", args, err)
		}
	}
	if _, err := backtest("--traces", "/nowhere/x.csv"); err == nil || errors.As(err, new(usageError)) || !strings.Contains(err.Error(), "/nowhere/x.csv") {
		t.Error(err)
	}
}

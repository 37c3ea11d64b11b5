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

func TestBenchPlace(t *testing.T) {
	const dir = "../../benchmarks/roadef/testdata/"
	out := filepath.Join(t.TempDir(), "out")
	c := benchPlaceCommand()
	var got bytes.Buffer
	c.SetOut(&got)
	c.SetArgs([]string{"--roadef", dir + "model.txt", "--assignment", dir + "assignment.txt", "--legs", "500,500", "--json", "--out", out})
	if err := c.Execute(); err != nil {
		t.Fatal(err)
	}
	var r struct {
		Objective, Initial int64
		Evaluations        int
		Valid              bool
	}
	lines := strings.Split(strings.TrimSpace(got.String()), "\n")
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &r); err != nil {
		t.Fatal(err)
	}
	if !r.Valid || r.Initial != 70 || r.Objective > 70 || r.Evaluations != 1000 {
		t.Errorf("%+v", r)
	}
	if b, err := os.ReadFile(out); err != nil || len(strings.Fields(string(b))) != 3 || strings.Count(string(b), "\n") != 1 {
		t.Errorf("the assignment is %q (%v)", b, err)
	}
}

func TestBenchPlaceUse(t *testing.T) {
	for _, x := range []struct{ args, want string }{
		{"", "name one instance"},
		{"--roadef a --rescheduling b", "name one instance"},
		{"--roadef a", "--assignment is missing"},
		{"--rescheduling a", "--moves is missing"},
		{"--roadef a --assignment b --cpu-seconds 0", "must be above 0"},
		{"--roadef a --assignment b --legs 0", "counts above 0"},
	} {
		c := benchPlaceCommand()
		c.SilenceErrors, c.SilenceUsage = true, true
		c.SetArgs(strings.Fields(x.args))
		err := c.Execute()
		if !errors.As(err, new(usageError)) || !strings.Contains(err.Error(), x.want) {
			t.Errorf("%q: %v, want a usage error with %q", x.args, err, x.want)
		}
	}
}

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/foreshift/foreshift/benchmarks/forecastaware"
	"github.com/foreshift/foreshift/benchmarks/rescheduling"
	"github.com/foreshift/foreshift/benchmarks/roadef"
)

// Whatever the problem, what is printed is what an evaluator that shares nothing with
// the search makes of the file that is written.
func TestBenchPlace(t *testing.T) {
	const dir = "../../benchmarks/"
	for _, x := range []struct {
		name, args string
		moves      int
		// cost evaluates the text of the answer.
		cost func(text []byte) (float64, error)
	}{
		{"roadef", "--legs 500,500 --roadef " + dir + "roadef/testdata/model.txt --assignment " + dir + "roadef/testdata/assignment.txt", 0, func(text []byte) (float64, error) {
			m, first, err := roadef.Load(dir+"roadef/testdata/model.txt", dir+"roadef/testdata/assignment.txt")
			if err != nil {
				return 0, err
			}
			if bytes.Count(text, []byte("\n")) != 1 {
				return 0, errors.New("not one line")
			}
			at, err := roadef.ParseAssignment(text, m)
			if err != nil {
				return 0, err
			}
			c, err := roadef.Evaluate(m, first, at)
			return float64(c.Total()), err
		}},
		{"rescheduling", "--moves 2 --rescheduling " + dir + "rescheduling/testdata/tiny.json", 2, func(text []byte) (float64, error) {
			s, err := rescheduling.Read(dir + "rescheduling/testdata/tiny.json")
			if err != nil {
				return 0, err
			}
			var moves []rescheduling.Move
			if err := strictly(text, &moves); err != nil {
				return 0, err
			}
			y, err := rescheduling.Check(s, moves, 2)
			return float64(y), err
		}},
		{"forecast-aware", "--forecast-aware " + dir + "forecastaware/testdata/tiny.json", 1, func(text []byte) (float64, error) {
			in, err := forecastaware.Read(dir + "forecastaware/testdata/tiny.json")
			if err != nil {
				return 0, err
			}
			var moves []forecastaware.Move
			if err := strictly(text, &moves); err != nil {
				return 0, err
			}
			return forecastaware.Check(in, moves)
		}},
	} {
		t.Run(x.name, func(t *testing.T) {
			dir := t.TempDir()
			out, record := filepath.Join(dir, "out"), filepath.Join(dir, "results.jsonl")
			c := benchPlaceCommand()
			var got bytes.Buffer
			c.SetOut(&got)
			// Time is that of the whole process, of which other tests have used some.
			c.SetArgs(append(strings.Fields(x.args), "--json", "--out", out, "--record", record, "--cpu-seconds", fmt.Sprint(processCPU()+.2)))
			if err := c.Execute(); err != nil {
				t.Fatal(err)
			}
			var r struct {
				Objective   *float64
				Moves       *int
				PerSecond   *float64 `json:"evaluations_per_cpu_second"`
				Evaluations int
				Valid       bool
			}
			lines := strings.Split(strings.TrimSpace(got.String()), "\n")
			if err := json.Unmarshal([]byte(lines[len(lines)-1]), &r); err != nil {
				t.Fatal(err)
			}
			if r.Objective == nil || r.Moves == nil || r.PerSecond == nil || r.Evaluations == 0 || !r.Valid {
				t.Fatalf("%s", lines[len(lines)-1])
			}
			text, err := os.ReadFile(out)
			if err != nil {
				t.Fatal(err)
			}
			cost, err := x.cost(text)
			if err != nil || math.Abs(cost-*r.Objective) > 1e-9 || *r.Moves != x.moves {
				t.Errorf("%s: an evaluator says %g (%v), the command %g with %d moves", text, cost, err, *r.Objective, *r.Moves)
			}
			var kept struct {
				Args    string
				Figures struct{ Objective float64 }
			}
			line, err := os.ReadFile(record)
			if err != nil {
				t.Fatal(err)
			}
			if err := json.Unmarshal(line, &kept); err != nil || kept.Figures.Objective != *r.Objective || !strings.Contains(kept.Args, "--"+x.name+"=") || strings.Contains(kept.Args, "/") {
				t.Errorf("recorded %s (%v)", line, err)
			}
		})
	}
}

// strictly decodes JSON that has the known fields and no others.
func strictly(text []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	return d.Decode(into)
}

// A malformed file is named, with the line.
func TestBenchPlaceMalformed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "bad")
	if err := os.WriteFile(path, []byte("{\n\n x"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, x := range []struct{ args, want string }{
		{"--rescheduling " + path + " --moves 1", "line 3: invalid character 'x'"},
		{"--forecast-aware " + path, "line 3: invalid character 'x'"},
		{"--roadef " + path + " --assignment " + path, "line 1: number 1, the number of resources: found '{'"},
	} {
		c := benchPlaceCommand()
		c.SilenceErrors, c.SilenceUsage = true, true
		c.SetArgs(strings.Fields(x.args))
		if err := c.Execute(); err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), x.want) {
			t.Errorf("%s: %v, want the path and %q", x.args, err, x.want)
		}
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

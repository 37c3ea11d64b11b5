package matrix

import (
	"bytes"
	"strings"
	"testing"

	"github.com/foreshift/foreshift/internal/lab"
	"github.com/foreshift/foreshift/schemas"
)

// Every kind of harm is found by the judge, and nothing is found where there is none.
func TestJudge(t *testing.T) {
	outcome := func(r schemas.Result) *schemas.Outcome { return &schemas.Outcome{Result: r} }
	good := func() Evidence {
		o := outcome(schemas.ResultSucceeded)
		return Evidence{Source: "a", Dest: "b", Hosts: []schemas.HostID{"a", "b", "c"}, First: o, End: o, Alive: true,
			Seen: lab.WatchReport{Looks: 9, MaxRunning: 1}, States: []lab.State{lab.StateAbsent, lab.StateRunning, lab.StateAbsent}}
	}
	for name, x := range map[string]struct {
		change func(*Evidence)
		want   string // part of the only complaint; empty for none
	}{
		"good":                     {func(*Evidence) {}, ""},
		"two at once":              {func(e *Evidence) { e.Seen.MaxRunning = 2 }, "2 copies ran"},
		"two as the fault":         {func(e *Evidence) { e.Seen.MaxRunning = 2; e.Cell.doubles = true }, ""},
		"second writer":            {func(e *Evidence) { e.After.Alien = 3 }, "second writer"},
		"damage":                   {func(e *Evidence) { e.After.Bad = 1 }, "damaged"},
		"none":                     {func(e *Evidence) { e.States[1] = lab.StatePaused }, "no copy runs"},
		"none, by the fault":       {func(e *Evidence) { e.States[1] = lab.StateOff; e.Cell.harms = true }, ""},
		"two at the end":           {func(e *Evidence) { e.States[0] = lab.StateRunning }, "2 copies run at the end"},
		"silent":                   {func(e *Evidence) { e.Alive = false }, "silent"},
		"booted again":             {func(e *Evidence) { e.After.Resets = 1 }, "booted"},
		"no outcome":               {func(e *Evidence) { e.First, e.End = nil, nil }, "no outcome"},
		"success told, not so":     {func(e *Evidence) { e.States = []lab.State{lab.StateRunning, lab.StateAbsent} }, "runs on a"},
		"failure told, not so":     {func(e *Evidence) { e.End = outcome(schemas.ResultFailed) }, "runs on b"},
		"moved by others":          {func(e *Evidence) { e.End = outcome(schemas.ResultFailed); e.Cell.elsewhere = true }, ""},
		"unknown, then success":    {func(e *Evidence) { e.First = outcome(schemas.ResultUnknown) }, ""},
		"unknown for good":         {func(e *Evidence) { e.End = outcome(schemas.ResultUnknown) }, "still UNKNOWN"},
		"unknown, by the fault":    {func(e *Evidence) { e.End = outcome(schemas.ResultUnknown); e.Cell.harms = true }, ""},
		"another end than allowed": {func(e *Evidence) { e.Cell.ends = refused }, "ended as"},
		"another reason":           {func(e *Evidence) { e.Cell.why = schemas.ReasonSeen }, "the reason is"},
		"left behind":              {func(e *Evidence) { e.Left = []string{"QEMU"} }, "left behind"},
	} {
		e := good()
		x.change(&e)
		wrong := judge(e)
		switch {
		case x.want == "" && len(wrong) > 0:
			t.Errorf("%s: %v", name, wrong)
		case x.want != "" && (len(wrong) != 1 || !strings.Contains(wrong[0], x.want)):
			t.Errorf("%s: %v, want one complaint with %q", name, wrong, x.want)
		}
	}
}

// The matrix is the whole product of victims and phases, and every name is its own.
func TestCells(t *testing.T) {
	names := map[string]bool{}
	all := append(Cells(), SplitCells()...)
	for _, c := range all {
		if names[c.Name] {
			t.Errorf("%s is there twice", c.Name)
		}
		names[c.Name] = true
		if c.fault != nil && len(c.Steps) == 0 {
			t.Errorf("%s strikes nowhere", c.Name)
		}
		if c.fault == nil && c.before == nil {
			t.Errorf("%s breaks nothing", c.Name)
		}
	}
	for _, v := range []string{"source libvirtd killed", "destination libvirtd killed", "destination QEMU killed", "source actuator killed", "destination actuator killed", "NATS killed"} {
		for _, p := range []string{"before", "pre-copy", "switchover", "after"} {
			if !names[v+", "+p] {
				t.Errorf("no cell %s, %s", v, p)
			}
		}
	}
	if got, err := Select(all, "^nats"); err != nil || len(got) != 4 {
		t.Errorf("%d cells of NATS, %v", len(got), err)
	}
	for _, bad := range []string{"(", "no such cell"} {
		if _, err := Select(all, bad); err == nil {
			t.Errorf("%q: no error", bad)
		}
	}
}

func TestTable(t *testing.T) {
	var rep Report
	rep.add(Result{Cell: "x", Step: "begin", Struck: true, First: schemas.ResultSucceeded, End: schemas.ResultSucceeded, Running: 1, Seconds: 2})
	rep.add(Result{Cell: "x", Step: "finish", Struck: true, First: schemas.ResultUnknown, End: schemas.ResultFailed, Running: 1, Seconds: 3, Silence: 1500, Wrong: []string{"y"}})
	rep.Control = []ControlResult{{Fault: "Finish's reply lost", Struck: true, Running: 2, Alien: 4}}
	if rep.Struck != 2 || rep.Wrong != 1 || rep.OK() {
		t.Errorf("%+v", rep)
	}
	var out bytes.Buffer
	if err := rep.Table(&out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"| x | begin, finish | 2 | 1 succeeded, 1 unknown then failed | 1 | 0 | 3.0 s | 1.5 s | 0 | 1 |", "| Finish's reply lost | 1 | 1 | 1 |"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the table lacks %s:\n%s", want, out.String())
		}
	}
	blind := Report{Control: []ControlResult{{Struck: true, Running: 1}}}
	if blind.OK() {
		t.Error("a control that sees one copy is no proof")
	}
}

// TestReportIsStrict: what was not struck proves nothing, and is not passed.
func TestReportIsStrict(t *testing.T) {
	two := ControlResult{Struck: true, Running: 2, Alien: 1}
	for name, x := range map[string]struct {
		r  Report
		ok bool
	}{
		"all struck":         {Report{Results: []Result{{Struck: true}}, Control: []ControlResult{two}}, true},
		"a fault missed":     {Report{Results: []Result{{Struck: true}, {}}, Control: []ControlResult{two}}, false},
		"wrong":              {Report{Results: []Result{{Struck: true}}, Wrong: 1}, false},
		"control saw one":    {Report{Control: []ControlResult{{Struck: true, Running: 1}}}, false},
		"control not struck": {Report{Control: []ControlResult{{Running: 2, Alien: 1}}}, false},
	} {
		if x.r.OK() != x.ok {
			t.Errorf("%s: OK is %v", name, !x.ok)
		}
	}
}

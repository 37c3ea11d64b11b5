package policy

import (
	"strings"
	"testing"
	"time"

	"github.com/foreshift/foreshift/schemas"
)

func TestDefaultIsValidAndCareful(t *testing.T) {
	p := Default()
	if err := Validate(p); err != nil {
		t.Fatal(err)
	}
	if err := p.Validate(); err != nil {
		t.Fatalf("as a message: %v", err)
	}
	if p.Mode != schemas.ModeObserve || !p.AutoOnlySimulated {
		t.Errorf("a fleet that was told nothing runs in mode %s, auto only simulated %v", p.Mode, p.AutoOnlySimulated)
	}
}

func TestValidateReportsAllFaults(t *testing.T) {
	p := Default()
	p.Mode, p.Trigger, p.MinBenefit, p.LookAheadSteps, p.MaxPerHost = "bold", 1.5, -1, 0, -2
	p.HostModes = map[schemas.HostID]schemas.Mode{"b": "x", "a": "y"}
	p.Apart = [][]schemas.VMID{{{1}}}
	err := Validate(p)
	if err == nil {
		t.Fatal("a policy with eight faults passes")
	}
	for _, want := range []string{"mode = bold", "host_modes.a = y", "host_modes.b = x", "trigger_ratio = 1.5 (ratio)", "min_benefit_core_seconds = -1 core-seconds", "look_ahead_steps = 0 base steps", "max_per_host = -2 moves", "apart[0] = 1 VMs"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("no word of %q in:\n%v", want, err)
		}
	}
}

func TestModes(t *testing.T) {
	vm := schemas.VMID{7}
	for _, c := range []struct {
		name          string
		cluster, host schemas.Mode
		vm            schemas.Mode
		simulated     bool
		only          bool
		want          schemas.Mode
	}{
		{"cluster alone", schemas.ModeAuto, "", "", true, true, schemas.ModeAuto},
		{"auto is for simulated hosts only", schemas.ModeAuto, "", "", false, true, schemas.ModeRecommend},
		{"auto was allowed on real hosts", schemas.ModeAuto, "", "", false, false, schemas.ModeAuto},
		{"a host may be bolder than the cluster", schemas.ModeObserve, schemas.ModeAuto, "", true, true, schemas.ModeAuto},
		{"a host may be more careful", schemas.ModeAuto, schemas.ModeApprove, "", true, true, schemas.ModeApprove},
		{"a VM may be more careful", schemas.ModeAuto, "", schemas.ModeObserve, true, true, schemas.ModeObserve},
		{"a VM is never bolder than its host", schemas.ModeRecommend, "", schemas.ModeAuto, true, true, schemas.ModeRecommend},
		{"an unknown word is careful", "bold", "", "", true, true, schemas.ModeObserve},
	} {
		p := Policy{Mode: c.cluster, AutoOnlySimulated: c.only}
		if c.host != "" {
			p.HostModes = map[schemas.HostID]schemas.Mode{"h": c.host}
		}
		if c.vm != "" {
			p.VMModes = map[schemas.VMID]schemas.Mode{vm: c.vm}
		}
		if got := VMMode(p, vm, HostMode(p, "h", c.simulated)); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

func TestMinBenefitScalesWithTheStep(t *testing.T) {
	p := Default()
	if got := MinBenefit(p, time.Second); got != p.MinBenefit/300 {
		t.Errorf("at 1 s: %g", got)
	}
	if got := MinBenefit(p, schemas.DefaultBase); got != p.MinBenefit {
		t.Errorf("at 5 min: %g", got)
	}
}

const base = 5 * time.Minute

func at(steps float64) schemas.Time {
	return schemas.Time(1e18).Add(time.Duration(steps * float64(base)))
}

func attempt(id string, vm byte, start, end float64, r schemas.Result) Attempt {
	a := Attempt{Command: schemas.CommandID(id), VM: schemas.VMID{vm}, Source: "a", Destination: "b", At: at(start), Result: r}
	if r != "" {
		a.Ended = at(end)
	}
	return a
}

func TestLimits(t *testing.T) {
	p := Default()
	link := LinkOf("s2", "s1")
	flying := attempt("1", 1, -1, 0, "")
	flying.Link = link
	tally := NewTally(p, []Attempt{flying}, at(0), base, 0)
	if tally.Source("a").Code != schemas.ReasonBudgetHost || tally.Destination("b").Code != schemas.ReasonBudgetHost || !tally.Source("b").OK() || !tally.Destination("a").OK() {
		t.Error("one move under way takes the place out of a and the place into b, and no other")
	}
	if !tally.Between(link).OK() || !tally.Between(Link{}).OK() {
		t.Error("one move leaves room on its link")
	}
	tally.Add(schemas.VMID{2}, "c", "d", link)
	if tally.Between(link).Code != schemas.ReasonBudgetLink {
		t.Error("two moves fill a link")
	}
	tally.Remove(schemas.VMID{2}, "c", "d", link)
	if !tally.Between(link).OK() || !tally.Source("c").OK() {
		t.Error("what was added is not taken back")
	}
	for i := 0; i < p.MaxPerCluster-1; i++ {
		tally.Add(schemas.VMID{9}, "x", "y", Link{})
	}
	if tally.Fleet().Code != schemas.ReasonBudgetCluster {
		t.Error("the cluster's budget is not kept")
	}
}

func TestHourAndDayCountAttempts(t *testing.T) {
	p := Default()
	p.MaxPerHour, p.MaxPerVMDay, p.BreakerRow, p.CoolDownSteps = 3, 2, 99, 0
	h := []Attempt{attempt("1", 1, -200, -199, schemas.ResultFailed), attempt("2", 1, -100, -99, schemas.ResultRefused), attempt("3", 2, -11, -10, schemas.ResultFailed), attempt("4", 2, -13, -12, schemas.ResultSucceeded)}
	tally := NewTally(p, h, at(0), base, 0)
	if got := tally.VM(schemas.VMID{1}); got.Code != schemas.ReasonBudgetVM {
		t.Errorf("a failed and a refused attempt are two attempts: %v", got)
	}
	if tally.Hour != 1 || !tally.Fleet().OK() {
		t.Errorf("%d attempts in the last 12 steps, want 1", tally.Hour)
	}
	if r := NewTally(p, h, at(200), base, 0).VM(schemas.VMID{1}); !r.OK() {
		t.Errorf("a day later: %v", r)
	}
}

func TestCoolDownDoubles(t *testing.T) {
	p := Default()
	for n, want := range map[int]float64{1: 6, 2: 12, 3: 24, 4: 48, 9: 288, 50: 288} {
		if got := CoolDown(p, n, base); got != time.Duration(want*float64(base)) {
			t.Errorf("after move %d: %v, want %g steps", n, got, want)
		}
	}
	p.MaxPerVMDay = 9
	h := []Attempt{attempt("1", 1, -30, -29, schemas.ResultSucceeded), attempt("2", 1, -12, -11, schemas.ResultFailed)}
	if r := NewTally(p, h, at(0), base, 0).VM(schemas.VMID{1}); r.Code != schemas.ReasonCoolDown {
		t.Errorf("11 steps after the second attempt of a day: %v", r)
	}
	if r := NewTally(p, h, at(1.5), base, 0).VM(schemas.VMID{1}); !r.OK() {
		t.Errorf("12.5 steps after it: %v", r)
	}
}

func TestBreaker(t *testing.T) {
	p := Default()
	ok := func(id string, end float64) Attempt { return attempt(id, 1, end-.5, end, schemas.ResultSucceeded) }
	bad := func(id string, end float64) Attempt { return attempt(id, 2, end-.5, end, schemas.ResultFailed) }
	aborted := bad("x", -1)
	aborted.Reason = schemas.ReasonAborted
	many := []Attempt{bad("0", -20)}
	for i := 0; i < 4; i++ {
		many = append(many, ok(string(rune('a'+i)), -19+float64(i)))
	}
	many = append(many, bad("z", -14))
	for i := 0; i < 4; i++ {
		many = append(many, ok(string(rune('f'+i)), -13+float64(i)))
	}
	p.MaxPerHour = 99
	refused := attempt("y", 1, -1.5, -1.2, schemas.ResultRefused)
	refused.Reason = schemas.ReasonPaused
	for _, c := range []struct {
		name    string
		h       []Attempt
		cleared schemas.Time
		open    bool
	}{
		{"nothing yet", nil, 0, false},
		{"one failure", []Attempt{ok("1", -3), bad("2", -2)}, 0, false},
		{"two in a row", []Attempt{bad("1", -3), bad("2", -2)}, 0, true},
		{"one that never began between them", []Attempt{bad("1", -3), refused, bad("2", -1)}, 0, true},
		{"by the end, not by the start", []Attempt{bad("2", -2), ok("1", -1), bad("3", -3)}, 0, false},
		{"an operator's abort is no failure", []Attempt{bad("1", -3), aborted}, 0, false},
		{"two of the last ten", many, 0, true},
		{"cleared by a resume", []Attempt{bad("1", -3), bad("2", -2)}, at(-1), false},
		{"forgotten after a day", []Attempt{bad("1", -400), bad("2", -399)}, 0, false},
	} {
		if got := NewTally(p, c.h, at(0), base, c.cleared).Fleet(); (got.Code == schemas.ReasonBreaker) != c.open {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

package explain

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"github.com/foreshift/foreshift/schemas"
)

var now = schemas.At(time.Date(2031, 5, 4, 12, 0, 0, 0, time.UTC))

var web, db = schemas.VMID{15: 7}, schemas.VMID{15: 8}

func contention() *schemas.PressureVM {
	return &schemas.PressureVM{VM: web, Host: "h1", Cause: schemas.CauseHostContention, Resource: "cpu", Score: .93, Onset: now.Add(20 * time.Minute), Advice: "move",
		Chances: map[string]schemas.Chance{"cpu": {H1: .25, H6: .5, H24: .93}}, Why: []schemas.Why{{Kind: "peak", Text: "db asks for 4.00 cores, 43 % of the host's demand then", Share: .43}}}
}

func hostPressure() *schemas.PressureHost {
	return &schemas.PressureHost{Host: "h1", Resource: "cpu", Score: .93, Onset: now.Add(20 * time.Minute), Peak: 9780, Limit: 8000}
}

func declines() []schemas.Decline {
	return []schemas.Decline{{VM: web, Host: "h3", Reason: schemas.Reason{Code: schemas.ReasonNoRoom, Detail: "h3 has not the memory at the .95 quantile"}},
		{VM: web, Host: "h4", Reason: schemas.Reason{Code: schemas.ReasonCordoned, Detail: "h4 takes no VM while cordoned"}}}
}

func action(state schemas.ActionState, hold schemas.Reason) schemas.Action {
	return schemas.Action{ID: "m-1", VM: web, Name: "web", Source: "h1", Destination: "h2", Due: now.Add(5 * time.Minute), Latest: now.Add(14 * time.Minute), State: state, Hold: hold, WhyNot: declines(),
		Reason: schemas.Reason{Code: schemas.ReasonOK, Detail: "h1 runs short of cpu with chance 0.93, 9.78 cores of 8.00 cores at the peak"},
		Predicted: schemas.Prediction{Onset: now.Add(20 * time.Minute), Duration: 4.2, Gain: schemas.Gain{Before: 12000, After: 200, Cost: 160, Benefit: 11640,
			Terms: []schemas.Term{{Name: "cpu", Amount: 11800}, {Name: "near_capacity", Amount: 0}, {Name: "sending", Amount: -120}, {Name: "brown_out", Amount: -40}}}}}
}

// cases are the facts of the golden stories.
func cases() map[string]Story {
	vm := func(change func(*VM)) Story {
		v := VM{Now: now, ID: web, Name: "web", Host: "h1", Running: []schemas.HostID{"h1"}, Mode: schemas.ModeAuto}
		change(&v)
		return Of(v)
	}
	planned := func(hold schemas.Reason) *schemas.Plan {
		return &schemas.Plan{ID: "p-1", Before: 12000, After: 360, Actions: []schemas.Action{action(schemas.ActionPlanned, hold)}, Declined: []schemas.Decline{
			{VM: db, Host: "h1", Reason: schemas.Reason{Code: schemas.ReasonBudgetHost, Detail: "1 of 1 moves out of h1 are taken"}}}}
	}
	command := schemas.Command{ID: "m-1", VM: web, Name: "web", Source: "h1", Destination: "h2", Issued: now.Add(-time.Minute), Predicted: schemas.Prediction{Onset: now.Add(time.Minute)}}
	done := &schemas.Outcome{Command: "m-1", Result: schemas.ResultSucceeded, Duration: 4.31, Downtime: 88, Time: now.Add(-30 * time.Second)}
	return map[string]Story{
		"calm": vm(func(v *VM) {}),
		"planned": vm(func(v *VM) {
			v.Contention, v.HostPressure = contention(), hostPressure()
			v.Plan = planned(schemas.Reason{Code: schemas.ReasonNotDue, Detail: "it starts in 5m0s"})
		}),
		"approval": vm(func(v *VM) {
			v.Contention, v.Plan = contention(), planned(schemas.Reason{Code: schemas.ReasonNeedsApproval, Detail: "mode approve: it waits for a person"})
		}),
		"declined": vm(func(v *VM) {
			v.ID, v.Name, v.Contention = db, "db", contention()
			v.Plan = planned(schemas.Reason{Code: schemas.ReasonOK})
			v.Benefit = &schemas.Benefit{VM: db, Host: "h1", Destination: "h2", Gain: schemas.Gain{Before: 12000, After: 9000, Cost: 100, Benefit: 2900}, WhyNot: declines()}
		}),
		"resize": vm(func(v *VM) {
			v.OwnLimit = &schemas.PressureVM{VM: web, Cause: schemas.CauseOwnLimit, Resource: "memory", Score: .8, Advice: "resize_advised", Chances: map[string]schemas.Chance{"memory": {H24: .8}}}
		}),
		"moving": vm(func(v *VM) { v.Moves = []Move{{Command: command}} }),
		"moved":  vm(func(v *VM) { v.Host, v.Moves = "h2", []Move{{Command: command, Outcome: done}} }),
		"unknown": vm(func(v *VM) {
			v.Moves = []Move{{Command: command, Outcome: &schemas.Outcome{Result: schemas.ResultUnknown, Reason: schemas.Reason{Code: schemas.ReasonUnreachable, Detail: "h2 does not answer"}}}}
		}),
		"duplicate":   vm(func(v *VM) { v.Running = []schemas.HostID{"h1", "h2"} }),
		"silent":      vm(func(v *VM) { v.Stale = true }),
		"nowhere":     vm(func(v *VM) { v.Host, v.Running = "", nil }),
		"fleet-moves": OfFleet(Fleet{Now: now, Hosts: 4, VMs: 20, Pressures: []schemas.PressureHost{{Host: "h2", Score: .1}, *hostPressure()}, Plan: planned(schemas.Reason{Code: schemas.ReasonNeedsApproval, Detail: "mode approve: it waits for a person"}), Mode: schemas.ModeApprove, Trigger: .25}),
		"fleet-still": OfFleet(Fleet{Now: now, Hosts: 4, VMs: 20, Silent: []schemas.HostID{"h4"}, Pressures: []schemas.PressureHost{*hostPressure()}, Mode: schemas.ModeAuto, Trigger: .25,
			Shortfalls: []schemas.Shortfall{{Site: "private", Resource: "cpu", Onset: now.Add(time.Hour), Amount: 3500}},
			Plan: &schemas.Plan{ID: "p-2", Declined: []schemas.Decline{{Reason: schemas.Reason{Code: schemas.ReasonNoBenefit, Detail: "1 host is pressed, and no move of 2 VMs there pays within the rules"}},
				{VM: web, Reason: schemas.Reason{Code: schemas.ReasonPinned, Detail: "the policy pins web"}}, {VM: db, Reason: schemas.Reason{Code: schemas.ReasonCoolDown, Detail: "it moved lately and stays for another 3 steps"}}}},
			Name: func(v schemas.VMID) string { return map[schemas.VMID]string{web: "web", db: "db"}[v] }}),
		"fleet-paused":  OfFleet(Fleet{Now: now, Hosts: 4, VMs: 20, Paused: true, Mode: schemas.ModeAuto, Trigger: .25}),
		"fleet-observe": OfFleet(Fleet{Now: now, Hosts: 4, VMs: 20, Mode: schemas.ModeObserve, Trigger: .25}),
	}
}

func TestStories(t *testing.T) {
	stories := cases()
	told := map[string]bool{}
	datadriven.RunTest(t, "testdata/stories.txt", func(t *testing.T, td *datadriven.TestData) string {
		s, ok := stories[td.Cmd]
		if !ok {
			return fmt.Sprintf("no story %q\n", td.Cmd)
		}
		told[td.Cmd] = true
		// A blank line would end the expectation of the script.
		return fmt.Sprintf("[%s]\n%s", s.Code, strings.ReplaceAll(s.String(), "\n\n", "\n~\n"))
	})
	for name := range stories {
		if !told[name] {
			t.Errorf("story %s is not in the script", name)
		}
	}
}

// Whatever is missing, there is a story, and it never says <nil> or %!.
func TestStoriesOfHoles(t *testing.T) {
	empty := []Story{Of(VM{}), OfFleet(Fleet{}), Of(VM{Plan: &schemas.Plan{}, Benefit: &schemas.Benefit{}, Contention: &schemas.PressureVM{Score: 1}, OwnLimit: &schemas.PressureVM{Score: 1}, Moves: []Move{{Outcome: &schemas.Outcome{}}}}),
		OfFleet(Fleet{Plan: &schemas.Plan{Actions: make([]schemas.Action, 3), Declined: make([]schemas.Decline, 3)}, Pressures: make([]schemas.PressureHost, 2), Shortfalls: make([]schemas.Shortfall, 1)})}
	for i, s := range empty {
		text := s.String()
		if s.Headline == "" || len(s.Parts) == 0 || strings.Contains(text, "%!") || strings.Contains(text, "<nil>") {
			t.Errorf("story %d: %s", i, text)
		}
	}
}

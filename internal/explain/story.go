package explain

import (
	"fmt"
	"strings"

	"github.com/foreshift/foreshift/schemas"
)

// Story is an explanation for a person.
type Story struct {
	Headline string `json:"headline"`
	// Code is the reason for which nothing moves, ok when something does or need not.
	Code  schemas.ReasonCode `json:"code"`
	Parts []Part             `json:"parts"`
	Do    []string           `json:"do"` // what a person can do, the most useful first
}

// Part is one question with its answer, and particulars one by one.
type Part struct {
	Question string   `json:"question"`
	Answer   string   `json:"answer"`
	Points   []string `json:"points"`
}

func (s *Story) part(question, answer string, points ...string) {
	if points == nil {
		points = []string{}
	}
	s.Parts = append(s.Parts, Part{question, answer, points})
}

// String is the story as plain text, a blank line between the parts.
func (s Story) String() string {
	var b strings.Builder
	b.WriteString(s.Headline + "\n")
	for _, p := range s.Parts {
		fmt.Fprintf(&b, "\n%s\n  %s\n", p.Question, p.Answer)
		for _, x := range p.Points {
			fmt.Fprintf(&b, "    - %s\n", x)
		}
	}
	if len(s.Do) > 0 {
		b.WriteString("\nWhat you can do\n")
		for _, x := range s.Do {
			fmt.Fprintf(&b, "  %s\n", x)
		}
	}
	return b.String()
}

// Move is a command with its outcome.
type Move struct {
	Command schemas.Command
	Outcome *schemas.Outcome // nil while under way
	Effect  *schemas.Effect  // nil until it is known
}

// Amount writes a quantity of a resource with its unit.
func Amount(resource string, v float64) string {
	switch resource {
	case schemas.CPU.String():
		return fmt.Sprintf("%.2f cores", v/1000)
	case schemas.Memory.String():
		return fmt.Sprintf("%.1f GiB", v/(1<<30))
	}
	return fmt.Sprintf("%.1f MB/s", v/1e6)
}

func percent(r schemas.Ratio) string { return fmt.Sprintf("%.0f %%", 100*float64(r)) }

// when is a moment as seen from now.
func when(t, now schemas.Time) string {
	d := t.Sub(now)
	clock := t.Std().Format("15:04:05")
	switch {
	case t == 0:
		return "at a time nobody knows"
	case d > 0:
		return fmt.Sprintf("%s, in %s", clock, schemas.Span(d))
	default:
		return fmt.Sprintf("%s, %s ago", clock, schemas.Span(-d))
	}
}

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// work writes core-seconds.
func work(v float64) string { return schemas.Figure(v) + " core-seconds" }

// advice is what a person can do about a reason; empty when nothing need be done.
func advice(code schemas.ReasonCode, vm string, host schemas.HostID, plan schemas.PlanID, action schemas.CommandID) string {
	switch code {
	case schemas.ReasonNeedsApproval, schemas.ReasonApprovalOld:
		return fmt.Sprintf("foreshift plan approve %s --action %s   lets it go; `plan skip` holds it back", plan, action)
	case schemas.ReasonPaused, schemas.ReasonBreaker:
		return "foreshift resume   allows moves again, once you know why they were stopped"
	case schemas.ReasonMode:
		return "foreshift mode approve   lets moves go with your approval; `auto` lets them go by themselves"
	case schemas.ReasonUnknownMove:
		return "foreshift resolve VM --runs-at HOST   once you have seen with virsh where the VM runs"
	case schemas.ReasonStale:
		return "foreshift map   shows what is not heard of: look at the agent there, and at the forecaster"
	case schemas.ReasonLag:
		return "start another forecaster: those that run cannot keep up, and take over no more than their share"
	case schemas.ReasonNoForecast:
		return "wait: a VM is forecast within minutes of its first samples; else look at its agent and at the forecaster"
	case schemas.ReasonCordoned, schemas.ReasonDraining:
		return fmt.Sprintf("foreshift host uncordon %s   lets VMs move there again", host)
	case schemas.ReasonNoRoom, schemas.ReasonNoBenefit, schemas.ReasonWorse:
		return "add capacity at the site, or make the VM smaller: no placement serves what is asked for"
	case schemas.ReasonResizeAdvised:
		return fmt.Sprintf("give %s more of its own: its host is not what holds it back", vm)
	case schemas.ReasonCannotConverge:
		return "a faster way to the other hosts, or a quieter hour: the VM dirties memory faster than it can be sent"
	case schemas.ReasonDuplicate, schemas.ReasonTwoRunning:
		return "look at both hosts with virsh NOW: one of the two copies must be stopped by you"
	case schemas.ReasonSanity:
		return "nothing, if the next decision agrees; else look at what the agents measure"
	case schemas.ReasonStorage:
		return "shared storage, or copy_disks in the policy with space at the destination"
	}
	return ""
}

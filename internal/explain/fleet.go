package explain

import (
	"fmt"
	"slices"
	"strings"

	"github.com/foreshift/foreshift/schemas"
)

// Fleet is what is known of all of it.
type Fleet struct {
	Now        schemas.Time
	Hosts, VMs int
	Silent     []schemas.HostID // not heard of lately
	Pressures  []schemas.PressureHost
	Shortfalls []schemas.Shortfall
	Plan       *schemas.Plan // the newest; nil when there is none
	Mode       schemas.Mode
	Paused     bool
	Trigger    schemas.Ratio
	Name       func(schemas.VMID) string // nil: ids are shown
}

// OfFleet tells why something moves, or why nothing does.
func OfFleet(f Fleet) Story {
	s := Story{Code: schemas.ReasonOK, Parts: []Part{}, Do: []string{}}
	moving := 0
	if f.Plan != nil {
		moving = len(f.Plan.Actions)
	}
	why := f.nothing()
	if moving > 0 {
		s.Headline = fmt.Sprintf("%s planned for %s on %s.", plural(moving, "move is", "moves are"), plural(f.VMs, "VM", "VMs"), plural(f.Hosts, "host", "hosts"))
	} else {
		s.Code = why.Code
		s.Headline = fmt.Sprintf("Nothing is planned to move: %s.", why.Detail)
	}
	f.pressed(&s)
	if moving > 0 {
		f.planned(&s)
	} else {
		s.part("Why does nothing move?", because(why), f.reasons()...)
		s.do(advice(why.Code, "the VM", "HOST", "", ""))
	}
	if len(f.Silent) > 0 {
		s.part("What is not known?", fmt.Sprintf("%s not been heard of lately; nothing is decided on their word.", plural(len(f.Silent), "host has", "hosts have")), hosts(f.Silent))
	}
	return s
}

func (f *Fleet) nothing() schemas.Reason {
	switch {
	case f.Paused:
		return schemas.Reason{Code: schemas.ReasonPaused, Detail: "moves are paused"}
	case f.Mode == schemas.ModeObserve:
		return schemas.Reason{Code: schemas.ReasonMode, Detail: "mode observe: forecasts and pressures are told, nothing is planned"}
	case f.Plan == nil:
		return schemas.Reason{Code: schemas.ReasonNoForecast, Detail: "the placer has published no plan in the last hour"}
	}
	for i := range f.Plan.Declined {
		if d := &f.Plan.Declined[i]; d.VM.IsZero() {
			return d.Reason
		}
	}
	return schemas.Reason{Code: schemas.ReasonNoPressure, Detail: "no host is under pressure"}
}

func (f *Fleet) pressed(s *Story) {
	var points []string
	hot := slices.Clone(f.Pressures)
	slices.SortFunc(hot, func(a, b schemas.PressureHost) int {
		if a.Score != b.Score {
			if a.Score > b.Score {
				return -1
			}
			return 1
		}
		return strings.Compare(string(a.Host), string(b.Host))
	})
	n := 0
	for i := range hot {
		p := &hot[i]
		if p.Score < f.Trigger || p.Score <= 0 {
			continue
		}
		if n++; n <= 10 {
			line := fmt.Sprintf("%s: short of %s with a chance of %s", p.Host, p.Resource, percent(p.Score))
			if p.Onset != 0 {
				line += ", from " + when(p.Onset, f.Now)
			}
			points = append(points, fmt.Sprintf("%s; %s of %s at the peak", line, Amount(p.Resource, p.Peak), Amount(p.Resource, p.Limit)))
		}
	}
	answer := fmt.Sprintf("No: no host's pressure within a day is above the trigger of %s.", percent(f.Trigger))
	switch {
	case f.Hosts == 0:
		answer = "Nobody knows: no host has reported yet."
	case len(f.Pressures) == 0:
		answer = "Nobody knows yet: no host has been judged. A VM is forecast within minutes of its first samples, and a host with its VMs."
	case n > 0:
		answer = fmt.Sprintf("%s above the trigger of %s within a day; moves are planned for what lies within the look-ahead.", plural(n, "host is", "hosts are"), percent(f.Trigger))
	}
	for _, x := range f.Shortfalls {
		points = append(points, fmt.Sprintf("at site %s, %s is short by up to %s from %s, and no move relieves it", x.Site, x.Resource, Amount(x.Resource, x.Amount), when(x.Onset, f.Now)))
	}
	s.part("Will anything run short?", answer, points...)
	if len(f.Shortfalls) > 0 {
		s.do(advice(schemas.ReasonNoRoom, "", "", "", ""))
	}
}

func (f *Fleet) planned(s *Story) {
	var points []string
	held := map[schemas.ReasonCode]bool{}
	for i := range f.Plan.Actions {
		a := &f.Plan.Actions[i]
		line := fmt.Sprintf("%s from %s to %s, %s", a.Name, a.Source, a.Destination, a.State)
		if !a.Hold.OK() {
			line += fmt.Sprintf(" (%s: %s)", a.Hold.Code, a.Hold.Detail)
			if !held[a.Hold.Code] {
				held[a.Hold.Code] = true
				s.do(advice(a.Hold.Code, a.Name, a.Destination, f.Plan.ID, a.ID))
			}
		}
		points = append(points, line+": "+a.Reason.Detail)
	}
	s.part("What moves?", fmt.Sprintf("Plan %s: expected unmet demand %s without it, %s with it.", f.Plan.ID, work(f.Plan.Before), work(f.Plan.After)), points...)
	if r := f.reasons(); len(r) > 0 {
		s.part("What stays?", plural(len(f.Plan.Declined), "VM that was looked at stays.", "VMs that were looked at stay."), r...)
	}
}

// maxReasons is how many examples of a reason are named.
const maxReasons = 3

// reasons are the declines by code, the most frequent first, with examples.
func (f *Fleet) reasons() (out []string) {
	if f.Plan == nil {
		return nil
	}
	type group struct {
		code  schemas.ReasonCode
		n     int
		names []string
	}
	var groups []*group
	by := map[schemas.ReasonCode]*group{}
	for i := range f.Plan.Declined {
		d := &f.Plan.Declined[i]
		if d.VM.IsZero() {
			continue
		}
		g := by[d.Reason.Code]
		if g == nil {
			g = &group{code: d.Reason.Code}
			by[d.Reason.Code], groups = g, append(groups, g)
		}
		if g.n++; len(g.names) < maxReasons {
			name := d.VM.String()
			if f.Name != nil {
				name = f.Name(d.VM)
			}
			g.names = append(g.names, fmt.Sprintf("%s: %s", name, d.Reason.Detail))
		}
	}
	slices.SortStableFunc(groups, func(a, b *group) int { return b.n - a.n })
	for _, g := range groups {
		more := ""
		if g.n > len(g.names) {
			more = fmt.Sprintf("; and %d more", g.n-len(g.names))
		}
		out = append(out, fmt.Sprintf("%s: %s%s", g.code, strings.Join(g.names, "; "), more))
	}
	return out
}

package console

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/foreshift/foreshift/internal/explain"
	"github.com/foreshift/foreshift/schemas"
)

// Errors of looking something up in a view.
var (
	ErrNoSuchVM    = errors.New("no VM with the name or UUID")
	ErrManySuchVMs = errors.New("give the UUID: several VMs are named")
	ErrNoSuchHost  = errors.New("no host")
)

// FindVM finds one VM by name or UUID; the errors are [ErrNoSuchVM] and
// [ErrManySuchVMs].
func (v *View) FindVM(name string) (*VM, error) {
	var found *VM
	n := 0
	for i := range v.VMs {
		m := &v.VMs[i]
		if m.Name == name || strings.EqualFold(m.ID.String(), name) {
			found = m
			n++
		}
	}
	switch n {
	case 0:
		return nil, fmt.Errorf("%w %q", ErrNoSuchVM, name)
	case 1:
		return found, nil
	}
	return nil, fmt.Errorf("%w %q", ErrManySuchVMs, name)
}

// FindHost finds one host by its id; the error is [ErrNoSuchHost].
func (v *View) FindHost(name string) (*Host, error) {
	for i := range v.Hosts {
		if string(v.Hosts[i].ID) == name {
			return &v.Hosts[i], nil
		}
	}
	return nil, fmt.Errorf("%w %q", ErrNoSuchHost, name)
}

// MovesOf are the moves of a VM, newest first.
func (v *View) MovesOf(id schemas.VMID) (out []Move) {
	for i := range v.Moves {
		if v.Moves[i].Command.VM == id {
			out = append(out, v.Moves[i])
		}
	}
	return out
}

// NameOf is the name of a VM, its UUID when it is on no host that was seen.
func (v *View) NameOf(id schemas.VMID) string {
	if m := v.Inventory[id]; m != nil {
		return m.Name
	}
	return id.String()
}

// Newest is the newest plan, nil without one.
func (v *View) Newest() *schemas.Plan {
	if len(v.Plans) == 0 {
		return nil
	}
	return &v.Plans[0]
}

// Explain tells why a VM moves or stays. The terminal, the page and the API all
// tell it from here.
func (v *View) Explain(m *VM) explain.Story {
	f := explain.VM{Now: v.Time, ID: m.ID, Name: m.Name, Host: m.Host, Running: m.Hosts, OwnLimit: m.OwnLimit, Contention: m.Contention, Benefit: m.Benefit,
		Plan: v.Newest(), Mode: v.Policy.Mode, Paused: v.Paused}
	if h, err := v.FindHost(string(m.Host)); err == nil {
		f.Stale, f.HostPressure = h.Stale, h.Pressure
	}
	for _, x := range v.MovesOf(m.ID) {
		f.Moves = append(f.Moves, explain.Move{Command: x.Command, Outcome: x.Outcome, Effect: x.Effect})
	}
	return explain.Of(f)
}

// ExplainFleet tells why something moves, or why nothing does.
func (v *View) ExplainFleet() explain.Story {
	f := explain.Fleet{Now: v.Time, Hosts: len(v.Hosts), VMs: len(v.VMs), Shortfalls: v.Shortfalls, Plan: v.Newest(), Mode: v.Policy.Mode, Paused: v.Paused, Trigger: v.Policy.Trigger}
	for i := range v.Hosts {
		h := &v.Hosts[i]
		if h.Stale {
			f.Silent = append(f.Silent, h.ID)
		}
		if h.Pressure != nil {
			f.Pressures = append(f.Pressures, *h.Pressure)
		}
	}
	slices.Sort(f.Silent)
	f.Name = v.NameOf
	return explain.OfFleet(f)
}

package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/foreshift/foreshift/console"
	"github.com/foreshift/foreshift/internal/explain"
	"github.com/foreshift/foreshift/placer/fleet"
	"github.com/foreshift/foreshift/placer/policy"
	"github.com/foreshift/foreshift/schemas"
	"github.com/foreshift/foreshift/streams"
)

// picture is the fleet as the placement commands show it: the page's view, the
// inventories, and the policy in force with what operators said over it.
type picture struct {
	*console.View
	base   time.Duration
	policy policy.Policy // in force
	set    policy.Policy // as it was set last, without what single acts say over it
	next   uint64        // version of the next one
	rules  *policy.HostRules
	drain  map[schemas.HostID]schemas.Time // since when hosts are drained
	report map[schemas.HostID]*schemas.CapacityHost
	vm     map[schemas.VMID]*schemas.InventoryVM // where it was reported last
}

// baseStep is that of the running "up", else the default.
func (p *place) baseStep() time.Duration {
	if s, err := streams.LoadState(p.state); err == nil {
		return s.BaseStep()
	}
	return schemas.DefaultBase
}

// picture reads the fleet once.
func (p *place) picture(ctx context.Context) (*picture, error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	bus, err := p.connect(ctx, streams.RoleOperator)
	if err != nil {
		return nil, err
	}
	defer bus.Close()
	now := time.Now()
	v, err := console.Load(ctx, bus, now)
	if err != nil {
		return nil, err
	}
	capacity, err := bus.Last(ctx, streams.Capacity)
	if err != nil {
		return nil, err
	}
	words, err := bus.History(ctx, streams.Input{Stream: streams.Acts, Filters: lastingActs()})
	if err != nil {
		return nil, err
	}
	policies, err := bus.History(ctx, streams.Input{Stream: "KV_" + streams.BucketPolicy})
	if err != nil {
		return nil, err
	}
	return newPicture(v, p.baseStep(), capacity, append(words, policies...)), nil
}

// lastingActs are the subjects of acts whose word holds until another is said.
func lastingActs() (out []string) {
	for _, k := range []schemas.ActKind{schemas.ActPause, schemas.ActResume, schemas.ActMode, schemas.ActCordon, schemas.ActUncordon, schemas.ActDrain, schemas.ActPolicy, schemas.ActRollback} {
		out = append(out, streams.SubjectAct(k))
	}
	return out
}

func newPicture(v *console.View, base time.Duration, capacity, words []streams.Event) *picture {
	out := &picture{View: v, base: base, drain: map[schemas.HostID]schemas.Time{}, report: map[schemas.HostID]*schemas.CapacityHost{}, vm: map[schemas.VMID]*schemas.InventoryVM{}}
	// The placer's own fold says what holds of all that operators said.
	f := fleet.New(fleet.Config{Base: base})
	for _, e := range words {
		// What the placer refuses, it has put among the dead letters.
		_ = f.Apply(fleet.Input{Seq: e.Seq, Time: schemas.Time(e.Time), Lease: e.Lease, Msg: e.Msg})
		if a, ok := e.Msg.(*schemas.Act); ok {
			switch {
			case a.Act == schemas.ActUncordon:
				delete(out.drain, a.Host)
			case a.Act == schemas.ActDrain && out.drain[a.Host] == 0:
				out.drain[a.Host] = schemas.Time(e.Time)
			}
		}
	}
	out.policy, out.next = f.Policy(policy.Default()), f.NextVersion()
	out.set, _ = f.Document(policy.Default())
	v.Policy, v.Paused = out.policy, out.policy.Paused
	out.rules = policy.NewHostRules(out.policy, v.Time, base)
	seen := map[schemas.VMID]schemas.Time{}
	for _, e := range capacity {
		m, ok := e.Msg.(*schemas.CapacityHost)
		if !ok {
			continue
		}
		out.report[m.Host] = m
		for i := range m.VMs {
			if x := &m.VMs[i]; m.Time >= seen[x.VM] {
				out.vm[x.VM], seen[x.VM] = x, m.Time
			}
		}
	}
	return out
}

// hostState is what an operator should know of a host at a glance.
func (p *picture) hostState(h *console.Host) string {
	leave, takes := p.rules.Leave(h.ID), p.rules.Takes(h.ID)
	frozen := p.rules.Frozen(h.ID)
	state := "ready"
	switch {
	case !leave.OK():
		state = string(leave.Code)
	case !takes.OK():
		state = string(takes.Code)
	case !frozen.OK():
		state = string(frozen.Code)
	}
	if h.Stale {
		state += ", SILENT"
	}
	return state
}

// find is the host of that name.
func (p *picture) find(name string) (*console.Host, error) {
	for i := range p.Hosts {
		if string(p.Hosts[i].ID) == name {
			return &p.Hosts[i], nil
		}
	}
	return nil, fmt.Errorf("no host %q; `foreshift host list` names them", name)
}

// movesOf are the moves of a VM, newest first.
func (p *picture) movesOf(v schemas.VMID) (out []console.Move) {
	for _, m := range p.Moves {
		if m.Command.VM == v {
			out = append(out, m)
		}
	}
	return out
}

// newest is the newest plan, nil without one.
func (p *picture) newest() *schemas.Plan {
	if len(p.Plans) == 0 {
		return nil
	}
	return &p.Plans[0]
}

// facts are what is to be explained of a VM.
func (p *picture) facts(m *console.VM) explain.VM {
	f := explain.VM{Now: p.Time, ID: m.ID, Name: m.Name, Host: m.Host, Running: m.Hosts, OwnLimit: m.OwnLimit, Contention: m.Contention, Benefit: m.Benefit,
		Plan: p.newest(), Mode: p.policy.Mode, Paused: p.Paused}
	if h, err := p.find(string(m.Host)); err == nil {
		f.Stale, f.HostPressure = h.Stale, h.Pressure
	}
	for _, x := range p.movesOf(m.ID) {
		f.Moves = append(f.Moves, explain.Move{Command: x.Command, Outcome: x.Outcome})
	}
	return f
}

// fleetFacts are what is to be explained of all of it.
func (p *picture) fleetFacts() explain.Fleet {
	f := explain.Fleet{Now: p.Time, Hosts: len(p.Hosts), VMs: len(p.VMs), Shortfalls: p.Shortfalls, Plan: p.newest(), Mode: p.policy.Mode, Paused: p.Paused, Trigger: p.policy.Trigger}
	for i := range p.Hosts {
		h := &p.Hosts[i]
		if h.Stale {
			f.Silent = append(f.Silent, h.ID)
		}
		if h.Pressure != nil {
			f.Pressures = append(f.Pressures, *h.Pressure)
		}
	}
	names := map[schemas.VMID]string{}
	for i := range p.VMs {
		names[p.VMs[i].ID] = p.VMs[i].Name
	}
	f.Name = func(v schemas.VMID) string {
		if n, ok := names[v]; ok {
			return n
		}
		return v.String()
	}
	return f
}

// draining is how far the emptying of a host has come.
type draining struct {
	Host  schemas.HostID `json:"host"`
	Why   schemas.Reason `json:"why"`
	Since schemas.Time   `json:"since"` // empty when a maintenance window asks for it
	Moved int            `json:"moved"` // VMs that have left since
	Left  []leaving      `json:"left"`
}

// leaving is one VM that is still there.
type leaving struct {
	VM     schemas.VMID   `json:"vm"`
	Name   string         `json:"name"`
	State  string         `json:"state"` // moving, planned, or stays
	To     schemas.HostID `json:"to"`
	Reason schemas.Reason `json:"reason"`
}

// progress tells how far the emptying of a host has come, ok when it is not asked for.
func (p *picture) progress(h schemas.HostID) (draining, bool) {
	why := p.rules.Leave(h)
	if why.OK() {
		return draining{}, false
	}
	d := draining{Host: h, Why: why, Since: p.drain[h], Left: []leaving{}}
	for i := range p.Moves {
		m := &p.Moves[i]
		if m.Command.Source == h && m.Command.Issued >= d.Since && m.Outcome != nil && m.Outcome.Result == schemas.ResultSucceeded {
			d.Moved++
		}
	}
	for i := range p.VMs {
		m := &p.VMs[i]
		if !slices.Contains(m.Hosts, h) {
			continue
		}
		d.Left = append(d.Left, p.leaving(m))
	}
	return d, true
}

func (p *picture) leaving(m *console.VM) leaving {
	l := leaving{VM: m.ID, Name: m.Name, State: "stays", Reason: schemas.Reason{Code: schemas.ReasonOK, Detail: "the placer has not spoken of it yet"}}
	if b := m.Benefit; b != nil && !b.Reason.OK() {
		l.Reason = b.Reason
	}
	if pl := p.newest(); pl != nil {
		for i := range pl.Declined {
			if pl.Declined[i].VM == m.ID {
				l.Reason = pl.Declined[i].Reason
			}
		}
		for i := range pl.Actions {
			if a := &pl.Actions[i]; a.VM == m.ID {
				l.State, l.To, l.Reason = "planned", a.Destination, a.Hold
			}
		}
	}
	if moves := p.movesOf(m.ID); len(moves) > 0 && moves[0].Outcome == nil {
		l.State, l.To, l.Reason = "moving", moves[0].Command.Destination, schemas.Reason{Code: schemas.ReasonOK}
	}
	return l
}

package console

import (
	"context"
	"slices"

	"github.com/foreshift/foreshift/placer/fleet"
	"github.com/foreshift/foreshift/placer/policy"
	"github.com/foreshift/foreshift/schemas"
	"github.com/foreshift/foreshift/streams"
)

// Words are what operators have said, as the placer understands it: the policy in
// force and what holds of each host.
type Words struct {
	Set   policy.Policy // as it was set last, without what single acts say over it
	Next  uint64        // version of the next policy
	Rules *policy.HostRules
	Since map[schemas.HostID]schemas.Time // since when hosts are drained
}

// lastingActs are the subjects of acts whose word holds until another is said.
func lastingActs() (out []string) {
	for _, k := range []schemas.ActKind{schemas.ActPause, schemas.ActResume, schemas.ActMode, schemas.ActCordon, schemas.ActUncordon, schemas.ActDrain, schemas.ActPolicy, schemas.ActRollback} {
		out = append(out, streams.SubjectAct(k))
	}
	return out
}

// readWords reads acts and the policy's revisions.
func readWords(ctx context.Context, bus *streams.Bus) ([]streams.Event, error) {
	acts, err := bus.History(ctx, streams.Input{Stream: streams.Acts, Filters: lastingActs()})
	if err != nil {
		return nil, err
	}
	policies, err := bus.History(ctx, streams.Input{Stream: "KV_" + streams.BucketPolicy})
	return append(acts, policies...), err
}

// words lets the placer's own fold say what holds of all that operators said.
func (v *View) words(events []streams.Event) {
	f := fleet.New(fleet.Config{Base: v.Base})
	since := map[schemas.HostID]schemas.Time{}
	for _, e := range events {
		switch m := e.Msg.(type) {
		case *schemas.Policy:
		case *schemas.Act:
			switch {
			case m.Act == schemas.ActUncordon:
				delete(since, m.Host)
			case m.Act == schemas.ActDrain && since[m.Host] == 0:
				since[m.Host] = schemas.Time(e.Time)
			}
		default:
			continue
		}
		// What the placer refuses, it has put among the dead letters.
		_ = f.Apply(fleet.Input{Seq: e.Seq, Time: schemas.Time(e.Time), Lease: e.Lease, Msg: e.Msg})
	}
	v.Policy = f.Policy(policy.Default())
	v.Paused = v.Policy.Paused
	v.Words = Words{Next: f.NextVersion(), Rules: policy.NewHostRules(v.Policy, v.Time, v.Base), Since: since}
	v.Words.Set, _ = f.Document(policy.Default())
}

// HostState is what an operator should know of a host at a glance: ready, or the
// code of the reason why it is not, and whether it is silent.
func (v *View) HostState(h *Host) string {
	leave, takes, frozen := v.Words.Rules.Leave(h.ID), v.Words.Rules.Takes(h.ID), v.Words.Rules.Frozen(h.ID)
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

// Draining is how far the emptying of a host has come.
type Draining struct {
	Host  schemas.HostID `json:"host"`
	Why   schemas.Reason `json:"why"`
	Since schemas.Time   `json:"since"` // empty when a maintenance window asks for it
	Moved int            `json:"moved"` // VMs that have left since
	Left  []Leaving      `json:"left"`
}

// Leaving is one VM that is still there.
type Leaving struct {
	VM     schemas.VMID   `json:"vm"`
	Name   string         `json:"name"`
	State  string         `json:"state"` // moving, planned, or stays
	To     schemas.HostID `json:"to"`
	Reason schemas.Reason `json:"reason"`
}

// Drain tells how far the emptying of a host has come, ok when it is asked for.
func (v *View) Drain(h schemas.HostID) (d Draining, ok bool) {
	why := v.Words.Rules.Leave(h)
	if why.OK() {
		return Draining{}, false
	}
	d = Draining{Host: h, Why: why, Since: v.Words.Since[h], Left: []Leaving{}}
	for i := range v.Moves {
		m := &v.Moves[i]
		if m.Command.Source == h && m.Command.Issued >= d.Since && m.Outcome != nil && m.Outcome.Result == schemas.ResultSucceeded {
			d.Moved++
		}
	}
	for i := range v.VMs {
		if m := &v.VMs[i]; slices.Contains(m.Hosts, h) {
			d.Left = append(d.Left, v.leaving(m))
		}
	}
	return d, true
}

func (v *View) leaving(m *VM) Leaving {
	l := Leaving{VM: m.ID, Name: m.Name, State: "stays", Reason: schemas.Reason{Code: schemas.ReasonOK, Detail: "the placer has not spoken of it yet"}}
	if b := m.Benefit; b != nil && !b.Reason.OK() {
		l.Reason = b.Reason
	}
	if p := v.Newest(); p != nil {
		for i := range p.Declined {
			if p.Declined[i].VM == m.ID {
				l.Reason = p.Declined[i].Reason
			}
		}
		for i := range p.Actions {
			if a := &p.Actions[i]; a.VM == m.ID {
				l.State, l.To, l.Reason = "planned", a.Destination, a.Hold
			}
		}
	}
	if moves := v.MovesOf(m.ID); len(moves) > 0 && moves[0].Outcome == nil {
		l.State, l.To, l.Reason = "moving", moves[0].Command.Destination, schemas.Reason{Code: schemas.ReasonOK}
	}
	return l
}

package placer

import (
	"fmt"
	"slices"
	"time"

	"github.com/foreshift/foreshift/schemas"
	"github.com/foreshift/foreshift/streams"
)

// Derived is a recorded decision made again.
type Derived struct {
	Plan    schemas.Plan
	Refused int // events that could not be folded, as they could not be then
}

// Derive makes a recorded plan again from the events that it had seen: those of
// events that lie within its cut are folded, what earlier decisions had left behind
// is taken from its basis, and the same code decides. The same events, the same
// version of the program and the same architecture give the same plan, down to its
// id. It sends nothing anywhere.
//
// The order of events of one stream matters, that of the streams among each other
// does not.
func Derive(rec *schemas.Plan, events []streams.Event) (Derived, error) {
	return derive(rec, events, false)
}

// Without makes the plan that the same decision would have come to without a
// forecast: every VM goes on as it is now, and no pressure waits for its hold. Its
// figures before and after are those of that picture.
func Without(rec *schemas.Plan, events []streams.Event) (Derived, error) {
	return derive(rec, events, true)
}

func derive(rec *schemas.Plan, events []streams.Event, persistence bool) (Derived, error) {
	b := &rec.Basis
	if b.Base <= 0 {
		return Derived{}, fmt.Errorf("plan %s: it was made by a version that did not record what it stood on", rec.ID)
	}
	cfg := Config{Base: time.Duration(float64(b.Base)*float64(time.Second) + .5), SiteBandwidth: b.SiteBandwidth, Evaluations: b.Evaluations, Seed: rec.Seed, persistence: persistence}
	if b.Policy != nil {
		cfg.Policy = *b.Policy
	}
	d, err := NewDecider(cfg)
	if err != nil {
		return Derived{}, fmt.Errorf("plan %s: %w", rec.ID, err)
	}
	var out Derived
	for i := range events {
		if e := &events[i]; e.Seq <= rec.Cut.Seq[e.Stream] {
			if d.Apply(*e) != nil {
				out.Refused++
			}
		}
	}
	d.fleet.Recall(b)
	d.st.Before, d.st.After = rec.Before, rec.After
	p := d.fleet.Policy(d.cfg.Policy)
	if persistence {
		p.HoldSteps = 0
	}
	if b.Kept && !persistence {
		out.Plan = d.kept(rec.Cut, p)
	} else {
		_, dec := d.propose(rec.Cut, p)
		out.Plan = dec.Plan
	}
	// The basis is given, not derived: what it lists for readers may differ.
	out.Plan.Basis = rec.Basis
	d.ready(rec.Cut, p, &out.Plan)
	return out, nil
}

// maxDifferences bounds what is told of two plans.
const maxDifferences = 50

// Differences tells what of a recorded plan its derivation does not repeat, in
// words; none when they are the same to the last bit.
func Differences(was, is *schemas.Plan) []string {
	if was.ID == is.ID && schemas.HashJSON(was) == schemas.HashJSON(is) {
		return nil
	}
	var out []string
	say := func(format string, a ...any) {
		if len(out) < maxDifferences {
			out = append(out, fmt.Sprintf(format, a...))
		}
	}
	plain := func(what string, a, b any) {
		if schemas.HashJSON(a) != schemas.HashJSON(b) {
			say("%s: recorded %v, derived %v", what, a, b)
		}
	}
	plain("mode", was.Mode, is.Mode)
	plain("policy version", was.PolicyVersion, is.PolicyVersion)
	plain("evaluations used", was.Used, is.Used)
	plain("unmet before", was.Before, is.Before)
	plain("unmet after", was.After, is.After)
	actions := func(p *schemas.Plan) (ids []schemas.CommandID, by map[schemas.CommandID]*schemas.Action) {
		by = map[schemas.CommandID]*schemas.Action{}
		for i := range p.Actions {
			ids, by[p.Actions[i].ID] = append(ids, p.Actions[i].ID), &p.Actions[i]
		}
		return ids, by
	}
	oldIDs, old := actions(was)
	newIDs, fresh := actions(is)
	for _, id := range oldIDs {
		a, b := old[id], fresh[id]
		if b == nil {
			say("action %s, %s from %s to %s: not derived", id, a.Name, a.Source, a.Destination)
			continue
		}
		plain("action "+string(id)+" state", a.State, b.State)
		plain("action "+string(id)+" hold", a.Hold, b.Hold)
		plain("action "+string(id)+" due", a.Due, b.Due)
		plain("action "+string(id)+" latest", a.Latest, b.Latest)
		plain("action "+string(id)+" predicted", a.Predicted, b.Predicted)
		plain("action "+string(id)+" reason", a.Reason, b.Reason)
		if schemas.HashJSON(a.WhyNot) != schemas.HashJSON(b.WhyNot) {
			say("action %s: the other hosts were ranked differently", id)
		}
	}
	for _, id := range newIDs {
		if b := fresh[id]; old[id] == nil {
			say("action %s, %s from %s to %s: derived, not recorded", id, b.Name, b.Source, b.Destination)
		}
	}
	if len(out) == 0 && !slices.Equal(oldIDs, newIDs) {
		say("the actions stand in another order")
	}
	declines(was, is, say)
	if len(out) == 0 {
		say("the plans differ in their id, %s and %s, and in nothing else", was.ID, is.ID)
	}
	return out
}

func declines(was, is *schemas.Plan, say func(string, ...any)) {
	type key struct {
		vm   schemas.VMID
		host schemas.HostID
	}
	fresh := map[key]*schemas.Decline{}
	for i := range is.Declined {
		fresh[key{is.Declined[i].VM, is.Declined[i].Host}] = &is.Declined[i]
	}
	for i := range was.Declined {
		a := &was.Declined[i]
		k := key{a.VM, a.Host}
		b := fresh[k]
		delete(fresh, k)
		switch {
		case b == nil:
			say("declined %s: recorded %s, not derived", a.VM, a.Reason)
		case schemas.HashJSON(a) != schemas.HashJSON(b):
			say("declined %s: recorded %s, derived %s", a.VM, a.Reason, b.Reason)
		}
	}
	for i := range is.Declined {
		b := &is.Declined[i]
		if fresh[key{b.VM, b.Host}] == b {
			say("declined %s: derived %s, not recorded", b.VM, b.Reason)
		}
	}
}

// ReadWhat are the inputs from which the streams of a recorded plan are read again,
// given the time now: like [Inputs], but from where its basis says.
func ReadWhat(rec *schemas.Plan, now schemas.Time) []streams.Input {
	base := time.Duration(float64(rec.Basis.Base)*float64(time.Second) + .5)
	ago := max(now.Sub(schemas.Time(rec.Cut.Now)), 0)
	in := Inputs(base)
	for i := range in {
		s := in[i].Stream
		seq, named := rec.Basis.From[s]
		switch {
		case named && seq > 0:
			in[i].From, in[i].Seq = streams.FromSeq, seq
		case named: // nothing in the picture, or an hour of it
			in[i].From, in[i].Since = streams.FromSince, ago+time.Hour+time.Minute
		case in[i].From == streams.FromSince:
			in[i].Since += ago + time.Minute
		}
	}
	return in
}

package cluster

import (
	"slices"
	"time"

	"github.com/foreshift/foreshift/placer/policy"
	"github.com/foreshift/foreshift/schemas"
	"github.com/foreshift/foreshift/streams"
)

// The invariants of a placer's commands: I8 to I11. They are counted anew here, plainly,
// from what the placer had seen by the cut of its plan: what it could not know, it is
// not blamed for.

// attempt is one command that a placer had seen, and how it ended by then.
type attempt struct {
	f      *fact
	ended  int64 // stream time; 0: under way
	result schemas.Result
	reason schemas.ReasonCode
}

func (a *attempt) failed() bool {
	p := policy.Attempt{Result: a.result, Reason: a.reason}
	return p.Failure()
}

// history is what is on the record of moves up to a sequence, in order.
func (w *world) history(upTo uint64) []attempt {
	var out []attempt
	by := map[schemas.CommandID]int{}
	for _, m := range w.nats.streams[streams.Migrations].msgs {
		if m.seq > upTo {
			break
		}
		switch c := m.msg.(type) {
		case *schemas.Command:
			if f := w.facts[m]; f != nil && m.signer == keyPlacer && c.Run == "" {
				if _, ok := by[c.ID]; !ok {
					by[c.ID] = len(out)
					out = append(out, attempt{f: f})
				}
			}
		case *schemas.Outcome:
			i, ok := by[c.Command]
			if !ok || m.signer != keyOfHost(c.Host) || c.Host != out[i].f.c.Source {
				continue // only its source says how a move ends
			}
			a := &out[i]
			final := a.result != "" && a.result != schemas.ResultUnknown
			if final && (c.Result == schemas.ResultUnknown || c.Result == schemas.ResultRefused) {
				continue
			}
			a.result, a.reason = c.Result, c.Reason.Code
			if c.Result != schemas.ResultUnknown {
				a.ended = m.at
			}
		}
	}
	return out
}

// committed looks at a command of a placer that is on the record now.
func (w *world) committed(f *fact) {
	c, g := f.c, f.g
	is := func(inv string, broken bool, what string) {
		if broken && w.bad == nil {
			w.violate(inv, g, "command %s to %s of plan %s %s", c.ID, c.Destination, c.Plan, what)
		}
	}
	plan := w.planOf(c)
	if w.lostTails > 0 && plan == nil {
		return // it was there
	}
	is("I8", plan == nil, "has no plan on the record")
	if plan == nil {
		return
	}
	has := slices.ContainsFunc(plan.Actions, func(a schemas.Action) bool {
		return a.ID == c.ID && a.VM == c.VM && a.Source == c.Source && a.Destination == c.Destination && a.State == schemas.ActionCommanded
	})
	is("I8", !has || plan.Hash != c.PlanHash, "is not what its plan says")
	if w.lostTails > 0 {
		return // sequences have been used twice: what the placer had seen cannot be told
	}
	w.budgets(f, plan, is)
	w.rulesHold(f, plan, is)
}

func (w *world) planOf(c *schemas.Command) *schemas.Plan {
	m := w.nats.streams[streams.Plans].lastOf[streams.SubjectPlan(c.Plan)]
	if m == nil {
		return nil
	}
	p, _ := m.msg.(*schemas.Plan)
	return p
}

// budgets holds I9 and I11, counted from the record.
func (w *world) budgets(f *fact, plan *schemas.Plan, is func(string, bool, string)) {
	c, p := f.c, &w.truth
	now := int64(c.Issued)
	past := w.history(c.AfterSeq)
	// Commands of the same plan that went out before this one count as well.
	for _, o := range w.order[max(0, len(w.order)-32):] {
		if o != f && o.msg.seq > c.AfterSeq && o.genuine && o.c.Plan == c.Plan {
			past = append(past, attempt{f: o})
		}
	}
	hour, day, cluster, out, in, link := 0, 0, 0, 0, 0, 0
	var last int64
	moved := 0
	unknown := false
	var ended []*attempt
	cleared := w.resumedBy(plan.Cut.Seq[streams.Acts])
	crosses := w.byHost[c.Source].site != w.byHost[c.Destination].site
	for i := range past {
		a := &past[i]
		at := a.f.msg.at
		if at > now-int64(12*base) {
			hour++
		}
		if a.ended == 0 && !w.settled(a.f, plan) {
			cluster++
			out += btoi(a.f.c.Source == c.Source)
			in += btoi(a.f.c.Destination == c.Destination)
			link += btoi(crosses && w.byHost[a.f.c.Source].site != w.byHost[a.f.c.Destination].site)
			unknown = unknown || a.result == schemas.ResultUnknown
		}
		if a.ended > cleared && (a.result != schemas.ResultRefused || a.failed()) && at > now-int64(schemas.StepsPerDay*base) {
			ended = append(ended, a)
		}
	}
	// Of the VM itself it knows all: nothing goes on a record that has changed since.
	for _, a := range w.history(f.msg.seq - 1) {
		if a.f.c.VM == c.VM && a.f.msg.at > now-int64(schemas.StepsPerDay*base) {
			day++
			if a.result != schemas.ResultRefused {
				moved++
				last = max(last, a.f.msg.at, a.ended)
			}
		}
	}
	is("I9", hour >= p.MaxPerHour, "is beyond the attempts of an hour")
	is("I9", day >= p.MaxPerVMDay, "is beyond the attempts of its VM in a day")
	is("I9", cluster >= p.MaxPerCluster, "is beyond the moves of the cluster at a time")
	is("I9", out >= p.MaxPerHost, "is beyond the moves out of its source at a time")
	is("I9", in >= p.MaxPerHost, "is beyond the moves into its destination at a time")
	is("I9", link >= p.MaxPerLink, "is beyond the moves over its link at a time")
	is("I9", unknown, "goes out although the end of another is not known")
	slices.SortStableFunc(ended, func(x, y *attempt) int { return int(min(max(x.ended-y.ended, -1), 1)) })
	row := 0
	for i := len(ended) - 1; i >= 0 && ended[i].failed(); i-- {
		row++
	}
	is("I9", row >= p.BreakerRow, "goes out although the last moves have failed")
	is("I11", last != 0 && now < last+int64(policy.CoolDown(*p, moved, base)), "comes within the cool-down after its last")
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// resumedBy is when an operator last let moves go on, as of a sequence of ACTS.
func (w *world) resumedBy(seq uint64) (at int64) {
	for _, m := range w.nats.acts {
		if a, ok := m.msg.(*schemas.Act); ok && m.seq <= seq && m.signer == keyOperator && a.Act == schemas.ActResume {
			at = m.at
		}
	}
	return at
}

// settled reports whether an operator had resolved a move, as the plan knew.
func (w *world) settled(f *fact, plan *schemas.Plan) bool {
	for _, m := range w.nats.acts {
		if a, ok := m.msg.(*schemas.Act); ok && m.seq <= plan.Cut.Seq[streams.Acts] && m.signer == keyOperator && a.Act == schemas.ActResolve && a.Command == f.c.ID {
			return true
		}
	}
	return false
}

// rulesHold holds I6 and I10 for a command.
func (w *world) rulesHold(f *fact, plan *schemas.Plan, is func(string, bool, string)) {
	c, p := f.c, &w.truth
	acts := plan.Cut.Seq[streams.Acts]
	paused, cordoned := false, slices.Contains(p.Cordoned, c.Destination)
	for _, m := range w.nats.acts {
		a, ok := m.msg.(*schemas.Act)
		if !ok || m.seq > acts || m.signer != keyOperator {
			continue
		}
		switch a.Act {
		case schemas.ActPause:
			paused = true
		case schemas.ActResume:
			paused = false
		case schemas.ActCordon, schemas.ActDrain:
			cordoned = cordoned || a.Host == c.Destination
		case schemas.ActUncordon:
			cordoned = slices.Contains(p.Cordoned, c.Destination) || cordoned && a.Host != c.Destination
		}
	}
	is("I6", paused, "is given although moves are paused")
	is("I6", cordoned, "goes to a host that takes no VM")
	is("I10", slices.Contains(p.Pinned, c.VM), "moves a VM that is pinned")
	dst := w.byHost[c.Destination]
	there, off := w.seenOn(dst, plan)
	mem := f.g.plan.gib
	for _, g := range there {
		if g == f.g || off[g] {
			continue
		}
		mem += g.plan.gib
		for _, group := range p.Apart {
			is("I10", slices.Contains(group, c.VM) && slices.Contains(group, g.id), "puts two VMs on one host that must be apart")
		}
	}
	is("I10", mem > dst.gib, "goes to a host without the memory")
}

// seenOn are the guests that a plan knew on a host: by its last report, unless another
// host has said since that it runs there; or by moves. Those that are off there, by that
// report, are told: they hold no memory, and no rule counts them (docs/POLICY.md).
func (w *world) seenOn(h *host, plan *schemas.Plan) (out []*guest, off map[*guest]bool) {
	off = map[*guest]bool{}
	own, said := w.lastReport(h, plan)
	if own != nil {
		for i := range own.VMs {
			v := &own.VMs[i]
			g := w.byVM[v.VM]
			out = append(out, g)
			off[g] = v.State != schemas.VMRunning && v.State != schemas.VMPaused
		}
	}
	for _, o := range w.hosts {
		r, at := w.lastReport(o, plan)
		if o == h || r == nil || at < said {
			continue
		}
		for i := range r.VMs {
			if v := &r.VMs[i]; v.State == schemas.VMRunning {
				out = slices.DeleteFunc(out, func(g *guest) bool { return g.id == v.VM })
			}
		}
	}
	for _, o := range w.order[max(0, len(w.order)-64):] {
		if o.genuine && o.c.Destination == h.id && o.outcome == "" && o.msg.seq <= plan.Cut.Seq[streams.Migrations] && w.now-o.published < int64(10*time.Minute) {
			if !slices.Contains(out, o.g) {
				out = append(out, o.g)
			}
			off[o.g] = false
		}
	}
	return out, off
}

// lastReport is a host's newest that a plan had seen, and when it was stored.
func (w *world) lastReport(h *host, plan *schemas.Plan) (*schemas.CapacityHost, int64) {
	for m := w.nats.streams[streams.Capacity].lastOf[streams.SubjectCapacityHost(h.id)]; m != nil; m = m.prev {
		if m.seq <= plan.Cut.Seq[streams.Capacity] {
			r, _ := m.msg.(*schemas.CapacityHost)
			return r, m.at
		}
	}
	return nil, 0
}

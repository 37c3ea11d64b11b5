// Package placer is the service that decides what moves: the fleet's fold, the
// plan, and the word that goes out when a move is due.
//
// What comes in: forecasts, own-limit pressures, capacity with inventories, the
// record of moves, plans, acts of operators and the policy. What goes out:
// pressure.host, pressure.vm (host contention), benefit and shortfall events on
// change; a plan with everything it declined; a signed command per move when it is
// due; and the heartbeat without which no actuator starts anything.
//
// What is promised:
//
//   - [Decider] is pure: the same events, ticks and snapshot give the same outputs.
//     All I/O is in service.go.
//   - A command is published only when due, under a mode or an approval that allows
//     it, after the whole decision was checked again on what is known now, and with
//     the expectation that nobody else has written to the VM's record.
//   - A command's places are reserved from the moment it is decided.
//   - In mode observe nothing is planned; pressures are told in every mode.
//   - Silence is a fault: a plan is published at least every 12 steps, with the
//     reason for which nothing moves.
package placer

import (
	"fmt"
	"time"

	"github.com/foreshift/foreshift/placer/fleet"
	"github.com/foreshift/foreshift/placer/plan"
	"github.com/foreshift/foreshift/placer/policy"
	"github.com/foreshift/foreshift/placer/search"
	"github.com/foreshift/foreshift/schemas"
	"github.com/foreshift/foreshift/streams"
)

// Config are the placer's settings; zero values take the defaults.
type Config struct {
	Name   string        // who beats the heart, for people; default "placer"
	Base   time.Duration // length of the base step; default 5 min
	Policy policy.Policy // until the bus says otherwise; default [policy.Default]
	// SiteBandwidth is what one move gets within a site, bytes/s; default 10 Gbit/s.
	SiteBandwidth schemas.BytesPerSecond
	Evaluations   int           // of the refinement, per decision; default 20,000
	Seed          uint64        // of the search
	MaxDowntime   time.Duration // of a move; default 500 ms
	// TickEvery is how often the service looks; default a quarter of the base step,
	// 100 ms to 1 s.
	TickEvery time.Duration
	LeaseTTL  time.Duration // of the service's lease; default 3 s
	// SnapshotEvery makes the service keep snapshots; 0: it folds the streams anew
	// when it starts.
	SnapshotEvery time.Duration
	persistence   bool // decide as if every VM went on as it is now
	// Ready is called once when all inputs have caught up; may be nil.
	Ready func()
}

func (c Config) withDefaults() Config {
	if c.Name == "" {
		c.Name = "placer"
	}
	if c.Base <= 0 {
		c.Base = schemas.DefaultBase
	}
	if c.Policy.Mode == "" {
		c.Policy = policy.Default()
	}
	if c.Evaluations <= 0 {
		c.Evaluations = 20000
	}
	if c.MaxDowntime <= 0 {
		c.MaxDowntime = 500 * time.Millisecond
	}
	if c.TickEvery <= 0 {
		c.TickEvery = min(time.Second, max(100*time.Millisecond, c.Base/4))
	}
	if c.LeaseTTL <= 0 {
		c.LeaseTTL = 3 * time.Second
	}
	return c
}

// Real times of the control plane; they do not scale with the base step.
const (
	heartbeatEvery = 5 * time.Second
	deadlineGrace  = 30 * time.Second
)

// settle is how long a decision waits for the forecasts of a step to be complete.
func (c Config) settle() time.Duration { return min(5*time.Second, c.Base/2) }

// Decider is the placer's pure heart.
type Decider struct {
	cfg   Config
	fleet *fleet.Fleet
	st    tickState
	stats Stats
}

// tickState is what the ticks left behind, besides the fleet's memory.
type tickState struct {
	Beat    int64        // when the heartbeat last went out
	Seen    schemas.Step // newest issue a tick has seen
	SeenAt  int64        // and when
	Decided int64        // when the last decision was made
	Before  float64      // unmet demand of the last decision, without its plan and with it
	After   float64
	Gate    schemas.ReasonCode
	PlanSig string // signature of the last published plan
	PlanAt  schemas.Step
	Hosts   map[schemas.HostID]told
	VMs     map[schemas.VMID]told
	Gains   map[schemas.VMID]told
	Sites   map[schemas.SiteID]told
}

// told is what was last published of a subject.
type told struct {
	P     float64
	Onset schemas.Time
	Sig   string
	Step  schemas.Step
}

// Stats are counts and gauges of the last decision, for metrics.
type Stats struct {
	Decisions, Commands uint64
	Declined            map[schemas.ReasonCode]uint64
	Before, After       float64
	Hosts, VMs          int
	Pressed, UnderWay   int
	Unknown, Duplicates int
	Evaluations         int
	Budgets             map[string][2]int // used and allowed: cluster at a time, hour attempts in 12 steps
}

// NewDecider makes one; the error names every fault of its policy.
func NewDecider(cfg Config) (*Decider, error) {
	cfg = cfg.withDefaults()
	if err := policy.Validate(cfg.Policy); err != nil {
		return nil, fmt.Errorf("placer: %w", err)
	}
	cfg.Policy = policy.Complete(cfg.Policy)
	d := &Decider{cfg: cfg, fleet: fleet.New(fleet.Config{Base: cfg.Base, SiteBandwidth: cfg.SiteBandwidth, Persistence: cfg.persistence})}
	d.st = newTickState()
	d.stats.Declined = map[schemas.ReasonCode]uint64{}
	return d, nil
}

func newTickState() tickState {
	return tickState{Hosts: map[schemas.HostID]told{}, VMs: map[schemas.VMID]told{}, Gains: map[schemas.VMID]told{}, Sites: map[schemas.SiteID]told{}}
}

// Apply folds one event.
func (d *Decider) Apply(e streams.Event) error {
	return d.fleet.Apply(fleet.Input{Seq: e.Seq, Time: schemas.Time(e.Time), Lease: e.Lease, Msg: e.Msg})
}

// Stats are those of the last decision.
func (d *Decider) Stats() Stats { return d.stats }

// Tick beats the heart, decides when a new step has closed, and sends what is due.
func (d *Decider) Tick(c streams.Cut) []streams.Out {
	var outs []streams.Out
	now := schemas.Time(c.Now)
	if c.Now-d.st.Beat >= int64(heartbeatEvery) {
		d.st.Beat = c.Now
		id := fmt.Sprintf("%s-%d", d.cfg.Name, c.Now)
		outs = append(outs, streams.Out{Subject: streams.SubjectAct(schemas.ActHeartbeat), ID: id,
			Msg: &schemas.Act{ID: id, Act: schemas.ActHeartbeat, By: d.cfg.Name, Time: now}})
	}
	if d.fleet.Issued() != d.st.Seen {
		d.st.Seen, d.st.SeenAt = d.fleet.Issued(), c.Now
	}
	p := d.fleet.Policy(d.cfg.Policy)
	d.skips(now, p)
	switch {
	case d.dueToDecide(c):
		outs = append(outs, d.decide(c, p)...)
	case d.waiting(now, p):
		outs = append(outs, d.dispatchKept(c, p)...)
	}
	return outs
}

// dueToDecide: a step has closed and its forecasts are all here, or have had time
// to come; or no forecast comes any more, and somebody must say so.
func (d *Decider) dueToDecide(c streams.Cut) bool {
	if issued := d.fleet.Issued(); issued > d.fleet.Memory.Step {
		return d.fleet.Complete() || c.Now-d.st.SeenAt >= int64(d.cfg.settle())
	}
	return c.Now-d.st.Decided >= int64(max(2*d.cfg.Base, 5*time.Second))
}

// waiting reports whether a kept action might be sent now.
func (d *Decider) waiting(now schemas.Time, p policy.Policy) bool {
	for i := range d.fleet.Memory.Plan {
		if a := &d.fleet.Memory.Plan[i]; a.Due <= now && d.mayGo(a, now, p) {
			return true
		}
	}
	return false
}

// skips drops planned actions that an operator skipped, and holds their VMs back
// for a cool-down.
func (d *Decider) skips(now schemas.Time, p policy.Policy) {
	m := &d.fleet.Memory
	kept := m.Plan[:0:0]
	for _, a := range m.Plan {
		if at := d.fleet.SkippedAt(a.ID); at != 0 {
			m.Skip[a.VM] = at
			continue
		}
		kept = append(kept, a)
	}
	m.Plan = kept
	for v, at := range m.Skip {
		if now.Sub(at) > time.Duration(max(p.CoolDownSteps, 1))*d.cfg.Base {
			delete(m.Skip, v)
		}
	}
}

// decide makes a plan, tells what changed, and sends what is due at once.
func (d *Decider) decide(c streams.Cut, p policy.Policy) []streams.Out {
	s, dec := d.propose(c, p)
	d.st.Decided = c.Now
	d.st.Before, d.st.After = dec.Plan.Before, dec.Plan.After
	d.count(s, &dec)
	d.fleet.Memory.Ladder.Foresee(&dec.Plan)
	outs := d.tell(s, &dec)
	return append(outs, d.dispatch(c, p, dec.Plan, false)...)
}

// propose makes the plan of a cut, with what it stood on.
func (d *Decider) propose(c streams.Cut, p policy.Policy) (*plan.State, plan.Decision) {
	d.fleet.Memory.Trust.Settle()
	d.fleet.Settle(&p, schemas.Time(c.Now))
	basis := d.basis(c)
	s := plan.Prepare(d.fleet, p, c)
	s.Remember()
	dec := s.Decide(search.Budget{Evaluations: d.cfg.Evaluations}, d.cfg.Seed)
	dec.Plan.Basis = basis
	for i := range dec.Plan.Actions {
		a := &dec.Plan.Actions[i]
		if a.Hold.Code != schemas.ReasonNeedsApproval {
			continue
		}
		if a.Hold = d.approval(a.ID, s.Now(), p); a.Hold.OK() && a.Due > s.Now() {
			a.Hold = schemas.Reason{Code: schemas.ReasonNotDue, Detail: "approved; it starts when due"}
		}
	}
	return s, dec
}

// basis is what a decision at the cut stands on besides the streams.
func (d *Decider) basis(c streams.Cut) schemas.PlanBasis {
	b := d.fleet.Basis()
	b.Evaluations = d.cfg.Evaluations
	if _, at := d.fleet.Document(d.cfg.Policy); at == 0 {
		own := d.cfg.Policy
		b.Policy = &own
	}
	r := d.fleet.ReadFrom(schemas.Time(c.Now))
	b.From = map[string]uint64{streams.Capacity: r.Capacity, streams.Forecasts: r.Forecasts, streams.Pressure: r.Pressure}
	return b
}

// kept is the plan of the actions that the last decision left.
func (d *Decider) kept(c streams.Cut, p policy.Policy) schemas.Plan {
	pl := schemas.Plan{Time: schemas.Time(c.Now), Cut: c, Mode: p.Mode, PolicyVersion: p.Version, Seed: d.cfg.Seed, Before: d.st.Before, After: d.st.After,
		Actions: append([]schemas.Action{}, d.fleet.Memory.Plan...), Declined: []schemas.Decline{}, Basis: d.basis(c)}
	pl.Basis.Kept, pl.Basis.Planned = true, append([]schemas.Action{}, d.fleet.Memory.Plan...)
	return pl
}

// dispatchKept sends actions of the last plan that have become due since.
func (d *Decider) dispatchKept(c streams.Cut, p policy.Policy) []streams.Out {
	d.fleet.Settle(&p, schemas.Time(c.Now))
	return d.dispatch(c, p, d.kept(c, p), true)
}

// Package fleet is the placer's picture of the hybrid network: a pure fold of
// events.
//
// What comes in: capacity of hosts and links with each host's inventory,
// forecasts, own-limit pressures, the record of moves, plans, acts of operators and the
// policy, each as an [Input]. What goes out: a [View], which is the whole fleet at
// one moment as flat arrays with int32 ids in the order of the names, and the
// [policy.Attempt] history.
//
// What is promised:
//
//   - State is kept per stream, so that it does not matter how messages of
//     different streams were interleaved; streams meet only in [Fleet.View].
//   - Absent is not zero: every input has an age limit, and what is older is
//     marked stale, never guessed. A VM without a forecast stands in the sums with
//     its share of what its host measures, and is not moved.
//   - A move holds its place at the destination from its command on, until
//     telemetry later than its end shows where the VM is. A move whose end nobody
//     knows stays until an operator resolves it: no timer does.
//   - The same UUID running on two hosts freezes the VM.
//   - Everything is bounded: hosts, VMs and forecasts that are no longer told of are
//     forgotten, and so are moves once no limit looks back to them.
//
// Why a fold: the same events give the same fleet, live, in replay and in a
// backtest, and a test can write them down.
package fleet

import (
	"fmt"
	"time"

	"github.com/foreshift/foreshift/placer/policy"
	"github.com/foreshift/foreshift/placer/policy/learning"
	"github.com/foreshift/foreshift/placer/trust"
	"github.com/foreshift/foreshift/schemas"
)

// Config are the fixed facts of a fleet's fold; zero values take the defaults.
type Config struct {
	Base time.Duration // length of the base step, default 5 min
	// SiteBandwidth is what one move gets within a site, bytes/s; default 10 Gbit/s.
	SiteBandwidth schemas.BytesPerSecond
	// Age limits, in stream time. Host and link are real time: 1 min, 5 min.
	// Forecast is 3 base steps, at least 15 s, after it was stored.
	HostAge, LinkAge, ForecastAge time.Duration
	// Lag is how long after the end of its step a forecast may be stored, default 2
	// base steps, at least 15 s: a forecaster that is later falls behind.
	Lag time.Duration
	// Persistence makes views hold what is now instead of the forecast: the
	// alternative that a plan is compared with.
	Persistence bool
}

func (c Config) withDefaults() Config {
	if c.Base <= 0 {
		c.Base = schemas.DefaultBase
	}
	if c.SiteBandwidth <= 0 {
		c.SiteBandwidth = 10e9 / 8
	}
	if c.HostAge <= 0 {
		c.HostAge = time.Minute
	}
	if c.LinkAge <= 0 {
		c.LinkAge = 5 * time.Minute
	}
	if c.ForecastAge <= 0 {
		c.ForecastAge = max(3*c.Base, 15*time.Second)
	}
	if c.Lag <= 0 {
		c.Lag = max(2*c.Base, 15*time.Second)
	}
	return c
}

// Bounds of what is kept.
const (
	maxRecords  = 1 << 18 // VMs whose last sequence in MIGRATIONS is remembered
	maxActs     = 4096    // approvals, skips and resolutions each
	maxPolicies = 20      // versions to roll back to
)

// Input is one event as the fleet folds it.
type Input struct {
	Seq   uint64       // sequence in its stream
	Time  schemas.Time // stream time
	Lease uint64       // writer's lease revision
	Msg   any          // pointer to a valid message; nil for a removed policy
}

// Fleet is the fold. It is owned by one goroutine.
type Fleet struct {
	cfg       Config
	hosts     map[schemas.HostID]*hostState
	hostClock schemas.Time // newest stream time of CAPACITY
	links     map[policy.Link]linkState
	forecasts map[schemas.VMID]*forecastRow
	issued    schemas.Step // newest issue seen in FORECASTS
	ownLimit  map[schemas.VMID]ownLimitState
	moves     map[schemas.CommandID]*Move
	record    map[schemas.VMID]uint64
	dirty     map[schemas.VMID]dirtyState
	unfit     map[cpuKey]cpuRefusal // of MIGRATIONS
	costs     learning.Costs        // of MIGRATIONS
	ends      learning.Ends         // of MIGRATIONS
	acts      actState
	kv        policyState
	plans     planState

	// Memory is what earlier decisions left behind.
	Memory Memory
}

// Memory is what one decision leaves for the next: it is written by the decider
// in Tick and is part of the snapshot.
type Memory struct {
	Step schemas.Step                  // last step decided on
	Held map[schemas.HostID]Held       // hosts above the trigger, and since when
	Plan []schemas.Action              // actions planned and not yet commanded
	Skip map[schemas.VMID]schemas.Time // VMs whose planned move an operator skipped, and when
	Load float64                       // mean CPU demand of a VM in the first slot, mCPU
	VMs  int                           // over how many VMs
	// Trust is how far persistence is believed against the paths, learned from what the
	// hosts' demand became.
	Trust trust.State
	// Ladder is how far auto is trusted with moves, learned from what came of those that
	// were not made and of those that were.
	Ladder learning.Ladder
}

// Held is how long a host's pressure has been above the trigger.
type Held = schemas.Held

// New makes an empty fleet.
func New(cfg Config) *Fleet {
	return &Fleet{
		cfg:       cfg.withDefaults(),
		hosts:     map[schemas.HostID]*hostState{},
		links:     map[policy.Link]linkState{},
		forecasts: map[schemas.VMID]*forecastRow{},
		ownLimit:  map[schemas.VMID]ownLimitState{},
		moves:     map[schemas.CommandID]*Move{},
		record:    map[schemas.VMID]uint64{},
		dirty:     map[schemas.VMID]dirtyState{},
		unfit:     map[cpuKey]cpuRefusal{},
		acts:      newActState(),
		kv:        policyState{Versions: map[uint64]schemas.Policy{}},
		plans:     planState{Actions: map[schemas.PlanID][]schemas.CommandID{}},
		Memory:    Memory{Held: map[schemas.HostID]Held{}, Skip: map[schemas.VMID]schemas.Time{}},
	}
}

// Base is the length of the base step.
func (f *Fleet) Base() time.Duration { return f.cfg.Base }

// Issued is the newest step that any forecast has seen; 0 before the first.
func (f *Fleet) Issued() schemas.Step { return f.issued }

// Apply folds one event. The error names what is wrong with the message; the
// fleet is then unchanged.
func (f *Fleet) Apply(in Input) error {
	switch m := in.Msg.(type) {
	case *schemas.CapacityHost:
		return f.applyHost(in, m)
	case *schemas.CapacityLink:
		return f.applyLink(in, m)
	case *schemas.Forecasts:
		return f.applyForecasts(in, m)
	case *schemas.PressureVM:
		return f.applyPressure(in, m)
	case *schemas.Command:
		return f.applyCommand(in, m)
	case *schemas.Outcome:
		return f.applyOutcome(in, m)
	case *schemas.Effect:
		f.touchRecord(m.VM, in.Seq)
		f.ends.Effect(m, in.Time)
		return nil
	case *schemas.Plan:
		return f.applyPlan(in, m)
	case *schemas.Act:
		return f.acts.apply(in, m)
	case *schemas.Policy:
		return f.kv.apply(in, m)
	case nil:
		return nil // a removed policy key: the last one stays in force
	default:
		return fmt.Errorf("fleet: message %T is none of the placer's", in.Msg)
	}
}

// RecordSeq is the last sequence seen under the VM's record in MIGRATIONS.
func (f *Fleet) RecordSeq(v schemas.VMID) uint64 { return f.record[v] }

type ownLimitState struct {
	Score    schemas.Ratio
	Advice   string
	Resource string
	Step     schemas.Step
	At       schemas.Time
	Seq      uint64
}

func (f *Fleet) applyPressure(in Input, m *schemas.PressureVM) error {
	if m.Cause != schemas.CauseOwnLimit {
		return nil // our own words come back
	}
	if o, ok := f.ownLimit[m.VM]; ok && in.Seq <= o.Seq {
		return nil // an older word redelivered
	}
	// That it is over is kept too: without it an older word would count again.
	f.ownLimit[m.VM] = ownLimitState{m.Score, m.Advice, m.Resource, m.Issued, in.Time, in.Seq}
	if len(f.ownLimit) > maxRecords {
		f.pruneOwnLimit(in.Time)
	}
	return nil
}

// pruneOwnLimit forgets what was not renewed within a day of stream time.
func (f *Fleet) pruneOwnLimit(now schemas.Time) {
	for v, o := range f.ownLimit {
		if now.Sub(o.At) > max(24*time.Hour, schemas.StepsPerDay*f.cfg.Base) {
			delete(f.ownLimit, v)
		}
	}
}

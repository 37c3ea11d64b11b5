package replay

import (
	"fmt"
	"math"
	"time"

	"github.com/foreshift/foreshift/placer/fleet"
	"github.com/foreshift/foreshift/placer/plan"
	"github.com/foreshift/foreshift/placer/policy"
	"github.com/foreshift/foreshift/placer/search"
	"github.com/foreshift/foreshift/schemas"
)

// Settings of our placer in a backtest.
type Settings struct {
	MinBenefit float64 // core-seconds
	LookAhead  int     // steps
	Trigger    float64
	SoftWeight float64
	PerDay     int // moves of a VM a day
	// Hold is the weight of the scenario in which the last ten minutes last, within the
	// hour; 0: as the forecast has it.
	Hold float64
	// Flat lets a VM move again once the world does; otherwise the placer's own time to
	// stay holds, which doubles with each move of a day.
	Flat      bool
	HoldSteps int // that pressure lasts before anything moves
	// Trust lets the placer learn how far persistence is believed, as it does in service.
	Trust bool
	// FixedCosts keeps the placer from learning what moves take.
	FixedCosts bool
}

// policy is the service's own, with the world's limits and these settings.
func (s Settings) policy() policy.Policy {
	p := policy.Default()
	p.Mode, p.AutoOnlySimulated = schemas.ModeAuto, false
	p.MinBenefit, p.LookAheadSteps, p.Trigger, p.SoftWeight = s.MinBenefit, s.LookAhead, schemas.Ratio(s.Trigger), schemas.Ratio(s.SoftWeight)
	p.HoldSteps, p.MarginSteps = s.HoldSteps, 1
	p.CoolDownSteps, p.MaxPerHost, p.MaxPerCluster = coolDown, 1, maxFlying
	p.MaxPerHour, p.MaxPerVMDay = maxFlying*perHour, s.PerDay
	if s.Flat {
		p.CoolDownSteps = 0
	}
	if s.FixedCosts {
		p.Learning = &schemas.Learning{FixedCosts: true}
	}
	return p
}

// ours is our placer on a fleet that is told what the service would be told.
type ours struct {
	name   string
	set    Settings
	policy policy.Policy
	fleet  *fleet.Fleet
	frame  *Frame // of the step to be decided after; set before Decide
	seq    uint64
	index  map[schemas.VMID]int32
	ids    []schemas.VMID
	inv    []schemas.InventoryVM // by VM
	fly    map[int32]schemas.Command
	sums   []float32 // by host: scenario x slot
	foul   error
	always bool // decide at every step, for the test of near
}

// evaluations is the budget of one decision's search.
const evaluations = 1000

func newOurs(name string, h *History, set Settings) *ours {
	o := &ours{name: name, set: set, policy: set.policy(), index: map[schemas.VMID]int32{}, fly: map[int32]schemas.Command{},
		// A move sends 300 GiB a step, and reports stand until the next.
		fleet: fleet.New(fleet.Config{SiteBandwidth: gibPerStep << 30 / 300, HostAge: 24 * time.Hour})}
	for v := range h.VMs {
		vm, key := &h.VMs[v], id(h.VMs[v].Name)
		o.index[key] = int32(v)
		o.ids = append(o.ids, key)
		bytes := schemas.Bytes(vm.GiB * (1 << 30))
		o.inv = append(o.inv, schemas.InventoryVM{VM: key, Name: vm.Name, State: schemas.VMRunning, VCPUs: max(1, int(math.Ceil(vm.Cores))),
			AllocCPU: schemas.MilliCPU(max(1, 1000*vm.Cores)), AllocMem: bytes, Resident: bytes, Persistent: true, Movable: true})
	}
	return o
}

// setup is how long a move takes besides sending, s.
const setup = 1

// bandwidth makes the placer believe in a speed of moves, bytes/s. It must be called
// before the first step.
func (o *ours) bandwidth(bps float64) {
	o.fleet = fleet.New(fleet.Config{SiteBandwidth: schemas.BytesPerSecond(bps), HostAge: 24 * time.Hour})
}

func hostID(b int32) schemas.HostID { return schemas.HostID(fmt.Sprintf("h%04d", b)) }

// Decide implements [Policy].
func (o *ours) Decide(w *World, t int) []Move {
	now := (epoch + schemas.Step(t) + 1).Start(schemas.DefaultBase)
	o.land(w, now)
	o.lost(w, now)
	if o.set.Hold > 0 {
		o.frame = o.frame.held(o.set.Hold)
	}
	if o.set.Trust {
		o.fleet.Memory.Trust.Settle()
	}
	if !o.always && !o.near(w) {
		// What such a decision would leave behind: no host is held, nothing is planned,
		// and this is the load.
		m := &o.fleet.Memory
		m.Plan, m.Held, m.Step, m.Load, m.VMs = nil, map[schemas.HostID]fleet.Held{}, o.frame.Msg.Issued, o.frame.Mean, len(w.At)
		if o.set.Trust {
			o.compare(w)
		}
		return nil
	}
	w.score.Decisions++
	o.rest(w, t, now)
	o.report(w, now)
	o.apply(now, o.frame.Msg)
	if o.foul != nil {
		return nil
	}
	s := plan.Prepare(o.fleet, o.policy, schemas.Cut{Now: int64(now)})
	s.Remember()
	dec := s.Decide(search.Budget{Evaluations: evaluations}, 1)
	return o.send(w, now, &dec.Plan)
}

// rest holds back the VMs that have arrived too lately for the world, where the placer's
// own time to stay does not.
func (o *ours) rest(w *World, t int, now schemas.Time) {
	if !o.set.Flat {
		return
	}
	skip := o.fleet.Memory.Skip
	clear(skip)
	for v, until := range w.cool {
		if t < until {
			skip[o.ids[v]] = now
		}
	}
}

// near reports whether on any host the chance to run short within the look-ahead and
// what that would cost come up to what a decision would look at: without it the plan is
// empty, for no move can save more than its source costs. Chance and cost are the
// placer's own, or a little more.
func (o *ours) near(w *World) bool {
	slots, all := schemas.SlotsWithin(o.set.LookAhead), o.slots()
	size := K * all
	if len(o.sums) != w.F.H*size {
		o.sums = make([]float32, w.F.H*size)
	}
	clear(o.sums)
	for v := range w.At {
		o.add(v, w.Bound[v])
		if w.At[v] != w.Bound[v] {
			o.add(v, w.At[v]) // on its way: on the safe side it counts at both
		}
	}
	limit, weight := float32(1000*w.F.C), o.weights()
	soft, alpha, begin := limit*float32(o.policy.SoftCapacity), float32(o.set.SoftWeight), limit*(1-plan.Doubt)
	// A host that a plan relieves has a lower trigger, and a planned move a lower least
	// benefit: the margin is for those and for rounding.
	leastChance, leastCost := .6*o.set.Trigger, float32(.6*o.set.MinBenefit)
	for b := range w.F.H {
		sum := o.sums[b*size : (b+1)*size]
		var hit [K]bool
		pressed, cost := false, float32(0)
		for s := range slots {
			chance, unmet := 0.0, float32(0)
			for k := range K {
				x, p := sum[k*all+s], weight[k*schemas.Slots+s]
				unmet += p * (alpha*max(0, x-soft) + doubtful(x, begin, limit))
				if hit[k] = hit[k] || x > limit; hit[k] {
					chance += float64(p)
				}
			}
			pressed = pressed || chance > 0 && chance >= leastChance
			cost += unmet * float32(schemas.SlotLen(s)) * stepSeconds / 1000
		}
		if pressed && cost >= leastCost {
			return true
		}
	}
	return false
}

// doubtful is what is unmet of a sum that may lie as far above and below what the path
// says as begin lies below the limit, as the placer has it.
func doubtful(x, begin, limit float32) float32 {
	half := limit - begin
	switch {
	case x <= begin:
		return 0
	case x >= limit+half:
		return x - limit
	}
	return (x - begin) * (x - begin) / (4 * half)
}

// stepSeconds is the length of a step.
const stepSeconds = 300

// apply folds a message.
func (o *ours) apply(at schemas.Time, m any) {
	o.seq++
	if err := o.fleet.Apply(fleet.Input{Seq: o.seq, Time: at, Lease: 1, Msg: m}); err != nil && o.foul == nil {
		o.foul = fmt.Errorf("backtest: %s: %w", o.name, err)
	}
}

// land tells the outcomes of moves that ended with the step.
func (o *ours) land(w *World, now schemas.Time) {
	for i := range w.landed {
		m := &w.landed[i]
		c, ok := o.fly[m.VM]
		if !ok {
			continue
		}
		delete(o.fly, m.VM)
		o.apply(now-1, &schemas.Outcome{Command: c.ID, VM: c.VM, Host: c.Source, Source: c.Source, Destination: c.Destination, Time: now - 1,
			Result: schemas.ResultSucceeded, RunsAt: c.Destination, Started: c.Issued, Predicted: c.Predicted,
			Duration: o.took(w, m), Downtime: 1000 * downtime, Volume: schemas.Bytes(w.H.VMs[m.VM].GiB * (1 << 30))})
	}
}

// lost tells the outcomes of moves that were given up with the step.
func (o *ours) lost(w *World, now schemas.Time) {
	for i := range w.failed {
		m := &w.failed[i]
		if c, ok := o.fly[m.VM]; ok {
			delete(o.fly, m.VM)
			o.apply(now-1, &schemas.Outcome{Command: c.ID, VM: c.VM, Host: c.Source, Source: c.Source, Destination: c.Destination, Time: now - 1,
				Result: schemas.ResultFailed, Reason: schemas.Reason{Code: schemas.ReasonStalled, Detail: "it rewrites its memory faster than it is sent"}, RunsAt: c.Source, Started: c.Issued, Predicted: c.Predicted})
		}
	}
}

// took is how long a move that landed was under way besides waiting for the step's end.
func (o *ours) took(w *World, m *Move) schemas.Seconds {
	if w.rich != nil {
		return schemas.Seconds(w.H.VMs[m.VM].GiB * (1 << 30) / w.rich.Link)
	}
	return schemas.Seconds(setup + stepSeconds*w.H.VMs[m.VM].GiB/gibPerStep)
}

// report tells the capacity and inventory of all hosts.
func (o *ours) report(w *World, now schemas.Time) {
	hosts, overcommit := make([]*schemas.CapacityHost, w.F.H), schemas.Ratio(1)
	if w.rich != nil {
		overcommit = schemas.Ratio(w.rich.Overcommit)
	}
	for b := range hosts {
		hosts[b] = &schemas.CapacityHost{Host: hostID(int32(b)), Site: "backtest", Time: now, Speed: 1, Simulated: true, Overcommit: schemas.Overcommit{CPU: 1, Mem: overcommit},
			Capacity: schemas.Amounts{CPU: schemas.MilliCPU(1000 * w.F.C), Mem: schemas.Bytes(w.F.M * (1 << 30))}}
	}
	for v, b := range w.At {
		inv := o.inv[v]
		inv.Migrating = w.Bound[v] != b
		hosts[b].VMs = append(hosts[b].VMs, inv)
	}
	for _, m := range hosts {
		o.apply(now, m)
	}
}

// send makes moves of the actions that are due, and keeps the rest in mind.
func (o *ours) send(w *World, now schemas.Time, pl *schemas.Plan) []Move {
	var out []Move
	left := make([]schemas.Action, 0, len(pl.Actions))
	begun := map[schemas.CommandID]bool{}
	for i := range pl.Actions {
		a := &pl.Actions[i]
		v := o.index[a.VM]
		from, to := w.At[v], int32(-1)
		for b := range int32(w.F.H) {
			if hostID(b) == a.Destination {
				to = b
			}
		}
		if a.Due > now || !a.Hold.OK() || a.After != "" && !begun[a.After] || to < 0 {
			left = append(left, *a)
			continue
		}
		begun[a.ID] = true
		lead := -1
		if a.Predicted.Onset > now {
			lead = int(a.Predicted.Onset.Sub(now) / schemas.DefaultBase)
		}
		out = append(out, Move{VM: v, From: from, To: to, Benefit: a.Predicted.Gain.Benefit, Lead: lead, Why: a.Reason.Detail, Fan: o.fan(w, from)})
		length := time.Duration(Takes(w.H.VMs[v].GiB)) * schemas.DefaultBase
		a.Predicted.Duration = schemas.Seconds(length.Seconds())
		c := schemas.Command{ID: a.ID, Plan: pl.ID, VM: a.VM, Name: a.Name, Source: a.Source, Destination: a.Destination, Issued: now,
			Expires: now.Add(schemas.CommandLife), Deadline: now.Add(10 * length), Reason: a.Reason, Predicted: a.Predicted}
		o.fly[v] = c
		o.apply(now, &c)
	}
	o.fleet.Memory.Plan = left
	return out
}

// refused takes back a move that the world did not allow.
func (o *ours) refused(m *Move, t int) {
	c, ok := o.fly[m.VM]
	if !ok {
		return
	}
	delete(o.fly, m.VM)
	now := (epoch + schemas.Step(t) + 1).Start(schemas.DefaultBase)
	o.apply(now, &schemas.Outcome{Command: c.ID, VM: c.VM, Host: c.Source, Source: c.Source, Destination: c.Destination, Time: now,
		Result: schemas.ResultRefused, Reason: schemas.Reason{Code: schemas.ReasonNoRoom, Detail: "the world has no place for it"}, RunsAt: c.Source})
}

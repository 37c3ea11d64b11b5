package placement

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strconv"
	"syscall"

	"github.com/foreshift/foreshift/benchmarks/peers/balancer"
	"github.com/foreshift/foreshift/benchmarks/peers/cbc"
	"github.com/foreshift/foreshift/benchmarks/peers/ilp"
	"github.com/foreshift/foreshift/placer/fleet"
	"github.com/foreshift/foreshift/placer/plan"
	"github.com/foreshift/foreshift/placer/policy"
	"github.com/foreshift/foreshift/placer/search"
	"github.com/foreshift/foreshift/schemas"
)

// Options say what to measure.
type Options struct {
	Hosts, VMs  int
	Seed        uint64
	LookAhead   int     // base steps; 288 takes all 44 slots
	Evaluations int     // of the refined plan
	Trigger     float64 // pressure from which VMs move
	MinBenefit  float64 // least benefit of a move, core-seconds
	Settled     int     // how often to plan anew once nothing moves any more
	Gap         float64 // the balancer's
	ILP         float64 // CPU-seconds for the solver; 0 leaves it out
}

// Result is what was measured. Times are CPU-seconds of the process.
type Result struct {
	Hosts       int              `json:"hosts"`
	VMs         int              `json:"vms"`
	Slots       int              `json:"slots"`
	Fold        float64          `json:"fold_cpu_seconds"`
	First       float64          `json:"first_plan_cpu_seconds"`
	Refined     float64          `json:"refined_plan_cpu_seconds"`
	Evaluations int              `json:"evaluations"`
	Heap        uint64           `json:"heap_bytes"`
	Peak        uint64           `json:"peak_resident_bytes"`
	Rounds      int              `json:"rounds_until_settled"`
	Restless    int              `json:"moves_when_settled"`
	Scores      map[string]Score `json:"scores"`
	Planners    []string         `json:"planners"`
	Notes       []string         `json:"notes"`
}

// Policy is the one that is measured: production's, with budgets wide enough that it is
// the judgement that decides and not the budget.
func Policy(o Options) policy.Policy {
	p := policy.Default()
	p.Mode, p.HoldSteps, p.LookAheadSteps = schemas.ModeAuto, 0, o.LookAhead
	p.Trigger, p.MinBenefit = schemas.Ratio(o.Trigger), o.MinBenefit
	p.MaxPerHost, p.MaxPerLink, p.MaxPerCluster, p.MaxPerHour, p.MaxPerVMDay = 8, 64, 1024, 100000, 100
	return p
}

// CPU is what the process has used, in seconds.
func CPU() float64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9
}

// ours are the planners before the peers. Half names those after them: our plan with at
// most half the moves of a peer.
var ours = [3]string{"stay", "first plan", "refined plan"}

const Half = "half the moves of: "

// Run measures.
func Run(ctx context.Context, o Options) (*Result, error) {
	w := NewWorld(o.Hosts, o.VMs, o.Seed)
	p := Policy(o)
	p.Apart = w.groups()
	if err := policy.Validate(p); err != nil {
		return nil, err
	}
	slots := schemas.SlotsWithin(o.LookAhead)
	r := &Result{Hosts: o.Hosts, VMs: o.VMs, Slots: slots, Scores: map[string]Score{}}
	note := func(name string, at []int) {
		r.Scores[name], r.Planners = w.Score(at, slots), append(r.Planners, name)
	}
	note(ours[0], w.Stay())
	f := fleet.New(fleet.Config{})
	cpu := CPU()
	if err := w.Fold(f); err != nil {
		return nil, err
	}
	r.Fold = CPU() - cpu
	cut := schemas.Cut{Now: int64(w.now), Seq: map[string]uint64{}}
	runtime.GC()
	cpu = CPU()
	first := plan.Decide(f, p, cut, search.Budget{}, o.Seed)
	r.First = CPU() - cpu
	note(ours[1], w.after(first.Actions))
	runtime.GC()
	cpu = CPU()
	refined := plan.Decide(f, p, cut, search.Budget{Evaluations: o.Evaluations}, o.Seed)
	r.Refined, r.Evaluations = CPU()-cpu, refined.Used
	note(ours[2], w.after(refined.Actions))
	var mem runtime.MemStats
	runtime.ReadMemStats(&mem)
	r.Heap, r.Peak = mem.HeapAlloc, peak()
	if o.Settled > 0 {
		if err := w.settle(r, o, p); err != nil {
			return nil, err
		}
	}
	if err := w.peers(ctx, r, o, note); err != nil {
		return nil, err
	}
	for _, peer := range r.Planners[len(ours):] {
		p := p
		p.MaxPerCluster = min(p.MaxPerCluster, r.Scores[peer].Moves/2)
		pl := plan.Decide(f, p, cut, search.Budget{Evaluations: o.Evaluations}, o.Seed)
		note(Half+peer, w.after(pl.Actions))
	}
	return r, nil
}

// settle carries plans out until one is empty, and then plans as often as asked with
// other seeds.
func (w *World) settle(r *Result, o Options, p policy.Policy) error {
	then := *w
	then.vms = append([]vm(nil), w.vms...)
	const rounds = 50
	cut := schemas.Cut{Now: int64(w.now), Seq: map[string]uint64{}}
	for {
		f := fleet.New(fleet.Config{})
		if err := then.Fold(f); err != nil {
			return err
		}
		pl := plan.Decide(f, p, cut, search.Budget{Evaluations: o.Evaluations}, o.Seed)
		if len(pl.Actions) > 0 {
			if r.Rounds++; r.Rounds > rounds {
				return fmt.Errorf("the fleet has not settled after %d plans", rounds)
			}
			for i, h := range then.after(pl.Actions) {
				then.vms[i].host = h
			}
			continue
		}
		for k := range o.Settled {
			r.Restless += len(plan.Decide(f, p, cut, search.Budget{Evaluations: o.Evaluations}, o.Seed+uint64(k)).Actions)
		}
		return nil
	}
}

// groups are the VMs that must be apart.
func (w *World) groups() [][]schemas.VMID {
	var out [][]schemas.VMID
	for i := range w.vms {
		g := w.vms[i].group
		if g == 0 {
			break
		}
		if g > len(out) {
			out = append(out, nil)
		}
		out[g-1] = append(out[g-1], id(i))
	}
	return out
}

// after is where VMs are once the actions are done.
func (w *World) after(actions []schemas.Action) []int {
	at := w.Stay()
	for i := range actions {
		var n int
		var err error
		if n, err = strconv.Atoi(actions[i].Name[len("vm-"):]); err != nil {
			continue // not one of ours: the score will show that it did not move
		}
		if h, err := strconv.Atoi(string(actions[i].Destination)[len("host-"):]); err == nil {
			at[n] = h
		}
	}
	return at
}

// peers runs the others on the same snapshot.
func (w *World) peers(ctx context.Context, r *Result, o Options, note func(string, []int)) error {
	hosts := make([]balancer.Host, w.hosts)
	for h := range hosts {
		hosts[h] = balancer.Host{CPU: cores, Mem: gib}
	}
	describe := func(cpu func(i int) float64) []balancer.VM {
		out := make([]balancer.VM, len(w.vms))
		for i := range out {
			v := &w.vms[i]
			out[i] = balancer.VM{CPU: cpu(i), Mem: v.mem, Host: v.host, Group: v.group}
		}
		return out
	}
	moved := func(moves []balancer.Move) []int {
		at := w.Stay()
		for _, m := range moves {
			at[m.VM] = m.To
		}
		return at
	}
	expected := describe(func(i int) float64 { return w.expected(i, r.Slots) })
	note("balancer, used now", moved(balancer.Balance(hosts, describe(w.now0), o.Gap, len(w.vms))))
	note("balancer, expected", moved(balancer.Balance(hosts, expected, o.Gap, len(w.vms))))
	if o.ILP <= 0 {
		return nil
	}
	for _, x := range []struct {
		name  string
		price float64
	}{{"integer programme", 0}, {"integer programme, a price per move", 1e-4}} {
		at, res, err := ilp.Place(ctx, hosts, expected, x.price, o.ILP)
		switch {
		case errors.Is(err, cbc.ErrMissing):
			r.Notes = append(r.Notes, err.Error())
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			r.Notes = append(r.Notes, fmt.Sprintf("%s: %v", x.name, err))
			continue
		}
		note(x.name, at)
		r.Notes = append(r.Notes, fmt.Sprintf("%s: fullest host at %.3f, bound %.3f, %.1f CPU-seconds", x.name, res.Objective, res.Bound, res.Seconds))
	}
	return nil
}

// peak is the most memory the process ever had resident.
func peak() uint64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return uint64(u.Maxrss) << 10
}

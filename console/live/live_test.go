package live

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/foreshift/foreshift/console"
	"github.com/foreshift/foreshift/internal/explain"
	"github.com/foreshift/foreshift/schemas"
	"github.com/foreshift/foreshift/streams"
)

var t0 = schemas.At(time.Date(2031, 5, 4, 12, 0, 0, 0, time.UTC))

func id(n int) schemas.VMID { return schemas.VMID{14: byte(n >> 8), 15: byte(n)} }

func event(seq uint64, m any) streams.Event {
	return streams.Event{Seq: seq, Time: int64(t0), Msg: m}
}

// hostOf lists VMs as running there.
func hostOf(h schemas.HostID, at schemas.Time, vms ...int) *schemas.CapacityHost {
	c := &schemas.CapacityHost{Host: h, Site: "s", Time: at, Capacity: schemas.Amounts{CPU: 10_000, Mem: 100}}
	for _, n := range vms {
		c.VMs = append(c.VMs, schemas.InventoryVM{VM: id(n), Name: fmt.Sprint("vm-", n), State: schemas.VMRunning, AllocCPU: 4000, AllocMem: 50, Movable: true})
	}
	return c
}

// forecast says that each VM asks for value mCPU in every slot of scenario 0, twice
// that in scenario 1; half the weight each.
func forecast(issued schemas.Step, h schemas.HostID, value float32, vms ...int) *schemas.Forecasts {
	f := &schemas.Forecasts{Issued: issued, Grid: schemas.Grid{Start: issued + 1}, Base: time.Minute, Lease: 1, K: 2, Weight: make([]float32, 2*schemas.Slots)}
	for i := range f.Weight {
		f.Weight[i] = .5
	}
	for _, n := range vms {
		f.VM, f.Host = append(f.VM, id(n)), append(f.Host, h)
		for r := range f.Q {
			for range schemas.Slots {
				for l := range schemas.NumLevels {
					f.Q[r] = append(f.Q[r], value*schemas.Levels[l])
				}
			}
		}
		for k := range 2 {
			for range schemas.Slots {
				f.D = append(f.D, value*float32(k+1), 1)
			}
		}
	}
	return f
}

func TestHostAsksForTheSumOfItsVMs(t *testing.T) {
	m := New(time.Minute)
	m.Apply(event(1, hostOf("a", t0, 1, 2)))
	f := forecast(100, "a", 1000, 1)
	m.Apply(event(1, f))
	if h, _ := m.Host("a", t0); h.Headroom() != nil {
		t.Fatal("the headroom is told from one forecast of two")
	}
	m.Apply(event(2, forecast(100, "a", 1000, 2)))
	m.Apply(event(3, f)) // told twice
	h, _ := m.Host("a", t0)
	if h.Sum.VMs != 2 || h.Sum.Q[0][0][0] != 2000 || h.Sum.Q[0][2][5] != 4000 {
		t.Fatalf("sum of %d VMs: p10 %v, p90 %v; want 2000 and 4000", h.Sum.VMs, h.Sum.Q[0][0][0], h.Sum.Q[0][2][5])
	}
	if r := h.Headroom()[0]; math.Abs(r.Free-.6) > 1e-6 || r.Resource != schemas.CPU {
		t.Errorf("headroom %+v, want .6 of cpu", r)
	}
	// one VM without a forecast: the sum is shown all the same once it waits no longer
	m.Apply(event(4, hostOf("a", t0, 1, 2, 3)))
	m.Apply(event(5, forecast(101, "a", 3000, 1, 2)))
	if h, _ := m.Host("a", t0); h.Sum.Issued != 100 {
		t.Error("an incomplete sum is shown at once")
	}
	m.Tick(t0.Add(2 * time.Second))
	if h, _ := m.Host("a", t0); h.Sum.Issued != 101 || h.Sum.VMs != 2 || h.Running != 3 {
		t.Errorf("issue %d of %d VMs, %d run", h.Sum.Issued, h.Sum.VMs, h.Running)
	}
	// the VM has moved: from then on its forecast counts there
	m.Apply(event(6, hostOf("b", t0, 1)))
	m.Apply(event(7, hostOf("a", t0, 2)))
	m.Apply(event(8, forecast(102, "a", 1000, 1, 2)))
	m.Tick(t0.Add(4 * time.Second))
	a, _ := m.Host("a", t0)
	b, _ := m.Host("b", t0)
	if a.Sum.VMs != 1 || b.Sum.VMs != 1 {
		t.Errorf("a sums %d, b %d", a.Sum.VMs, b.Sum.VMs)
	}
}

func steps(step schemas.Step, h schemas.HostID, revision int, cpu ...float32) *schemas.Steps {
	s := &schemas.Steps{Step: step, Revision: revision, Base: time.Minute}
	for i, y := range cpu {
		s.VM, s.Host, s.Flags = append(s.VM, id(i+1)), append(s.Host, h), append(s.Flags, 0)
		s.Cols[schemas.ColCPU] = append(s.Cols[schemas.ColCPU], y)
	}
	return s
}

func TestPastIsADayWithGaps(t *testing.T) {
	m := New(time.Minute)
	m.Apply(event(1, hostOf("a", t0, 1, 2)))
	nan := schemas.NaN()
	m.Apply(event(1, steps(1000, "a", 0, 100, 200)))
	m.Apply(event(2, steps(1002, "a", 0, 300, nan)))
	m.Apply(event(3, steps(1000, "a", 1, 150, 200))) // came late
	v, _ := m.VM(id(1))
	n := len(v.Steps)
	if n != past || v.Steps[n-1] != 1002 || v.Actual[0][n-1] != 300 || !math.IsNaN(v.Actual[0][n-2]) || math.Abs(v.Actual[0][n-3]-150) > 1 {
		t.Errorf("past ends with %v %v", v.Steps[n-3:], v.Actual[0][n-3:])
	}
	h, _ := m.Host("a", t0)
	if a := h.Actual[0]; a[n-1] != 300 || math.Abs(a[n-3]-350) > 2 {
		t.Errorf("the host's past ends with %v", a[n-3:])
	}
	m.Apply(event(4, steps(1002+2*past, "a", 0, 7, 8)))
	v, _ = m.VM(id(1))
	for i, y := range v.Actual[0][:past-1] {
		if !math.IsNaN(y) {
			t.Fatalf("step %d has %v from two days ago", i, y)
		}
	}
}

func TestForecastsAreHeldAgainstWhatCame(t *testing.T) {
	m := New(time.Minute)
	m.Apply(event(1, hostOf("a", t0, 1)))
	for s := schemas.Step(1); s <= 200; s++ {
		m.Apply(event(uint64(s), steps(s, "a", 0, float32(s%10))))
		m.Apply(event(uint64(s), forecast(s, "a", 10, 1))) // quantiles 0.1, 0.5, 1 ... 9.9
	}
	c := m.Learning().Checks[0][0]
	if c.N != 199 {
		t.Fatalf("%d comparisons, want 199", c.N)
	}
	for k, want := range map[int]float64{2: .2, 6: .6, 10: 1} { // 0..9 at or below 1, 5, 9
		if got := float64(c.Under[k]) / float64(c.N); math.Abs(got-want) > .02 {
			t.Errorf("at or below level %v: %.3f, want %.2f", schemas.Levels[k], got, want)
		}
	}
	if got := c.Error / float64(c.N); math.Abs(got-2.5) > .1 {
		t.Errorf("median is off by %.2f, want 2.5", got)
	}
	if m.Learning().Checks[2][0].N != 200-72 {
		t.Errorf("%d comparisons 72 steps ahead", m.Learning().Checks[2][0].N)
	}
}

// The console, the command line and the API explain in the same words.
func TestSameWordsAsTheView(t *testing.T) {
	events := []streams.Event{
		event(1, hostOf("a", t0, 1, 2)), event(2, hostOf("b", t0.Add(-time.Hour))),
		event(3, &schemas.PressureHost{Host: "a", Site: "s", Score: .8, Resource: "cpu", Peak: 12000, Limit: 10000, Onset: t0.Add(time.Minute)}),
		event(4, &schemas.PressureVM{VM: id(1), Host: "a", Cause: schemas.CauseHostContention, Score: .8, Resource: "cpu", Onset: t0.Add(time.Minute),
			Chances: map[string]schemas.Chance{"cpu": {H1: .2, H6: .7, H24: .8}}, Why: []schemas.Why{{Text: "vm-1 asks for 7 cores"}}}),
		event(5, &schemas.PressureVM{VM: id(2), Host: "a", Cause: schemas.CauseOwnLimit, Score: .5, Resource: "memory", Advice: string(schemas.ReasonResizeAdvised)}),
		event(6, &schemas.Benefit{VM: id(1), Host: "a", Reason: schemas.Reason{Code: schemas.ReasonNoBenefit, Detail: "every move costs more"},
			WhyNot: []schemas.Decline{{Host: "b", Reason: schemas.Reason{Code: schemas.ReasonStale, Detail: "silent"}}}}),
		event(7, &schemas.Command{ID: "c", VM: id(2), Name: "vm-2", Source: "b", Destination: "a", Issued: t0}),
		event(8, &schemas.Outcome{Command: "c", VM: id(2), Result: schemas.ResultSucceeded, Time: t0, Duration: 3}),
		event(9, &schemas.Plan{ID: "p", Time: t0, Declined: []schemas.Decline{{VM: id(1), Host: "a", Reason: schemas.Reason{Code: schemas.ReasonBudgetHost, Detail: "1 of 1 moves are taken"}}}}),
		event(10, &schemas.Shortfall{Site: "s", Resource: "cpu", Onset: t0.Add(time.Hour), Amount: 500}),
	}
	m := New(time.Minute)
	for _, e := range events {
		m.Apply(e)
	}
	now := t0.Add(time.Second)
	v := console.Build(events, now)
	v.Policy = m.Summary(now).Policy
	for i := range v.VMs {
		want := v.Explain(&v.VMs[i]).String()
		one := m.View(now, &v.VMs[i].ID)
		if got := one.Explain(&one.VMs[0]).String(); got != want {
			t.Errorf("of one VM\n%s\nof the view\n%s", got, want)
		}
	}
	if got, want := explain.OfFleet(m.FleetFacts(now)).String(), v.ExplainFleet().String(); got != want {
		t.Errorf("of the fleet\n%s\nof the view\n%s", got, want)
	}
}

func TestNothingGrowsForEver(t *testing.T) {
	m := New(time.Minute)
	m.Apply(event(1, hostOf("a", t0, 1, 2, 3)))
	for i := range 3 * maxMoves {
		c := schemas.CommandID(fmt.Sprint("c", i))
		m.Apply(event(uint64(2*i+1), &schemas.Command{ID: c, VM: id(1)}))
		m.Apply(event(uint64(2*i+2), &schemas.Outcome{Command: c, VM: id(1), Result: schemas.ResultFailed}))
		m.Apply(event(uint64(i), &schemas.Plan{ID: schemas.PlanID(fmt.Sprint("p", i)), Time: t0.Add(time.Duration(i)), Actions: []schemas.Action{{ID: c}}}))
		m.Apply(event(uint64(i+1), &schemas.Act{Act: schemas.ActPause}))
	}
	if len(m.moves) > maxMoves+1 || len(m.order) != len(m.moves) || len(m.plans) > maxPlans || len(m.said) > maxSaid || len(m.progress) != 0 {
		t.Errorf("%d moves, %d in order, %d plans, %d acts, %d progresses", len(m.moves), len(m.order), len(m.plans), len(m.said), len(m.progress))
	}
	m.Apply(event(1, hostOf("a", t0.Add(time.Minute), 1)))
	m.Tick(t0.Add(forgetAfter + 2*time.Minute))
	if len(m.vms) != 1 {
		t.Errorf("%d VMs are kept, of which one is left", len(m.vms))
	}
	m.Tick(t0.Add(25 * time.Hour))
	if len(m.hosts) != 0 {
		t.Error("a host that is silent for a day is kept")
	}
}

func TestVMOnTwoHosts(t *testing.T) {
	m := New(time.Minute)
	m.Apply(event(1, hostOf("a", t0, 1)))
	m.Apply(event(2, hostOf("b", t0, 1)))
	if s := m.Summary(t0); len(s.Twice) != 1 || len(s.Twice[0].Hosts) != 2 {
		t.Fatalf("a VM that runs twice is not told: %+v", s.Twice)
	}
	m.Apply(event(3, hostOf("a", t0.Add(time.Second))))
	if s := m.Summary(t0); len(s.Twice) != 0 {
		t.Fatal("it is told when it no longer does")
	}
}

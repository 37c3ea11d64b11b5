package placer

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/foreshift/foreshift/placer/internal/fleettest"
	"github.com/foreshift/foreshift/placer/trust"
	"github.com/foreshift/foreshift/schemas"
	"github.com/foreshift/foreshift/streams"
	"pgregory.net/rapid"
)

// overTheBus is a message as a reader gets it.
func overTheBus[M schemas.Message](t rapid.TB, m M) M {
	b, err := schemas.Encode(m)
	if err != nil {
		t.Fatal(err)
	}
	back, err := schemas.Decode(m.Kind(), b)
	if err != nil {
		t.Fatal(err)
	}
	return back.(M)
}

// readAgain is what a reader of the streams finds who starts where the plan says.
func readAgain(rec *schemas.Plan, log []streams.Event) []streams.Event {
	var out []streams.Event
	for _, in := range ReadWhat(rec, schemas.Time(rec.Cut.Now)) {
		for _, e := range log {
			old := schemas.Time(rec.Cut.Now).Sub(schemas.Time(e.Time))
			if e.Stream == in.Stream && (in.From != streams.FromSeq || e.Seq >= in.Seq) && (in.From != streams.FromSince || old <= in.Since) {
				out = append(out, e)
			}
		}
	}
	return out
}

// Every plan that a placer publishes is made again, to its id, from the streams read
// from where the plan says, stream after stream, and from its basis; with a message
// held back the difference is seen.
func TestEveryPlanIsDerivedAgain(t *testing.T) {
	plans, kept, commanded, learned := 0, 0, 0, 0
	rapid.Check(t, func(t *rapid.T) {
		l := newLive(t, rapid.SampledFrom([]schemas.Mode{schemas.ModeAuto, schemas.ModeApprove, schemas.ModeRecommend}).Draw(t, "mode"))
		if rapid.Bool().Draw(t, "learned") {
			for b := range l.d.fleet.Memory.Trust.Sums {
				l.d.fleet.Memory.Trust.Sums[b] = trust.Sums{Steps: 400, Stays: 10, Paths: 40, Among: 20, Between: 40, Own: 160}
			}
		}
		n := rapid.IntRange(2, 4).Draw(t, "hosts")
		for h := 0; h < n; h++ {
			l.w.Hosts = append(l.w.Hosts, fleettest.Host{ID: schemas.HostID(fmt.Sprintf("h%d", h)), Site: "s1", Cores: 8, GiB: 64, Simulated: true})
		}
		for i := 0; i < 3*n; i++ {
			l.w.VMs = append(l.w.VMs, fleettest.VM{Name: fmt.Sprintf("v%d", i), Host: l.w.Hosts[rapid.IntRange(0, n-1).Draw(t, "on")].ID, Cores: rapid.Float64Range(.2, 3).Draw(t, "cpu"), GiB: 2,
				Peak: fleettest.Peak{From: l.w.Step() + schemas.Step(rapid.IntRange(2, 20).Draw(t, "in")), Len: 10, Cores: 5, In: rapid.IntRange(1, 12).Draw(t, "of12")}})
		}
		var log []streams.Event
		var published []*schemas.Plan
		see := func(outs []streams.Out) {
			for _, o := range outs {
				switch m := o.Msg.(type) {
				case *schemas.Plan:
					published = append(published, overTheBus(t, m))
					log = append(log, l.event("PLANS", overTheBus(t, m)))
				case *schemas.Command:
					commanded++
					if rapid.Bool().Draw(t, "slow") { // it comes back on the bus with the next step
						l.flying = append(l.flying, m)
						continue
					}
					log = append(log, l.event("MIGRATIONS", m))
				}
			}
		}
		told := 0
		turn := func() {
			for ; told < len(log); told++ {
				if err := l.d.Apply(log[told]); err != nil {
					t.Fatal(err)
				}
			}
			see(l.d.Tick(l.cut()))
		}
		for i := 0; i < 6; i++ {
			log = append(log, l.round()...)
			turn()
			if len(published) > 0 && rapid.IntRange(0, 2).Draw(t, "word") == 0 {
				l.w.Now = l.w.Now.Add(50 * time.Millisecond)
				a := &schemas.Act{ID: fmt.Sprint(i), Act: rapid.SampledFrom([]schemas.ActKind{schemas.ActApprove, schemas.ActApprove, schemas.ActSkip}).Draw(t, "act"), Plan: published[len(published)-1].ID, Time: l.w.Now}
				log = append(log, l.event("ACTS", a))
			}
			l.w.Now = l.w.Now.Add(300 * time.Millisecond)
			turn()
		}
		for _, rec := range published {
			if len(rec.Basis.Persistence) > 0 {
				learned++
			}
			plans++
			if rec.Basis.Kept {
				kept++
			}
			events := readAgain(rec, log)
			got, err := Derive(rec, events)
			if err != nil {
				t.Fatal(err)
			}
			if diff := Differences(rec, &got.Plan); len(diff) > 0 || got.Plan.ID != rec.ID {
				t.Fatalf("plan %s (kept %v) is not derived again: %s", rec.ID, rec.Basis.Kept, strings.Join(diff, "\n"))
			}
		}
	})
	t.Logf("%d plans, %d of them of kept actions, %d with learned weights; %d commands", plans, kept, learned, commanded)
	if plans == 0 || kept == 0 || commanded == 0 || learned == 0 || learned == plans {
		t.Errorf("%d plans, %d of kept actions, %d with learned weights, %d commands: the test looks at too little", plans, kept, learned, commanded)
	}
}

// squeezed is a fleet in which one host will run short, and the plan that mends it.
func squeezed(t *testing.T) (*live, []streams.Event, *schemas.Plan) {
	t.Helper()
	l := newLive(t, schemas.ModeRecommend)
	l.w.Hosts = []fleettest.Host{{ID: "a", Site: "s1", Cores: 8, GiB: 64, Simulated: true}, {ID: "b", Site: "s1", Cores: 8, GiB: 64, Simulated: true}}
	l.w.VMs = []fleettest.VM{{Name: "db", Host: "a", Cores: 4, GiB: 4}, {Name: "web", Host: "a", Cores: 2, GiB: 4, Peak: fleettest.Peak{From: l.w.Step() + 12, Len: 30, Cores: 7, In: 12}}}
	var log []streams.Event
	for range 4 {
		es := l.round()
		log = append(log, es...)
		for _, o := range tick(t, l.d, es, l.cut()) {
			if p, ok := o.Msg.(*schemas.Plan); ok && len(p.Actions) > 0 {
				return l, log, overTheBus(t, p)
			}
		}
	}
	t.Fatal("no plan with a move")
	return nil, nil, nil
}

// Another past gives another plan, and the difference is told.
func TestAnotherPastIsSeen(t *testing.T) {
	_, log, rec := squeezed(t)
	var some []streams.Event
	for _, e := range log {
		if m, ok := e.Msg.(*schemas.Forecasts); !ok || m.VM[0] != fleettest.ID("web") {
			some = append(some, e)
		}
	}
	got, err := Derive(rec, some)
	if err != nil {
		t.Fatal(err)
	}
	if diff := Differences(rec, &got.Plan); len(diff) == 0 {
		t.Error("without the forecast of web the plan cannot be the same")
	}
	old := *rec
	old.Basis = schemas.PlanBasis{}
	if _, err := Derive(&old, log); err == nil || !strings.Contains(err.Error(), "did not record") {
		t.Errorf("a plan without a basis: %v", err)
	}
}

// Without a forecast nothing is seen of a peak that has not begun.
func TestWithoutTheForecast(t *testing.T) {
	_, log, rec := squeezed(t)
	alone, err := Without(rec, log)
	if err != nil {
		t.Fatal(err)
	}
	if len(rec.Actions) == 0 || len(alone.Plan.Actions) != 0 || alone.Plan.Before > .05*rec.Before {
		t.Errorf("with the forecast %d moves, %.0f core-seconds; without %d, %.0f", len(rec.Actions), rec.Before, len(alone.Plan.Actions), alone.Plan.Before)
	}
}

package plan

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/foreshift/foreshift/placer/internal/fleettest"
	"github.com/foreshift/foreshift/placer/policy"
	"github.com/foreshift/foreshift/placer/search"
	"github.com/foreshift/foreshift/schemas"
)

// auto is a policy under which plans act at once.
func auto() policy.Policy {
	p := policy.Default()
	p.Mode, p.HoldSteps, p.MaxPerHost, p.MaxPerCluster, p.MaxPerHour = schemas.ModeAuto, 0, 4, 20, 100
	return p
}

func hostsOf(w *fleettest.World, cores, gib float64, names ...schemas.HostID) {
	for _, n := range names {
		w.Hosts = append(w.Hosts, fleettest.Host{ID: n, Site: "s1", Cores: cores, GiB: gib, Simulated: true})
	}
}

func vmOn(w *fleettest.World, name string, host schemas.HostID, cores, gib float64) {
	w.VMs = append(w.VMs, fleettest.VM{Name: name, Host: host, Cores: cores, GiB: gib})
}

func decide(t *testing.T, w *fleettest.World, p policy.Policy, evaluations int) *schemas.Plan {
	t.Helper()
	pl := Decide(fold(t, w, inputs(w)), p, cut(w), search.Budget{Evaluations: evaluations}, 3)
	if err := pl.Validate(); err != nil {
		t.Fatal(err)
	}
	return &pl
}

// where carries a plan out and reports each host's load in cores.
func where(t *testing.T, w *fleettest.World, pl *schemas.Plan) map[schemas.HostID]float64 {
	t.Helper()
	load := map[schemas.HostID]float64{}
	for i := range pl.Actions {
		v, err := w.VM(pl.Actions[i].Name)
		if err != nil {
			t.Fatal(err)
		}
		v.Host = pl.Actions[i].Destination
	}
	for _, v := range w.VMs {
		load[v.Host] += v.Cores
	}
	return load
}

// A move that is planned stays so while it still brings most of the least benefit, so that
// plans do not flap; it begins only once it brings all of it. One that nobody planned is
// not planned for less.
func TestPlannedStaysButDoesNotBegin(t *testing.T) {
	w, p := threeHosts(), auto()
	was := decide(t, w, p, 2000).Actions
	if len(was) != 1 {
		t.Fatalf("%d moves, want one", len(was))
	}
	for share, begins := range map[float64]bool{1.02: true, .85: false, .6: false} {
		p.MinBenefit = was[0].Predicted.Gain.Benefit / share
		f := fold(t, w, inputs(w))
		if fresh := Prepare(f, p, cut(w)).Decide(search.Budget{}, 1).Plan; begins != (len(fresh.Actions) == 1) {
			t.Errorf("at %g of the least a new plan has %d moves", share, len(fresh.Actions))
		}
		f.Memory.Plan, f.Memory.Step = was, w.Step()
		s := Prepare(f, p, cut(w))
		if kept := s.Decide(search.Budget{}, 1).Plan; (share > sticky) != (len(kept.Actions) == 1) {
			t.Errorf("at %g of the least the plan keeps %d moves", share, len(kept.Actions))
		}
		if why := Prepare(f, p, cut(w)).Check(&was[0]); why.OK() != begins || !begins && why.Code != schemas.ReasonBelowMinimum {
			t.Errorf("at %g of the least it begins: %v", share, why)
		}
	}
}

// No single move helps enough here: the other host is too full for either VM of the
// pressed one, until one of its own makes room.
func TestExchange(t *testing.T) {
	w := fleettest.New(5 * time.Minute)
	hostsOf(w, 10, 64, "a", "b")
	vmOn(w, "a1", "a", 6.5, 8)
	vmOn(w, "a2", "a", 6, 8)
	vmOn(w, "b1", "b", 3, 8)
	vmOn(w, "b2", "b", 3.2, 8)
	pl := decide(t, w, auto(), 8000)
	if len(pl.Actions) != 2 {
		t.Fatalf("want an exchange of two, got %d moves; declined %v", len(pl.Actions), pl.Declined)
	}
	first, second := &pl.Actions[0], &pl.Actions[1]
	if first.Source != "a" || second.Source != "b" || second.After != first.ID || len(first.Helpers) != 1 || first.Helpers[0].VM != second.VM {
		t.Errorf("the exchange is not bound together: %+v then %+v", first, second)
	}
	s := Prepare(fold(t, w, inputs(w)), auto(), cut(w))
	if why := s.Check(second); why.Code != schemas.ReasonNotDue {
		t.Errorf("room is made before anybody comes: %v", why)
	}
	if why := s.Check(first); !why.OK() {
		t.Errorf("the first may not start: %v", why)
	}
	s.Take(first)
	if why := s.Check(second); !why.OK() {
		t.Errorf("once the first has begun, the second may not: %v", why)
	}
	if load := where(t, w, pl); load["a"] > 10 || load["b"] > 10 {
		t.Errorf("load afterwards: %v", load)
	}
}

// A newcomer is never sent to a host whose memory is still held, though whoever holds it
// is about to go, or has just been told to.
func TestRoomOnlyOnceTheyHaveLeft(t *testing.T) {
	w := fleettest.New(5 * time.Minute)
	hostsOf(w, 10, 64, "a", "c")
	hostsOf(w, 10, 20, "b")
	vmOn(w, "a1", "a", 6.5, 8)
	vmOn(w, "a2", "a", 6, 8)
	vmOn(w, "b1", "b", 3, 8)
	vmOn(w, "b2", "b", 3.2, 8)
	leave := schemas.Action{ID: "m-1", VM: fleettest.ID("b1"), Name: "b1", Source: "b", Destination: "c"}
	come := schemas.Action{ID: "m-2", VM: fleettest.ID("a2"), Name: "a2", Source: "a", Destination: "b", Helpers: []schemas.Helper{{VM: leave.VM, Destination: "c"}}}
	s := Prepare(fold(t, w, inputs(w)), auto(), cut(w))
	if why := s.Check(&come); why.Code != schemas.ReasonNoRoom {
		t.Errorf("before b1 has been told to go, a2 is sent: %v", why)
	}
	s.Take(&leave)
	if why := s.Check(&come); why.Code != schemas.ReasonNoRoom {
		t.Errorf("before b1 has gone, a2 is sent: %v", why)
	}
	if come.Helpers = nil; s.Check(&come).Code != schemas.ReasonNoRoom {
		t.Error("before b1 has gone, a2 is sent though it counts on nobody")
	}
}

// A host is emptied in turns, whatever its pressure and whatever that costs.
func TestDrainGoesFirstAndTakesTurns(t *testing.T) {
	w := fleettest.New(5 * time.Minute)
	hostsOf(w, 16, 64, "a", "b", "c")
	for i := range 5 {
		vmOn(w, fmt.Sprintf("v%d", i), "a", 1, float64(2+i))
	}
	p := auto()
	p.Draining, p.MaxPerHost = []schemas.HostID{"a"}, 1
	pl := decide(t, w, p, 1000)
	if len(pl.Actions) != 5 {
		t.Fatalf("%d of 5 VMs leave: %v", len(pl.Actions), pl.Declined)
	}
	for i := 1; i < len(pl.Actions); i++ {
		before := &pl.Actions[i-1]
		if end := before.Due.Add(time.Duration(float64(before.Predicted.Duration) * float64(time.Second))); pl.Actions[i].Due < end-1000 {
			t.Errorf("move %d leaves %s before the one ahead has arrived", i, pl.Actions[i].Source)
		}
	}
	if p.RulesOnly = true; len(decide(t, w, p, 1000).Actions) != 5 {
		t.Error("rules only: a drain is a rule")
	}
	p.Draining = nil
	if pl := decide(t, w, p, 1000); len(pl.Actions) != 0 {
		t.Errorf("nothing is asked and %d VMs move", len(pl.Actions))
	}
}

// Two VMs that share a host and must not: one moves, the one with less memory.
func TestBrokenRuleIsMendedWithOneMove(t *testing.T) {
	w := fleettest.New(5 * time.Minute)
	hostsOf(w, 16, 64, "a", "b")
	vmOn(w, "big", "a", 1, 16)
	vmOn(w, "small", "a", 1, 2)
	p := auto()
	p.RulesOnly = true
	p.Apart = [][]schemas.VMID{{fleettest.ID("big"), fleettest.ID("small")}}
	pl := decide(t, w, p, 1000)
	if len(pl.Actions) != 1 || pl.Actions[0].Name != "small" {
		t.Fatalf("want the small one to move, got %v", pl.Actions)
	}
}

// x can only go where y has left, so it waits for it.
func TestMoveWaitsForRoom(t *testing.T) {
	w := fleettest.New(5 * time.Minute)
	hostsOf(w, 16, 20, "a", "b", "c")
	vmOn(w, "x", "a", 1, 12)
	vmOn(w, "y", "b", 1, 12)
	s := Prepare(fold(t, w, inputs(w)), auto(), cut(w))
	b := s.newBoard(nil, nil)
	x, y := s.candidate(0), s.candidate(1)
	x.duty, y.duty = no(schemas.ReasonDraining, "test"), no(schemas.ReasonDraining, "test")
	b.put(y, 2)
	b.put(x, 1)
	s.rejudge(x)
	s.rejudge(y)
	b.order()
	if len(b.moves) != 2 || x.best.due < y.best.end {
		t.Errorf("x starts %v, y ends %v, %d moves", x.best.due, y.best.end, len(b.moves))
	}
}

// x and y want each other's room, and nobody has more: both cannot go, and one of them
// takes the way round if there is one.
func TestCircleIsBroken(t *testing.T) {
	for _, third := range []float64{4, 20} {
		w := fleettest.New(5 * time.Minute)
		hostsOf(w, 16, 20, "a", "b")
		hostsOf(w, 16, third, "c")
		vmOn(w, "x", "a", 1, 12)
		vmOn(w, "y", "b", 1, 14)
		s := Prepare(fold(t, w, inputs(w)), auto(), cut(w))
		b := s.newBoard(nil, nil)
		x, y := s.candidate(0), s.candidate(1)
		x.duty, y.duty = no(schemas.ReasonDraining, "test"), no(schemas.ReasonDraining, "test")
		b.put(x, 1)
		b.put(y, 0)
		b.first = 2
		s.rejudge(x)
		s.rejudge(y)
		b.order()
		if third == 4 && len(b.moves) != 0 {
			t.Errorf("no room anywhere, and %d move", len(b.moves))
		}
		if third == 20 && (x.dest != 2 || y.dest != 0 || y.best.due < x.best.end) {
			t.Errorf("x goes to %d, y to %d at %v after %v", x.dest, y.dest, y.best.due, x.best.end)
		}
	}
}

func TestPackingEmptiesAHostWholeOrNotAtAll(t *testing.T) {
	w := fleettest.New(5 * time.Minute)
	hostsOf(w, 10, 64, "a", "b", "c")
	vmOn(w, "a1", "a", 4, 8)
	vmOn(w, "b1", "b", 3, 8)
	vmOn(w, "c1", "c", 1, 4)
	vmOn(w, "c2", "c", .5, 4)
	p := auto()
	p.PackTarget = .6
	pl := decide(t, w, p, 1000)
	for i := range pl.Actions {
		if pl.Actions[i].Source != "c" {
			t.Errorf("%s leaves %s", pl.Actions[i].Name, pl.Actions[i].Source)
		}
	}
	if len(pl.Actions) != 2 {
		t.Fatalf("%d moves, want both VMs of c", len(pl.Actions))
	}
	p.PackTarget = .41
	if pl := decide(t, w, p, 1000); len(pl.Actions) != 0 {
		t.Errorf("above the target, and %d move", len(pl.Actions))
	}
}

// The terms of a benefit add up to it.
func TestTermsAddUp(t *testing.T) {
	w := bigWorld(20, 200, 3)
	dec := Prepare(fold(t, w, inputs(w)), auto(), cut(w)).Decide(search.Budget{Evaluations: 4000}, 1)
	moves := 0
	for _, b := range dec.Benefits {
		if b.Destination == "" {
			continue
		}
		moves++
		sum := 0.0
		for _, x := range b.Gain.Terms {
			sum += x.Amount
		}
		if math.Abs(sum-b.Gain.Benefit) > 1e-4*(1+math.Abs(b.Gain.Before)) {
			t.Fatalf("terms %v make %g, not %g", b.Gain.Terms, sum, b.Gain.Benefit)
		}
	}
	if moves == 0 {
		t.Fatal("nothing to add up")
	}
}

// Plans are carried out until there is none; then nothing moves, whatever the seed.
func TestSettledFleetMovesNothing(t *testing.T) {
	w := bigWorld(12, 120, 9)
	p := auto()
	for round := 0; ; round++ {
		pl := decide(t, w, p, 3000)
		if len(pl.Actions) == 0 {
			break
		}
		if round == 20 {
			t.Fatal("twenty plans and no end")
		}
		where(t, w, pl)
	}
	f := fold(t, w, inputs(w))
	for seed := range uint64(100) {
		if pl := Decide(f, p, cut(w), search.Budget{Evaluations: 400}, seed); len(pl.Actions) > 0 {
			t.Fatalf("seed %d moves %d VMs of a settled fleet", seed, len(pl.Actions))
		}
	}
}

// Whatever is tried and made, the changes that tries report add up to that of the
// objective: unmet demand and wishes, prices, and the least that each move must bring.
func TestTriesReportTheChange(t *testing.T) {
	n := annealing(t)
	s, r := n.b.s, n.b.rng
	objective := func() float64 {
		sum := s.sums.total()
		for _, c := range n.b.moves {
			sum += s.way(c, c.dest).price.sum() + s.least(c, c.dest)
		}
		for _, members := range s.rules.softTogether.members {
			for _, i := range members {
				for _, j := range members {
					sum += s.ruleCost * is(i < j && s.at[i] != s.at[j])
				}
			}
		}
		for _, members := range s.rules.talks.members {
			for _, i := range members {
				for _, j := range members {
					if i < j {
						sum += s.rttCost * (s.rules.rtt[int(s.V.Hosts[s.at[i]].Site)*len(s.V.Sites)+int(s.V.Hosts[s.at[j]].Site)] - s.rules.rtt[0])
					}
				}
			}
		}
		return sum
	}
	before, made := objective(), 0
	for k := range 1500 {
		d, ok := n.Try(r, 300*r.ExpFloat64())
		if !ok {
			d = 0
		}
		made += int(is(ok))
		after := objective()
		if math.Abs(after-before-d) > 1e-6*(1+after) {
			t.Fatalf("try %d reports %g, the objective went from %g to %g", k, d, before, after)
		}
		before = after
	}
	if made < 100 {
		t.Errorf("only %d of the tries were made", made)
	}
}

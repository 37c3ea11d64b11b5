package plan

import (
	"fmt"
	"testing"
	"time"

	"github.com/foreshift/foreshift/placer/internal/fleettest"
	"github.com/foreshift/foreshift/placer/policy"
	"github.com/foreshift/foreshift/placer/search"
	"github.com/foreshift/foreshift/schemas"
)

// threeHosts is host a at site s1, which will run short, b beside it and c at site s2.
func threeHosts() *fleettest.World {
	w := fleettest.New(5 * time.Minute)
	hostsOf(w, 8, 64, "a", "b", "c")
	w.Hosts[2].Site = "s2"
	w.Links = []schemas.CapacityLink{{A: "s1", B: "s2", Time: w.Now, RTT: 20, Bandwidth: 1e9, Free: 1e9}}
	vmOn(w, "x", "a", 5, 4)
	vmOn(w, "y", "a", 5, 40)
	return w
}

// told folds a world whose reports somebody has changed.
func told(t *testing.T, w *fleettest.World, p policy.Policy, change func(*schemas.CapacityHost)) *State {
	t.Helper()
	in := inputs(w)
	for i := range in {
		if m, ok := in[i].Msg.(*schemas.CapacityHost); ok && change != nil {
			change(m)
		}
	}
	return Prepare(fold(t, w, in), p, cut(w))
}

// goes is where the one move of a plan takes whom; empty when nothing moves.
func goes(t *testing.T, s *State) string {
	t.Helper()
	pl := s.Decide(search.Budget{Evaluations: 2000}, 1).Plan
	if len(pl.Actions) > 1 {
		t.Fatalf("%d moves, want at most one", len(pl.Actions))
	}
	for _, a := range pl.Actions {
		return a.Name + " to " + string(a.Destination)
	}
	return ""
}

func code(s *State, vm string, host schemas.HostID) schemas.ReasonCode {
	for _, d := range s.Rank(s.V.VMIndex(fleettest.ID(vm))) {
		if d.Host == host {
			return d.Reason.Code
		}
	}
	return ""
}

// Each rule turns the same decision another way, and Rank says which it was.
func TestRulesDecide(t *testing.T) {
	label := func(w *fleettest.World, k, v string, vms ...string) {
		for _, n := range vms {
			for i := range w.VMs {
				if w.VMs[i].Name == n {
					if w.VMs[i].Labels == nil {
						w.VMs[i].Labels = map[string]string{}
					}
					w.VMs[i].Labels[k] = v
				}
			}
		}
	}
	const gib = 1 << 30
	tenant := func(used float64) func(*fleettest.World, *policy.Policy) {
		return func(w *fleettest.World, p *policy.Policy) {
			vmOn(w, "z", "b", .5, used)
			p.Pinned = []schemas.VMID{fleettest.ID("y")}
		}
	}
	promises := func(alloc, over float64) func(*schemas.CapacityHost) {
		return func(m *schemas.CapacityHost) {
			m.Overcommit.Mem = schemas.Ratio(over)
			for i := range m.VMs {
				if m.VMs[i].Name == "z" {
					m.VMs[i].AllocMem = schemas.Bytes(alloc * gib)
				}
			}
		}
	}
	for _, c := range []struct {
		name   string
		change func(w *fleettest.World, p *policy.Policy)
		report func(m *schemas.CapacityHost)
		want   string
		not    schemas.HostID // x may not go there
		why    schemas.ReasonCode
	}{
		{name: "nothing is asked: the one with less to send, to the nearer", want: "x to b"},
		{name: "residency keeps it at its site, and the site's other host is full", want: "y to c", not: "c", why: schemas.ReasonResidency, change: func(w *fleettest.World, p *policy.Policy) {
			label(w, "data", "eu", "x")
			p.Residency = []schemas.Residency{{Match: map[string]string{"data": "eu"}, Sites: []schemas.SiteID{"s1"}}}
			vmOn(w, "z", "b", 7.5, 4)
		}},
		{name: "residency at the other site: it has to leave, whatever it brings", want: "x to c", not: "b", why: schemas.ReasonResidency, change: func(w *fleettest.World, p *policy.Policy) {
			label(w, "data", "us", "x")
			w.VMs[1].Cores = 1
			p.Residency = []schemas.Residency{{Match: map[string]string{"data": "us"}, Sites: []schemas.SiteID{"s2"}}}
		}},
		{name: "spread: one of the group is on b already", want: "x to c", not: "b", why: schemas.ReasonSpread, change: func(w *fleettest.World, p *policy.Policy) {
			vmOn(w, "z", "b", .5, 1)
			label(w, "tier", "web", "x", "z")
			p.Spread = []schemas.Spread{{Label: "tier", By: schemas.SpreadByHost, Most: 1}}
			p.Pinned = []schemas.VMID{fleettest.ID("y")}
		}},
		{name: "apart", want: "x to c", not: "b", why: schemas.ReasonAntiAffinity, change: func(w *fleettest.World, p *policy.Policy) {
			vmOn(w, "z", "b", .5, 1)
			label(w, policy.LabelApart, "g", "x", "z")
			p.Pinned = []schemas.VMID{fleettest.ID("y")}
		}},
		{name: "apart as a wish weighs more than the way", want: "x to c", change: func(w *fleettest.World, p *policy.Policy) {
			vmOn(w, "z", "b", .5, 1)
			label(w, policy.LabelSoftApart, "g", "x", "z")
			p.Pinned, p.RuleWeight = []schemas.VMID{fleettest.ID("y")}, 5000
		}},
		{name: "together as a wish draws it to the other site", want: "x to c", change: func(w *fleettest.World, p *policy.Policy) {
			vmOn(w, "z", "c", .5, 1)
			label(w, policy.LabelSoftTogether, "g", "x", "z")
			p.Pinned, p.RuleWeight = []schemas.VMID{fleettest.ID("y")}, 5000
		}},
		{name: "it goes to the site of those it talks with", want: "x to c", change: func(w *fleettest.World, p *policy.Policy) {
			vmOn(w, "z", "c", .5, 1)
			label(w, policy.LabelTalks, "g", "x", "z")
			p.Pinned, p.LatencyWeight = []schemas.VMID{fleettest.ID("y")}, 500
		}},
		{name: "or stays at their site", want: "x to b", change: func(w *fleettest.World, p *policy.Policy) {
			vmOn(w, "z", "b", .5, 1)
			label(w, policy.LabelTalks, "g", "x", "z")
			p.Pinned, p.LatencyWeight = []schemas.VMID{fleettest.ID("y")}, 500
		}},
		{name: "a local disk is copied only where it is allowed", want: "y to b", change: func(w *fleettest.World, p *policy.Policy) { w.VMs[0].Local = true }},
		{name: "and to where there is space", want: "x to c", not: "b", why: schemas.ReasonStorage, change: func(w *fleettest.World, p *policy.Policy) {
			w.VMs[0].Local, p.CopyDisks, p.Pinned = true, true, []schemas.VMID{fleettest.ID("y")}
		}, report: func(m *schemas.CapacityHost) {
			for i := range m.VMs {
				for j := range m.VMs[i].Disks {
					m.VMs[i].Disks[j].Size = 10 * gib
				}
			}
			m.Pools = []schemas.StoragePool{{Name: "pool", Path: "/pool", Capacity: 100 * gib, Free: 100 * gib}}
			if m.Host == "b" {
				m.Pools[0].Free = gib
			}
		}},
		{name: "memory that was promised is taken, whoever uses it", want: "x to c", not: "b", why: schemas.ReasonNoRoom, change: tenant(4), report: promises(62, 1)},
		{name: "unless the host may promise more than it has", want: "x to b", change: tenant(4), report: promises(62, 1.5)},
		{name: "but what is in use must be there", want: "x to c", not: "b", why: schemas.ReasonNoRoom, change: tenant(62), report: promises(62, 1.5)},
		{name: "memory dirtied faster than the link carries stays within the site", want: "x to b", not: "c", why: schemas.ReasonCannotConverge, report: func(m *schemas.CapacityHost) {
			for i := range m.VMs {
				m.VMs[i].DirtyRate, m.VMs[i].DirtyHigh = 9e8, 9e8
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w, p := threeHosts(), auto()
			p.MaxPerHost = 1
			if c.change != nil {
				c.change(w, &p)
			}
			s := told(t, w, p, c.report)
			if c.not != "" {
				if got := code(s, "x", c.not); got != c.why {
					t.Errorf("x is kept from %s by %q, want %q", c.not, got, c.why)
				}
			}
			if got := goes(t, s); got != c.want {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}

// Rank tells of every other host, those that may be done first and of them the one that
// brings most; the plan takes the first.
func TestRankIsWhatThePlanDoes(t *testing.T) {
	w := bigWorld(12, 120, 4)
	s := told(t, w, auto(), nil)
	pl := told(t, w, auto(), nil).Decide(search.Budget{}, 1).Plan
	if len(pl.Actions) == 0 {
		t.Fatal("nothing moves: this shows nothing")
	}
	for i := range s.V.VMs {
		all := s.Rank(int32(i))
		if len(all) != len(s.V.Hosts)-1 {
			t.Fatalf("%d hosts are ranked of %d others", len(all), len(s.V.Hosts)-1)
		}
		for k := 1; k < len(all); k++ {
			before, d := &all[k-1], &all[k]
			if before.Reason.OK() == d.Reason.OK() && before.Score < d.Score || d.Reason.OK() && !before.Reason.OK() {
				t.Fatalf("%v stands before %v", *before, *d)
			}
		}
	}
	// The first move of a greedy plan is made on untouched ground.
	best, first := 0.0, &pl.Actions[0]
	for i := range pl.Actions {
		if a := &pl.Actions[i]; a.Predicted.Gain.Benefit > best {
			best, first = a.Predicted.Gain.Benefit, a
		}
	}
	if got := s.Rank(s.V.VMIndex(first.VM))[0]; !got.Reason.OK() {
		t.Errorf("%s moves, and Rank knows of no host for it: %v", first.Name, got)
	}
}

// Moves share a link while their dirty rates together stay below half of it, and take
// turns when they would not.
func TestMovesShareALinkByDirtyRate(t *testing.T) {
	for _, c := range []struct {
		rate     float64 // of each of two VMs, over 1 GB/s
		together bool
	}{{2e8, true}, {3e8, false}, {6e8, false}} {
		w := threeHosts()
		hostsOf(w, 8, 64, "d")
		w.Hosts[3].Site = "s2"
		w.VMs[1].GiB = 4
		p := auto()
		p.Draining, p.MaxPerLink, p.Cordoned = []schemas.HostID{"a"}, 4, []schemas.HostID{"b"}
		s := told(t, w, p, func(m *schemas.CapacityHost) {
			for i := range m.VMs {
				m.VMs[i].DirtyRate, m.VMs[i].DirtyHigh = schemas.BytesPerSecond(c.rate), schemas.BytesPerSecond(c.rate)
			}
		})
		pl := s.Decide(search.Budget{}, 1).Plan
		if len(pl.Actions) != 2 {
			t.Fatalf("%d of 2 VMs leave: %v", len(pl.Actions), pl.Declined)
		}
		x, y := &pl.Actions[0], &pl.Actions[1]
		end := x.Due.Add(time.Duration(float64(x.Predicted.Duration) * 1e9))
		if overlap := y.Due < end-1000; overlap != c.together {
			t.Errorf("dirtying %.1f of the link each: second starts %v after the first, which takes %v", c.rate/1e9, y.Due.Sub(x.Due), end.Sub(x.Due))
		}
	}
}

// A guest that is busy until shortly before its move would be due, and quiet before and
// after, is moved in its quiet time; with nothing to choose between, not before its time.
func TestMoveTakesTheQuietTime(t *testing.T) {
	w := fleettest.New(5 * time.Minute)
	hostsOf(w, 8, 64, "a", "b")
	vmOn(w, "x", "a", .5, 30)
	w.VMs[0].Peak = fleettest.Peak{From: w.Step() + 6, Len: 60, Cores: 4, In: 12}
	vmOn(w, "y", "a", 1, 4)
	w.VMs[1].Peak = fleettest.Peak{From: w.Step() + 20, Len: 40, Cores: 6, In: 12}
	p := auto()
	p.LookAheadSteps = 60
	due := func(rate float64) (now, usual schemas.Time, why schemas.ReasonCode) {
		s := told(t, w, p, func(m *schemas.CapacityHost) {
			for i := range m.VMs {
				m.VMs[i].DirtyRate, m.VMs[i].DirtyHigh = schemas.BytesPerSecond(rate), schemas.BytesPerSecond(20*rate)
			}
		})
		x := s.travel(int(s.V.VMIndex(fleettest.ID("x"))), 0)
		return x.due, x.latest, x.why
	}
	if at, latest, why := due(0); why != schemas.ReasonOK || at < w.Now.Add(30*time.Minute) || at > latest {
		t.Errorf("an idle memory: due %v from now, latest %v, %v; want its usual time", at.Sub(w.Now), latest.Sub(w.Now), why)
	}
	if at, latest, why := due(1.2e8); why != schemas.ReasonOK || at >= w.Now.Add(30*time.Minute) || at > latest {
		t.Errorf("dirty once it is busy: due %v from now, latest %v, %v; want before it gets busy", at.Sub(w.Now), latest.Sub(w.Now), why)
	}
}

// What no placement serves is told, though the site as a whole has room.
func TestShortfallIsWhatNoMoveHelps(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(w *fleettest.World)
		want   float64 // mCPU, 0: none
	}{
		{"a move helps", func(*fleettest.World) {}, 0},
		{"a VM larger than any host", func(w *fleettest.World) { w.VMs[0].Cores = 9 }, 1000},
		{"two that cannot leave", func(w *fleettest.World) { w.VMs[0].Fixed, w.VMs[1].Fixed = true, true }, 2000},
		{"one of them can", func(w *fleettest.World) { w.VMs[0].Fixed = true }, 0},
		{"each on a CPU of its own", func(w *fleettest.World) {
			for i := range w.Hosts {
				w.Hosts[i].CPUModel = string(w.Hosts[i].ID)
			}
		}, 2000},
		{"the others have no room for either", func(w *fleettest.World) { vmOn(w, "b1", "b", 6, 4); vmOn(w, "c1", "c", 6, 4) }, 2000},
		{"nor has one that cannot leave", func(w *fleettest.World) { vmOn(w, "b1", "b", 6, 4); vmOn(w, "c1", "c", 6, 4); w.VMs[0].Fixed = true }, 2000},
		{"nobody knows how far the other site is", func(w *fleettest.World) {
			vmOn(w, "b1", "b", 6, 4)
			w.Links = nil
		}, 0},
		{"the whole site is short", func(w *fleettest.World) { vmOn(w, "z", "b", 7, 4) }, 1000},
	} {
		w := threeHosts()
		c.change(w)
		s := told(t, w, auto(), nil)
		s.Decide(search.Budget{}, 1)
		got := 0.0
		for _, f := range s.Shortfalls() {
			if err := f.Validate(); err != nil {
				t.Error(err)
			}
			if f.Site == "s1" && f.Resource == "cpu" {
				got = f.Amount
			}
		}
		if fmt.Sprintf("%.0f", got) != fmt.Sprintf("%.0f", c.want) {
			t.Errorf("%s: short of %.0f mCPU, want %.0f", c.name, got, c.want)
		}
	}
}

// VMs that must be together leave a drained host, all for the same other one, which has
// room for them all.
func TestDrainTakesAGroupWhole(t *testing.T) {
	w := fleettest.New(5 * time.Minute)
	hostsOf(w, 16, 64, "a", "c")
	hostsOf(w, 16, 18, "b")
	for _, n := range []string{"x", "y", "z"} {
		vmOn(w, n, "a", 1, 8)
	}
	vmOn(w, "o", "c", 6, 8)
	p := auto()
	p.Draining = []schemas.HostID{"a"}
	p.Together = [][]schemas.VMID{{fleettest.ID("x"), fleettest.ID("y"), fleettest.ID("z")}}
	for _, rulesOnly := range []bool{false, true} {
		p.RulesOnly = rulesOnly
		pl := decide(t, w, p, 1000)
		if len(pl.Actions) != 3 {
			t.Fatalf("%d of 3 VMs leave: %v", len(pl.Actions), pl.Declined)
		}
		for i := range pl.Actions {
			if pl.Actions[i].Destination != "c" {
				t.Errorf("%s goes to %s: b has no room for all", pl.Actions[i].Name, pl.Actions[i].Destination)
			}
		}
	}
	// One has gone already: the others follow it.
	w.VMs[0].Host = "c"
	if pl := decide(t, w, p, 1000); len(pl.Actions) != 2 || pl.Actions[0].Destination != "c" || pl.Actions[1].Destination != "c" {
		t.Errorf("the others do not follow: %+v, %v", pl.Actions, pl.Declined)
	}
}

package plan

import (
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"testing"
	"time"

	"github.com/foreshift/foreshift/placer/fleet"
	"github.com/foreshift/foreshift/placer/internal/fleettest"
	"github.com/foreshift/foreshift/placer/policy"
	"github.com/foreshift/foreshift/placer/search"
	"github.com/foreshift/foreshift/schemas"
	"pgregory.net/rapid"
)

// anyWorld draws a small fleet under load.
func anyWorld(t *rapid.T) *fleettest.World {
	w := fleettest.New(5 * time.Minute)
	sites := []schemas.SiteID{"s1", "s2"}
	nh := rapid.IntRange(1, 7).Draw(t, "hosts")
	for h := 0; h < nh; h++ {
		w.Hosts = append(w.Hosts, fleettest.Host{ID: schemas.HostID(fmt.Sprintf("h%d", h)), Site: rapid.SampledFrom(sites).Draw(t, "site"),
			Cores: rapid.Float64Range(4, 16).Draw(t, "cores"), GiB: rapid.Float64Range(16, 64).Draw(t, "gib"), Net: rapid.SampledFrom([]float64{0, 0, 100}).Draw(t, "net"),
			Simulated: true, Silent: rapid.IntRange(0, 9).Draw(t, "silent") == 0})
	}
	nv := rapid.IntRange(0, 25).Draw(t, "vms")
	for i := 0; i < nv; i++ {
		v := fleettest.VM{Name: fmt.Sprintf("v%02d", i), Host: w.Hosts[rapid.IntRange(0, nh-1).Draw(t, "on")].ID,
			Cores: rapid.Float64Range(.1, 4).Draw(t, "cpu"), GiB: rapid.Float64Range(.5, 12).Draw(t, "mem"), Net: rapid.Float64Range(0, 40).Draw(t, "traffic"),
			Fixed: rapid.IntRange(0, 9).Draw(t, "fixed") == 0, Dark: rapid.IntRange(0, 9).Draw(t, "dark") == 0}
		if rapid.Bool().Draw(t, "bursts") {
			v.Peak = fleettest.Peak{From: w.Step() + schemas.Step(rapid.IntRange(0, 30).Draw(t, "in")), Len: rapid.IntRange(1, 60).Draw(t, "for"),
				Cores: rapid.Float64Range(0, 8).Draw(t, "peak"), GiB: rapid.Float64Range(0, 12).Draw(t, "peakmem"), In: rapid.IntRange(1, 12).Draw(t, "of12")}
		}
		w.VMs = append(w.VMs, v)
	}
	w.Links = []schemas.CapacityLink{{A: "s1", B: "s2", Time: w.Now, Bandwidth: 2e8, Free: schemas.BytesPerSecond(rapid.SampledFrom([]float64{0, 2e7, 2e8}).Draw(t, "free"))}}
	return w
}

func anyPolicy(t *rapid.T, w *fleettest.World) policy.Policy {
	p := policy.Default()
	p.Mode, p.HoldSteps = schemas.ModeAuto, 0
	p.MinBenefit = rapid.SampledFrom([]float64{0, 30, 300}).Draw(t, "least")
	p.LookAheadSteps = rapid.SampledFrom([]int{1, 12, 24, 288}).Draw(t, "look")
	p.MaxPerHost = rapid.IntRange(0, 3).Draw(t, "per host")
	p.MaxPerCluster = rapid.IntRange(0, 6).Draw(t, "per cluster")
	p.MaxPerLink = rapid.IntRange(0, 4).Draw(t, "per link")
	p.MaxPerHour = rapid.IntRange(0, 8).Draw(t, "per hour")
	pick := func(name string) schemas.VMID {
		return fleettest.ID(w.VMs[rapid.IntRange(0, len(w.VMs)-1).Draw(t, name)].Name)
	}
	if len(w.VMs) > 3 {
		p.Pinned = []schemas.VMID{pick("pinned")}
		p.Apart = [][]schemas.VMID{{pick("apart"), pick("apart"), pick("apart")}}
		p.Together = [][]schemas.VMID{{pick("together"), pick("together")}}
	}
	p.Cordoned = []schemas.HostID{w.Hosts[rapid.IntRange(0, len(w.Hosts)-1).Draw(t, "cordoned")].ID}
	p.Weights = map[string]float64{"gold": 3}
	return p
}

// inputs are all messages of a world, stamped in one order.
func inputs(w *fleettest.World) []fleet.Input {
	var in []fleet.Input
	for _, m := range w.Capacity() {
		in = append(in, w.Input("CAPACITY", m))
	}
	for i := range w.Links {
		in = append(in, w.Input("CAPACITY", &w.Links[i]))
	}
	for _, m := range w.Forecasts() {
		in = append(in, w.Input("FORECASTS", m))
	}
	return in
}

func fold(t rapid.TB, w *fleettest.World, in []fleet.Input) *fleet.Fleet {
	f := fleet.New(fleet.Config{Base: w.Base})
	for i := range in {
		if err := f.Apply(in[i]); err != nil {
			t.Fatal(err)
		}
	}
	return f
}

func cut(w *fleettest.World) schemas.Cut {
	return schemas.Cut{Now: int64(w.Now), Seq: map[string]uint64{"CAPACITY": w.Seq["CAPACITY"]}}
}

// Whatever the fleet, the policy and the order in which the messages of different
// subjects came, a plan holds every rule and is the same plan.
func TestPlanHoldsRules(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := anyWorld(t)
		p := anyPolicy(t, w)
		in := inputs(w)
		f := fold(t, w, in)
		dec := Prepare(f, p, cut(w)).Decide(search.Budget{Evaluations: 500}, 7)
		pl := dec.Plan
		if err := pl.Validate(); err != nil {
			t.Fatalf("the plan is not a valid message: %v", err)
		}
		for i := range dec.Benefits {
			if err := dec.Benefits[i].Validate(); err != nil {
				t.Fatalf("a benefit is not a valid message: %v", err)
			}
		}
		checkRules(t, w, f, p, &pl)

		perm := rapid.Permutation(in).Draw(t, "order")
		again := Decide(fold(t, w, perm), p, cut(w), search.Budget{Evaluations: 500}, 7)
		a, _ := json.Marshal(pl)
		b, _ := json.Marshal(again)
		if string(a) != string(b) {
			t.Fatalf("another order of the inputs gave another plan:\n%s\n%s", a, b)
		}
	})
}

// checkRules judges a plan from its message and the raw fleet alone.
func checkRules(t *rapid.T, w *fleettest.World, f *fleet.Fleet, p policy.Policy, pl *schemas.Plan) {
	v := f.View(w.Now)
	moved := map[schemas.VMID]schemas.HostID{}
	must, forced := map[schemas.VMID]bool{}, 0
	for s, i := Prepare(f, p, cut(w)), 0; i < len(v.VMs); i++ {
		must[v.VMs[i].ID] = !s.breach(int32(i)).OK()
	}
	for i := range pl.Actions {
		a := &pl.Actions[i]
		if _, twice := moved[a.VM]; twice {
			t.Fatalf("VM %s moves twice", a.VM)
		}
		moved[a.VM] = a.Destination
		forced += int(is(must[a.VM]))
		src, dst := v.HostIndex(a.Source), v.HostIndex(a.Destination)
		vm := v.VMIndex(a.VM)
		switch m := &v.VMs[vm]; {
		case m.Host != src || a.Source == a.Destination:
			t.Fatalf("%s is not on %s", a.VM, a.Source)
		case !m.Inv.Movable || !m.Fresh:
			t.Fatalf("%s may not move", a.VM)
		case !v.Hosts[src].Fresh || !v.Hosts[dst].Fresh:
			t.Fatalf("a host of %s is silent", a.ID)
		case a.Predicted.Gain.Benefit < p.MinBenefit && !must[a.VM]:
			t.Fatalf("benefit %g is below the least", a.Predicted.Gain.Benefit)
		case a.Due < w.Now:
			t.Fatalf("%s is due in the past", a.ID)
		}
		for _, c := range p.Cordoned {
			if c == a.Destination {
				t.Fatalf("%s goes to a cordoned host", a.VM)
			}
		}
		for _, c := range p.Pinned {
			if c == a.VM {
				t.Fatalf("pinned %s moves", a.VM)
			}
		}
	}
	checkBudgets(t, v, p, pl.Actions)
	checkLink(t, Prepare(f, p, cut(w)), pl.Actions)
	if len(pl.Actions) > forced && forced == 0 && pl.After > pl.Before {
		t.Fatalf("the plan makes it worse: %g -> %g", pl.Before, pl.After)
	}
	if len(pl.Actions) == 0 && (len(pl.Declined) == 0 || pl.Declined[0].Reason.Code == "") {
		t.Fatal("nothing moves and no reason is given")
	}
	checkPlaces(t, v, p, moved)
}

// checkBudgets counts the moves under way at the start of each, by the plan's own times.
func checkBudgets(t *rapid.T, v *fleet.View, p policy.Policy, actions []schemas.Action) {
	if len(actions) > p.MaxPerHour {
		t.Fatalf("%d moves in a plan, %d an hour", len(actions), p.MaxPerHour)
	}
	site := func(h schemas.HostID) int32 { return v.Hosts[v.HostIndex(h)].Site }
	for i := range actions {
		in, out, link, all := 0, 0, 0, 0
		x := &actions[i]
		for j := range actions {
			y := &actions[j]
			if y.Due > x.Due || y.Due.Add(time.Duration(float64(y.Predicted.Duration)*float64(time.Second))) <= x.Due {
				continue
			}
			all++
			in += int(is(y.Destination == x.Destination))
			out += int(is(y.Source == x.Source))
			if site(y.Source) != site(y.Destination) {
				link++
			}
		}
		if in > p.MaxPerHost || out > p.MaxPerHost || all > p.MaxPerCluster || link > p.MaxPerLink {
			t.Fatalf("when %s starts, %d moves go into %s, %d out of %s, %d over the link, %d in all", x.Name, in, x.Destination, out, x.Source, link, all)
		}
	}
}

// checkPlaces judges groups and memory at the hosts that take a VM.
func checkPlaces(t *rapid.T, v *fleet.View, p policy.Policy, moved map[schemas.VMID]schemas.HostID) {
	place := func(id schemas.VMID) schemas.HostID {
		if h, ok := moved[id]; ok {
			return h
		}
		if i := v.VMIndex(id); i >= 0 {
			return v.Hosts[v.VMs[i].Host].ID
		}
		return ""
	}
	for id, h := range moved {
		for _, g := range p.Apart {
			for _, x := range g {
				for _, y := range g {
					if x == id && y != id && place(y) == h {
						t.Fatalf("%s and %s share %s", x, y, h)
					}
				}
			}
		}
		for _, g := range p.Together {
			for _, x := range g {
				for _, y := range g {
					if x == id && y != id && v.VMIndex(y) >= 0 && place(y) != h {
						t.Fatalf("%s leaves %s", x, y)
					}
				}
			}
		}
	}
	slots := schemas.SlotsWithin(p.LookAheadSteps)
	for h := range v.Hosts {
		takes := false
		for _, dst := range moved {
			takes = takes || dst == v.Hosts[h].ID
		}
		for s := 0; takes && s < slots; s++ {
			over := 0.0
			for k := 0; k < v.K; k++ {
				sum := 0.0
				for i := range v.VMs {
					if m := &v.VMs[i]; moved[m.ID] == v.Hosts[h].ID || int(m.Host) == h && moved[m.ID] == "" {
						sum += float64(m.Mem[s*v.K+k])
					}
				}
				if sum > v.Hosts[h].Room*(1+1e-5) {
					over += float64(v.Weight[s*v.K+k])
				}
			}
			if over > 1-float64(p.MemQuantile)+1e-4 {
				t.Fatalf("memory of %s does not fit with chance %g in slot %d", v.Hosts[h].ID, over, s)
			}
		}
	}
}

// oracle computes the objective from scratch, in the dumbest way: VM i is on
// host[i] before slot from[i] and on dest[i] from then on; its memory is at its
// destination at once.
func oracle(v *fleet.View, p policy.Policy, dest []int, from []int) float64 {
	total := 0.0
	for h := range v.Hosts {
		host := &v.Hosts[h]
		share, alloc, sum := 0.0, 0.0, 0.0
		for i := range v.VMs {
			if dest[i] == h {
				a := max(1, float64(v.VMs[i].Inv.AllocCPU))
				share += a * policy.Weight(p, v.VMs[i].Inv.Labels)
				alloc += a
			}
		}
		for s := 0; s < schemas.SlotsWithin(p.LookAheadSteps); s++ {
			secs := float64(schemas.SlotLen(s)) * v.Base.Seconds()
			for k := 0; k < v.K; k++ {
				cpu, mem := 0.0, 0.0
				for i := range v.VMs {
					m := &v.VMs[i]
					before, after := int(m.Host) == h && (s < from[i] || dest[i] == h), dest[i] == h && s >= from[i]
					if before || after {
						cpu += math.Floor(float64(m.CPU[s*v.K+k]) + .5)
					}
					if before || dest[i] == h {
						mem += math.Ceil(float64(m.Mem[s*v.K+k])/mib) * mib
					}
				}
				w := float64(v.Weight[s*v.K+k]) * secs / 1000
				c, cm := math.Floor(host.Cap[schemas.CPU]), math.Floor(host.Cap[schemas.Memory]/mib)*mib
				soft := math.Round(float64(p.SoftCapacity) * c)
				sum += w * (doubtful(cpu, c, math.Round(Doubt*c)) + float64(p.SoftWeight)*max(0, cpu-soft))
				sum += w * max(0, mem-cm) * c / cm
			}
			sum += oracleNet(v, h, s, dest, from) * secs
		}
		if alloc > 0.5 {
			sum *= share / alloc
		}
		total += sum
	}
	return total
}

// doubtful is the mean of what a demand exceeds c by, where the demand is off by up to
// wide either way: summed, not solved, from where it begins to exceed c, for a sum
// across that bend is off by more than the tolerance.
func doubtful(x, c, wide float64) float64 {
	const n = 16
	if wide <= 0 {
		return max(0, x-c)
	}
	begin := min(max(c-x, -wide), wide)
	sum := 0.0
	for i := range n {
		sum += max(0, x+begin+(wide-begin)*(float64(i)+.5)/n-c)
	}
	return sum / n * (wide - begin) / (2 * wide)
}

func oracleNet(v *fleet.View, h, s int, dest, from []int) float64 {
	limit := v.Hosts[h].Cap[schemas.Net]
	if limit <= 0 {
		return 0
	}
	mid, spread, square := 0.0, 0.0, 0.0
	for i := range v.VMs {
		m := &v.VMs[i]
		if m.Mid == nil || !(dest[i] == h && s >= from[i] || int(m.Host) == h && (s < from[i] || dest[i] == h)) {
			continue
		}
		d := 1000 * math.Floor(float64(m.Spread[0][s])/1000+.5)
		mid, spread, square = mid+1000*math.Floor(float64(m.Mid[0][s])/1000+.5), spread+d, square+d*d
	}
	return max(0, mid+math.Sqrt(correlation*spread*spread+(1-correlation)*square)-limit) * math.Floor(v.Hosts[h].Cap[schemas.CPU]) / limit / 1000
}

// The incremental delta says what the dumb evaluator says, before and after moves
// were made and taken back.
func TestDeltaEqualsOracle(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := anyWorld(t)
		p := anyPolicy(t, w)
		s := Prepare(fold(t, w, inputs(w)), p, cut(w))
		nv, nh := len(s.V.VMs), len(s.V.Hosts)
		if nv == 0 || nh < 2 {
			return
		}
		dest, from := make([]int, nv), make([]int, nv)
		for i := range dest {
			dest[i] = int(s.V.VMs[i].Host)
		}
		// Paths are float32: equal means to a hundred-thousandth of the objective.
		near := func(what string, got, want, size float64) {
			if math.Abs(got-want) > 1e-5*size+1e-3 {
				t.Fatalf("%s: %g, from scratch %g", what, got, want)
			}
		}
		now := oracle(s.V, p, dest, from)
		near("start", s.sums.total(), now, now)
		for n := 0; n < 6; n++ {
			i := rapid.IntRange(0, nv-1).Draw(t, "vm")
			a := int(s.V.VMs[i].Host)
			if dest[i] != a {
				continue
			}
			b := rapid.IntRange(0, nh-1).Filter(func(b int) bool { return b != a }).Draw(t, "to")
			at := rapid.IntRange(0, s.sums.s).Draw(t, "from")
			d := s.sums.delta(i, a, b, at)
			dest[i], from[i] = b, at
			after := oracle(s.V, p, dest, from)
			near("delta", d, after-now, after+now)
			before := s.sums.total()
			s.sums.move(i, a, b, at)
			s.sums.refresh(a)
			s.sums.refresh(b)
			near("after", s.sums.total(), after, after+now)
			if got := s.sums.total(); math.Abs(got-before-d) > 1e-9*(got+before) {
				t.Fatalf("delta %g, but the sums went from %g to %g", d, before, got)
			}
			now = after
			if rapid.Bool().Draw(t, "undo") {
				s.sums.back(i, a, b, at)
				s.sums.refresh(a)
				s.sums.refresh(b)
				dest[i], from[i] = a, 0
				now = oracle(s.V, p, dest, from)
				if s.sums.total() != before {
					t.Fatalf("a move made and taken back leaves %g of %g", s.sums.total(), before)
				}
			}
		}
	})
}

func TestPreCopy(t *testing.T) {
	const gib = 1 << 30
	for _, c := range []struct {
		name              string
		mem, dirty, bps   float64
		rounds            int
		duration, downtme float64 // s
		converges         bool
	}{
		{"idle guest over 10 Gbit/s", 8 * gib, 0, 1.25e9, 1, 1 + 8*gib/1.25e9, .1, true},
		{"tiny guest fits in the switchover", .1 * gib, 1e6, 1.25e9, 0, 1 + .1*gib/1.25e9, .1 + .1*gib/1.25e9, true},
		{"half the link dirtied", 4 * gib, 5e7, 1e8, 8, 1 + 4*gib*(1-math.Pow(.5, 9))/.5/1e8, .1 + 4*gib*math.Pow(.5, 8)/1e8, true},
		{"dirtied faster than sent", 4 * gib, 9e7, 1e8, 0, 0, 0, false},
		{"no link", 4 * gib, 0, 0, 0, 0, 0, false},
	} {
		got := PreCopy(schemas.Bytes(c.mem), schemas.BytesPerSecond(c.dirty), schemas.BytesPerSecond(c.bps))
		if got.Converges != c.converges || got.Rounds != c.rounds || math.Abs(got.Duration.Seconds()-c.duration) > 1e-3*(1+c.duration) || math.Abs(got.Downtime.Seconds()-c.downtme) > 1e-3*(1+c.downtme) {
			t.Errorf("%s: %+v, want converges %v, %d rounds, %g s, downtime %g s", c.name, got, c.converges, c.rounds, c.duration, c.downtme)
		}
	}
}

// The same state, budget and seed give the same plan, and refinement never harms.
func TestRefineIsRepeatable(t *testing.T) {
	w := bigWorld(20, 200, 3)
	p := policy.Default()
	p.Mode, p.HoldSteps, p.MaxPerCluster, p.MaxPerHour = schemas.ModeAuto, 0, 20, 50
	in := inputs(w)
	one := Decide(fold(t, w, in), p, cut(w), search.Budget{Evaluations: 4000}, 11)
	two := Decide(fold(t, w, in), p, cut(w), search.Budget{Evaluations: 4000}, 11)
	if !reflect.DeepEqual(one, two) {
		t.Fatal("two plans from the same state differ")
	}
	greedy := Decide(fold(t, w, in), p, cut(w), search.Budget{}, 11)
	if len(greedy.Actions) < 2 {
		t.Fatalf("this fleet should need several moves, got %d", len(greedy.Actions))
	}
	if one.After > greedy.After*1.0001 {
		t.Errorf("refined %g, greedy alone %g", one.After, greedy.After)
	}
}

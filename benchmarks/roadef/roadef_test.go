package roadef

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/foreshift/foreshift/placer/search"
	"pgregory.net/rapid"
)

// draw makes a small instance with every kind of rule, and an assignment that obeys
// them: rules are taken from where processes happen to be.
func draw(t *rapid.T) (*Model, []int32) {
	n := func(name string, lo, hi int) int { return rapid.IntRange(lo, hi).Draw(t, name) }
	seed := rapid.Uint64().Draw(t, "seed")
	rng := rand.New(rand.NewPCG(seed, 1))
	m := &Model{ProcessWeight: 1, ServiceWeight: int64(n("service weight", 0, 200)), MachineWeight: 3}
	for range n("resources", 1, 4) {
		m.Resources = append(m.Resources, Resource{Transient: rng.IntN(2) == 0, Weight: int64(rng.IntN(3))})
	}
	machines := n("machines", 2, 9)
	for range machines {
		k := Machine{Neighbourhood: int32(rng.IntN(3)), Location: int32(rng.IntN(4))}
		for range machines {
			k.MoveCost = append(k.MoveCost, int32(rng.IntN(5)))
		}
		m.Locations, m.Neighbourhoods = 4, 3
		m.Machines = append(m.Machines, k)
	}
	for k := range m.Machines {
		m.Machines[k].MoveCost[k] = 0
	}
	var at []int32
	for range n("services", 1, 8) {
		s := int32(len(m.Services))
		places := map[int32]bool{}
		for _, k := range rng.Perm(machines)[:1+rng.IntN(min(machines, 5))] {
			p := Process{Service: s, MoveCost: int64(rng.IntN(9))}
			for range m.Resources {
				p.Requirement = append(p.Requirement, int64(rng.IntN(50)))
			}
			m.Processes = append(m.Processes, p)
			at = append(at, int32(k))
			places[m.Machines[k].Location] = true
		}
		m.Services = append(m.Services, Service{Spread: len(places) - rng.IntN(2)})
	}
	hoods := make([]map[int32]bool, len(m.Services))
	for s := range hoods {
		hoods[s] = map[int32]bool{}
	}
	for i, p := range m.Processes {
		hoods[p.Service][m.Machines[at[i]].Neighbourhood] = true
	}
	for a := range m.Services {
	next:
		for b := range m.Services {
			if rng.IntN(3) > 0 {
				continue
			}
			for h := range hoods[a] {
				if !hoods[b][h] {
					continue next
				}
			}
			m.Services[a].DependsOn = append(m.Services[a].DependsOn, int32(b))
		}
	}
	use := make([][]int64, machines)
	for k := range use {
		use[k] = make([]int64, len(m.Resources))
	}
	for i, p := range m.Processes {
		for r, q := range p.Requirement {
			use[at[i]][r] += q
		}
	}
	for k := range m.Machines {
		for r := range m.Resources {
			c := use[k][r] + int64(rng.IntN(120))
			m.Machines[k].Capacity = append(m.Machines[k].Capacity, c)
			m.Machines[k].Safety = append(m.Machines[k].Safety, c*int64(rng.IntN(10))/10)
		}
	}
	for range n("balances", 0, 2) {
		m.Balances = append(m.Balances, Balance{Per: rng.IntN(len(m.Resources)), Of: rng.IntN(len(m.Resources)), Target: int64(rng.IntN(3)), Weight: int64(rng.IntN(4))})
	}
	return m, at
}

// Whatever the delta says of a move, the evaluator says of its result: the cost when
// it is allowed, a broken rule when it is not.
func TestDeltaIsTheEvaluators(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m, first := draw(t)
		p, err := New(m, first)
		if err != nil {
			t.Fatal(err)
		}
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "walk"), 2))
		for n := range 60 {
			before := p.Total()
			want := p.Assignment()
			i, j := int32(rng.IntN(p.np)), int32(rng.IntN(p.np))
			var d int64
			swap := n%2 == 0
			if swap {
				want[i], want[j] = want[j], want[i]
				d = p.swapDelta(i, j, never/2)
			} else {
				j = int32(rng.IntN(p.nm))
				want[i] = j
				d = p.shiftDelta(i, j, never/2)
			}
			c, err := Evaluate(m, first, want)
			same := slices.Equal(want, p.at)
			switch {
			case same:
				if d != never {
					t.Fatalf("a move to the same place is not refused")
				}
				continue
			case (err == nil) != (d < never/2):
				t.Fatalf("swap %v of %d and %d: delta %d, evaluator %v", swap, i, j, d, err)
			case err != nil:
				continue
			case c.Total() != before+d:
				t.Fatalf("swap %v of %d and %d: from %d by %d, evaluator %d", swap, i, j, before, d, c.Total())
			}
			if d > 0 && p.boundedDelta(swap, i, j, d-1) <= d-1 {
				t.Fatalf("a change of %d passes the limit %d", d, d-1)
			}
			if got := p.boundedDelta(swap, i, j, d); got != d {
				t.Fatalf("a change of %d within its limit is given as %d", d, got)
			}
			var made int64
			if swap {
				made = p.swap(i, j)
			} else {
				made = p.apply(i, j)
			}
			if made != d || p.Total() != before+d {
				t.Fatalf("applying gave %d, the delta said %d", made, d)
			}
		}
	})
}

func (p *Problem) boundedDelta(swap bool, i, j int32, limit int64) int64 {
	if swap {
		return p.swapDelta(i, j, limit)
	}
	return p.shiftDelta(i, j, limit)
}

// The whole search, hot and cold, keeps every rule and counts right; restoring
// brings back not only places but every counter.
func TestSearchKeepsTheRules(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m, first := draw(t)
		p, err := New(m, first)
		if err != nil {
			t.Fatal(err)
		}
		p.Tune(Tuning{Swap: 300, Eject: 400, Home: 100, Near: 500, Big: 500, Gone: 300, Stead: 300, Bunch: 4, Refuges: 3, Stay: 3})
		rng := newRand(rapid.Uint64().Draw(t, "search"))
		start := p.Total()
		for _, hot := range []float64{1e6, 100, 1} {
			for range 300 {
				before := p.Total()
				d, made := p.Try(rng, hot*rng.ExpFloat64())
				if made && p.Total() != before+int64(d) || !made && p.Total() != before {
					t.Fatalf("made %v, said %g: from %d to %d", made, d, before, p.Total())
				}
			}
			check(t, p, first)
			search.Anneal(p, rng, search.Budget{Evaluations: 700}, search.Schedule{Start: hot, End: 1})
			check(t, p, first)
		}
		if p, _ = New(m, first); search.Anneal(p, rng, search.Budget{Evaluations: 2000}, p.Schedule()).Gained != float64(start-p.Total()) {
			t.Fatal("the gain is not what was gained")
		}
		if p.Total() > start {
			t.Fatalf("ends at %d, above its start %d", p.Total(), start)
		}
	})
}

// check compares the problem with one built anew from its placement.
func check(t *rapid.T, p *Problem, first []int32) {
	c, err := Evaluate(p.m, first, p.at)
	if err != nil {
		t.Fatal(err)
	}
	if c.Total() != p.Total() {
		t.Fatalf("counts %d, the evaluator %d", p.Total(), c.Total())
	}
	q, err := New(p.m, first)
	if err != nil {
		t.Fatal(err)
	}
	for i, k := range p.at {
		if q.at[i] != k {
			q.apply(int32(i), k)
		}
	}
	for i, k := range q.at {
		q.enterBit(q.service[i], k)
	}
	if bound := LowerBound(p.m); bound > c.Total() {
		t.Fatalf("costs %d, below the bound %d", c.Total(), bound)
	}
	var gone []int32
	for i, k := range p.at {
		if k != first[i] {
			gone = append(gone, int32(i))
		}
	}
	for n, i := range p.gone {
		if p.goneAt[i] != int32(n) {
			t.Fatalf("process %d is said to be in place %d of those away, and is in %d", i, p.goneAt[i], n)
		}
	}
	listed := slices.Sorted(slices.Values(p.gone))
	for _, x := range []struct {
		name string
		same bool
	}{
		{"those away", slices.Equal(listed, gone)},
		{"machines", slices.Equal(p.mach, q.mach)}, {"costs", slices.Equal(p.cost, q.cost)},
		{"conflicts", slices.Equal(p.present, q.present)}, {"locations", slices.Equal(p.placeCount, q.placeCount)},
		{"spare locations", slices.Equal(p.spare, q.spare)}, {"neighbourhoods", slices.Equal(p.hoodCount, q.hoodCount)},
		{"processes away", slices.Equal(p.away, q.away)}, {"services by it", slices.Equal(p.withN, q.withN)}, {"the most", p.most == q.most},
	} {
		if !x.same {
			t.Fatalf("%s drifted", x.name)
		}
	}
}

// The instance in testdata is small enough to compute by hand; its README does.
func TestByHand(t *testing.T) {
	m, first, err := Load("testdata/model.txt", "testdata/assignment.txt")
	if err != nil {
		t.Fatal(err)
	}
	c, err := Evaluate(m, first, first)
	if want := (Cost{Load: 60, Balance: 10}); err != nil || c != want {
		t.Fatalf("the first assignment costs %+v (%v), by hand %+v", c, err, want)
	}
	c, err = Evaluate(m, first, []int32{0, 1, 1})
	if want := (Cost{Load: 50, ProcessMove: 3, ServiceMove: 10, MachineMove: 200}); err != nil || c != want {
		t.Fatalf("moving the third costs %+v (%v), by hand %+v", c, err, want)
	}
	for _, x := range []struct {
		at   []int32
		want string
	}{
		{[]int32{0, 0, 0}, "service 0 has two processes on machine 0"},
		{[]int32{1, 0, 0}, "transient exceed the capacity"},
		{[]int32{0, 2, 0}, "service 0 is in 1 locations and needs 2"},
		{[]int32{0, 1, 2}, "misses service 0 there"},
		{[]int32{0, 1}, "2 machines for 3 processes"},
		{[]int32{0, 1, 7}, "machine 0 to 7 of 3"},
	} {
		if _, err := Evaluate(m, first, x.at); err == nil || !strings.Contains(err.Error(), x.want) {
			t.Errorf("%v: %v, want %q", x.at, err, x.want)
		}
	}
}

func TestFaultsAreNamed(t *testing.T) {
	good, err := os.ReadFile("testdata/model.txt")
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range []struct{ name, text, want string }{
		{"empty", "", "line 1: ends before number 1"},
		{"cut", string(good[:len(good)/2]), "ends before number"},
		{"more", string(good) + "\n5", "line 20: has more after number"},
		{"a letter", "x" + string(good), "found 'x'"},
		{"negative", "-1", "found '-'"},
		{"huge", "1\n0\n9999999999999999999999", "line 3: number 3, the weight of a resource: 999999999999999999 is above"},
		{"many machines", "1\n0 10\n1000000\n", "line 3: 1000000 machines are more than this program reads"},
		{"costs beyond count", "1 0 1000000000000 1 0 0 9 9 0 1 0 0 1 0 1000000 0 0 0 0 0", "not counted exactly"},
		{"nothing", "0 0 0 0 0 0 0 0", "none may be 0"},
	} {
		if _, err := ParseModel([]byte(x.text)); err == nil || !strings.Contains(err.Error(), x.want) {
			t.Errorf("%s: %v, want %q", x.name, err, x.want)
		}
	}
	m, _ := ParseModel(good)
	if _, err := ParseAssignment([]byte("0 1 3"), m); err == nil {
		t.Error("machine 3 of 3 is taken")
	}
	if _, err := ParseAssignment([]byte("0 1\n\nx"), m); err == nil || !strings.Contains(err.Error(), "line 3: number 3, the machine of a process: found 'x'") {
		t.Errorf("a letter for a machine: %v", err)
	}
}

func FuzzParseModel(f *testing.F) {
	good, err := os.ReadFile("testdata/model.txt")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte("1 0 10 1000000"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if m, err := ParseModel(text); err == nil {
			first := make([]int32, len(m.Processes))
			if p, err := New(m, first); err == nil {
				search.Anneal(p, newRand(1), search.Budget{Evaluations: 64}, p.Schedule())
			}
		}
	})
}

// A search cut by the clock is repeated by the counts in its report.
func TestRunRepeats(t *testing.T) {
	var ticks float64
	o := Options{Model: "testdata/model.txt", Assignment: "testdata/assignment.txt", Seed: 5, CPUSeconds: 1,
		CPU: func() float64 { ticks += 1e-3; return ticks }, Out: filepath.Join(t.TempDir(), "out")}
	one, err := Run(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	if !one.Valid || one.Objective > one.Initial || one.Evaluations == 0 {
		t.Fatalf("%+v", one)
	}
	a, _ := os.ReadFile(o.Out)
	o.Legs, o.CPU = one.Legs, nil
	two, err := Run(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	if b, _ := os.ReadFile(o.Out); string(a) != string(b) || two.Objective != one.Objective || !slices.Equal(one.Legs, two.Legs) {
		t.Errorf("the counts repeat %s as %s", a, b)
	}
	if b, err := json.Marshal(one); err != nil || !strings.Contains(string(b), `"valid":true`) {
		t.Errorf("%s %v", b, err)
	}
}

// The published instances are not in the project; who has them names their folder.
func TestPublishedFirstCosts(t *testing.T) {
	dir := os.Getenv("FORESHIFT_ROADEF")
	if dir == "" {
		t.Skip("FORESHIFT_ROADEF names no folder with reference.json, model_*.txt.gz and assignment_*.txt.gz")
	}
	text, err := os.ReadFile(filepath.Join(dir, "reference.json"))
	if err != nil {
		t.Fatal(err)
	}
	var ref map[string]struct {
		Initial int64 `json:"initial"`
		Bound   int64 `json:"lb_computed"`
		Have    bool  `json:"have_files"`
	}
	if err := json.Unmarshal(text, &ref); err != nil {
		t.Fatal(err)
	}
	for name, r := range ref {
		if !r.Have {
			continue
		}
		m, first, err := Load(filepath.Join(dir, "model_"+name+".txt.gz"), filepath.Join(dir, "assignment_"+name+".txt.gz"))
		if err != nil {
			t.Fatal(err)
		}
		if c, err := Evaluate(m, first, first); err != nil || c.Total() != r.Initial {
			t.Errorf("%s costs %d (%v), published %d", name, c.Total(), err, r.Initial)
		}
		if bound := LowerBound(m); bound != r.Bound {
			t.Errorf("%s cannot cost less than %d, published %d", name, bound, r.Bound)
		}
	}
}

// synthetic is a tight instance of the size of the challenge's middle ones.
func synthetic(machines, processes, resources int) (*Model, []int32) {
	rng := rand.New(rand.NewPCG(1, 1))
	m := &Model{ProcessWeight: 1, ServiceWeight: 10, MachineWeight: 100, Locations: 10, Neighbourhoods: 5}
	for r := range resources {
		m.Resources = append(m.Resources, Resource{Transient: r%3 == 0, Weight: 10})
	}
	use := make([][]int64, machines)
	for k := range use {
		use[k] = make([]int64, resources)
	}
	var at []int32
	for i := range processes {
		if i%3 == 0 {
			m.Services = append(m.Services, Service{})
		}
		p := Process{Service: int32(i / 3), MoveCost: 1}
		k := (i*7919 + i%3) % machines
		for r := range resources {
			q := int64(1000 * rng.ExpFloat64() * rng.ExpFloat64())
			p.Requirement = append(p.Requirement, q)
			use[k][r] += q
		}
		at = append(at, int32(k))
		m.Processes = append(m.Processes, p)
	}
	for k := range machines {
		h := Machine{Neighbourhood: int32(k % 5), Location: int32(k % 10), MoveCost: make([]int32, machines)}
		for r := range resources {
			h.Capacity = append(h.Capacity, use[k][r]*11/10)
			h.Safety = append(h.Safety, use[k][r]*9/10)
		}
		m.Machines = append(m.Machines, h)
	}
	return m, at
}

func BenchmarkDelta(b *testing.B) {
	for _, x := range [...]struct{ machines, processes, resources int }{{100, 1000, 3}, {100, 5000, 12}, {1000, 50000, 3}} {
		m, first := synthetic(x.machines, x.processes, x.resources)
		b.Run(fmt.Sprintf("%dx%dx%d", x.machines, x.processes, x.resources), func(b *testing.B) {
			p, err := New(m, first)
			if err != nil {
				b.Fatal(err)
			}
			rng := newRand(1)
			s := p.Schedule()
			search.Anneal(p, rng, search.Budget{Evaluations: 100_000}, s)
			b.ReportAllocs()
			b.ResetTimer()
			search.Begin(p).Cool(rng, search.Budget{Evaluations: b.N}, search.Schedule{Start: s.Start / 10, End: s.Start / 1000})
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "deltas/s")
		})
	}
}

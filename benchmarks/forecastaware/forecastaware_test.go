package forecastaware

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/foreshift/foreshift/benchmarks/pace"
	"pgregory.net/rapid"
)

const tiny = "testdata/tiny.json"

// counted is a search by count alone.
func counted(n int) *pace.Log { return &pace.Log{Legs: []int{n}, Used: n} }

// cooled is a search as a run by the clock does it: the first cooling, and those after it.
func cooled(n int) *pace.Log {
	l := pace.Log{Legs: []int{n}, Used: n}
	for range legShares {
		for range pace.Legs {
			l.Legs, l.Used = append(l.Legs, n/pace.Legs), l.Used+n/pace.Legs
		}
	}
	return &l
}

// Host 0 is at 10 of 7 cores in slot 0. The move of VM 0 to host 1 mends all for .4;
// the cheaper VM 2, the only one the link to the other site takes, mends a third.
func TestTiny(t *testing.T) {
	out := filepath.Join(t.TempDir(), "moves.json")
	r, err := Run(context.Background(), Options{Instance: tiny, Repeat: counted(5000), Seed: 1, Out: out})
	if err != nil {
		t.Fatal(err)
	}
	if math.Abs(r.Objective-.4) > 1e-9 || math.Abs(r.Initial-3) > 1e-9 || math.Abs(r.LowerBound-.4) > 1e-9 || r.Moves != 1 || r.MemoryMoved != 8 || !r.Valid {
		t.Errorf("%+v", r)
	}
	text, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	if want := `[{"vm":0,"from":0,"to":1}]` + "\n"; string(text) != want {
		t.Errorf("wrote %s, want %s", text, want)
	}
	var moves []Move
	if err := json.Unmarshal(text, &moves); err != nil {
		t.Fatal(err)
	}
	in, err := Read(tiny)
	if err != nil {
		t.Fatal(err)
	}
	if cost, err := Check(in, moves); err != nil || math.Abs(cost-.4) > 1e-9 {
		t.Errorf("check: %g, %v", cost, err)
	}
}

// The program of the tiny instance, whose optimum a solver gave as .4.
func TestWriteLP(t *testing.T) {
	in, err := Read(tiny)
	if err != nil {
		t.Fatal(err)
	}
	var got bytes.Buffer
	if err := WriteLP(&got, in); err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile("testdata/tiny.lp")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Bytes(), want) {
		t.Errorf("wrote\n%s", got.Bytes())
	}
}

func TestCheckRefuses(t *testing.T) {
	in, err := Read(tiny)
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		moves []Move
		want  string
	}{
		{[]Move{{4, 0, 1}}, "cannot go"},
		{[]Move{{0, 1, 2}}, "cannot go"},
		{[]Move{{0, 0, 0}}, "cannot go"},
		{[]Move{{0, 0, 3}}, "cannot go"},
		{[]Move{{0, 0, 1}, {0, 1, 2}}, "cannot go"},
		{[]Move{{1, 0, 1}}, "holds 16 of 24"},
		{[]Move{{0, 0, 2}}, "cross from site 0 to 1"},
		{[]Move{{3, 1, 0}, {0, 0, 1}}, "holds 28 of 32"},
		{[]Move{{0, 0, 1}, {2, 0, 2}, {1, 0, 1}}, "only 2 allowed"},
	} {
		if _, err := Check(in, tc.moves); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%v: %v, want %q", tc.moves, err, tc.want)
		}
	}
}

func TestReadRefuses(t *testing.T) {
	good, err := os.ReadFile(tiny)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "bad.json")
	for _, tc := range []struct{ old, new string }{
		{`"H":3`, `"H":4`}, {`"H":3`, `"H":0`}, {`"V":4`, `"V":5`}, {`"T":2`, `"T":3`}, {`"K":2`, `"K":-1`},
		{`"T":2`, `"T":9000000000000000000`}, {`[10,10,10]`, `[10,10,-1]`}, {`"cur":[0`, `"cur":[3`},
		{`"m":8`, `"m":1e300`}, {`"d":[4,1]`, `"d":[4]`}, {`"site":[0,0,1]`, `"site":[0,0,2]`},
		{`"site":[0,0,1]`, `"site":[0]`}, {`[[0,4],[4,0]]`, `[[0,4],[4]]`}, {`[4,0]]}`, ``},
	} {
		if !strings.Contains(string(good), tc.old) {
			t.Fatalf("%s is not in the file", tc.old)
		}
		if err := os.WriteFile(path, []byte(strings.Replace(string(good), tc.old, tc.new, 1)), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Read(path); err == nil {
			t.Errorf("%s instead of %s was taken", tc.new, tc.old)
		}
	}
	if _, err := Read(path + ".none"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
}

// drawInstance makes a member of the family, small.
func drawInstance(t *rapid.T, hosts, vms int) *Instance {
	in, err := Family{
		Sites: rapid.IntRange(1, 2).Draw(t, "sites"), Hosts: hosts, VMs: vms,
		Slots: rapid.IntRange(1, 6).Draw(t, "slots"), K: rapid.IntRange(0, 4).Draw(t, "K"),
		Load: rapid.Float64Range(.3, .9).Draw(t, "load"), Skew: 1,
		Link: rapid.SampledFrom([]float64{0, .1, .5}).Draw(t, "link"), Seed: rapid.Uint64().Draw(t, "seed"),
	}.Generate()
	if err != nil {
		t.Fatal(err)
	}
	return in
}

func (p *problem) list() (out []Move) {
	for v, h := range p.at {
		if h != p.home[v] {
			out = append(out, Move{v, int(p.home[v]), int(h)})
		}
	}
	return out
}

// What the search adds up is what is there: after any number of moves the objective
// is the check's, and what it reserved is what the moves take.
func TestDeltaEqualsFreshCount(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := drawInstance(t, rapid.IntRange(1, 4).Draw(t, "hosts"), 5)
		p := newProblem(in)
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "search"), 1))
		want := p.objective()
		compare := func(when string) {
			cost, err := Check(in, p.list())
			if err != nil || math.Abs(cost-want) > 1e-7 || math.Abs(p.objective()-want) > 1e-7 {
				t.Fatalf("%s: the changes add up to %g, the search counts %g, the check %g, %v", when, want, p.objective(), cost, err)
			}
			fresh := newProblem(in)
			copy(fresh.kept, p.at)
			fresh.Restore()
			for h := range p.room {
				if math.Abs(p.room[h]-fresh.room[h]) > 1e-7 || (p.hotAt[h] >= 0) != (p.over[h] > 0) {
					t.Fatalf("%s: host %d: room %g, fresh %g; hot %d, over %g", when, h, p.room[h], fresh.room[h], p.hotAt[h], p.over[h])
				}
			}
			for i := range p.link {
				if math.Abs(p.link[i]-fresh.link[i]) > 1e-7 {
					t.Fatalf("%s: link %d: %g, fresh %g", when, i, p.link[i], fresh.link[i])
				}
			}
		}
		compare("first")
		kept := 0.0
		for i := range 300 {
			limit := math.Inf(1)
			if i%2 == 0 {
				limit = .5
			}
			change, made := p.Try(r, limit)
			if made {
				if want += change; change > limit {
					t.Fatalf("a change of %g was made, the limit is %g", change, limit)
				}
			}
			if i == 150 {
				p.Keep()
				kept = want
			}
		}
		compare("after moves")
		p.Restore()
		want = kept
		compare("restored")
	})
}

// On instances small enough to try everything one search of at most four finds the
// optimum, and the bound is not above it.
func TestFindsTheBest(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := drawInstance(t, 2, 3)
		in.K = min(in.K, 3)
		p := newProblem(in)
		best := p.objective()
		var try func(v int)
		try = func(v int) {
			if v == in.V {
				if cost, err := Check(in, p.list()); err == nil {
					best = min(best, cost)
				}
				return
			}
			for h := range in.H {
				p.at[v] = int32(h)
				try(v + 1)
			}
			p.at[v] = p.home[v]
		}
		if in.V <= 6 {
			try(0)
		}
		moves, r, err := Search(context.Background(), in, Options{Repeat: cooled(200000), Seed: 1})
		if err != nil {
			t.Fatal(err)
		}
		cost, err := Check(in, moves)
		if err != nil || math.Abs(cost-r.Objective) > 1e-9 {
			t.Fatalf("check: %g, %v; reported %g", cost, err, r.Objective)
		}
		if r.LowerBound > cost+1e-9 {
			t.Fatalf("found %g, below the bound %g", cost, r.LowerBound)
		}
		if in.V <= 6 && cost > best+1e-9 {
			t.Fatalf("found %g, the best is %g", cost, best)
		}
	})
}

func TestSameSeedSameMoves(t *testing.T) {
	in, err := DefaultFamily(1).Generate()
	if err != nil {
		t.Fatal(err)
	}
	clock := 0.0
	o := Options{Seed: 3, CPUSeconds: .3, CPU: func() float64 { clock += .001; return clock }}
	first, r, err := Search(context.Background(), in, o)
	if err != nil {
		t.Fatal(err)
	}
	again, r2, err := Search(context.Background(), in, Options{Seed: 3, Repeat: &r.Search})
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(first, again) || r.Objective != r2.Objective || !reflect.DeepEqual(r.Search, r2.Search) {
		t.Errorf("%v %+v\n%v %+v", first, r, again, r2)
	}
	other, _, err := Search(context.Background(), in, Options{Seed: 4, Repeat: &r.Search})
	if err != nil {
		t.Fatal(err)
	}
	if reflect.DeepEqual(first, other) {
		t.Error("another seed gave the same moves: the seed is not used")
	}
}

// In the family everything binds: more moves, wider links and more demand each change
// what is reached.
func TestFamilyTradesOff(t *testing.T) {
	reach := func(change func(*Family)) (float64, int) {
		f := DefaultFamily(2)
		f.Hosts, f.K = 8, 18
		change(&f)
		in, err := f.Generate()
		if err != nil {
			t.Fatal(err)
		}
		_, r, err := Search(context.Background(), in, Options{Repeat: counted(400_000), Seed: 1})
		if err != nil {
			t.Fatal(err)
		}
		return r.Objective, r.Moves
	}
	base, moves := reach(func(*Family) {})
	if moves != 18 {
		t.Errorf("%d of 18 moves are used: K does not bind", moves)
	}
	if more, _ := reach(func(f *Family) { f.K = 30 }); more > base*.95 {
		t.Errorf("30 moves reach %g, 18 reach %g", more, base)
	}
	if none, _ := reach(func(f *Family) { f.Link = 0 }); none < base*1.02 {
		t.Errorf("without links %g, with links %g", none, base)
	}
	if calm, _ := reach(func(f *Family) { f.Load = .4 }); calm > base*.5 {
		t.Errorf("at load .4 %g, at .55 %g", calm, base)
	}
	f := DefaultFamily(2)
	a, err := f.Generate()
	if err != nil {
		t.Fatal(err)
	}
	if b, _ := f.Generate(); !reflect.DeepEqual(a, b) {
		t.Error("the same seed made another instance")
	}
	f.Load, f.Hosts = 2, 0
	if _, err := f.Generate(); err == nil || !strings.Contains(err.Error(), "load 2") || !strings.Contains(err.Error(), "hosts 0") {
		t.Errorf("bad parameters: %v", err)
	}
}

func TestTryDoesNotAllocate(t *testing.T) {
	in, err := DefaultFamily(1).Generate()
	if err != nil {
		t.Fatal(err)
	}
	p := newProblem(in)
	r := rand.New(rand.NewPCG(1, 1))
	if n := testing.AllocsPerRun(20000, func() { p.Try(r, .5) }); n > 0 {
		t.Errorf("%g allocations a move", n)
	}
}

func BenchmarkTry(b *testing.B) {
	in, err := DefaultFamily(1).Generate()
	if err != nil {
		b.Fatal(err)
	}
	p := newProblem(in)
	r := rand.New(rand.NewPCG(1, 1))
	b.ReportAllocs()
	for b.Loop() {
		p.Try(r, .2*r.ExpFloat64())
	}
}

package rescheduling

import (
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
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

// The smallest snapshot with all there is: two moves free two slots, though a host
// under maintenance has more room than anybody.
func TestTiny(t *testing.T) {
	for _, tc := range []struct{ k, y int }{{0, 0}, {1, 1}, {2, 2}, {3, 2}} {
		out := filepath.Join(t.TempDir(), "moves.json")
		r, err := Run(context.Background(), Options{Snapshot: tiny, Moves: tc.k, Repeat: counted(20000), Seed: 1, Out: out})
		if err != nil {
			t.Fatal(err)
		}
		if r.Objective != tc.y || !r.Valid || r.Initial != 0 || r.UpperBound != 2 || r.Moves != min(tc.k, 2) {
			t.Errorf("K = %d: %+v", tc.k, r)
		}
		text, err := os.ReadFile(out)
		if err != nil {
			t.Fatal(err)
		}
		var moves []Move
		if err := json.Unmarshal(text, &moves); err != nil {
			t.Fatal(err)
		}
		s, err := Read(tiny)
		if err != nil {
			t.Fatal(err)
		}
		if y, err := Check(s, moves, tc.k); err != nil || y != tc.y {
			t.Errorf("K = %d: the file's moves leave %d slots, %v", tc.k, y, err)
		}
		if tc.k == 2 && string(text) != `[{"vm":"small","from":"a/0","to":"b/0"},{"vm":"half","from":"a/1","to":"b/1"}]`+"\n" &&
			string(text) != `[{"vm":"half","from":"a/1","to":"b/1"},{"vm":"small","from":"a/0","to":"b/0"}]`+"\n" {
			t.Errorf("K = 2: %s", text)
		}
	}
}

func TestCheckRefuses(t *testing.T) {
	s, err := Read(tiny)
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		moves []Move
		want  string
	}{
		{[]Move{{"nobody", "a/0", "b/0"}}, "is unknown"},
		{[]Move{{"pinned", "a/1", "b/1"}}, "may not move"},
		{[]Move{{"small", "a/0", "b/0"}, {"small", "b/0", "a/0"}}, "has moved already"},
		{[]Move{{"small", "a/1", "b/0"}}, "is on a/0"},
		{[]Move{{"small", "a/0", "c/0"}}, "cannot go"},
		{[]Move{{"small", "a/0", "b"}}, "cannot go"},
		{[]Move{{"both", "b", "a/0"}}, "cannot go"},
		{[]Move{{"small", "a/0", "b/2"}}, "no NUMA node"},
		{[]Move{{"half", "a/1", "b/0"}}, "has 4 cores"},
		{[]Move{{"half", "a/1", "b/1"}, {"small", "a/0", "b/0"}, {"both", "b", "a"}}, "only 2 allowed"},
	} {
		if _, err := Check(s, tc.moves, 2); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%v: %v, want %q", tc.moves, err, tc.want)
		}
	}
	s.Clusters[0].Hosts[1].NUMA[0].HugeNow = 8191
	if _, err := Check(s, []Move{{"small", "a/0", "b/0"}}, 2); err == nil {
		t.Error("huge pages do not suffice, and the move was let through")
	}
}

func TestReadRefuses(t *testing.T) {
	good, err := os.ReadFile(tiny)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for _, tc := range []struct{ old, new string }{
		{`"node_id":"b"`, `"node_id":"a"`},
		{`"instance_id":"half"`, `"instance_id":"small"`},
		{`"free_cpu":12`, `"free_cpu":45`},
		{`"free_cpu":12`, `"free_cpu":1.5`},
		{`"free_cpu":12`, `"free_cpu":42`},
		{`"host_id":"a"`, `"host_id":"z"`},
		{`[{"node":1,"cpu":8,"mem_mb":16384}]`, `[]`},
		{`{"node":0,"cpu":4,"mem_mb":8192},{"node":1,"cpu":4`, `{"node":0,"cpu":4,"mem_mb":8192},{"node":1,"cpu":8`},
		{`{"cluster_list"`, `{"other"`},
		{`]}]}`, ``},
	} {
		if !strings.Contains(string(good), tc.old) {
			t.Fatalf("%s is not in the file", tc.old)
		}
		if _, err := Read(write("bad.json", strings.Replace(string(good), tc.old, tc.new, 1))); err == nil {
			t.Errorf("%s instead of %s was taken", tc.new, tc.old)
		}
	}
	if _, err := Read(write("bad.json.gz", string(good))); !errors.Is(err, gzip.ErrHeader) {
		t.Errorf("plain text named .gz: %v", err)
	}
	if _, err := Read(filepath.Join(dir, "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
}

// drawSnapshot makes hosts with two NUMA nodes of 20 cores, filled at random.
func drawSnapshot(t *rapid.T, hosts int) *Snapshot {
	c := Cluster{Name: "c"}
	for h := range hosts {
		host := Host{ID: fmt.Sprintf("h%d", h), Status: active}
		if rapid.IntRange(0, 9).Draw(t, "down") == 0 {
			host.Status = "DOWN"
		}
		for n := range 2 {
			host.NUMA = append(host.NUMA, Node{n, 20, 20, 100, 100})
		}
		for range rapid.IntRange(1, 4).Draw(t, "vms") {
			on := []int{rapid.IntRange(0, 1).Draw(t, "node")}
			if rapid.IntRange(0, 3).Draw(t, "wide") == 0 {
				on = []int{0, 1}
			}
			cores := rapid.SampledFrom([]float64{2, 4, 8}).Draw(t, "cores")
			v := VM{ID: fmt.Sprintf("v%d", len(c.VMs)), Host: host.ID, Movable: rapid.IntRange(0, 5).Draw(t, "movable") > 0}
			fits := true
			for _, n := range on {
				v.NUMA = append(v.NUMA, Share{n, cores, 30})
				fits = fits && host.NUMA[n].Free >= cores && host.NUMA[n].HugeNow >= 30
			}
			if !fits {
				continue
			}
			for _, n := range on {
				host.NUMA[n].Free -= cores
				host.NUMA[n].HugeNow -= 30
			}
			c.VMs = append(c.VMs, v)
		}
		c.Hosts = append(c.Hosts, host)
	}
	s := &Snapshot{Clusters: []Cluster{c}}
	if err := s.Validate(); err != nil {
		t.Fatal(err)
	}
	return s
}

// What the search adds up is what is there: after any number of moves, slots, room,
// lists and the objective equal a fresh count.
func TestDeltaEqualsFreshCount(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := drawSnapshot(t, rapid.IntRange(2, 6).Draw(t, "hosts"))
		k := rapid.IntRange(0, 5).Draw(t, "K")
		p, fresh := newProblem(s, k), newProblem(s, k)
		for _, q := range []*problem{p, fresh} {
			q.shape(.3)
			q.price = .15
		}
		value := func(q *problem) (sum float64) {
			for n, f := range q.free {
				if q.active[n] {
					sum -= q.worth[f]
				}
			}
			return sum + q.price*float64(len(q.moved))
		}
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
		want := value(p)
		for i := range 400 {
			limit := math.Inf(1)
			if i%2 == 0 {
				limit = .2
			}
			change, made := p.Try(r, limit)
			if made {
				want += change
				if change > limit {
					t.Fatalf("a change of %g was made, the limit is %g", change, limit)
				}
			}
			if i == 200 {
				p.Keep()
			}
		}
		compare := func() {
			fresh.goTo(p.at)
			if p.y != fresh.y || !reflect.DeepEqual(p.free, fresh.free) || !reflect.DeepEqual(p.room, fresh.room) || !reflect.DeepEqual(p.hugeRoom, fresh.hugeRoom) || len(p.moved) != len(fresh.moved) || len(p.open) != len(fresh.open) {
				t.Fatal("the search's sums are not those of a fresh count")
			}
			var moves []step
			for _, v := range p.moved {
				moves = append(moves, step{v, p.home[v], p.at[v]})
			}
			if y, err := Check(s, p.named(s, moves), k); err != nil || y != p.y {
				t.Fatalf("check: %d slots, %v; the search counts %d", y, err, p.y)
			}
		}
		if got := value(p); math.Abs(got-want) > 1e-9 {
			t.Fatalf("the changes add up to %g, the objective is %g", want, got)
		}
		compare()
		p.Restore()
		compare()
	})
}

// On snapshots small enough to try everything, one search of at most four finds the
// most slots that moves in any order reach with what is free at first.
func TestFindsTheBest(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := drawSnapshot(t, 3)
		k := rapid.IntRange(0, 3).Draw(t, "K")
		p := newProblem(s, k)
		best := p.y
		var try func(i, left int)
		try = func(i, left int) {
			best = max(best, p.y)
			if i == len(p.movable) || left == 0 {
				return
			}
			try(i+1, left)
			v := p.movable[i]
			home, y := p.home[v], p.y
			for n := range p.free {
				to, ok := p.fit(v, int32(n))
				if !ok || !p.active[to] || p.wide[v] && n&1 == 1 {
					continue
				}
				p.leave(v, home)
				if _, fits := p.enter(v, to); fits {
					try(i+1, left-1)
				}
				p.leave(v, to)
				p.enter(v, home)
				p.y = y
			}
		}
		try(0, k)
		moves, r, err := Search(context.Background(), s, Options{Moves: k, Repeat: cooled(300000), Seed: 1})
		if err != nil {
			t.Fatal(err)
		}
		if y, err := Check(s, moves, k); err != nil || y != r.Objective || y != best {
			t.Fatalf("found %d slots, check %d (%v), the best is %d", r.Objective, y, err, best)
		}
	})
}

func TestSameSeedSameMoves(t *testing.T) {
	s, err := Read(tiny)
	if err != nil {
		t.Fatal(err)
	}
	clock := 0.0
	o := Options{Moves: 2, Seed: 3, CPUSeconds: 1, CPU: func() float64 { clock += .01; return clock }}
	first, r, err := Search(context.Background(), s, o)
	if err != nil {
		t.Fatal(err)
	}
	again, r2, err := Search(context.Background(), s, Options{Moves: 2, Seed: 3, Repeat: &r.Search})
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(first, again) || r2.Evaluations != r.Evaluations || !reflect.DeepEqual(r.Search, r2.Search) {
		t.Errorf("%v %+v\n%v %+v", first, r, again, r2)
	}
}

func TestTryDoesNotAllocate(t *testing.T) {
	s, err := Read(tiny)
	if err != nil {
		t.Fatal(err)
	}
	p := newProblem(s, 2)
	r := rand.New(rand.NewPCG(1, 1))
	for range 10000 {
		p.Try(r, .5)
	}
	if n := testing.AllocsPerRun(10000, func() { p.Try(r, .5) }); n > 0 {
		t.Errorf("%g allocations a move", n)
	}
}

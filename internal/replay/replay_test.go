package replay

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"github.com/foreshift/foreshift/schemas"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// small is a history of ten days: VMs that are busy for an hour or two a day, some of
// them together, and a little noise.
func small() *History {
	h := &History{Name: "small", Steps: 10 * day}
	const n = 16
	for v := range n {
		h.VMs = append(h.VMs, VM{fmt.Sprintf("vm%02d", v), 4, 8})
		x := uint32(v + 1)
		for t := range h.Steps {
			x = x*1664525 + 1013904223
			d := .4 + float32(x>>16)/65536*.2
			start := 60*(v%4) + 30
			if at := t % day; at >= start && at < start+18+v {
				d += 2.6
			}
			if (t/7+v*v)%97 == 0 {
				d += 1
			}
			h.D = append(h.D, d)
		}
	}
	return h
}

func TestDecodeSaysWhere(t *testing.T) {
	const head = "vm,t,cpu_pct,cpu_cap_mhz,mem_cap_mb\n"
	for _, c := range []struct{ name, in, want string }{
		{"empty", "", "the file is empty"},
		{"no rows", head, "no rows"},
		{"no column", "vm,t,load\na,0,1\n", "row 1: no column cpu_pct"},
		{"bad time", head + "a,0,1,2600,1024\na,x,1,2600,1024\n", `row 3, column t: "x"`},
		{"time before 0", head + "a,-1,1,2600,1024\n", "row 2, column t"},
		{"time beyond all bounds", head + "a,99999999,1,2600,1024\n", "row 2, column t"},
		{"bad share", head + "a,0,much,2600,1024\n", `row 2, column cpu_pct: "much"`},
		{"not a number", head + "a,0,NaN,2600,1024\n", "row 2, column cpu_pct"},
		{"bad size", head + "a,0,1,-3,1024\n", "row 2, column cpu_cap_mhz"},
		{"bad memory", head + "a,0,1,2600,1e99\n", "row 2, column mem_cap_mb"},
		{"no name", head + ",0,1,2600,1024\n", "row 2, column vm"},
		{"cut off", head + "a,0,1\n", "line 2"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := decode(strings.NewReader(c.in))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got %v, want %q", err, c.want)
			}
		})
	}
}

func TestLoadFillsGapsAndReadsGzip(t *testing.T) {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	fmt.Fprint(z, "vm,t,cpu_pct,cpu_cap_mhz,mem_cap_mb\n")
	for v := range 4 {
		for s := range 9 * day {
			if v == 1 && s == 5 {
				continue
			}
			fmt.Fprintf(z, "v%d,%d,%d,5200,200000\n", v, s, 10*(v+1)+100*(s/(day*8)))
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "x.csv.gz")
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	h, err := Load([]string{path})
	if err != nil {
		t.Fatal(err)
	}
	if h.Filled != 1 || h.Steps != 9*day || h.VMs[1].Cores != 2 || h.VMs[1].GiB != mostGiB {
		t.Fatalf("filled %d, steps %d, %+v", h.Filled, h.Steps, h.VMs[1])
	}
	if got := h.At(1, 5); math.Abs(got-.4) > 1e-6 { // the value before the gap
		t.Fatalf("gap holds %g", got)
	}
	if got := h.At(0, 9*day-1); got != 2 { // above 100 % is 100 %
		t.Fatalf("full VM wants %g", got)
	}
	if err := h.Copies([]int{2}); err != nil || len(h.VMs) != 8 {
		t.Fatal(err, len(h.VMs))
	}
	if h.At(4, 6*day) != h.At(0, 8*day) || h.At(4, 7*day) != h.At(0, 0) {
		t.Fatal("a copy is not ahead by two days, wrapped")
	}
	if err := h.Copies([]int{9}); err == nil {
		t.Fatal("a copy as far ahead as the history is long")
	}
	if _, err := Load([]string{path + "x"}); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "x.csv.gzx") {
		t.Fatal(err)
	}
}

// flat is a world of three hosts of 10 cores and 20 GiB; demand is that of the table.
func flat(gib float64, demand ...float32) (*History, *World) {
	h := &History{Steps: 400}
	at := make([]int32, len(demand))
	for v, d := range demand {
		h.VMs = append(h.VMs, VM{fmt.Sprint(v), 10, gib})
		for range h.Steps {
			h.D = append(h.D, d)
		}
	}
	return h, NewWorld(h, Fleet{H: 3, C: 10, M: 20, End: 400}, at)
}

func TestWorldTakesTimeRoomAndCores(t *testing.T) {
	_, w := flat(8, 6, 5)
	w.Step(0)
	if got := w.Score().Unmet; math.Abs(got-1./12) > 1e-9 {
		t.Fatalf("11 cores wanted of 10 for a step: %g core-hours unmet", got)
	}
	if !w.Begin(Move{VM: 0, From: 0, To: 1}, 0) {
		t.Fatal("refused")
	}
	if w.Mem[0] != 16 || w.Mem[1] != 8 {
		t.Fatalf("memory %v: want it held at both ends", w.Mem)
	}
	if w.Begin(Move{VM: 1, From: 0, To: 1}, 0) || w.Score().Refused != 1 {
		t.Fatal("a second move out of a host")
	}
	w.Step(1) // still at the source, which pays a core more
	if got := w.Score().Unmet; math.Abs(got-3./12-.3*6/3600) > 1e-6 {
		t.Fatalf("unmet %g: want two core-steps more, and the downtime", got)
	}
	if w.At[0] != 1 || w.Mem[0] != 8 {
		t.Fatal("it has not arrived")
	}
	before := w.Score().Unmet
	w.Step(2)
	if w.Score().Unmet != before {
		t.Fatal("unmet demand where there is room")
	}
	if w.Begin(Move{VM: 0, From: 1, To: 0}, 2) {
		t.Fatal("moved again at once")
	}
	if !w.Begin(Move{VM: 0, From: 1, To: 0}, 1+coolDown) || w.Score().PingPong != 1 {
		t.Fatal("a return within a day is one")
	}
}

func TestMemoryBeyondAHostIsUnmet(t *testing.T) {
	_, w := flat(8, 1, 1, 1)
	for s := range 3 { // 24 of 20 GiB for a quarter of an hour
		w.Step(s)
	}
	if got := w.Score().UnmetMem; math.Abs(got-1) > 1e-9 {
		t.Fatalf("%g GiB-hours unmet", got)
	}
}

func TestLargeMovesTakeLonger(t *testing.T) {
	for gib, want := range map[float64]int{1: 1, 300: 1, 301: 2, 600: 2} {
		if got := Takes(gib); got != want {
			t.Errorf("%g GiB take %d steps, want %d", gib, got, want)
		}
	}
}

func TestRivals(t *testing.T) {
	// 3 VMs on host 0: 12 of 10 cores.
	_, w := flat(2, 7, 3, 2)
	w.Step(0)
	r := &react{}
	if got := r.Decide(w, 0); len(got) != 0 {
		t.Fatal("one step above is no reason yet:", got)
	}
	w.Step(1)
	got := r.Decide(w, 1)
	if len(got) != 1 || got[0].VM != 0 { // 3.5 must go: 7 is the smallest that is enough
		t.Fatalf("react: %+v", got)
	}
	b := &balancer{}
	got = b.Decide(w, 1)
	if len(got) != 1 || got[0].VM != 0 || got[0].To != 1 { // both 7 and 3 remove all above 9.5; ties by memory, then host; the first stands
		t.Fatalf("balancer: %+v", got)
	}
	s := &spread{}
	w.Step(6)
	got = s.Decide(w, 6)
	if len(got) != 1 || got[0].VM != 0 {
		t.Fatalf("spread: %+v", got)
	}
	if len(s.Decide(w, 7)) != 0 {
		t.Fatal("spread acts every half hour")
	}
}

func options() Options {
	return Options{U: .8, Hosts: 3, Placements: 2, Model: "empirical", Workers: 1}
}

func hashes(t *testing.T, opt Options) (*Result, []string) {
	t.Helper()
	r, err := Run(context.Background(), small(), opt)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, n := range r.Names {
		out = append(out, r.Policies[n].Hash...)
	}
	return r, out
}

func TestSameRunSameMoves(t *testing.T) {
	r, first := hashes(t, options())
	two := options()
	two.Workers = 2
	two.Forecasts = filepath.Join(t.TempDir(), "f")
	for range 2 { // the second time from the file
		if _, again := hashes(t, two); !slices.Equal(first, again) {
			t.Fatalf("moves differ: %v, %v", first, again)
		}
	}
	if _, err := os.Stat(two.Forecasts); err != nil {
		t.Fatal("forecasts were not kept: ", err)
	}
	for _, n := range []string{"react", "balancer", "persist", "predictive", "oracle-6h"} {
		if r.Policies[n].Moves == 0 {
			t.Errorf("%s moves nothing: the comparison shows nothing", n)
		}
		if r.Policies[n].Refused > 0 {
			t.Errorf("%s: %d moves that the world does not allow", n, r.Policies[n].Refused)
		}
	}
	none, oracle := r.Policies["none"].Unmet, r.Policies["oracle-6h"].Unmet
	if !(oracle < none/2) {
		t.Errorf("the oracle leaves %g of %g", oracle, none)
	}
	var table bytes.Buffer
	if err := r.Table(&table); err != nil || !strings.Contains(table.String(), "predictive") {
		t.Fatal(err, table.String())
	}
	for _, m := range r.Policies["predictive"].runs[0].world.log {
		for _, q := range m.Fan.Source {
			if !slices.IsSorted(q[:]) || !(q[4] > 0) {
				t.Fatalf("foreseen of the source: %v", m.Fan.Source)
			}
		}
	}
	page := string(r.HTML())
	if n, want := strings.Count(page, "c1 band\""), len(fanBands)*min(2*listed, r.Policies["predictive"].Moves); n != want {
		t.Errorf("%d bands drawn, want %d", n, want)
	}
	for _, s := range []string{"<svg", "oracle-6h", "The best moves", "</html>"} {
		if !strings.Contains(page, s) {
			t.Errorf("the page has no %s", s)
		}
	}
	for _, s := range []string{"src=", "href=", "<script"} {
		if strings.Contains(page, s) {
			t.Errorf("the page fetches something: %s", s)
		}
	}
}

// A step that is not put to the placer is one at which it would do nothing.
// half is a source of whose scenarios the last lets the last ten minutes last.
type half struct{ guess }

func (s half) After(t int, f *Frame) error {
	if err := s.guess.After(t, f); err != nil {
		return err
	}
	for j := range f.CPU {
		if j/schemas.Slots%K == K-1 {
			f.CPU[j] = lately(s.h, j/(K*schemas.Slots), t)
		}
	}
	for j := range f.Msg.Weight {
		f.Msg.Weight[j] = .5 / (K - 1)
		if j/schemas.Slots == K-1 {
			f.Msg.Weight[j] = .5
		}
	}
	f.seal(t)
	return nil
}

func TestSkippedStepsDecideNothing(t *testing.T) {
	h := small()
	f, err := Size(h, .8, 3, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	at, _ := Place(h, f, 1)
	for _, name := range []string{"persist", "oracle-6h", "predictive"} {
		set, _ := settingsOf(name)
		a := &run{kind: name, world: NewWorld(h, f, at), ours: newOurs(name, h, set)}
		b := &run{kind: name, world: NewWorld(h, f, at), ours: newOurs(name, h, set)}
		a.policy, b.policy, b.ours.always = a.ours, b.ours, true
		src := Source(persist{h})
		switch name {
		case "oracle-6h":
			src = oracle{h}
		case "predictive":
			src = half{guess{oracle{h}, 1}}
		}
		frames := map[string]*Frame{name: newFrame(h)}
		for s := f.Start; s < f.Start+2*day; s++ {
			if err := src.After(s, frames[name]); err != nil {
				t.Fatal(err)
			}
			a.step(s, frames, false)
			b.step(s, frames, false)
		}
		x, y := a.world.Score(), b.world.Score()
		if x.Hash != y.Hash || x.Moves == 0 {
			t.Errorf("%s: %d moves with steps skipped, %d without", name, x.Moves, y.Moves)
		}
		if one, other := a.ours.fleet.Memory.Trust, b.ours.fleet.Memory.Trust; name == "predictive" && (!reflect.DeepEqual(one.Sums, other.Sums) || one.Sums[0].Steps < day) {
			t.Errorf("%s: trust was learnt differently: %+v, %+v", name, one.Sums, other.Sums)
		}
		if x.Decisions >= y.Decisions {
			t.Errorf("%s: nothing was skipped", name)
		}
	}
}

func TestRefusals(t *testing.T) {
	for _, c := range []struct {
		opt  Options
		want string
	}{
		{Options{Policies: []string{"magic"}}, `no policy "magic"`},
		{Options{Policies: []string{"none:benefit=1"}}, "has no settings"},
		{Options{Policies: []string{"persist:benefit=x"}}, "want a number"},
		{Options{Policies: []string{"persist:pace=1"}}, "no setting"},
		{Options{Policies: []string{"persist", "persist"}}, "named twice"},
		{Options{Model: "guess"}, "no model"},
		{Options{To: 8}, "no whole day"},
		{Options{U: 3}, "utilisation"},
		{Options{Placements: -1}, "placements"},
	} {
		if _, err := Run(context.Background(), small(), c.opt); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("got %v, want %q", err, c.want)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	opt := options()
	opt.Policies = []string{"none"}
	if _, err := Run(ctx, small(), opt); !errors.Is(err, context.Canceled) {
		t.Error("a stopped run gave", err)
	}
	other := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(other, []byte("something else, long enough for a header"), 0o600); err != nil {
		t.Fatal(err)
	}
	opt = options()
	opt.Policies, opt.Forecasts = []string{"predictive"}, other
	if _, err := Run(context.Background(), small(), opt); err == nil || !strings.Contains(err.Error(), "no forecasts of this history") {
		t.Error("forecasts of something else were taken:", err)
	}
}

// Without the rivals that gates compare, a result does not call itself valid.
func TestGatesWantTheirPolicies(t *testing.T) {
	opt := options()
	opt.Policies = []string{"none", "react"}
	r, _ := hashes(t, opt)
	if r.Valid || len(r.Gates) != 4 {
		t.Fatalf("valid %t with gates %+v", r.Valid, r.Gates)
	}
	if x := r.Policies["none"].Ratios["react"]; !(x.Low <= x.Value && x.Value <= x.High) {
		t.Fatalf("interval %+v", x)
	}
}

package sim

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/foreshift/foreshift/internal/sim/load"
	"github.com/foreshift/foreshift/schemas"
)

// dayOf is a fleet's host load over a day from its start: per host and step, as a
// share of capacity, under a placement.
func dayOf(f *Fleet, from schemas.Step, home []int) [][]float64 {
	out := make([][]float64, len(f.hosts))
	for h := range out {
		out[h] = make([]float64, schemas.StepsPerDay)
	}
	for i := range f.vms {
		c := float64(f.hosts[home[i]].Capacity.CPU)
		for k := range out[home[i]] {
			out[home[i]][k] += f.demand.At(i, from+schemas.Step(k)).CPU / c
		}
	}
	return out
}

// above counts the steps above capacity, their longest run, the first and the peak.
func above(x []float64) (n, run, first int, top float64) {
	first = -1
	length := 0
	for k, v := range x {
		top = max(top, v)
		if v <= 1 {
			length = 0
			continue
		}
		if first < 0 {
			first = k
		}
		n++
		length++
		run = max(run, length)
	}
	return n, run, first, top
}

// offline makes a fleet and closes its listeners at once.
func offline(t testing.TB, cfg Config) *Fleet {
	t.Helper()
	f, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	return f
}

func (f *Fleet) first() []int {
	home := make([]int, len(f.vms))
	for i := range f.vms {
		home[i] = f.byHost[f.vms[i].Host]
	}
	return home
}

func TestDefaultFleetRunsShortAndNeedNot(t *testing.T) {
	for seed := uint64(0); seed < 5; seed++ {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			f := offline(t, Config{Seed: seed, Base: time.Second, Start: epoch, PeakIn: 120})
			home := f.first()
			var sites [2]int
			for _, h := range f.hosts {
				sites[map[schemas.SiteID]int{"private": 0, "public": 1}[h.Site]]++
			}
			if sites != [2]int{5, 3} {
				t.Fatalf("hosts by site %v", sites)
			}
			mem := make([]float64, len(f.hosts))
			for i, v := range f.vms {
				mem[home[i]] += float64(v.AllocMem)
			}
			for h := range mem {
				if mem[h] > .97*float64(f.hosts[h].Capacity.Mem) {
					t.Errorf("%s is given %.0f of %.0f bytes", f.hosts[h].ID, mem[h], float64(f.hosts[h].Capacity.Mem))
				}
			}
			today := dayOf(f, f.start, home)
			short, roomy := 0, 0
			for h, x := range today {
				n, run, first, top := above(x)
				if top < .8 {
					roomy++
				}
				if n == 0 {
					continue
				}
				short++
				if run < 30 || top < 1.05 {
					t.Errorf("%s is short for %d steps (%d in a row), peak %.2f: want 30 in a row, clearly", f.hosts[h].ID, n, run, top)
				}
				if first < 30 || first > 120 {
					t.Errorf("%s crosses at step %d, want it to come between 30 and the peak at 120", f.hosts[h].ID, first)
				}
				// Yesterday and the day before told of it.
				for d := 1; d <= 3; d++ {
					_, _, past, _ := above(dayOf(f, f.start-schemas.Step(d*schemas.StepsPerDay), home)[h])
					if past < 0 || math.Abs(float64(past-first)) > 25 {
						t.Errorf("%s crosses at step %d, but %d days before at %d", f.hosts[h].ID, first, d, past)
					}
				}
			}
			if short < 1 || short > 2 || roomy < 3 {
				t.Errorf("%d hosts run short and %d have room; want 1 or 2, and at least 3", short, roomy)
			}
			better := spreadOut(f)
			for h, x := range dayOf(f, f.start, better) {
				if n, _, _, top := above(x); n > 0 {
					t.Errorf("%s is short for %d steps (peak %.2f) in the better placement as well", f.hosts[h].ID, n, top)
				}
			}
		})
	}
}

// spreadOut is a placement without shortage, found with the true future: VMs in
// the order of their peaks, each to the host whose worst step stays lowest.
func spreadOut(f *Fleet) []int {
	n := schemas.StepsPerDay
	home := make([]int, len(f.vms))
	sum := make([][]float64, len(f.hosts))
	mem := make([]float64, len(f.hosts))
	for h := range sum {
		sum[h] = make([]float64, n)
	}
	for i := range f.vms {
		best, least := 0, math.Inf(1)
		var d []float64
		for k := 0; k < n; k++ {
			d = append(d, f.demand.At(i, f.start+schemas.Step(k)).CPU)
		}
		for h := range sum {
			worst := 0.0
			for k := range d {
				worst = max(worst, sum[h][k]+d[k])
			}
			if worst < least && mem[h]+float64(f.vms[i].AllocMem) <= float64(f.hosts[h].Capacity.Mem) {
				best, least = h, worst
			}
		}
		home[i] = best
		mem[best] += float64(f.vms[i].AllocMem)
		for k := range d {
			sum[best][k] += d[k]
		}
	}
	return home
}

func TestPeakComesWhenAsked(t *testing.T) {
	for _, in := range []int{1, 60, 200} {
		f := offline(t, Config{Seed: 5, Base: time.Second, Start: epoch, PeakIn: in})
		best, at := 0.0, 0
		for k := 0; k < schemas.StepsPerDay; k++ {
			sum := 0.0
			for i := range f.vms {
				sum += f.demand.At(i, f.start+schemas.Step(k)).CPU
			}
			if sum > best {
				best, at = sum, k
			}
		}
		if d := (at - in + 288) % 288; d > 25 && d < 263 {
			t.Errorf("PeakIn %d: the peak comes at %d", in, at)
		}
	}
}

func TestSameConfigSameFleet(t *testing.T) {
	cfg := Config{Seed: 9, Hosts: 20, VMs: 200, Start: epoch}
	a, b := offline(t, cfg), offline(t, cfg)
	if fmt.Sprint(a.vms) != fmt.Sprint(b.vms) {
		t.Fatal("two fleets of one configuration differ")
	}
	cfg.Seed++
	if fmt.Sprint(a.vms) == fmt.Sprint(offline(t, cfg).vms) {
		t.Fatal("another seed gives the same fleet")
	}
}

func TestHistoryIsTheLiveDemand(t *testing.T) {
	clock := &hand{t: epoch}
	f := offline(t, Config{Seed: 2, Base: time.Second, Start: epoch, Now: clock.now, PeakIn: 5})
	seen := map[schemas.VMID]bool{}
	step := f.start - 40
	for _, s := range f.History(step) {
		if err := s.Validate(); err != nil {
			t.Fatalf("partition %d: %v", s.Partition, err)
		}
		if _, err := schemas.Encode(s); err != nil {
			t.Fatal(err)
		}
		for i, v := range s.VM {
			seen[v] = true
			d, _ := f.Demand(v, step)
			if s.Cols[schemas.ColCPU][i] != float32(d.CPU) || s.Flags[i] != schemas.FlagImported || v.Partition() != s.Partition {
				t.Fatalf("VM %s: %v in history, %v wanted", v, s.Cols[schemas.ColCPU][i], d.CPU)
			}
		}
	}
	if len(seen) != len(f.vms) {
		t.Fatalf("history has %d of %d VMs", len(seen), len(f.vms))
	}
	// Ten live steps: run time plus delay is the demand, delay is the steal of
	// history's formula.
	before := f.readAll()
	clock.add(10 * time.Second)
	after := f.readAll()
	stolen := 0.0
	for i := range f.vms {
		want, steal := 0.0, 0.0
		for k := schemas.Step(0); k < 10; k++ {
			want += f.demand.At(i, f.start+k).CPU
			for _, s := range f.History(f.start + k) {
				for j, v := range s.VM {
					if v == f.vms[i].ID {
						steal += float64(s.Cols[schemas.ColSteal][j])
					}
				}
			}
		}
		got := (after[i][0] + after[i][1] - before[i][0] - before[i][1]) / 1e6
		if math.Abs(got-want) > 1e-6*want {
			t.Errorf("%s ran and waited for %.3f mCPU-s, wanted %.3f", f.vms[i].Name, got, want)
		}
		if d := (after[i][1] - before[i][1]) / 1e6; math.Abs(d-steal) > 1e-3+1e-5*steal {
			t.Errorf("%s waited %.3f, history says %.3f", f.vms[i].Name, d, steal)
		}
		stolen += steal
	}
	if stolen == 0 {
		t.Error("nobody waited for a core at the peak: the test shows nothing")
	}
}

// readAll is run time and delay of every VM, in core-ns.
func (f *Fleet) readAll() [][2]float64 {
	f.lock()
	defer f.unlock()
	out := make([][2]float64, len(f.vms))
	for i, v := range f.vms {
		m := f.w.Host(f.byHost[v.Host]).Find(v.ID).Read()
		out[i] = [2]float64{m.CPU, m.Delay}
	}
	return out
}

func TestTraceFleet(t *testing.T) {
	f := offline(t, Config{Seed: 1, Hosts: 3, VMs: 5, Start: epoch, Trace: "load/testdata/trace.csv"})
	if f.vms[0].Name != "a" || f.vms[0].VCPUs != 2 || f.vms[3].Name != "a-1" {
		t.Fatalf("VMs of the trace: %+v", f.vms)
	}
	for _, s := range f.History(f.start - 3) {
		if err := s.Validate(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestConfigFaultsAreAllNamed(t *testing.T) {
	_, err := New(Config{VMs: -1, Base: time.Microsecond, Port: 1 << 20, Sites: []Site{{ID: "a b", Hosts: 1}, {ID: "c", Hosts: 2}}, Hosts: 9})
	if err == nil {
		t.Fatal("a bad configuration is accepted")
	}
	for _, want := range []string{"VMs", "Base", "Port", "a b", "Hosts = 9"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not named in: %v", want, err)
		}
	}
}

func BenchmarkDemand(b *testing.B) {
	f := offline(b, Config{Seed: 1, Start: epoch})
	var d load.Demand
	b.ReportAllocs()
	for i := 0; i < b.N; i++ {
		d = f.demand.At(i%len(f.vms), schemas.Step(i))
	}
	_ = d
}

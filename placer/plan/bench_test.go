package plan

import (
	"fmt"
	"math"
	"math/rand/v2"
	"syscall"
	"testing"
	"time"

	"github.com/foreshift/foreshift/placer/internal/fleettest"
	"github.com/foreshift/foreshift/placer/policy"
	"github.com/foreshift/foreshift/placer/search"
	"github.com/foreshift/foreshift/schemas"
)

// bigWorld is a fleet of n hosts in two sites, loaded to about 80 % with bursts
// that coincide by class.
func bigWorld(hosts, vms int, seed uint64) *fleettest.World {
	r := rand.New(rand.NewPCG(seed, 1))
	w := fleettest.New(5 * time.Minute)
	per := float64(vms) / float64(hosts)
	for h := 0; h < hosts; h++ {
		w.Hosts = append(w.Hosts, fleettest.Host{ID: schemas.HostID(fmt.Sprintf("host-%04d", h)), Site: []schemas.SiteID{"s1", "s2"}[h%2], Cores: 2.2 * per, GiB: 10 * per, Simulated: true})
	}
	for i := 0; i < vms; i++ {
		v := fleettest.VM{Name: fmt.Sprintf("vm-%06d", i), Host: w.Hosts[r.IntN(hosts)].ID, Cores: .4 + 2*r.Float64(), GiB: 1 + 6*r.Float64()}
		if class := r.IntN(6); class < 3 {
			v.Peak = fleettest.Peak{From: w.Step() + schemas.Step(3+5*class), Len: 12, Cores: 2 * v.Cores, In: 4 + 4*class}
		}
		w.VMs = append(w.VMs, v)
	}
	w.Links = []schemas.CapacityLink{{A: "s1", B: "s2", Time: w.Now, Bandwidth: 1e9, Free: 1e9}}
	return w
}

// BenchmarkDecide is a whole decision: view, sums, pressures, greedy, reasons.
func BenchmarkDecide(b *testing.B) {
	for _, size := range []struct{ hosts, vms int }{{50, 1000}, {500, 10000}} {
		b.Run(fmt.Sprintf("%dx%d", size.hosts, size.vms), func(b *testing.B) {
			w := bigWorld(size.hosts, size.vms, 5)
			f := fold(b, w, inputs(w))
			p := policy.Default()
			p.Mode, p.HoldSteps, p.MaxPerCluster, p.MaxPerHour = schemas.ModeAuto, 0, 50, 100
			evals, pressed, moves := 0, 0, 0
			b.ResetTimer()
			cpu := cpuSeconds()
			for i := 0; i < b.N; i++ {
				s := Prepare(f, p, cut(w))
				d := s.Decide(search.Budget{Evaluations: 20000}, 1)
				evals, moves, pressed = s.Evals, len(d.Plan.Actions), len(d.Benefits)
			}
			b.ReportMetric((cpuSeconds()-cpu)/float64(b.N), "CPU-s/op")
			b.ReportMetric(float64(evals), "deltas/op")
			b.ReportMetric(float64(pressed), "candidates")
			b.ReportMetric(float64(moves), "moves")
		})
	}
}

// BenchmarkDelta is one delta over two hosts, 13 scenarios and the whole grid of 44 slots.
func BenchmarkDelta(b *testing.B) {
	w := bigWorld(50, 1000, 5)
	p := policy.Default()
	p.LookAheadSteps = schemas.StepsPerDay
	s := Prepare(fold(b, w, inputs(w)), p, cut(w))
	b.ReportAllocs()
	b.ResetTimer()
	sum, cpu := 0.0, cpuSeconds()
	for i := 0; i < b.N; i++ {
		vm := i % len(s.V.VMs)
		a := int(s.V.VMs[vm].Host)
		to := i * 7 % len(s.V.Hosts)
		if to == a {
			to = (to + 1) % len(s.V.Hosts)
		}
		sum += s.sums.delta(vm, a, to, 1)
	}
	if math.IsNaN(sum) {
		b.Fatal("NaN")
	}
	b.ReportMetric(float64(b.N)/(cpuSeconds()-cpu), "deltas/CPU-s")
}

// cpuSeconds is what the process has used: benches share their cores with others.
func cpuSeconds() float64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9
}

// Neither a delta nor a check of memory allocates.
func TestDeltaDoesNotAllocate(t *testing.T) {
	w := bigWorld(10, 100, 5)
	s := Prepare(fold(t, w, inputs(w)), policy.Default(), cut(w))
	vm, to := 3, (int(s.V.VMs[3].Host)+1)%10
	if n := testing.AllocsPerRun(100, func() {
		s.sums.delta(vm, int(s.V.VMs[vm].Host), to, 1)
		s.sums.memFits(vm, to)
	}); n != 0 {
		t.Errorf("a delta allocates %g times", n)
	}
}

// annealing is a board in the middle of its refinement: more than enough hosts for an
// index, and groups of every kind.
func annealing(tb testing.TB) *neighbourhood {
	w := bigWorld(100, 2000, 5)
	p := auto()
	p.LookAheadSteps, p.MaxPerHost, p.MaxPerCluster, p.MaxPerHour = schemas.StepsPerDay, 8, 200, 1000
	for i := 0; i+3 < len(w.VMs); i += 40 {
		g := []schemas.VMID{fleettest.ID(w.VMs[i].Name), fleettest.ID(w.VMs[i+1].Name), fleettest.ID(w.VMs[i+2].Name)}
		p.Apart, p.SoftTogether = append(p.Apart, g), append(p.SoftTogether, g[1:])
		w.VMs[i+3].Labels = map[string]string{"foreshift.talks": fmt.Sprint(i % 7)}
	}
	s := Prepare(fold(tb, w, inputs(w)), p, cut(w))
	b := s.newBoard(s.candidates(), rand.New(rand.NewPCG(1, 2)))
	b.greedy()
	n := b.newNeighbourhood()
	n.reserve()
	n.Keep()
	return n
}

func TestAnnealingDoesNotAllocate(t *testing.T) {
	n := annealing(t)
	r, made := n.b.rng, 0
	if allocs := testing.AllocsPerRun(3000, func() {
		if _, ok := n.Try(r, 200*r.ExpFloat64()); ok {
			made++
		}
		if made%50 == 0 {
			n.Keep()
		}
	}); allocs != 0 || made < 100 {
		t.Errorf("a try allocates %g times; %d of 3000 were made", allocs, made)
	}
	if len(n.helpers) == 0 {
		t.Error("no VM was asked to make room: this shows nothing of them")
	}
}

// BenchmarkAnneal is the whole loop of the refinement on all 44 slots: draws, rules,
// exact deltas, moves made and taken back.
func BenchmarkAnneal(b *testing.B) {
	n := annealing(b)
	r, t := n.b.rng, 0.0
	n.b.s.Evals = 0
	b.ReportAllocs()
	b.ResetTimer()
	cpu := cpuSeconds()
	for range b.N {
		n.Try(r, 50*r.ExpFloat64())
	}
	t = cpuSeconds() - cpu
	b.ReportMetric(float64(n.b.s.Evals)/t, "deltas/CPU-s")
	b.ReportMetric(float64(b.N)/t, "tries/CPU-s")
}

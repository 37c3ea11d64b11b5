package ensemble

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/apache/arrow/go/v17/arrow/memory"
	"github.com/foreshift/foreshift/forecaster/window"
	"github.com/foreshift/foreshift/schemas"
)

// group is VMs that burst together, each burst at random but the same for all.
func group(vms, steps int, seed uint64) [][]float32 {
	rng := rand.New(rand.NewPCG(seed, 3))
	burst := make([]float64, steps)
	for s := 0; s < steps; {
		n := 6 + rng.IntN(60)
		if rng.IntN(4) == 0 {
			for k := s; k < min(s+n, steps); k++ {
				burst[k] = 800
			}
		}
		s += n
	}
	out := make([][]float32, vms)
	for v := range out {
		out[v] = shape(steps, func(s int) float64 { return 300 + burst[s] + 20*rng.NormFloat64() })
	}
	return out
}

func windowsOf(series [][]float32, first schemas.Step) []*window.Window {
	ws := make([]*window.Window, len(series))
	for v, x := range series {
		ws[v] = window.New(memory.NewGoAllocator())
		for k, y := range x {
			if y != y {
				continue
			}
			r := window.Row{Step: first + schemas.Step(k), Coverage: 1}
			for c := range r.V {
				r.V[c] = schemas.NaN()
			}
			r.V[schemas.ColCPU], r.V[schemas.ColMem] = y, 1
			ws[v].Put(&r)
		}
	}
	return ws
}

// paths gives the CPU scenarios of VMs whose marginals are the quantiles of the last
// day.
func paths(ws []*window.Window, issued schemas.Step, history int) (*Joint, [][]float32, schemas.Dist) {
	j := &Joint{}
	j.Begin(issued, history)
	for _, w := range ws {
		v := w.View()
		j.Join(&v)
	}
	var d schemas.Dist
	out := make([][]float32, len(ws))
	for n, w := range ws {
		v := w.View()
		d = schemas.NewDist()
		x := slices.Clone(v.Cols[0][max(0, v.N-day):])
		slices.Sort(x)
		for s := range schemas.Slots {
			for l, p := range schemas.Levels {
				d.At(s)[l] = x[int(p*float32(len(x)-1))]
			}
		}
		out[n] = make([]float32, (K+1)*schemas.Slots*resources)
		j.Paths(&v, [resources]schemas.Dist{d, d}, out[n])
	}
	return j, out, d
}

func sumAt(ds [][]float32, k, s int) (sum float64) {
	for _, d := range ds {
		sum += float64(d[(k*schemas.Slots+s)*resources])
	}
	return sum
}

// The point of joint scenarios: the upper tail of a sum over VMs that burst together
// is as fat as in the truth, not as thin as for independent ones.
func TestSumKeepsTheTailOfCoBursts(t *testing.T) {
	const vms, steps = 20, 8 * day
	series := group(vms, steps, 11)
	first := schemas.Step(288 * 500)
	_, ds, _ := paths(windowsOf(series, first), first+steps-1, steps)
	var joint, shuffled float64
	rng := rand.New(rand.NewPCG(5, 6))
	for s := 12; s < schemas.Slots; s++ {
		var top, indep float64
		for k := range K {
			top = max(top, sumAt(ds, k, s))
			var sum float64
			for _, d := range ds {
				sum += float64(d[(rng.IntN(K)*schemas.Slots+s)*resources])
			}
			indep = max(indep, sum)
		}
		joint += top
		shuffled += indep
	}
	n := float64(schemas.Slots - 12)
	joint, shuffled = joint/n, shuffled/n
	var truth []float64
	for s := range steps {
		var sum float64
		for v := range series {
			sum += float64(series[v][s])
		}
		truth = append(truth, sum)
	}
	slices.Sort(truth)
	p95 := truth[len(truth)*95/100]
	t.Logf("highest of %d sums: joint %.0f, independent %.0f; truth's 95 %% %.0f", K, joint, shuffled, p95)
	if joint < .95*p95 || shuffled > .85*joint {
		t.Fatalf("joint %.0f, independent %.0f, truth %.0f", joint, shuffled, p95)
	}
}

func TestNewcomersFollowTheOthers(t *testing.T) {
	const steps = 8 * day
	series := group(6, steps, 4)
	for s := range steps - 20 { // VM 0 was made 20 steps ago
		series[0][s] = schemas.NaN()
	}
	first := schemas.Step(288 * 700)
	_, ds, _ := paths(windowsOf(series, first), first+steps-1, steps)
	var agree, all float64
	for s := range schemas.Slots {
		order := func(v int) (rank [K]int) {
			for a := range K {
				for b := range K {
					if ds[v][(b*schemas.Slots+s)*resources] < ds[v][(a*schemas.Slots+s)*resources] {
						rank[a]++
					}
				}
			}
			return rank
		}
		a, b := order(0), order(3)
		for x := range K {
			for y := range x {
				all++
				if (a[x]-a[y])*(b[x]-b[y]) >= 0 {
					agree++
				}
			}
		}
	}
	if agree/all < .7 {
		t.Fatalf("a newcomer agrees with the others on %.0f %% of the orders, chance is 50 %%", 100*agree/all)
	}
	// Nobody has a past: all follow one path.
	young := [][]float32{{3}, {9}}
	_, ds, _ = paths(windowsOf(young, first), first, 1)
	for s := range schemas.Slots {
		for x := range K {
			for y := range K {
				a := ds[0][(x*schemas.Slots+s)*resources] - ds[0][(y*schemas.Slots+s)*resources]
				b := ds[1][(x*schemas.Slots+s)*resources] - ds[1][(y*schemas.Slots+s)*resources]
				if a*b < 0 {
					t.Fatalf("slot %d: two newcomers move against each other in scenarios %d and %d", s, x, y)
				}
			}
		}
	}
}

func TestScenariosHaveTheMarginals(t *testing.T) {
	const steps = 3 * day
	first := schemas.Step(288 * 900)
	ws := windowsOf(group(2, steps, 9), first)
	j, ds, dist := paths(ws, first+steps-1, steps)
	for s := range schemas.Slots {
		var got []float32
		var total float32
		for k := range K + 1 {
			total += j.Weight[k*schemas.Slots+s]
			if k < K {
				got = append(got, ds[1][(k*schemas.Slots+s)*resources])
			}
		}
		if math.Abs(float64(total-1)) > 1e-5 {
			t.Fatalf("slot %d: weights sum to %v", s, total)
		}
		persist := j.Weight[K*schemas.Slots+s]
		if want := map[bool]float32{true: persistPart, false: 0}[s < 12]; persist != want {
			t.Fatalf("slot %d: persistence weighs %v", s, persist)
		}
		slices.Sort(got)
		for n, y := range got {
			if want := dist.Quantile(s, (float32(n)+.5)/K); math.Abs(float64(y-want)) > .01*float64(want)+1e-3 {
				t.Fatalf("slot %d: %d-th smallest %v, want %v", s, n, y, want)
			}
		}
	}
}

func TestOrigins(t *testing.T) {
	for _, history := range []int{0, 1, 5, 100, day - 1, day, 3 * day, 8 * day} {
		t.Run(fmt.Sprint(history), func(t *testing.T) {
			const issued = 288*1000 + 100
			a := Origins(issued, history)
			if a != Origins(issued, history) {
				t.Fatal("not a function")
			}
			for k, o := range a {
				if o >= issued || o < issued-8*day {
					t.Fatalf("origin %d at %d, issued %d", k, o, issued)
				}
				if history >= day && k < 7 {
					if off := (issued - o) % day; off > 20 && off < day-20 {
						t.Fatalf("origin %d is %d steps off the time of day", k, off)
					}
				}
			}
		})
	}
}

// The chosen origins are the steps at which the fleet was as it is now.
func TestChooseOrigins(t *testing.T) {
	const n = 7*day + 100
	fleet := shape(n, func(s int) float64 { // bursts of an hour at odd times, one of them now
		if s*7919/50%9 == 0 || s > n-7 {
			return 500
		}
		return 100 + 20*math.Sin(2*math.Pi*float64(s)/day)
	})
	for s := 300; s < 340; s++ {
		fleet[s] = schemas.NaN()
	}
	const first = schemas.Step(5000)
	got := ChooseOrigins(first, fleet)
	if len(got) != K || !slices.Equal(got, ChooseOrigins(first, fleet)) {
		t.Fatalf("origins %v", got)
	}
	high := 0
	for k, o := range got {
		if fleet[o-first] == 500 {
			high++
		}
		for _, p := range got[:k] {
			if d := o - p; d > -apart && d < apart {
				t.Fatalf("origins %d and %d are too close", o, p)
			}
		}
		if o > first+n-1-hourSteps {
			t.Fatalf("origin %d is too new", o)
		}
	}
	if high < K/2 {
		t.Fatalf("%d of %d origins are in a burst as now is", high, K)
	}
	if got := ChooseOrigins(first, fleet[:2*day]); got != nil {
		t.Fatalf("two days gave %v", got)
	}
	var j Joint
	at := first + n - 1
	if err := j.SetOrigins(at, got); err != nil {
		t.Fatal(err)
	}
	j.Begin(at+3, n)
	if j.Origins[2] != got[2]+3 {
		t.Fatalf("origin %d three steps on is %d", got[2], j.Origins[2])
	}
	if j.Begin(at+day+1, n); j.Origins != Origins(at+day+1, n) {
		t.Fatal("the choice outlives its day")
	}
	if j.SetOrigins(at, got[1:]) == nil || j.SetOrigins(got[0], got) == nil {
		t.Fatal("took too few origins, or one to come")
	}
}

// What one VM did at the moment of an origin says nothing of the evening after.
func TestTheOriginsMomentIsForgotten(t *testing.T) {
	const steps = 8 * day
	first := schemas.Step(288 * 600)
	issued := first + steps - 1
	x := shape(steps, func(s int) float64 { return 100 + 10*float64(s/day) + 9*math.Mod(float64(s)*.618, 1) })
	spike := Origins(issued, steps)[0]
	for s := spike - levelSteps + 1; s <= spike; s++ {
		x[s-first] = 1000
	}
	_, ds, _ := paths(windowsOf([][]float32{x}, first), issued, steps)
	rank := func(s int) (n int) {
		for k := 1; k < K; k++ {
			if ds[0][(k*schemas.Slots+s)*resources] < ds[0][s*resources] {
				n++
			}
		}
		return n
	}
	if near, far := rank(0), rank(schemas.Slots-1); near > 1 || far < K/2 {
		t.Fatalf("the day after the spike ranks %d at once and %d a day later", near, far)
	}
}

// VMs of their own minds are drawn to what the fleet does, and not all the way.
func TestVMsAreDrawnToTheFleet(t *testing.T) {
	const vms, steps = 30, 8 * day
	rng := rand.New(rand.NewPCG(3, 9))
	series := make([][]float32, vms)
	for v := range series {
		series[v] = shape(steps, func(int) float64 { return 100 + 10*rng.NormFloat64() })
	}
	first := schemas.Step(288 * 600)
	_, ds, _ := paths(windowsOf(series, first), first+steps-1, steps)
	var rank float64
	for s := range schemas.Slots {
		best := 0
		for k := range K {
			if sumAt(ds, k, s) > sumAt(ds, best, s) {
				best = k
			}
		}
		for _, d := range ds {
			for k := range K {
				if d[(k*schemas.Slots+s)*resources] < d[(best*schemas.Slots+s)*resources] {
					rank += 1. / (vms * schemas.Slots)
				}
			}
		}
	}
	if alone := float64(K-1) / 2; rank < alone+1 || rank > float64(K-1)-1 {
		t.Fatalf("in the fleet's highest scenario a VM has rank %.1f of 0..%d", rank, K-1)
	}
}

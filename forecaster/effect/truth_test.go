package effect

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/apache/arrow/go/v17/arrow/memory"
	"github.com/foreshift/foreshift/forecaster/window"
	"github.com/foreshift/foreshift/schemas"
)

// town is a simulated fleet in which one VM moves, lived through twice: with the move
// and without. VMs have days, slow swings and noise; a host above its cores makes its
// VMs wait, and a busy host answers slowly.
type town struct {
	move Move
	now  schemas.Step
	past []Past
	// truth is what the move changed, by term.
	truth map[string]float64
}

const (
	townHosts = 7
	townVMs   = 42
	perCore   = 1000
)

func build(seed uint64, shift bool) town {
	rng := rand.New(rand.NewPCG(seed, 7))
	const steps = window.Rows
	length := 1 + rng.IntN(2)
	to := schemas.Step(steps - 1 - Span)
	from := to - schemas.Step(length) + 1
	first := schemas.Step(1_000_000)
	at := int(from)
	demand := make([][]float64, townVMs)
	fleet := make([]float64, steps)
	slow := 0.0
	for t := range fleet {
		slow = .995*slow + .01*rng.NormFloat64()
		fleet[t] = slow
	}
	begins := at - 2 + rng.IntN(6)
	by := math.Log(.6 + rng.Float64())
	for v := range demand {
		demand[v] = make([]float64, steps)
		base, day, phase := perCore*(.5+2*rng.Float64()), .1+.4*rng.Float64(), .6*rng.NormFloat64()
		follows, own, quick := .7+.6*rng.Float64(), 0.0, 0.0
		for t := range demand[v] {
			own = .98*own + .03*rng.NormFloat64()
			quick = .6*quick + .08*rng.NormFloat64()
			x := day*math.Sin(2*math.Pi*float64(t)/schemas.StepsPerDay+phase) + own + quick + follows*fleet[t]
			if shift && t >= begins {
				x += follows * by
			}
			demand[v][t] = base * math.Exp(x)
		}
	}
	host := func(v, t int, moved bool) int {
		if v == 0 && moved && t > int(to) {
			return 1
		}
		return v % townHosts
	}
	cores := make([]float64, townHosts)
	for h := range cores {
		sum := 0.0
		for v := range demand {
			if v%townHosts == h {
				for _, x := range demand[v][:at] {
					sum += x / float64(at)
				}
			}
		}
		cores[h] = sum * (1.1 + .3*rng.Float64())
		if h == 0 {
			cores[h] = sum * (.9 + .2*rng.Float64()) // the one that runs short
		}
	}
	var cols [2][townVMs][schemas.NumColumns][]float32
	noise := make([]float64, townVMs*steps)
	for i := range noise {
		noise[i] = math.Exp(.1 * rng.NormFloat64())
	}
	for w, moved := range [2]bool{false, true} {
		for v := range cols[w] {
			for _, c := range []schemas.Column{schemas.ColCPU, schemas.ColSteal, schemas.ColAppMs} {
				cols[w][v][c] = make([]float32, steps)
			}
		}
		for t := range steps {
			var load [townHosts]float64
			for v := range demand {
				load[host(v, t, moved)] += demand[v][t]
			}
			for v := range demand {
				h := host(v, t, moved)
				use := load[h] / cores[h]
				c := &cols[w][v]
				c[schemas.ColCPU][t] = float32(demand[v][t])
				c[schemas.ColSteal][t] = float32(demand[v][t] * max(0, 1-1/use))
				c[schemas.ColAppMs][t] = float32(20 / (1.05 - min(use, .95)) * noise[v*steps+t])
			}
		}
	}
	tw := town{move: Move{Command: "c", Epoch: 1, VM: schemas.VMID{1}, Source: "h0", Destination: "h1", From: first + from, To: first + to}, now: first + steps - 1, truth: map[string]float64{}}
	flags := make([]uint8, steps)
	for v := range townVMs {
		p := Past{VM: schemas.VMID{byte(v + 1)}, Host: schemas.HostID(fmt.Sprintf("h%d", host(v, steps-1, true))), Since: first}
		if v == 0 {
			p.Since = first + to + 1
		}
		p.View = window.View{First: first, N: steps, Flags: flags, Cols: cols[1][v]}
		tw.past = append(tw.past, p)
	}
	mean := func(w, v int, c schemas.Column) (x float64) {
		for _, y := range cols[w][v][c][to+1:] {
			x += float64(y) / Span
		}
		return x
	}
	tw.truth["vm.cpu_mcpu"] = 0
	tw.truth["source.cpu_mcpu"], tw.truth["destination.cpu_mcpu"] = -mean(1, 0, schemas.ColCPU), mean(1, 0, schemas.ColCPU)
	tw.truth["vm.steal_mcpu"] = mean(1, 0, schemas.ColSteal) - mean(0, 0, schemas.ColSteal)
	tw.truth["vm.app_ms"] = mean(1, 0, schemas.ColAppMs) - mean(0, 0, schemas.ColAppMs)
	for v := 1; v < townVMs; v++ {
		switch v % townHosts {
		case 0:
			tw.truth["source.steal_mcpu"] += mean(1, v, schemas.ColSteal) - mean(0, v, schemas.ColSteal)
			tw.truth["source.app_ms"] += (mean(1, v, schemas.ColAppMs) - mean(0, v, schemas.ColAppMs)) / (townVMs/townHosts - 1)
		case 1:
			tw.truth["destination.steal_mcpu"] += mean(1, v, schemas.ColSteal) - mean(0, v, schemas.ColSteal)
			tw.truth["destination.app_ms"] += (mean(1, v, schemas.ColAppMs) - mean(0, v, schemas.ColAppMs)) / (townVMs / townHosts)
		}
	}
	return tw
}

// Of simulated moves whose effect is known, nine in ten intervals hold the truth: in
// quiet times, and while the load of the whole fleet shifts. Without the rest of the fleet
// to compare with they do not, then.
func TestIntervalsHoldTheTruth(t *testing.T) {
	const cases = 250 // each way
	for _, shift := range []bool{false, true} {
		held, alone, found, clear := map[string]int{}, 0, 0, 0
		for seed := range uint64(cases) {
			tw := build(seed, shift)
			e, ok := Judge(&tw.move, tw.now, tw.past, map[schemas.HostID]bool{"h0": true, "h1": true})
			if !ok {
				t.Fatalf("case %d: nothing to say", seed)
			}
			for name, truth := range tw.truth {
				c, ok := e.Terms[name]
				if !ok {
					t.Fatalf("case %d: no term %s", seed, name)
				}
				if c.Low <= truth && truth <= c.High {
					held[name]++
				}
				if name == "source.cpu_mcpu" && c.High < 0 {
					clear++
				}
			}
			if seed >= cases/2 {
				continue
			}
			e, _ = Judge(&tw.move, tw.now, tw.past, map[schemas.HostID]bool{"h0": true, "h1": true, "h2": true, "h3": true, "h4": true, "h5": true, "h6": true})
			if c, ok := e.Terms["vm.cpu_mcpu"]; ok {
				if found++; c.Low <= 0 && 0 <= c.High {
					alone++
				}
			}
		}
		all := 0
		for name, n := range held {
			share := float64(n) / cases
			t.Logf("fleet shifts %t: %-24s held %5.1f %%", shift, name, 100*share)
			if share < .85 {
				t.Errorf("fleet shifts %t: %s: only %.1f %% of the intervals hold the truth", shift, name, 100*share)
			}
			all += n
		}
		share, lone := float64(all)/float64(cases*len(held)), float64(alone)/float64(found)
		t.Logf("fleet shifts %t: all %.1f %%; vm.cpu_mcpu without a fleet to compare with %.1f %%; source clearly relieved %.1f %%", shift, 100*share, 100*lone, 100*float64(clear)/cases)
		if share < .85 || share > .95 {
			t.Errorf("fleet shifts %t: %.1f %% of the intervals hold the truth, want 85 to 95", shift, 100*share)
		}
		if shift && lone > .8 {
			t.Errorf("the fleet's shift does not show: %.1f %% hold without correction", 100*lone)
		}
		if clear < cases/4 {
			t.Errorf("fleet shifts %t: only %d of %d intervals see that the source is relieved", shift, clear, cases)
		}
	}
}

func past(v byte, host schemas.HostID, n int, f func(t int) float32) Past {
	w := window.New(memory.NewGoAllocator())
	for t := range n {
		row := window.Row{Step: schemas.Step(1000 + t), Coverage: 1}
		for c := range row.V {
			row.V[c] = schemas.NaN()
		}
		row.V[schemas.ColCPU] = f(t)
		w.Put(&row)
	}
	return Past{VM: schemas.VMID{v}, Host: host, View: w.View()}
}

// What cannot be judged is not: too little past, a VM that has gone on, a quantity that
// nobody measures.
func TestNothingIsGuessed(t *testing.T) {
	flat := func(int) float32 { return 500 }
	m := Move{Command: "c-1", Epoch: 7, VM: schemas.VMID{1}, Source: "a", Destination: "b"}
	for name, c := range map[string]struct {
		n     int
		host  schemas.HostID
		ok    bool
		terms int
	}{
		"long enough": {500, "b", true, 3},
		"little past": {100, "b", false, 0},
		"has gone on": {500, "c", false, 0},
	} {
		m.From = schemas.Step(1000 + c.n - 1 - Span)
		m.To = m.From
		all := []Past{past(1, c.host, c.n, flat), past(2, "a", c.n, flat), past(3, "b", c.n, flat)}
		e, ok := Judge(&m, m.Due(), all, nil)
		if ok != c.ok || len(e.Terms) != c.terms {
			t.Errorf("%s: ok %t, terms %v", name, ok, e.Terms)
		}
		if ok {
			e.Time = schemas.Time(1.7e18)
			if err := e.Validate(); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	m.From = 1000 + 500 - 1 - Span
	m.To = m.From
	gap := func(t int) float32 {
		if t >= 500-Span {
			return schemas.NaN()
		}
		return 500
	}
	if e, ok := Judge(&m, m.Due(), []Past{past(1, "b", 500, gap)}, nil); ok {
		t.Errorf("judged without telemetry after the move: %v", e.Terms)
	}
}

func BenchmarkJudge(b *testing.B) {
	tw := build(1, false)
	busy := map[schemas.HostID]bool{"h0": true, "h1": true}
	b.ReportAllocs()
	for b.Loop() {
		Judge(&tw.move, tw.now, tw.past, busy)
	}
}

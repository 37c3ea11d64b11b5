package forecaster

import (
	"bytes"
	"math"
	"runtime"
	"slices"
	"testing"

	"github.com/foreshift/foreshift/schemas"
	"github.com/foreshift/foreshift/streams"
)

// What comes out does not depend on how many goroutines made it.
func TestWorkersDoNotShow(t *testing.T) {
	run := func(workers int) (*world, []byte) {
		w := newWorld(t, Config{Workers: workers})
		now := firstStep + 290
		w.backfill(9, firstStep, now)
		for k := schemas.Step(0); k < 4; k++ {
			w.live(9, now+k, nil)
			w.drain(w.afterGrace(now + k))
		}
		return w, w.d.AppendSnapshot(nil)
	}
	one, a := run(1)
	four, b := run(4)
	if len(of[*schemas.Forecasts](one.outs)) == 0 || !bytes.Equal(digest(t, one.outs), digest(t, four.outs)) {
		t.Fatal("messages differ")
	}
	if !bytes.Equal(a, b) {
		t.Fatal("states differ")
	}
}

// row is one VM's sample of a minute.
func (w *world) row(n int, at schemas.Time, cpu, mem float32, flags schemas.Flags) {
	m := &schemas.Metrics{Host: "h1", Site: "a", Agent: "x", Seq: uint64(at), VM: []schemas.VMID{vmID(n)}, Time: []schemas.Time{at},
		IntervalS: []float32{60}, Flags: []schemas.Flags{flags}, AllocCPU: []float32{2000}, AllocMem: []float32{4e9}}
	m.Cols[schemas.ColCPU], m.Cols[schemas.ColMem] = []float32{cpu}, []float32{mem}
	e := streams.Event{Stream: streams.Metrics, Subject: streams.SubjectMetrics("h1"), Seq: w.seq[streams.Metrics] + 1, Time: int64(at) + 1e9, Msg: m}
	w.seq[streams.Metrics]++
	if err := w.d.Apply(e); err != nil {
		w.t.Fatal(err)
	}
}

// Telemetry that no VM can have is neither believed nor fatal, and what is forecast
// from the rest is a distribution.
func TestHostileTelemetry(t *testing.T) {
	inf, nan := float32(math.Inf(1)), schemas.NaN()
	cases := map[string]struct {
		cpu  func(k int) float32
		none bool    // no forecast is right
		low  float32 // bounds of the median of the next step
		high float32
	}{
		"missing for ever": {cpu: func(int) float32 { return nan }, none: true},
		"infinite":         {cpu: func(int) float32 { return inf }, none: true},
		"negative":         {cpu: func(int) float32 { return -5 }, none: true},
		"constant":         {cpu: func(int) float32 { return 700 }, low: 699, high: 701},
		"huge":             {cpu: func(int) float32 { return 3e38 }, none: true},
		"zero":             {cpu: func(int) float32 { return 0 }, low: 0, high: 0},
		"95 % missing": {cpu: func(k int) float32 {
			if k%20 == 0 {
				return 400
			}
			return nan
		}, low: 300, high: 500},
		"infinite now and then": {cpu: func(k int) float32 {
			if k%7 == 0 {
				return inf
			}
			return 400
		}, low: 390, high: 410},
		"level shift": {cpu: func(k int) float32 {
			if k >= 280 {
				return 4000
			}
			return 400
		}, low: 2000, high: 4400},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, Config{})
			const steps = 300
			for k := range steps {
				s := firstStep + schemas.Step(k)
				w.row(0, s.Start(base)+60e9, c.cpu(k), 1e9, 0)
				w.row(1, s.Start(base)+60e9, 500, 1e9, 0)
				w.outs = nil
				w.tick(w.afterGrace(s))
			}
			w.drain(w.now)
			seen := false
			for _, f := range of[*schemas.Forecasts](w.outs) {
				for i, id := range f.VM {
					checkRow(t, f, i)
					if id != vmID(0) {
						continue
					}
					seen = true
					if q := f.Dist(i, schemas.CPU).At(0)[6]; q < c.low || q > c.high {
						t.Errorf("median %v, want %v..%v", q, c.low, c.high)
					}
				}
			}
			if seen == c.none {
				t.Fatalf("forecast: %v; %+v", seen, w.d.Stats())
			}
			if s := w.d.Stats(); c.none && s.NoData+s.Cold+s.Stale == 0 {
				t.Fatalf("withheld and not counted: %+v", s)
			}
		})
	}
}

// checkRow fails when a row is not a distribution.
func checkRow(t testing.TB, f *schemas.Forecasts, i int) {
	t.Helper()
	for r := range schemas.Resource(schemas.NumResources) {
		d := f.Dist(i, r)
		for s := range schemas.Slots {
			q := d.At(s)
			if math.IsNaN(float64(q[0])) {
				continue
			}
			if !slices.IsSorted(q) || q[0] < 0 || math.IsInf(float64(q[12]), 0) {
				t.Fatalf("%s slot %d: %v", r, s, q)
			}
		}
	}
	for _, v := range f.Scenarios(i).D {
		if v < 0 || math.IsInf(float64(v), 0) {
			t.Fatalf("a scenario goes through %v", v)
		}
	}
}

// The clock of a host that goes back neither reopens steps nor counts twice.
func TestClockGoesBack(t *testing.T) {
	w := newWorld(t, Config{})
	now := firstStep + 30
	w.backfill(3, firstStep, now)
	w.live(3, now, nil)
	w.drain(w.afterGrace(now))
	n := len(w.outs)
	w.live(3, now-100, nil) // hours ago: too late
	w.drain(w.now - 3600e9)
	w.live(3, now, nil) // the same again
	w.drain(w.now)
	if more := w.outs[n:]; len(more) != 0 {
		t.Fatalf("%d messages", len(more))
	}
	if s := w.d.Stats(); s.Folded.TooLate == 0 || s.Folded.Duplicate == 0 {
		t.Fatalf("%+v", s.Folded)
	}
}

// What a migration does to a VM's own numbers is not its demand.
func TestOwnMigrationIsLeftOut(t *testing.T) {
	run := func(spike bool) float32 {
		w := newWorld(t, Config{})
		now := firstStep + 300
		w.backfill(1, firstStep, now)
		for k := range schemas.Step(6) {
			s := now + k
			cpu, flags := float32(400), schemas.Flags(0)
			if k < 4 {
				flags = schemas.FlagMigrating
				if spike {
					cpu = 9000
				}
			}
			w.row(0, s.Start(base)+60e9, cpu, 2e9, flags)
			w.tick(w.afterGrace(s))
		}
		w.drain(w.now)
		f := of[*schemas.Forecasts](w.outs)
		return f[len(f)-1].Dist(0, schemas.CPU).At(0)[10]
	}
	if calm, spiked := run(false), run(true); calm != spiked {
		t.Fatalf("9 of 10 below %v without, %v with the spike of a migration", calm, spiked)
	}
}

// 100,000 ids that were never seen do not take memory without end, nor the place of
// those that were there.
func TestFloodOfNewVMs(t *testing.T) {
	w := newWorld(t, Config{MaxVMs: 64})
	now := firstStep + 10
	w.backfill(4, firstStep, now)
	w.live(4, now, nil)
	w.drain(w.afterGrace(now))
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	at := (now + 1).Start(base) + 60e9
	for n := 0; n < 100_000; {
		m := &schemas.Metrics{Host: "h1", Site: "a", Agent: "x", Seq: uint64(n) + 1e6}
		for range 1000 {
			n++
			var id schemas.VMID
			id[0], id[1], id[2], id[3], id[15] = byte(n), byte(n>>8), byte(n>>16), 1, 9
			m.VM, m.Time, m.IntervalS = append(m.VM, id), append(m.Time, at), append(m.IntervalS, 60)
			m.Flags, m.AllocCPU, m.AllocMem = append(m.Flags, 0), append(m.AllocCPU, 2000), append(m.AllocMem, 4e9)
			m.Cols[schemas.ColCPU], m.Cols[schemas.ColMem] = append(m.Cols[schemas.ColCPU], 300), append(m.Cols[schemas.ColMem], 1e9)
		}
		w.apply(streams.Metrics, streams.SubjectMetrics("h1"), m, int64(at)+1e9)
	}
	w.events = nil
	w.live(4, now+1, nil)
	outs := w.drain(w.afterGrace(now + 1))
	w.events, w.outs = nil, nil
	if after := heap(); after > before+64<<20 {
		t.Errorf("%d MB more", (after-before)>>20)
	}
	s := w.d.Stats()
	if s.VMs > 64 || s.Folded.Full == 0 {
		t.Errorf("%d VMs, %d rows turned away", s.VMs, s.Folded.Full)
	}
	known := map[schemas.VMID]bool{}
	for _, f := range of[*schemas.Forecasts](outs) {
		for _, id := range f.VM {
			known[id] = true
		}
	}
	for n := range 4 {
		if !known[vmID(n)] {
			t.Errorf("VM %d is no longer forecast", n)
		}
	}
	runtime.KeepAlive(w)
}

// A fleet that comes with its history all at once does not hold up the step: a few of
// its VMs are refitted at each, the others are forecast as those are; each is warmed
// once, and a restart in between changes nothing.
func TestFleetWithHistoryIsTakenInTurns(t *testing.T) {
	w := newWorld(t, Config{})
	const vms, most = 30, 12
	now := firstStep + 400
	w.d.atOnce = most * (400 + 6 + refitRows)
	w.backfill(vms, firstStep, now)
	fitted := func() (n int) {
		for i := range w.d.vms {
			if st := &w.d.vms[i]; st.present && !st.dirty {
				n++
			}
		}
		return n
	}
	before := 0
	for k := range schemas.Step(4) {
		w.live(vms, now+k, nil)
		outs := w.drain(w.afterGrace(now + k))
		n, s := fitted(), w.d.Stats()
		if want := min(vms, before+most); n != want || s.Waiting != vms-n {
			t.Fatalf("after step %d %d VMs are refitted, want %d; %d wait", k, n, want, s.Waiting)
		}
		before = n
		seen := 0
		for _, f := range of[*schemas.Forecasts](outs) {
			for i, id := range f.VM {
				seen++
				checkRow(t, f, i)
				st := w.d.slot(w.d.store.Get(id))
				q := f.Dist(i, schemas.CPU).At(0)
				if now, _ := demand(int(id[0]), f.Issued); st.dirty && (q[1] > now || q[11] < now || q[10]-q[2] < .5*now) {
					t.Errorf("VM %d waits and is forecast as %v, now %v", id[0], q, now)
				}
			}
		}
		if seen != vms {
			t.Fatalf("%d VMs forecast", seen)
		}
		if k == 1 {
			d, err := NewDecider(Config{})
			if err != nil {
				t.Fatal(err)
			}
			if err := d.Restore(w.d.AppendSnapshot(nil)); err != nil {
				t.Fatal(err)
			}
			for _, e := range w.events {
				if e, ok := e.(streams.Event); ok && e.Stream == streams.Steps {
					if err := d.Apply(e); err != nil {
						t.Fatal(err)
					}
				}
			}
			d.atOnce, w.d = w.d.atOnce, d
		}
	}
	if before != vms || w.d.Stats().Waiting != 0 {
		t.Fatalf("%d of %d refitted", before, vms)
	}
}

// FuzzDecider throws steps, samples and ticks of any kind at a decider: it may refuse
// them, but stands, and what it says are distributions.
func FuzzDecider(f *testing.F) {
	f.Add([]byte{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15})
	f.Add(bytes.Repeat([]byte{1, 0, 200, 3, 9, 255}, 60))
	f.Fuzz(func(t *testing.T, b []byte) {
		w := newWorld(t, Config{MaxVMs: 8, Workers: 1})
		s := firstStep
		odd := [...]float32{0, 1, 500, 1e9, 3e38, -1, schemas.NaN(), float32(math.Inf(1)), float32(math.Inf(-1)), 1e-40}
		for len(b) >= 4 && len(b) < 4096 {
			op, n, v, x := b[0], int(b[1]%12), odd[int(b[2])%len(odd)], int(int8(b[3]))
			b = b[4:]
			switch op % 4 {
			case 0, 1:
				w.row(n, (s+schemas.Step(x/16)).Start(base)+60e9, v, float32(x)*1e8, schemas.Flags(op>>4))
			case 2:
				s += schemas.Step(max(1, x/8))
				w.outs = nil
				w.tick(w.afterGrace(s))
				for _, m := range of[*schemas.Forecasts](w.outs) {
					for i := range m.VM {
						checkRow(t, m, i)
					}
				}
			case 3:
				m := &schemas.Steps{Partition: vmID(n).Partition(), Step: s + schemas.Step(x), Revision: int(op >> 5), Base: base, VM: []schemas.VMID{vmID(n)},
					Host: []schemas.HostID{"h1"}, Coverage: []float32{1}, Flags: []schemas.Flags{0}, AllocCPU: []float32{v}, AllocMem: []float32{v}}
				m.Cols[schemas.ColCPU] = []float32{v}
				w.seq[streams.Steps]++
				_ = w.d.Apply(streams.Event{Stream: streams.Steps, Subject: streams.SubjectSteps(m.Partition), Seq: w.seq[streams.Steps], Time: int64(s.End(base)), Msg: m}) // refusals are right
			}
		}
		d, err := NewDecider(Config{MaxVMs: 8, Workers: 1})
		if err != nil {
			t.Fatal(err)
		}
		if err := d.Restore(w.d.AppendSnapshot(nil)); err != nil {
			t.Fatalf("its own snapshot: %v", err)
		}
	})
}

// A VM cannot use more than it is allocated, however little is known of it; unless it is
// measured to, as where the speed of its host is not what was declared.
func TestForecastsStayWithinTheAllocation(t *testing.T) {
	for name, c := range map[string]struct{ cpu, most float32 }{
		"young and busy":         {1900, overAlloc * 2000},
		"measured above its own": {3000, 3000},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, Config{})
			now := firstStep + 200
			w.backfill(4, firstStep, now)
			highest := float32(0)
			for k := schemas.Step(0); k < 4; k++ {
				w.live(4, now+k, nil)
				for m := range 5 {
					w.row(9, (now+k).Start(base)+schemas.Time(m+1)*60e9-1, c.cpu, 3.9e9, 0)
				}
				for _, f := range of[*schemas.Forecasts](w.drain(w.afterGrace(now + k))) {
					for i, v := range f.VM {
						if v != vmID(9) {
							continue
						}
						highest = max(highest, slices.Max(f.Dist(i, schemas.CPU).Q))
						if q := slices.Max(f.Dist(i, schemas.Memory).Q); q > overAlloc*4e9 {
							t.Errorf("step %d: %.3g bytes of 4e9", k, q)
						}
					}
				}
			}
			if highest > c.most || highest < c.cpu {
				t.Errorf("up to %v mCPU of 2000 where it asks for %v, want at most %v", highest, c.cpu, c.most)
			}
		})
	}
}

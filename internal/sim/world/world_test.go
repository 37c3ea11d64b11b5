package world

import (
	"fmt"
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/foreshift/foreshift/internal/sim/load"
	"github.com/foreshift/foreshift/internal/sim/rpc"
	"github.com/foreshift/foreshift/schemas"
)

const gib = 1 << 30

// small is a world of three hosts, the last in another site. Demand is .25 cores a
// vCPU, wobbling from step to step.
func small(edit func(*Config)) *World {
	c := Config{Base: time.Second, Start: 5e9, LinkBandwidth: 50e6, NICBandwidth: 1e9,
		PeerTimeout: 8 * time.Second, StreamTimeout: 15 * time.Minute,
		Demand: func(vm int, s schemas.Step) load.Demand {
			return load.Demand{CPU: 500 * (1 + .5*math.Sin(float64(s)+float64(vm))), Mem: 1 * gib, NetRx: 1000, Dirty: 20e6}
		}}
	for i, site := range []schemas.SiteID{"a", "a", "b"} {
		c.Hosts = append(c.Hosts, HostSpec{ID: schemas.HostID(fmt.Sprint("h", i)), Site: site, CPU: 4000, Mem: 32 * gib, Speed: 1,
			Match: func(uri string) bool { return uri == fmt.Sprint("h", i) }})
	}
	for i := 0; i < 6; i++ {
		c.VMs = append(c.VMs, VMSpec{ID: [16]byte{15: byte(i + 1)}, Name: fmt.Sprint("vm", i), VCPUs: 2, Mem: 2 * gib, WorkingSet: .1, Host: i / 4})
	}
	if edit != nil {
		edit(&c)
	}
	return New(c)
}

func ok(t testing.TB, err *rpc.Error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// move begins the transfer of vm0 from host 0 to a host and gives its end.
func move(t testing.TB, w *World, to int, flags uint32) (g *Guest, result chan *rpc.Error) {
	t.Helper()
	g = w.Host(0).Find([16]byte{15: 1})
	ok(t, w.Begin(g, "src", flags))
	port, err := w.Prepare(w.Host(to), "dst", g.VM.ID, flags)
	ok(t, err)
	result = make(chan *rpc.Error, 1)
	ok(t, w.Perform(g, "src", port, flags, 0, func(e *rpc.Error) { result <- e }))
	return g, result
}

func TestCountersDoNotDependOnPolling(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		read := func(w *World) string {
			s := ""
			for h := 0; h < 3; h++ {
				for _, g := range w.Host(h).Guests() {
					s += fmt.Sprintf("%s %v\n", g.VM.Name, g.Read())
				}
				s += fmt.Sprintln(w.Host(h).Usage())
			}
			return s
		}
		tight := func(c *Config) { c.Hosts[0].CPU = 1500 }
		a, b := small(tight), small(tight)
		now := int64(5e9)
		for i := rapid.IntRange(1, 30).Draw(t, "polls"); i > 0; i-- {
			now += rapid.Int64Range(1, 2e9).Draw(t, "pause")
			b.Advance(now)
			read(b)
			if i == 5 { // the same change at the same time in both
				a.Advance(now)
				a.Host(0).Find([16]byte{15: 2}).Suspend()
				b.Host(0).Find([16]byte{15: 2}).Suspend()
			}
		}
		a.Advance(now)
		if x, y := read(a), read(b); x != y {
			t.Fatalf("read once:\n%s\nread often:\n%s", x, y)
		}
	})
}

func TestContentionIsSharedOut(t *testing.T) {
	w := small(func(c *Config) {
		c.Hosts[0].CPU = 1000
		c.Demand = func(vm int, _ schemas.Step) load.Demand { return load.Demand{CPU: float64(500 * (vm%4 + 1)), Mem: gib} }
	})
	w.Advance(5e9 + 10e9)
	for i, g := range w.Host(0).Guests() { // 500+1000+1500+2000 wanted, 1000 there
		m := g.Read()
		want := 5e9 * float64(i+1)
		if math.Abs(m.CPU-want/5) > 1 || math.Abs(m.CPU+m.Delay-want) > 1 {
			t.Errorf("%s ran %.0f and waited %.0f, wanted %.0f", g.VM.Name, m.CPU, m.Delay, want)
		}
	}
	if u := w.Host(0).Usage(); math.Abs(u.Busy-10e9) > 1 || u.Demand != 5000 {
		t.Errorf("host: %+v", u)
	}
	if m := w.Host(1).Guests()[0].Read(); m.Delay != 0 {
		t.Errorf("a guest of a roomy host waited %.0f", m.Delay)
	}
}

func TestPreCopyTakesWhatPhysicsSays(t *testing.T) {
	w := small(nil)
	var rounds []int32
	w.cfg.Event = func(_ int, e Event) {
		if e.Iteration > 0 {
			rounds = append(rounds, e.Iteration)
		}
	}
	busy := w.Host(0).Usage().Demand
	g, done := move(t, w, 1, FlagPaused)
	if got := w.Host(0).Usage().Demand - busy; got != preCopyCost {
		t.Errorf("sending costs %.0f mCPU", got)
	}
	// 1.04 GiB at 1 GB/s; 20 MB/s of dirtying leaves some 20 MB: within the downtime.
	first := 1.04 * gib / 1e9
	w.Advance(5e9 + int64(first*1e9))
	if len(done) != 0 || g.State != Running {
		t.Fatal("switched over before the first round was sent")
	}
	w.Advance(5e9 + int64(first*1e9) + 40e6)
	if g.State != Paused || g.Reason != PausedMigration {
		t.Fatalf("after round one: state %d/%d", g.State, g.Reason)
	}
	w.Advance(5e9 + int64(first*1e9) + 150e6)
	select {
	case err := <-done:
		ok(t, err)
	default:
		t.Fatal("not arrived")
	}
	d, err := w.Finish(w.Host(1), "vm0", FlagPaused, false)
	ok(t, err)
	s, err := d.Job(true, true)
	ok(t, err)
	if s.DowntimeNet < 25e6 || s.DowntimeNet > 80e6 || s.Downtime < s.DowntimeNet || s.Processed < 1.04*gib || s.Iteration != 1 {
		t.Errorf("completed: %+v", s)
	}
	if len(rounds) != 1 {
		t.Errorf("rounds %v", rounds)
	}
}

func TestSlowLinkNeedsRoundsAndMayNotConverge(t *testing.T) {
	hot := func(c *Config) {
		d := c.Demand
		c.Demand = func(vm int, s schemas.Step) load.Demand { x := d(vm, s); x.Dirty = 400e6; return x }
	}
	w := small(hot)
	g, done := move(t, w, 2, 0)
	w.Advance(5e9 + 300e9)
	if len(done) != 0 {
		t.Fatal("converged although the guest dirties eight times what the link carries")
	}
	s, _ := g.Job(false, true)
	if s.Iteration < 10 || s.DirtyRate < 20e6 || s.Bps != 50e6 {
		t.Errorf("job %+v", s)
	}
	ok(t, g.SetMaxDowntime(60000)) // a patient operator
	w.Advance(5e9 + 320e9)
	if len(done) != 1 {
		t.Error("a downtime of a minute is allowed and not taken")
	}

	w = small(func(c *Config) {
		d := c.Demand
		c.Demand = func(vm int, s schemas.Step) load.Demand { x := d(vm, s); x.Dirty = 60e6; return x }
	})
	g, done = move(t, w, 2, FlagAutoConverge)
	w.Advance(5e9 + 400e9)
	if len(done) != 1 {
		s, _ := g.Job(false, true)
		t.Errorf("auto-converge does not converge: %+v", s)
	}
}

func TestLinkIsSharedByConcurrentMoves(t *testing.T) {
	w := small(nil)
	_, a := move(t, w, 2, 0)
	g := w.Host(0).Find([16]byte{15: 2})
	port, err := w.Prepare(w.Host(2), "dst2", g.VM.ID, 0)
	ok(t, err)
	b := make(chan *rpc.Error, 1)
	ok(t, w.Perform(g, "src2", port, 0, 10e6, func(e *rpc.Error) { b <- e }))
	s0, _ := w.Host(0).Find([16]byte{15: 1}).Job(false, true)
	s1, _ := g.Job(false, true)
	if s0.Bps != 40e6 || s1.Bps != 10e6 {
		t.Fatalf("rates %.0f and %.0f, want 40e6 and its ceiling of 10e6", s0.Bps, s1.Bps)
	}
	ok(t, g.SetMaxSpeed(unlimitedSpeed))
	if s1, _ = g.Job(false, true); s1.Bps != 25e6 {
		t.Fatalf("half the link is 25e6, not %.0f", s1.Bps)
	}
	w.Advance(5e9 + 120e9)
	if len(a) != 1 || len(b) != 1 {
		t.Fatal("not both arrived")
	}
}

func TestFairShare(t *testing.T) {
	inf := math.Inf(1)
	for _, c := range []struct {
		limits []float64
		uses   [][]int
		caps   []float64
		want   []float64
	}{
		{nil, nil, nil, nil},
		{[]float64{90}, [][]int{{0}, {0}, {0}}, []float64{inf, inf, inf}, []float64{30, 30, 30}},
		{[]float64{90}, [][]int{{0}, {0}, {0}}, []float64{10, inf, inf}, []float64{10, 40, 40}},
		{[]float64{100, 20}, [][]int{{0}, {0, 1}, {1}}, []float64{inf, inf, inf}, []float64{90, 10, 10}},
		{[]float64{0, 50}, [][]int{{0}, {1}}, []float64{inf, inf}, []float64{0, 50}},
	} {
		got := fairShare(c.limits, c.uses, c.caps)
		for i := range c.want {
			if math.Abs(got[i]-c.want[i]) > 1e-6 {
				t.Errorf("limits %v uses %v caps %v: %v, want %v", c.limits, c.uses, c.caps, got, c.want)
			}
		}
	}
}

func TestCutLink(t *testing.T) {
	w := small(nil)
	g, done := move(t, w, 2, 0)
	w.Advance(5e9 + 2e9)
	w.CutLink("b", "a", 30*time.Second)
	before, _ := g.Job(false, true)
	w.Advance(5e9 + 22e9)
	during, _ := g.Job(false, true)
	if during.Processed != before.Processed || g.State != Running {
		t.Fatalf("sent %.0f over a cut link, state %d", during.Processed-before.Processed, g.State)
	}
	w.Advance(5e9 + 90e9)
	if len(done) != 1 || <-done != nil {
		t.Fatal("a client-managed move does not go on after the cut")
	}

	// Peer to peer gives up after eight seconds; the VM never stopped.
	w = small(nil)
	g = w.Host(0).Find([16]byte{15: 1})
	ok(t, w.PerformPeer(g, "src", "h2", FlagPeer2Peer, 0, func(e *rpc.Error) { done <- e }))
	w.CutLink("a", "b", time.Hour)
	w.Advance(5e9 + 9e9)
	if err := <-done; err == nil || err.Code != rpc.CodeInternal {
		t.Fatalf("peer to peer over a cut link: %v", err)
	}
	if w.Host(2).Find(g.VM.ID) != nil || g.State != Running || g.Reason != RunningBooted {
		t.Fatal("the source stopped, or the destination was not cleaned")
	}
	if err := w.PerformPeer(g, "src", "h2", FlagPeer2Peer, 0, nil); err == nil || err.Code != rpc.CodeSystem {
		t.Fatalf("a new move over the cut link: %v", err)
	}
}

func TestRefusals(t *testing.T) {
	w := small(nil)
	g := w.Host(0).Find([16]byte{15: 1})
	other := w.Host(1).Find([16]byte{15: 5})
	want := func(err *rpc.Error, c rpc.Code) {
		t.Helper()
		if err == nil || err.Code != c {
			t.Errorf("%v, want code %d", err, c)
		}
	}
	want(w.Begin(g, 1, FlagOffline), rpc.CodeNoSupport)
	want(w.Begin(g, 1, FlagPostCopy|FlagPaused), rpc.CodeInvalidArg)
	ok(t, w.Begin(g, 1, FlagChangeProtection))
	want(w.Begin(g, 1, 0), rpc.CodeOperationTimeout)
	want(w.Confirm(g, 0, false), rpc.CodeOperationInvalid)
	_, err := w.Prepare(w.Host(0), 2, g.VM.ID, 0)
	want(err, rpc.CodeOperationInvalid)
	_, err = w.Prepare(w.Host(1), 2, [16]byte{9}, 0)
	want(err, rpc.CodeXML)
	want(w.Perform(g, 1, 1234, 0, 0, nil), rpc.CodeOperationFailed)
	port, err := w.Prepare(w.Host(1), 2, g.VM.ID, 0)
	ok(t, err)
	want(w.Perform(other, 3, port, 0, 0, nil), rpc.CodeOperationFailed)
	in := w.Host(1).Find(g.VM.ID)
	want(in.Resume(), rpc.CodeOperationTimeout)
	want(in.Suspend(), rpc.CodeOperationTimeout)
	want(w.Abort(in), rpc.CodeOperationInvalid)
	want(w.Abort(g), rpc.CodeOperationInvalid)
	_, err = w.Finish(w.Host(1), "vm0", 0, false) // nothing has arrived
	want(err, rpc.CodeOperationFailed)
	_, err = w.Finish(w.Host(1), "vm4", 0, false)
	want(err, rpc.CodeOperationInvalid)
	want(w.PerformPeer(g, 1, "h0", 0, 0, nil), rpc.CodeInternal)
	want(w.PerformPeer(g, 1, "nowhere", 0, 0, nil), rpc.CodeSystem)
	ok(t, g.Undefine())
	want(g.Undefine(), rpc.CodeOperationInvalid)
	ok(t, g.Destroy())
	if w.Host(0).Find(g.VM.ID) != nil {
		t.Error("a transient domain stays after its end")
	}
	small := small(func(c *Config) { c.Hosts[1].Mem = 6 * gib })
	_, err = small.Prepare(small.Host(1), 2, [16]byte{15: 1}, 0)
	want(err, rpc.CodeInternal)
	if tr := w.Truth(0); !tr.Lost || tr.MaxRunning != 1 {
		t.Errorf("truth %+v of a destroyed VM", tr)
	}
}

func TestStaleCopyIsNoticed(t *testing.T) {
	w := small(nil)
	g, done := move(t, w, 1, FlagPaused)
	w.Advance(5e9 + 10e9)
	ok(t, <-done)
	d, err := w.Finish(w.Host(1), "vm0", FlagPaused, false)
	ok(t, err)
	ok(t, d.Resume())
	w.ConnClosed("src") // the source's job is gone: libvirt lets anyone resume it
	ok(t, d.Suspend())
	ok(t, g.Resume())
	if tr := w.Truth(0); tr.StaleRuns != 1 || tr.MaxRunning != 1 {
		t.Fatalf("truth %+v", tr)
	}
	ok(t, d.Resume())
	if tr := w.Truth(0); tr.MaxRunning != 2 || len(tr.Running) != 2 {
		t.Fatalf("truth %+v", tr)
	}
}

// TestAnyOrderOfEventsIsSafe throws calls, lost connections and dead daemons at a
// move in any order. Whatever a client does, only its own Resume of a second copy
// can make a VM run twice; without one it never does, and memory is never lost
// unless somebody destroys.
func TestAnyOrderOfEventsIsSafe(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := small(nil)
		now := int64(5e9)
		var port int
		id := [16]byte{15: 1}
		find := func(h int) *Guest { return w.Host(h).Find(id) }
		for i := 0; i < 40; i++ {
			if rapid.Bool().Draw(t, "wait") {
				now += rapid.Int64Range(1e6, 2e9).Draw(t, "for")
				w.Advance(now)
			}
			g, d := find(0), find(1)
			switch rapid.IntRange(0, 11).Draw(t, "event") {
			case 0, 1:
				if g != nil {
					_ = w.Begin(g, "s", FlagPaused|FlagChangeProtection)
				}
			case 2, 3:
				if p, err := w.Prepare(w.Host(1), "d", id, FlagPaused); err == nil {
					port = p
				}
			case 4, 5:
				if g != nil {
					_ = w.Perform(g, "s", port, FlagPaused, 0, func(*rpc.Error) {})
				}
			case 6:
				_, _ = w.Finish(w.Host(1), "vm0", FlagPaused, rapid.Bool().Draw(t, "cancelled"))
			case 7:
				if g != nil && (d == nil || d.Migrating()) {
					_ = w.Confirm(g, FlagUndefineSource, true)
				}
			case 8:
				w.ConnClosed("s")
			case 9:
				w.ConnClosed("d")
			case 10:
				if g != nil {
					_ = w.Abort(g)
				}
			case 11:
				h := w.Host(rapid.IntRange(0, 1).Draw(t, "host"))
				if h.Down() {
					w.DaemonBack(h)
				} else {
					w.DaemonDied(h)
				}
			}
			if tr := w.Truth(0); tr.MaxRunning > 1 || tr.StaleRuns > 0 || tr.Lost {
				t.Fatalf("after event %d: %+v", i, tr)
			}
		}
	})
}

func BenchmarkAdvanceHost(b *testing.B) {
	w := small(nil)
	b.ReportAllocs()
	for i := 0; i < b.N; i++ {
		w.Advance(5e9 + int64(i)*1e9)
		w.Host(0).Guests()
	}
}

package placer

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/foreshift/foreshift/placer/internal/fleettest"
	"github.com/foreshift/foreshift/placer/policy"
	"github.com/foreshift/foreshift/schemas"
	"github.com/foreshift/foreshift/streams"
	"pgregory.net/rapid"
)

// live is a world and a decider that lives in it: commands succeed a little later.
type live struct {
	w      *fleettest.World
	d      *Decider
	flying []*schemas.Command
}

func newLive(t rapid.TB, mode schemas.Mode) *live {
	p := policy.Default()
	p.Mode, p.HoldSteps = mode, 1
	w := fleettest.New(time.Second)
	d, err := NewDecider(Config{Base: w.Base, Policy: p, Evaluations: 500})
	if err != nil {
		t.Fatal(err)
	}
	return &live{w: w, d: d}
}

func (l *live) event(stream string, m any) streams.Event {
	in := l.w.Input(stream, m)
	return streams.Event{Stream: stream, Seq: in.Seq, Time: int64(in.Time), Lease: 1, Msg: m}
}

// round gives the events of one step.
func (l *live) round() []streams.Event {
	l.w.Now = (l.w.Step() + 1).Start(l.w.Base).Add(l.w.Base / 10)
	var es []streams.Event
	for _, c := range l.flying {
		for i := range l.w.VMs {
			if fleettest.ID(l.w.VMs[i].Name) == c.VM {
				l.w.VMs[i].Host = c.Destination
			}
		}
		es = append(es, l.event("MIGRATIONS", c), l.event("MIGRATIONS", &schemas.Outcome{Command: c.ID, VM: c.VM, Host: c.Source, Source: c.Source, Destination: c.Destination, Time: l.w.Now, RunsAt: c.Destination, Result: schemas.ResultSucceeded}))
	}
	l.flying = nil
	l.w.Now = l.w.Now.Add(time.Millisecond)
	for _, m := range l.w.Capacity() {
		es = append(es, l.event("CAPACITY", m))
	}
	for _, m := range l.w.Forecasts() {
		es = append(es, l.event("FORECASTS", m))
	}
	return es
}

func (l *live) cut() streams.Cut {
	c := streams.Cut{Now: int64(l.w.Now), Seq: map[string]uint64{}}
	for k, v := range l.w.Seq {
		c.Seq[k] = v
	}
	return c
}

func tick(t rapid.TB, d *Decider, es []streams.Event, c streams.Cut) []streams.Out {
	for _, e := range es {
		if err := d.Apply(e); err != nil {
			t.Fatal(err)
		}
	}
	return d.Tick(c)
}

// text is what goes out, byte for byte as the bus gets it.
func text(t rapid.TB, outs []streams.Out) string {
	var b strings.Builder
	for _, o := range outs {
		m, err := schemas.Encode(o.Msg)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "%s %s %d %+v\n%s\n", o.Subject, o.ID, o.Lease, o.Expect, m)
	}
	return b.String()
}

// A placer that took a snapshot, stopped, and read the rest decides what one that
// never stopped decides, to the byte; and every message it makes is valid.
func TestSnapshotAndTail(t *testing.T) {
	commands := 0
	rapid.Check(t, func(t *rapid.T) {
		l := newLive(t, schemas.ModeAuto)
		n := rapid.IntRange(2, 4).Draw(t, "hosts")
		for h := 0; h < n; h++ {
			l.w.Hosts = append(l.w.Hosts, fleettest.Host{ID: schemas.HostID(fmt.Sprintf("h%d", h)), Site: "s1", Cores: 8, GiB: 64, Simulated: true})
		}
		for i := 0; i < 3*n; i++ {
			l.w.VMs = append(l.w.VMs, fleettest.VM{Name: fmt.Sprintf("v%d", i), Host: l.w.Hosts[rapid.IntRange(0, n-1).Draw(t, "on")].ID, Cores: rapid.Float64Range(.2, 3).Draw(t, "cpu"), GiB: 2,
				Peak: fleettest.Peak{From: l.w.Step() + schemas.Step(rapid.IntRange(2, 20).Draw(t, "in")), Len: 10, Cores: 5, In: rapid.IntRange(1, 12).Draw(t, "of12")}})
		}
		stop := rapid.IntRange(0, 5).Draw(t, "stop")
		twin := l.d
		for i := 0; i < 7; i++ {
			es, c := l.round(), l.cut()
			a := tick(t, l.d, es, c)
			if twin != l.d {
				if x, y := text(t, a), text(t, tick(t, twin, es, c)); x != y {
					t.Fatalf("step %d: straight:\n%s\nrestored:\n%s", i, x, y)
				}
			}
			for _, o := range a {
				if err := o.Msg.Validate(); err != nil {
					t.Fatalf("%s: %v", o.Subject, err)
				}
				if c, ok := o.Msg.(*schemas.Command); ok {
					l.flying = append(l.flying, c)
					commands++
				}
			}
			if i == stop {
				var err error
				if twin, err = NewDecider(l.d.cfg); err != nil {
					t.Fatal(err)
				}
				if err := twin.Restore(l.d.AppendSnapshot([]byte("x"))[1:]); err != nil {
					t.Fatal(err)
				}
			}
		}
	})
	if commands == 0 {
		t.Error("no run of this test ever moved anything")
	}
}

func TestSnapshotGarbage(t *testing.T) {
	l := newLive(t, schemas.ModeAuto)
	whole := l.d.AppendSnapshot(nil)
	for name, b := range map[string][]byte{"nothing": nil, "not written": {0}, "cut short": whole[:len(whole)/2], "no fleet": whole[:20], "noise": []byte("0123456789abcdef0123456789")} {
		if err := l.d.Restore(b); err == nil {
			t.Errorf("%s: restored", name)
		}
	}
}

func TestHeartbeat(t *testing.T) {
	l := newLive(t, schemas.ModeObserve)
	start, beats := l.w.Now, 0
	for i := 0; i <= 200; i++ {
		l.w.Now = start.Add(time.Duration(i) * 100 * time.Millisecond)
		for _, o := range l.d.Tick(l.cut()) {
			if a, ok := o.Msg.(*schemas.Act); ok && a.Act == schemas.ActHeartbeat && o.Subject == "acts.heartbeat" {
				beats++
			}
		}
	}
	if beats != 5 {
		t.Errorf("%d heartbeats in 20 s, want one at once and one every 5 s", beats)
	}
}

// Two copies of one UUID: frozen at the first report, counted for the pager once
// the older place has reported again, and free again when one place has let go.
func TestDuplicatePages(t *testing.T) {
	l := newLive(t, schemas.ModeAuto)
	l.w.Hosts = []fleettest.Host{{ID: "a", Site: "s1", Cores: 8, GiB: 64, Simulated: true}, {ID: "b", Site: "s1", Cores: 8, GiB: 64, Simulated: true}}
	l.w.VMs = []fleettest.VM{{Name: "v", Host: "a", Cores: 1, GiB: 2}}
	var got []int
	for i := 0; i < 5; i++ {
		l.w.VMs[0].Also = ""
		if i == 1 || i == 2 || i == 3 {
			l.w.VMs[0].Also = "b"
		}
		tick(t, l.d, l.round(), l.cut())
		got = append(got, l.d.Stats().Duplicates)
	}
	if want := []int{0, 0, 1, 1, 0}; fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("duplicates by step %v, want %v", got, want)
	}
}

// A jump of the whole fleet's load is more likely a broken measure than the world:
// one step is waited before anything moves.
func TestSanityGate(t *testing.T) {
	l := newLive(t, schemas.ModeAuto)
	l.w.Hosts = []fleettest.Host{{ID: "a", Site: "s1", Cores: 8, GiB: 64, Simulated: true}, {ID: "b", Site: "s1", Cores: 64, GiB: 64, Simulated: true}}
	for i := 0; i < 10; i++ {
		l.w.VMs = append(l.w.VMs, fleettest.VM{Name: fmt.Sprintf("v%d", i), Host: "a", Cores: .5, GiB: 2, Alloc: 4})
	}
	moved := func() (reason schemas.ReasonCode, commands int) {
		for _, o := range tick(t, l.d, l.round(), l.cut()) {
			switch m := o.Msg.(type) {
			case *schemas.Plan:
				if len(m.Declined) > 0 {
					reason = m.Declined[0].Reason.Code
				}
			case *schemas.Command:
				commands++
			}
		}
		return reason, commands
	}
	moved()
	for i := range l.w.VMs {
		l.w.VMs[i].Cores = 2
	}
	if r, n := moved(); r != schemas.ReasonSanity || n != 0 {
		t.Errorf("at the jump: %s, %d commands", r, n)
	}
	if r, n := moved(); n == 0 {
		t.Errorf("a step later it is believed: %s, %d commands", r, n)
	}
}

package streams_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/foreshift/foreshift/schemas"
	"github.com/foreshift/foreshift/streams"
	"github.com/foreshift/foreshift/streams/streamstest"
)

// fold is a decider whose state tells exactly which events it has seen, in which
// order, and which publishes what it is told to.
type fold struct {
	n, hash uint64
	ticks   int
	decide  func(n uint64, cut streams.Cut) []streams.Out
	seen    atomic.Uint64 // n, for the test to look at
	refuse  func(streams.Event) error
}

func (f *fold) Apply(e streams.Event) error {
	if f.refuse != nil {
		if err := f.refuse(e); err != nil {
			return err
		}
	}
	f.n++
	f.hash = xxhash.Sum64String(fmt.Sprint(f.hash, e.Stream, e.Seq, e.Subject, e.Time, e.Lease))
	f.seen.Store(f.n)
	return nil
}

func (f *fold) Tick(c streams.Cut) []streams.Out {
	f.ticks++
	if f.decide == nil {
		return nil
	}
	return f.decide(f.n, c)
}

func (f *fold) AppendSnapshot(b []byte) []byte {
	b = binary.BigEndian.AppendUint64(b, f.n)
	return binary.BigEndian.AppendUint64(b, f.hash)
}

func (f *fold) Restore(b []byte) error {
	if len(b) != 16 {
		return fmt.Errorf("want 16 bytes, got %d", len(b))
	}
	f.n, f.hash = binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[8:])
	f.seen.Store(f.n)
	return nil
}

// counted reads one counter of a registry, summed over its labels that match.
func counted(t testing.TB, r *prometheus.Registry, name string, labels ...string) int {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	sum := 0.0
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			text := fmt.Sprint(m.GetLabel())
			if contains(text, labels...) {
				sum += m.GetCounter().GetValue()
			}
		}
	}
	return int(sum)
}

// start runs a service; stop ends it and gives what Run returned.
func start(t *testing.T, s *streams.Service) (stop func() error) {
	t.Helper()
	if s.TickEvery == 0 {
		s.TickEvery = 5 * time.Millisecond
	}
	ctx, cancel := context.WithCancel(during(t))
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	return func() error {
		cancel()
		return <-ended
	}
}

func publishPressures(t *testing.T, b *streams.Bus, from, to int) {
	t.Helper()
	var outs []streams.Out
	for i := from; i < to; i++ {
		p := pressureHost(schemas.HostID(fmt.Sprint("h", i%7)))
		p.Peak = float64(i)
		outs = append(outs, streams.Out{Subject: streams.SubjectPressureHost(p.Host), ID: fmt.Sprint("p", i), Msg: p, Lease: uint64(i % 3)})
	}
	if err := b.PublishAsync(during(t), outs); err != nil {
		t.Fatal(err)
	}
}

func TestServiceCatchesUpBeforeItTicks(t *testing.T) {
	s := streamstest.Start(t)
	b := streamstest.Connect(t, s, streams.RolePlacer)
	publishPressures(t, b, 0, 500)
	var first atomic.Uint64
	f := &fold{}
	f.decide = func(n uint64, c streams.Cut) []streams.Out {
		if f.ticks == 1 {
			first.Store(n)
			if c.Seq[streams.Pressure] != n {
				t.Errorf("cut %v after %d events", c, n)
			}
		}
		return nil
	}
	stop := start(t, &streams.Service{Name: "placer", Bus: b, Decider: f, Inputs: []streams.Input{{Stream: streams.Pressure}, {Stream: streams.Capacity}, {Stream: streams.Acts, From: streams.FromNew}}})
	publishPressures(t, b, 500, 520)
	eventually(t, "all applied, and a tick", func() bool { return f.seen.Load() == 520 && first.Load() > 0 })
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if first.Load() < 500 {
		t.Fatalf("ticked after %d of 500 events", first.Load())
	}
}

func TestServiceGoesOnFromItsSnapshot(t *testing.T) {
	s := streamstest.Start(t)
	b := streamstest.Connect(t, s, streams.RolePlacer)
	service := func(f *fold, name string) *streams.Service {
		return &streams.Service{Name: "placer", Bus: b, Decider: f, Inputs: []streams.Input{{Stream: streams.Pressure}}, Snapshot: name, SnapshotEvery: 20 * time.Millisecond}
	}
	publishPressures(t, b, 0, 300)
	f := &fold{}
	stop := start(t, service(f, "a"))
	eventually(t, "first part", func() bool { return f.seen.Load() == 300 })
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	publishPressures(t, b, 300, 400)
	g, applied := &fold{}, 0
	g.refuse = func(streams.Event) error { applied++; return nil }
	stop = start(t, service(g, "a"))
	eventually(t, "second part", func() bool { return g.seen.Load() == 400 })
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	whole := &fold{}
	stop = start(t, service(whole, "b"))
	eventually(t, "whole", func() bool { return whole.seen.Load() == 400 })
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if g.n != whole.n || g.hash != whole.hash {
		t.Fatalf("in two parts %d %x, in one %d %x", g.n, g.hash, whole.n, whole.hash)
	}
	if applied != 100 {
		t.Fatalf("after the snapshot %d events were applied, want 100", applied)
	}
	// A damaged snapshot is left aside and everything is read again.
	store, err := b.Tel.JS.ObjectStore(during(t), streams.ObjectSnapshots)
	if err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func([]byte) []byte{
		"short":    func([]byte) []byte { return []byte("x") },
		"version":  func(d []byte) []byte { d[7]++; return d },
		"checksum": func(d []byte) []byte { d[len(d)-9] ^= 1; return d },
	} {
		data, err := store.GetBytes(during(t), "b")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := store.PutBytes(during(t), "c", spoil(data)); err != nil {
			t.Fatal(err)
		}
		again := &fold{}
		stop = start(t, service(again, "c"))
		eventually(t, name, func() bool { return again.seen.Load() == 400 })
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		if again.hash != whole.hash {
			t.Errorf("%s: another state", name)
		}
	}
}

// bulky is a decider whose state is larger than the store, or not.
type bulky struct {
	fold
	size atomic.Int64
}

func (f *bulky) AppendSnapshot(b []byte) []byte {
	b = f.fold.AppendSnapshot(b)
	for x := uint64(1); int64(len(b)) < f.size.Load(); x = x*6364136223846793005 + 1442695040888963407 { // does not compress
		b = binary.BigEndian.AppendUint64(b, x)
	}
	return b
}

// A full object store refuses the snapshot; the one before stays, and the service goes
// on, counts, and takes the next.
func TestServiceLivesWithoutItsSnapshot(t *testing.T) {
	s := streamstest.Start(t)
	js := streamstest.Connect(t, s, streams.RoleAdmin).Tel.JS
	stream, err := js.Stream(during(t), "OBJ_"+streams.ObjectSnapshots)
	if err != nil {
		t.Fatal(err)
	}
	small := stream.CachedInfo().Config
	small.MaxBytes = 256 << 10
	if _, err := js.UpdateStream(during(t), small); err != nil {
		t.Fatal(err)
	}
	b := streamstest.Connect(t, s, streams.RolePlacer)
	r := prometheus.NewRegistry()
	f := &bulky{}
	var log strings.Builder // to be read when the service has ended
	stop := start(t, &streams.Service{Name: "placer", Bus: b, Decider: f, Inputs: []streams.Input{{Stream: streams.Pressure}},
		Snapshot: "big", SnapshotEvery: 10 * time.Millisecond, Registry: r, Log: slog.New(slog.NewTextHandler(&log, nil))})
	counts := func() (kept, failed int) {
		return counted(t, r, "foreshift_service_snapshots_total"), counted(t, r, "foreshift_service_snapshot_failures_total")
	}
	eventually(t, "a first snapshot", func() bool { kept, _ := counts(); return kept > 0 })
	f.size.Store(1 << 20)
	_, before := counts()
	eventually(t, "a refusal", func() bool { _, failed := counts(); return failed > before })
	if state, _, err := b.Snapshot(during(t), "big"); err != nil || len(state) != 16 {
		t.Fatalf("the snapshot before the refused one has %d bytes: %v", len(state), err)
	}
	f.size.Store(0)
	kept, _ := counts()
	publishPressures(t, b, 0, 10)
	eventually(t, "a snapshot after", func() bool { now, _ := counts(); return now > kept+1 && f.seen.Load() == 10 })
	f.size.Store(1 << 20)
	if err := stop(); err != nil {
		t.Fatalf("ended for want of a snapshot: %v", err)
	}
	if !strings.Contains(log.String(), "the object store is full") {
		t.Fatalf("nobody was told why:\n%s", log.String())
	}
}

func TestServicePublishesInOrderAndOnlyWhenActive(t *testing.T) {
	s := streamstest.Start(t)
	b := streamstest.Connect(t, s, streams.RolePlacer)
	other := streamstest.Connect(t, s, streams.RolePlacer)
	r := prometheus.NewRegistry()
	ctx := during(t)
	if _, err := other.Publish(ctx, commandOut("c0", vm2, 0)); err != nil {
		t.Fatal(err)
	}
	var active atomic.Bool
	var observed atomic.Int64
	f := &fold{}
	done := false
	f.decide = func(n uint64, c streams.Cut) []streams.Out {
		if !active.Load() {
			return []streams.Out{commandOut("never", vm1, 0)}
		}
		if done {
			return nil
		}
		done = true
		return []streams.Out{
			{Subject: streams.SubjectPressureHost("h1"), ID: "1", Msg: pressureHost("h1"), Lease: 7},
			{Subject: streams.SubjectPressureHost("h2"), ID: "2", Msg: pressureHost("h2"), Lease: 7},
			commandOut("c1", vm1, 0),
			commandOut("late", vm2, 0), // lost: the record has moved on
			{Subject: "steps.1", ID: "3", Msg: pressureHost("h1")},
			{Subject: streams.SubjectAct(schemas.ActHeartbeat), ID: "hb", Msg: heartbeat("hb")},
		}
	}
	stop := start(t, &streams.Service{Name: "placer", Bus: b, Decider: f, Inputs: []streams.Input{{Stream: streams.Pressure}}, Registry: r,
		Active: active.Load, Observe: func(streams.Out, uint64) { observed.Add(1) }})
	eventually(t, "some ticks", func() bool { return counted(t, r, "foreshift_service_ticks_total") > 3 })
	if _, err := other.LastUnder(ctx, streams.Migrations, streams.RecordOf(vm1)); !errors.Is(err, streams.ErrNotFound) {
		t.Fatalf("inactive, but published: %v", err)
	}
	active.Store(true)
	eventually(t, "published", func() bool { return observed.Load() == 4 && f.seen.Load() == 2 })
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if lost, failed := counted(t, r, "foreshift_service_lost_races_total"), counted(t, r, "foreshift_service_publish_failures_total"); lost != 1 || failed != 1 {
		t.Fatalf("lost races %d, failures %d; want 1 and 1", lost, failed)
	}
	events, err := other.Last(ctx, streams.Pressure)
	if err != nil || len(events) != 2 || events[0].Lease != 7 || events[0].Subject != streams.SubjectPressureHost("h1") {
		t.Fatalf("%v %v", events, err)
	}
}

func TestServiceRefusalsBecomeDeadLetters(t *testing.T) {
	s := streamstest.Start(t)
	b := streamstest.Connect(t, s, streams.RolePlacer)
	r := prometheus.NewRegistry()
	f := &fold{refuse: func(e streams.Event) error {
		if e.Seq%3 == 0 {
			return errors.New("not today")
		}
		return nil
	}}
	publishPressures(t, b, 0, 9)
	stop := start(t, &streams.Service{Name: "placer", Bus: b, Decider: f, Inputs: []streams.Input{{Stream: streams.Pressure}}, Registry: r})
	eventually(t, "dead letters", func() bool {
		return counted(t, r, "foreshift_dead_letters_total", "placer", streams.Pressure) == 3 && f.seen.Load() == 6
	})
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	op := streamstest.Connect(t, s, streams.RoleOperator)
	letters, err := op.Last(during(t), streams.DeadLetters)
	if err != nil || len(letters) != 1 {
		t.Fatalf("%v %v", letters, err)
	}
	l := letters[0].Msg.(*schemas.DeadLetter)
	if l.Reason != "not today" || l.Sequence != 9 || l.Service != "placer" || !strings.HasPrefix(l.Subject, "pressure.host.") {
		t.Fatalf("%+v", l)
	}
}

func TestServiceErrors(t *testing.T) {
	s := streamstest.StartBare(t)
	b := streamstest.Connect(t, s, streams.RolePlacer)
	for name, sv := range map[string]*streams.Service{
		"foreshift streams apply": {Name: "x", Bus: b, Decider: &fold{}, Inputs: []streams.Input{{Stream: streams.Pressure}}, TickEvery: time.Second},
		"two inputs":              {Name: "x", Bus: b, Decider: &fold{}, Inputs: []streams.Input{{Stream: streams.Pressure}, {Stream: streams.Pressure}}, TickEvery: time.Second},
		"tick every":              {Name: "x", Bus: b, Decider: &fold{}},
		"not permitted":           {Name: "x", Bus: b, Decider: &fold{}, Inputs: []streams.Input{{Stream: streams.Metrics}}, TickEvery: time.Second},
	} {
		if err := sv.Run(during(t)); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("want %q, got %v", name, err)
		}
	}
}

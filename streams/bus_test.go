package streams_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/foreshift/foreshift/schemas"
	"github.com/foreshift/foreshift/streams"
	"github.com/foreshift/foreshift/streams/streamstest"
)

func TestApplyIsIdempotent(t *testing.T) {
	s := streamstest.Start(t)
	admin := streamstest.Connect(t, s, streams.RoleAdmin)
	ctx := during(t)
	for _, f := range []func(context.Context, *streams.Bus, streams.ApplyOptions) ([]streams.Change, error){streams.Diff, streams.Apply} {
		changes, err := f(ctx, admin, s.ApplyOptions())
		if err != nil {
			t.Fatal(err)
		}
		if len(changes) != 0 {
			t.Fatalf("a second time: %v", changes)
		}
	}
	// Another host and another size: Diff says so, Apply does it, then all is quiet.
	opt := s.ApplyOptions()
	opt.Hosts = append(opt.Hosts, "h3")
	opt.Scale *= 2
	planned, err := streams.Diff(ctx, admin, opt)
	if err != nil {
		t.Fatal(err)
	}
	done, err := streams.Apply(ctx, admin, opt)
	if err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(planned) != fmt.Sprint(done) || len(done) < 3 {
		t.Fatalf("planned %v\ndone %v", planned, done)
	}
	if again, err := streams.Diff(ctx, admin, opt); err != nil || len(again) != 0 {
		t.Fatalf("after: %v %v", again, err)
	}
}

func TestLostRaceAndLostAck(t *testing.T) {
	s := streamstest.Start(t)
	a := streamstest.Connect(t, s, streams.RolePlacer)
	b := streamstest.Connect(t, s, streams.RolePlacer)
	ctx := during(t)
	first, err := a.Publish(ctx, commandOut("c1", vm1, 0))
	if err != nil {
		t.Fatal(err)
	}
	// The same again, as after a lost acknowledgement: ours is there, so it is done.
	if again, err := a.Publish(ctx, commandOut("c1", vm1, 0)); err != nil || again != first {
		t.Fatalf("retry: seq %d, %v; want %d", again, err, first)
	}
	// A second writer with the same view loses.
	if _, err := b.Publish(ctx, commandOut("c2", vm1, 0)); !errors.Is(err, streams.ErrLostRace) {
		t.Fatalf("second writer: %v", err)
	}
	// Another VM's record is another matter.
	if _, err := b.Publish(ctx, commandOut("c3", vm2, 0)); err != nil {
		t.Fatal(err)
	}
	// An outcome on the record moves it on for commands too.
	h1 := streamstest.Connect(t, s, "actuator-h1")
	outcome := &schemas.Outcome{Command: "c1", Epoch: first, VM: vm1, Host: "h1", Source: "h1", Destination: "h2", Time: now,
		Result: schemas.ResultSucceeded, Reason: schemas.Reason{Code: schemas.ReasonOK}, RunsAt: "h2", SourceSeen: "absent", DestSeen: "running"}
	if _, err := h1.Publish(ctx, streams.Out{Subject: streams.SubjectOutcome(vm1, "h1"), ID: "o1", Msg: outcome, Expect: &streams.Expect{Filter: streams.RecordOf(vm1), Seq: first}}); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Publish(ctx, commandOut("c4", vm1, first)); !errors.Is(err, streams.ErrLostRace) {
		t.Fatalf("stale view: %v", err)
	}
	last, err := a.LastUnder(ctx, streams.Migrations, streams.RecordOf(vm1))
	if err != nil || last.Subject != streams.SubjectOutcome(vm1, "h1") {
		t.Fatalf("last: %v %v", last, err)
	}
	if _, err := a.LastUnder(ctx, streams.Migrations, streams.RecordOf(schemas.VMID{9})); !errors.Is(err, streams.ErrNotFound) {
		t.Fatalf("none: %v", err)
	}
}

func TestMissingStreamNamesTheCommand(t *testing.T) {
	s := streamstest.StartBare(t)
	b := streamstest.Connect(t, s, "actuator-h1")
	_, err := b.Publish(during(t), streams.Out{Subject: streams.SubjectProgress(vm1), Msg: progress(vm1, 1)})
	if !errors.Is(err, streams.ErrMissing) || !contains(err.Error(), "foreshift streams apply", "PROGRESS") {
		t.Fatalf("publish: %v", err)
	}
	f := streamstest.Connect(t, s, streams.RoleForecaster)
	err = f.Consume(during(t), "forecaster", streams.Input{Stream: streams.Metrics}, func(streams.Event) {})
	if !errors.Is(err, streams.ErrMissing) || !contains(err.Error(), "foreshift streams apply", "METRICS") {
		t.Fatalf("consume: %v", err)
	}
	if _, err := f.Hold(during(t), "x", 1e9); !errors.Is(err, streams.ErrMissing) {
		t.Fatalf("lease: %v", err)
	}
	if err := b.Work(during(t), streams.DurableActuator("h1"), nil); !errors.Is(err, streams.ErrMissing) {
		t.Fatalf("work: %v", err)
	}
}

// TestLoadWithoutLoss reads ten thousand messages, some of them large, published
// while the reader runs: an unacknowledged consumer that asks for too much loses
// them silently.
func TestLoadWithoutLoss(t *testing.T) {
	s := streamstest.Start(t)
	w := streamstest.Connect(t, s, streams.RolePlacer)
	r := streamstest.Connect(t, s, streams.RolePlacer)
	ctx, cancel := context.WithCancel(during(t))
	const n = 10_000
	got := make(chan uint64, n+1)
	ended := make(chan error, 1)
	go func() {
		ended <- r.Consume(ctx, "reader", streams.Input{Stream: streams.Pressure}, func(e streams.Event) { got <- e.Seq })
	}()
	var outs []streams.Out
	large := make([]schemas.Why, 0, 64)
	for range cap(large) {
		large = append(large, schemas.Why{Kind: "neighbour", Text: string(letters(400)), Share: 0.01})
	}
	for i := range n {
		p := pressureHost(schemas.HostID(fmt.Sprintf("h%d", i%97)))
		if i%25 == 0 {
			p.Why = large
		}
		outs = append(outs, streams.Out{Subject: streams.SubjectPressureHost(p.Host), ID: fmt.Sprint("p", i), Msg: p})
	}
	if err := w.PublishAsync(ctx, outs); err != nil {
		t.Fatal(err)
	}
	for want := uint64(1); want <= n; want++ {
		select {
		case seq := <-got:
			if seq != want {
				t.Fatalf("sequence %d, want %d", seq, want)
			}
		case err := <-ended:
			t.Fatalf("ended: %v", err)
		case <-ctx.Done():
			t.Fatalf("stopped at %d", want)
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
}

func letters(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = 'a' + byte(i%26)
	}
	return b
}

func pressureHost(h schemas.HostID) *schemas.PressureHost {
	return &schemas.PressureHost{Host: h, Site: "s1", Time: now, Issued: 10, Resource: "cpu", Score: 0.5,
		Chances: map[string]schemas.Chance{"cpu": {H1: .1, H6: .3, H24: .5}}, Peak: 10, Limit: 9}
}

func TestLargeRequests(t *testing.T) {
	s := streamstest.Start(t)
	a := streamstest.Connect(t, s, "actuator-h1")
	b := streamstest.Connect(t, s, "actuator-h2")
	ctx, cancel := context.WithCancel(during(t))
	subject := streams.SubjectActuator("h2", schemas.OpPrepare)
	req := &schemas.Request{Op: schemas.OpPrepare, Command: "c1", Epoch: 1, VM: vm1, From: "h1", To: "h2", Time: now, Expires: now.Add(1e9),
		Order: schemas.Signed{Subject: "x", Payload: []byte("{}"), Signature: "s", Signer: "U"}, XML: "<domain/>", Cookie: make([]byte, 4<<20)}
	if _, err := a.Request(ctx, subject, req); !errors.Is(err, streams.ErrUnreachable) {
		t.Fatalf("nobody serves: %v", err)
	}
	ended := make(chan error, 1)
	go func() {
		ended <- b.Serve(ctx, "actuator.h2.*", func(_ context.Context, r *streams.Received) schemas.Message {
			if err := b.Authorities.VerifyActuator("h1", r.Subject, r.Data, r.Header.Get(schemas.HeaderSignature), r.Header.Get(schemas.HeaderSigner)); err != nil {
				t.Errorf("request: %v", err)
			}
			q := r.Msg.(*schemas.Request)
			return &schemas.Reply{Command: q.Command, Epoch: q.Epoch, VM: q.VM, From: "h2", Nonce: "00", Time: now, Reason: schemas.Reason{Code: schemas.ReasonOK}, Copy: "paused", Cookie: q.Cookie}
		})
	}()
	var r *streams.Received
	eventually(t, "an answer", func() (ok bool) {
		var err error
		if r, err = a.Request(ctx, subject, req); err != nil && !errors.Is(err, streams.ErrUnreachable) {
			t.Fatal(err)
		}
		return err == nil
	})
	if got := r.Msg.(*schemas.Reply); len(got.Cookie) != 4<<20 {
		t.Fatalf("cookie: %d", len(got.Cookie))
	}
	sig := r.Signed()
	if err := a.Authorities.VerifyActuator("h2", r.Subject, r.Data, sig.Signature, sig.Signer); err != nil {
		t.Fatal(err)
	}
	if reason := streams.ReasonOf(a.Authorities.VerifyActuator("h1", r.Subject, r.Data, sig.Signature, sig.Signer)); reason.Code != schemas.ReasonUnknownSigner {
		t.Fatalf("another host's key: %v", reason)
	}
	req.XML = string(letters(3 << 20))
	if _, err := a.Request(ctx, subject, req); err == nil {
		t.Fatal("a request above 8 MB was sent")
	}
	cancel()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
}

func TestLastGivesThePresent(t *testing.T) {
	s := streamstest.Start(t)
	b := streamstest.Connect(t, s, streams.RolePlacer)
	ctx := during(t)
	if events, err := b.Last(ctx, streams.Pressure); err != nil || len(events) != 0 {
		t.Fatalf("empty: %v %v", events, err)
	}
	for i := range 20 {
		p := pressureHost(schemas.HostID(fmt.Sprint("h", i%3)))
		p.Peak = float64(i)
		if _, err := b.Publish(ctx, streams.Out{Subject: streams.SubjectPressureHost(p.Host), Msg: p}); err != nil {
			t.Fatal(err)
		}
	}
	events, err := b.Last(ctx, streams.Pressure, "pressure.host.*")
	if err != nil || len(events) != 3 {
		t.Fatalf("%d events, %v", len(events), err)
	}
	if p := events[2].Msg.(*schemas.PressureHost); p.Peak != 19 || events[2].Seq != 20 {
		t.Fatalf("last: %+v", events[2])
	}
	if events, err := b.Last(ctx, streams.Pressure, "shortfall.*"); err != nil || len(events) != 0 {
		t.Fatalf("other subject: %v %v", events, err)
	}
}

// Whoever asks for the present while it changes gets all of it.
func TestLastIsWholeWhileOthersWrite(t *testing.T) {
	s := streamstest.Start(t)
	b := streamstest.Connect(t, s, streams.RolePlacer)
	ctx := during(t)
	const hosts = 40
	write := func(i int) error {
		p := pressureHost(schemas.HostID(fmt.Sprint("h", i%hosts)))
		p.Peak = float64(i)
		return b.PublishAsync(ctx, []streams.Out{{Subject: streams.SubjectPressureHost(p.Host), Msg: p}})
	}
	for i := range hosts {
		if err := write(i); err != nil {
			t.Fatal(err)
		}
	}
	stop, done := make(chan struct{}), make(chan error, 1)
	go func() {
		for i := hosts; ; i++ {
			select {
			case <-stop:
				done <- nil
				return
			default:
			}
			if err := write(i); err != nil {
				done <- err
				return
			}
		}
	}()
	for range 20 {
		events, err := b.Last(ctx, streams.Pressure, "pressure.host.*")
		if err != nil || len(events) != hosts {
			t.Errorf("%d of %d hosts, %v", len(events), hosts, err)
			break
		}
	}
	close(stop)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func contains(s string, parts ...string) bool {
	for _, p := range parts {
		if !strings.Contains(s, p) {
			return false
		}
	}
	return true
}

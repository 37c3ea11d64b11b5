package streams_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/foreshift/foreshift/schemas"
	"github.com/foreshift/foreshift/streams"
	"github.com/foreshift/foreshift/streams/embedded"
	"github.com/foreshift/foreshift/streams/streamstest"
)

// record runs a recorder until stop is called.
func record(t *testing.T, s *embedded.Server) (stop func()) {
	b := streamstest.Connect(t, s, streams.RoleRecorder)
	ctx, cancel := context.WithCancel(during(t))
	ended := make(chan error, 1)
	go func() { ended <- streams.Record(ctx, b, nil) }()
	return func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		b.Close()
	}
}

// trail reads all audit records.
func trail(t *testing.T, b *streams.Bus) []*schemas.Audit {
	t.Helper()
	var out []*schemas.Audit
	ctx, cancel := context.WithCancel(during(t))
	defer cancel()
	last, err := b.LastUnder(ctx, streams.Audit, "audit.>")
	if err != nil {
		return nil
	}
	err = b.Consume(ctx, "test", streams.Input{Stream: streams.Audit}, func(e streams.Event) {
		out = append(out, e.Msg.(*schemas.Audit))
		if e.Seq >= last.Seq {
			cancel()
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestRecorderCopiesOnceAndChains(t *testing.T) {
	s := streamstest.Start(t)
	placer := streamstest.Connect(t, s, streams.RolePlacer)
	reader := streamstest.Connect(t, s, streams.RoleRecorder)
	operator := streamstest.Connect(t, s, streams.RoleOperator)
	ctx := during(t)
	n := 0
	write := func() {
		t.Helper()
		for range 10 {
			n++
			if _, err := placer.Publish(ctx, streams.Out{Subject: streams.SubjectAct(schemas.ActHeartbeat), ID: fmt.Sprint("b", n), Msg: heartbeat(fmt.Sprint("b", n))}); err != nil {
				t.Fatal(err)
			}
		}
	}
	write()
	if _, err := placer.Publish(ctx, commandOut("c1", vm1, 0)); err != nil {
		t.Fatal(err)
	}
	stop := record(t, s)
	eventually(t, "first records", func() bool { return len(trail(t, reader)) == 11 })
	stop()
	write()
	// Somebody has the server store old records again: they are set aside.
	for _, seq := range []string{"1", "4"} {
		if err := operator.Audit.NC.PublishRequest("$JS.API.DIRECT.GET.AUDIT", "audit.ACTS", []byte(`{"seq":`+seq+`}`)); err != nil {
			t.Fatal(err)
		}
		if err := operator.Audit.NC.PublishRequest("$JS.API.STREAM.MSG.GET.AUDIT", "audit.ACTS", []byte(`{"seq":`+seq+`}`)); err != nil {
			t.Fatal(err)
		}
	}
	if err := operator.Audit.NC.Flush(); err != nil {
		t.Fatal(err)
	}
	stop = record(t, s)
	write()
	var chain []*schemas.Audit
	eventually(t, "all records", func() bool {
		chain = chain[:0]
		known := map[string]bool{}
		for _, a := range trail(t, reader) {
			if !known[a.Hash] {
				chain, known[a.Hash] = append(chain, a), true
			}
		}
		return len(chain) == 31
	})
	stop()
	if err := streams.Verify(chain); err != nil {
		t.Fatal(err)
	}
	// Whatever is changed, dropped or repeated shows.
	for name, spoil := range map[string]func([]*schemas.Audit) []*schemas.Audit{
		"payload":  func(c []*schemas.Audit) []*schemas.Audit { c[5].Payload = append([]byte(nil), "{}"...); return c },
		"time":     func(c []*schemas.Audit) []*schemas.Audit { c[5].Time++; return c },
		"header":   func(c []*schemas.Audit) []*schemas.Audit { c[5].Header = map[string][]string{"X": {"y"}}; return c },
		"dropped":  func(c []*schemas.Audit) []*schemas.Audit { return append(c[:5], c[6:]...) },
		"repeated": func(c []*schemas.Audit) []*schemas.Audit { return append(c[:6], c[5:]...) },
		"swapped":  func(c []*schemas.Audit) []*schemas.Audit { c[4], c[5] = c[5], c[4]; return c },
	} {
		copied := make([]*schemas.Audit, len(chain))
		for i, a := range chain {
			b := *a
			copied[i] = &b
		}
		if streams.Verify(spoil(copied)) == nil {
			t.Errorf("%s: not noticed", name)
		}
	}

	// Who may not read CTRL reads the copies, as if they were the originals.
	events, err := operator.Last(ctx, streams.Migrations)
	if err != nil || len(events) != 1 {
		t.Fatalf("operator: %v %v", events, err)
	}
	if c := events[0].Msg.(*schemas.Command); c.ID != "c1" || events[0].Stream != streams.Migrations || events[0].Subject != streams.SubjectCommand(vm1, "h1", "h2") {
		t.Fatalf("operator: %+v", events[0])
	}
	viewer := streamstest.Connect(t, s, streams.RoleViewer)
	if events, err := viewer.Last(ctx, streams.Acts, "acts.heartbeat"); err != nil || len(events) != 1 || events[0].Msg.(*schemas.Act).ID != "b30" {
		t.Fatalf("viewer: %v %v", events, err)
	}
}

package streams_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/foreshift/foreshift/schemas"
	"github.com/foreshift/foreshift/streams"
	"github.com/foreshift/foreshift/streams/embedded"
	"github.com/foreshift/foreshift/streams/streamstest"
)

// work takes commands until c9, retrying the first once.
func work(t *testing.T, b *streams.Bus, h schemas.HostID, got *[]string, verdicts map[string]streams.Verdict) {
	t.Helper()
	ctx, cancel := context.WithCancel(during(t))
	defer cancel()
	busy := atomic.Bool{}
	err := b.Work(ctx, streams.DurableActuator(h), func(_ context.Context, r *streams.Received) streams.Verdict {
		if busy.Swap(true) {
			t.Error("two at a time")
		}
		defer busy.Store(false)
		if err := b.Authorities.VerifyCommand(r.Signed()); err != nil {
			t.Error(err)
		}
		id := string(r.Msg.(*schemas.Command).ID)
		*got = append(*got, id)
		if len(*got) == 1 {
			return streams.Retry(10 * time.Millisecond)
		}
		// The first comes again, before or after the others.
		if slices.Contains(*got, "c9") && slices.Contains((*got)[1:], (*got)[0]) {
			cancel()
		}
		if v, ok := verdicts[id]; ok {
			return v
		}
		return streams.Ack()
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(*got)
}

// TestWorkGoesOnBesideTheParked: what is parked stays unacknowledged and holds up nobody;
// its verdict counts like any other; what waits when the work ends is delivered again.
func TestWorkGoesOnBesideTheParked(t *testing.T) {
	s := streamstest.Start(t)
	placer := streamstest.Connect(t, s, streams.RolePlacer)
	b := streamstest.Connect(t, s, "actuator-h1")
	ctx := during(t)
	for i := range 5 {
		if _, err := placer.Publish(ctx, commandOut(schemas.CommandID(fmt.Sprint("c", i)), schemas.VMID{byte(i + 1)}, 0)); err != nil {
			t.Fatal(err)
		}
	}
	var mu sync.Mutex
	var got []string
	first := make(chan struct{})
	work, stop := context.WithCancel(ctx)
	err := b.Work(work, streams.DurableActuator("h1"), func(_ context.Context, r *streams.Received) streams.Verdict {
		id := string(r.Msg.(*schemas.Command).ID)
		mu.Lock()
		got = append(got, id)
		mu.Unlock()
		switch id {
		case "c0": // until the last has come
			return streams.Park(func(context.Context) streams.Verdict { <-first; return streams.Ack() })
		case "c1": // for ever
			return streams.Park(func(ctx context.Context) streams.Verdict { <-ctx.Done(); return streams.Retry(time.Millisecond) })
		case "c4":
			close(first)
			stop()
		}
		return streams.Ack()
	})
	if err != nil || fmt.Sprint(got) != "[c0 c1 c2 c3 c4]" {
		t.Fatalf("worked: %v; %v", got, err)
	}
	again, stop := context.WithTimeout(ctx, 20*time.Second)
	defer stop()
	got = nil
	err = b.Work(again, streams.DurableActuator("h1"), func(_ context.Context, r *streams.Received) streams.Verdict {
		got = append(got, string(r.Msg.(*schemas.Command).ID))
		stop()
		return streams.Ack()
	})
	if err != nil || fmt.Sprint(got) != "[c1]" {
		t.Errorf("delivered again: %v; %v", got, err)
	}
}

func TestLeaseHandover(t *testing.T) {
	s := streamstest.Start(t)
	a := streamstest.Connect(t, s, streams.RolePlacer)
	b := streamstest.Connect(t, s, streams.RolePlacer)
	const ttl = 400 * time.Millisecond
	ctxA, stopA := context.WithCancel(during(t))
	la, err := a.Hold(ctxA, "placer", ttl)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "a holds", la.Held)
	ra := la.Revision()
	ctxB, stopB := context.WithCancel(during(t))
	lb, err := b.Hold(ctxB, "placer", ttl)
	if err != nil {
		t.Fatal(err)
	}
	// While a renews, b never wins, and a's epoch stays.
	for end := time.Now().Add(3 * ttl); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if lb.Held() && la.Held() {
			t.Fatal("both hold")
		}
	}
	if la.Held() && la.Revision() != ra {
		t.Logf("a lost and won again on a slow machine: %d -> %d", ra, la.Revision())
	}
	// a's connection dies without a word: a knows that it has lost before b wins.
	a.Close()
	eventually(t, "b holds", func() bool {
		if lb.Held() && la.Held() {
			t.Fatal("both hold")
		}
		return lb.Held()
	})
	if la.Held() || la.Revision() != 0 {
		t.Fatal("a still believes")
	}
	rb := lb.Revision()
	if rb <= ra {
		t.Fatalf("epoch went from %d to %d", ra, rb)
	}
	stopA()
	<-la.Done()
	// b gives up in order: the next need not wait for the TTL to pass.
	stopB()
	<-lb.Done()
	ctxC, stopC := context.WithCancel(during(t))
	lc, err := b.Hold(ctxC, "placer", ttl)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "c holds", lc.Held)
	if lc.Revision() <= rb {
		t.Fatalf("epoch went from %d to %d", rb, lc.Revision())
	}
	stopC()
	<-lc.Done()
}

func TestConsumeSurvivesARestartOfTheServer(t *testing.T) {
	opt := embedded.Options{StateDir: t.TempDir(), Hosts: streamstest.Hosts}
	s, err := embedded.Start(opt)
	if err != nil {
		t.Fatal(err)
	}
	admin := streamstest.Connect(t, s, streams.RoleAdmin)
	if _, err := streams.Apply(during(t), admin, s.ApplyOptions()); err != nil {
		t.Fatal(err)
	}
	b := streamstest.Connect(t, s, streams.RolePlacer)
	f := &fold{}
	stop := start(t, &streams.Service{Name: "placer", Bus: b, Decider: f, Inputs: []streams.Input{{Stream: streams.Pressure}}})
	publishPressures(t, b, 0, 50)
	eventually(t, "first part", func() bool { return f.seen.Load() == 50 })
	opt.Port = s.Port()
	s.Shutdown()
	if s, err = embedded.Start(opt); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Shutdown)
	eventually(t, "connected again", func() bool { return b.Ready() == nil })
	w := streamstest.Connect(t, s, streams.RolePlacer)
	publishPressures(t, w, 50, 100)
	eventually(t, "second part", func() bool { return f.seen.Load() == 100 })
	if err := stop(); err != nil {
		t.Fatal(err)
	}
}

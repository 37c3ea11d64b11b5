package forecaster

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/foreshift/foreshift/schemas"
	"github.com/foreshift/foreshift/streams"
	"github.com/foreshift/foreshift/streams/streamstest"
	"github.com/nats-io/nats.go"
)

// partitionsOf is a view in which the first n partitions should be here, by these leases.
func partitionsOf(n int, lease uint64) streams.ShareView {
	v := streams.ShareView{Held: make([]uint64, schemas.Partitions), Mine: make([]bool, schemas.Partitions), Wanted: make([]bool, schemas.Partitions), Members: 1}
	for p := range n {
		v.Held[p], v.Mine[p] = lease, true
	}
	return v
}

func lapsed() streams.ShareView {
	v := partitionsOf(0, 0)
	v.Lapsed = true
	return v
}

type heldRig struct {
	*held
	t *testing.T
}

func newHeldRig(t *testing.T) *heldRig {
	t.Helper()
	srv := streamstest.Start(t)
	ctx, cancel := context.WithCancel(context.Background())
	h := &held{log: slog.New(slog.DiscardHandler), bus: streamstest.Connect(t, srv, streams.RoleForecaster), ctx: ctx, todo: make(chan func(), 8), stored: make(chan struct{}, 1)}
	h.cfg = Config{Base: time.Second, Lease: func() uint64 { return 0 }}.WithDefaults()
	var err error
	if h.Decider, err = NewShare(h.cfg); err != nil {
		t.Fatal(err)
	}
	if h.sharing, err = h.bus.Join(ctx, "test", schemas.Partitions, 5*time.Second); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cancel(); h.work.Wait(); <-h.sharing.Done() })
	return &heldRig{h, t}
}

func (r *heldRig) count(s loadStage) (n int) {
	for p := range r.parts {
		if r.parts[p].stage == s {
			n++
		}
	}
	return n
}

// until settles a view again and again, as ticks do, until ok.
func (r *heldRig) until(what string, v streams.ShareView, ok func() bool) {
	r.t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			r.t.Fatalf("%s: not within 20 s: %d asked, %d ready, %d taken, %d loads", what, r.count(asked), r.count(ready), r.count(taken), r.loads)
		}
		r.deliver()
		r.settle(v)
	}
}

// A session that was not renewed in time costs nothing but the right to speak: what is
// here stays, and goes on when the session does.
func TestLapsedSessionKeepsItsPartitions(t *testing.T) {
	r := newHeldRig(t)
	r.until("all taken", partitionsOf(schemas.Partitions, 7), func() bool { return r.count(taken) == schemas.Partitions })
	loads := r.stats.loads
	for range 3 {
		r.settle(lapsed())
		if n := r.count(taken); n != schemas.Partitions || r.ownsAny() {
			t.Fatalf("lapsed: %d partitions are left, owned %v", n, r.ownsAny())
		}
		r.settle(partitionsOf(schemas.Partitions, 7))
		if !r.owned[0] || r.stats.loads != loads || r.stats.dropped != 0 {
			t.Fatalf("renewed: owned %v, %d loads more, %d dropped", r.owned[0], r.stats.loads-loads, r.stats.dropped)
		}
	}
	r.settle(partitionsOf(10, 7)) // the others are somebody else's by now
	if n := r.count(taken); n != 10 {
		t.Fatalf("%d partitions are left, want 10", n)
	}
}

// Members that come and go do not pile up loads: few read at a time, and one that nobody
// waits for any more ends.
func TestLoadsAreFew(t *testing.T) {
	r := newHeldRig(t)
	most := 0
	for n := range schemas.Partitions { // one more with every look; nothing is delivered
		r.settle(partitionsOf(n, 7))
		most = max(most, r.loads)
	}
	if most != mostLoads {
		t.Fatalf("%d loads at a time, want %d", most, mostLoads)
	}
	var running []*load
	for p := range r.parts {
		if l := r.parts[p].load; l != nil && (len(running) == 0 || running[len(running)-1] != l) {
			running = append(running, l)
		}
	}
	r.settle(partitionsOf(0, 0))
	for _, l := range running {
		if l.wanted != 0 {
			t.Errorf("a load of %d partitions goes on for %d that nobody wants", len(l.parts), l.wanted)
		}
	}
	r.until("nothing is loaded any more", partitionsOf(0, 0), func() bool { return r.loads == 0 })
	if r.count(none) != schemas.Partitions || r.busy != 0 {
		t.Fatalf("%d partitions are here, %d busy", schemas.Partitions-r.count(none), r.busy)
	}
	r.until("all taken after all", partitionsOf(schemas.Partitions, 8), func() bool { return r.count(taken) == schemas.Partitions })
}

// A load that failed is tried again after a while that grows, and what was late is told
// from what is not usable.
func TestLateSnapshotsAreTriedAgain(t *testing.T) {
	r := newHeldRig(t)
	var last time.Duration
	for try := range mostTries {
		r.parts[3].stage = asked
		r.busy++
		r.postpone([]int{3})
		w := &r.parts[3]
		wait := time.Until(w.again)
		if w.stage != none || w.tries != try+1 || wait <= last {
			t.Fatalf("try %d: stage %d, %d tries, again in %v after %v", try, w.stage, w.tries, wait, last)
		}
		last = wait
	}
	r.parts[3].again = time.Time{}
	r.settle(partitionsOf(4, 7))
	if l := r.parts[3].load; l.patient[3] || !l.patient[2] {
		t.Errorf("after %d tries it goes on without: patient %v", mostTries, l.patient)
	}
	for err, want := range map[error]bool{
		fmt.Errorf("get: %w", context.DeadlineExceeded): true, fmt.Errorf("get: %w", nats.ErrTimeout): true,
		streams.ErrNotFound: false, fmt.Errorf("damaged"): false,
	} {
		if tooSlow(err) != want {
			t.Errorf("%v: too slow %v", err, !want)
		}
	}
}

package jetstream

import (
	"errors"
	"testing"
	"time"

	"github.com/foreshift/foreshift/schemas"
	"github.com/foreshift/foreshift/streams"
)

// TestTheBusIsAwayAndTheAgentRestarts: what is gathered meanwhile waits on disk, over a
// restart of the agent too, and reaches the bus once, in order, before anything newer.
func TestTheBusIsAwayAndTheAgentRestarts(t *testing.T) {
	dir := t.TempDir()
	spooled := func(o *Output) { o.Spool, o.SpoolSize = dir, 4<<20 }
	b := &fakeBus{}
	o := newOutput(t, b, spooled)
	gather := func(o *Output, n int) {
		t.Helper()
		write(t, o, sampleVM("h1", 1, at(n), map[string]any{"cpu_s": float64(n)}), sampleHost("h1", at(n), 1, nil))
	}
	gather(o, 0)
	b.fail = func(streams.Out) error { return errors.New("the bus is away") }
	for n := 1; n < 20; n++ {
		gather(o, n) // no error: it is kept
	}
	if o.rows != 0 || o.ring.Empty() {
		t.Fatalf("%d rows wait in memory, spool empty %v", o.rows, o.ring.Empty())
	}
	if err := o.ring.Close(); err != nil { // the agent dies
		t.Fatal(err)
	}
	before := b.ids
	o = newOutput(t, b, spooled)
	b.ids = before
	gather(o, 20)
	b.fail = nil
	gather(o, 21)
	ms := b.metrics("h1")
	last := schemas.Time(0)
	for _, m := range ms {
		if m.Time[0] <= last {
			t.Fatalf("out of order: %v after %v", m.Time[0], last)
		}
		last = m.Time[0]
	}
	if len(ms) != 22 || !o.ring.Empty() {
		t.Fatalf("%d of 22 gathers arrived, spool empty %v", len(ms), o.ring.Empty())
	}
	if last.Std().Sub(at(21)) > time.Second {
		t.Fatalf("the last is of %v", last)
	}
}

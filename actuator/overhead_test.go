package actuator

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/foreshift/foreshift/actuator/libvirt"
	"github.com/foreshift/foreshift/actuator/migration"
	"github.com/foreshift/foreshift/schemas"
)

// timed adds up the time that calls of libvirt take.
type timed struct{ spent atomic.Int64 }

func (t *timed) since(began time.Time) { t.spent.Add(int64(time.Since(began))) }

type timedSource struct {
	*libvirt.Source
	*timed
}

func (s timedSource) Observe(ctx context.Context, vm schemas.VMID) (migration.Seen, error) {
	defer s.since(time.Now())
	return s.Source.Observe(ctx, vm)
}

func (s timedSource) Begin(ctx context.Context, t migration.Ticket) (migration.Offer, error) {
	defer s.since(time.Now())
	return s.Source.Begin(ctx, t)
}

func (s timedSource) Perform(ctx context.Context, t migration.Ticket, p migration.Reply) ([]byte, error) {
	defer s.since(time.Now())
	return s.Source.Perform(ctx, t, p)
}

func (s timedSource) Confirm(ctx context.Context, vm schemas.VMID, cookie []byte) error {
	defer s.since(time.Now())
	return s.Source.Confirm(ctx, vm, cookie)
}

type timedIncoming struct {
	*libvirt.Destination
	*timed
}

func (d timedIncoming) Observe(ctx context.Context, t migration.Ticket) (migration.Reply, error) {
	defer d.since(time.Now())
	return d.Destination.Observe(ctx, t)
}

func (d timedIncoming) Prepare(ctx context.Context, t migration.Ticket, o migration.Offer) (migration.Reply, error) {
	defer d.since(time.Now())
	return d.Destination.Prepare(ctx, t, o)
}

func (d timedIncoming) Finish(ctx context.Context, t migration.Ticket, cookie []byte) (migration.Reply, error) {
	defer d.since(time.Now())
	return d.Destination.Finish(ctx, t, cookie)
}

func (d timedIncoming) Resume(ctx context.Context, t migration.Ticket) (migration.Reply, error) {
	defer d.since(time.Now())
	return d.Destination.Resume(ctx, t)
}

// TestOverhead: how much of a move is ours and not libvirt's: bus, journals,
// decisions and the wait for the guest's first sign of life. The budget is 300 ms;
// the bound asserted leaves room for a busy machine.
func TestOverhead(t *testing.T) {
	r := newRig(t)
	var spent timed
	for i := range 2 {
		h, err := libvirt.Open(r.ctx(), r.fleet.Hosts()[i].URI)
		if err != nil {
			t.Fatal(err)
		}
		defer h.Close()
		r.host(i, func(c *Config) {
			c.source, c.incoming = timedSource{h.Source(), &spent}, timedIncoming{h.Destination(""), &spent}
		})
	}
	least := time.Hour
	for i := range 6 {
		from, to := i%2, 1-i%2
		vm := r.on(from)
		r.beat()
		spent.spent.Store(0)
		c := r.command(vm, from, to)
		r.send(c)
		o := r.want(c.ID, schemas.ResultSucceeded, 15*time.Second)
		whole := time.Duration(float64(o.Duration) * float64(time.Second))
		own := whole - time.Duration(spent.spent.Load())
		t.Logf("whole %s, own %s", whole.Round(time.Millisecond), own.Round(time.Millisecond))
		least = min(least, own)
	}
	if least > 300*time.Millisecond {
		t.Errorf("the quickest of six moves had %s outside libvirt's calls", least)
	}
}

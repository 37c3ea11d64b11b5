package streams

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Verdict is what becomes of a message of a durable consumer.
type Verdict struct {
	what  string
	after time.Duration
	why   error
	wait  func(context.Context) Verdict
}

// Ack: the effect is recorded; the message is done with.
func Ack() Verdict { return Verdict{what: "ack"} }

// Retry: not now; deliver it again after a while. After maxDeliveries it becomes
// a dead letter.
func Retry(after time.Duration) Verdict { return Verdict{what: "retry", after: after} }

// Reject: it will never do; it becomes a dead letter and is not delivered again.
func Reject(reason error) Verdict { return Verdict{what: "reject", why: reason} }

// Park: it cannot be judged yet. It stays unacknowledged, those behind it go on beside
// it, and wait, in a goroutine of its own, comes to the verdict. A wait must end with its
// context.
func Park(wait func(context.Context) Verdict) Verdict { return Verdict{what: "park", wait: wait} }

// MaxParked bounds how many messages of a durable consumer are unacknowledged at a time:
// the server delivers no more.
const MaxParked = 64

// ackWait is after how long without a word the server delivers again; the shell
// sends one every third of it while a handler works.
const ackWait = 30 * time.Second

// maxDeliveries is how often one message is tried.
const maxDeliveries = 20

// Work takes the messages of a durable consumer one at a time, but for those that are
// parked. The handler may take as long as it needs: the server is told meanwhile that
// work goes on. It must bear seeing a message again, for a service can die between the
// effect and the acknowledgement. Work returns nil when ctx ends, and no parked message
// is being judged any more.
func (b *Bus) Work(ctx context.Context, durable string, handle func(context.Context, *Received) Verdict) error {
	c, err := b.conn(Ctrl)
	if err != nil {
		return fmt.Errorf("work %s: %w", durable, err)
	}
	wait, done := c.denials.watch(ctx, "$JS.API.CONSUMER.")
	cons, err := patiently(wait, b, "consumer "+durable, func(ctx context.Context) (jetstream.Consumer, error) { return c.JS.Consumer(ctx, Migrations, durable) })
	done()
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return explain(wait, "work: consumer "+durable+" of "+Migrations, err)
	}
	var parked sync.WaitGroup
	defer parked.Wait()
	for ctx.Err() == nil {
		m, err := cons.Next(jetstream.FetchContext(ctx), jetstream.FetchHeartbeat(2*time.Second))
		switch {
		case err == nil:
			if err := b.judge(ctx, durable, m, &parked, handle); err != nil {
				b.undelivered(durable, m, err)
			}
		case ctx.Err() != nil:
		case errors.Is(err, jetstream.ErrConsumerDeleted), errors.Is(err, jetstream.ErrConsumerNotFound):
			return fmt.Errorf("work: consumer %s of %s: %w (%w)", durable, Migrations, ErrMissing, err)
		default:
			// No message in time, or the server is away: ask again, not in a hurry.
			pause(ctx, 250*time.Millisecond)
		}
	}
	return nil
}

// undelivered: the server will deliver the message again when it hears nothing.
func (b *Bus) undelivered(durable string, m jetstream.Msg, err error) {
	b.Log.Warn("verdict not delivered", "durable", durable, "subject", m.Subject(), "err", err)
}

// judge has a message judged.
func (b *Bus) judge(ctx context.Context, durable string, m jetstream.Msg, parked *sync.WaitGroup, handle func(context.Context, *Received) Verdict) error {
	meta, err := m.Metadata()
	if err != nil {
		return errors.Join(err, m.Term())
	}
	r, _, err := received(m)
	if err != nil {
		return errors.Join(err, m.Term())
	}
	v := Verdict{}
	if _, err := r.event(Migrations); err != nil {
		v = Reject(err)
	} else {
		v = b.handled(ctx, m, r, handle)
	}
	if v.what == "park" {
		parked.Go(func() {
			end := b.handled(ctx, m, r, func(ctx context.Context, _ *Received) Verdict { return v.wait(ctx) })
			if err := b.settle(ctx, durable, m, r, meta.NumDelivered, end); err != nil {
				b.undelivered(durable, m, err)
			}
		})
		return nil
	}
	return b.settle(ctx, durable, m, r, meta.NumDelivered, v)
}

// settle is the one place where a message is acked, retried or given up.
func (b *Bus) settle(ctx context.Context, durable string, m jetstream.Msg, r *Received, deliveries uint64, v Verdict) error {
	if v.what == "retry" && deliveries >= maxDeliveries {
		v = Reject(fmt.Errorf("given up after %d deliveries", deliveries))
	}
	b.metrics.verdicts.WithLabelValues(durable, v.what).Inc()
	switch v.what {
	case "ack":
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), publishTimeout)
		defer cancel()
		return m.DoubleAck(ctx)
	case "retry":
		return m.NakWithDelay(max(v.after, time.Millisecond))
	case "reject":
		b.deadLetter(ctx, durable, Migrations, r, v.why)
		return m.TermWithReason("rejected")
	}
	return fmt.Errorf("%s: the handler gave no verdict", durable)
}

// handled runs the handler and tells the server that work goes on.
func (b *Bus) handled(ctx context.Context, m jetstream.Msg, r *Received, handle func(context.Context, *Received) Verdict) Verdict {
	stop := make(chan struct{})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		t := time.NewTicker(ackWait / 3)
		defer t.Stop()
		for {
			select {
			case <-stop:
				return
			case <-t.C:
				if err := m.InProgress(); err != nil {
					b.Log.Warn("work in progress not told", "subject", r.Subject, "err", err)
				}
			}
		}
	}()
	defer func() { close(stop); <-ended }()
	return handle(ctx, r)
}

// pause waits, or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

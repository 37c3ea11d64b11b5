package streams

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/foreshift/foreshift/schemas"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nuid"
)

// maxServing bounds the requests that one Serve handles at a time; more wait.
const maxServing = 32

// Serve answers the requests on a subject of CTRL, such as "actuator.<host>.*",
// until ctx ends. The handler is called by several goroutines, for a request may
// take long; it judges signature and authority. A nil reply answers nothing. What
// cannot be decoded is counted, and not answered: nobody honest sends it.
func (b *Bus) Serve(ctx context.Context, subject string, handle func(context.Context, *Received) schemas.Message) error {
	c, err := b.conn(Ctrl)
	if err != nil {
		return fmt.Errorf("serve %s: %w", subject, err)
	}
	msgs := make(chan *nats.Msg, 256)
	sub, err := c.NC.ChanSubscribe(subject, msgs)
	if err != nil {
		return fmt.Errorf("serve %s: %w", subject, err)
	}
	if err := c.NC.FlushTimeout(publishTimeout); err != nil && ctx.Err() == nil {
		return errors.Join(fmt.Errorf("serve %s: %w", subject, err), sub.Unsubscribe())
	}
	var wg sync.WaitGroup
	slots := make(chan struct{}, maxServing)
	defer wg.Wait()
	for {
		select {
		case <-ctx.Done():
			if err := sub.Unsubscribe(); err != nil && !errors.Is(err, nats.ErrConnectionClosed) {
				return fmt.Errorf("serve %s: %w", subject, err)
			}
			return nil
		case m := <-msgs:
			select {
			case slots <- struct{}{}:
			case <-ctx.Done():
				continue
			}
			wg.Add(1)
			go func() {
				defer wg.Done()
				defer func() { <-slots }()
				if err := b.answer(ctx, c, m, handle); err != nil {
					b.Log.Warn("request not answered", "subject", m.Subject, "err", err)
				}
			}()
		}
	}
}

func (b *Bus) answer(ctx context.Context, c *Conn, m *nats.Msg, handle func(context.Context, *Received) schemas.Message) error {
	r := &Received{Subject: m.Subject, Header: m.Header, Data: m.Data}
	if err := r.decode(schemas.KindRequest); err != nil {
		b.metrics.deadLetters.WithLabelValues(b.Role, "requests").Inc()
		return err
	}
	reply := handle(ctx, r)
	if reply == nil || m.Reply == "" {
		return nil
	}
	data, err := schemas.Encode(reply)
	if err != nil {
		return err
	}
	out := &nats.Msg{Subject: m.Reply, Data: data, Header: nats.Header{}}
	if err := b.dress(out, reply.Kind(), true); err != nil {
		return err
	}
	return c.NC.PublishMsg(out)
}

// Request sends a signed request to an actuator and waits for its reply until ctx
// ends, which is [ErrUnreachable], as is that nobody listens. The signature of the
// reply covers the subject it came on; the caller verifies it.
func (b *Bus) Request(ctx context.Context, subject string, m schemas.Message) (*Received, error) {
	c, err := b.conn(Ctrl)
	if err != nil {
		return nil, fmt.Errorf("request %s: %w", subject, err)
	}
	data, err := schemas.Encode(m)
	if err != nil {
		return nil, fmt.Errorf("request %s: %w", subject, err)
	}
	if max := c.NC.MaxPayload(); int64(len(data)+maxHeader) > max {
		return nil, fmt.Errorf("request %s: %w: %d bytes, the server takes %d", subject, ErrTooLarge, len(data), max-maxHeader)
	}
	// Replies have inboxes of their own, so that who may answer a request cannot
	// forge the bus's acknowledgements.
	inbox := replyPrefix(b.Role) + "." + nuid.Next()
	sub, err := c.NC.SubscribeSync(inbox)
	if err != nil {
		return nil, fmt.Errorf("request %s: %w", subject, err)
	}
	defer func() {
		if err := sub.Unsubscribe(); err != nil && !errors.Is(err, nats.ErrConnectionClosed) {
			b.Log.Warn("reply inbox not closed", "subject", subject, "err", err)
		}
	}()
	out := &nats.Msg{Subject: subject, Reply: inbox, Data: data, Header: nats.Header{}}
	if err := b.dress(out, m.Kind(), true); err != nil {
		return nil, fmt.Errorf("request %s: %w", subject, err)
	}
	wait, done := c.denials.watch(ctx, subject)
	defer done()
	if err := c.NC.PublishMsg(out); err != nil {
		return nil, fmt.Errorf("request %s: %w", subject, err)
	}
	in, err := sub.NextMsgWithContext(wait)
	switch {
	case errors.Is(context.Cause(wait), ErrDenied):
		return nil, fmt.Errorf("request %w", context.Cause(wait))
	case err != nil:
		return nil, fmt.Errorf("request %s: %w (%w)", subject, ErrUnreachable, err)
	case len(in.Data) == 0 && in.Header.Get("Status") == "503":
		return nil, fmt.Errorf("request %s: %w: nobody serves it", subject, ErrUnreachable)
	}
	r := &Received{Subject: in.Subject, Header: in.Header, Data: in.Data}
	if err := r.decode(schemas.KindReply); err != nil {
		return nil, fmt.Errorf("request %s: reply: %w", subject, err)
	}
	return r, nil
}

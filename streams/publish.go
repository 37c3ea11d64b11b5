package streams

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/foreshift/foreshift/schemas"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// mustSign are the kinds that nobody believes unsigned.
func mustSign(k schemas.Kind) bool {
	switch k {
	case schemas.KindCommand, schemas.KindAct, schemas.KindOutcome, schemas.KindRequest, schemas.KindReply:
		return true
	}
	return false
}

// message makes the NATS message of an Out: validated, encoded, with its headers
// and, in CTRL and AUDIT, its signature.
func (b *Bus) message(o Out) (*nats.Msg, route, error) {
	r, err := routeOf(o.Subject)
	if err != nil {
		return nil, r, err
	}
	if _, err := b.conn(r.stream.Account); err != nil {
		return nil, r, fmt.Errorf("%s: %w", o.Subject, err)
	}
	if o.Msg == nil {
		return nil, r, fmt.Errorf("%s: no message", o.Subject)
	}
	if k := o.Msg.Kind(); k != r.kind {
		return nil, r, fmt.Errorf("%s: carries %s, not %s", o.Subject, r.kind, k)
	}
	data, err := schemas.Encode(o.Msg)
	if err != nil {
		return nil, r, fmt.Errorf("%s: %w", o.Subject, err)
	}
	if r.stream.MaxMsg > 0 && len(data) > int(r.stream.MaxMsg)-maxHeader {
		return nil, r, fmt.Errorf("%s: %w: %d bytes, the stream takes %d", o.Subject, ErrTooLarge, len(data), int(r.stream.MaxMsg)-maxHeader)
	}
	m := &nats.Msg{Subject: o.Subject, Data: data, Header: nats.Header{}}
	if err := b.dress(m, r.kind, r.stream.Account != Tel); err != nil {
		return nil, r, err
	}
	if o.ID != "" {
		m.Header.Set(jetstream.MsgIDHeader, o.ID)
	}
	m.Header.Set(schemas.HeaderTrace, traceOf(o))
	if o.seen != "" {
		m.Header.Set(schemas.HeaderSeen, o.seen)
	}
	if o.Lease != 0 {
		m.Header.Set(schemas.HeaderLease, strconv.FormatUint(o.Lease, 10))
	}
	if o.Expect != nil {
		m.Header.Set(jetstream.ExpectedLastSubjSeqHeader, strconv.FormatUint(o.Expect.Seq, 10))
		m.Header.Set(jetstream.ExpectedLastSubjSeqSubjHeader, o.Expect.Filter)
	}
	return m, r, nil
}

// maxHeader is what the headers of a message may take of the stream's bound.
const maxHeader = 2 << 10

// dress sets the schema header and, where wanted, the signature.
func (b *Bus) dress(m *nats.Msg, k schemas.Kind, sign bool) error {
	m.Header.Set(schemas.HeaderSchema, schemas.SchemaHeader(k))
	if !sign {
		return nil
	}
	if b.Signer == nil {
		if mustSign(k) {
			return fmt.Errorf("%s: role %s: %w", m.Subject, b.Role, ErrNoSigner)
		}
		return nil
	}
	m.Header.Set(schemas.HeaderSignature, Sign(b.Signer, m.Subject, m.Data))
	m.Header.Set(schemas.HeaderSigner, b.signer)
	return nil
}

// Publish stores one message and gives its sequence. It is done when the stream
// has acknowledged it. With an [Expect] that no longer holds it is [ErrLostRace],
// unless the message that is there is this very one: then an earlier attempt was
// stored and only its acknowledgement was lost.
func (b *Bus) Publish(ctx context.Context, o Out) (uint64, error) {
	seq, stream, err := b.publish(ctx, o)
	if err != nil {
		b.metrics.failed.WithLabelValues(stream, whyFailed(err)).Inc()
		return 0, fmt.Errorf("publish %w", err)
	}
	b.metrics.published.WithLabelValues(stream).Inc()
	return seq, nil
}

func (b *Bus) publish(ctx context.Context, o Out) (uint64, string, error) {
	m, r, err := b.message(o)
	if err != nil {
		return 0, r.name(), err
	}
	name := r.stream.Name
	c, err := b.conn(r.stream.Account)
	if err != nil {
		return 0, name, fmt.Errorf("%s: %w", o.Subject, err)
	}
	if max := c.NC.MaxPayload(); max > 0 && int64(len(m.Data)+maxHeader) > max {
		return 0, name, fmt.Errorf("%s: %w: %d bytes, the server takes %d", o.Subject, ErrTooLarge, len(m.Data), max-maxHeader)
	}
	wait, done := c.denials.watch(ctx, o.Subject)
	defer done()
	limited, cancel := context.WithTimeout(wait, publishTimeout)
	defer cancel()
	ack, err := c.JS.PublishMsg(limited, m)
	if err == nil {
		if ack.Stream != name {
			return 0, name, fmt.Errorf("%s: stored in stream %s instead of %s; check with `foreshift streams diff`", o.Subject, ack.Stream, name)
		}
		b.writes.note(name, nil, time.Now())
		return ack.Sequence, name, nil
	}
	if o.Expect != nil && ctx.Err() == nil && (isWrongSequence(err) || errors.Is(err, context.DeadlineExceeded)) {
		seq, mine, rerr := b.mine(ctx, c, name, o)
		switch {
		case rerr == nil && mine:
			b.writes.note(name, nil, time.Now())
			return seq, name, nil
		case isWrongSequence(err): // by a leader that has a quorum
			b.writes.note(name, nil, time.Now())
			return 0, name, fmt.Errorf("%s: %w: the last under %s is %d, not %d", o.Subject, errors.Join(ErrLostRace, rerr), o.Expect.Filter, seq, o.Expect.Seq)
		}
	}
	err = explain(wait, o.Subject+": stream "+name, err)
	if ctx.Err() == nil {
		b.writes.note(name, err, time.Now())
	}
	return 0, name, err
}

// mine reads the last message under the expectation back from the stream's leader
// and tells whether it is the one we meant to write.
func (b *Bus) mine(ctx context.Context, c *Conn, stream string, o Out) (uint64, bool, error) {
	last, err := c.last(ctx, stream, o.Expect.Filter)
	if err != nil {
		return 0, false, err
	}
	return last.Sequence, o.ID != "" && last.Subject == o.Subject && last.Header.Get(jetstream.MsgIDHeader) == o.ID, nil
}

// last reads the last message under a filter.
func (c *Conn) last(ctx context.Context, stream, filter string) (*jetstream.RawStreamMsg, error) {
	limited, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	wait, done := c.denials.watch(limited, "$JS.API.")
	defer done()
	s, err := c.JS.Stream(wait, stream)
	if err != nil {
		return nil, explain(wait, "stream "+stream, err)
	}
	m, err := s.GetLastMsgForSubject(wait, filter)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil, fmt.Errorf("stream %s, %s: %w", stream, filter, ErrNotFound)
	}
	if err != nil {
		return nil, explain(wait, "stream "+stream+", "+filter, err)
	}
	return m, nil
}

func isWrongSequence(err error) bool {
	var api *jetstream.APIError
	return errors.As(err, &api) && (api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence || api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequenceConstant)
}

// asyncBytes bounds what one PublishAsync has in flight.
const asyncBytes = 32 << 20

// PublishAsync stores many messages of telemetry, in order, with a bounded number
// in flight, and returns when all are acknowledged. The error joins those of the
// messages that were not; a message that fails does not stop the others.
func (b *Bus) PublishAsync(ctx context.Context, outs []Out) error {
	_, err := b.publishAsync(ctx, outs)
	return err
}

// publishAsync also gives the indices of the messages that failed.
func (b *Bus) publishAsync(ctx context.Context, outs []Out) (map[int]struct{}, error) {
	p := batch{bus: b, caller: ctx, wait: ctx, heads: map[string]struct{}{}}
	defer p.close()
	for i := range outs {
		if cause := context.Cause(p.wait); cause != nil {
			p.fail(i, "", fmt.Errorf("%s: not sent: %w", outs[i].Subject, cause))
			continue
		}
		p.send(i, &outs[i])
		for p.bytes > asyncBytes {
			p.settle()
		}
	}
	for len(p.flights) > 0 {
		p.settle()
	}
	return p.failed, p.errs.join("publish")
}

// batch is one PublishAsync under way.
type batch struct {
	bus     *Bus
	caller  context.Context
	wait    context.Context
	heads   map[string]struct{} // whose refusals are watched
	done    []func()
	flights []flight // oldest first
	bytes   int
	failed  map[int]struct{}
	errs    failures
}

type flight struct {
	index  int
	future jetstream.PubAckFuture
	stream string
}

func (p *batch) close() {
	for _, d := range p.done {
		d()
	}
}

func (p *batch) fail(i int, stream string, err error) {
	if p.failed == nil {
		p.failed = map[int]struct{}{}
	}
	p.failed[i] = struct{}{}
	p.bus.metrics.failed.WithLabelValues(stream, whyFailed(err)).Inc()
	p.errs.add(err)
}

// refused is a message that was sent and not stored.
func (p *batch) refused(i int, stream string, err error) {
	if p.caller.Err() == nil {
		p.bus.writes.note(stream, err, time.Now())
	}
	p.fail(i, stream, err)
}

func (p *batch) send(i int, o *Out) {
	m, r, err := p.bus.message(*o)
	if err != nil {
		p.fail(i, r.name(), err)
		return
	}
	name := r.stream.Name
	c, err := p.bus.conn(r.stream.Account)
	if err != nil {
		p.fail(i, name, fmt.Errorf("%s: %w", o.Subject, err))
		return
	}
	head, _, _ := strings.Cut(o.Subject, ".")
	if _, ok := p.heads[head]; !ok {
		p.heads[head] = struct{}{}
		var done func()
		p.wait, done = c.denials.watch(p.wait, head+".")
		p.done = append(p.done, done)
	}
	f, err := c.JS.PublishMsgAsync(m, jetstream.WithStallWait(asyncStall))
	if err != nil {
		p.refused(i, name, explain(p.wait, o.Subject+": stream "+name, err))
		return
	}
	p.flights = append(p.flights, flight{i, f, name})
	p.bytes += len(m.Data)
}

// settle waits for the oldest message in flight.
func (p *batch) settle() {
	fl := p.flights[0]
	p.flights = p.flights[1:]
	m := fl.future.Msg()
	p.bytes -= len(m.Data)
	select {
	case ack := <-fl.future.Ok():
		if ack.Stream != fl.stream {
			p.fail(fl.index, fl.stream, fmt.Errorf("%s: stored in stream %s instead of %s", m.Subject, ack.Stream, fl.stream))
			return
		}
		p.bus.metrics.published.WithLabelValues(fl.stream).Inc()
		p.bus.writes.note(fl.stream, nil, time.Now())
	case err := <-fl.future.Err():
		p.refused(fl.index, fl.stream, explain(p.wait, m.Subject+": stream "+fl.stream, err))
	case <-p.wait.Done():
		p.refused(fl.index, fl.stream, fmt.Errorf("%s: %w", m.Subject, context.Cause(p.wait)))
	}
}

// failures keeps the first few errors of many, and their number.
type failures struct {
	n    int
	some []error
}

func (f *failures) add(err error) {
	if f.n++; len(f.some) < 5 {
		f.some = append(f.some, err)
	}
}

func (f *failures) join(what string) error {
	switch {
	case f.n == 0:
		return nil
	case f.n == 1:
		return fmt.Errorf("%s %w", what, f.some[0])
	}
	return fmt.Errorf("%s: %d failed: %w", what, f.n, errors.Join(f.some...))
}

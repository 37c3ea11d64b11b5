package streams

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/foreshift/foreshift/schemas"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// From says where in a stream to begin.
type From uint8

// Where to begin.
const (
	FromAll            From = iota // the first message kept
	FromNew                        // what comes from now on
	FromLastPerSubject             // the last of each subject, then what comes
	FromSince                      // what was stored in the last Input.Since, then what comes
	FromSeq                        // sequence Input.Seq; the first kept when that is gone
)

// Input is a part of a stream. A bucket is a stream too: "KV_" and its name.
type Input struct {
	Stream  string
	Filters []string // subjects with wildcards; none means all of the stream
	From    From
	Since   time.Duration
	Seq     uint64
	// Again: read from From on after a restart too, for what this input tells is not
	// in the snapshot. The decider sees again what it has seen before the snapshot.
	Again bool
	// Pull is how many bytes are asked for at once, for who has more time than memory; 0
	// for the usual. The largest message of the stream fits twice, whatever it says.
	Pull int
}

// pullBytes is how much a consumer asks for at once. The bound is in bytes and
// not in messages: a server that is asked for many large messages without
// acknowledgement overruns the client's buffer and they are lost. A stream's
// largest message must fit twice.
const pullBytes = 8 << 20

// pullMost is how many messages, of a bounded size together, a consumer asks for at
// once. A bound in bytes alone makes the library keep room for a million of them: 8 MB
// a consumer, however little comes.
const pullMost = 2048

// pullLast is how many messages a consumer of the last of each subject asks for at
// once. There a bound in bytes loses messages: the server takes the next one from its
// list of subjects before it finds that the request has no room left for it, and does
// not put it back. So few are asked for that they fit whatever their size.
const pullLast = 32

func (in *Input) config() (jetstream.OrderedConsumerConfig, error) {
	cfg := jetstream.OrderedConsumerConfig{FilterSubjects: in.Filters, InactiveThreshold: time.Minute}
	switch in.From {
	case FromAll:
		cfg.DeliverPolicy = jetstream.DeliverAllPolicy
	case FromNew:
		cfg.DeliverPolicy = jetstream.DeliverNewPolicy
	case FromLastPerSubject:
		cfg.DeliverPolicy = jetstream.DeliverLastPerSubjectPolicy
	case FromSince:
		if in.Since <= 0 {
			return cfg, fmt.Errorf("input %s: since %v must be above 0", in.Stream, in.Since)
		}
		t := time.Now().Add(-in.Since)
		cfg.DeliverPolicy, cfg.OptStartTime = jetstream.DeliverByStartTimePolicy, &t
	case FromSeq:
		cfg.DeliverPolicy, cfg.OptStartSeq = jetstream.DeliverByStartSequencePolicy, max(in.Seq, 1)
	default:
		return cfg, fmt.Errorf("input %s: unknown start %d", in.Stream, in.From)
	}
	return cfg, nil
}

// arrival is one step of reading a stream: a message with its event, or only the
// news that all that was there at the start has been read.
type arrival struct {
	event    Event
	raw      *Received
	caughtUp bool
}

// Consume reads a stream in order and hands every message that can be decoded to
// handle, in one goroutine; the others become dead letters. Acts, commands and
// outcomes that are not signed by an authority count among the latter. It heals
// itself after disconnections and gaps, and returns nil when ctx ends.
//
// A role that may not read the stream itself but may read AUDIT is given the
// audit's copies, with their original sequence, time and subject.
func (b *Bus) Consume(ctx context.Context, service string, in Input, handle func(Event)) error {
	return b.Follow(ctx, service, in, handle, func() {})
}

// Follow is Consume that also says, once and in the same goroutine, when all that
// the input held at the start has been handled.
func (b *Bus) Follow(ctx context.Context, service string, in Input, handle func(Event), caughtUp func()) error {
	return b.serve(ctx, service, in, func(a arrival) {
		switch {
		case a.raw != nil:
			handle(a.event)
		case a.caughtUp:
			caughtUp()
		}
	})
}

// serve is how a service reads: it checks signatures, and waits for a stream that has no
// leader yet.
func (b *Bus) serve(ctx context.Context, service string, in Input, handle func(arrival)) error {
	_, err := b.readTo(ctx, service, in, true, handle, func(ctx context.Context, src *source) (*iterator, error) {
		it, err := patiently(ctx, b, "stream "+in.Stream, func(context.Context) (*iterator, error) { return b.open(ctx, src) })
		if err != nil && ctx.Err() != nil {
			return nil, nil // told to end while it waited
		}
		return it, err
	})
	return err
}

// peruse is how a person reads: signatures are not checked, and a stream without a
// leader is an error. It gives the last sequence of the stream when it was opened.
func (b *Bus) peruse(ctx context.Context, in Input, handle func(arrival)) (last uint64, err error) {
	return b.readTo(ctx, b.Role, in, false, handle, b.open)
}

func (b *Bus) readTo(ctx context.Context, service string, in Input, verify bool, handle func(arrival), open func(context.Context, *source) (*iterator, error)) (last uint64, err error) {
	src, err := b.source(&in)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", service, err)
	}
	it, err := open(ctx, src)
	if err != nil {
		return 0, fmt.Errorf("%s: read %s: %w", service, in.Stream, err)
	}
	if it == nil {
		return 0, nil
	}
	defer it.stop()
	return it.last, b.drain(ctx, service, src, in, it, verify, handle)
}

func (b *Bus) drain(ctx context.Context, service string, src *source, in Input, it *iterator, verify bool, handle func(arrival)) error {
	count := b.metrics.received.WithLabelValues(service, in.Stream)
	left := int64(it.pending)
	behind := left > 0
	if !behind {
		handle(arrival{caughtUp: true})
	}
	for {
		var m jetstream.Msg
		var ok bool
		select {
		case <-ctx.Done():
			return nil
		case m, ok = <-it.msgs:
		}
		if !ok {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("%s: read %s: %w", service, in.Stream, it.err)
		}
		r, pending, err := received(m)
		if err != nil {
			return fmt.Errorf("%s: read %s: %w", service, in.Stream, err)
		}
		at := r.Seq
		if r, err = src.unwrap(b, r); err != nil {
			b.deadLetter(ctx, service, src.Stream, r, err)
		} else if r != nil {
			e, err := r.event(in.Stream)
			if err == nil && verify {
				err = b.authentic(r)
			}
			if err != nil {
				b.deadLetter(ctx, service, in.Stream, r, err)
			} else {
				count.Inc()
				handle(arrival{event: e, raw: r})
			}
		}
		left--
		// Among the last of each subject the first may be newer than the end of the
		// stream was, with others to come: there only counting tells.
		if behind && (pending == 0 || left <= 0 || src.From != FromLastPerSubject && at >= it.last) {
			behind = false
			handle(arrival{caughtUp: true})
		}
	}
}

// authentic checks what speaks in the name of a placer, an actuator or an
// operator. Without pinned keys nobody is believed.
func (b *Bus) authentic(r *Received) error {
	a := b.Authorities
	if a == nil {
		a = &Authorities{}
	}
	return a.verifyEvent(r.Signed(), schemas.Time(r.Time))
}

// source is an input as the role can read it: the stream itself, or its copies.
type source struct {
	Input
	conn    *Conn
	copied  bool     // read from AUDIT
	filters []string // on the original subjects, when copied
	seq     uint64   // first original sequence wanted, when copied
	top     uint64   // last original sequence read, when copied
}

func (b *Bus) source(in *Input) (*source, error) {
	st, err := StreamOf(in.Stream)
	if err != nil {
		return nil, err
	}
	a := st.Account
	switch {
	case mayRead(b.Role, a, in.Stream):
		c, err := b.conn(a)
		return &source{Input: *in, conn: c}, err
	case slices.Contains(recorded, in.Stream) && mayRead(b.Role, AuditTrail, Audit):
		c, err := b.conn(AuditTrail)
		s := &source{Input: *in, conn: c, copied: true, filters: in.Filters}
		s.Stream, s.Filters = Audit, []string{SubjectAudit(in.Stream)}
		switch in.From {
		case FromLastPerSubject:
			s.From = FromAll // the last of each original subject is sorted out by the reader
		case FromSeq:
			s.From, s.seq = FromAll, in.Seq
		}
		return s, err
	}
	return nil, fmt.Errorf("read %s: role %s: %w", in.Stream, b.Role, ErrDenied)
}

// unwrap gives the original of an audit record, or nil when it is not asked for.
// With an error it gives the record itself: who may read AUDIT can have the server
// store things there. A copy of a genuine record comes after it, and is passed over.
func (s *source) unwrap(b *Bus, r *Received) (*Received, error) {
	if !s.copied {
		return r, nil
	}
	a, err := b.auditRecord(r)
	if err != nil {
		return r, err
	}
	if a.Sequence <= s.top || a.Sequence < s.seq {
		return nil, nil
	}
	s.top = a.Sequence
	o := &Received{Subject: a.Subject, Header: nats.Header(a.Header), Data: a.Payload, Seq: a.Sequence, Time: int64(a.Time)}
	if len(s.filters) > 0 && !slices.ContainsFunc(s.filters, func(f string) bool { return matches(f, o.Subject) }) {
		return nil, nil
	}
	return o, nil
}

// iterator is an ordered consumer under way.
type iterator struct {
	msgs    chan jetstream.Msg // closed at the end; then err says why
	err     error
	pending uint64 // messages that waited when it was opened
	last    uint64 // last sequence of the stream then
	stop    func()
}

func (b *Bus) open(ctx context.Context, src *source) (*iterator, error) {
	cfg, err := src.config()
	if err != nil {
		return nil, err
	}
	st, err := StreamOf(src.Stream)
	if err != nil {
		return nil, err
	}
	// Without a leader nobody answers: ask for a while only, whatever ctx allows.
	limited, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	wait, done := src.conn.denials.watch(limited, "$JS.API.")
	defer done()
	info, err := src.conn.JS.Stream(wait, src.Stream)
	if err != nil {
		return nil, explain(wait, "stream "+src.Stream, err)
	}
	cons, err := src.conn.JS.OrderedConsumer(wait, src.Stream, cfg)
	if err != nil {
		return nil, explain(wait, "stream "+src.Stream, err)
	}
	first := cons.CachedInfo()
	var pull jetstream.PullMessagesOpt = jetstream.PullMaxMessagesWithBytesLimit(pullMost, max(cmp.Or(src.Pull, pullBytes), 2*int(st.MaxMsg)))
	if src.From == FromLastPerSubject {
		pull = jetstream.PullMaxMessages(pullLast)
	}
	msgs, err := cons.Messages(pull)
	if err != nil {
		return nil, explain(wait, "stream "+src.Stream, err)
	}
	it := &iterator{msgs: make(chan jetstream.Msg), pending: first.NumPending, last: info.CachedInfo().State.LastSeq}
	ctx, end := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		defer end()
		it.pump(ctx, msgs)
		b.forget(ctx, src, cons)
	}()
	it.stop = func() {
		end()
		msgs.Stop()
		// While the server is away the library is not to be interrupted; it ends by
		// itself when the connection closes.
		select {
		case <-ended:
		case <-time.After(2 * time.Second):
		}
	}
	return it, nil
}

// pump moves messages until ctx or the iterator ends.
func (it *iterator) pump(ctx context.Context, msgs jetstream.MessagesContext) {
	defer close(it.msgs)
	for {
		m, err := msgs.Next(jetstream.NextContext(ctx))
		if err != nil {
			it.err = err
			return
		}
		select {
		case it.msgs <- m:
		case <-ctx.Done():
			it.err = ctx.Err()
			return
		}
	}
}

// forget removes the consumer. It would go by itself after a minute, so an error
// is no loss.
func (b *Bus) forget(ctx context.Context, src *source, cons jetstream.Consumer) {
	if !src.conn.NC.IsConnected() {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	name := cons.CachedInfo().Name
	if err := src.conn.JS.DeleteConsumer(ctx, src.Stream, name); err != nil && !errors.Is(err, jetstream.ErrConsumerNotFound) {
		b.Log.Debug("consumer not removed", "stream", src.Stream, "consumer", name, "err", err)
	}
}

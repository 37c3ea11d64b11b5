package streams

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/foreshift/foreshift/schemas"
	"github.com/nats-io/nats.go/jetstream"
)

// maxLetter is how much of a refused payload its dead letter keeps.
const maxLetter = 64 << 10

// deadLetter counts a message that a service cannot use and stores it with the
// reason. It never fails the service: a letter that cannot be written is counted
// and logged.
func (b *Bus) deadLetter(ctx context.Context, service, stream string, r *Received, why error) {
	b.metrics.deadLetters.WithLabelValues(service, stream).Inc()
	reason := why.Error()
	if len(reason) > 1000 {
		reason = reason[:1000]
	}
	log := b.Log.With("service", service, "stream", stream, "seq", r.Seq, "subject", r.Subject)
	log.Warn("dead letter", "reason", reason)
	if r, err := roleOf(b.Role); err == nil && r.people() {
		return // the services that read the stream have written theirs
	}
	letter := &schemas.DeadLetter{Stream: stream, Sequence: r.Seq, Subject: r.Subject, Time: schemas.Time(r.Time),
		Service: service, Reason: reason, Header: r.Header, Payload: r.Data, Size: len(r.Data)}
	if len(letter.Payload) > maxLetter {
		letter.Payload = letter.Payload[:maxLetter]
	}
	err := fmt.Errorf("role %s writes no dead letters", b.Role)
	if MayWrite(b.Role, SubjectDeadLetter(stream)) {
		// The service may be stopping: what it refused last is worth a moment.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
		defer cancel()
		_, err = b.Publish(ctx, Out{Subject: SubjectDeadLetter(stream), ID: service + "." + stream + "." + strconv.FormatUint(r.Seq, 10), Msg: letter})
	}
	if err != nil {
		b.metrics.lostLetters.WithLabelValues(service, stream).Inc()
		log.Warn("dead letter not written", "err", err)
	}
}

// received makes the message of a stream. Metadata comes from the reply subject;
// a message without it did not come from a stream.
func received(m jetstream.Msg) (*Received, uint64, error) {
	meta, err := m.Metadata()
	if err != nil {
		return nil, 0, fmt.Errorf("%s: %w", m.Subject(), err)
	}
	return &Received{Subject: m.Subject(), Header: m.Headers(), Data: m.Data(), Seq: meta.Sequence.Stream, Time: meta.Timestamp.UnixNano()}, meta.NumPending, nil
}

package streams

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/foreshift/foreshift/schemas"
	"github.com/nats-io/nats.go"
)

// Received is a message as it came from the bus.
type Received struct {
	Subject string
	Header  nats.Header
	Data    []byte
	Seq     uint64 // in its stream; 0 for requests and replies
	Time    int64  // ns, stream time; 0 for requests and replies
	Msg     schemas.Message
}

// Signed is the message with its proof, as [Authorities] verify it and as a
// request of the handover carries it along.
func (r *Received) Signed() schemas.Signed {
	return schemas.Signed{Subject: r.Subject, Payload: r.Data, Sequence: r.Seq,
		Signature: r.Header.Get(schemas.HeaderSignature), Signer: r.Header.Get(schemas.HeaderSigner)}
}

// lease is the revision of the writer's lease, 0 when it had none.
func (r *Received) lease() (uint64, error) {
	h := r.Header.Get(schemas.HeaderLease)
	if h == "" {
		return 0, nil
	}
	n, err := strconv.ParseUint(h, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("header %s: %.40q is not a revision", schemas.HeaderLease, h)
	}
	return n, nil
}

// removed reports that a key of a bucket was deleted or has expired.
func removed(h nats.Header) bool {
	return h.Get("KV-Operation") != "" || h.Get("Nats-Marker-Reason") != ""
}

// decode fills Msg. The kind is what the subject says; a header that says another
// is refused, and a message without one is taken as the current version, so that
// a person can publish by hand.
func (r *Received) decode(kind schemas.Kind) (err error) {
	header := r.Header.Get(schemas.HeaderSchema)
	if header == "" {
		r.Msg, err = schemas.Decode(kind, r.Data)
		return err
	}
	if name, _, _ := strings.Cut(header, "/"); name != string(kind) {
		return fmt.Errorf("header %s: %.80q, but the subject carries %s", schemas.HeaderSchema, header, kind)
	}
	r.Msg, err = schemas.DecodeHeader(header, r.Data)
	return err
}

// event makes the decider's view of a stream message.
func (r *Received) event(stream string) (Event, error) {
	e := Event{Stream: stream, Seq: r.Seq, Time: r.Time, Subject: r.Subject}
	rt, err := routeOf(r.Subject)
	if err != nil {
		return e, err
	}
	// A server that is made to deliver a message onto another stream's subject stores
	// it there under its own subject, genuine signature and all. Sequence and order
	// of that stream say nothing about it.
	if rt.stream.Name != stream {
		return e, fmt.Errorf("subject %q belongs to stream %s, not to %s", r.Subject, rt.stream.Name, stream)
	}
	if rt.stream.Bucket != "" && removed(r.Header) {
		return e, nil
	}
	if e.Lease, err = r.lease(); err != nil {
		return e, err
	}
	if err := r.decode(rt.kind); err != nil {
		return e, err
	}
	e.Msg = r.Msg
	return e, nil
}

package streams

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"time"

	"github.com/foreshift/foreshift/schemas"
	"github.com/nats-io/nats.go/jetstream"
)

// recordTail is how many of the last audit records a recorder reads to find the
// head of the chain.
const recordTail = 5000

// Record copies MIGRATIONS, PLANS, ACTS and the revisions of the policy into
// AUDIT until ctx ends, each record bound to the one before by its hash. It goes
// on where the chain ends: every original is copied once, whoever recorded before
// and however it stopped. Originals are copied as they are, readable or not. While the
// bus has no quorum it begins again and again: what was stored meanwhile is copied then.
// Another recorder at work, a trail whose end is not found, and a bus on which it cannot
// begin at all are errors.
func Record(ctx context.Context, b *Bus, log *slog.Logger) error {
	if log == nil {
		log = b.Log
	}
	recorded, failures := false, 0
	for {
		began := false
		err := b.record(ctx, log, func() { began = true })
		if recorded = recorded || began; began {
			failures = 0
		}
		if failures++; err == nil || ctx.Err() != nil || !recorded || failures > recordTries || errors.Is(err, ErrLostRace) || errors.Is(err, ErrDenied) || errors.Is(err, errNoChain) {
			return err
		}
		log.Warn("recording is interrupted; it goes on where the audit trail ends", "err", err)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(recordPause):
		}
	}
}

// A recorder that has recorded tries for ten minutes on end before it gives up.
const (
	recordPause = 2 * time.Second
	recordTries = 300
)

var errNoChain = errors.New("none of the chain")

// record copies until ctx ends or something fails; began is called once it knows where
// to go on.
func (b *Bus) record(ctx context.Context, log *slog.Logger, began func()) error {
	c, err := b.findChain(ctx)
	if err != nil {
		return fmt.Errorf("record: %w", err)
	}
	c.log = log
	began()
	log.Info("recording", "records", c.records, "from", c.seq, "head", c.head)
	if c.foreign > 0 {
		log.Warn("the audit trail holds records that are not of the chain", "records", c.foreign)
	}
	ctx, cancel := context.WithCancel(ctx)
	in := make(chan *schemas.Audit, 64)
	ended := make(chan error, len(recorded))
	defer func() {
		cancel()
		for range recorded {
			<-ended
		}
	}()
	for _, name := range recorded {
		go func() { ended <- b.copyFrom(ctx, name, c.seq[name]+1, in) }()
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-ended:
			ended <- err // for the clean-up, which counts them
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("record: %w", err)
		case a := <-in:
			if c, err = c.add(ctx, b, a); err != nil {
				if ctx.Err() != nil {
					return nil
				}
				return fmt.Errorf("record %s %d: %w", a.Stream, a.Sequence, err)
			}
		}
	}
}

// copyFrom reads one stream, without decoding, from a sequence on.
func (b *Bus) copyFrom(ctx context.Context, name string, from uint64, out chan<- *schemas.Audit) error {
	src, err := b.source(&Input{Stream: name, From: FromSeq, Seq: from})
	if err != nil {
		return err
	}
	it, err := b.open(ctx, src)
	if err != nil {
		return fmt.Errorf("read %s: %w", name, err)
	}
	defer it.stop()
	for {
		var m jetstream.Msg
		var ok bool
		select {
		case <-ctx.Done():
			return nil
		case m, ok = <-it.msgs:
		}
		if !ok {
			return fmt.Errorf("read %s: %w", name, it.err)
		}
		r, _, err := received(m)
		if err != nil {
			return fmt.Errorf("read %s: %w", name, err)
		}
		a := &schemas.Audit{Stream: name, Sequence: r.Seq, Subject: r.Subject, Time: schemas.Time(r.Time), Header: r.Header, Payload: r.Data}
		select {
		case out <- a:
		case <-ctx.Done():
			return nil
		}
	}
}

// chain is where the audit trail ends.
type chain struct {
	head    string            // hash of the last record
	last    uint64            // its sequence in AUDIT, or that of the last foreign one
	seq     map[string]uint64 // last original copied, by stream
	records int               // read at the start
	foreign int               // of them not of the chain
	log     *slog.Logger
}

// intruders bounds how often one record is tried while others write into AUDIT.
const intruders = 100

// add appends one record. Who may read AUDIT can have the server store something
// there at any moment; as long as the chain still ends where it did, that is passed
// over. If it does not, another recorder is at work.
func (c *chain) add(ctx context.Context, b *Bus, a *schemas.Audit) (*chain, error) {
	err := c.append(ctx, b, a)
	for try := 0; errors.Is(err, ErrLostRace) && try < intruders; try++ {
		now, ferr := b.findChain(ctx)
		if ferr != nil {
			return c, errors.Join(err, ferr)
		}
		if now.head != c.head {
			return c, err
		}
		if now.foreign > c.foreign {
			c.log.Warn("the audit trail holds records that are not of the chain", "records", now.foreign)
		}
		now.log = c.log
		c = now
		err = c.append(ctx, b, a)
	}
	return c, err
}

// append writes one record. The expectation on the whole of AUDIT keeps a second
// recorder from forking the chain.
func (c *chain) append(ctx context.Context, b *Bus, a *schemas.Audit) error {
	if a.Sequence <= c.seq[a.Stream] {
		return nil
	}
	a.Previous = c.head
	a.Hash = HashAudit(a)
	seq, err := b.Publish(ctx, Out{Subject: SubjectAudit(a.Stream), Msg: a,
		ID: a.Stream + "." + strconv.FormatUint(a.Sequence, 10) + "." + a.Hash[:16], Expect: &Expect{Filter: "audit.>", Seq: c.last}})
	if err != nil {
		return err
	}
	c.head, c.last, c.seq[a.Stream] = a.Hash, seq, a.Sequence
	return nil
}

// HashAudit is the hash of a record: sha256 over the previous hash and all its
// fields, each preceded by its length, so that none can run into the next; hex.
func HashAudit(a *schemas.Audit) string {
	h := sha256.New()
	field := func(b []byte) {
		var n [8]byte
		binary.BigEndian.PutUint64(n[:], uint64(len(b)))
		h.Write(n[:])
		h.Write(b)
	}
	number := func(v uint64) { field(binary.BigEndian.AppendUint64(nil, v)) }
	field([]byte(a.Previous))
	field([]byte(a.Stream))
	number(a.Sequence)
	field([]byte(a.Subject))
	number(uint64(a.Time))
	keys := make([]string, 0, len(a.Header))
	for k := range a.Header {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	number(uint64(len(keys)))
	for _, k := range keys {
		field([]byte(k))
		number(uint64(len(a.Header[k])))
		for _, v := range a.Header[k] {
			field([]byte(v))
		}
	}
	field(a.Payload)
	return hex.EncodeToString(h.Sum(nil))
}

// Verify checks records in their order: each one's hash, its link to the one
// before, and that the originals of each stream come in rising sequence. The
// first may link to one that is no longer kept.
func Verify(records []*schemas.Audit) error {
	seq := map[string]uint64{}
	for i, a := range records {
		if got := HashAudit(a); got != a.Hash {
			return fmt.Errorf("audit record %d (%s %d): was changed: its hash is %.16s, not %.16s", i, a.Stream, a.Sequence, got, a.Hash)
		}
		if i > 0 && a.Previous != records[i-1].Hash {
			return fmt.Errorf("audit record %d (%s %d): does not follow the one before", i, a.Stream, a.Sequence)
		}
		if a.Sequence <= seq[a.Stream] {
			return fmt.Errorf("audit record %d (%s %d): repeats or goes back behind %d", i, a.Stream, a.Sequence, seq[a.Stream])
		}
		seq[a.Stream] = a.Sequence
	}
	return nil
}

// findChain reads the tail of AUDIT and finds the end of the chain in it. Who may
// read AUDIT can have the server store a copy of a record there a second time;
// such a copy carries a known hash, or hangs by nothing, and is set aside, as is
// what does not hash right or is not signed by a recorder.
func (b *Bus) findChain(ctx context.Context) (*chain, error) {
	r, err := b.LastUnder(ctx, Audit, "audit.>")
	if errors.Is(err, ErrNotFound) {
		return &chain{seq: map[string]uint64{}}, nil
	}
	if err != nil {
		return nil, err
	}
	c := &chain{seq: map[string]uint64{}, last: r.Seq}
	known := map[string]*schemas.Audit{}
	length := map[string]int{} // of the chain that ends here, as far as the tail shows it
	in := Input{Stream: Audit, From: FromSeq, Seq: max(r.Seq, recordTail) - recordTail + 1}
	err = b.scanAudit(ctx, in, r.Seq, func(a *schemas.Audit) {
		if a == nil || known[a.Hash] != nil {
			c.foreign++
			return
		}
		known[a.Hash] = a
		length[a.Hash] = length[a.Previous] + 1
		if length[a.Hash] > length[c.head] {
			c.head = a.Hash
		}
	})
	if err != nil {
		return nil, err
	}
	if c.head == "" {
		return nil, fmt.Errorf("the last %d records of AUDIT hold %w", recordTail, errNoChain)
	}
	c.records = length[c.head]
	c.foreign += len(known) - c.records
	for a := known[c.head]; a != nil; a = known[a.Previous] {
		c.seq[a.Stream] = max(c.seq[a.Stream], a.Sequence)
	}
	// A stream that said nothing within the tail was copied further back, if ever.
	for _, name := range recorded {
		if _, ok := c.seq[name]; ok || r.Seq <= recordTail {
			continue
		}
		in := Input{Stream: Audit, Filters: []string{SubjectAudit(name)}}
		err := b.scanAudit(ctx, in, r.Seq, func(a *schemas.Audit) {
			if a != nil {
				c.seq[name] = max(c.seq[name], a.Sequence)
			}
		})
		if err != nil {
			return nil, err
		}
	}
	return c, nil
}

// scanAudit reads records up to a sequence; nil stands for what is none.
func (b *Bus) scanAudit(ctx context.Context, in Input, last uint64, each func(*schemas.Audit)) error {
	src, err := b.source(&in)
	if err != nil {
		return err
	}
	it, err := b.open(ctx, src)
	if err != nil {
		return err
	}
	defer it.stop()
	for left := it.pending; left > 0; {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case m, ok := <-it.msgs:
			if !ok {
				return it.err
			}
			r, pending, err := received(m)
			if err != nil {
				return err
			}
			a, err := b.auditRecord(r)
			if err != nil {
				a = nil
			}
			each(a)
			if left = pending; r.Seq >= last {
				left = 0
			}
		}
	}
	return nil
}

// auditRecord takes a message of AUDIT as a record, if it is one.
func (b *Bus) auditRecord(r *Received) (*schemas.Audit, error) {
	if err := r.decode(schemas.KindAudit); err != nil {
		return nil, err
	}
	s := r.Signed()
	keys := []string{b.signer}
	if b.Authorities != nil {
		// The last good keys, when the file cannot be read: see verifyEvent.
		a, _ := b.Authorities.current(time.Now())
		keys = append(keys, a.Records...)
	}
	if err := verify(ed25519, keys, "records", s); err != nil {
		return nil, err
	}
	a := r.Msg.(*schemas.Audit)
	if HashAudit(a) != a.Hash {
		return nil, errors.New("hash does not match")
	}
	return a, nil
}

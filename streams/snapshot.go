package streams

import (
	"bytes"
	"compress/flate"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/cespare/xxhash/v2"
	"github.com/nats-io/nats.go/jetstream"
)

// A snapshot is: magic, length of the body (uint64), xxhash64 of the body, and the body
// in DEFLATE (RFC 1951). The body is the length of the cut (uint32), the cut in JSON,
// and the decider's state. Integers are little endian.
const snapshotMagic = "FSHIFT\x00\x02" // the last byte is the version

// mostDeflate is more than any byte of DEFLATE can stand for: what claims to be longer
// is not believed.
const mostDeflate = 1100

// errSnapshot: there is a snapshot, but not one we can use.
var errSnapshot = errors.New("snapshot not usable")

type snapshot struct {
	cut   Cut
	state []byte
}

// snapshotBody takes the state of a decider. It is all of a snapshot that needs the
// goroutine that owns the decider.
func snapshotBody(cut Cut, appendState func([]byte) []byte) ([]byte, error) {
	j, err := json.Marshal(cut)
	if err != nil {
		return nil, fmt.Errorf("cut: %w", err)
	}
	b := binary.LittleEndian.AppendUint32(nil, uint32(len(j)))
	return appendState(append(b, j...)), nil
}

// encodeSnapshot compresses a body, fast rather than well: zeros and repetition are
// most of what there is to gain.
func encodeSnapshot(body []byte) ([]byte, error) {
	var b bytes.Buffer
	b.WriteString(snapshotMagic)
	b.Write(binary.LittleEndian.AppendUint64(nil, uint64(len(body))))
	b.Write(binary.LittleEndian.AppendUint64(nil, xxhash.Sum64(body)))
	w, err := flate.NewWriter(&b, flate.BestSpeed)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(body); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

func decodeSnapshot(b []byte) (snapshot, error) {
	const head = len(snapshotMagic) + 16
	switch {
	case len(b) < head:
		return snapshot{}, fmt.Errorf("%w: %d bytes are too few", errSnapshot, len(b))
	case !bytes.Equal(b[:len(snapshotMagic)], []byte(snapshotMagic)):
		return snapshot{}, fmt.Errorf("%w: another format or version: %q", errSnapshot, b[:len(snapshotMagic)])
	}
	size, sum := binary.LittleEndian.Uint64(b[len(snapshotMagic):]), binary.LittleEndian.Uint64(b[len(snapshotMagic)+8:])
	if packed := b[head:]; size < 4 || size > uint64(len(packed))*mostDeflate {
		return snapshot{}, fmt.Errorf("%w: %d bytes in %d", errSnapshot, size, len(packed))
	}
	body := make([]byte, size)
	if _, err := io.ReadFull(flate.NewReader(bytes.NewReader(b[head:])), body); err != nil {
		return snapshot{}, fmt.Errorf("%w: %w", errSnapshot, err)
	}
	if xxhash.Sum64(body) != sum {
		return snapshot{}, fmt.Errorf("%w: checksum does not match", errSnapshot)
	}
	n := int(binary.LittleEndian.Uint32(body))
	if n > len(body)-4 {
		return snapshot{}, fmt.Errorf("%w: cut of %d bytes in %d", errSnapshot, n, len(body))
	}
	var s snapshot
	if err := json.Unmarshal(body[4:4+n], &s.cut); err != nil {
		return snapshot{}, fmt.Errorf("%w: cut: %w", errSnapshot, err)
	}
	s.state = body[4+n:]
	return s, nil
}

func (b *Bus) loadSnapshot(ctx context.Context, name string) (snapshot, error) {
	data, err := b.Object(ctx, ObjectSnapshots, name)
	switch {
	case errors.Is(err, jetstream.ErrDigestMismatch):
		return snapshot{}, fmt.Errorf("%w: %w", errSnapshot, err)
	case err != nil:
		return snapshot{}, err
	}
	return decodeSnapshot(data)
}

// Snapshot gives a service's newest snapshot: the state of its decider and what that had
// seen; [ErrNotFound] when there is none.
func (b *Bus) Snapshot(ctx context.Context, name string) (state []byte, cut Cut, err error) {
	s, err := b.loadSnapshot(ctx, name)
	if err != nil {
		return nil, Cut{}, fmt.Errorf("snapshot %s: %w", name, err)
	}
	return s.state, s.cut, nil
}

// PutSnapshot stores a state and what it has seen under a name, compressed.
func (b *Bus) PutSnapshot(ctx context.Context, name string, cut Cut, state []byte) error {
	body, err := snapshotBody(cut, func(b []byte) []byte { return append(b, state...) })
	if err == nil {
		var data []byte
		if data, err = encodeSnapshot(body); err == nil {
			err = b.PutObject(ctx, ObjectSnapshots, name, data)
		}
	}
	if err != nil {
		return fmt.Errorf("snapshot %s: %w", name, err)
	}
	return nil
}

// keepSnapshot takes a snapshot; compressed and stored it is in the background, where
// ctx ends it. While one is on its way no other is taken.
func (sh *shell) keepSnapshot(ctx context.Context) {
	select {
	case <-sh.stored:
	default:
		sh.unkept.Inc()
		sh.log.Warn("no snapshot taken: the last one is still on its way", "snapshot", sh.Snapshot)
		return
	}
	body, err := snapshotBody(sh.cut, sh.Decider.AppendSnapshot)
	stored := make(chan struct{})
	sh.stored = stored
	go func() {
		defer close(stored)
		if err == nil {
			err = sh.storeSnapshot(ctx, body)
		}
		if ctx.Err() == nil {
			sh.judgeSnapshot(err)
		}
	}()
}

// lastSnapshot takes and stores one before the service ends.
func (sh *shell) lastSnapshot(ctx context.Context) {
	<-sh.stored
	body, err := snapshotBody(sh.cut, sh.Decider.AppendSnapshot)
	if err == nil {
		err = sh.storeSnapshot(ctx, body)
	}
	sh.judgeSnapshot(err)
}

// storeSnapshot replaces the one there is; when it fails that one stays.
func (sh *shell) storeSnapshot(ctx context.Context, body []byte) error {
	data, err := encodeSnapshot(body)
	if err != nil {
		return err
	}
	sh.snapshotBytes.Set(float64(len(data)))
	if err := sh.Bus.PutObject(ctx, ObjectSnapshots, sh.Snapshot, data); err != nil {
		return fmt.Errorf("%d bytes, %d compressed: %w", len(body), len(data), err)
	}
	return nil
}

// judgeSnapshot counts a snapshot. A service lives without: it has its streams. But a
// store that is full needs a person.
func (sh *shell) judgeSnapshot(err error) {
	if err == nil {
		sh.kept.Inc()
		return
	}
	sh.unkept.Inc()
	var full *jetstream.APIError
	if errors.Is(err, ErrFull) || errors.As(err, &full) && (full.ErrorCode == streamStoreFailed || full.ErrorCode == storageExceeded) {
		sh.log.Warn("snapshot refused: the object store is full; it needs room for two at a time. Going on without: after a restart what the streams hold is learnt anew", "snapshot", sh.Snapshot, "store", ObjectSnapshots, "err", err)
		return
	}
	sh.log.Warn("snapshot not stored; going on without: after a restart what the streams hold is learnt anew", "snapshot", sh.Snapshot, "err", err)
}

// JetStream's codes for a stream that could not store, as when it is full, and for a
// server or account that is.
const (
	streamStoreFailed jetstream.ErrorCode = 10077
	storageExceeded   jetstream.ErrorCode = 10047
)

package streams

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/cespare/xxhash/v2"
	"github.com/nats-io/nats.go/jetstream"
)

// A snapshot is: magic, length of the cut (uint32), the cut in JSON, the
// decider's state, and xxhash64 of all before it. Integers are little endian.
const snapshotMagic = "FSHIFT\x00\x01" // the last byte is the version

// errSnapshot: there is a snapshot, but not one we can use.
var errSnapshot = errors.New("snapshot not usable")

type snapshot struct {
	cut   Cut
	state []byte
}

func encodeSnapshot(cut Cut, appendState func([]byte) []byte) ([]byte, error) {
	j, err := json.Marshal(cut)
	if err != nil {
		return nil, fmt.Errorf("cut: %w", err)
	}
	b := append([]byte(nil), snapshotMagic...)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(j)))
	b = append(b, j...)
	b = appendState(b)
	return binary.LittleEndian.AppendUint64(b, xxhash.Sum64(b)), nil
}

func decodeSnapshot(b []byte) (snapshot, error) {
	const head, tail = len(snapshotMagic) + 4, 8
	switch {
	case len(b) < head+tail:
		return snapshot{}, fmt.Errorf("%w: %d bytes are too few", errSnapshot, len(b))
	case !bytes.Equal(b[:len(snapshotMagic)], []byte(snapshotMagic)):
		return snapshot{}, fmt.Errorf("%w: another format or version: %q", errSnapshot, b[:len(snapshotMagic)])
	case xxhash.Sum64(b[:len(b)-tail]) != binary.LittleEndian.Uint64(b[len(b)-tail:]):
		return snapshot{}, fmt.Errorf("%w: checksum does not match", errSnapshot)
	}
	n := int(binary.LittleEndian.Uint32(b[len(snapshotMagic):]))
	body := b[head : len(b)-tail]
	if n > len(body) {
		return snapshot{}, fmt.Errorf("%w: cut of %d bytes in %d", errSnapshot, n, len(body))
	}
	var s snapshot
	if err := json.Unmarshal(body[:n], &s.cut); err != nil {
		return snapshot{}, fmt.Errorf("%w: cut: %w", errSnapshot, err)
	}
	s.state = body[n:]
	return s, nil
}

func (b *Bus) snapshots(ctx context.Context) (jetstream.ObjectStore, error) {
	c, err := b.conn(Tel)
	if err != nil {
		return nil, err
	}
	wait, done := c.denials.watch(ctx, "$JS.API.")
	defer done()
	store, err := c.JS.ObjectStore(wait, ObjectSnapshots)
	if err != nil {
		return nil, explain(wait, "object store "+ObjectSnapshots, err)
	}
	return store, nil
}

func (b *Bus) saveSnapshot(ctx context.Context, name string, cut Cut, appendState func([]byte) []byte) error {
	data, err := encodeSnapshot(cut, appendState)
	if err != nil {
		return fmt.Errorf("snapshot %s: %w", name, err)
	}
	store, err := b.snapshots(ctx)
	if err != nil {
		return fmt.Errorf("snapshot %s: %w", name, err)
	}
	if _, err := store.PutBytes(ctx, name, data); err != nil {
		return fmt.Errorf("snapshot %s: %w", name, err)
	}
	return nil
}

func (b *Bus) loadSnapshot(ctx context.Context, name string) (snapshot, error) {
	store, err := b.snapshots(ctx)
	if err != nil {
		return snapshot{}, err
	}
	data, err := store.GetBytes(ctx, name)
	switch {
	case errors.Is(err, jetstream.ErrObjectNotFound):
		return snapshot{}, fmt.Errorf("%s: %w", name, ErrNotFound)
	case errors.Is(err, jetstream.ErrDigestMismatch):
		return snapshot{}, fmt.Errorf("%w: %w", errSnapshot, err)
	case err != nil:
		return snapshot{}, err
	}
	return decodeSnapshot(data)
}

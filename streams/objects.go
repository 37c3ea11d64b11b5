package streams

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"
)

// An object is stored in chunks, each with a head, and described in one message.
const (
	objectChunk = 128 << 10
	objectHead  = 1 << 10 // more than either takes
)

// objects opens an object store of the table.
func (b *Bus) objects(ctx context.Context, store string) (jetstream.ObjectStore, error) {
	st, err := StreamOf("OBJ_" + store)
	if err != nil {
		return nil, err
	}
	c, err := b.conn(st.Account)
	if err != nil {
		return nil, err
	}
	wait, done := c.denials.watch(ctx, "$JS.API.")
	defer done()
	s, err := c.JS.ObjectStore(wait, store)
	if err != nil {
		return nil, explain(wait, "object store "+store, err)
	}
	return s, nil
}

// ErrFull says that an object store has no room for what is to be put.
var ErrFull = errors.New("the object store is full")

// PutObject stores the bytes of a name in an object store ([ObjectSnapshots],
// [ObjectModels]); what had the name before goes once they are there, so that there
// must be room for both: [ErrFull]. It is asked first, for the library describes an
// object before it knows that all of it was stored, and by that would lose the old one.
func (b *Bus) PutObject(ctx context.Context, store, name string, data []byte) error {
	s, err := b.objects(ctx, store)
	if err != nil {
		return fmt.Errorf("put %s: %w", name, err)
	}
	status, err := s.Status(ctx)
	if err != nil {
		return fmt.Errorf("put %s in object store %s: %w", name, store, err)
	}
	if st, ok := status.(*jetstream.ObjectBucketStatus); ok {
		info := st.StreamInfo()
		need := uint64(len(data) + (len(data)/objectChunk+2)*objectHead)
		if most := info.Config.MaxBytes; most > 0 && info.State.Bytes+need > uint64(most) {
			return fmt.Errorf("put %s in object store %s: %w: %d of %d bytes used, %d wanted", name, store, ErrFull, info.State.Bytes, most, need)
		}
	}
	if _, err := s.PutBytes(ctx, name, data); err != nil {
		return fmt.Errorf("put %s in object store %s: %w", name, store, err)
	}
	return nil
}

// Object reads the bytes of a name; [ErrNotFound] when there are none.
func (b *Bus) Object(ctx context.Context, store, name string) ([]byte, error) {
	s, err := b.objects(ctx, store)
	if err != nil {
		return nil, fmt.Errorf("get %s: %w", name, err)
	}
	data, err := s.GetBytes(ctx, name)
	switch {
	case errors.Is(err, jetstream.ErrObjectNotFound):
		return nil, fmt.Errorf("get %s from object store %s: %w", name, store, ErrNotFound)
	case err != nil:
		return nil, fmt.Errorf("get %s from object store %s: %w", name, store, err)
	}
	return data, nil
}

// DeleteObject removes a name; one that is not there is no error.
func (b *Bus) DeleteObject(ctx context.Context, store, name string) error {
	s, err := b.objects(ctx, store)
	if err != nil {
		return fmt.Errorf("delete %s: %w", name, err)
	}
	if err := s.Delete(ctx, name); err != nil && !errors.Is(err, jetstream.ErrObjectNotFound) {
		return fmt.Errorf("delete %s from object store %s: %w", name, store, err)
	}
	return nil
}

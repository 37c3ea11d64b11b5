package streams

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// denials tells a caller that waits for an answer that the server has refused its
// message: NATS reports refusals on the side, and the caller would wait in vain.
type denials struct {
	mu      sync.Mutex
	waiting map[*waiter]struct{}
}

type waiter struct {
	prefix string
	cancel context.CancelCauseFunc
}

// watch derives a context that ends with [ErrDenied] when a publish to a subject
// that begins so is refused.
func (d *denials) watch(ctx context.Context, prefix string) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	w := &waiter{prefix, cancel}
	d.mu.Lock()
	if d.waiting == nil {
		d.waiting = map[*waiter]struct{}{}
	}
	d.waiting[w] = struct{}{}
	d.mu.Unlock()
	return ctx, func() {
		d.mu.Lock()
		delete(d.waiting, w)
		d.mu.Unlock()
		cancel(nil)
	}
}

// note takes an error of the connection and reports whether somebody waited.
func (d *denials) note(err error) bool {
	if !errors.Is(err, nats.ErrPermissionViolation) {
		return false
	}
	_, rest, ok := strings.Cut(err.Error(), `to "`)
	if !ok {
		return false
	}
	subject, _, _ := strings.Cut(rest, `"`)
	d.mu.Lock()
	defer d.mu.Unlock()
	told := false
	for w := range d.waiting {
		if strings.HasPrefix(subject, w.prefix) {
			w.cancel(fmt.Errorf("%s: %w", subject, ErrDenied))
			told = true
		}
	}
	return told
}

// explain turns an error of a JetStream call into what a person can act on.
func explain(ctx context.Context, what string, err error) error {
	if err == nil {
		return nil
	}
	if cause := context.Cause(ctx); cause != nil && errors.Is(cause, ErrDenied) {
		return cause
	}
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound), errors.Is(err, jetstream.ErrNoStreamResponse),
		errors.Is(err, jetstream.ErrBucketNotFound), errors.Is(err, jetstream.ErrConsumerNotFound),
		errors.Is(err, jetstream.ErrJetStreamNotEnabledForAccount), errors.Is(err, nats.ErrNoResponders):
		return fmt.Errorf("%s: %w (%w)", what, ErrMissing, err)
	}
	return fmt.Errorf("%s: %w", what, err)
}

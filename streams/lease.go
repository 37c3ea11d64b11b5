package streams

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"
)

// Lease is a claim to be the one that does something, for liveness only: nothing
// unsafe may happen when two believe they hold it.
//
// Nobody's clock is trusted. The holder rewrites the key every third of the TTL
// and counts the lease as lost when its last successful rewrite was sent longer
// than 2/3 of the TTL ago. A candidate takes over only when it has itself watched
// the key unchanged for the whole TTL. Both count on their own monotonic clocks,
// so that the holder knows that it has lost before another can win.
type Lease struct {
	key    string
	ttl    time.Duration
	holder string

	mu       sync.Mutex
	until    time.Time // held until then; zero when not held
	revision uint64    // of the key when won
	current  uint64    // of the key now

	ended chan struct{}
}

// claim is the value of a key of bucket leases.
type claim struct {
	Holder string `json:"holder"`
	Role   string `json:"role"`
	TTL    int64  `json:"ttl_ms"`
}

// minTTL keeps renewals apart.
const minTTL = 50 * time.Millisecond

// Hold keeps trying to win the lease and to keep it until ctx ends; then it gives
// it up. It returns at once, without holding it yet.
func (b *Bus) Hold(ctx context.Context, key string, ttl time.Duration) (*Lease, error) {
	if ttl < minTTL {
		return nil, fmt.Errorf("lease %s: ttl %v is below %v", key, ttl, minTTL)
	}
	c, err := b.conn(Tel)
	if err != nil {
		return nil, fmt.Errorf("lease %s: %w", key, err)
	}
	wait, done := c.denials.watch(ctx, "$JS.API.")
	defer done()
	ask := func(ctx context.Context) (jetstream.KeyValue, error) { return c.JS.KeyValue(ctx, BucketLeases) }
	kv, err := ask(wait)
	if err != nil && !silent(err) {
		return nil, explain(wait, "lease "+key+": bucket "+BucketLeases, err)
	}
	l := &Lease{key: key, ttl: ttl, holder: nuid.Next(), ended: make(chan struct{})}
	go func() {
		defer close(l.ended)
		if kv == nil {
			if kv, err = patiently(ctx, b, "lease "+key, ask); err != nil {
				if ctx.Err() == nil {
					b.Log.Error("lease not possible", "lease", key, "err", explain(ctx, "bucket "+BucketLeases, err))
				}
				return
			}
		}
		l.run(ctx, b, kv)
	}()
	return l, nil
}

// Held reports whether the lease is held now.
func (l *Lease) Held() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return time.Now().Before(l.until)
}

// Revision is the epoch of the tenure: it rises with every change of hands, and
// stays while the lease is renewed. It is 0 when the lease is not held.
func (l *Lease) Revision() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !time.Now().Before(l.until) {
		return 0
	}
	return l.revision
}

// Done is closed when the lease was given up after the context's end.
func (l *Lease) Done() <-chan struct{} { return l.ended }

func (l *Lease) run(ctx context.Context, b *Bus, kv jetstream.KeyValue) {
	log := b.Log.With("lease", l.key)
	value, err := json.Marshal(claim{Holder: l.holder, Role: b.Role, TTL: l.ttl.Milliseconds()})
	if err != nil {
		log.Error("lease not possible", "err", err)
		return
	}
	var seen uint64     // revision last seen of another's claim
	var since time.Time // when we first saw it
	for ctx.Err() == nil {
		held := l.Held()
		l.step(ctx, kv, value, &seen, &since)
		if now := l.Held(); now != held {
			log.Info("lease", "held", now, "revision", l.Revision())
		}
		pause(ctx, l.ttl/3)
	}
	l.release(b, kv)
}

// step renews, or looks whether the lease is to be had.
func (l *Lease) step(ctx context.Context, kv jetstream.KeyValue, value []byte, seen *uint64, since *time.Time) {
	ctx, cancel := context.WithTimeout(ctx, max(l.ttl/3, minTTL))
	defer cancel()
	sent := time.Now()
	if l.current != 0 {
		rev, err := kv.Update(ctx, l.key, value, l.current)
		if err == nil {
			l.won(sent, rev, false)
			return
		}
		if isWrongSequence(err) {
			l.resume(ctx, kv, sent)
		}
		return // otherwise keep the claim until it runs out, and try again
	}
	e, err := kv.Get(ctx, l.key)
	switch {
	case errors.Is(err, jetstream.ErrKeyNotFound):
		if rev, err := kv.Create(ctx, l.key, value); err == nil {
			l.won(sent, rev, true)
		}
		return
	case err != nil:
		return
	}
	if e.Revision() != *seen {
		*seen, *since = e.Revision(), time.Now()
		return
	}
	var other claim
	ttl := l.ttl
	if json.Unmarshal(e.Value(), &other) == nil {
		ttl = max(ttl, time.Duration(other.TTL)*time.Millisecond)
	}
	if time.Since(*since) < ttl {
		return
	}
	if rev, err := kv.Update(ctx, l.key, value, *seen); err == nil {
		l.won(sent, rev, true)
	}
}

// resume looks at a key that is not as we left it: an earlier renewal of ours may
// have been stored although its acknowledgement was lost.
func (l *Lease) resume(ctx context.Context, kv jetstream.KeyValue, sent time.Time) {
	e, err := kv.Get(ctx, l.key)
	if err != nil && !errors.Is(err, jetstream.ErrKeyNotFound) {
		return
	}
	var c claim
	if err == nil && json.Unmarshal(e.Value(), &c) == nil && c.Holder == l.holder {
		l.won(time.Time{}, e.Revision(), false)
		return
	}
	l.mu.Lock()
	l.until, l.current, l.revision = time.Time{}, 0, 0
	l.mu.Unlock()
}

// won notes a successful write. A zero time renews nothing: only the revision is
// learnt.
func (l *Lease) won(sent time.Time, rev uint64, fresh bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.current = rev
	if sent.IsZero() {
		return
	}
	// A claim that had run out and is renewed before anybody took it begins a new
	// tenure all the same: its holder has told others that it had lost.
	if fresh || !sent.Before(l.until) {
		l.revision = rev
	}
	l.until = sent.Add(l.ttl * 2 / 3)
}

// release gives the lease up, so that another need not wait.
func (l *Lease) release(b *Bus, kv jetstream.KeyValue) {
	l.mu.Lock()
	current := l.current
	l.until, l.current, l.revision = time.Time{}, 0, 0
	l.mu.Unlock()
	if current == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if err := kv.Delete(ctx, l.key, jetstream.LastRevision(current)); err != nil {
		b.Log.Warn("lease not given up; it runs out by itself", "lease", l.key, "err", err)
	}
}

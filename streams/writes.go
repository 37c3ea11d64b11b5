package streams

import (
	"errors"
	"fmt"
	"sync"
	"time"
)

// writes is what became of the last message to each stream: the answer to whether this
// service can publish. What a server says of a stream is what it believes, and it
// believes in streams without a quorum too; only a write that was acknowledged, or was
// not, says it. Every service writes often enough, the placer its heartbeat every 5 s,
// that no message need be made up for it.
type writes struct {
	mu     sync.Mutex
	failed map[string]refusal
}

// refusal is the last of the writes to a stream that all failed.
type refusal struct {
	since, at time.Time
	err       error
}

// writeMemory is how long a failed write speaks for a stream that is not written to again.
const writeMemory = 5 * time.Minute

// note takes the end of a write that was sent.
func (w *writes) note(stream string, err error, now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err == nil {
		delete(w.failed, stream)
		return
	}
	if w.failed == nil {
		w.failed = map[string]refusal{}
	}
	r := w.failed[stream]
	if r.since.IsZero() {
		r.since = now
	}
	r.at, r.err = now, err
	w.failed[stream] = r
}

// check is nil unless the last write to a stream failed, and not long ago.
func (w *writes) check(now time.Time) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	var errs []error
	for stream, r := range w.failed {
		if now.Sub(r.at) <= writeMemory {
			errs = append(errs, fmt.Errorf("stream %s takes no messages since %s: %w", stream, r.since.UTC().Format(time.RFC3339), r.err))
		}
	}
	return errors.Join(errs...)
}

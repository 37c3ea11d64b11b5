package streams

import (
	"context"
	"fmt"
)

// maxHistory bounds how many messages History keeps: the newest ones.
const maxHistory = 100_000

// History reads a part of a stream up to what it held when asked, in order; of
// very many messages it keeps the newest hundred thousand. Signatures are not
// checked and messages that cannot be decoded become dead letters.
func (b *Bus) History(ctx context.Context, in Input) ([]Event, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var out []Event
	complete := false
	_, err := b.peruse(ctx, in, func(a arrival) {
		switch {
		case complete:
		case a.caughtUp:
			complete = true
			cancel()
		default:
			if len(out) == 2*maxHistory {
				out = append(out[:0], out[maxHistory:]...)
			}
			out = append(out, a.event)
		}
	})
	if err != nil {
		return nil, fmt.Errorf("history of %w", err)
	}
	if !complete {
		return nil, fmt.Errorf("history of %s: %w", in.Stream, context.Cause(ctx))
	}
	return out[max(0, len(out)-maxHistory):], nil
}

// Scan hands the messages of a part of a stream to handle, in order, up to what it held
// when asked, and gives the stream's last sequence then. Signatures are not checked and
// messages that cannot be decoded become dead letters.
func (b *Bus) Scan(ctx context.Context, in Input, handle func(Event)) (last uint64, err error) {
	inner, cancel := context.WithCancel(ctx)
	defer cancel()
	complete := false
	last, err = b.peruse(inner, in, func(a arrival) {
		switch {
		case complete:
		case a.caughtUp:
			complete = true
			cancel()
		default:
			handle(a.event)
		}
	})
	if err != nil {
		return 0, fmt.Errorf("scan of %w", err)
	}
	if !complete {
		return 0, fmt.Errorf("scan of %s: %w", in.Stream, context.Cause(ctx))
	}
	return last, nil
}

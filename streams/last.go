package streams

import (
	"cmp"
	"context"
	"fmt"
	"slices"
)

// Last gives the last message of every subject under the filters, in the order of
// their sequences: a picture of the present for people. Removed keys are left
// out. Signatures are not checked and messages that cannot be decoded become dead
// letters.
func (b *Bus) Last(ctx context.Context, stream string, filters ...string) ([]Event, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	bySubject := map[string]Event{}
	complete := false
	_, err := b.peruse(ctx, Input{Stream: stream, Filters: filters, From: FromLastPerSubject}, func(a arrival) {
		if complete {
			return
		}
		if a.caughtUp {
			complete = true
			cancel()
			return
		}
		if old, ok := bySubject[a.event.Subject]; !ok || old.Seq < a.event.Seq {
			bySubject[a.event.Subject] = a.event
		}
	})
	if err != nil {
		return nil, fmt.Errorf("last of %w", err)
	}
	if !complete {
		return nil, fmt.Errorf("last of %s: %w", stream, context.Cause(ctx))
	}
	out := make([]Event, 0, len(bySubject))
	for _, e := range bySubject {
		if e.Msg != nil {
			out = append(out, e)
		}
	}
	slices.SortFunc(out, func(x, y Event) int { return cmp.Compare(x.Seq, y.Seq) })
	return out, nil
}

// LastUnder gives the last message under a filter, read from the stream's leader,
// without decoding it: what a writer needs for an [Expect]. It is [ErrNotFound]
// when there is none.
func (b *Bus) LastUnder(ctx context.Context, stream, filter string) (*Received, error) {
	st, err := StreamOf(stream)
	if err != nil {
		return nil, err
	}
	c, err := b.conn(st.Account)
	if err != nil {
		return nil, err
	}
	m, err := c.last(ctx, stream, filter)
	if err != nil {
		return nil, fmt.Errorf("last: %w", err)
	}
	return &Received{Subject: m.Subject, Header: m.Header, Data: m.Data, Seq: m.Sequence, Time: m.Time.UnixNano()}, nil
}

// LastOf gives the last message of a subject, read from the stream's leader, decoded and
// with its signature checked as [Bus.Consume] does. It is [ErrNotFound] when there is none.
func (b *Bus) LastOf(ctx context.Context, stream, subject string) (Event, error) {
	r, err := b.LastUnder(ctx, stream, subject)
	if err != nil {
		return Event{}, err
	}
	e, err := r.event(stream)
	if err == nil {
		err = b.authentic(r)
	}
	if err != nil {
		return Event{}, fmt.Errorf("last of %s, %d: %w", subject, r.Seq, err)
	}
	return e, nil
}

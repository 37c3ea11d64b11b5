package streams

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/foreshift/foreshift/schemas"
)

// tick lets the decider decide on the present cut and publishes what it wants, in
// its order.
func (sh *shell) tick(ctx context.Context) {
	now := time.Now
	if sh.Now != nil {
		now = sh.Now
	}
	// Decisions keep their cut; ours goes on.
	cut := Cut{Now: now().UnixNano(), Seq: maps.Clone(sh.cut.Seq)}
	sh.cut.Now = cut.Now
	sh.seen.Store(&cut)
	begun := time.Now()
	outs := sh.Decider.Tick(cut)
	sh.tickTime.Observe(time.Since(begun).Seconds())
	sh.ticks.Inc()
	if len(outs) == 0 || sh.Active != nil && !sh.Active() {
		return
	}
	seen := seenOf(cut)
	for i := range outs {
		outs[i].seen = seen
	}
	for len(outs) > 0 {
		n := sh.run(outs)
		if n == 0 {
			o := outs[0]
			if outs = outs[1:]; !sh.one(ctx, o) {
				outs = Dependents(o, outs)
			}
			continue
		}
		sh.many(ctx, outs[:n])
		outs = outs[n:]
	}
}

// Dependents gives what may still go out of a decision when one of its messages was not
// stored: not the commands of a plan that is not on the record, for whoever asks why a
// VM moved must find it there.
func Dependents(failed Out, rest []Out) []Out {
	p, ok := failed.Msg.(*schemas.Plan)
	if !ok {
		return rest
	}
	kept := make([]Out, 0, len(rest))
	for _, o := range rest {
		if c, ok := o.Msg.(*schemas.Command); ok && c.Plan == p.ID {
			continue
		}
		kept = append(kept, o)
	}
	return kept
}

// run is how many of the first outs can go out together: telemetry without
// expectations. What is ordered, in CTRL or under an expectation, goes one by one.
func (sh *shell) run(outs []Out) int {
	for i := range outs {
		r, err := routeOf(outs[i].Subject)
		if err != nil || r.stream.Account != Tel || outs[i].Expect != nil {
			return i
		}
	}
	return len(outs)
}

// one publishes a message and waits, and tells whether it was stored. A failure is not
// told to the decider: it learns from the stream itself what is there, and decides anew.
func (sh *shell) one(ctx context.Context, o Out) bool {
	seq, err := sh.Bus.Publish(ctx, o)
	switch {
	case err == nil:
		sh.done(o, seq)
	case errors.Is(err, ErrLostRace):
		sh.lost.Inc()
		sh.log.Info("lost race", "subject", o.Subject, "id", o.ID, "err", err)
	case ctx.Err() != nil: // stopping: what was not sent is decided anew after the next start
	default:
		sh.failed.Inc()
		sh.log.Warn("not published", "subject", o.Subject, "id", o.ID, "err", err)
	}
	return err == nil
}

func (sh *shell) many(ctx context.Context, outs []Out) {
	failed, err := sh.Bus.publishAsync(ctx, outs)
	if err != nil && ctx.Err() == nil {
		sh.failed.Add(float64(len(failed)))
		sh.log.Warn("not published", "of", len(outs), "failed", len(failed), "err", err)
	}
	for i := range outs {
		if _, bad := failed[i]; !bad {
			sh.done(outs[i], 0)
		}
	}
}

func (sh *shell) done(o Out, seq uint64) {
	sh.outs.Inc()
	if sh.Observe != nil {
		sh.Observe(o, seq)
	}
}

// resumed gives the input that continues after the cut, or begins again.
func resumed(in Input, cut Cut) Input {
	if seq, ok := cut.Seq[in.Stream]; ok && !in.Again {
		in.From, in.Seq = FromSeq, seq+1
	}
	return in
}

// restore takes the snapshot back, when there is one that can be used, and gives
// the inputs from where it ends. A snapshot that is damaged or of another version
// is left aside: everything can be read again from the streams.
func (sh *shell) restore(ctx context.Context) ([]Input, error) {
	if sh.Snapshot == "" {
		return sh.Inputs, nil
	}
	snap, err := sh.Bus.loadSnapshot(ctx, sh.Snapshot)
	switch {
	case errors.Is(err, ErrNotFound):
		sh.log.Info("no snapshot yet", "snapshot", sh.Snapshot)
		return sh.Inputs, nil
	case errors.Is(err, errSnapshot):
		sh.log.Warn("snapshot not usable; reading the streams from their start", "snapshot", sh.Snapshot, "err", err)
		return sh.Inputs, nil
	case err != nil:
		return nil, fmt.Errorf("snapshot %s: %w", sh.Snapshot, err)
	}
	if err := sh.Decider.Restore(snap.state); err != nil {
		sh.log.Warn("snapshot refused by the decider; reading the streams from their start", "snapshot", sh.Snapshot, "err", err)
		return sh.Inputs, nil
	}
	out := make([]Input, 0, len(sh.Inputs))
	for _, in := range sh.Inputs {
		next := resumed(in, snap.cut)
		if next.From == FromSeq && !next.Again {
			sh.cut.Seq[in.Stream] = snap.cut.Seq[in.Stream]
			if err := sh.checkGap(ctx, &next); err != nil {
				return nil, err
			}
		}
		out = append(out, next)
	}
	sh.cut.Now = snap.cut.Now
	sh.log.Info("snapshot restored", "snapshot", sh.Snapshot, "bytes", len(snap.state), "cut", snap.cut.Seq)
	return out, nil
}

// checkGap compares where the snapshot ends with what the stream still has.
func (sh *shell) checkGap(ctx context.Context, in *Input) error {
	src, err := sh.Bus.source(in)
	if err != nil {
		return err
	}
	if src.copied {
		return nil
	}
	wait, done := src.conn.denials.watch(ctx, "$JS.API.")
	defer done()
	s, err := src.conn.JS.Stream(wait, in.Stream)
	if err != nil {
		return explain(wait, "stream "+in.Stream, err)
	}
	state := s.CachedInfo().State
	switch {
	case state.LastSeq+1 < in.Seq:
		// The stream was made anew: its sequences have begun again.
		sh.log.Warn("stream is younger than the snapshot; reading it from its start", "stream", in.Stream, "snapshot", in.Seq-1, "last", state.LastSeq)
		in.From, in.Seq = FromAll, 0
		delete(sh.cut.Seq, in.Stream)
	case state.FirstSeq > in.Seq && state.Msgs > 0:
		sh.log.Warn("stream no longer holds what followed the snapshot", "stream", in.Stream, "wanted", in.Seq, "first", state.FirstSeq)
	}
	return nil
}

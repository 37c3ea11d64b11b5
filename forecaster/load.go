package forecaster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/foreshift/foreshift/forecaster/window"
	"github.com/foreshift/foreshift/schemas"
	"github.com/foreshift/foreshift/streams"
	"github.com/nats-io/nats.go"
)

// load reads what a new owner of some partitions needs: first what it takes to go on,
// then the rest of the windows.
//
// What has been made into steps is told by sequence: every steps message names the
// sequence of METRICS its owner had read. From there, and from where the newest closed
// step ended, the samples are read a second time; those that are in a step already are
// passed over one by one, so that none is lost and none counts twice.
type load struct {
	bus   *streams.Bus
	cfg   Config
	log   *slog.Logger
	parts []int
	begun time.Time

	patient map[int]bool // by partition: one whose snapshot does not come in time is tried again
	late    []int        // those
	cancel  context.CancelFunc
	wanted  int // partitions that somebody still waits for; of the decider's goroutine

	state   map[int]*Part
	steps   []streams.Event // the newest, in order
	metrics []streams.Event // not made into steps yet, or of open steps
	upTo    uint64          // the sequence of METRICS read last
	last    map[int]uint64  // last sequence of each partition's subject
	first   map[int]uint64  // first of steps, by partition
}

// recentSteps are loaded first: those that late samples may still correct.
func (l *load) recentSteps() schemas.Step { return schemas.Step(l.cfg.lateSteps() + 8) }

// newest reads what it takes to go on.
func (l *load) newest(ctx context.Context) error {
	ends, err := l.bus.Last(ctx, streams.Steps)
	if err != nil {
		return fmt.Errorf("end of the history: %w", err)
	}
	of := partMask(l.parts)
	l.last, l.first, l.state = map[int]uint64{}, map[int]uint64{}, map[int]*Part{}
	closed, newest := map[int]schemas.Step{}, schemas.Step(-1)
	for _, e := range ends {
		if m, ok := e.Msg.(*schemas.Steps); ok && m.Base == l.cfg.Base {
			newest = max(newest, m.Step)
			if of[m.Partition] {
				l.last[m.Partition], closed[m.Partition] = e.Seq, m.Step
			}
		}
	}
	for _, p := range l.parts {
		part, err := l.snapshot(ctx, p)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			l.log.Warn("snapshot not read in time; trying again", "snapshot", partName(p), "err", err)
			l.late = append(l.late, p)
			continue
		}
		if part != nil {
			closed[p] = max(closed[p], part.Closed)
		}
		l.state[p] = part
	}
	now := time.Now()
	_, err = l.bus.Scan(ctx, l.input(time.Duration(l.recentSteps())*l.cfg.Base+l.cfg.Grace), func(e streams.Event) {
		if m, ok := e.Msg.(*schemas.Steps); ok {
			if l.first[m.Partition] == 0 {
				l.first[m.Partition] = e.Seq
			}
			l.steps = append(l.steps, e)
		}
	})
	if err != nil {
		return err
	}
	// Where the oldest of the partitions stands. One without a history stands where the
	// fleet does: had it had a VM, somebody would have closed its steps.
	from, oldest := newest, newest-l.recentSteps()
	for _, p := range l.parts {
		if s, ok := closed[p]; ok {
			from = min(from, max(s, oldest))
		}
	}
	since := l.cfg.LateLimit
	if newest >= 0 {
		since = min(since, now.Sub(from.End(l.cfg.Base).Std())) + l.cfg.Future
	}
	l.upTo, err = l.bus.Scan(ctx, streams.Input{Stream: streams.Metrics, From: streams.FromSince, Since: max(since, l.cfg.Base)}, func(e streams.Event) {
		l.metrics = append(l.metrics, e)
	})
	if err != nil {
		return err
	}
	if n := len(l.metrics); n > 0 {
		l.upTo = max(l.upTo, l.metrics[n-1].Seq)
	}
	l.restarted()
	return nil
}

// restarted forgets what steps say of METRICS when that stream was made anew since: its
// sequences have begun again.
func (l *load) restarted() {
	for _, e := range l.steps {
		if e.Msg.(*schemas.Steps).Metrics > l.upTo {
			l.log.Warn("METRICS is younger than the history: what is in both is told by time", "sequence", l.upTo)
			for _, e := range l.steps {
				e.Msg.(*schemas.Steps).Metrics = 0
			}
			return
		}
	}
}

// input is the history of the partitions.
func (l *load) input(since time.Duration) streams.Input {
	in := streams.Input{Stream: streams.Steps, From: streams.FromSince, Since: since}
	for _, p := range l.parts {
		in.Filters = append(in.Filters, streams.SubjectSteps(p))
	}
	return in
}

// release says that one of the partitions is not wanted any more.
func (l *load) release() {
	if l.wanted--; l.wanted == 0 {
		l.cancel()
	}
}

// snapshot reads a partition's, nil when there is none that can be used. One that the bus
// does not give in time is an error as long as there is hope: what it holds is learnt in
// days.
func (l *load) snapshot(ctx context.Context, p int) (*Part, error) {
	b, _, err := l.bus.Snapshot(ctx, partName(p))
	switch {
	case errors.Is(err, streams.ErrNotFound):
		return nil, nil
	case l.patient[p] && tooSlow(err):
		return nil, err
	case err == nil:
		var part *Part
		if part, err = DecodePart(b, int64(l.cfg.Base)); err == nil {
			return part, nil
		}
	}
	l.log.Warn("snapshot not usable; its VMs are learnt anew from their windows", "snapshot", partName(p), "err", err)
	return nil, nil
}

// tooSlow tells a time-out, of whichever layer.
func tooSlow(err error) bool {
	var t interface{ Timeout() bool }
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, nats.ErrTimeout) || errors.As(err, &t) && t.Timeout()
}

// fillChunk is how many messages are handed over at once.
const fillChunk = 64

// older hands out the history that the windows hold beyond the newest.
func (l *load) older(ctx context.Context, put func([]streams.Event)) error {
	var chunk []streams.Event
	_, err := l.bus.Scan(ctx, l.input(window.Rows*l.cfg.Base+l.cfg.LateLimit), func(e streams.Event) {
		m, ok := e.Msg.(*schemas.Steps)
		if first := l.first[mPartition(m)]; !ok || first != 0 && e.Seq >= first {
			return
		}
		if chunk = append(chunk, e); len(chunk) == fillChunk {
			put(chunk)
			chunk = nil
		}
	})
	if len(chunk) > 0 {
		put(chunk)
	}
	return err
}

func mPartition(m *schemas.Steps) int {
	if m == nil {
		return -1
	}
	return m.Partition
}

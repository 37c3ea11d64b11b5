package live

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/foreshift/foreshift/schemas"
	"github.com/foreshift/foreshift/streams"
)

// Feed is how one stream is read.
type Feed struct {
	Stream string       `json:"stream"`
	Ready  bool         `json:"ready"` // all that was there at the start has been read
	Err    string       `json:"error"` // why it is not being read, empty while it is
	Last   schemas.Time `json:"last"`  // stream time of the newest message
	Count  int          `json:"messages"`
}

// Inputs are what the console reads. The far past is bounded: what is older is asked
// for by a page that shows it.
func Inputs(base time.Duration) []streams.Input {
	day := schemas.StepsPerDay * base
	return []streams.Input{
		{Stream: streams.Capacity, From: streams.FromLastPerSubject},
		{Stream: streams.Pressure, From: streams.FromLastPerSubject},
		{Stream: streams.Migrations, From: streams.FromSince, Since: 30 * 24 * time.Hour},
		{Stream: streams.Plans, From: streams.FromSince, Since: max(12*base, 10*time.Minute)},
		{Stream: "KV_" + streams.BucketPolicy, From: streams.FromAll},
		{Stream: streams.Acts, From: streams.FromAll, Filters: acts()},
		{Stream: streams.Progress, From: streams.FromLastPerSubject},
		{Stream: streams.External, From: streams.FromLastPerSubject, Filters: []string{"calendar.*"}},
		{Stream: streams.Models, From: streams.FromAll},
		{Stream: streams.Forecasts, From: streams.FromSince, Since: max(3*base, 15*time.Second), Pull: pull},
		{Stream: streams.Steps, From: streams.FromSince, Since: day},
	}
}

// pull bounds what lies in memory of the largest stream before it is folded.
const pull = 2 << 20

// acts are the subjects of what people say: not the heartbeats, of which a year holds
// millions.
func acts() (out []string) {
	for _, k := range schemas.ActKinds {
		if k != schemas.ActHeartbeat {
			out = append(out, streams.SubjectAct(k))
		}
	}
	return out
}

// Run reads the bus into the model until ctx ends. A stream that cannot be read is
// tried again for ever, ever less often, and said to be unread meanwhile.
func (m *Model) Run(ctx context.Context, bus *streams.Bus, log *slog.Logger) error {
	inputs := Inputs(m.Base())
	m.mu.Lock()
	for _, in := range inputs {
		m.feeds[in.Stream] = &Feed{Stream: in.Stream}
	}
	m.mu.Unlock()
	var wg sync.WaitGroup
	for _, in := range inputs {
		wg.Go(func() { m.follow(ctx, bus, in, log) })
	}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			wg.Wait()
			return nil
		case now := <-tick.C:
			m.Tick(schemas.At(now))
		}
	}
}

const mostPatience = 30 * time.Second

func (m *Model) follow(ctx context.Context, bus *streams.Bus, in streams.Input, log *slog.Logger) {
	for wait := time.Second; ; wait = min(2*wait, mostPatience) {
		begun := time.Now()
		m.feed(in.Stream, func(f *Feed) { f.Err = "" })
		err := bus.Follow(ctx, "console", in, m.Apply, func() { m.feed(in.Stream, func(f *Feed) { f.Ready = true }) })
		if ctx.Err() != nil {
			return
		}
		why := "the stream ended"
		if err != nil {
			why = err.Error()
		}
		log.Warn("stream is not read; it is tried again", "stream", in.Stream, "error", why, "in", wait)
		m.feed(in.Stream, func(f *Feed) { f.Err = why })
		if time.Since(begun) > time.Minute {
			wait = time.Second
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

func (m *Model) feed(stream string, f func(*Feed)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f(m.feeds[stream])
	m.bump()
}

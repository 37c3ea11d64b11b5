package console

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/foreshift/foreshift/schemas"
	"github.com/foreshift/foreshift/streams"
)

// Load reads the fleet once from the bus, in the role of bus: an operator's or a
// viewer's. now is the reader's clock, against which things are stale.
func Load(ctx context.Context, bus *streams.Bus, now time.Time) (*View, error) {
	reads := []func() ([]streams.Event, error){
		func() ([]streams.Event, error) { return bus.Last(ctx, streams.Capacity) },
		func() ([]streams.Event, error) { return bus.Last(ctx, streams.Pressure) },
		func() ([]streams.Event, error) { return bus.Last(ctx, streams.Progress) },
		func() ([]streams.Event, error) { return bus.History(ctx, streams.Input{Stream: streams.Migrations}) },
		func() ([]streams.Event, error) {
			return bus.History(ctx, streams.Input{Stream: streams.Plans, From: streams.FromSince, Since: time.Hour})
		},
		func() ([]streams.Event, error) { return readWords(ctx, bus) },
	}
	parts := make([][]streams.Event, len(reads))
	errs := make([]error, len(reads))
	var wg sync.WaitGroup
	for i, read := range reads {
		wg.Go(func() { parts[i], errs[i] = read() })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("read the fleet: %w", err)
	}
	var events []streams.Event
	for _, p := range parts {
		events = append(events, p...)
	}
	return Build(events, schemas.At(now)), nil
}

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

// read is one part of what is read of the bus.
type read = func() ([]streams.Event, error)

// together makes all reads at once and gives their events in the order of the reads.
func together(reads ...read) ([]streams.Event, error) {
	parts := make([][]streams.Event, len(reads))
	errs := make([]error, len(reads))
	var wg sync.WaitGroup
	for i, r := range reads {
		wg.Go(func() { parts[i], errs[i] = r() })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("read the fleet: %w", err)
	}
	var events []streams.Event
	for _, p := range parts {
		events = append(events, p...)
	}
	return events, nil
}

func last(ctx context.Context, bus *streams.Bus, stream string, filters ...string) read {
	return func() ([]streams.Event, error) { return bus.Last(ctx, stream, filters...) }
}

func recentPlans(ctx context.Context, bus *streams.Bus) read {
	return func() ([]streams.Event, error) {
		return bus.History(ctx, streams.Input{Stream: streams.Plans, From: streams.FromSince, Since: time.Hour})
	}
}

func said(ctx context.Context, bus *streams.Bus) read {
	return func() ([]streams.Event, error) { return readWords(ctx, bus) }
}

// Load reads the fleet once from the bus, in the role of bus: an operator's or a
// viewer's. now is the reader's clock, against which things are stale.
func Load(ctx context.Context, bus *streams.Bus, now time.Time) (*View, error) {
	events, err := together(last(ctx, bus, streams.Capacity), last(ctx, bus, streams.Pressure), last(ctx, bus, streams.Progress),
		func() ([]streams.Event, error) { return bus.History(ctx, streams.Input{Stream: streams.Migrations}) },
		recentPlans(ctx, bus), said(ctx, bus))
	if err != nil {
		return nil, err
	}
	return Build(events, schemas.At(now)), nil
}

// LoadFleet reads what [View.ExplainFleet] tells of: hosts, their pressures, plans and
// shortfalls, and of single VMs only where they are.
func LoadFleet(ctx context.Context, bus *streams.Bus, now time.Time) (*View, error) {
	events, err := together(last(ctx, bus, streams.Capacity), last(ctx, bus, streams.Pressure, "pressure.host.*", "shortfall.*"), recentPlans(ctx, bus), said(ctx, bus))
	if err != nil {
		return nil, err
	}
	return Build(events, schemas.At(now)), nil
}

// LoadVM reads what [View.Explain] tells of one VM, named by its name or UUID, and
// leaves unread what is said of others: on a large fleet that is nearly all. The view
// has where every VM is, and all else of this one; errors are those of [View.FindVM].
func LoadVM(ctx context.Context, bus *streams.Bus, now time.Time, name string) (*View, error) {
	at := schemas.At(now)
	events, err := together(last(ctx, bus, streams.Capacity), recentPlans(ctx, bus), said(ctx, bus))
	if err != nil {
		return nil, err
	}
	m, err := Build(events, at).FindVM(name)
	if err != nil {
		return nil, err
	}
	id := m.ID.String()
	filters := []string{"pressure.vm." + id + ".*", "benefit." + id}
	if m.Host != "" {
		filters = append(filters, streams.SubjectPressureHost(m.Host))
	}
	more, err := together(last(ctx, bus, streams.Pressure, filters...), last(ctx, bus, streams.Progress, streams.SubjectProgress(m.ID)), func() ([]streams.Event, error) {
		return bus.History(ctx, streams.Input{Stream: streams.Migrations, Filters: []string{"migrations." + id + ".>"}})
	})
	if err != nil {
		return nil, err
	}
	return Build(append(events, more...), at), nil
}

package libvirt

import (
	"context"

	lv "github.com/digitalocean/go-libvirt"

	"github.com/foreshift/foreshift/schemas"
)

// Event is something that happened to the VM of a move at its source.
type Event struct {
	Suspended bool // switchover has begun: do not poll any more
	Stopped   bool // its QEMU has ended, or it runs again
	Round     int  // a pre-copy round has begun
}

// listen subscribes to the lifecycle and the rounds of one VM on the connection
// that is bound to its move. The channel is closed with the connection. An event
// that nobody takes is dropped: they only make the watcher look sooner.
func (c *conn) listen(ctx context.Context, vm schemas.VMID) (<-chan Event, error) {
	life, err := call(ctx, c, "subscribe to lifecycle", c.lim.Quick, func() (<-chan lv.DomainEventLifecycleMsg, error) {
		return c.l.LifecycleEvents(context.WithoutCancel(ctx))
	})
	if err != nil {
		return nil, err
	}
	rounds, err := call(ctx, c, "subscribe to rounds", c.lim.Quick, func() (<-chan any, error) {
		return c.l.SubscribeEvents(context.WithoutCancel(ctx), lv.DomainEventIDMigrationIteration, nil)
	})
	if err != nil && !isRefused(err) {
		return nil, err
	}
	out := make(chan Event, 16)
	tell := func(e Event) {
		select {
		case out <- e:
		default:
		}
	}
	go func() {
		for m := range life {
			if schemas.VMID(m.Dom.UUID) != vm {
				continue
			}
			switch lv.DomainEventType(m.Event) {
			case lv.DomainEventSuspended:
				tell(Event{Suspended: true})
			case lv.DomainEventStopped, lv.DomainEventResumed, lv.DomainEventCrashed:
				tell(Event{Stopped: true})
			}
		}
	}()
	if rounds != nil {
		go func() {
			for m := range rounds {
				if it, ok := m.(*lv.DomainEventCallbackMigrationIterationMsg); ok && schemas.VMID(it.Dom.UUID) == vm {
					tell(Event{Round: int(it.Iteration)})
				}
			}
		}()
	}
	return out, nil
}

package actuator

import (
	"context"

	"github.com/foreshift/foreshift/actuator/libvirt"
	"github.com/foreshift/foreshift/actuator/migration"
	"github.com/foreshift/foreshift/schemas"
)

// SourceHost is the host that gives a VM away. [libvirt.Source] is the real one.
type SourceHost interface {
	Observe(context.Context, schemas.VMID) (migration.Seen, error)
	Begin(context.Context, migration.Ticket) (migration.Offer, error)
	Perform(context.Context, migration.Ticket, migration.Reply) (cookie []byte, err error)
	Confirm(ctx context.Context, vm schemas.VMID, cookie []byte) error
	Resume(context.Context, schemas.VMID) error
	Destroy(context.Context, schemas.VMID) error
	Abort(context.Context, schemas.VMID) error
	SetRate(context.Context, schemas.VMID, schemas.BytesPerSecond) error
	SetDowntime(context.Context, schemas.VMID, schemas.Millis) error
	StartPostCopy(context.Context, schemas.VMID) error
	Drop(schemas.VMID)
	Discard(ctx context.Context, files []string) error // of a move that has succeeded
	Stats(context.Context, schemas.VMID) (migration.JobStats, error)
	Events(schemas.VMID) <-chan libvirt.Event
}

// DestinationHost is the host that takes a VM in: libvirt itself
// ([libvirt.Destination]), libvirt behind this host's journal and rules
// ([Receiver]), or another host's actuator over the bus. A refusal comes as a
// [migration.Refusal], with a reply that still tells what was seen.
type DestinationHost interface {
	Observe(context.Context, migration.Ticket) (migration.Reply, error)
	Prepare(context.Context, migration.Ticket, migration.Offer) (migration.Reply, error)
	Finish(ctx context.Context, t migration.Ticket, cookie []byte) (migration.Reply, error)
	Resume(context.Context, migration.Ticket) (migration.Reply, error)
	Release(context.Context, migration.Ticket) (migration.Reply, error)
}

// Incoming is what a [Receiver] needs of its own host.
type Incoming interface {
	DestinationHost
	Session(schemas.VMID) uint64
	Prove(ctx context.Context, lease string) error     // that a disk lock holds between the hosts
	Fits(ctx context.Context, definition string) error // whether this host can run a guest's CPU
	Room(context.Context, []schemas.DiskCopy) error
	Clear(ctx context.Context, files []string) error // of a move that is given up
}

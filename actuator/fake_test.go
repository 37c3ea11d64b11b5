package actuator

import (
	"context"
	"errors"
	"sync"

	"github.com/foreshift/foreshift/actuator/libvirt"
	"github.com/foreshift/foreshift/actuator/migration"
	"github.com/foreshift/foreshift/schemas"
)

// fakePair is two hosts with one VM, in memory: what libvirt promises of a
// client-managed migration, and nothing else.
type fakePair struct {
	mu       sync.Mutex
	vm       schemas.VMID
	src, dst migration.Seen
	begun    bool
	session  uint64
	whole    bool
	resumes  int

	discarded, cleared []string
	full               bool // no room for disks
}

var errFake = errors.New("fake host: not now")

func newFakePair(vm schemas.VMID) *fakePair {
	return &fakePair{vm: vm, src: migration.Seen{Copy: migration.Running, CPU: 1e9}, dst: migration.Seen{Copy: migration.Absent}}
}

type fakeSource struct{ *fakePair }

func (f fakeSource) Observe(_ context.Context, vm schemas.VMID) (migration.Seen, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if vm != f.vm {
		return migration.Seen{Copy: migration.Absent}, nil
	}
	return f.src, nil
}

func (f fakeSource) Begin(_ context.Context, t migration.Ticket) (migration.Offer, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.begun || f.src.Copy != migration.Running {
		return migration.Offer{}, errFake
	}
	f.begun = true
	return migration.Offer{XML: "<domain><name>v</name><uuid>" + t.VM().String() + "</uuid></domain>", Cookie: []byte("begin")}, nil
}

func (f fakeSource) Perform(_ context.Context, _ migration.Ticket, p migration.Reply) ([]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.begun || !f.dst.Incoming || p.URI == "" {
		f.begun = false
		return nil, errFake
	}
	f.src.Copy, f.whole = migration.Paused, true
	return []byte("perform"), nil
}

func (f fakeSource) Confirm(context.Context, schemas.VMID, []byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.begun {
		return errFake
	}
	f.begun, f.src = false, migration.Seen{Copy: migration.Absent}
	return nil
}

func (f fakeSource) Resume(context.Context, schemas.VMID) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.begun = false
	if f.src.Copy == migration.Paused {
		f.src.Copy = migration.Running
	}
	return nil
}

func (f fakeSource) Destroy(context.Context, schemas.VMID) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.begun, f.src = false, migration.Seen{Copy: migration.Absent}
	return nil
}

func (f fakeSource) Abort(context.Context, schemas.VMID) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.begun || f.src.Copy == migration.Paused {
		return errFake
	}
	f.begun = false
	return nil
}

func (f fakeSource) SetRate(context.Context, schemas.VMID, schemas.BytesPerSecond) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.begun {
		return errFake
	}
	return nil
}

func (f fakeSource) SetDowntime(context.Context, schemas.VMID, schemas.Millis) error { return nil }

func (f fakeSource) StartPostCopy(context.Context, schemas.VMID) error { return errFake }

func (f fakeSource) Drop(schemas.VMID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.begun = false
}

func (f fakeSource) Discard(_ context.Context, files []string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.discarded = append(f.discarded, files...)
	return nil
}

func (f fakeSource) Stats(context.Context, schemas.VMID) (migration.JobStats, error) {
	return migration.JobStats{}, nil
}

func (f fakeSource) Events(schemas.VMID) <-chan libvirt.Event { return nil }

type fakeIncoming struct{ *fakePair }

func (f fakeIncoming) Session(schemas.VMID) uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.session
}

func (f fakeIncoming) Prove(context.Context, string) error { return errFake }

func (f fakeIncoming) Fits(context.Context, string) error { return nil }

func (f fakeIncoming) Room(_ context.Context, disks []schemas.DiskCopy) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.full && len(disks) > 0 {
		return &migration.Refusal{Why: schemas.Reason{Code: schemas.ReasonStorage, Detail: "full"}}
	}
	return nil
}

func (f fakeIncoming) Clear(_ context.Context, files []string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.cleared = append(f.cleared, files...)
	return nil
}

func (f fakeIncoming) Observe(_ context.Context, t migration.Ticket) (migration.Reply, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.dst.Copy == migration.Running {
		f.dst.CPU += 20e6
	}
	return migration.Reply{Seen: f.dst}, nil
}

func (f fakeIncoming) Prepare(ctx context.Context, t migration.Ticket, _ migration.Offer) (migration.Reply, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.session != t.Epoch && f.dst.Copy != migration.Absent {
		return migration.Reply{}, errFake
	}
	f.session, f.dst = t.Epoch, migration.Seen{Copy: migration.Paused, Incoming: true}
	return migration.Reply{Seen: f.dst, URI: "tcp://there:49152", Cookie: []byte("prepare")}, nil
}

func (f fakeIncoming) Finish(_ context.Context, t migration.Ticket, cookie []byte) (migration.Reply, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.session != t.Epoch || !f.whole || string(cookie) != "perform" {
		f.session, f.dst = 0, migration.Seen{Copy: migration.Absent}
		return migration.Reply{}, errFake
	}
	f.dst.Incoming = false
	return migration.Reply{Seen: f.dst, Cookie: []byte("finish"), Downtime: 50, Volume: 1e9}, nil
}

func (f fakeIncoming) Resume(context.Context, migration.Ticket) (migration.Reply, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.dst.Copy.Gone() || f.dst.Incoming {
		return migration.Reply{Seen: f.dst}, errFake
	}
	f.resumes++
	f.dst.Copy, f.session = migration.Running, 0
	return migration.Reply{Seen: f.dst}, nil
}

func (f fakeIncoming) Release(context.Context, migration.Ticket) (migration.Reply, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.session, f.dst, f.whole = 0, migration.Seen{Copy: migration.Absent}, false
	return migration.Reply{Seen: f.dst}, nil
}

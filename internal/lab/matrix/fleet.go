package matrix

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/foreshift/foreshift/internal/lab"
	"github.com/foreshift/foreshift/schemas"
	"github.com/foreshift/foreshift/streams"
)

// Fleet is a lab with a bus and two hosts' actuators, all breakable. The lab's third
// host has no actuator: others move VMs there.
type Fleet struct {
	Lab   *lab.Lab
	guest *lab.Guest
	local bool // the guest's disk is its host's alone
	busy  bool // the guest writes faster than a slow link carries, and its owner allows post-copy

	dir       string
	bus       *process
	actuators [2]*process
	gates     [2]*lab.Gate
	peers     [2]*lab.Gate // by which the other host's libvirtd comes in, when libvirt leads
	peer      bool         // libvirt leads, under a disk lock where the lab has one
	operator  *streams.Bus
	placer    *streams.Bus
	say       func(string)
	cancel    context.CancelFunc
	wg        sync.WaitGroup
	n         atomic.Int64 // numbers ids

	mu       sync.Mutex
	armed    *fuse
	trace    []string
	outcomes map[uint64]schemas.Outcome // by sequence
	arrived  chan struct{}
}

// fuse goes off at a step, once.
type fuse struct {
	label string
	host  int // of the part that must report it; -1 any
	blow  func()
	busy  *sync.WaitGroup // while it blows
}

// Start brings up hosts, bus and actuators and boots the guest on the first host.
func Start(ctx context.Context, c lab.Config) (*Fleet, error) { return start(ctx, c, false) }

// StartPeer is Start with actuators that let libvirt lead, peer to peer. Whether the
// hosts lock disks is the lab's own setting.
func StartPeer(ctx context.Context, c lab.Config) (*Fleet, error) { return start(ctx, c, true) }

func start(ctx context.Context, c lab.Config, peer bool) (_ *Fleet, err error) {
	f := &Fleet{peer: peer, say: c.Progress, outcomes: map[uint64]schemas.Outcome{}, arrived: make(chan struct{}, 1)}
	if f.say == nil {
		f.say = func(string) {}
	}
	c.Hosts = nil
	if f.Lab, err = lab.Up(ctx, c); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Stop(ctx))
		}
	}()
	f.dir = f.Lab.StateDir()
	if err := f.startParts(ctx); err != nil {
		return nil, err
	}
	if err := f.boot(ctx); err != nil {
		return nil, err
	}
	return f, nil
}

func (f *Fleet) startParts(ctx context.Context) error {
	port, err := freePort()
	if err != nil {
		return err
	}
	ids := []schemas.HostID{f.Lab.Hosts[0].ID, f.Lab.Hosts[1].ID}
	f.bus = &process{spec: spec{Kind: "bus", Dir: f.dir, Port: port, Hosts: ids}, log: filepath.Join(f.dir, "bus.log"), hear: func(string) {}}
	if err := f.bus.start(); err != nil {
		return err
	}
	connect := func(role string) (*streams.Bus, error) { return f.connect(ctx, role) }
	admin, err := connect(streams.RoleAdmin)
	if err != nil {
		return err
	}
	defer admin.Close()
	if _, err := streams.Apply(ctx, admin, streams.ApplyOptions{Hosts: ids, Replicas: 1, Scale: streams.ScaleEmbedded}); err != nil {
		return err
	}
	if f.placer, err = connect(streams.RolePlacer); err != nil {
		return err
	}
	if f.operator, err = connect(streams.RoleOperator); err != nil {
		return err
	}
	run, cancel := context.WithCancel(context.WithoutCancel(ctx))
	f.cancel = cancel
	f.wg.Go(func() { f.beat(run) })
	f.wg.Go(func() { f.listen(run) })
	for i := range f.actuators {
		h := f.Lab.Hosts[i]
		if f.gates[i], err = h.NewGate("gate"); err != nil {
			return err
		}
		if f.peers[i], err = h.NewGate("peer"); err != nil {
			return err
		}
		lead := ""
		if f.peer {
			lead = f.peers[i].URI()
		}
		f.actuators[i] = &process{log: filepath.Join(f.dir, "actuator-"+string(h.ID)+".log"), hear: func(label string) { f.step(i, label) },
			spec: spec{Kind: "actuator", Dir: f.dir, Port: port, Host: h.ID, URI: f.gates[i].URI(), Address: h.Address, Steps: true,
				Peer: lead, Leases: f.Lab.LeaseDir(), LockPID: h.LockPID()}}
		if err := f.actuators[i].start(); err != nil {
			return err
		}
	}
	return nil
}

func (f *Fleet) connect(ctx context.Context, role string) (*streams.Bus, error) {
	return streams.Connect(ctx, streams.Credentials{URL: fmt.Sprintf("nats://127.0.0.1:%d", f.bus.spec.Port), Role: role, Dir: f.dir, Log: slog.New(slog.DiscardHandler)})
}

// freePort takes a port that is free now, for a bus that comes back on the same one.
func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	port := l.Addr().(*net.TCPAddr).Port
	return port, l.Close()
}

// localDisk is large enough for its copying to be hit, at the rate of [slow] steps.
const localDisk = 48 << 20

// boot starts a fresh guest on the first host, of the kind that is asked for.
func (f *Fleet) boot(ctx context.Context) (err error) {
	spec := lab.GuestSpec{Name: fmt.Sprintf("vm%d", f.n.Add(1)), WorkingSet: 16 << 20, DirtyRate: 4 << 20, Disk: true}
	if f.local {
		spec.Local = localDisk
	}
	if f.busy {
		spec.WorkingSet, spec.DirtyRate, spec.PostCopy = 24<<20, 24<<20, true
	}
	f.guest, err = f.Lab.StartGuest(ctx, f.Lab.Hosts[0], spec)
	return err
}

// kind makes sure that the guest is of the kind that a cell wants.
func (f *Fleet) kind(ctx context.Context, c Cell) error {
	if f.local == c.local && f.busy == c.busy {
		return nil
	}
	f.local, f.busy = c.local, c.busy
	if err := f.Lab.RemoveGuest(ctx, f.guest); err != nil {
		return err
	}
	return f.boot(ctx)
}

// Stop ends all parts and the lab, whatever state they are in.
func (f *Fleet) Stop(ctx context.Context) error {
	var errs []error
	for _, p := range append(f.actuators[:], f.bus) {
		if p != nil && p.cmd != nil {
			errs = append(errs, p.kill(), p.wait())
		}
	}
	if f.cancel != nil {
		f.cancel()
	}
	for _, b := range []*streams.Bus{f.placer, f.operator} {
		if b != nil {
			b.Close()
		}
	}
	f.wg.Wait()
	for _, g := range append(f.gates[:], f.peers[:]...) {
		if g != nil {
			errs = append(errs, g.Close())
		}
	}
	return errors.Join(append(errs, f.Lab.Down(ctx))...)
}

// step is called by a part that waits at a step until this returns.
func (f *Fleet) step(host int, label string) {
	f.mu.Lock()
	f.trace = append(f.trace, fmt.Sprintf("%s %s", f.Lab.Hosts[host].Name, label))
	fuse := f.armed
	if fuse == nil || fuse.label != label || fuse.host >= 0 && fuse.host != host {
		f.mu.Unlock()
		return
	}
	f.armed = nil
	fuse.busy.Add(1) // under the lock: once arm has been called, all that blows is counted
	f.mu.Unlock()
	defer fuse.busy.Done()
	fuse.blow()
}

// arm sets the fuse, nil for none, and begins a new trace.
func (f *Fleet) arm(x *fuse) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.armed, f.trace = x, nil
}

// beat is the control plane's heartbeat: without it no move starts.
func (f *Fleet) beat(ctx context.Context) {
	for {
		id := fmt.Sprintf("beat-%d", f.n.Add(1))
		short, cancel := context.WithTimeout(ctx, 2*time.Second)
		// Unanswered while the bus is dead: the next one will do.
		_, _ = f.placer.Publish(short, streams.Out{Subject: streams.SubjectAct(schemas.ActHeartbeat), ID: id,
			Msg: &schemas.Act{Act: schemas.ActHeartbeat, ID: id, By: "placer", Time: schemas.At(time.Now())}})
		cancel()
		if !pause(ctx, 3*time.Second) {
			return
		}
	}
}

// listen keeps every outcome.
func (f *Fleet) listen(ctx context.Context) {
	for ctx.Err() == nil {
		in := streams.Input{Stream: streams.Migrations, Filters: []string{"migrations.*.outcome.*"}}
		err := f.placer.Consume(ctx, "matrix", in, func(e streams.Event) {
			o, ok := e.Msg.(*schemas.Outcome)
			if !ok {
				return
			}
			f.mu.Lock()
			f.outcomes[e.Seq] = *o
			f.mu.Unlock()
			select {
			case f.arrived <- struct{}{}:
			default:
			}
		})
		if err != nil && ctx.Err() == nil {
			f.say("outcomes are read anew: " + err.Error())
			pause(ctx, 500*time.Millisecond)
		}
	}
}

// outcome waits for one that pleases.
func (f *Fleet) outcome(ctx context.Context, id schemas.CommandID, within time.Duration, pleases func(schemas.Result) bool) (schemas.Outcome, bool) {
	end := time.Now().Add(within)
	for {
		f.mu.Lock()
		for _, o := range f.outcomes {
			if o.Command == id && pleases(o.Result) {
				f.mu.Unlock()
				return o, true
			}
		}
		f.mu.Unlock()
		if time.Now().After(end) || ctx.Err() != nil {
			return schemas.Outcome{}, false
		}
		select {
		case <-f.arrived:
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

// act publishes an operator's signed word.
func (f *Fleet) act(ctx context.Context, a *schemas.Act) error {
	a.ID, a.Time, a.By = fmt.Sprintf("act-%d", f.n.Add(1)), schemas.At(time.Now()), "lab"
	_, err := f.operator.Publish(ctx, streams.Out{Subject: streams.SubjectAct(a.Act), ID: a.ID, Msg: a})
	return err
}

// moveLimit is the time a move of the matrix has to switch over.
const moveLimit = 45 * time.Second

// order makes a command that may start now.
func (f *Fleet) order(ctx context.Context, from, to int) (*schemas.Command, error) {
	after := uint64(0)
	last, err := f.placer.LastUnder(ctx, streams.Migrations, "migrations.>")
	switch {
	case err == nil:
		after = last.Seq
	case !errors.Is(err, streams.ErrNotFound):
		return nil, err
	}
	now := schemas.At(time.Now())
	return &schemas.Command{ID: schemas.CommandID(fmt.Sprintf("c%d", f.n.Add(1))), Plan: "matrix", PlanHash: "00", VM: f.guest.ID, Name: f.guest.Name,
		Source: f.Lab.Hosts[from].ID, Destination: f.Lab.Hosts[to].ID, Issued: now, Expires: now.Add(moveLimit), Deadline: now.Add(moveLimit),
		AfterSeq: after, Reason: schemas.Reason{Code: schemas.ReasonOK}, MaxDowntime: 500}, nil
}

// send publishes a command as the placer does; id is the message's own.
func (f *Fleet) send(ctx context.Context, c *schemas.Command, id string) error {
	_, err := f.placer.Publish(ctx, streams.Out{Subject: streams.SubjectCommand(c.VM, c.Source, c.Destination), ID: id, Msg: c})
	return err
}

package actuator

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"sync"
	"time"

	"github.com/foreshift/foreshift/actuator/migration"
	"github.com/foreshift/foreshift/schemas"
)

// Receiver is this host as a destination: its libvirt behind its journal and the
// rules. It answers the same question twice with the same answer and does nothing
// twice. Requests for one VM are served one after the other.
type Receiver struct {
	host   Incoming
	j      *journal
	rules  *migration.Rules
	limits migration.Limits
	now    func() int64
	steady func() int64               // ns, by a clock that nobody sets
	step   func(schemas.VMID, string) // see [Config.Step]
	left   func(vm schemas.VMID, at string, files []string, why error)

	seed  maphash.Seed
	locks [64]sync.Mutex

	mu      sync.Mutex
	peer    *PeerConfig // nil: no peer-to-peer moves
	address string      // at which QEMU takes them in; empty: libvirt chooses

	finished map[schemas.VMID]finishReply
	undone   map[schemas.VMID]uint64 // epochs whose Finish3 has failed, with nothing left
	proofs   map[schemas.VMID]proof
	lives    map[schemas.VMID]lifeBase
}

// finishReply keeps Finish3's cookie for a request that comes again.
type finishReply struct {
	epoch uint64
	reply migration.Reply
}

// lifeBase is what a VM's counters were when it was first seen running here.
type lifeBase struct {
	at           int64
	cpu, balloon uint64
}

// Signs of life: least CPU time that counts, and how long "running" must hold to
// count by itself.
const (
	leastCPU = uint64(time.Millisecond)
	steady   = 10 * time.Second
)

func newReceiver(host Incoming, j *journal, rules *migration.Rules, limits migration.Limits, now func() int64) *Receiver {
	born := time.Now()
	return &Receiver{host: host, j: j, rules: rules, limits: limits, now: now, steady: func() int64 { return int64(time.Since(born)) }, seed: maphash.MakeSeed(),
		finished: map[schemas.VMID]finishReply{}, undone: map[schemas.VMID]uint64{}, proofs: map[schemas.VMID]proof{}, lives: map[schemas.VMID]lifeBase{}}
}

func (r *Receiver) lock(vm schemas.VMID) *sync.Mutex {
	return &r.locks[maphash.Bytes(r.seed, vm[:])%uint64(len(r.locks))]
}

// Observe says what is here.
func (r *Receiver) Observe(ctx context.Context, t migration.Ticket) (migration.Reply, error) {
	return r.serve(ctx, schemas.OpObserve, t, migration.Offer{}, r.now()+int64(time.Minute))
}

// Prepare makes an incoming guest.
func (r *Receiver) Prepare(ctx context.Context, t migration.Ticket, o migration.Offer) (migration.Reply, error) {
	return r.serve(ctx, schemas.OpPrepare, t, o, r.now()+int64(time.Minute))
}

// Finish makes it whole, and paused.
func (r *Receiver) Finish(ctx context.Context, t migration.Ticket, cookie []byte) (migration.Reply, error) {
	return r.serve(ctx, schemas.OpFinish, t, migration.Offer{Cookie: cookie}, r.now()+int64(time.Minute))
}

// Resume lets it run; from its durable intent on, only here.
func (r *Receiver) Resume(ctx context.Context, t migration.Ticket) (migration.Reply, error) {
	return r.serve(ctx, schemas.OpResume, t, migration.Offer{}, r.now()+int64(time.Minute))
}

// Release gives the epoch up for good.
func (r *Receiver) Release(ctx context.Context, t migration.Ticket) (migration.Reply, error) {
	return r.serve(ctx, schemas.OpRelease, t, migration.Offer{}, r.now()+int64(time.Minute))
}

// serve answers one request whose signatures have been verified.
func (r *Receiver) serve(ctx context.Context, op schemas.Op, t migration.Ticket, o migration.Offer, expires int64) (migration.Reply, error) {
	vm := t.VM()
	mu := r.lock(vm)
	mu.Lock()
	defer mu.Unlock()
	asked := r.now()
	seen, err := r.host.Observe(ctx, t)
	if err != nil {
		// Nothing has been done: to say so lets the source ask again at once.
		rec := r.j.record(vm)
		why := schemas.Reason{Code: schemas.ReasonLibvirt, Detail: fmt.Sprintf("%s: this host's libvirt does not answer, nothing was done: %v", op, err)}
		return migration.Reply{Why: why, Peer: migration.Peer{Fence: rec.Fence, Released: rec.Released, Resumed: rec.Resumed, Asked: asked}}, &migration.Refusal{Why: why}
	}
	here := r.here(vm, seen)
	noted := r.note(vm, here)
	ask := migration.Ask{Op: op, Epoch: t.Epoch, AfterSeq: t.Command.AfterSeq, Expires: expires, Command: int64(t.Command.Expires), Deadline: int64(t.Command.Deadline) + int64(r.limits.DiskTime(o.Copied()))}
	if ask.Peer = op == schemas.OpPrepare && o.Peer != nil; ask.Peer {
		here.Lock = r.prove(t, func() error { return r.host.Prove(ctx, o.Peer.Lease) })
	}
	steps, why := r.rules.Answer(r.j.record(vm), ask, here, asked, r.limits)
	if noted != nil {
		why = migration.ReasonOf(noted)
	}
	reply := migration.Reply{Seen: seen.Seen}
	if why.OK() && op == schemas.OpPrepare && len(steps) > 0 && o.XML != "" { // not of what is prepared already, nor by an older source
		if err = r.host.Fits(ctx, o.XML); err != nil {
			why = migration.ReasonOf(err)
		}
	}
	if why.OK() {
		reply, err = r.steps(ctx, t, o, ask, steps, reply)
		if err != nil {
			why = migration.ReasonOf(err)
		} else if len(steps) == 0 {
			reply, err = r.again(ctx, op, t, o, reply)
			why = migration.ReasonOf(err)
		}
	}
	if err != nil {
		// Say what is there now, not what was before.
		if now, lookErr := r.host.Observe(ctx, t); lookErr == nil {
			reply.Seen = now.Seen
			if noted = r.note(vm, r.here(vm, now)); noted != nil {
				why.Detail += "; " + noted.Error()
			}
		} else {
			reply.Copy = migration.Unreachable
		}
	}
	rec := r.j.record(vm)
	reply.Peer = migration.Peer{Fence: rec.Fence, Released: rec.Released, Resumed: rec.Resumed, Asked: asked}
	reply.Life = r.life(vm, reply.Seen)
	r.locked(t, o.Peer, &reply)
	if !why.OK() {
		reply.Why = why
		return reply, &migration.Refusal{Why: why}
	}
	return reply, nil
}

// again repeats the reply of something done before.
func (r *Receiver) again(ctx context.Context, op schemas.Op, t migration.Ticket, o migration.Offer, reply migration.Reply) (migration.Reply, error) {
	switch op {
	case schemas.OpPrepare:
		return r.host.Prepare(ctx, t, o) // bound to the epoch: the host has its own reply still
	case schemas.OpFinish:
		r.mu.Lock()
		f, ok := r.finished[t.VM()]
		r.mu.Unlock()
		if ok && f.epoch == t.Epoch {
			reply.Cookie, reply.Downtime, reply.Volume = f.reply.Cookie, f.reply.Downtime, f.reply.Volume
		}
	}
	return reply, nil
}

// steps carries out what was decided, in order; the first failure ends it.
func (r *Receiver) steps(ctx context.Context, t migration.Ticket, o migration.Offer, ask migration.Ask, steps []migration.Step, reply migration.Reply) (migration.Reply, error) {
	vm := t.VM()
	for _, s := range steps {
		var err error
		next := reply
		if r.step != nil {
			r.step(vm, "receive "+s.Kind.String())
		}
		switch s.Kind {
		case migration.Write:
			if err = r.clear(ctx, vm, s.Record.Dropped); err != nil {
				break
			}
			err = r.j.write(entry{VM: vm, Time: schemas.Time(r.now()), Record: &s.Record})
			if err != nil {
				err = &migration.Refusal{Why: schemas.Reason{Code: schemas.ReasonJournal, Detail: err.Error()}}
			}
		case migration.DoPrepare:
			if err = r.stillPrepare(ctx, t, ask); err != nil {
				break
			}
			if err = r.promise(ctx, t, o.Disks); err == nil {
				if next, err = r.host.Prepare(ctx, t, o); err != nil && migration.HowOf(err) == migration.Refused {
					err = errors.Join(err, r.forgo(vm)) // the host has taken back what it had made
				}
			}
		case migration.DoFinish:
			if next, err = r.host.Finish(ctx, t, o.Cookie); err == nil {
				r.mu.Lock()
				r.finished[vm] = finishReply{t.Epoch, next}
				r.mu.Unlock()
			} else if now, bad := r.host.Observe(ctx, t); bad == nil && now.Copy == migration.Absent && migration.HowOf(err) == migration.Refused {
				r.mu.Lock()
				r.undone[vm] = t.Epoch
				r.mu.Unlock()
			}
		case migration.DoResume:
			r.forget(vm)
			next, err = r.host.Resume(ctx, t)
		case migration.DoDrop:
			if err = r.stillDrop(ctx, t); err == nil {
				r.forget(vm)
				next, err = r.host.Release(ctx, t)
			}
		case migration.DoLeave:
			if f := r.j.made(vm); len(f.Paths) > 0 {
				// Told before it is written down: a crash between tells it twice.
				r.left(vm, "destination", f.Paths, fmt.Errorf("the copy of epoch %d may have been whole, and is gone: nobody knows whether it has run", f.Epoch))
				err = r.forgo(vm)
			}
		}
		if err != nil {
			return reply, fmt.Errorf("%s: %w", s.Kind, err)
		}
		if r.step != nil {
			r.step(vm, "receive "+s.Kind.String()+" done")
		}
		reply = next
	}
	return reply, nil
}

// stillPrepare looks once more before a guest is prepared.
func (r *Receiver) stillPrepare(ctx context.Context, t migration.Ticket, ask migration.Ask) error {
	vm := t.VM()
	seen, err := r.host.Observe(ctx, t)
	if err != nil {
		return err
	}
	here := r.here(vm, seen)
	why := r.rules.RecheckPrepare(r.j.record(vm), ask, here, r.now(), r.limits)
	return r.noted(vm, here, why)
}

// stillDrop looks once more before a copy is destroyed.
func (r *Receiver) stillDrop(ctx context.Context, t migration.Ticket) error {
	vm := t.VM()
	seen, err := r.host.Observe(ctx, t)
	if err != nil {
		return err
	}
	here := r.here(vm, seen)
	why := r.rules.RecheckDrop(r.j.record(vm), t.Epoch, here, r.now())
	return r.noted(vm, here, why)
}

// note writes down what a look has shown, whatever becomes of what it was for: a copy
// that was seen running may be gone by the next look, and then nothing tells it from one
// that died as it stood.
func (r *Receiver) note(vm schemas.VMID, here migration.Here) error {
	rec := r.j.record(vm)
	seen := rec.Seen(here)
	if seen == rec {
		return nil
	}
	if err := r.j.write(entry{VM: vm, Time: schemas.Time(r.now()), Record: &seen}); err != nil {
		return &migration.Refusal{Why: schemas.Reason{Code: schemas.ReasonJournal, Detail: err.Error()}}
	}
	return nil
}

// saw notes the state of a copy that this host has seen otherwise than for a request. Where
// one is being served its own look will tell: nobody waits for it.
func (r *Receiver) saw(vm schemas.VMID, c migration.Copy) error {
	mu := r.lock(vm)
	if !mu.TryLock() {
		return nil
	}
	defer mu.Unlock()
	return r.note(vm, migration.Here{Copy: c})
}

// noted is a refusal, if any, once what the look has shown is written down.
func (r *Receiver) noted(vm schemas.VMID, here migration.Here, why schemas.Reason) error {
	if err := r.note(vm, here); err != nil {
		return err
	}
	if !why.OK() {
		return &migration.Refusal{Why: why}
	}
	return nil
}

func (r *Receiver) here(vm schemas.VMID, seen migration.Reply) migration.Here {
	r.mu.Lock()
	undone := r.undone[vm]
	r.mu.Unlock()
	return migration.Here{Copy: seen.Copy, Incoming: seen.Incoming, Session: r.host.Session(vm), Undone: undone, Leads: r.j.leads(vm)}
}

// promise writes down which files are about to be made for a VM's disks, once it is
// sure that none of them is there and that there is room.
func (r *Receiver) promise(ctx context.Context, t migration.Ticket, disks []schemas.DiskCopy) error {
	if len(disks) == 0 {
		return nil
	}
	if err := r.host.Room(ctx, disks); err != nil {
		return err
	}
	f := files{Epoch: t.Epoch}
	for _, d := range disks {
		f.Paths = append(f.Paths, d.Path)
	}
	if err := r.j.write(entry{VM: t.VM(), Time: schemas.Time(r.now()), Files: &f}); err != nil {
		return &migration.Refusal{Why: schemas.Reason{Code: schemas.ReasonJournal, Detail: err.Error()}}
	}
	return nil
}

// clear deletes the files that were made for a move that is given up: before it is
// written down that its copy is surely gone.
func (r *Receiver) clear(ctx context.Context, vm schemas.VMID, dropped uint64) error {
	f := r.j.made(vm)
	if len(f.Paths) == 0 || dropped < f.Epoch {
		return nil
	}
	if err := r.host.Clear(ctx, f.Paths); err != nil {
		return err
	}
	return r.forgo(vm)
}

// forgo writes down that no file is here for a VM that may not run here.
func (r *Receiver) forgo(vm schemas.VMID) error {
	if len(r.j.made(vm).Paths) == 0 {
		return nil
	}
	return r.j.write(entry{VM: vm, Time: schemas.Time(r.now()), Files: &files{}})
}

func (r *Receiver) forget(vm schemas.VMID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.lives, vm)
	delete(r.finished, vm)
}

// life compares with what was seen first, by a clock that nobody sets: one that jumped
// ahead would have a dead guest run for long.
func (r *Receiver) life(vm schemas.VMID, s migration.Seen) migration.LifeSign {
	now := r.steady()
	r.mu.Lock()
	defer r.mu.Unlock()
	if s.Copy != migration.Running {
		delete(r.lives, vm)
		return migration.NoLife
	}
	base, ok := r.lives[vm]
	switch {
	case !ok:
		r.lives[vm] = lifeBase{now, s.CPU, s.Balloon}
	case s.Balloon > base.balloon:
		return migration.LifeBalloon
	case s.CPU >= base.cpu+leastCPU:
		return migration.LifeCPU
	case now-base.at >= int64(steady):
		return migration.LifeSteady
	}
	return migration.NoLife
}

// tend does the housekeeping of every VM this host is or was a destination of. It
// gives the first error of each, joined.
func (r *Receiver) tend(ctx context.Context) []error {
	var errs []error
	for _, vm := range r.j.received() {
		if ctx.Err() != nil {
			break
		}
		if err := r.tendOne(ctx, vm); err != nil {
			errs = append(errs, fmt.Errorf("tend %s: %w", vm, err))
		}
	}
	return errs
}

func (r *Receiver) tendOne(ctx context.Context, vm schemas.VMID) error {
	mu := r.lock(vm)
	mu.Lock()
	defer mu.Unlock()
	rec := r.j.record(vm)
	if !rec.Open() {
		return nil
	}
	t := migration.Ticket{Command: &schemas.Command{VM: vm}}
	seen, err := r.host.Observe(ctx, t)
	if err != nil {
		return err
	}
	here := r.here(vm, seen)
	if err := r.note(vm, here); err != nil {
		return err
	}
	epoch, steps := r.rules.Tend(r.j.record(vm), here, r.now(), r.limits)
	t.Epoch = epoch
	_, err = r.steps(ctx, t, migration.Offer{}, migration.Ask{}, steps, seen)
	return err
}

package actuator

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/foreshift/foreshift/actuator/libvirt"
	"github.com/foreshift/foreshift/actuator/migration"
	"github.com/foreshift/foreshift/schemas"
)

// StopGrace is how long a stopping actuator goes on with a move it must not leave.
const StopGrace = 20 * time.Second

// Limits of requests to the destination. A time-out means Unreachable.
const (
	lookLimit    = 3 * time.Second
	againLimit   = 5 * time.Second  // what may be asked again while the guest stands still
	requestLimit = 25 * time.Second // Prepare: a QEMU process starts
	progressTick = 500 * time.Millisecond
)

// Drive leads one move from its source: it asks [migration.Next] what to do, does
// it, and tells what came of it. It knows neither bus nor journal.
type Drive struct {
	Source      SourceHost
	Destination DestinationHost
	Ticket      migration.Ticket
	State       migration.State
	Started     schemas.Time
	Rules       *migration.Rules
	Now         func() int64
	Fence       func() uint64                                                   // this host's, from disk
	Mark        func(migration.Mark) error                                      // durably
	Copying     func([]schemas.DiskCopy) error                                  // durably, before any is copied; may be nil
	Progress    func(schemas.Progress)                                          // may be dropped
	Report      func(context.Context, schemas.Outcome) error                    // durably
	Locked      func() schemas.Reason                                           // peer to peer: whether this host's lock still holds; nil otherwise
	Abort       <-chan struct{}                                                 // closed: an operator asks
	Resolve     <-chan migration.Resolve                                        // an operator's word
	Rate        func() schemas.BytesPerSecond                                   // the move's share of its link now, 0 for none; may be nil
	Note        func(s migration.State, a migration.Action, why schemas.Reason) // for the log; may be nil

	// Step is [Config.Step].
	Step func(schemas.VMID, string)

	// crash, in tests, ends the drive as a killed process would: after the act.
	crash func(migration.Verb) bool

	o        migration.Observation
	offer    migration.Offer
	prepared migration.Reply
	sent     []byte // Perform3's cookie
	final    []byte // Finish3's cookie
	downtime schemas.Millis
	volume   schemas.Bytes
	rounds   int
	transfer chan performed
	paused   bool // suspended: no statistics any more
	phase    schemas.Phase
	told     int64
	last     migration.JobStats
	there    schemas.Reason         // of the destination's lock
	limit    schemas.BytesPerSecond // ceiling in force, 0 = none
	ports    []int                  // of the destination, that this move alone sends to
}

type performed struct {
	cookie []byte
	err    error
}

// Run goes on until the move has ended, or ctx has and the move may be left to the
// journal. It gives the state it left.
func (d *Drive) Run(ctx context.Context) migration.State {
	// Acts are not cut short by a stop, but by the grace after it.
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(StopGrace, cancel) })
	defer stop()
	d.transfer = make(chan performed, 1)
	d.limit = d.Ticket.Command.Bandwidth
	d.meet(ctx, work)
	for {
		if ctx.Err() != nil {
			d.o.Abort = true
			if work.Err() != nil {
				return d.State
			}
		}
		if d.State.Wait != migration.Perform || d.o.Did.Verb == migration.Perform {
			d.look(work)
		}
		d.o.Fence = d.Fence()
		d.lock()
		s, acts, why := d.Rules.Next(d.State, d.o, d.Now())
		d.State, d.o.Did = s, migration.Did{}
		if s.Stage == migration.Ended || s.Unknown && ctx.Err() != nil {
			return s
		}
		for _, a := range acts {
			if d.Note != nil {
				d.Note(s, a, why)
			}
			d.step(a.Verb.String())
			d.do(ctx, work, a)
			if a.Verb != migration.Perform {
				d.step(a.Verb.String() + " done")
			}
			if d.crash != nil && d.crash(a.Verb) {
				return d.State
			}
		}
		if d.State.Wait == migration.Perform {
			d.watch(ctx, work)
		}
	}
}

// step calls the fail point, where there is one.
func (d *Drive) step(label string) {
	if d.Step != nil {
		d.Step(d.Ticket.VM(), label)
	}
}

// meet looks at the destination before anything is done. One that does not answer
// may just be restarting: nothing is at stake yet, so it is asked a few times.
func (d *Drive) meet(ctx, work context.Context) {
	for try := 0; ; try++ {
		d.note(d.ask(work, migration.Observe))
		d.o.Did = migration.Did{}
		if d.o.Destination != migration.Unreachable || d.State.Stage != migration.Accepted || try == 3 || d.o.Abort {
			return
		}
		d.rest(ctx, 300*time.Millisecond)
	}
}

// lock sees what has become of both hosts' disk locks, where libvirt leads.
func (d *Drive) lock() {
	if d.Locked == nil {
		return
	}
	if d.o.Lock = d.Locked(); d.o.Lock.OK() {
		d.o.Lock = d.there
	}
}

// look sees the source's own copy.
func (d *Drive) look(ctx context.Context) {
	seen, err := d.Source.Observe(ctx, d.Ticket.VM())
	if err != nil {
		d.o.Source = migration.Unreachable
		return
	}
	d.o.Source, d.o.Foreign, d.o.Job.Active, d.o.PostCopy = seen.Copy, seen.Foreign, seen.Job, seen.PostCopy
}

// do does one act and notes how it ended.
func (d *Drive) do(ctx, work context.Context, a migration.Action) {
	if a.After > 0 {
		d.rest(ctx, a.After)
	}
	d.lock() // this process may have stood still
	d.State, a = d.Rules.Recheck(d.State, d.o, a, d.Now())
	d.tell(a.Verb)
	vm := d.Ticket.VM()
	var err error
	switch a.Verb {
	case migration.Perform:
		d.paused = false
		go func() {
			cookie, err := d.Source.Perform(work, d.Ticket, d.prepared)
			d.transfer <- performed{cookie, err}
		}()
		return
	case migration.Abort:
		err = d.Source.Abort(work, vm)
		if d.State.Wait == migration.Perform {
			return // Perform will tell
		}
	case migration.Drop:
		d.Source.Drop(vm)
		return
	case migration.Widen:
		// One that is refused leaves the narrower downtime; the transfer goes on.
		if err := d.Source.SetDowntime(work, vm, a.Downtime); err != nil && d.Note != nil {
			d.Note(d.State, a, migration.ReasonOf(err))
		}
		return
	case migration.PostCopy:
		err := d.Source.StartPostCopy(work, vm)
		if err != nil && migration.HowOf(err) == migration.Refused {
			d.o.NoWish = err.Error()
		}
		if err != nil && d.Note != nil {
			d.Note(d.State, a, migration.ReasonOf(err)) // unclear: it may have begun
		}
		return
	case migration.Begin:
		if d.offer, err = d.Source.Begin(work, d.Ticket); err == nil {
			if size := len(d.offer.XML) + len(d.offer.Cookie); size > migration.MaxMessage || len(d.offer.XML) > schemas.MaxHandOver || len(d.offer.Cookie) > schemas.MaxHandOver {
				err = &migration.Refusal{Why: schemas.Reason{Code: schemas.ReasonTooLarge, Detail: fmt.Sprintf("XML and cookie have %d and %d bytes, a request takes %d of each and %d together",
					len(d.offer.XML), len(d.offer.Cookie), schemas.MaxHandOver, migration.MaxMessage)}}
				// Begin3 did succeed: its protection must go.
				err = errors.Join(err, d.Source.Abort(work, vm))
			}
		}
		if err == nil {
			d.o.Disks, d.o.Wish, d.o.NoWish = d.offer.Copied(), d.offer.WantsPostCopy, d.offer.NoPostCopy
			if len(d.offer.Disks) > 0 && d.Copying != nil {
				if err = d.Copying(d.offer.Disks); err != nil {
					err = errors.Join(&migration.Refusal{Why: schemas.Reason{Code: schemas.ReasonJournal, Detail: err.Error()}}, d.Source.Abort(work, vm))
				}
			}
		}
	case migration.HandOver:
		if len(d.sent) > schemas.MaxHandOver {
			err = &migration.Refusal{Why: schemas.Reason{Code: schemas.ReasonTooLarge, Detail: fmt.Sprintf("Perform3's cookie has %d bytes", len(d.sent))}}
		} else if err = d.Mark(migration.MarkHanded); err != nil {
			err = &migration.Refusal{Why: schemas.Reason{Code: schemas.ReasonJournal, Detail: err.Error()}}
		}
	case migration.Confirm:
		err = d.Source.Confirm(work, vm, d.final)
	case migration.Destroy:
		err = d.Source.Destroy(work, vm)
	case migration.TakeBack:
		err = d.Source.Resume(work, vm)
	case migration.Report:
		err = d.Report(work, d.outcome(a))
	default:
		d.note(d.ask(work, a.Verb))
		return
	}
	d.o.Did = migration.Did{Verb: a.Verb, How: migration.HowOf(err), Why: migration.ReasonOf(err)}
}

// answered is a reply of the destination with how the request ended.
type answered struct {
	verb  migration.Verb
	reply migration.Reply
	err   error
}

// ask sends one request to the destination.
func (d *Drive) ask(ctx context.Context, v migration.Verb) answered {
	limit := againLimit
	switch v {
	case migration.Observe:
		limit = lookLimit
	case migration.Prepare:
		limit = requestLimit
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	a := answered{verb: v}
	switch v {
	case migration.Observe:
		a.reply, a.err = d.Destination.Observe(ctx, d.Ticket)
	case migration.Prepare:
		a.reply, a.err = d.Destination.Prepare(ctx, d.Ticket, d.offer)
	case migration.Finish:
		a.reply, a.err = d.Destination.Finish(ctx, d.Ticket, d.sent)
	case migration.Resume:
		a.reply, a.err = d.Destination.Resume(ctx, d.Ticket)
	case migration.Release:
		a.reply, a.err = d.Destination.Release(ctx, d.Ticket)
	}
	return a
}

// note takes a reply into the observation, and keeps what later acts need of it.
func (d *Drive) note(a answered) {
	d.o = d.o.Hear(a.verb, a.reply, a.err)
	r := a.reply
	if d.o.Did.How != migration.Unknown && !r.Lock.OK() {
		d.there = r.Lock // once lost, it stays so for this move
	}
	if a.err != nil {
		return
	}
	switch a.verb {
	case migration.Prepare:
		d.prepared, d.ports = r, libvirt.Ports(r.URI, r.Cookie)
		if d.o.NoWish == "" {
			d.o.NoWish = r.NoPostCopy
		}
	case migration.Finish:
		d.final = r.Cookie
	}
	if r.Downtime > 0 {
		d.downtime = r.Downtime
	}
	if r.Volume > 0 {
		d.volume = r.Volume
	}
}

// rest waits, or until something happens that Next should know at once.
func (d *Drive) rest(ctx context.Context, after time.Duration) {
	t := time.NewTimer(after)
	defer t.Stop()
	abort, stop := d.Abort, ctx.Done()
	if d.o.Abort {
		abort, stop = nil, nil
	}
	select {
	case <-t.C:
	case <-stop:
		d.o.Abort = true
	case <-abort:
		d.o.Abort = true
	case r := <-d.Resolve:
		d.o.Resolve = r
	}
}

// watch follows the transfer: until it ends, an event asks for attention, or it is
// time to look at its deadline.
func (d *Drive) watch(ctx, work context.Context) {
	vm := d.Ticket.VM()
	t := time.NewTimer(progressTick)
	defer t.Stop()
	abort, stop := d.Abort, ctx.Done()
	if d.o.Abort {
		abort, stop = nil, nil
	}
	select {
	case p := <-d.transfer:
		d.step("perform done")
		d.sent = p.cookie
		d.o.Did = migration.Did{Verb: migration.Perform, How: migration.HowOf(p.err), Why: migration.ReasonOf(p.err)}
		return
	case <-abort:
		d.o.Abort = true
		return
	case <-stop:
		d.o.Abort = true
		return
	case e, ok := <-d.Source.Events(vm):
		if ok && e.Suspended {
			d.paused, d.o.Job.Active = true, false
			d.step("switchover")
			d.publish(schemas.PhaseSwitchover, true)
			return
		}
		if ok && e.Round > 0 {
			d.last.Round = e.Round
			d.rounds = max(d.rounds, e.Round)
		}
	case <-t.C:
	}
	if d.paused || d.Now()-d.told < int64(progressTick) {
		return
	}
	if d.State.Peer {
		d.note(d.ask(work, migration.Observe)) // libvirt needs us for nothing: there is time to watch the other's lock
		d.o.Did = migration.Did{}
	}
	if j, err := d.Source.Stats(work, vm); err == nil && j.Active {
		if j.Disk {
			d.step("disk")
		} else {
			d.step("pre-copy")
		}
		d.last, d.o.Job = j, j
		d.follow(work) // not before: Perform itself sets the command's ceiling
		d.rounds, d.volume = max(d.rounds, j.Round), max(d.volume, j.Processed)
		phase := schemas.PhasePreCopy
		if j.Disk {
			phase = schemas.PhaseDisk
		}
		d.publish(phase, false)
	}
}

// phases are what people are told of an act.
var phases = map[migration.Verb]schemas.Phase{
	migration.Begin: schemas.PhaseAccepted, migration.Prepare: schemas.PhasePrepare, migration.Perform: schemas.PhasePreCopy,
	migration.HandOver: schemas.PhaseHandOver, migration.Finish: schemas.PhaseFinish, migration.Resume: schemas.PhaseResume,
	migration.Confirm: schemas.PhaseConfirm, migration.Destroy: schemas.PhaseConfirm, migration.TakeBack: schemas.PhaseRollback,
	migration.Release: schemas.PhaseRollback,
}

func (d *Drive) tell(v migration.Verb) {
	if p, ok := phases[v]; ok {
		d.publish(p, p != d.phase)
	}
}

// publish tells of the move: on a change of phase, else at most twice a second.
func (d *Drive) publish(p schemas.Phase, always bool) {
	now := d.Now()
	if !always && d.told <= now && now-d.told < int64(progressTick) || d.Progress == nil {
		return
	}
	d.phase, d.told = p, now
	j := d.last
	d.Progress(schemas.Progress{
		Command: d.Ticket.Command.ID, Epoch: d.Ticket.Epoch, VM: d.Ticket.VM(), Host: d.Ticket.Command.Source, Time: schemas.Time(now),
		Phase: p, Round: j.Round, Total: j.Total, Processed: j.Processed, Remaining: j.Remaining, Speed: j.Speed, DirtyRate: j.DirtyRate,
		Limit: d.limit, Ports: d.ports, Elapsed: schemas.Seconds(time.Duration(now - int64(d.Started)).Seconds()),
	})
}

// outcome is the report as it goes on the VM's record.
func (d *Drive) outcome(a migration.Action) schemas.Outcome {
	c, now := d.Ticket.Command, d.Now()
	runs := schemas.HostID("")
	switch {
	case d.o.Source == migration.Running && d.o.Destination != migration.Running && d.o.Destination != migration.Unreachable:
		runs = c.Source
	case d.o.Destination == migration.Running && d.o.Source != migration.Running && d.o.Source != migration.Unreachable:
		runs = c.Destination
	case d.o.Resolve == migration.RunsAtSource && a.Result != schemas.ResultUnknown:
		runs = c.Source
	case d.o.Resolve == migration.RunsAtDestination && a.Result != schemas.ResultUnknown:
		runs = c.Destination
	}
	if a.Result != schemas.ResultRefused {
		phase := schemas.PhaseDone
		if a.Result == schemas.ResultUnknown {
			phase = schemas.PhaseUnknown
		}
		d.publish(phase, true)
	}
	return schemas.Outcome{
		Command: c.ID, Epoch: d.Ticket.Epoch, VM: c.VM, Host: c.Source, Source: c.Source, Destination: c.Destination, Time: schemas.Time(now),
		Result: a.Result, Reason: a.Why, RunsAt: runs, SourceSeen: d.o.Source.String(), DestSeen: d.o.Destination.String(), LifeSign: string(d.o.Life),
		Started: d.Started, Duration: schemas.Seconds(max(0, time.Duration(now-int64(d.Started)).Seconds())), Downtime: d.downtime, Volume: d.volume,
		Rounds: d.rounds, Predicted: c.Predicted,
	}
}

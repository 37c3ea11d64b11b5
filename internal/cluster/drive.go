package cluster

import (
	"errors"
	"time"

	"github.com/foreshift/foreshift/actuator/migration"
	"github.com/foreshift/foreshift/schemas"
)

// drive leads one move from its source, as actuator.Drive does: it asks
// [migration.Rules.Next] what to do, does it, and tells what came of it.
type drive struct {
	a       *actuator
	g       *guest
	f       *fact
	r       moveRecord
	s       migration.State
	o       migration.Observation
	started int64
	abort   bool
	resolve migration.Resolve
	done    *error // how Perform ended, until it is looked at
	paused  bool   // in switchover: no statistics any more
	rounds  int
	nap     int // of the newest wait
	awake   func()
	saw     int64 // truth: when the question was put whose answer is the newest
	over    bool
	ending  bool
	lockd   int            // life of this host's lock daemon, where libvirt leads
	there   schemas.Reason // why the destination's lock does not hold any more
}

// lead starts a drive.
func (a *actuator) lead(g *guest, r moveRecord, s migration.State) {
	d := &drive{a: a, g: g, f: r.f, r: r, s: s, started: r.started, lockd: a.h.lockd.born}
	if a.moves[g.index] == nil {
		a.leading++
	}
	a.moves[g.index] = d
	r.f.drive = d
	a.w.starts(r.f)
	a.later(0, func() { d.meet(0) })
}

// meet looks at the destination before anything is done.
func (d *drive) meet(try int) {
	if try == 0 && d.s.Stage == migration.Accepted {
		d.a.w.twisted(d.a, d.f, "accept")
	}
	d.ask(migration.Observe, func() {
		d.o.Did = migration.Did{}
		if d.o.Destination != migration.Unreachable || d.s.Stage != migration.Accepted || try == 3 || d.abort {
			d.turn()
			return
		}
		d.rest(300*time.Millisecond, func() { d.meet(try + 1) })
	})
}

// turn is one decision and what follows from it.
func (d *drive) turn() {
	a, w := d.a, d.a.w
	if d.over {
		return
	}
	if d.s.Wait != migration.Perform || d.o.Did.Verb == migration.Perform {
		if seen, err := a.h.look(d.g); err != nil {
			d.o.Source = migration.Unreachable
		} else {
			d.o.PostCopy = seen.PostCopy
			d.o.Source, d.o.Foreign, d.o.Job.Active = seen.Copy, seen.Foreign, seen.Job || d.s.Peer && d.g.at(a.h).job != nil
		}
	}
	d.o.Fence, d.o.Abort, d.o.Resolve, d.o.Lock = a.journal.fence(d.g), d.abort, d.resolve, d.lock()
	was := d.s.Stage
	s, acts, why := w.rules.Next(d.s, d.o, a.clock())
	d.s, d.o.Did = s, migration.Did{}
	if s.Stage != was {
		w.say(a.name, d.g, "epoch %d: %s, then %s (source %s, destination %s) %s", s.Epoch, was, s.Stage, d.o.Source, d.o.Destination, why)
	}
	if s.Stage == migration.Ended {
		d.end()
		return
	}
	if len(acts) == 0 {
		d.watch()
		return
	}
	act := acts[0]
	if act.After > 0 {
		d.rest(act.After, func() { d.do(act) })
		return
	}
	d.do(act)
}

func (d *drive) end() {
	d.over = true
	d.nap++
	d.a.h.disconnect(d.g) // an ended move holds nothing any more
	d.a.moves[d.g.index] = nil
	d.a.leading--
}

// step is a labelled place at which anything may be killed or stopped.
func (d *drive) step(verb migration.Verb, after bool) bool {
	w := d.a.w
	if w.calm {
		return true
	}
	label := verb.String()
	if after {
		label += " done"
	}
	w.twisted(d.a, d.f, label)
	return !w.steps.odds(w.mix.step) || w.strike(d, label)
}

// do carries out one act, and hears how it ended.
func (d *drive) do(act migration.Action) {
	a, w := d.a, d.a.w
	if !d.step(act.Verb, false) {
		return
	}
	if a.stopped > w.now { // the strike was a stop
		a.later(0, func() { d.do(act) })
		return
	}
	d.o.Lock = d.lock()
	d.s, act = w.rules.Recheck(d.s, d.o, act, a.clock())
	switch act.Verb {
	case migration.Begin, migration.Confirm, migration.Destroy:
		w.fresh(d, act.Verb)
	case migration.Perform:
		w.entrusted(d)
	}
	if act.Verb != migration.Observe {
		w.say(a.name, d.g, "epoch %d: %s %s (source %s, destination %s)", d.s.Epoch, act.Verb, act.Result, d.o.Source, d.o.Destination)
	}
	conn := a.gen
	local := func(lag time.Duration, effect func() error) {
		a.later(w.hyper.between(time.Millisecond, 3*time.Millisecond), func() {
			err := errGone
			if a.h.answers() {
				err = effect()
			}
			a.later(w.hyper.between(lag/2, lag), func() { d.did(act.Verb, err) })
		})
	}
	switch act.Verb {
	case migration.Perform:
		d.perform()
	case migration.Abort:
		if d.s.Wait == migration.Perform {
			a.later(2*time.Millisecond, func() {
				if a.h.answers() {
					_ = a.h.abort(d.g, conn) // Perform will tell
				}
				d.watch()
			})
			return
		}
		local(10*time.Millisecond, func() error { return a.h.abort(d.g, conn) })
	case migration.Drop:
		a.h.disconnect(d.g)
		d.watch()
	case migration.Widen:
		d.watch()
	case migration.PostCopy:
		if d.s.Peer {
			if j := d.g.at(a.h).job; j != nil && a.h.answers() && !j.postCopy() {
				d.o.NoWish = "libvirt did not begin it"
			}
			d.watch()
			return
		}
		w.violate("I3", d.g, "%s asks for post-copy in a paused handover: a cut link would lose the VM", a.name)
	case migration.Begin:
		w.began(d)
		local(30*time.Millisecond, func() error { return d.begin(conn) })
	case migration.HandOver:
		d.mark(migration.MarkHanded, func(err error) { d.did(act.Verb, err) })
	case migration.Confirm:
		local(time.Second, func() error { return a.h.confirm(d.g, conn) })
	case migration.Destroy:
		local(500*time.Millisecond, func() error {
			if !w.calm && w.hyper.odds(w.mix.endFails) {
				return errRefuse
			}
			return a.h.destroy(d.g)
		})
	case migration.TakeBack:
		local(40*time.Millisecond, func() error { return a.h.start(d.g, "taken back by its source") })
	case migration.Report:
		d.report(act)
	default:
		d.ask(act.Verb, func() { d.after(act.Verb) })
	}
}

// begin is Begin3, and what it finds to go along.
func (d *drive) begin(conn int) error {
	h := d.a.h
	if d.s.Peer { // libvirt begins and ends it by itself
		if d.g.local && !h.w.without("shared-disks") {
			return errLocal
		}
		d.o.Wish = d.g.index%2 == 0
		if h.site != d.a.w.byHost[d.f.c.Destination].site {
			d.o.NoWish = "a link between sites that is cut would lose the VM"
		}
		return nil
	}
	if err := h.begin(d.g, conn); err != nil {
		return err
	}
	d.o.Disks = d.g.disks()
	if err := d.copying(); err != nil {
		if errors.Is(err, errDied) {
			return err // nobody is left to hear it
		}
		_ = h.abort(d.g, conn) // its protection must go; the guest runs on either way
		return &migration.Refusal{Why: schemas.Reason{Code: schemas.ReasonJournal, Detail: err.Error()}}
	}
	return nil
}

// did notes how a local act ended.
func (d *drive) did(v migration.Verb, err error) {
	d.o.Did = migration.Did{Verb: v, How: migration.HowOf(err), Why: migration.ReasonOf(err)}
	d.after(v)
}

func (d *drive) after(v migration.Verb) {
	if d.step(v, true) {
		d.turn()
	}
}

// perform begins the transfer and watches it.
func (d *drive) perform() {
	a := d.a
	gen := a.gen
	d.paused, d.done = false, nil
	dst := a.w.byHost[d.f.c.Destination]
	a.later(2*time.Millisecond, func() {
		tell := func(err error) {
			a.resume(gen, func() {
				d.done = &err
				if d.awake != nil {
					d.awake()
				}
			})
		}
		if d.s.Peer {
			d.performPeer(tell)
		} else {
			a.h.perform(d.g, dst, d.s.Epoch, gen, tell)
		}
		d.watch()
	})
}

// watch waits until the transfer ends, somebody says something, or a look is due.
func (d *drive) watch() {
	if d.s.Wait != migration.Perform {
		d.rest(time.Millisecond, d.turn)
		return
	}
	var ended func()
	ended = func() {
		if d.done != nil {
			err := *d.done
			d.done = nil
			d.o.Did = migration.Did{Verb: migration.Perform, How: migration.HowOf(err), Why: migration.ReasonOf(err)}
			d.after(migration.Perform)
			return
		}
		if d.s.Peer { // the other's lock is watched
			d.ask(migration.Observe, func() {
				d.o.Did = migration.Did{}
				if d.done != nil {
					ended()
					return
				}
				d.stats()
				d.turn()
			})
			return
		}
		d.stats()
		d.turn()
	}
	if d.done != nil {
		ended()
		return
	}
	d.rest(statsEvery, ended)
}

// stats reads how the transfer gets on.
func (d *drive) stats() {
	j := d.g.at(d.a.h).job
	if j == nil || !d.a.h.answers() {
		return
	}
	if j.still {
		d.o.Job.Active = false
		return
	}
	d.rounds++
	if d.a.w.now < j.disk {
		d.o.Job = migration.JobStats{Active: true, Disk: true, Total: diskSize, Elapsed: time.Duration(d.a.w.now - j.began)}
		return
	}
	spent := float64(d.a.w.now - j.began)
	left := 1e9
	if !j.endless {
		left = 1e9 * max(.02, 1-spent/float64(max(j.copied-j.began, 1)))
	}
	d.o.Job = migration.JobStats{Active: true, Round: d.rounds, Total: 1e9, Speed: 1e8, Processed: schemas.Bytes(spent), Remaining: schemas.Bytes(left), Elapsed: time.Duration(spent)}
}

// rest waits so long, or until something happens that must be known at once.
func (d *drive) rest(how time.Duration, then func()) {
	d.nap++
	nap := d.nap
	wake := func() {
		if d.nap == nap && !d.over {
			d.nap++
			d.awake = nil
			then()
		}
	}
	d.awake = wake
	d.a.later(how, wake)
}

// told is an operator's word on this move.
func (d *drive) told(s *schemas.Act) {
	switch {
	case s.Act == schemas.ActAbort:
		d.abort = true
	case s.RunsAt == "":
		return
	case s.RunsAt == d.a.h.id:
		d.resolve = migration.RunsAtSource
	case s.RunsAt == d.f.c.Destination:
		d.resolve = migration.RunsAtDestination
	default:
		d.resolve = migration.RunsElsewhere
	}
	if d.awake != nil {
		d.a.later(0, d.awake)
	}
}

// mark writes how far the move has come.
func (d *drive) mark(m migration.Mark, then func(error)) {
	a := d.a
	r := d.r
	r.mark, r.written = m, a.clock()
	switch err := a.journal.write(entry{g: d.g, move: &r}); {
	case errors.Is(err, errDied):
	case err != nil:
		a.later(time.Millisecond, func() {
			then(&migration.Refusal{Why: schemas.Reason{Code: schemas.ReasonJournal, Detail: err.Error()}})
		})
	default:
		d.r = r
		a.later(a.w.disk.between(time.Millisecond, 8*time.Millisecond), func() { then(nil) })
	}
}

// report puts the outcome on the record, then in the journal.
func (d *drive) report(act migration.Action) {
	a, w, c := d.a, d.a.w, d.f.c
	if d.r.outcome == nil {
		w.reported(d, act.Result)
	}
	o := &schemas.Outcome{Command: c.ID, Epoch: d.s.Epoch, VM: c.VM, Host: a.h.id, Source: c.Source, Destination: c.Destination, Time: schemas.Time(a.clock()),
		Result: act.Result, Reason: act.Why, SourceSeen: d.o.Source.String(), DestSeen: d.o.Destination.String(), LifeSign: string(d.o.Life), Predicted: c.Predicted}
	if act.Result == schemas.ResultSucceeded {
		o.RunsAt = c.Destination
	} else if d.o.Source == migration.Running {
		o.RunsAt = c.Source
	}
	if act.Result != schemas.ResultUnknown {
		d.ending = true
		if d.r.outcome == nil { // written down before it is told
			r := d.r
			r.outcome = o
			if err := a.journal.write(entry{g: d.g, move: &r}); errors.Is(err, errDied) {
				return
			}
			d.r.outcome = o // told all the same when it could not be
		}
		o = d.r.outcome
	}
	a.record(o, func(ok bool) {
		if !ok {
			d.did(migration.Report, migration.ErrUnclear)
			return
		}
		if err := d.discard(act.Result); err != nil {
			d.did(migration.Report, err)
			return
		}
		r := d.r
		if act.Result == schemas.ResultUnknown {
			r.unknown = true
		} else {
			r.mark, r.written = migration.MarkEnded, a.clock()
		}
		switch err := a.journal.write(entry{g: d.g, move: &r}); {
		case errors.Is(err, errDied):
			return
		case err != nil:
			d.did(migration.Report, err)
			return
		}
		d.r = r
		d.did(migration.Report, nil)
	})
}

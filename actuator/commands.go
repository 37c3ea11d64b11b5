package actuator

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/foreshift/foreshift/actuator/migration"
	"github.com/foreshift/foreshift/schemas"
	"github.com/foreshift/foreshift/streams"
)

// move is one move this host leads.
type move struct {
	id      schemas.CommandID
	vm      schemas.VMID
	to      schemas.HostID
	started schemas.Time
	abort   chan struct{}
	resolve chan migration.Resolve
	ending  bool // its outcome is being published: the VM is free in a moment
}

// catchUp is how long a new actuator waits for its first heartbeat before it
// refuses for want of one: the acts may not have been read yet, and the next heartbeat
// comes within 5 s.
const catchUp = 8 * time.Second

// judge judges a command and, when it may start, starts it. The command is
// acknowledged once the journal holds what was decided. With a time to wait nothing was
// decided; the reason is why it waits for its share.
func (a *Actuator) judge(ctx context.Context, c *schemas.Command, r *streams.Received, held schemas.Reason) (streams.Verdict, wait) {
	a.judging.Lock()
	defer a.judging.Unlock()
	none := wait{}
	order := r.Signed()
	f := a.facts(ctx, c, order)
	on := migration.Occasion{Young: f.Now-a.began < int64(a.cfg.catchUp), Ending: a.ending(c.VM)}
	if g, ok := a.j.seen(c.ID); ok {
		on.Judged = &migration.Judged{Seq: g.seq, Why: g.why}
	}
	switch is := a.rules.Rule(f, on); is.Fate {
	case migration.Forget:
		return streams.Ack(), none
	case migration.Later:
		return streams.Verdict{}, wait{is.After, held}
	case migration.Refuse:
		if is.Why.Code == schemas.ReasonExpired && held.Code != "" {
			is.Why = schemas.Reason{Code: held.Code, Detail: "it expired while it waited: " + held.Detail}
		}
		if is.Remember {
			if err := a.j.write(entry{VM: c.VM, Time: schemas.Time(f.Now), Fence: r.Seq, Spare: is.Spare, ID: c.ID, Why: &is.Why}); err != nil {
				a.logOf(c.ID, c.VM).Error("refusal not recorded", "err", err)
				return streams.Retry(time.Second), none
			}
		}
		return a.refuse(ctx, c, r.Seq, f, is.Why), none
	}
	if why := a.shares.hold(c, f.Now); !why.OK() {
		return streams.Verdict{}, wait{holdEvery, why}
	}
	t := migration.Ticket{Command: c, Epoch: r.Seq, Order: order}
	if a.cfg.Peer != nil {
		lead, err := a.cfg.Peer.lead(c.VM)
		if err != nil {
			return a.refuse(ctx, c, r.Seq, f, migration.ReasonOf(err)), none
		}
		t.Lead = lead
	}
	rec := moveRecord{Mark: migration.MarkAccepted, Written: f.Now, Epoch: r.Seq, Started: schemas.Time(f.Now), Command: c, Order: order, Peer: t.Lead != nil}
	// It runs here: that may be news to what this host knows as an earlier destination of it.
	err := a.receiver.saw(c.VM, f.Source)
	if err == nil {
		err = a.j.write(entry{VM: c.VM, Time: rec.Started, Fence: r.Seq, ID: c.ID, Move: &rec})
	}
	if err != nil {
		why := schemas.Reason{Code: schemas.ReasonJournal, Detail: err.Error()}
		return a.refuse(ctx, c, r.Seq, f, why), none
	}
	s := migration.Start(r.Seq, deadline(c), f.Now, a.limits)
	s.MaxDowntime, s.Peer = c.MaxDowntime, t.Lead != nil
	a.start(ctx, t, rec, s)
	return streams.Ack(), none
}

// logOf names the move in every line: "trace" is the trace id of its command, by which
// the lines of both hosts and the traceparent of every message of the move are found.
func (a *Actuator) logOf(id schemas.CommandID, vm schemas.VMID) *slog.Logger {
	return a.log.With("trace", streams.TraceID(string(id)), "command", id, "vm", vm)
}

func (a *Actuator) ending(vm schemas.VMID) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	m := a.moves[vm]
	return m == nil || m.ending
}

// deadline of a move: the command's own.
func deadline(c *schemas.Command) int64 { return int64(c.Deadline) }

// facts gathers what the rules judge by. The clock is read last.
func (a *Actuator) facts(ctx context.Context, c *schemas.Command, order schemas.Signed) migration.Facts {
	f := migration.Facts{Command: c, Seq: order.Sequence, Host: a.cfg.Host, Fence: a.j.fence(c.VM)}
	if err := a.cfg.Authorities.VerifyCommand(order); err != nil {
		f.Signature = streams.ReasonOf(err)
	} else if order.Subject != streams.SubjectCommand(c.VM, c.Source, c.Destination) {
		f.Signature = schemas.Reason{Code: schemas.ReasonInvalid, Detail: "subject and command do not agree"}
	}
	_, f.Seen = a.j.seen(c.ID)
	a.mu.Lock()
	pulse := a.acts.pulse
	f.Heartbeat, f.Paused = pulse.At, a.acts.pausing.Paused
	_, f.Moving = a.moves[c.VM]
	f.Busy = len(a.moves) >= a.cfg.MaxMoves
	a.mu.Unlock()
	if f.Signature.OK() {
		look, cancel := context.WithTimeout(ctx, lookLimit)
		defer cancel()
		if seen, err := a.source.Observe(look, c.VM); err == nil {
			f.Source, f.Foreign = seen.Copy, seen.Job
		}
	}
	if f.Peer = a.cfg.Peer != nil; f.Peer {
		f.Lock = a.cfg.Peer.lockState(c.VM)
	}
	f.Now, f.Silence = a.now(), pulse.Silence(a.steady())
	return f
}

// refuse puts the refusal on the VM's record.
func (a *Actuator) refuse(ctx context.Context, c *schemas.Command, seq uint64, f migration.Facts, why schemas.Reason) streams.Verdict {
	a.logOf(c.ID, c.VM).Info("command refused", "epoch", seq, "why", why.String())
	err := a.publish(ctx, schemas.Outcome{
		Command: c.ID, Epoch: seq, VM: c.VM, Host: a.cfg.Host, Source: c.Source, Destination: c.Destination, Time: schemas.Time(a.now()),
		Result: schemas.ResultRefused, Reason: why, SourceSeen: f.Source.String(), Predicted: c.Predicted,
	})
	if err != nil {
		a.logOf(c.ID, c.VM).Warn("refusal not published yet", "err", err)
		return streams.Retry(time.Second)
	}
	return streams.Ack()
}

// publish puts an outcome on the VM's record. Outcomes must land: a lost race is
// run again with the record read anew.
func (a *Actuator) publish(ctx context.Context, o schemas.Outcome) error {
	o.Reason = bounded(o.Reason)
	if o.Reason.Code == "" {
		o.Reason.Code = schemas.ReasonOK
	}
	out := streams.Out{Subject: streams.SubjectOutcome(o.VM, o.Host), ID: fmt.Sprintf("%s.%d.%s", o.Command, o.Epoch, o.Result), Msg: &o}
	for try := 0; ; try++ {
		expect := &streams.Expect{Filter: streams.RecordOf(o.VM)}
		last, err := a.bus.LastUnder(ctx, streams.Migrations, expect.Filter)
		switch {
		case err == nil:
			expect.Seq = last.Seq
		case !errors.Is(err, streams.ErrNotFound):
			return fmt.Errorf("outcome of %s: %w", o.Command, err)
		}
		out.Expect = expect
		_, err = a.bus.Publish(ctx, out)
		if err == nil {
			a.met.outcomes.WithLabelValues(string(o.Result), string(o.Reason.Code)).Inc()
			return nil
		}
		if !errors.Is(err, streams.ErrLostRace) || try >= 20 || ctx.Err() != nil {
			return fmt.Errorf("outcome of %s: %w", o.Command, err)
		}
	}
}

// recover takes up a move that the journal holds open.
func (a *Actuator) recover(ctx context.Context, rec moveRecord) {
	a.logOf(rec.Command.ID, rec.Command.VM).Info("move taken up from the journal", "epoch", rec.Epoch, "mark", rec.Mark)
	t := migration.Ticket{Command: rec.Command, Epoch: rec.Epoch, Order: rec.Order}
	s := migration.Recover(rec.Mark, rec.Epoch, rec.Unknown, rec.Written, deadline(rec.Command)+int64(a.limits.DiskTime(rec.Copied)), a.now(), a.limits)
	s.Peer = rec.Peer
	if o := rec.Outcome; o != nil {
		s = s.Decide(o.Result, o.Reason)
	}
	a.start(ctx, t, rec, s)
}

// start drives a move in a goroutine of its own.
func (a *Actuator) start(ctx context.Context, t migration.Ticket, rec moveRecord, s migration.State) {
	c := t.Command
	m := &move{id: c.ID, vm: c.VM, to: c.Destination, started: rec.Started, abort: make(chan struct{}), resolve: make(chan migration.Resolve, 1)}
	a.mu.Lock()
	a.moves[c.VM] = m
	a.mu.Unlock()
	log := a.logOf(c.ID, c.VM).With("name", c.Name, "epoch", t.Epoch, "destination", c.Destination)
	write := func(change func(*moveRecord)) error {
		change(&rec)
		copied := rec
		return a.j.write(entry{VM: c.VM, Time: schemas.Time(a.now()), Move: &copied})
	}
	if rec.Unknown {
		a.met.unknown.Inc()
	}
	// Telling people must not lengthen the switchover: it has a goroutine of its own.
	news := make(chan schemas.Progress, 8)
	a.wg.Add(1)
	go func() {
		defer a.wg.Done()
		for p := range news {
			a.progress(ctx, p)
		}
	}()
	d := &Drive{
		Source: a.source, Destination: &remote{a.bus, a.cfg.Authorities, a.cfg.Host, c.Destination, a.now}, Ticket: t, State: s, Started: rec.Started,
		Rules: a.rules, Step: a.cfg.Step, Now: a.now, Abort: m.abort, Resolve: m.resolve,
		Rate:  func() schemas.BytesPerSecond { return a.shares.rate(c.ID, a.now()) },
		Fence: func() uint64 { return a.j.fence(c.VM) },
		Mark: func(k migration.Mark) error {
			return write(func(r *moveRecord) { r.Mark, r.Written = k, a.now() })
		},
		Copying: func(disks []schemas.DiskCopy) error {
			return write(func(r *moveRecord) {
				r.Copied, r.Files = 0, nil
				for _, x := range disks {
					r.Copied, r.Files = r.Copied+x.Capacity, append(r.Files, x.Path)
				}
			})
		},
		Progress: func(p schemas.Progress) {
			a.met.inPhase(p.Command, p.Phase)
			select {
			case news <- p:
			default: // the bus is slow: the next will do
			}
		},
		Report: func(ctx context.Context, o schemas.Outcome) error {
			if o.Result != schemas.ResultUnknown {
				a.mu.Lock()
				m.ending = true
				a.mu.Unlock()
			}
			told := o
			if o.Result != schemas.ResultUnknown {
				// Written down before it is told: whoever starts again tells the same, and does
				// not ask a host that the VM may have left since.
				if rec.Outcome == nil {
					if err := write(func(r *moveRecord) { r.Outcome = &o }); err != nil {
						log.Warn("outcome not recorded, told all the same", "err", err)
					}
				}
				told = *rec.Outcome
			}
			if err := a.publish(ctx, told); err != nil {
				return errors.Join(migration.ErrUnclear, err)
			}
			if err := a.discard(ctx, o, rec.Files); err != nil {
				return err
			}
			log.Info("outcome", "result", o.Result, "why", o.Reason.String(), "runs_at", o.RunsAt, "downtime_ms", o.Downtime, "seconds", o.Duration)
			if o.Result == schemas.ResultUnknown {
				a.met.unknown.Inc()
				return write(func(r *moveRecord) { r.Unknown = true })
			}
			a.met.seconds.Observe(float64(o.Duration))
			return write(func(r *moveRecord) { r.Mark, r.Written = migration.MarkEnded, a.now() })
		},
		Note: func(s migration.State, act migration.Action, why schemas.Reason) {
			log.Debug("next", "stage", s.Stage.String(), "act", act.Verb.String(), "why", why.String())
		},
	}
	if rec.Peer && a.cfg.Peer != nil {
		d.Locked = a.cfg.Peer.heldFor(d.Ticket.VM())
	}
	if a.cfg.crash != nil {
		d.crash = a.cfg.crash
	}
	a.wg.Add(1)
	go func() {
		defer a.wg.Done()
		defer close(news)
		end := d.Run(ctx)
		a.source.Drop(c.VM) // an ended move holds nothing any more
		if rec.Peer && a.cfg.Peer != nil {
			if err := a.cfg.Peer.end(c.VM); err != nil {
				log.Warn("the lease of the trial is left", "err", err)
			}
		}
		if end.Stage != migration.Ended {
			log.Warn("move left to the journal", "stage", end.Stage.String())
		}
		if rec.Unknown {
			a.met.unknown.Dec()
		}
		a.mu.Lock()
		delete(a.moves, c.VM)
		a.mu.Unlock()
	}()
}

// discard deletes the files of disks that went along with a VM, once the move has
// succeeded: then it runs there, lives, and is gone here. A file that cannot be
// deleted, or of which this is not seen any more, is left for a person, and counted;
// when nobody knows it is tried again.
func (a *Actuator) discard(ctx context.Context, o schemas.Outcome, files []string) error {
	if o.Result != schemas.ResultSucceeded || len(files) == 0 {
		return nil
	}
	err := fmt.Errorf("source %s, destination %s", o.SourceSeen, o.DestSeen)
	if o.SourceSeen == migration.Absent.String() && o.DestSeen == migration.Running.String() {
		err = a.source.Discard(ctx, files)
	}
	if err != nil && migration.HowOf(err) == migration.Unknown {
		return err
	}
	if err != nil {
		a.left(o.VM, "source", files, err)
	}
	return nil
}

// left tells a person of disk files that are not this host's to delete.
func (a *Actuator) left(vm schemas.VMID, at string, files []string, why error) {
	a.met.leftFiles.Add(float64(len(files)))
	a.log.Warn("disk files are left at the "+at+": see the runbook", "vm", vm, "files", files, "err", why)
}

// progress is telemetry: one that is lost is replaced by the next.
func (a *Actuator) progress(ctx context.Context, p schemas.Progress) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	id := fmt.Sprintf("%s.%d.%d", p.Command, p.Epoch, p.Time)
	if _, err := a.bus.Publish(ctx, streams.Out{Subject: streams.SubjectProgress(p.VM), ID: id, Msg: &p}); err != nil {
		a.logOf(p.Command, p.VM).Warn("progress not published", "err", err)
	}
}

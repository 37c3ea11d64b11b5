package cluster

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/foreshift/foreshift/actuator/migration"
	"github.com/foreshift/foreshift/schemas"
	"github.com/foreshift/foreshift/streams"
)

// Times of the real shell.
const (
	catchUp      = 8 * time.Second
	tendEvery    = 5 * time.Second
	lookLimit    = 3 * time.Second
	againLimit   = 5 * time.Second
	requestLimit = 25 * time.Second
	statsEvery   = 2 * time.Second // the real one looks twice a second
)

// maxMoves is how many moves a host leads at a time here: low, so that it is met.
const maxMoves = 2

// actuator is the process of one host. Its decisions are those of package migration;
// what is here is the shell around them: goroutines turned into events.
type actuator struct {
	process
	h       *host
	journal journal
	began   int64
	moves   []*drive // under way, by guest
	leading int
	served  []bool     // by guest: a request is being served
	queue   [][]func() // by guest: requests that wait
	lives   []lifeBase // by guest
	undone  []uint64   // by guest: epoch whose Finish3 has failed, with nothing left
	proofs  []proof    // by guest: of the disk lock, as a destination
	pulse   migration.Pulse
	old     bool // the heartbeat being heard was there before
	pausing migration.Pausing
	heard   int64 // truth: when the pause in force reached this process
	busy    bool  // a command is being judged
	waiting []*delivery
}

// lifeBase is what a guest's counters were when it was first seen running here.
type lifeBase struct {
	at  int64
	cpu uint64
}

func newActuator(w *world, h *host) *actuator {
	a := &actuator{process: process{w: w, name: "actuator " + string(h.id), node: h.index}, h: h}
	a.journal.a = a
	return a
}

// start is the process's beginning: journal, consumers, and what was left open.
func (a *actuator) start() {
	if a.up {
		return
	}
	w, n := a.w, len(a.w.guests)
	a.gen++
	a.up, a.stopped = true, 0
	a.moves, a.leading = make([]*drive, n), 0
	a.served, a.queue, a.lives, a.undone = make([]bool, n), make([][]func(), n), make([]lifeBase, n), make([]uint64, n)
	a.proofs = make([]proof, n)
	a.pulse, a.pausing, a.heard, a.busy, a.waiting = migration.Pulse{}, migration.Pausing{}, 0, false, nil
	a.journal.open()
	a.began = a.clock()
	d := w.nats.durable[a.h.id]
	d.process, d.gen, d.work = &a.process, a.gen, a.take
	a.readActs()
	a.askPaused()
	a.tend()
	a.tendLoop()
	for i := range a.journal.mem.moves {
		if m := &a.journal.mem.moves[i]; m.mark != "" && m.mark != migration.MarkEnded {
			a.recover(w.guests[i], *m)
		}
	}
}

// readActs reads all acts of operators before the first heartbeat: without one nothing
// starts, so that no command is judged before the pauses are known. All, for a forged
// act must not hide a genuine one before it.
func (a *actuator) readActs() {
	w, st := a.w, a.w.nats.streams[streams.Acts]
	a.later(w.net.between(10*time.Millisecond, 500*time.Millisecond), func() {
		if !w.nats.present() || !w.links.reaches(a.node) {
			a.later(w.net.between(500*time.Millisecond, time.Second), a.readActs)
			return
		}
		from := st.last + 1
		for _, m := range w.nats.acts {
			if !w.without("acts-from-all") || st.lastOf[m.subject] == m {
				a.act(m)
			}
		}
		a.old = true
		for _, m := range a.before(st.lastOf[heartbeatSubject]) {
			a.act(m)
		}
		a.old = false
		st.follow(&a.process, from, nil, nil, a.act)
	})
}

// before are the heartbeats of a while, up to the last one: by this host's clock, which may
// be wrong.
func (a *actuator) before(last *message) (out []*message) {
	since := a.clock() - int64(migration.HeardFor)
	for m := last; m != nil && m.at >= since; m = m.prev {
		if out = append(out, m); a.w.without("heartbeats-before") {
			break
		}
	}
	slices.Reverse(out)
	return out
}

// kill ends the process; it starts again by itself.
func (a *actuator) kill(why string) {
	if !a.up {
		return
	}
	a.die(why)
	a.startAfter(a.w.steps.between(200*time.Millisecond, 15*time.Second))
}

func (a *actuator) die(why string) {
	if !a.up {
		return
	}
	a.w.say(a.name, nil, "dies: %s", why)
	a.up = false
	a.gen++
	for _, g := range a.w.guests {
		a.h.disconnect(g)
	}
}

func (a *actuator) startAfter(d time.Duration) {
	gen := a.gen
	a.w.after(d, func() {
		if a.gen == gen && !a.up {
			a.w.say(a.name, nil, "starts again")
			a.start()
		}
	})
}

// act folds one act, if its signature holds.
func (a *actuator) act(m *message) {
	s, ok := m.msg.(*schemas.Act)
	if !ok || a.w.keys.event(m) != nil {
		a.w.counts.Forged++
		return
	}
	switch s.Act {
	case schemas.ActHeartbeat:
		if a.w.without("heartbeat-not-ahead") {
			a.pulse.At = max(a.pulse.At, m.at)
			return
		}
		b := migration.Beat{Seq: m.seq, Stored: m.at, Signed: int64(s.Time), Old: a.old}
		if a.w.without("heartbeat-anew") {
			b.Signed += int64(m.seq) // so that none seems to be known
		}
		a.pulse = a.pulse.Hear(b, a.clock(), a.w.now)
	case schemas.ActPause, schemas.ActResume:
		a.switchTo(a.pausing.Hear(pausingOf(m)), m)
	case schemas.ActAbort, schemas.ActResolve:
		for _, d := range a.moves {
			if d != nil && (s.Command == d.f.c.ID || s.Command == "" && s.VM == d.f.c.VM && int64(s.Time) >= d.started) {
				d.told(s)
			}
		}
	}
}

func pausingOf(m *message) migration.Pausing {
	s, _ := m.msg.(*schemas.Act)
	return migration.Pausing{Seq: m.seq, Stored: m.at, Paused: s != nil && s.Act == schemas.ActPause}
}

// switchTo pauses new moves, or lets them go on, by what a message says.
func (a *actuator) switchTo(p migration.Pausing, m *message) {
	if p == a.pausing {
		return
	}
	a.pausing, a.heard = p, 0
	if p.Paused {
		a.heard = a.w.now
	}
	if m.signer == keyHostile {
		a.w.violate("I8", nil, "%s heeds a word on new moves that no operator has signed: %s", a.name, m.subject)
	}
}

// askPaused asks for the operators' last word on new moves at times. A forged one is no
// answer, and a replica that is behind knows only the one before.
func (a *actuator) askPaused() {
	w, st := a.w, a.w.nats.streams[streams.Acts]
	a.later(migration.PausingEvery, func() {
		defer a.askPaused()
		if w.without("pause-anew") || !w.nats.present() || !w.links.reaches(a.node) {
			return
		}
		var last *message
		for _, kind := range []schemas.ActKind{schemas.ActPause, schemas.ActResume} {
			m := st.lastOf[streams.SubjectAct(kind)]
			if m != nil && w.now < w.nats.stale {
				m = m.prev
			}
			if m != nil && w.keys.event(m) != nil {
				return
			}
			if m != nil && (last == nil || m.seq > last.seq) {
				last = m
			}
		}
		if last != nil {
			a.switchTo(a.pausing.Anew(pausingOf(last)), last)
		}
	})
}

// take gets a command; they are judged one after the other.
func (a *actuator) take(x *delivery) {
	if a.busy {
		a.waiting = append(a.waiting, x)
		return
	}
	a.busy = true
	a.command(x)
}

func (a *actuator) judged(x *delivery, v verdict) {
	x.answer(v)
	a.busy = false
	if len(a.waiting) > 0 {
		next := a.waiting[0]
		a.waiting = a.waiting[1:]
		a.busy = true
		a.later(0, func() { a.command(next) })
	}
}

// command judges one command and starts it when it may.
func (a *actuator) command(x *delivery) {
	m := x.m
	c, ok := m.msg.(*schemas.Command)
	if !ok {
		a.judged(x, verdict{what: reject})
		return
	}
	g := a.w.byVM[c.VM]
	if g == nil {
		a.judged(x, verdict{what: reject})
		return
	}
	a.later(a.w.hyper.between(time.Millisecond, 20*time.Millisecond), func() {
		f := a.facts(m, c, g)
		on := migration.Occasion{Young: f.Now-a.began < int64(catchUp), Ending: a.moves[g.index] == nil || a.moves[g.index].ending}
		if j, ok := a.journal.mem.ids[c.ID]; ok {
			on.Judged = &j
		}
		if a.w.without("ack-after-journal") {
			x.answer(verdict{what: ack})
			a.later(a.w.disk.between(0, 50*time.Millisecond), func() { a.ruled(x, c, g, f, a.w.rules.Rule(f, on)) })
			return
		}
		a.ruled(x, c, g, f, a.w.rules.Rule(f, on))
	})
}

func (a *actuator) ruled(x *delivery, c *schemas.Command, g *guest, f migration.Facts, is migration.Ruling) {
	m := x.m
	switch is.Fate {
	case migration.Forget:
		a.judged(x, verdict{what: ack})
	case migration.Later:
		a.judged(x, verdict{retry, is.After})
	case migration.Refuse:
		if is.Remember {
			e := entry{g: g, fence: m.seq, id: c.ID, seq: m.seq, why: &is.Why}
			if is.Spare {
				e.fence = 0
			}
			switch err := a.journal.write(e); err {
			case nil:
			case errDied:
				return
			default:
				a.judged(x, verdict{retry, time.Second})
				return
			}
		}
		a.refuse(x, c, g, f, is.Why)
	default:
		a.w.admitted(a, m, &f)
		r := moveRecord{mark: migration.MarkAccepted, written: f.Now, epoch: m.seq, started: f.Now, peer: f.Peer, f: a.w.factOf(m)}
		var err error
		if !a.served[g.index] {
			err = a.note(g, migration.Here{Copy: f.Source})
		}
		if err == nil {
			err = a.journal.write(entry{g: g, fence: m.seq, id: c.ID, seq: m.seq, move: &r})
		}
		switch {
		case err == nil:
		case errors.Is(err, errDied):
			return
		default:
			a.refuse(x, c, g, f, schemas.Reason{Code: schemas.ReasonJournal, Detail: err.Error()})
			return
		}
		s := migration.Start(m.seq, int64(c.Deadline), f.Now, migration.DefaultLimits())
		s.MaxDowntime, s.Peer = c.MaxDowntime, f.Peer
		a.w.say(a.name, g, "command %s accepted, epoch %d: to %s", c.ID, m.seq, c.Destination)
		a.lead(g, r, s)
		a.judged(x, verdict{what: ack})
	}
}

// facts gathers what the rules judge by; the clock is read last.
func (a *actuator) facts(m *message, c *schemas.Command, g *guest) migration.Facts {
	f := migration.Facts{Command: c, Seq: m.seq, Host: a.h.id, Fence: a.journal.fence(g), Heartbeat: a.pulse.At, Silence: a.pulse.Silence(a.w.now), Paused: a.pausing.Paused, Busy: a.leading >= maxMoves}
	if a.w.without("heartbeat-not-ahead") {
		f.Silence = 0
	}
	if err := a.w.keys.command(m.signed(), a.clock()); err != nil {
		f.Signature = streams.ReasonOf(err)
		if f.Signature.OK() || f.Signature.Code == schemas.ReasonInvalid {
			f.Signature = schemas.Reason{Code: schemas.ReasonBadSignature, Detail: err.Error()}
		}
	} else if m.subject != streams.SubjectCommand(c.VM, c.Source, c.Destination) {
		f.Signature = schemas.Reason{Code: schemas.ReasonInvalid, Detail: "subject and command do not agree"}
	}
	_, f.Seen = a.journal.mem.ids[c.ID]
	f.Moving = a.moves[g.index] != nil
	if f.Signature.OK() {
		if seen, err := a.h.look(g); err == nil {
			f.Source, f.Foreign = seen.Copy, seen.Job
		}
	}
	if f.Peer = a.w.mix.peer; f.Peer {
		f.Lock = a.h.lockState(a.h.lockd.born)
	}
	f.Now = a.clock()
	return f
}

// refuse puts the refusal on the VM's record.
func (a *actuator) refuse(x *delivery, c *schemas.Command, g *guest, f migration.Facts, why schemas.Reason) {
	a.w.say(a.name, g, "command %s refused: %s", c.ID, why)
	a.record(&schemas.Outcome{Command: c.ID, Epoch: x.m.seq, VM: c.VM, Host: a.h.id, Source: c.Source, Destination: c.Destination, Time: schemas.Time(a.clock()),
		Result: schemas.ResultRefused, Reason: why, SourceSeen: f.Source.String(), Predicted: c.Predicted}, func(ok bool) {
		if !ok {
			a.judged(x, verdict{retry, time.Second})
			return
		}
		a.judged(x, verdict{what: ack})
	})
}

// record puts an outcome on the VM's record: a lost race is run again with the record
// read anew.
func (a *actuator) record(o *schemas.Outcome, then func(bool)) {
	if o.Reason.Code == "" {
		o.Reason.Code = schemas.ReasonOK
	}
	m := out{key: keyOfHost(a.h.id), Out: streams.Out{Subject: streams.SubjectOutcome(o.VM, o.Host), ID: fmt.Sprintf("%s.%d.%s", o.Command, o.Epoch, o.Result), Msg: o}}
	var try func(int)
	try = func(n int) {
		filter := streams.RecordOf(o.VM)
		a.w.lastUnder(&a.process, streams.Migrations, filter, func(last *message, ok bool) {
			if !ok {
				then(false)
				return
			}
			m.Expect = &streams.Expect{Filter: filter}
			if last != nil {
				m.Expect.Seq = last.seq
			}
			a.w.publish(&a.process, m, func(_ uint64, f failure) {
				switch {
				case f == stored:
					then(true)
				case f == lostRace && n < 20:
					try(n + 1)
				default:
					then(false)
				}
			})
		})
	}
	try(0)
}

// recover takes up a move that the journal holds open.
func (a *actuator) recover(g *guest, r moveRecord) {
	a.w.say(a.name, g, "move of epoch %d taken up from the journal: %s", r.epoch, r.mark)
	s := migration.Recover(r.mark, r.epoch, r.unknown, r.written, int64(r.f.c.Deadline)+int64(migration.DefaultLimits().DiskTime(r.copied)), a.clock(), migration.DefaultLimits())
	if s.Peer = r.peer; r.outcome != nil {
		s = s.Decide(r.outcome.Result, r.outcome.Reason)
	}
	a.lead(g, r, s)
}

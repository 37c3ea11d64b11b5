package cluster

import (
	"errors"
	"time"

	"github.com/foreshift/foreshift/actuator/migration"
	"github.com/foreshift/foreshift/schemas"
	"github.com/foreshift/foreshift/streams"
)

// request is one of the handover, from the leading actuator to the destination's.
type request struct {
	op      schemas.Op
	g       *guest
	f       *fact // whose command is inside
	order   schemas.Signed
	epoch   uint64
	from    *host
	to      *host
	expires int64  // by the asker's clock
	sent    int64  // truth
	signer  string // whose key signed it
	forged  bool   // the signature does not hold
	nonce   uint64
	disks   bool // of Prepare: the disk goes along
	peer    bool // of Prepare: libvirt shall lead
	answer  func(*reply)
}

// reply answers it.
type reply struct {
	migration.Reply
	from   *host
	epoch  uint64
	nonce  uint64
	signer string
	err    error // the refusal
}

var ops = map[migration.Verb]schemas.Op{
	migration.Observe: schemas.OpObserve, migration.Prepare: schemas.OpPrepare, migration.Finish: schemas.OpFinish,
	migration.Resume: schemas.OpResume, migration.Release: schemas.OpRelease,
}

// ask sends one request to the destination and takes in what it says, or that it says
// nothing in time.
func (d *drive) ask(v migration.Verb, then func()) {
	a, w := d.a, d.a.w
	limit := againLimit
	switch v {
	case migration.Observe:
		limit = lookLimit
	case migration.Prepare:
		limit = requestLimit
	}
	asked := a.clock()
	w.n++
	q := &request{op: ops[v], g: d.g, f: d.f, order: d.f.msg.signed(), epoch: d.s.Epoch, from: a.h, to: w.byHost[d.f.c.Destination],
		expires: asked + int64(limit), sent: w.now, signer: keyOfHost(a.h.id), nonce: w.n, disks: v == migration.Prepare && d.g.local, peer: v == migration.Prepare && d.s.Peer}
	over, gen, sent := false, a.gen, w.now
	hear := func(r migration.Reply, err error) {
		if over {
			return
		}
		over = true
		r.Peer.Asked = asked
		if d.o = d.o.Hear(v, r, err); d.o.Did.How != migration.Unknown {
			d.saw = sent
			if d.there.OK() {
				d.there = r.Lock
			}
		}
		then()
	}
	q.answer = func(r *reply) {
		a.resume(gen, func() {
			if over {
				return
			}
			if err := d.verified(q, r); err != nil {
				hear(migration.Reply{}, err)
				return
			}
			hear(r.Reply, r.err)
		})
	}
	w.leaning(d, q.op)
	w.remember(q)
	w.lie(q)
	w.deliver(&a.process, q)
	a.later(limit, func() { hear(migration.Reply{}, migration.ErrUnclear) })
}

// verified proves that the reply is the peer's and answers this request.
func (d *drive) verified(q *request, r *reply) error {
	w := d.a.w
	if r.signer != keyOfHost(q.to.id) && !w.without("reply-signature") {
		return migration.ErrUnclear
	}
	if (r.nonce != q.nonce || r.epoch != q.epoch || r.from != q.to) && !w.without("reply-nonce") {
		return migration.ErrUnclear
	}
	if r.signer == keyHostile {
		w.violate("I8", q.g, "%s believes a reply that %s has not signed", d.a.name, q.to.id)
	}
	if r.nonce != q.nonce {
		w.violate("I8", q.g, "%s takes an old reply for the answer to %s(%d)", d.a.name, q.op, q.epoch)
	}
	return nil
}

// deliver brings a request to its host by way of NATS; nothing keeps it.
func (w *world) deliver(p *process, q *request) {
	w.links.toNATS(p.node, func() {
		if !w.nats.present() {
			return
		}
		to := q.to.act
		w.links.fromNATS(to.node, func() {
			gen := to.gen
			to.resume(gen, func() { to.serve(q) })
		})
	})
}

// proven checks the request's signature and, with this host's own eyes, the placer's on
// the command inside.
func (a *actuator) proven(q *request) error {
	w, c, k := a.w, q.f.c, a.w.keys
	refuse := func(code schemas.ReasonCode, detail string) error {
		return &migration.Refusal{Why: schemas.Reason{Code: code, Detail: detail}}
	}
	if (q.forged || q.signer != keyOfHost(q.from.id)) && !w.without("request-signature") {
		return refuse(schemas.ReasonBadSignature, "the request is not signed by "+string(q.from.id))
	}
	err := k.genuine(q.order)
	if q.op == schemas.OpPrepare {
		err = k.command(q.order, a.clock())
	}
	if err != nil {
		return &migration.Refusal{Why: streams.ReasonOf(err)}
	}
	switch {
	case (q.to != a.h || c.Destination != a.h.id) && !w.without("request-host"):
		return refuse(schemas.ReasonWrongHost, "the request is not for this host")
	case (c.Source != q.from.id || c.VM != q.g.id) && !w.without("request-agrees"):
		return refuse(schemas.ReasonInvalid, "request and command do not agree")
	case (q.order.Sequence != q.epoch || c.AfterSeq >= q.epoch) && !w.without("request-epoch"):
		return refuse(schemas.ReasonEpoch, "the epoch is not the command's sequence")
	case c.Run != "" && !w.without("request-replay"):
		return refuse(schemas.ReasonReplay, "the command comes from replay "+c.Run)
	}
	return nil
}

// serve answers a request: requests for one VM are served one after the other.
func (a *actuator) serve(q *request) {
	i := q.g.index
	if a.served[i] {
		if len(a.queue[i]) < 32 {
			a.queue[i] = append(a.queue[i], func() { a.serve(q) })
		}
		return
	}
	if err := a.proven(q); err != nil {
		a.w.counts.Forged++
		a.reply(q, migration.Reply{}, err)
		a.serveNext(i)
		return
	}
	a.served[i] = true
	r := &receiving{a: a, q: q, g: q.g, epoch: q.epoch}
	a.later(a.w.hyper.between(time.Millisecond, 4*time.Millisecond), r.begin)
}

func (a *actuator) free(g *guest) {
	a.served[g.index] = false
	a.serveNext(g.index)
}

func (a *actuator) serveNext(i int) {
	if q := a.queue[i]; len(q) > 0 {
		a.queue[i] = q[1:]
		a.later(0, q[0])
	}
}

func (a *actuator) reply(q *request, r migration.Reply, err error) {
	w := a.w
	if q.answer == nil {
		return
	}
	p := &reply{Reply: r, from: a.h, epoch: q.epoch, nonce: q.nonce, signer: keyOfHost(a.h.id), err: err}
	w.replied(q, p)
	w.links.toNATS(a.node, func() {
		if w.nats.present() {
			w.links.fromNATS(q.from.index, func() { q.answer(p) })
		}
	})
}

// receiving is one request being served, as actuator.Receiver does.
type receiving struct {
	a     *actuator
	q     *request
	g     *guest
	epoch uint64 // that is asked for, or tended
	ask   migration.Ask
	reply migration.Reply
	steps []migration.Step
	on    int
}

func (r *receiving) begin() {
	a, q, w := r.a, r.q, r.a.w
	asked := a.clock()
	seen, err := a.h.look(r.g)
	if err != nil {
		why := schemas.Reason{Code: schemas.ReasonLibvirt, Detail: string(q.op) + ": this host's libvirt does not answer, nothing was done"}
		r.answer(&migration.Refusal{Why: why})
		return
	}
	r.reply.Seen = seen
	here := a.here(r.g, seen)
	switch err := a.note(r.g, here); {
	case errors.Is(err, errDied):
		return
	case err != nil:
		r.answer(err)
		return
	}
	r.ask = migration.Ask{Op: q.op, Epoch: q.epoch, AfterSeq: q.f.c.AfterSeq, Expires: q.expires, Command: int64(q.f.c.Expires), Deadline: int64(q.f.c.Deadline)}
	ask := &r.ask
	if q.disks {
		ask.Deadline += int64(migration.DefaultLimits().DiskTime(r.g.disks()))
	}
	if ask.Peer = q.peer; q.peer {
		here.Lock = a.prove(q)
	}
	steps, why := w.rules.Answer(a.journal.record(r.g), *ask, here, asked, migration.DefaultLimits())
	if !why.OK() {
		w.say(a.name, r.g, "refuses %s(%d): %s", q.op, q.epoch, why)
		r.answer(&migration.Refusal{Why: why})
		return
	}
	w.answering(a, q, *ask, steps, asked)
	r.steps = steps
	r.next()
}

func (a *actuator) here(g *guest, seen migration.Seen) migration.Here {
	h := migration.Here{Copy: seen.Copy, Incoming: seen.Incoming, Undone: a.undone[g.index], Leads: a.leads(g)}
	if c := g.at(a.h); c.conn == a.gen && c.incoming {
		h.Session = c.session
	}
	return h
}

// leads reports whether this host's journal holds a move of the VM that has not ended.
func (a *actuator) leads(g *guest) bool {
	m := a.journal.mem.moves[g.index].mark
	return m != "" && m != migration.MarkEnded
}

// next carries out the next step; the first failure ends it.
func (r *receiving) next() {
	a, w, g := r.a, r.a.w, r.g
	if r.on == len(r.steps) {
		r.answer(nil)
		return
	}
	s := r.steps[r.on]
	r.on++
	w.twisted(a, r.move(), "receive "+s.Kind.String())
	if !w.calm && w.steps.odds(w.mix.step) && !w.strikeAt(a, g, "receive "+s.Kind.String()) {
		return
	}
	if s.Kind == migration.Write {
		rec := s.Record
		err := r.clear(rec.Dropped)
		if err == nil {
			err = a.journal.write(entry{g: g, record: &rec})
		}
		switch err {
		case nil:
			a.later(w.disk.between(time.Millisecond, 8*time.Millisecond), r.next)
		case errDied:
		case errDisk:
			r.answer(&migration.Refusal{Why: schemas.Reason{Code: schemas.ReasonJournal, Detail: err.Error()}})
		default:
			r.answer(err)
		}
		return
	}
	if s.Kind == migration.DoLeave {
		if a.journal.mem.files[g.index] != 0 {
			a.h.leave(g) // told before it is written down, so that a crash between tells it twice
			if err := r.note(0); err != nil {
				if !errors.Is(err, errDied) {
					r.answer(err)
				}
				return
			}
		}
		a.later(time.Millisecond, r.next)
		return
	}
	lag := 60 * time.Millisecond
	if s.Kind == migration.DoPrepare {
		lag = 1500 * time.Millisecond
	}
	a.later(2*time.Millisecond, func() {
		err := errGone
		if a.h.answers() {
			err = r.effect(s.Kind)
		}
		a.later(w.hyper.between(lag/4, lag), func() {
			if err != nil {
				r.answer(err)
				return
			}
			r.next()
		})
	})
}

// move is the one whose handover is asked for, nil when the host tends.
func (r *receiving) move() *fact {
	if r.q == nil {
		return nil
	}
	return r.q.f
}

// effect is what one step does to this host's libvirt.
func (r *receiving) effect(k migration.StepKind) error {
	a, g, w := r.a, r.g, r.a.w
	asked, epoch := int64(0), uint64(0)
	if r.q != nil {
		asked, epoch = r.q.sent, r.q.epoch
	}
	switch k {
	case migration.DoPrepare:
		seen, err := a.h.look(g)
		if err != nil {
			return err
		}
		here := a.here(g, seen)
		why := w.rules.RecheckPrepare(a.journal.record(g), r.ask, here, a.clock(), migration.DefaultLimits())
		if err := a.noted(g, here, why); err != nil {
			return err
		}
		if err := r.promise(); err != nil {
			return err
		}
		err = a.h.prepare(g, epoch, a.gen, r.q.disks)
		if err != nil && migration.HowOf(err) == migration.Refused && a.journal.mem.files[g.index] != 0 {
			if bad := r.note(0); bad != nil { // the host has taken back what it had made
				return bad
			}
		}
		return err
	case migration.DoFinish:
		err := a.h.finish(g, epoch, a.gen)
		if err != nil && migration.HowOf(err) == migration.Refused && g.at(a.h).state == migration.Absent {
			a.undone[g.index] = epoch
		}
		return err
	case migration.DoResume:
		a.lives[g.index] = lifeBase{}
		if !w.calm && w.hyper.odds(w.mix.resumeFails) {
			w.counts.fault(8)
			return errRefuse
		}
		return a.h.start(g, "resumed by its destination")
	default:
		seen, err := a.h.look(g)
		if err != nil {
			return err
		}
		here := a.here(g, seen)
		why := w.rules.RecheckDrop(a.journal.record(g), r.epoch, here, a.clock())
		if err := a.noted(g, here, why); err != nil {
			return err
		}
		a.lives[g.index] = lifeBase{}
		return a.h.release(g, epoch, asked)
	}
}

// answer says what is there now; whose result nobody knows, is not answered.
func (r *receiving) answer(err error) {
	a, g := r.a, r.g
	if r.q == nil {
		a.free(g)
		return
	}
	if err != nil && migration.HowOf(err) == migration.Unknown {
		a.w.say(a.name, g, "%s(%d) not carried out: its result is unknown, no answer", r.q.op, r.q.epoch)
		a.free(g)
		return
	}
	if seen, bad := a.h.look(g); bad == nil {
		r.reply.Seen = seen
		if bad := a.note(g, a.here(g, seen)); errors.Is(bad, errDied) {
			return
		} else if err == nil {
			err = bad
		}
	} else {
		r.reply.Copy = migration.Unreachable
	}
	if r.reply.Copy == migration.Running {
		g.heard = a.w.now
	}
	rec := a.journal.record(g)
	r.reply.Peer = migration.Peer{Fence: rec.Fence, Released: rec.Released, Resumed: rec.Resumed}
	r.reply.Life, r.reply.Lock = a.life(g, r.reply.Seen), a.held(g, r.q.epoch)
	a.reply(r.q, r.reply, err)
	a.free(g)
}

// tend is the housekeeping of every VM this host is or was a destination of.
func (a *actuator) tend() {
	for _, g := range a.w.guests {
		rec := a.journal.record(g)
		if !rec.Open() || a.served[g.index] {
			continue
		}
		seen, err := a.h.look(g)
		if err != nil {
			continue
		}
		here := a.here(g, seen)
		switch err := a.note(g, here); {
		case errors.Is(err, errDied):
			return
		case err != nil:
			continue
		}
		t := &receiving{a: a, g: g, reply: migration.Reply{Seen: seen}}
		if t.epoch, t.steps = a.w.rules.Tend(a.journal.record(g), here, a.clock(), migration.DefaultLimits()); len(t.steps) == 0 {
			continue
		}
		a.w.say(a.name, g, "tends epoch %d: %v", t.epoch, t.steps[0].Kind)
		a.served[g.index] = true
		t.next()
	}
}

func (a *actuator) tendLoop() {
	a.later(tendEvery, func() {
		a.tend()
		a.tendLoop()
	})
}

package cluster

import (
	"fmt"
	"time"

	"github.com/foreshift/foreshift/actuator/migration"
	"github.com/foreshift/foreshift/schemas"
	"github.com/foreshift/foreshift/streams"
)

// remember keeps the last requests: who can listen can send them again.
func (w *world) remember(q *request) {
	if len(w.asked) >= 64 {
		w.asked = append(w.asked[:0], w.asked[32:]...)
	}
	w.asked = append(w.asked, q)
}

// pretend is a hostile client that gives the heartbeats of a placer that gives none: of
// its own, or the placer's last one again.
func (w *world) pretend(until int64) {
	if w.mix.hostile == 0 {
		return
	}
	w.after(8*time.Second, func() {
		if w.now < until && !w.calm {
			id := fmt.Sprintf("pretended-%d", w.now)
			w.counts.fault(14)
			if w.lastBeatOf != nil && w.acts.odds(500) {
				m := *w.lastBeatOf
				m.id = id
				w.inject(&m)
				w.forgetBeats(&m)
				w.pretend(until)
				return
			}
			w.forge(streams.SubjectAct(schemas.ActHeartbeat), id, keyHostile, &schemas.Act{ID: id, Act: schemas.ActHeartbeat, By: "nobody", Time: schemas.Time(w.now)})
			w.pretend(until)
		}
	})
}

// hide puts a forged act on top of an operator's, for whoever reads only the last.
func (w *world) hide(kind schemas.ActKind) {
	if w.calm || w.mix.hostile == 0 || !w.chance.odds(500) {
		return
	}
	w.after(w.chance.between(time.Second, 10*time.Second), func() {
		w.counts.fault(14)
		id := fmt.Sprintf("hides-%d", w.now)
		w.say("hostile client", nil, "hides the %s under a forged one", kind)
		w.forge(streams.SubjectAct(kind), id, keyHostile, &schemas.Act{ID: id, Act: kind, By: "nobody", Time: schemas.Time(w.now)})
	})
}

// lie answers a question in the name of who was asked, without its key.
func (w *world) lie(q *request) {
	if w.calm || !w.acts.odds(w.mix.lies) {
		return
	}
	w.counts.fault(14)
	r := &reply{from: q.to, epoch: q.epoch, nonce: q.nonce, signer: keyHostile}
	r.Peer = migration.Peer{Fence: q.epoch}
	if r.Copy = migration.Running; w.acts.odds(500) {
		r.Copy, r.Peer.Released = migration.Absent, q.epoch
	} else {
		r.Life, r.Peer.Resumed = migration.LifeCPU, q.epoch
	}
	w.say("hostile client", q.g, "answers %s(%d) in the name of %s: %s", q.op, q.epoch, q.to.id, r.Copy)
	w.after(w.net.between(0, time.Millisecond), func() { q.answer(r) })
}

// replied keeps the last reply to each, for the same.
func (w *world) replied(q *request, r *reply) {
	if !w.calm && w.acts.odds(w.mix.oldReplies) {
		// Somebody answers the next question about the VM with this old answer.
		w.counts.fault(14)
		for i := len(w.asked) - 1; i >= 0; i-- {
			if o := w.asked[i]; o.g == q.g && o.nonce != q.nonce && o.answer != nil {
				w.after(w.net.between(0, time.Millisecond), func() { o.answer(r) })
				return
			}
		}
	}
}

// hostile is a client that speaks on the bus without the right (F14).
func (w *world) hostile() {
	w.counts.fault(14)
	b := w.boss
	g := w.guests[w.acts.IntN(len(w.guests))]
	src := g.running()
	if src == nil {
		return
	}
	n, put, forge := w.n, w.inject, w.forge
	now := schemas.Time(w.now)
	switch w.acts.IntN(9) {
	case 0, 1:
		c := b.command(g, src, w.other(src))
		signer := keyHostile
		if w.acts.odds(500) {
			signer = keyRetired
		}
		w.say("hostile client", g, "forges command %s with the key %s", c.ID, signer)
		forge(streams.SubjectCommand(c.VM, c.Source, c.Destination), string(c.ID), signer, c)
	case 2: // a genuine command again, and on another subject
		f := w.latest(func(f *fact) bool { return f.genuine && !f.lost })
		if f == nil {
			return
		}
		m := *f.msg
		m.id = fmt.Sprintf("replayed-%d", n)
		w.say("hostile client", f.g, "publishes the bytes of command %s again", f.c.ID)
		if w.acts.odds(300) {
			m.subject = streams.SubjectCommand(f.c.VM, f.c.Destination, f.c.Source)
		}
		put(&m)
	case 3:
		id := fmt.Sprintf("forged-%d", n)
		kind := [...]schemas.ActKind{schemas.ActResume, schemas.ActPause, schemas.ActHeartbeat}[w.acts.IntN(3)]
		w.say("hostile client", nil, "forges an act: %s", kind)
		forge(streams.SubjectAct(kind), id, keyHostile, &schemas.Act{ID: id, Act: kind, By: "nobody", Time: now})
	case 4: // an outcome in a host's name
		f := w.latest(func(f *fact) bool { return f.drive != nil && !f.drive.over })
		if f == nil {
			return
		}
		w.say("hostile client", f.g, "forges the outcome of %s", f.c.ID)
		forge(streams.SubjectOutcome(f.c.VM, f.c.Source), fmt.Sprintf("forged-%d", n), keyHostile, &schemas.Outcome{Command: f.c.ID, Epoch: f.msg.seq, VM: f.c.VM, Host: f.c.Source, Source: f.c.Source,
			Destination: f.c.Destination, Time: now, Result: schemas.ResultSucceeded, RunsAt: f.c.Destination, Reason: schemas.Reason{Code: schemas.ReasonOK}})
	default:
		w.hostileRequest()
	}
}

// inject puts a message on the bus without anybody's leave.
func (w *world) inject(m *message) {
	if st, err := streams.StreamFor(m.subject); err == nil && w.nats.present() {
		w.nats.streams[st.Name].put(m, nil)
	}
}

// forge injects a message under a key that the client has.
func (w *world) forge(subject, id, signer string, msg schemas.Message) {
	data, err := schemas.Encode(msg)
	if err != nil {
		return
	}
	w.inject(&message{subject: subject, id: id, data: data, signer: signer, signature: sign(signer, subject, data), msg: msg})
}

// hostileRequest sends to an actuator what its own peers sent before, or what they
// never said.
func (w *world) hostileRequest() {
	if len(w.asked) == 0 {
		return
	}
	q := *w.asked[w.acts.IntN(len(w.asked))]
	q.answer = nil
	switch w.acts.IntN(4) {
	case 0: // the same bytes again
		w.say("hostile client", q.g, "sends %s(%d) again", q.op, q.epoch)
	case 1: // changed: the signature no longer holds
		q.forged, q.expires = true, q.to.act.clock()+int64(20*time.Second)
		w.say("hostile client", q.g, "forges %s(%d)", q.op, q.epoch)
		q.op = [...]schemas.Op{schemas.OpPrepare, schemas.OpFinish, schemas.OpResume, schemas.OpRelease}[w.acts.IntN(4)]
	case 2: // to another host
		q.to = w.other(q.to)
		if q.to == q.from {
			return
		}
		q.expires = q.to.act.clock() + int64(20*time.Second)
		w.say("hostile client", q.g, "sends %s(%d) to %s, for which it is not", q.op, q.epoch, q.to.id)
	default: // with a command inside that no placer gave
		c := w.boss.command(q.g, q.from, q.to)
		data, err := schemas.Encode(c)
		if err != nil {
			return
		}
		subject := streams.SubjectCommand(c.VM, c.Source, c.Destination)
		m := &message{subject: subject, data: data, signer: keyHostile, signature: sign(keyHostile, subject, data), seq: w.nats.streams[streams.Migrations].last + 1, msg: c}
		q.f = &fact{msg: m, c: c, g: q.g}
		q.order, q.epoch, q.expires = m.signed(), m.seq, q.to.act.clock()+int64(20*time.Second)
		q.op = schemas.OpPrepare
		w.say("hostile client", q.g, "an actuator in wrong hands asks for %s with a command of its own", q.op)
	}
	w.links.fromNATS(q.to.index, func() { q.to.act.resume(q.to.act.gen, func() { q.to.act.serve(&q) }) })
}

// person looks after what Foreshift leaves to people: UNKNOWN moves and VMs that are
// down. What a person does is no breach; Foreshift must bear it.
type person struct{ w *world }

// resolve settles a move that nobody knows the end of, by docs/RUNBOOK.md: look at both
// hosts, leave exactly one copy running, say where.
func (p *person) resolve(f *fact) {
	w, g := p.w, f.g
	if !w.leads(f) {
		return
	}
	if o := w.current(g); o != f && !o.told { // a later move of it is under way: that first
		w.after(2*time.Minute, func() { p.resolve(f) })
		return
	}
	for i := range g.copies {
		if g.copies[i].fetched { // who destroys either loses it: first let it end
			w.after(2*time.Minute, func() { p.resolve(f) })
			return
		}
	}
	at := p.mend(g, w.byHost[f.c.Source])
	w.say("person", g, "resolves the move of epoch %d: runs at %s", f.msg.seq, at.id)
	id := fmt.Sprintf("resolve-%s-%d", f.c.ID, w.n)
	node := &w.boss.process
	w.publish(node, out{key: keyOperator, Out: streams.Out{Subject: streams.SubjectAct(schemas.ActResolve), ID: id,
		Msg: &schemas.Act{ID: id, Act: schemas.ActResolve, By: "person", Time: schemas.Time(w.now), VM: g.id, Command: f.c.ID, RunsAt: at.id}}}, func(uint64, failure) {})
	w.after(10*time.Minute, func() {
		p.resolve(f)
	})
}

// mend leaves exactly one copy, running.
func (p *person) mend(g *guest, fallback *host) *host {
	w := p.w
	at := g.running()
	if at == nil {
		best := -1
		for i := range g.copies {
			c := &g.copies[i]
			if c.state == migration.Paused && (c.whole || !c.incoming) && (best < 0 || c.version > g.copies[best].version) {
				best = i
			}
		}
		if best >= 0 {
			at = w.hosts[best]
		}
	}
	g.hurt = w.now
	for i := range g.copies {
		if h := w.hosts[i]; h != at && g.copies[i].state != migration.Absent {
			if j := g.copies[i].job; j != nil {
				j.over = true
			}
			g.set(h, migration.Absent, "a person removes it")
		}
	}
	if at == nil {
		at = fallback
	}
	if j := g.at(at).job; j != nil && j.peer {
		j.fail("a person aborts it", errRefuse)
	}
	at.bringFile(g)
	if c := g.at(at); c.state != migration.Running {
		if c.job != nil {
			c.job.over = true
		}
		c.job, c.fetched = nil, false
		c.incoming, c.foreign, c.conn, c.session, c.spoilt, c.version = false, false, 0, 0, false, g.version
		c.hand, c.seen = true, false
		g.set(at, migration.Running, "a person starts it")
	}
	return at
}

// round looks for VMs that are down without anybody at work on them.
func (p *person) round() {
	w := p.w
	w.after(time.Minute, p.round)
	for _, g := range w.guests {
		f := w.current(g)
		if g.running() == nil && f == nil {
			if g.mending {
				h := w.hosts[w.acts.IntN(len(w.hosts))]
				for i := range g.copies {
					if g.copies[i].state != migration.Absent {
						h = w.hosts[i]
					}
				}
				w.say("person", g, "finds it down")
				p.mend(g, h)
			}
			g.mending = true
			continue
		}
		g.mending = false
		if f == nil && g.hurt != 0 && w.now-g.hurt > int64(2*time.Minute) && g.alone() {
			g.hurt = 0
		}
	}
}

// alone: it runs on one host and has no copy anywhere else.
func (g *guest) alone() bool {
	n := 0
	for i := range g.copies {
		switch g.copies[i].state {
		case migration.Absent:
		case migration.Running:
			n++
		default:
			return false
		}
	}
	return n == 1
}

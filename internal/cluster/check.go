package cluster

import (
	"time"

	"github.com/foreshift/foreshift/actuator/migration"
	"github.com/foreshift/foreshift/schemas"
	"github.com/foreshift/foreshift/streams"
)

// The invariants that are looked at where something happens. Those of copies are in
// hyper.go, those of disks in disk.go, those of decisions in judge.go.

// stored sees every message that a stream has taken.
func (w *world) stored(m *message) {
	switch c := m.msg.(type) {
	case *schemas.Command:
		w.counts.Commands++
		f := &fact{msg: m, c: c, g: w.byVM[c.VM], published: w.now, tool: c.Plan == "storm"}
		f.genuine = m.signer == keyPlacer && m.signature == sign(keyPlacer, m.subject, m.data) && m.subject == streams.SubjectCommand(c.VM, c.Source, c.Destination)
		w.order = append(w.order, f)
		w.facts[m] = f
		if f.g != nil {
			w.say("stream", f.g, "MIGRATIONS %d: command %s %s -> %s, by %s", m.seq, c.ID, c.Source, c.Destination, m.signer)
		}
		if f.genuine && !f.tool && m.id == string(c.ID) { // not one that somebody publishes again
			w.committed(f)
		}
	case *schemas.Outcome:
		for i := len(w.order) - 1; i >= 0; i-- {
			f := w.order[i]
			if f.c.ID == c.Command && f.msg.seq == c.Epoch && m.signer == keyOfHost(c.Host) {
				f.outcome = c.Result
				f.told = true
				if c.Result == schemas.ResultUnknown {
					w.after(w.acts.between(2*time.Minute, 12*time.Minute), func() { w.person.resolve(f) })
				}
				break
			}
		}
		w.counts.outcome(c.Result)
		w.say("stream", w.byVM[c.VM], "MIGRATIONS %d: outcome of %s: %s %s, by %s", m.seq, c.Command, c.Result, c.Reason, m.signer)
	case *schemas.Plan:
		w.counts.Plans++
	case *schemas.Act:
		switch c.Act {
		case schemas.ActHeartbeat:
			if m.signer == keyPlacer && m.id == c.ID { // not one that somebody publishes again
				w.lastBeat, w.lastBeatOf = w.now, m
			}
			return
		case schemas.ActPause:
			if m.signer == keyOperator {
				w.pausedAt = w.now
				w.hide(c.Act)
			}
		case schemas.ActResume:
			if m.signer == keyOperator {
				w.pausedAt = 0
			}
		}
		w.say("stream", nil, "ACTS %d: %s by %s", m.seq, c.Act, m.signer)
	}
}

// forgot sees every message that a lost tail has taken away.
func (w *world) forgot(m *message) {
	if f := w.facts[m]; f != nil {
		f.lost = true
	}
	w.say("stream", nil, "%s %d is lost: %s", m.stream, m.seq, m.subject)
	if m.stream != streams.Forecasts && m.subject != heartbeatSubject {
		w.lostTails++
	}
	if a, ok := m.msg.(*schemas.Act); ok && a.Act == schemas.ActPause {
		w.pausedAt = 0 // the operator sees that it is not in force, and nobody can know that it was
	}
}

// factOf is what is true of a command's message.
func (w *world) factOf(m *message) *fact {
	if f := w.facts[m]; f != nil {
		return f
	}
	c, _ := m.msg.(*schemas.Command)
	f := &fact{msg: m, c: c, g: w.byVM[c.VM], published: w.now}
	w.facts[m] = f
	return f
}

// current is the move under way of a guest, nil when none.
func (w *world) current(g *guest) *fact {
	for _, h := range w.hosts {
		r := &h.disk.flushed.moves[g.index]
		if r.mark != "" && r.mark != migration.MarkEnded {
			return r.f
		}
	}
	return nil
}

// leads reports whether its source's journal holds the move open still.
func (w *world) leads(f *fact) bool {
	r := &w.byHost[f.c.Source].disk.flushed.moves[f.g.index]
	return r.f == f && r.mark != migration.MarkEnded
}

// tolerance is what clocks that differ may add to a limit: an actuator's may be half a
// minute from the server's before it notices that heartbeats do not come from now.
const tolerance = migration.HeartbeatLimit + 2*time.Second

// admitted looks at a command that is about to start.
func (w *world) admitted(a *actuator, m *message, f *migration.Facts) {
	fa, c, g := w.factOf(m), f.Command, w.byVM[f.Command.VM]
	is := func(inv string, broken bool, what string) {
		if broken {
			w.violate(inv, g, "%s starts command %s %s", a.name, c.ID, what)
		}
	}
	is("I8", !fa.genuine, "whose signature does not hold")
	is("I8", c.Run != "", "of a replay")
	is("I8", c.Plan == "" || c.PlanHash == "", "that names no plan")
	is("I8", c.Source != a.h.id || c.Destination == a.h.id, "that names another host as its source")
	is("I4", w.started[c.ID] > 0, "for a second time")
	is("I4", a.moves[g.index] != nil, "while it still moves the VM")
	low := max(a.h.disk.flushed.fences[g.index], a.h.disk.low[g.index])
	is("I5", m.seq <= low, "whose epoch is not above what was seen before")
	is("I5", c.AfterSeq < low, "that was decided before what this host has seen")
	is("I5", c.AfterSeq >= m.seq, "that claims to be decided after itself")
	is("I6", f.Now > int64(c.Expires), "that has expired")
	is("I6", c.Deadline != 0 && f.Now >= int64(c.Deadline), "whose deadline has passed")
	is("I6", a.heard != 0, "although new moves are paused, as it has heard")
	is("I6", w.pausedAt != 0 && w.now-w.pausedAt > int64(migration.HeartbeatLimit+tolerance), "although new moves have been paused for long")
	is("I6", w.now-w.lastBeat > int64(migration.HeartbeatLimit+tolerance), "although no placer has given a sign of life for long")
	is("I9", a.leading >= maxMoves, "beyond the moves that a host may lead at a time")
	is("I3", g.at(a.h).state != migration.Running, "of a VM that does not run there")
	is("I3", g.at(a.h).alien, "of a VM that somebody else moves")
	is("I3", f.Peer && a.h.w.now < a.h.lockd.away, "for libvirt to lead, without a disk lock")
}

// starts counts a move whose acceptance is on disk.
func (w *world) starts(f *fact) {
	if f.accepted == 0 {
		w.counts.Started++
		f.accepted = w.now
		w.started[f.c.ID]++
	}
}

// began looks at a move that calls Begin3 now.
func (w *world) began(d *drive) {
	a, c := d.a, d.g.at(d.a.h)
	is := func(inv string, broken bool, what string) {
		if broken {
			w.violate(inv, d.g, "%s begins epoch %d %s", a.name, d.s.Epoch, what)
		}
	}
	is("I5", a.journal.fence(d.g) != d.s.Epoch, "under another fence")
	is("I3", c.state == migration.Paused, "with a VM that is paused")
	is("I3", c.alien, "with a VM that somebody else moves")
	is("I3", d.o.Destination == migration.Unreachable, "without an answer from its destination")
	is("I3", d.o.Destination != migration.Unreachable && d.o.Destination != migration.Absent, "towards a host that has a copy already")
}

// fresh looks at an act that rests on what was seen a moment ago.
func (w *world) fresh(d *drive, v migration.Verb) {
	if age := time.Duration(w.now - d.saw); age > migration.DefaultLimits().Fresh+2*time.Second {
		w.violate("I3", d.g, "%s goes on to %s epoch %d on what it saw %s ago", d.a.name, v, d.s.Epoch, age.Round(time.Second))
	}
}

// entrusted looks at a move that libvirt is about to lead. A lock that is lost between this
// and libvirt's first step is seen by whoever watches the transfer.
func (w *world) entrusted(d *drive) {
	if !d.s.Peer {
		return
	}
	w.fresh(d, migration.Perform)
	if why := d.lock(); !why.OK() {
		w.violate("I3", d.g, "%s lets libvirt lead epoch %d, and knows that the disk lock does not hold: %s", d.a.name, d.s.Epoch, why)
	}
}

// leaning looks at a request that only a source that has handed over may put.
func (w *world) leaning(d *drive, op schemas.Op) {
	m := d.a.h.disk.flushed.moves[d.g.index]
	if (op == schemas.OpFinish || op == schemas.OpResume) && m.mark != migration.MarkHanded && !w.without("fsync") {
		w.violate("I13", d.g, "%s asks for %s(%d), and nothing on its disk says that it has handed the VM over", d.a.name, op, d.s.Epoch)
	}
}

// recently is how long ago something may have changed that was just seen otherwise.
const recently = 10 * time.Second

// reported looks at an outcome that is about to be told.
func (w *world) reported(d *drive, r schemas.Result) {
	g, a := d.g, d.a
	if g.at(a.h).fetched && r != schemas.ResultUnknown {
		w.violate("I7", g, "epoch %d is told as %s, and its destination still fetches memory", d.s.Epoch, r)
	}
	if a.clock()-d.o.Peer.Asked > int64(3*time.Second) || d.resolve != migration.NotResolved || w.now-g.hurt < int64(recently) {
		return // what it rests on was true when it was seen
	}
	src, dst := g.at(a.h), g.at(w.byHost[d.f.c.Destination])
	settled := func(c *copyOf) bool { return w.now-c.since > int64(4*time.Second) }
	switch r {
	case schemas.ResultSucceeded:
		if src.state != migration.Absent && settled(src) || dst.state != migration.Running && settled(dst) {
			w.violate("I7", g, "epoch %d is told as a success: source %s, destination %s", d.s.Epoch, src.state, dst.state)
		}
	case schemas.ResultFailed:
		if src.state != migration.Running && !src.foreign && g.hurt == 0 && settled(src) || dst.state == migration.Running && settled(dst) {
			w.violate("I7", g, "epoch %d is told as a failure: source %s, destination %s", d.s.Epoch, src.state, dst.state)
		}
		if w.byHost[d.f.c.Destination].disk.flushed.recs[g.index].Released < d.s.Epoch {
			w.violate("I7", g, "epoch %d is told as a failure, but its destination may still act", d.s.Epoch)
		}
	}
}

// answering looks at a request that is about to be carried out.
func (w *world) answering(a *actuator, q *request, k migration.Ask, steps []migration.Step, now int64) {
	if len(steps) == 0 {
		return
	}
	acts := q.op != schemas.OpObserve && q.op != schemas.OpRelease
	is := func(inv string, broken bool, what string) {
		if broken {
			w.violate(inv, q.g, "%s carries out %s(%d) %s", a.name, q.op, q.epoch, what)
		}
	}
	is("I6", acts && now > k.Expires, "after it had expired")
	is("I6", q.op == schemas.OpPrepare && now > k.Command+int64(migration.DefaultLimits().Late), "long after its command had expired")
	is("I5", acts && a.journal.record(q.g).Released >= q.epoch, "although it has released that epoch")
	is("I3", k.Peer && a.proofs[q.g.index].epoch != q.epoch, "for libvirt to lead, and nobody has proven the disk lock")
	is("I8", q.forged, "although its signature does not hold")
	is("I8", q.order.Signature != sign(keyPlacer, q.order.Subject, q.order.Payload), "although no placer gave the command inside")
	is("I8", q.f.c.Destination != a.h.id || q.to != a.h, "although it is not for this host")
	is("I8", q.f.c.Run != "", "of a replay")
}

// acked looks at a command that the server counts as done with.
func (w *world) acked(m *message, h schemas.HostID) {
	f := w.facts[m]
	if f == nil || !f.genuine || f.c.Run != "" || f.c.Source != h || f.told || f.lost {
		return
	}
	disk := w.byHost[h].disk
	if _, ok := disk.flushed.ids[f.c.ID]; !ok {
		w.violate("I13", f.g, "command %s is acknowledged, and nothing on the disk of %s tells of it", f.c.ID, h)
	}
}

// overdue is how long after its deadline a healthy host may take to tell how a move
// stands.
const overdue = 5 * time.Minute

// watch holds I7: every started move ends, or is told as UNKNOWN, by its deadline.
func (w *world) watch() {
	const every = 20 * time.Second
	w.after(every, w.watch)
	for _, g := range w.guests {
		f := w.current(g)
		if f == nil || f.told || f.accepted == 0 {
			continue
		}
		a := w.byHost[f.c.Source].act
		fine := a.up && a.stopped <= w.now && w.links.reaches(a.node) && w.nats.present() && w.now >= a.h.disk.full && a.clock() > int64(f.c.Deadline)
		if !fine || w.now < int64(f.c.Deadline) {
			f.healthy = 0
			continue
		}
		if f.healthy += every; f.healthy > overdue {
			w.violate("I7", g, "epoch %d has neither ended nor been told as UNKNOWN %s after its deadline: %s", f.msg.seq, time.Duration(w.now-int64(f.c.Deadline)).Round(time.Second), f.drive.s.Stage)
		}
	}
}

package cluster

import (
	"fmt"
	"time"

	"github.com/foreshift/foreshift/schemas"
	"github.com/foreshift/foreshift/streams"
)

// commander stands in for the placer on days of storm, when moves come much more
// often than any placer would let them: it holds the placer's key, folds the record of
// moves, and orders a move of some VM to some host again and again. On other days it
// is silent, but for what a placer of another version might do (F13).
type commander struct {
	process
	cut    uint64
	record []uint64 // by guest: last sequence folded of its record
	open   []bool   // by guest: a command has no end yet
	sent   []int64  // by guest: when the last command went out
	count  int
	silent int64 // its heartbeats stop until then
}

func newCommander(w *world, node int) *commander {
	n := len(w.guests)
	return &commander{process: process{w: w, name: "commander", node: node, up: true}, record: make([]uint64, n), open: make([]bool, n), sent: make([]int64, n)}
}

func (b *commander) start() {
	b.w.nats.streams[streams.Migrations].follow(&b.process, 1, nil, nil, b.fold)
	if b.w.mix.storm {
		b.later(b.w.work.exp(b.w.mix.command), b.order)
		b.beat()
	}
}

func (b *commander) fold(m *message) {
	if m.seq <= b.cut && !b.w.without("skip-seen") {
		return
	}
	b.cut = max(b.cut, m.seq)
	if b.w.keys.event(m) != nil {
		return
	}
	switch c := m.msg.(type) {
	case *schemas.Command:
		if g := b.w.byVM[c.VM]; g != nil {
			b.record[g.index], b.open[g.index] = m.seq, true
		}
	case *schemas.Outcome:
		if g := b.w.byVM[c.VM]; g != nil {
			b.record[g.index] = m.seq
			if c.Host == c.Source {
				b.open[g.index] = c.Result == schemas.ResultUnknown
			}
		}
	}
}

// beat is the heartbeat without which no actuator starts anything.
func (b *commander) beat() {
	b.later(5*time.Second, func() {
		now := b.clock()
		if b.w.now < b.silent {
			b.beat()
			return
		}
		id := fmt.Sprintf("commander-%d", now)
		b.w.send(&b.process, out{key: keyPlacer, Out: streams.Out{Subject: heartbeatSubject, ID: id,
			Msg: &schemas.Act{ID: id, Act: schemas.ActHeartbeat, By: "commander", Time: schemas.Time(now)}}})
		b.beat()
	})
}

// order sends a command for a VM that is not under way, as far as is known.
func (b *commander) order() {
	w := b.w
	b.later(w.work.exp(w.mix.command), b.order)
	if w.calm {
		return
	}
	g := w.guests[w.work.IntN(len(w.guests))]
	src := g.running()
	if src == nil || b.open[g.index] && b.clock()-b.sent[g.index] < int64(10*time.Minute) || w.now-b.sent[g.index] < int64(5*time.Second) {
		return
	}
	b.send(b.command(g, src, w.other(src)), b.record[g.index])
}

// other is another host than this.
func (w *world) other(h *host) *host {
	i := w.work.IntN(len(w.hosts) - 1)
	if i >= h.index {
		i++
	}
	return w.hosts[i]
}

func (b *commander) command(g *guest, src, dst *host) *schemas.Command {
	b.count++
	now := schemas.Time(b.clock())
	c := &schemas.Command{ID: schemas.CommandID(fmt.Sprintf("c%d", b.count)), Plan: "storm", PlanHash: "storm", VM: g.id, Name: g.name, Source: src.id, Destination: dst.id,
		Issued: now, Expires: now.Add(schemas.CommandLife), AfterSeq: b.cut, Reason: schemas.Reason{Code: schemas.ReasonOK}, MaxDowntime: 500}
	c.Deadline = c.Expires.Add(b.w.work.between(10*time.Second, 60*time.Second))
	return c
}

func (b *commander) send(c *schemas.Command, seq uint64) {
	g := b.w.byVM[c.VM]
	b.sent[g.index] = b.w.now
	b.w.publish(&b.process, out{key: keyPlacer, tool: true, Out: streams.Out{Subject: streams.SubjectCommand(c.VM, c.Source, c.Destination), ID: string(c.ID), Msg: c,
		Expect: &streams.Expect{Filter: streams.RecordOf(c.VM), Seq: seq}}}, func(uint64, failure) {})
}

// blurt sends a command without a look at what is on its VM's record.
func (b *commander) blurt(c *schemas.Command) {
	b.w.publish(&b.process, out{key: keyPlacer, tool: true, Out: streams.Out{Subject: streams.SubjectCommand(c.VM, c.Source, c.Destination), ID: string(c.ID), Msg: c}}, func(uint64, failure) {})
}

// stray is what a placer or an actuator of another version might do (F13).
func (b *commander) stray() {
	w := b.w
	w.counts.fault(13)
	g := w.guests[w.work.IntN(len(w.guests))]
	src := g.running()
	if src == nil {
		return
	}
	switch w.work.IntN(11) {
	case 0: // the id of a command that was given before
		f := w.latest(func(f *fact) bool { return f.g.running() == w.byHost[f.c.Source] && f.genuine && w.work.odds(300) })
		if f == nil {
			return
		}
		g, src = f.g, w.byHost[f.c.Source]
		c := b.command(g, src, w.other(src))
		c.ID = f.c.ID
		w.say("another version", g, "repeats the id of command %s", c.ID)
		m := out{key: keyPlacer, tool: true, Out: streams.Out{Subject: streams.SubjectCommand(c.VM, c.Source, c.Destination), ID: fmt.Sprintf("%s-again-%d", c.ID, b.count), Msg: c}}
		w.publish(&b.process, m, func(uint64, failure) {})
	case 1: // a second command while the first is under way
		f := w.latest(func(f *fact) bool { return f.drive != nil && !f.drive.over })
		if f == nil {
			return
		}
		c := b.command(f.g, w.byHost[f.c.Source], w.other(w.byHost[f.c.Source]))
		w.say("another version", f.g, "gives command %s while %s is under way", c.ID, f.c.ID)
		b.send(c, b.record[f.g.index])
	case 2: // a command of a replay, or without a plan
		c := b.command(g, src, w.other(src))
		if c.Run = "replay-7"; w.work.odds(500) {
			c.Run, c.PlanHash = "", ""
		}
		w.say("another version", g, "publishes command %s of a replay", c.ID)
		b.send(c, b.record[g.index])
	case 8: // a source that believes it has a VM, which runs at the destination already
		c := b.command(g, w.other(src), src)
		w.say("another version", g, "gives command %s to where the VM is, and asks to prepare it", c.ID)
		b.send(c, b.record[g.index])
		b.later(2*time.Second, func() {
			if f := w.latest(func(f *fact) bool { return f.c.ID == c.ID }); f != nil {
				b.crafted(f, schemas.OpPrepare)
			}
		})
	case 3: // a consumer with a wrong filter
		h := w.hosts[w.work.IntN(len(w.hosts))]
		w.nats.durable[h.id].astray = w.now + int64(w.work.between(time.Minute, 5*time.Minute))
		w.say("another version", nil, "gives the consumer of %s a wrong filter", h.id)
		if !w.mix.storm {
			return
		}
		for _, o := range w.guests { // and believes that they run elsewhere
			if o.running() == h && !b.open[o.index] {
				c := b.command(o, w.other(h), h)
				c.Destination = w.other(w.byHost[c.Source]).id
				b.send(c, b.record[o.index])
			}
		}
	case 4: // more commands at once than a host may lead
		for _, o := range w.guests {
			if o.running() == src && !b.open[o.index] {
				b.send(b.command(o, src, w.other(src)), b.record[o.index])
			}
		}
	case 5: // a source that leaves steps out
		f := w.latest(func(f *fact) bool { return f.genuine && f.drive != nil && !f.drive.over })
		if f == nil {
			return
		}
		rec := w.byHost[f.c.Destination].act.journal.record(f.g)
		op := schemas.OpResume
		switch {
		case rec.Prepared != f.msg.seq:
			op = schemas.OpFinish
		case rec.Finished == f.msg.seq || rec.Asked >= f.msg.seq:
			return // nothing is left out
		}
		w.say("another version", f.g, "asks for %s(%d) out of turn", op, f.msg.seq)
		b.crafted(f, op)
	case 6: // a source that goes on with a move that is over, or never began
		f := w.latest(func(f *fact) bool { return f.genuine && w.work.odds(300) })
		if f == nil || w.now-f.published > int64(3*time.Minute) {
			return
		}
		ops := [...]schemas.Op{schemas.OpPrepare, schemas.OpPrepare, schemas.OpFinish, schemas.OpResume, schemas.OpRelease}
		op := ops[w.work.IntN(len(ops))]
		if op == schemas.OpRelease && f.drive != nil && !f.drive.over {
			return // its own source still counts on it
		}
		w.say("another version", f.g, "asks for %s(%d), which is over or never began", op, f.msg.seq)
		b.crafted(f, op)
	case 9, 10: // a placer that hangs halfway: it orders moves, and gives no sign of life
		if b.silent = w.now + int64(w.work.between(2*time.Minute, 15*time.Minute)); w.mix.storm {
			w.say("another version", nil, "gives no more heartbeats until %s", since(b.silent))
			w.pretend(b.silent)
		}
	default: // a consumer that an older version made: few unacknowledged, or one
		h := w.hosts[w.work.IntN(len(w.hosts))]
		d := w.nats.durable[h.id]
		d.most = 1 + w.work.IntN(4)
	}
}

// crafted is a request that the command's source would sign, from no drive of ours.
func (b *commander) crafted(f *fact, op schemas.Op) {
	w := b.w
	src, dst := w.byHost[f.c.Source], w.byHost[f.c.Destination]
	q := &request{op: op, g: f.g, f: f, order: f.msg.signed(), epoch: f.msg.seq, from: src, to: dst, expires: dst.act.clock() + int64(10*time.Second), sent: w.now, signer: keyOfHost(src.id), disks: op == schemas.OpPrepare && f.g.local}
	w.deliver(&b.process, q)
}

// latest finds the newest command of which something is true, among the last hundred.
func (w *world) latest(is func(*fact) bool) *fact {
	for i := len(w.order) - 1; i >= max(0, len(w.order)-100); i-- {
		if is(w.order[i]) {
			return w.order[i]
		}
	}
	return nil
}

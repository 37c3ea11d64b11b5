package cluster

import (
	"slices"
	"time"

	"github.com/foreshift/foreshift/actuator/migration"
	"github.com/foreshift/foreshift/schemas"
)

// Twists are what else may befall a move at one of its steps, just then: what people,
// other tools, other versions and short failures do at the one moment at which it
// matters. Each is plausible by itself and would be met once in years by chance.

// twist is one of them. move is the one at whose step it comes; a the actuator that
// takes the step, at its source or its destination.
type twist struct {
	at   string // label of the step
	only int    // the fault it belongs to
	also int    // and another, 0 none
	peer bool   // it is one of moves that libvirt leads
	do   func(w *world, a *actuator, move *fact)
}

// twists by the label of their step.
func twists() map[string][]twist {
	out := map[string][]twist{}
	for _, t := range []twist{
		{"accept", 13, 12, false, (*world).interlope},
		{"prepare done", 8, 12, false, (*world).startAnew},
		{"release", 12, 0, false, func(w *world, _ *actuator, move *fact) { w.byHand(move.g, w.byHost[move.c.Destination]) }},
		{"report", 12, 0, false, (*world).bringBack},
		{"receive finish", 6, 0, false, (*world).fillFor},
		{"receive finish", 6, 8, false, (*world).fillAndKill},
		{"receive drop", 8, 12, false, (*world).comeAndGo},
		{"prepare done", 8, 0, true, (*world).losesLock},
	} {
		out[t.at] = append(out[t.at], t)
	}
	return out
}

// twisted draws whether something comes at a step.
func (w *world) twisted(a *actuator, move *fact, label string) {
	if w.calm || w.mix.twist == 0 || move == nil {
		return
	}
	for _, t := range w.twists[label] {
		if t.peer != w.mix.peer || !w.chance.odds(w.mix.twist) || !w.mix.has(t.only) || t.also != 0 && !w.mix.has(t.also) {
			continue
		}
		w.counts.fault(t.only)
		w.say("fault", move.g, "a twist at step %q of %s", label, a.name)
		t.do(w, a, move)
		return
	}
}

// has reports whether a kind of fault is one of the seed's.
func (m *mix) has(fault int) bool { return slices.Contains(m.faults, fault) }

// forgetBeats: the actuators die just before the time of a heartbeat comes that a fast
// clock has signed and somebody has stored anew, and so do not have it in their memory.
func (w *world) forgetBeats(m *message) {
	a, _ := m.msg.(*schemas.Act)
	if ahead := int64(a.Time) - w.now; w.mix.twist == 0 || !w.mix.has(1) || ahead < int64(8*time.Second) || ahead >= int64(20*time.Second) {
		return
	}
	for _, h := range w.hosts {
		h.act.kill("SIGKILL")
	}
}

// interlope: a person pauses a VM whose move was just accepted, and lets it go on; the
// destination is cut off, so that the move waits; and another version gives a later
// command towards the source's host and takes it back at once, which raises its fence.
func (w *world) interlope(a *actuator, move *fact) {
	g, c := move.g, move.g.at(a.h)
	dst := w.byHost[move.c.Destination]
	if c.state != migration.Running || c.job != nil {
		return
	}
	until := w.now + int64(w.chance.between(2*time.Second, 4*time.Second))
	w.links.up[dst.index] = max(w.links.up[dst.index], until)
	w.byPerson(g, a.h, w.chance.between(500*time.Millisecond, 1500*time.Millisecond))
	later := w.boss.command(g, dst, a.h)
	w.say("another version", g, "gives command %s towards %s, and asks it to give it up", later.ID, a.h.id)
	w.boss.blurt(later)
	w.after(100*time.Millisecond, func() {
		if f := w.latest(func(f *fact) bool { return f.c.ID == later.ID }); f != nil {
			w.boss.crafted(f, schemas.OpRelease)
		}
	})
}

// byPerson: somebody pauses it for a while.
func (w *world) byPerson(g *guest, at *host, d time.Duration) {
	c := g.at(at)
	c.foreign = true
	g.set(at, migration.Paused, "somebody pauses it")
	w.after(d, func() {
		if c.state == migration.Paused && c.foreign {
			c.foreign = false
			if g.running() == nil {
				g.set(at, migration.Running, "somebody lets it go on")
			}
		}
	})
}

// startAnew: both QEMUs die once the destination is prepared; its source is cut off. A
// person starts the VM at the destination, where it dies at once; its definition is left.
func (w *world) startAnew(a *actuator, move *fact) {
	g, dst := move.g, w.byHost[move.c.Destination]
	w.links.up[a.node] = max(w.links.up[a.node], w.now+int64(w.chance.between(5*time.Second, 20*time.Second)))
	a.h.killQEMU(g, "its QEMU is killed")
	dst.dropIncoming(g, move.msg.seq, "its QEMU is killed")
	if w.bad != nil || g.running() != nil || g.at(dst).state != migration.Absent {
		return
	}
	w.person.mend(g, dst)
	w.after(w.chance.between(10*time.Millisecond, time.Second), func() {
		if g.at(dst).state == migration.Running {
			g.hurt = w.now
			dst.stops(g, true, "its QEMU dies")
		}
	})
}

// byHand: somebody resumes by hand a copy that is whole and up to date, while none runs.
func (w *world) byHand(g *guest, at *host) bool {
	c := g.at(at)
	if c.state != migration.Paused || c.incoming || !c.whole || g.running() != nil || c.version != g.version {
		return false
	}
	g.hurt = w.now
	c.hand, c.seen = true, false
	g.set(at, migration.Running, "somebody resumes the destination's copy by hand")
	for j := range g.copies { // what comes of it is theirs: nobody wrote down that it ran
		g.copies[j].version = g.version
	}
	return true
}

// carry: another tool moves a VM that stands in no other move's way, at once.
func (w *world) carry(g *guest, from, to *host) bool {
	if c := g.at(from); c.state != migration.Running || c.job != nil || c.conn != 0 || g.at(to).state != migration.Absent {
		return false
	}
	g.hurt = w.now
	g.set(from, migration.Absent, "another tool has moved it")
	g.at(to).version, g.at(to).hand, g.at(to).seen = g.version, true, false
	to.bringFile(g)
	g.set(to, migration.Running, "another tool has moved it here")
	return true
}

// bringBack: another tool brings a VM back to where it came from, while its move's end
// is being told.
func (w *world) bringBack(a *actuator, move *fact) {
	w.carry(move.g, w.byHost[move.c.Destination], a.h)
}

// fillFor: the disk of a destination is full for a moment.
func (w *world) fillFor(a *actuator, move *fact) {
	a.h.disk.full = max(a.h.disk.full, w.now+int64(w.chance.between(100*time.Millisecond, time.Second)))
	w.say("fault", move.g, "the disk of %s is full until %s", a.h.id, since(a.h.disk.full))
}

// losesLock: a lock daemon dies once the lock is proven.
func (w *world) losesLock(a *actuator, move *fact) {
	h := a.h
	if w.chance.odds(500) {
		h = w.byHost[move.c.Destination]
	}
	h.killLockd(w.chance)
}

// fillAndKill: and the source's QEMU dies in it.
func (w *world) fillAndKill(a *actuator, move *fact) {
	w.fillFor(a, move)
	w.byHost[move.c.Source].killQEMU(move.g, "its QEMU is killed")
}

// comeAndGo: a destination's libvirtd dies when it is to drop what it has given up.
// Another tool moves the VM to it, or a person resumes what is there; it is the source of
// the next move before it has looked, and is stopped until past the switchover of that.
func (w *world) comeAndGo(a *actuator, move *fact) {
	g, src := move.g, w.byHost[move.c.Source]
	a.h.killLibvirtd(w.chance.between(100*time.Millisecond, 300*time.Millisecond))
	w.after(400*time.Millisecond, func() {
		if !w.carry(g, src, a.h) && !w.byHand(g, a.h) {
			return
		}
		next := w.boss.command(g, a.h, w.other(a.h))
		w.say("another version", g, "gives command %s at once", next.ID)
		w.boss.blurt(next)
		w.after(w.chance.between(1500*time.Millisecond, 2500*time.Millisecond), func() { w.freeze(&a.process, w.chance.between(25*time.Second, 40*time.Second)) })
	})
}

// stumbles: a placer is stopped for a while when a command is to go out, and reports
// whether it was; or no server has a leader when its plan is.
func (p *placerNode) stumbles(m schemas.Message) bool {
	w := p.w
	if w.calm || w.mix.twist == 0 {
		return false
	}
	switch m.(type) {
	case *schemas.Plan:
		if w.mix.has(7) && w.chance.odds(w.mix.twist) {
			w.counts.fault(7)
			w.nats.away = max(w.nats.away, w.now+int64(w.chance.between(time.Second, publishTimeout)))
			w.say("fault", nil, "NATS has no leader just when %s puts a plan on the record", p.name)
		}
	case *schemas.Command:
		if w.mix.has(4) && w.chance.odds(w.mix.twist) {
			w.counts.fault(4)
			w.freeze(&p.process, w.chance.between(20*time.Second, 3*time.Minute))
			return true
		}
	}
	return false
}

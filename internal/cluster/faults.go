package cluster

import (
	"slices"
	"time"

	"github.com/foreshift/foreshift/actuator/migration"
	"github.com/foreshift/foreshift/schemas"
	"github.com/foreshift/foreshift/streams"
)

// mix is what one seed's cluster is made of and what befalls it. Every seed draws its
// own: some kinds of fault are left out, the others come rarely or often, so that they
// meet in ever new company. Odds are out of 1000 at each chance, durations the mean
// time between two; 0 is never.
type mix struct {
	storm      bool // moves come often, from the commander; otherwise from placers
	hosts, vms int
	command    time.Duration
	placers    int

	lose, double, late, again                   float64 // F1
	step, crashWrite                            float64 // F3, F4, F8 at labelled steps
	diskFails                                   float64 // F6
	performFails, performLost, endless          float64 // F8, F9
	spoils, wakes, resumeFails, endFails        float64 // F8, F12
	oldReplies, lies                            float64 // F14
	local, noRoom                               float64 // disks on local storage; F6
	twist                                       float64 // F12 and what else each needs
	faults                                      []int   // that are there at all
	peer                                        bool    // libvirt leads, under a disk lock
	partition, kill, stop, clocks, full, leader time.Duration
	tail, stale, libvirtd, qemu, power, link    time.Duration
	foreign, version, hostile, garbage          time.Duration
	operator                                    time.Duration
	lockd, private                              time.Duration // F8, F12: of the disk lock
}

// faults are F1 to F14 of the safety page, by number.
const lastFault = 14

func draw(seed uint64, faults []int, asked []string, storm bool) mix {
	d := newDice(seed, "mix")
	m := mix{storm: storm, hosts: 3 + d.IntN(3), vms: 5 + d.IntN(5), placers: 2}
	if storm {
		m.command = d.between(15*time.Second, 60*time.Second)
	} else {
		m.hosts, m.vms = 4+d.IntN(3), 12+d.IntN(10)
	}
	has := func(f int) bool { return slices.Contains(faults, f) && d.IntN(4) != 0 }
	odd := func(f int, most float64) float64 {
		v := d.Float64() * d.Float64() * most
		if !has(f) {
			return 0
		}
		return v
	}
	every := func(f int, least, most time.Duration) time.Duration {
		v := d.between(least, most)
		if !has(f) {
			return 0
		}
		return v
	}
	m.lose, m.double, m.late, m.again = odd(1, 60), odd(1, 60), odd(1, 60), odd(7, 50)
	m.partition = every(2, 5*time.Minute, 90*time.Minute)
	m.step, m.crashWrite = odd(3, 60), odd(3, 30)
	m.kill = every(3, 5*time.Minute, 2*time.Hour)
	m.stop = every(4, 5*time.Minute, 2*time.Hour)
	m.clocks = every(5, 20*time.Minute, 6*time.Hour)
	m.diskFails, m.full = odd(6, 40), every(6, time.Hour, 8*time.Hour)
	m.leader, m.tail, m.stale = every(7, 10*time.Minute, 3*time.Hour), every(7, time.Hour, 12*time.Hour), every(7, time.Hour, 8*time.Hour)
	m.libvirtd, m.qemu = every(8, 5*time.Minute, 2*time.Hour), every(8, 10*time.Minute, 3*time.Hour)
	m.power = every(8, 2*time.Hour, 12*time.Hour)
	m.performFails, m.performLost, m.endless = odd(9, 300), odd(8, 300), odd(9, 100)
	m.link = every(9, 5*time.Minute, 2*time.Hour)
	m.spoils, m.resumeFails, m.endFails = odd(8, 300), odd(8, 300), odd(8, 300)
	m.wakes = odd(12, 100)
	m.foreign = every(12, 3*time.Minute, time.Hour)
	m.version = every(13, 2*time.Minute, 30*time.Minute)
	m.hostile, m.oldReplies = every(14, 2*time.Minute, 30*time.Minute), odd(14, 30)
	m.lies = odd(14, 20)
	m.garbage = every(11, 10*time.Minute, 2*time.Hour)
	m.operator = d.between(20*time.Minute, 3*time.Hour)
	if m.noRoom = odd(6, 60); d.IntN(2) == 0 && storm {
		m.local = 300 + 700*d.Float64()
	}
	m.faults = faults
	m.favour(seed, asked)
	if m.peer {
		m.local = min(m.local, 500) // the others move
	}
	return m
}

// again plans something at random times of a mean distance, until the calm.
func (w *world) every(d dice, mean time.Duration, do func()) {
	if mean == 0 {
		return
	}
	w.after(d.exp(mean), func() {
		if w.calm {
			return
		}
		do()
		w.every(d, mean, do)
	})
}

// schedule plans all faults of the seed.
func (w *world) schedule() {
	m := &w.mix
	f := func(name string) dice { return newDice(w.seed, "fault "+name) }
	for _, p := range []struct {
		name  string
		fault int
		mean  time.Duration
		do    func(dice)
	}{
		{"partition", 2, m.partition, w.partition},
		{"kill", 3, m.kill, w.killSome},
		{"stop", 4, m.stop, w.stopSome},
		{"clocks", 5, m.clocks, w.setClocks},
		{"full", 6, m.full, w.fillDisk},
		{"leader", 7, m.leader, w.loseLeader},
		{"tail", 7, m.tail, w.loseTail},
		{"stale", 7, m.stale, func(d dice) { w.nats.stale = w.now + int64(d.between(5*time.Second, 5*time.Minute)) }},
		{"libvirtd", 8, m.libvirtd, func(d dice) { w.anyHost(d).killLibvirtd(d.between(500*time.Millisecond, 20*time.Second)) }},
		{"qemu", 8, m.qemu, w.killSomeQEMU},
		{"power", 8, m.power, func(d dice) { w.anyHost(d).powerLoss(d.between(30*time.Second, 4*time.Minute)) }},
		{"link", 9, m.link, w.cutLink},
		{"foreign", 12, m.foreign, w.meddle},
		{"lockd", 8, m.lockd, func(d dice) { w.anyHost(d).killLockd(d) }},
		{"private", 12, m.private, func(d dice) { w.anyHost(d).leaveLock(d) }},
		{"keep", 12, 2 * m.foreign, w.keepFile},
		{"garbage", 0, m.garbage, func(d dice) { w.garbage = w.now + int64(d.between(time.Minute, 20*time.Minute)) }},
		{"version", 0, m.version, func(dice) { w.boss.stray() }},
		{"hostile", 0, m.hostile, func(dice) { w.hostile() }},
	} {
		d := f(p.name)
		w.every(d, p.mean, func() {
			if p.fault > 0 {
				w.counts.fault(p.fault)
			}
			p.do(d)
		})
	}
	d := newDice(w.seed, "operator")
	w.every(d, m.operator, func() { w.operate(d) })
}

func (w *world) anyHost(d dice) *host { return w.hosts[d.IntN(len(w.hosts))] }

// processes are those that can be killed and stopped.
func (w *world) processes() []*process {
	var out []*process
	for _, h := range w.hosts {
		out = append(out, &h.act.process)
	}
	for _, p := range w.heads {
		out = append(out, &p.process)
	}
	return out
}

// partition cuts one way between a node and the servers, or both (F2).
func (w *world) partition(d dice) {
	node := d.IntN(len(w.links.up))
	until := w.now + int64(d.between(2*time.Second, 4*time.Minute))
	if d.IntN(5) == 0 {
		until = w.now + int64(d.between(4*time.Minute, 20*time.Minute))
	}
	way := d.IntN(3)
	if way != 1 {
		w.links.up[node] = until
	}
	if way != 0 {
		w.links.down[node] = until
	}
	w.say("fault", nil, "node %d is cut off NATS (%s) until %s", node, [...]string{"sending", "hearing", "both ways"}[way], since(until))
}

func (w *world) killSome(d dice) {
	if len(w.heads) > 0 && d.IntN(3) == 0 {
		w.heads[d.IntN(len(w.heads))].kill("SIGKILL")
		return
	}
	w.anyHost(d).act.kill("SIGKILL")
}

// stopSome is SIGSTOP for longer than any lease (F4).
func (w *world) stopSome(d dice) {
	ps := w.processes()
	w.freeze(ps[d.IntN(len(ps))], d.between(time.Second, 4*time.Minute))
}

func (w *world) freeze(p *process, d time.Duration) {
	if p.up {
		p.stopped = max(p.stopped, w.now+int64(d))
		w.say("fault", nil, "%s is stopped for %s", p.name, d.Round(time.Millisecond))
	}
}

// setClocks sets a node's clock wrong, or right again (F5).
func (w *world) setClocks(d dice) {
	if d.IntN(6) == 0 {
		w.nats.skew = d.between(-time.Minute, time.Minute)
		if d.IntN(3) == 0 {
			w.nats.skew = d.between(0, 8*time.Minute)
		}
		skew := w.nats.skew
		w.say("fault", nil, "the clock of the servers jumps to %s", skew)
		w.after(d.between(20*time.Second, 15*time.Minute), func() {
			if w.nats.skew == skew {
				w.nats.skew = 0
				w.say("fault", nil, "the clock of the servers is set right")
			}
		})
		return
	}
	node := d.IntN(len(w.links.clocks))
	by := time.Duration(0)
	switch d.IntN(4) {
	case 0:
		by = d.between(-time.Hour, time.Hour)
	case 1:
		by = d.between(-40*time.Second, 40*time.Second)
	case 2:
		by = d.between(-5*time.Second, 5*time.Second)
	}
	w.links.clocks[node] = int64(by)
	w.say("fault", nil, "the clock of node %d jumps to %s", node, by)
	// Somebody sees it; where placers stand, also what is beyond the limit of heartbeats,
	// for then nothing moves.
	if by.Abs() > time.Minute || node >= len(w.hosts) && by.Abs() > migration.HeartbeatLimit {
		w.after(d.between(time.Minute, 30*time.Minute), func() {
			w.links.clocks[node] = 0
			w.say("fault", nil, "the clock of node %d is set right", node)
		})
	}
}

func (w *world) fillDisk(d dice) {
	h := w.anyHost(d)
	h.disk.full = w.now + int64(d.between(time.Second, 3*time.Minute))
	w.say("fault", nil, "the disk of %s is full until %s", h.id, since(h.disk.full))
}

// loseLeader: nobody answers for a while; 2 of 3 killed, for longer (F7).
func (w *world) loseLeader(d dice) {
	down := d.between(time.Second, 15*time.Second)
	if d.IntN(4) == 0 {
		down = d.between(15*time.Second, 3*time.Minute)
	}
	w.nats.away = max(w.nats.away, w.now+int64(down))
	if d.IntN(3) == 0 {
		w.lease.holder = nil // the key is gone: two may believe that they hold it
	}
	w.say("fault", nil, "NATS has no leader for %s", down.Round(time.Millisecond))
}

// loseTail: what was acknowledged and not flushed is gone (F7).
func (w *world) loseTail(d dice) {
	names := [...]string{streams.Migrations, streams.Migrations, streams.Acts, streams.Plans, streams.Capacity, streams.Forecasts}
	s := w.nats.streams[names[d.IntN(len(names))]]
	k := 1 + d.IntN(4)
	w.nats.away = max(w.nats.away, w.now+int64(d.between(time.Second, 10*time.Second)))
	w.say("fault", nil, "%s loses its last %d messages", s.name, k)
	s.loseTail(k)
}

func (w *world) killSomeQEMU(d dice) {
	g := w.guests[d.IntN(len(w.guests))]
	// Mostly one that moves: there it matters.
	if f := w.latest(func(f *fact) bool { return f.drive != nil && !f.drive.over }); f != nil && d.IntN(3) != 0 {
		g = f.g
	}
	var at []*host
	for i := range g.copies {
		if s := g.copies[i].state; s == migration.Running || s == migration.Paused {
			at = append(at, w.hosts[i])
		}
	}
	if len(at) > 0 {
		at[d.IntN(len(at))].killQEMU(g, "its QEMU is killed")
	}
}

func (w *world) cutLink(d dice) {
	a := w.anyHost(d)
	b := w.hosts[(a.index+1+d.IntN(len(w.hosts)-1))%len(w.hosts)]
	until := w.now + int64(d.between(time.Second, 2*time.Minute))
	w.links.cut(a.index, b.index, until)
	w.say("fault", nil, "the link %s - %s is cut until %s", a.id, b.id, since(until))
}

// meddle is a person or a tool that does things to a VM (F12).
func (w *world) meddle(d dice) {
	g := w.guests[d.IntN(len(w.guests))]
	f := w.latest(func(f *fact) bool { return f.drive != nil && !f.drive.over })
	if f != nil && d.IntN(2) == 0 {
		g = f.g
	}
	at := g.running()
	switch d.IntN(5) {
	case 0: // pauses it for a while
		if at == nil || g.at(at).job != nil {
			return
		}
		w.byPerson(g, at, d.between(5*time.Second, 3*time.Minute))
	case 1, 2: // moves it with another tool
		if at == nil || g.at(at).job != nil || g.at(at).conn != 0 {
			return
		}
		c, to := g.at(at), w.other(at)
		c.alien = true
		w.say("another tool", g, "begins to move it from %s to %s", at.id, to.id)
		w.after(d.between(5*time.Second, time.Minute), func() {
			ours := w.current(g)
			if !c.alien {
				return
			}
			c.alien = false
			if d.IntN(2) == 0 || c.state != migration.Running || g.at(to).state != migration.Absent || ours != nil {
				w.say("another tool", g, "gives up")
				return
			}
			w.carry(g, at, to)
		})
	case 3: // deletes it, and makes it again
		if at == nil || w.work.IntN(4) != 0 {
			return
		}
		g.hurt = w.now
		for i := range g.copies {
			if g.copies[i].state != migration.Absent {
				w.hosts[i].killQEMU(g, "somebody deletes it")
			}
		}
	default: // resumes the destination's copy by hand
		for i := range g.copies {
			if f != nil && f.g == g && f.c.Destination == w.hosts[i].id && w.byHand(g, w.hosts[i]) {
				return
			}
		}
	}
}

// strike is a fault at a labelled step of a move: whoever matters there is killed,
// stopped or cut off. It is false when the leading actuator is no more.
func (w *world) strike(d *drive, label string) bool {
	a, dst := d.a, w.byHost[d.f.c.Destination]
	gen := a.gen
	w.strikeOne(a, dst, d.g, label)
	return a.up && a.gen == gen
}

// strikeAt is the same at a step of the destination.
func (w *world) strikeAt(a *actuator, g *guest, label string) bool {
	gen := a.gen
	src := a.h
	if f := w.current(g); f != nil {
		src = w.byHost[f.c.Source]
	}
	w.strikeOne(a, src, g, label)
	return a.up && a.gen == gen
}

func (w *world) strikeOne(a *actuator, peer *host, g *guest, label string) {
	d := w.steps
	w.say("fault", g, "strikes at step %q of %s", label, a.name)
	switch d.IntN(12) {
	case 0, 1, 2:
		w.counts.fault(3)
		a.kill("SIGKILL at " + label)
	case 3, 4:
		w.counts.fault(3)
		peer.act.kill("SIGKILL at " + label + " of its peer")
	case 5:
		w.counts.fault(4)
		w.freeze(&a.process, d.between(2*time.Second, 4*time.Minute))
	case 6:
		w.counts.fault(4)
		w.freeze(&peer.act.process, d.between(2*time.Second, 4*time.Minute))
	case 7:
		w.counts.fault(8)
		a.h.killLibvirtd(d.between(200*time.Millisecond, 10*time.Second))
	case 8:
		w.counts.fault(8)
		peer.killLibvirtd(d.between(200*time.Millisecond, 10*time.Second))
	case 9:
		if w.mix.qemu > 0 {
			w.counts.fault(8)
			peer.killQEMU(g, "its QEMU is killed at "+label)
		}
	case 10:
		w.counts.fault(9)
		w.links.cut(a.h.index, peer.index, w.now+int64(d.between(time.Second, time.Minute)))
	default:
		w.counts.fault(2)
		until := w.now + int64(d.between(time.Second, time.Minute))
		if d.IntN(2) == 0 {
			w.links.up[a.node] = until
		} else {
			w.links.down[a.node] = until
		}
	}
}

// operate is an operator at work: pauses, aborts, and what else acts are for.
func (w *world) operate(d dice) {
	act := func(s schemas.Act) {
		w.n++
		s.ID, s.By, s.Time = "act-"+string(s.Act)+"-"+since(w.now), "operator", schemas.Time(w.now)
		s.ID = token(s.ID)
		w.publish(&w.boss.process, out{key: keyOperator, Out: streams.Out{Subject: streams.SubjectAct(s.Act), ID: s.ID, Msg: &s}}, func(uint64, failure) {})
	}
	switch d.IntN(3) {
	case 0:
		act(schemas.Act{Act: schemas.ActPause})
		w.after(d.between(10*time.Second, 10*time.Minute), func() { act(schemas.Act{Act: schemas.ActResume}) })
	case 1:
		if f := w.latest(func(f *fact) bool { return f.drive != nil && !f.drive.over }); f != nil {
			act(schemas.Act{Act: schemas.ActAbort, Command: f.c.ID, VM: f.c.VM})
		}
	default:
		w.operatePlacer(d, act)
	}
}

// operatePlacer is what only a placer heeds.
func (w *world) operatePlacer(d dice, act func(schemas.Act)) {
	if w.mix.storm {
		return
	}
	h := w.anyHost(d)
	kind := schemas.ActCordon
	if d.IntN(2) == 0 {
		kind = schemas.ActDrain
	}
	act(schemas.Act{Act: kind, Host: h.id})
	w.after(d.between(10*time.Minute, 3*time.Hour), func() { act(schemas.Act{Act: schemas.ActUncordon, Host: h.id}) })
}

// token makes a name fit for a subject.
func token(s string) string {
	b := []byte(s)
	for i, c := range b {
		if c == '.' || c == ' ' {
			b[i] = '-'
		}
	}
	return string(b)
}

package cluster

import (
	"time"

	"github.com/foreshift/foreshift/actuator/migration"
	"github.com/foreshift/foreshift/schemas"
	"github.com/foreshift/foreshift/streams"
)

// calmFor is how long a cluster goes on after its days without faults and without new
// moves: whatever is under way comes to its end, people settle what nobody knows.
const calmFor = 50 * time.Minute

// quiet ends the faults and the moves of a cluster; at its end nothing may be left.
func (w *world) quiet() {
	w.calm = true
	w.say("operator", nil, "no more faults and no new moves from here on")
	id := "act-last-pause"
	w.publish(&w.boss.process, out{key: keyOperator, Out: streams.Out{Subject: streams.SubjectAct(schemas.ActPause), ID: id,
		Msg: &schemas.Act{ID: id, Act: schemas.ActPause, By: "operator", Time: schemas.Time(w.now)}}}, func(uint64, failure) {})
	w.nats.skew = 0
	for i := range w.links.clocks {
		w.links.clocks[i] = 0
	}
	w.at(w.end, w.nothingLeft)
}

// nothingLeft holds I14: after the calm every VM runs once, and of all moves nothing is
// left but what journals must remember.
func (w *world) nothingLeft() {
	for _, g := range w.guests {
		if f := w.current(g); f != nil {
			w.violate("I14", g, "epoch %d has still not ended: %s", f.msg.seq, f.drive.s.Stage)
		}
		if g.running() == nil {
			w.violate("I14", g, "runs nowhere")
		}
		for i, h := range w.hosts {
			c, f, disk := g.at(h), h.file(g), h.disk
			is := func(broken bool, format string, args ...any) {
				if broken {
					w.violate("I14", g, "on "+string(h.id)+" "+format, args...)
				}
			}
			is(c.state != migration.Running && c.state != migration.Absent, "a copy is left, %s", c.state)
			is(c.job != nil || c.alien, "a job is left")
			is(c.conn != 0 || c.session != 0, "a connection is bound to a phase of a move still")
			is(disk.flushed.recs[g.index].Open(), "its record as a destination is open still: %+v", disk.flushed.recs[g.index])
			is(g.local && f.there != (c.state == migration.Running), "there is a disk file: %t, and its copy is %s", f.there, c.state)
			is(disk.flushed.files[g.index] != 0, "a file made for epoch %d is still written down as nobody's", disk.flushed.files[g.index])
			a := w.hosts[i].act
			is(a.up && (a.moves[g.index] != nil || a.served[g.index] || len(a.queue[g.index]) > 0), "its actuator still has work with it")
		}
	}
	for _, h := range w.hosts {
		if h.act.up && h.act.leading != 0 {
			w.violate("I14", nil, "%s counts %d moves under way, and there is none", h.act.name, h.act.leading)
		}
	}
}

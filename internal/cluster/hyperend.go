package cluster

import (
	"time"

	"github.com/foreshift/foreshift/actuator/migration"
)

// confirm is Confirm3(cancelled=0): the source's copy goes.
func (h *host) confirm(g *guest, conn int) error {
	c := g.at(h)
	if c.conn != conn || c.state != migration.Paused || c.incoming {
		c.conn = 0
		return errRefuse
	}
	h.end(g, "Confirm3")
	return nil
}

// destroy ends the source's copy by the journal: destroy and undefine.
func (h *host) destroy(g *guest) error {
	if g.at(h).state == migration.Absent {
		return nil
	}
	h.end(g, "destroyed and undefined")
	return nil
}

// end takes a source's copy away for good, and looks whether that was right.
func (h *host) end(g *guest, what string) {
	c := g.at(h)
	h.fetching(g, what)
	if c.state == migration.Running {
		h.w.violate("I3", g, "%s destroyed a copy that was running", h.id)
	}
	lives := false // or did when its host was last heard of
	for i := range g.copies {
		if o := &g.copies[i]; i != h.index && (o.state == migration.Running || o.justPaused(g)) {
			lives = true
			if o.spoilt {
				h.w.violate("I3", g, "%s destroyed its copy, the other has never lived", h.id)
			}
		}
	}
	if !lives && (g.hurt == 0 || g.hurt < g.heard) {
		h.w.violate("I3", g, "%s destroyed its copy, no other runs", h.id)
	}
	g.set(h, migration.Absent, what)
}

// justPaused: a person paused it a moment ago. It is whole, has all that the guest did,
// and was running when it was looked at.
func (c *copyOf) justPaused(g *guest) bool {
	return c.state == migration.Paused && c.foreign && !c.incoming && c.version == g.version && time.Duration(g.w.now-c.since) <= migration.DefaultLimits().Fresh
}

// release drops a destination's copy: destroy and undefine. asked is when the source
// asked for it, 0 when nobody did.
func (h *host) release(g *guest, epoch uint64, asked int64) error {
	c := g.at(h)
	if c.state == migration.Running {
		h.w.violate("I3", g, "%s destroyed a running copy when it released epoch %d", h.id, epoch)
	}
	if h.act.leads(g) && c.state != migration.Absent && !c.incoming {
		h.w.violate("I3", g, "%s dropped for epoch %d the copy whose move it leads", h.id, epoch)
	}
	if c.state == migration.Paused && !c.incoming {
		left := false
		for i := range g.copies {
			if o := &g.copies[i]; i != h.index && (o.state == migration.Running || o.state == migration.Paused && !o.incoming || (o.state == migration.Absent || o.state == migration.ShutOff) && o.since >= asked) {
				left = true
			}
		}
		if !left && asked != 0 {
			h.w.violate("I3", g, "%s gave up the last whole copy", h.id)
		}
	}
	// What a person let run, and nobody has seen run before its QEMU died, nobody can tell
	// from a copy that died as it stood, once Finish was asked for.
	dark := c.hand && !c.seen && h.disk.flushed.recs[g.index].Asked >= epoch
	if c.state == migration.ShutOff && c.served && c.version == g.version && !dark {
		h.w.violate("I2", g, "%s undefined the VM that had run there last, when it released epoch %d", h.id, epoch)
	}
	if c.state != migration.Absent {
		g.set(h, migration.Absent, "dropped, epoch released")
	}
	return nil
}

// abort ends the job that Begin3 or Perform3 began, before switchover.
func (h *host) abort(g *guest, conn int) error {
	c := g.at(h)
	switch {
	case c.job != nil && (c.job.still || c.job.post):
		return errRefuse // in switchover job calls are not served
	case c.job != nil:
		c.job.fail("aborted", errRefuse)
		return nil
	case c.conn == conn:
		c.conn = 0
		return nil
	}
	return errRefuse
}

// disconnect is what libvirt does when a client's connection goes, for one guest: a
// transfer is cancelled, an incoming guest dropped; what is past that stays paused.
func (h *host) disconnect(g *guest) {
	c := g.at(h)
	if c.conn == 0 || c.conn == peerConn {
		return
	}
	c.conn = 0
	if c.job != nil {
		c.job.fail("the connection of its client closed", errGone)
	}
	if c.incoming && c.state == migration.Paused {
		g.set(h, migration.Absent, "incoming guest dropped: the connection of its client closed")
	}
}

// killLibvirtd is kill -9 of the daemon: facts/safety.md's table of crashes.
func (h *host) killLibvirtd(down time.Duration) {
	h.w.say("fault", nil, "libvirtd of %s is killed, for %s", h.id, down.Round(time.Millisecond))
	h.libvirtd = h.w.now + int64(down)
	for _, g := range h.w.guests {
		c := g.at(h)
		if c.conn == 0 {
			continue
		}
		c.conn = 0
		if c.job != nil { // PERFORM3: cancels, resumes the source
			c.job.fail("its libvirtd was killed", errGone)
		}
		if c.incoming && c.state == migration.Paused { // PREPARE, FINISH3: kills the incoming guest
			finishing := h.disk.flushed.recs[g.index].Asked == c.session
			g.set(h, migration.Absent, "incoming guest killed with its libvirtd")
			if finishing && h.w.hyper.odds(500) { // Finish3 had just made it persistent
				g.set(h, migration.ShutOff, "a definition is left over")
			}
		}
	}
}

// killQEMU is a guest's process that dies, by no doing of Foreshift's.
func (h *host) killQEMU(g *guest, why string) {
	c := g.at(h)
	if c.state != migration.Running && c.state != migration.Paused {
		return
	}
	if !c.incoming || c.whole {
		g.hurt = h.w.now
	}
	h.qemuEnds(g, why)
}

// qemuEnds takes a guest's process away, and with it the transfer that it was sending.
func (h *host) qemuEnds(g *guest, why string) {
	h.stops(g, !g.at(h).incoming && h.w.hyper.odds(500), why)
}

// stops is that; a guest that is defined stays as one that is shut off.
func (h *host) stops(g *guest, defined bool, why string) {
	c := g.at(h)
	j, version, served, hand, seen := c.job, c.version, c.served, c.hand, c.seen
	lost := c.fetched
	g.set(h, migration.Absent, why)
	if defined {
		g.set(h, migration.ShutOff, "its definition is left")
		c.version, c.served, c.hand, c.seen = version, served, hand, seen
	}
	if j != nil && !j.over {
		j.over = true
		j.tell(errRefuse)
		j.dst.dropIncoming(g, j.epoch, "its source died")
		if lost {
			j.dst.killQEMU(g, "the memory that it fetched is gone")
		}
	}
}

// powerLoss takes the host down with all its guests and what was not flushed.
func (h *host) powerLoss(down time.Duration) {
	h.w.say("fault", nil, "%s loses its power, for %s", h.id, down.Round(time.Second))
	h.act.die("power loss")
	h.disk.lose()
	for _, g := range h.w.guests {
		h.killQEMU(g, "its host lost power")
	}
	h.libvirtd = h.w.now + int64(down)
	h.act.startAfter(down + h.w.steps.between(time.Second, 10*time.Second))
}

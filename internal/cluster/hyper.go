package cluster

import (
	"errors"
	"fmt"
	"time"

	"github.com/foreshift/foreshift/actuator/migration"
	"github.com/foreshift/foreshift/schemas"
)

// guest is one VM as it truly is, on all hosts at once.
type guest struct {
	w       *world
	id      schemas.VMID
	name    string
	index   int
	copies  []copyOf // by host
	version int      // of its state: rises when another copy goes on from it
	hurt    int64    // when a QEMU last died or a person last did something to it; 0: never, or mended
	plan    demand
	heard   int64 // when its destination last looked for its source
	mending bool  // a person has seen that it is down
	local   bool  // its disk is on local storage
	lease   *host // who holds the lock of its disk, where there is one
}

// copyOf is one host's copy.
type copyOf struct {
	state    migration.Copy // Absent, ShutOff, Paused or Running
	incoming bool           // paused because a transfer comes in
	whole    bool           // all of the guest is there
	foreign  bool           // paused by a person
	job      *transfer      // of Foreshift
	alien    bool           // a job of somebody else's runs on it
	conn     int            // life of the actuator whose connection holds Begin3 or Prepare3; 0 none
	session  uint64         // epoch of Prepare3 over that connection
	made     uint64         // epoch last prepared
	version  int
	spoilt   bool  // the transfer has spoilt it: it runs and does not live
	since    int64 // in this state
	ran      time.Duration
	served   bool // it has run here
	fetched  bool // another copy fetches memory from it
	hand     bool // a person has let it run
	seen     bool // its host's actuator has seen it run
}

// host is one machine: its libvirtd, its guests, its disk, and the actuator on it.
type host struct {
	w        *world
	id       schemas.HostID
	index    int
	site     schemas.SiteID
	cores    float64
	gib      float64
	libvirtd int64 // down until then
	lockd    lockDaemon
	waits    int64 // for a reply of Finish3 that is lost, or is waited for, until then
	act      *actuator
	agent    *process
	disk     *diskOf
	files    []fileOf // by guest
}

// transfer is a Perform3 under way.
type transfer struct {
	g        *guest
	src, dst *host
	epoch    uint64
	conn     int
	began    int64
	copied   int64 // when the guest is paused
	still    bool  // paused: switchover
	endless  bool  // it never converges
	disk     int64 // its disk is copied until then
	over     bool
	peer     bool // libvirt leads
	post     bool // post-copy has begun
	tell     func(error)
}

// errors of calls to libvirt.
var (
	errGone   = fmt.Errorf("the connection to libvirt is lost: %w", migration.ErrUnclear)
	errRefuse = errors.New("libvirt: the domain is not in that state")
)

func (g *guest) at(h *host) *copyOf { return &g.copies[h.index] }

// set changes the state of a copy, and looks whether the invariants hold.
func (g *guest) set(h *host, to migration.Copy, what string) {
	c := g.at(h)
	from := c.state
	if from == migration.Running && to != migration.Running && !c.spoilt {
		c.ran += time.Duration(g.w.now - c.since)
	}
	c.state, c.since = to, g.w.now
	g.leased(h, from, to)
	if to == migration.Running { // what other copies hold is old from now on
		g.version++
		c.version, c.served = g.version, true
		h.runsOn(g)
		if c.spoilt {
			g.w.after(g.w.hyper.between(500*time.Millisecond, 6*time.Second), func() {
				if c.state == migration.Running && c.spoilt {
					h.qemuEnds(g, "the guest was spoilt by its transfer: QEMU ends")
					g.hurt = g.w.now // if a copy is left: without one that was the violation
				}
			})
		}
	}
	if to == migration.Absent {
		*c = copyOf{state: to, since: g.w.now, made: c.made}
	}
	g.w.blend(uint64(g.index)<<32 ^ uint64(h.index)<<8 ^ uint64(to))
	g.w.say("libvirt "+string(h.id), g, "copy %s -> %s: %s", from, to, what)
	g.check(what)
}

// check holds I1 and I2.
func (g *guest) check(after string) {
	running, intact := 0, 0
	for i := range g.copies {
		c := &g.copies[i]
		switch {
		case c.state == migration.Running:
			running++
			intact++
		case c.state == migration.Paused && (c.whole || !c.incoming):
			intact++
		}
	}
	if running > 1 {
		g.w.violate("I1", g, "runs on %d hosts after %s", running, after)
	}
	if intact == 0 && g.hurt == 0 {
		g.w.violate("I2", g, "no whole copy is left after %s", after)
	}
}

// running is where it runs, nil when nowhere.
func (g *guest) running() *host {
	for i := range g.copies {
		if g.copies[i].state == migration.Running {
			return g.w.hosts[i]
		}
	}
	return nil
}

// answers reports whether the host's libvirt does.
func (h *host) answers() bool { return h.w.now >= h.libvirtd }

// look is what libvirt says of a copy now.
func (h *host) look(g *guest) (migration.Seen, error) {
	if !h.answers() {
		return migration.Seen{}, errGone
	}
	c := g.at(h)
	s := migration.Seen{Copy: c.state, Incoming: c.incoming && c.state == migration.Paused, Foreign: c.foreign && c.state == migration.Paused, Job: c.alien, PostCopy: c.fetched}
	if c.state == migration.Running {
		c.seen = true
		s.CPU = uint64(c.ran)
		if !c.spoilt {
			s.CPU += uint64(h.w.now - c.since)
		}
	}
	return s, nil
}

// begin is Begin3.
func (h *host) begin(g *guest, conn int) error {
	c := g.at(h)
	if c.state != migration.Running || c.conn != 0 || c.alien {
		return errRefuse
	}
	c.conn = conn
	return nil
}

// prepare is Prepare3.
func (h *host) prepare(g *guest, epoch uint64, conn int, disks bool) error {
	c := g.at(h)
	if c.state != migration.Absent {
		if h.w.now-c.since > int64(recently) { // else it came after the look
			h.w.violate("I3", g, "%s prepared epoch %d on top of a copy that is %s", h.id, epoch, c.state)
		}
		return errRefuse
	}
	if c.made >= epoch {
		h.w.violate("I5", g, "%s prepared epoch %d after %d", h.id, epoch, c.made)
	}
	if low := h.disk.low[g.index]; epoch < low {
		h.w.violate("I5", g, "%s acted on epoch %d below the fence %d that was on its disk", h.id, epoch, low)
	}
	if g.local && !disks {
		return errRefuse // QEMU finds no disk to open
	}
	if g.local {
		if err := h.makeFile(g, epoch); err != nil {
			return err
		}
	}
	c.state, c.since, c.incoming, c.whole, c.session, c.conn, c.made, c.spoilt = migration.Paused, h.w.now, true, false, epoch, conn, epoch, false
	c.foreign, c.alien, c.ran, c.version, c.served = false, false, 0, 0, false
	h.w.say("libvirt "+string(h.id), g, "incoming guest prepared for epoch %d", epoch)
	return nil
}

// perform is Perform3; tell hears how it ended, if the caller still holds the
// connection.
func (h *host) perform(g *guest, dst *host, epoch uint64, conn int, tell func(error)) {
	c := g.at(h)
	if !h.answers() || c.conn != conn || c.state != migration.Running {
		c.conn = 0
		tell(errRefuse)
		return
	}
	h.send(&transfer{g: g, src: h, dst: dst, epoch: epoch, conn: conn, tell: tell})
}

// send begins a transfer.
func (h *host) send(j *transfer) {
	w, g := h.w, j.g
	j.began, g.at(h).job = w.now, j
	j.endless = !w.calm && w.hyper.odds(w.mix.endless)
	copying := w.hyper.between(time.Second, 12*time.Second)
	if g.local {
		d := w.hyper.between(time.Second, 10*time.Second)
		copying += d
		j.disk = w.now + int64(d)
	}
	j.copied = w.now + int64(copying)
	if j.endless {
		j.copied = w.now + int64(time.Hour)
	}
	if !w.calm && w.hyper.odds(w.mix.performFails) {
		w.counts.fault(9)
		w.after(w.hyper.between(0, copying), func() { j.fail("Perform3 failed", errRefuse) })
	}
	w.after(copying/2, j.halfway)
	w.after(copying, j.pause)
}

// halfway looks at the link, and at the destination.
func (j *transfer) halfway() {
	if j.over || j.post {
		return
	}
	d := j.g.at(j.dst)
	switch {
	case !j.dst.incomingOf(j):
		j.fail("the destination's incoming guest is gone", errRefuse)
	case !j.src.w.links.open(j.src.index, j.dst.index):
		j.src.w.after(8*time.Second, func() { j.fail("the link was cut in pre-copy", errRefuse) })
	case d.state != migration.Paused:
		j.fail("the destination's copy is not incoming", errRefuse)
	}
}

// incomingOf reports whether the host still waits for this transfer.
func (h *host) incomingOf(j *transfer) bool {
	d := j.g.at(h)
	return d.state == migration.Paused && d.incoming && d.session == j.epoch && d.conn != 0
}

// pause is the switchover: the guest stands still at the source.
func (j *transfer) pause() {
	if j.over || j.endless {
		return
	}
	if !j.dst.incomingOf(j) {
		j.fail("the destination's incoming guest is gone", errRefuse)
		return
	}
	j.still = true
	j.g.set(j.src, migration.Paused, "switchover")
	j.src.w.after(j.src.w.hyper.between(50*time.Millisecond, 800*time.Millisecond), j.arrive)
}

// arrive ends the switchover, when the link lets it.
func (j *transfer) arrive() {
	w := j.src.w
	switch {
	case j.over:
		return
	case !w.links.open(j.src.index, j.dst.index):
		// The guest stays paused until the link is back.
		w.after(time.Second, j.arrive)
		return
	case !j.dst.incomingOf(j):
		j.fail("the destination's incoming guest is gone in switchover", errRefuse)
		return
	}
	j.over = true
	s, d := j.g.at(j.src), j.g.at(j.dst)
	s.job = nil
	d.whole, d.version = true, s.version
	if f := j.dst.file(j.g); f.there {
		f.whole, f.version = true, j.src.file(j.g).version
	}
	d.spoilt = !w.calm && w.hyper.odds(w.mix.spoils)
	w.say("libvirt "+string(j.src.id), j.g, "the transfer to %s is complete, both copies are paused", j.dst.id)
	// Where libvirt leads it asks for the disk's lease first, whoever resumes.
	if !w.calm && w.hyper.odds(w.mix.wakes) && !(j.peer && j.src.acquire(j.g) != nil) {
		w.counts.fault(12)
		j.g.hurt = w.now
		j.g.set(j.src, migration.Running, "somebody resumes it by hand, just then")
	}
	if j.peer {
		j.land()
		return
	}
	if !w.calm && w.hyper.odds(w.mix.performLost) {
		w.counts.fault(8)
		s.conn = 0
		j.tell(errGone)
		return
	}
	j.tell(nil)
}

// fail ends the transfer without the guest: it goes on at the source.
func (j *transfer) fail(why string, err error) {
	if j.over || j.post {
		return
	}
	j.over = true
	s := j.g.at(j.src)
	s.job = nil
	if s.state == migration.Paused && j.still && !s.foreign {
		j.src.again(j.g, why)
	} else {
		j.src.w.say("libvirt "+string(j.src.id), j.g, "the transfer to %s fails: %s", j.dst.id, why)
	}
	s.conn = 0
	// QEMU at the other end has nothing to wait for.
	dst, g, epoch, w := j.dst, j.g, j.epoch, j.src.w
	w.after(w.hyper.between(0, 2*time.Second), func() { dst.dropIncoming(g, epoch, "its transfer has failed") })
	j.tell(err) // a caller that has died does not hear it
}

// dropIncoming is libvirt that gives up an incoming guest.
func (h *host) dropIncoming(g *guest, epoch uint64, why string) {
	if c := g.at(h); c.state == migration.Paused && c.incoming && c.session == epoch {
		g.set(h, migration.Absent, "incoming guest dropped: "+why)
	}
}

// finish is Finish3: the copy becomes whole, persistent, and stays paused.
func (h *host) finish(g *guest, epoch uint64, conn int) error {
	c := g.at(h)
	if c.made != epoch {
		h.w.violate("I3", g, "%s was to finish epoch %d, which nobody prepared there", h.id, epoch)
	}
	if c.state != migration.Paused || !c.incoming || c.session != epoch || c.conn != conn {
		return errRefuse
	}
	if !c.whole {
		g.set(h, migration.Absent, "Finish3 before the transfer was complete")
		return errRefuse
	}
	c.incoming, c.conn, c.session = false, 0, 0
	h.w.say("libvirt "+string(h.id), g, "Finish3 done: whole, persistent and paused")
	return nil
}

// start is Resume at the destination or at the source.
func (h *host) start(g *guest, what string) error {
	c := g.at(h)
	if c.state != migration.Paused {
		return errRefuse
	}
	if c.incoming {
		h.w.violate("I3", g, "%s resumed a copy that is not whole", h.id)
		return errRefuse
	}
	if c.version < g.version {
		h.w.violate("I3", g, "%s resumed a stale copy: another has run since", h.id)
	}
	if err := h.acquire(g); err != nil || h.fetching(g, what) {
		return errors.Join(err, errRefuse)
	}
	c.foreign, c.conn = false, 0
	g.set(h, migration.Running, what)
	return nil
}

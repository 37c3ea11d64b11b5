package cluster

import (
	"errors"
	"time"

	"github.com/foreshift/foreshift/actuator/migration"
	"github.com/foreshift/foreshift/schemas"
)

// Clusters whose hosts let libvirt lead, peer to peer, under a disk lock. A guest's lease
// has one holder, and a host's libvirt starts or resumes a guest only with it. The lock
// holds as long as all hosts keep their leases in one place and as their lock daemons
// live: one that is killed loses all that it held, and the guests run on.

// peerConn marks a phase that is bound to no client: libvirt goes on without us.
const peerConn = -1

// lockDaemon is a host's.
type lockDaemon struct {
	born    int   // counts its lives
	away    int64 // it does not run until then
	private int64 // it keeps leases where no other host looks, until then
}

// errLocal is what Begin finds where libvirt leads: it would start the VM at the other host
// on whatever file it finds there under the name of its disk.
var errLocal = &migration.Refusal{Why: schemas.Reason{Code: schemas.ReasonStorage, Detail: "a disk is on local storage: it goes along in the default handover only"}}

var errLock = errors.New("libvirt: the lease of the disk is not to be had")

// locks reports whether the disk lock of the host is worth anything.
func (h *host) locks() bool { return h.w.now >= h.lockd.away && h.w.now >= h.lockd.private }

// acquire is libvirt that takes the lease before a guest may run.
func (h *host) acquire(g *guest) error {
	switch {
	case !h.w.mix.peer || h.w.now < h.lockd.private:
		return nil
	case h.w.now < h.lockd.away || g.lease != nil && g.lease != h:
		return errLock
	}
	return nil
}

// leased notes what becomes of a guest's lease when a copy's state changes.
func (g *guest) leased(h *host, from, to migration.Copy) {
	switch {
	case !g.w.mix.peer:
	case to == migration.Running && h.locks():
		g.lease = h // a person's way, too: whoever starts it breaks the lease of what does not run
	case from == migration.Running && to != migration.Running && g.lease == h:
		g.lease = nil
	}
}

// spared: a lock that fails within the seconds in which a source waits for a lost reply
// lets libvirt run it twice. No guard could hold that, and it is not done here.
func (h *host) spared() bool { return h.w.now < h.waits }

// killLockd is kill -9 of a host's lock daemon; nobody tells.
func (h *host) killLockd(d dice) {
	if h.spared() {
		return
	}
	h.lockd.born++
	h.lockd.away = h.w.now + int64(d.between(time.Second, 3*time.Minute))
	for _, g := range h.w.guests {
		if g.lease == h {
			g.lease = nil
		}
	}
	h.w.say("fault", nil, "the lock daemon of %s is killed, until %s", h.id, since(h.lockd.away))
}

// leaveLock is somebody who has a host keep its leases for itself; its libvirtd starts anew.
func (h *host) leaveLock(d dice) {
	if h.spared() {
		return
	}
	h.lockd.born++
	h.lockd.private = h.w.now + int64(d.between(time.Minute, 20*time.Minute))
	h.w.say("fault", nil, "%s keeps its leases where no other host looks, until %s", h.id, since(h.lockd.private))
	h.killLibvirtd(time.Second)
}

// lockState is why the lock of the actuator's own host does not hold; zero: it does. Where
// leases are kept only the trial with another host tells.
func (h *host) lockState(born int) schemas.Reason {
	if h.w.now < h.lockd.away || born != h.lockd.born {
		return schemas.Reason{Code: schemas.ReasonLock, Detail: "the lock daemon of " + string(h.id) + " is gone"}
	}
	return schemas.Reason{}
}

// proof is a destination's of the lock, for one epoch.
type proof struct {
	epoch uint64
	born  int
}

// prove is the trial of the lock between two hosts: a lease that the source holds must not
// be had here.
func (a *actuator) prove(q *request) schemas.Reason {
	i, h := q.g.index, a.h
	if a.proofs[i].epoch == q.epoch {
		return h.lockState(a.proofs[i].born)
	}
	if h.w.now < h.lockd.private || q.from.w.now < q.from.lockd.private {
		return schemas.Reason{Code: schemas.ReasonLock, Detail: "a lease that the source holds can be had here"}
	}
	why := h.lockState(h.lockd.born)
	if why.OK() {
		a.proofs[i] = proof{q.epoch, h.lockd.born}
	}
	return why
}

// held is the destination's lock for a move, as it adds to each reply.
func (a *actuator) held(g *guest, epoch uint64) schemas.Reason {
	if p := a.proofs[g.index]; p.epoch == epoch && epoch != 0 {
		return a.h.lockState(p.born)
	}
	return schemas.Reason{}
}

// lock is what the source knows of both hosts' locks; what is lost stays so for this move.
func (d *drive) lock() schemas.Reason {
	if !d.s.Peer {
		return schemas.Reason{}
	}
	if why := d.a.h.lockState(d.lockd); !why.OK() {
		return why
	}
	return d.there
}

// performPeer begins a move that libvirt leads to its end.
func (d *drive) performPeer(tell func(error)) {
	h, g, w := d.a.h, d.g, d.a.w
	dst := w.byHost[d.f.c.Destination]
	if m := h.disk.flushed.moves[g.index]; m.mark != migration.MarkHanded && !w.without("fsync") {
		w.violate("I13", g, "%s lets libvirt lead epoch %d, and nothing on its disk says so", d.a.name, d.s.Epoch)
	}
	c, to := g.at(h), g.at(dst)
	if !h.answers() || !dst.answers() || c.state != migration.Running || c.job != nil || c.conn != 0 || c.alien || to.state != migration.Absent || g.local && !dst.file(g).there || !w.links.open(h.index, dst.index) {
		tell(errRefuse)
		return
	}
	c.conn = peerConn
	*to = copyOf{state: migration.Paused, since: w.now, incoming: true, session: d.s.Epoch, conn: peerConn, made: to.made}
	w.say("libvirt "+string(dst.id), g, "incoming guest made by libvirt for epoch %d", d.s.Epoch)
	h.send(&transfer{g: g, src: h, dst: dst, epoch: d.s.Epoch, conn: peerConn, peer: true, tell: tell})
}

// land is the end of a transfer that libvirt leads: Finish3 makes the destination run, and
// Confirm3 ends the source - or its reply is lost, and the source would run again.
func (j *transfer) land() {
	w, g := j.src.w, j.g
	s, d := g.at(j.src), g.at(j.dst)
	s.conn, d.conn, d.session, d.incoming = 0, 0, 0, false
	d.spoilt = false // libvirt ends the source without a look at how the other lives: nobody could keep it
	if err := j.dst.acquire(g); err != nil {
		g.set(j.dst, migration.Absent, "libvirt cannot start it: "+err.Error())
		j.src.again(g, "the destination could not start it")
		j.tell(errRefuse)
		return
	}
	g.set(j.dst, migration.Running, "libvirt lets it run")
	if !w.calm && w.hyper.odds(w.mix.performLost) {
		w.counts.fault(8)
		w.say("libvirt "+string(j.src.id), g, "Finish3's reply is lost")
		const wait = 7 * time.Second
		j.src.waits, j.dst.waits = w.now+int64(wait), w.now+int64(wait)
		w.after(wait, func() {
			j.src.again(g, "Finish3's reply was lost")
			j.tell(errRefuse)
		})
		return
	}
	g.set(j.src, migration.Absent, "libvirt ends it")
	if !w.calm && w.hyper.odds(w.mix.performLost) {
		j.tell(errGone)
		return
	}
	j.tell(nil)
}

// again is libvirt that would have the source run again, if the lock lets it.
func (h *host) again(g *guest, why string) {
	c := g.at(h)
	switch err := h.acquire(g); {
	case c.state != migration.Paused || c.foreign || c.incoming:
	case err != nil:
		h.w.say("libvirt "+string(h.id), g, "does not start it again: %v", err)
	default:
		g.set(h, migration.Running, "libvirt starts it again: "+why)
	}
}

// postCopy lets the destination run at once and fetch what is missing from the source's
// copy, which stays paused until all of it is there. A cut link makes it wait. It is false
// when libvirt refuses.
func (j *transfer) postCopy() bool {
	w, g := j.src.w, j.g
	if j.over || j.still || j.post || !j.dst.incomingOf(j) || !w.links.open(j.src.index, j.dst.index) {
		return false // libvirt refuses; the transfer goes on as it was
	}
	w.counts.PostCopies++
	s, d := g.at(j.src), g.at(j.dst)
	j.post, j.endless, s.fetched = true, true, true
	g.set(j.src, migration.Paused, "post-copy begins")
	d.conn, d.session, d.incoming, d.whole, d.version = 0, 0, false, true, s.version
	if err := j.dst.acquire(g); err != nil {
		s.fetched, j.over, s.job, s.conn = false, true, nil, 0
		g.set(j.dst, migration.Absent, "libvirt cannot start it: "+err.Error())
		j.src.again(g, "the destination could not start it")
		j.tell(errRefuse)
		return true
	}
	g.set(j.dst, migration.Running, "runs, and fetches memory from "+string(j.src.id))
	w.after(w.hyper.between(5*time.Second, 40*time.Second), j.fetched)
	return true
}

// fetched is the end of post-copy: the destination has all, the source's copy goes.
func (j *transfer) fetched() {
	w, g := j.src.w, j.g
	s := g.at(j.src)
	switch {
	case j.over || s.job != j:
		return
	case g.at(j.dst).state.Gone(): // it died: what the source has is old
		j.over = true
		s.fetched, s.job, s.conn = false, nil, 0
		j.tell(errRefuse)
		return
	case !w.links.open(j.src.index, j.dst.index) || !j.src.answers():
		w.after(time.Second, j.fetched)
		return
	}
	j.over = true
	s.fetched, s.job, s.conn = false, nil, 0
	g.set(j.src, migration.Absent, "all is fetched, libvirt ends it")
	j.tell(nil)
}

// fetching reports that another copy still fetches memory from this one.
func (h *host) fetching(g *guest, what string) bool {
	if g.at(h).fetched {
		h.w.violate("I2", g, "%s: the other copy still fetches memory from that of %s", what, h.id)
	}
	return g.at(h).fetched
}

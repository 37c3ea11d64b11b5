package cluster

import (
	"errors"

	"github.com/foreshift/foreshift/actuator/migration"
	"github.com/foreshift/foreshift/schemas"
)

// The journal of an actuator as it is on disk and in memory. Its rules are those of
// the real one: a record counts once it is flushed, a torn one is cut off.

// entry is one record.
type entry struct {
	g      *guest
	fence  uint64
	id     schemas.CommandID
	seq    uint64
	why    *schemas.Reason
	move   *moveRecord
	record *migration.Record
	files  *uint64 // epoch for which a disk file may be here that is nobody's; 0: none
}

// moveRecord is a move that the host leads.
type moveRecord struct {
	mark    migration.Mark
	written int64
	epoch   uint64
	unknown bool
	peer    bool // libvirt leads
	started int64
	copied  schemas.Bytes // of disks that go along
	f       *fact
	outcome *schemas.Outcome // proven, and to be told
}

// pages is what a journal adds up to; arrays are by guest.
type pages struct {
	fences []uint64
	moves  []moveRecord
	recs   []migration.Record
	files  []uint64
	ids    map[schemas.CommandID]migration.Judged
}

func newPages(guests int) pages {
	return pages{make([]uint64, guests), make([]moveRecord, guests), make([]migration.Record, guests), make([]uint64, guests), map[schemas.CommandID]migration.Judged{}}
}

func (p *pages) fold(e *entry) {
	i := e.g.index
	p.fences[i] = max(p.fences[i], e.fence)
	if e.id != "" {
		p.ids[e.id] = migration.Judged{Seq: e.seq, Why: e.why}
	}
	if e.move != nil {
		p.moves[i] = *e.move
		p.fences[i] = max(p.fences[i], e.move.epoch)
	}
	if e.record != nil {
		p.recs[i] = *e.record
		p.fences[i] = max(p.fences[i], e.record.Fence)
		if e.record.Resumed >= p.files[i] {
			p.files[i] = 0 // it is the running VM's
		}
	}
	if e.files != nil {
		p.files[i] = *e.files
	}
}

// diskOf is what of a host survives: flushed records always, the others only as long
// as the power.
type diskOf struct {
	w       *world
	flushed pages
	written []entry  // not flushed yet: none, unless the guard "fsync" is left out
	low     []uint64 // by guest: the highest fence that was ever promised
	full    int64    // no space until then
}

func newDisk(w *world, guests int) *diskOf {
	return &diskOf{w: w, flushed: newPages(guests), low: make([]uint64, guests)}
}

// lose forgets what was not flushed.
func (d *diskOf) lose() { d.written = d.written[:0] }

var (
	errDisk = errors.New("journal: no space left on device")
	errDied = errors.New("the process died while it wrote")
)

// journal is the actuator's view of its disk.
type journal struct {
	a   *actuator
	mem pages
}

// open reads what is there after a start.
func (j *journal) open() {
	d := j.a.h.disk
	j.mem = newPages(len(j.a.w.guests))
	copy(j.mem.fences, d.flushed.fences)
	copy(j.mem.moves, d.flushed.moves)
	copy(j.mem.recs, d.flushed.recs)
	copy(j.mem.files, d.flushed.files)
	for id, g := range d.flushed.ids {
		j.mem.ids[id] = g
	}
	for i := range d.written { // still in the kernel's cache
		j.mem.fold(&d.written[i])
	}
}

// write makes a record durable, then counts it as done. The process may die over it;
// then nobody knows whether the record is there.
func (j *journal) write(e entry) error {
	d, w := j.a.h.disk, j.a.w
	if !w.calm && (w.now < d.full || w.disk.odds(w.mix.diskFails)) {
		w.counts.fault(6)
		w.say("actuator "+string(j.a.h.id), e.g, "journal: write error, the record is cut off")
		return errDisk
	}
	if !w.calm && w.disk.odds(w.mix.crashWrite) {
		w.counts.fault(3)
		if w.disk.odds(500) {
			d.flushed.fold(&e)
		}
		j.a.kill("killed while it wrote its journal")
		return errDied
	}
	if e.record != nil {
		j.judge(&e)
	}
	j.mem.fold(&e)
	if w.without("fsync") {
		d.written = append(d.written, e)
		return nil
	}
	d.flushed.fold(&e)
	return nil
}

// judge holds what a destination's record may never say.
func (j *journal) judge(e *entry) {
	d, w, i := j.a.h.disk, j.a.w, e.g.index
	if e.record.Fence < d.low[i] {
		w.violate("I5", e.g, "the fence of %s fell from %d to %d", j.a.h.id, d.low[i], e.record.Fence)
	}
	d.low[i] = max(d.low[i], e.record.Fence)
	was, is := j.mem.recs[i], e.record
	if is.Resumed != 0 && is.Released == is.Resumed && was.Released != was.Resumed {
		// Unless a person has let a copy run that was given up and not dropped yet. It is
		// written down so that nobody drops it, nor takes the older one back.
		if c := e.g.at(j.a.h); was.Released < is.Released || !c.hand || c.state != migration.Running {
			w.violate("I3", e.g, "%s both resumed and released epoch %d", j.a.h.id, is.Resumed)
		}
	}
}

func (j *journal) fence(g *guest) uint64 { return j.mem.fences[g.index] }

// record is what this host durably knows as a destination.
func (j *journal) record(g *guest) migration.Record {
	r := j.mem.recs[g.index]
	r.Fence = max(r.Fence, j.mem.fences[g.index])
	return r
}

package cluster

import (
	"errors"
	"time"

	"github.com/foreshift/foreshift/actuator/migration"
	"github.com/foreshift/foreshift/schemas"
)

// Disks on local storage, which are copied along with their VM. Each host has one file
// at most of each guest. What an actuator makes it writes down first, so that nothing
// stays behind that nobody knows of (I14); what it deletes is never the last whole copy
// nor under a guest (I2).

// diskSize is that of a guest's disk: small, so that a move has to copy it in seconds.
const diskSize = schemas.Bytes(40 << 20)

// fileOf is one host's file of a guest's disk.
type fileOf struct {
	there   bool
	whole   bool   // all of the disk is in it
	version int    // of the guest's state that is in it
	made    uint64 // by a destination, for this epoch; 0: not
	theirs  bool   // a person keeps it there; the guest does not use it
}

var errSpace = &migration.Refusal{Why: schemas.Reason{Code: schemas.ReasonStorage, Detail: "the pool has no room for the disk, or has a file of its name"}}

func (h *host) file(g *guest) *fileOf { return &h.files[g.index] }

// disks is what Begin finds to go along.
func (g *guest) disks() schemas.Bytes {
	if g.local {
		return diskSize
	}
	return 0
}

// room reports whether a file can be made: none of that name may be there.
func (h *host) room(g *guest) error {
	if h.file(g).there && !h.w.without("no-file-there") || !h.w.calm && h.w.hyper.odds(h.w.mix.noRoom) {
		return errSpace
	}
	return nil
}

// makeFile makes an empty one, over another only if nobody looked.
func (h *host) makeFile(g *guest, epoch uint64) error {
	f := h.file(g)
	if f.there {
		if !h.w.without("no-file-there") {
			return errSpace
		}
		h.lost(g, "made anew for epoch")
	}
	*f = fileOf{there: true, made: epoch}
	h.w.say("libvirt "+string(h.id), g, "an empty disk file is made for epoch %d", epoch)
	return nil
}

// removeFile deletes the file, unless a guest of the host names it.
func (h *host) removeFile(g *guest, why string) error {
	w := h.w
	if !h.answers() {
		return errGone
	}
	f := h.file(g)
	if !f.there {
		return nil
	}
	if s := g.at(h).state; s != migration.Absent && !w.without("file-unused") {
		return errRefuse
	}
	w.say("libvirt "+string(h.id), g, "its disk file is deleted: %s", why)
	h.lost(g, why)
	*f = fileOf{}
	return nil
}

// lost judges a file that goes (I2): a guest needs it, or it was the last whole one.
func (h *host) lost(g *guest, why string) {
	f, c := h.file(g), g.at(h)
	if c.state == migration.Running || c.state == migration.Paused {
		h.w.violate("I2", g, "the disk of the copy on %s, which is %s, goes: %s", h.id, c.state, why)
	}
	if f.theirs {
		h.w.violate("I2", g, "the file that a person keeps on %s under the name of its disk goes: %s", h.id, why)
	}
	if !f.whole {
		return
	}
	for _, o := range h.w.hosts {
		if of := o.file(g); o != h && of.there && of.whole && of.version >= f.version {
			return
		}
	}
	h.w.violate("I2", g, "the last whole copy of its disk goes from %s: %s", h.id, why)
}

// runsOn is what a guest that begins to run does to its disk.
func (h *host) runsOn(g *guest) {
	if !g.local {
		return
	}
	f := h.file(g)
	if !f.there || !f.whole {
		h.w.violate("I2", g, "runs on %s without a whole disk", h.id)
	}
	f.version = g.version
}

// bringFile is a person or a tool that puts a guest's disk where it shall run, and
// leaves it nowhere else.
func (h *host) bringFile(g *guest) {
	if !g.local {
		return
	}
	for _, o := range h.w.hosts {
		*o.file(g) = fileOf{}
	}
	*h.file(g) = fileOf{there: true, whole: true, version: g.version}
}

// keepFile is a person who keeps a file of the name of a guest's disk where the guest is
// not, and where no move has to do with one: a copy of a week ago, say.
func (w *world) keepFile(d dice) {
	g, h := w.guests[d.IntN(len(w.guests))], w.anyHost(d)
	f := h.file(g)
	if !g.local || f.there || g.at(h).state != migration.Absent || w.current(g) != nil || h.disk.flushed.files[g.index]|h.act.journal.mem.files[g.index] != 0 {
		return
	}
	*f = fileOf{there: true, theirs: true}
	w.say("person", g, "keeps a file of the name of its disk on %s", h.id)
	w.after(d.between(2*time.Minute, 30*time.Minute), func() {
		if f.theirs {
			*f = fileOf{}
		}
	})
}

// copying writes down that this host's files go along, before any is copied.
func (d *drive) copying() error {
	if d.g.disks() == 0 {
		return nil
	}
	r := d.r
	r.copied = d.g.disks()
	err := d.a.journal.write(entry{g: d.g, move: &r})
	if err == nil {
		d.r = r
	}
	return err
}

// discard deletes what a move has copied away, once it has succeeded. A file that is
// kept is left for a person, who sees it counted.
func (d *drive) discard(r schemas.Result) error {
	h, g, w := d.a.h, d.g, d.a.w
	seen := d.o.Source == migration.Absent && d.o.Destination == migration.Running
	if d.r.copied == 0 || r != schemas.ResultSucceeded && !w.without("discard-when-gone") {
		return nil
	}
	if seen || w.without("discard-when-gone") {
		err := h.removeFile(g, "copied away by epoch")
		if err == nil || migration.HowOf(err) == migration.Unknown {
			return err
		}
	}
	h.leave(g)
	return nil
}

// leave tells a person of a file that is not the actuator's to delete.
func (h *host) leave(g *guest) {
	h.w.say(h.act.name, g, "its disk file is left, for a person")
	h.w.after(5*time.Minute, func() { h.w.person.sweep(h, g) })
}

// sweep is a person who deletes a file that was left: the guest runs elsewhere.
func (p *person) sweep(h *host, g *guest) {
	at := g.running()
	switch {
	case g.at(h).state != migration.Absent || p.w.current(g) != nil || at == nil:
		p.w.after(5*time.Minute, func() { p.sweep(h, g) })
	case at != h:
		*h.file(g) = fileOf{}
	}
}

// promise writes down which file is about to be made.
func (r *receiving) promise() error {
	a, g := r.a, r.g
	if !r.q.disks {
		return nil
	}
	if !a.h.answers() {
		return errGone
	}
	if err := a.h.room(g); err != nil {
		return err
	}
	if a.w.without("files-first") {
		return nil
	}
	return r.note(r.epoch)
}

// note writes for which epoch a file may be here that is nobody's, 0 for none.
func (r *receiving) note(epoch uint64) error {
	err := r.a.journal.write(entry{g: r.g, files: &epoch})
	if err != nil && !errors.Is(err, errDied) {
		return &migration.Refusal{Why: schemas.Reason{Code: schemas.ReasonJournal, Detail: err.Error()}}
	}
	return err
}

// clear deletes the file that was made for a move that is given up, before it is written
// down that its copy is surely gone.
func (r *receiving) clear(dropped uint64) error {
	made := r.a.journal.mem.files[r.g.index]
	if made == 0 || dropped < made || r.a.w.without("cleared") {
		return nil
	}
	if err := r.a.h.removeFile(r.g, "made for a move that is given up"); err != nil {
		return err
	}
	return r.note(0)
}

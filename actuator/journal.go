package actuator

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/cespare/xxhash/v2"

	"github.com/foreshift/foreshift/actuator/migration"
	"github.com/foreshift/foreshift/schemas"
)

// Bounds of the journal: it is written anew when it has grown past the first; ids
// are forgotten oldest first past the second, when their commands have long expired.
const (
	journalBytes = 4 << 20
	journalIDs   = 4096
)

// errDamaged: a record in the middle of the journal is not what was written.
var errDamaged = errors.New("the journal is damaged")

// entry is one record: what changed for one VM. On disk it is a line: the xxhash64
// of the JSON in hex, a space, the JSON. People can read it.
type entry struct {
	VM     schemas.VMID      `json:"vm"`
	Time   schemas.Time      `json:"time"`
	Fence  uint64            `json:"fence,omitempty"`
	Spare  bool              `json:"spare,omitempty"`  // refused beside a move of the VM: the fence stays where it was
	ID     schemas.CommandID `json:"id,omitempty"`     // seen from now on
	Why    *schemas.Reason   `json:"why,omitempty"`    // refused, for this
	Move   *moveRecord       `json:"move,omitempty"`   // this host is the source
	Record *migration.Record `json:"record,omitempty"` // this host is the destination
	Files  *files            `json:"files,omitempty"`  // made here for its disks; nobody's once it may run here
}

// files are those a destination makes for the disks of one move. They are written
// down before they are made, and gone when none are named.
type files struct {
	Epoch uint64   `json:"epoch"`
	Paths []string `json:"paths"`
}

// moveRecord is a move that this host leads.
type moveRecord struct {
	Mark    migration.Mark   `json:"mark"`
	Written int64            `json:"written"` // ns: when the mark was
	Epoch   uint64           `json:"epoch"`
	Unknown bool             `json:"unknown"` // reported as UNKNOWN
	Started schemas.Time     `json:"started"`
	Command *schemas.Command `json:"command"`
	Order   schemas.Signed   `json:"order"`

	Peer   bool          `json:"peer,omitempty"`   // libvirt leads
	Copied schemas.Bytes `json:"copied,omitempty"` // of disks that go along
	Files  []string      `json:"files,omitempty"`  // theirs at this host: deleted when the move has succeeded

	Outcome *schemas.Outcome `json:"outcome,omitempty"` // proven, and to be told
}

// judged is a command id with its sequence and, if refused, why.
type judged struct {
	vm    schemas.VMID
	id    schemas.CommandID
	seq   uint64
	spare bool
	why   *schemas.Reason
}

// journal is this host's durable memory. Its methods may be called by several
// goroutines.
type journal struct {
	path string

	mu     sync.Mutex
	f      *os.File
	size   int64
	broken error
	fences map[schemas.VMID]uint64
	moves  map[schemas.VMID]moveRecord
	recs   map[schemas.VMID]migration.Record
	files  map[schemas.VMID]files
	ids    map[schemas.CommandID]judged
	order  []schemas.CommandID // of ids, oldest first
}

// openJournal reads what is there. A torn last record, the trace of a crash while
// writing, is cut off; damage anywhere else is an error, for then nobody knows what
// was promised.
func openJournal(dir string) (*journal, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	j := &journal{path: filepath.Join(dir, "journal"), fences: map[schemas.VMID]uint64{}, moves: map[schemas.VMID]moveRecord{},
		recs: map[schemas.VMID]migration.Record{}, files: map[schemas.VMID]files{}, ids: map[schemas.CommandID]judged{}}
	b, err := os.ReadFile(j.path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("journal: %w", err)
	}
	good, err := j.replay(b)
	if err != nil {
		return nil, fmt.Errorf("journal %s: %w", j.path, err)
	}
	if j.f, err = os.OpenFile(j.path, os.O_CREATE|os.O_RDWR, 0o600); err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	j.size = int64(good)
	if err := errors.Join(j.f.Truncate(j.size), j.f.Sync(), syncDir(dir)); err != nil {
		return nil, errors.Join(fmt.Errorf("journal: %w", err), j.f.Close())
	}
	return j, nil
}

// replay folds the records of b and gives the length of what is whole.
func (j *journal) replay(b []byte) (good int, err error) {
	for good < len(b) {
		rest := b[good:]
		n := bytes.IndexByte(rest, '\n')
		if n < 0 {
			return good, nil // torn
		}
		e, err := parseEntry(rest[:n])
		if err != nil {
			if good+n+1 == len(b) {
				return good, nil // torn, with an old block's line feed at its end
			}
			return good, fmt.Errorf("%w at byte %d: %w", errDamaged, good, err)
		}
		j.fold(e)
		good += n + 1
	}
	return good, nil
}

func parseEntry(line []byte) (e entry, err error) {
	sum, doc, ok := strings.Cut(string(line), " ")
	if !ok || sum != checksum([]byte(doc)) {
		return e, errors.New("checksum does not match")
	}
	if err := json.Unmarshal([]byte(doc), &e); err != nil {
		return e, err
	}
	return e, nil
}

func checksum(b []byte) string { return fmt.Sprintf("%016x", xxhash.Sum64(b)) }

func appendEntry(to []byte, e entry) ([]byte, error) {
	doc, err := json.Marshal(e)
	if err != nil {
		return to, err
	}
	to = append(to, checksum(doc)...)
	to = append(to, ' ')
	to = append(to, doc...)
	return append(to, '\n'), nil
}

func (j *journal) fold(e entry) {
	if !e.Spare {
		j.fences[e.VM] = max(j.fences[e.VM], e.Fence)
	}
	if e.ID != "" {
		if _, ok := j.ids[e.ID]; !ok {
			j.order = append(j.order, e.ID)
		}
		j.ids[e.ID] = judged{e.VM, e.ID, e.Fence, e.Spare, e.Why}
		if len(j.order) > journalIDs {
			delete(j.ids, j.order[0])
			j.order = slices.Delete(j.order, 0, 1)
		}
	}
	if e.Move != nil {
		j.moves[e.VM] = *e.Move
		j.fences[e.VM] = max(j.fences[e.VM], e.Move.Epoch)
	}
	if e.Record != nil {
		j.recs[e.VM] = *e.Record
		j.fences[e.VM] = max(j.fences[e.VM], e.Record.Fence)
		if e.Record.Resumed >= j.files[e.VM].Epoch {
			delete(j.files, e.VM) // they are the running VM's
		}
	}
	if e.Files != nil {
		j.files[e.VM] = *e.Files
		if len(e.Files.Paths) == 0 {
			delete(j.files, e.VM)
		}
	}
}

// write makes a record durable, then counts it as done.
func (j *journal) write(e entry) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.broken != nil {
		return fmt.Errorf("journal %s: %w", j.path, j.broken)
	}
	b, err := appendEntry(nil, e)
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	if j.size+int64(len(b)) > journalBytes {
		if err := j.compact(); err != nil {
			return fmt.Errorf("journal: compaction: %w", err)
		}
	}
	_, err = j.f.WriteAt(b, j.size)
	if err == nil {
		err = j.f.Sync()
	}
	if err != nil {
		// What reached the disk is uncertain. Cut it off, or never write again: a
		// later record behind a torn one would be damage.
		if cut := errors.Join(j.f.Truncate(j.size), j.f.Sync()); cut != nil {
			j.broken = cut
		}
		return fmt.Errorf("journal %s: %w", j.path, err)
	}
	j.size += int64(len(b))
	j.fold(e)
	return nil
}

// compact writes the folded state to a new file and puts it in the old one's place.
// Ended moves are left out; fences and records stay.
func (j *journal) compact() error {
	var b []byte
	var err error
	add := func(e entry) {
		if err == nil {
			b, err = appendEntry(b, e)
		}
	}
	for _, id := range j.order {
		g := j.ids[id]
		add(entry{VM: g.vm, Fence: g.seq, Spare: g.spare, ID: g.id, Why: g.why})
	}
	for vm, f := range j.fences {
		e := entry{VM: vm, Fence: f}
		if m, ok := j.moves[vm]; ok && m.Mark != migration.MarkEnded {
			e.Move = &m
		}
		if r, ok := j.recs[vm]; ok {
			e.Record = &r
		}
		if f, ok := j.files[vm]; ok {
			e.Files = &f
		}
		add(e)
	}
	if err != nil {
		return err
	}
	next := j.path + ".new"
	f, err := os.OpenFile(next, os.O_CREATE|os.O_TRUNC|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Sync()); err == nil {
		err = os.Rename(next, j.path)
	}
	if err == nil {
		err = syncDir(filepath.Dir(j.path))
	}
	if err != nil {
		return errors.Join(err, f.Close())
	}
	old := j.f
	j.f, j.size = f, int64(len(b))
	return old.Close()
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func (j *journal) close() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.f.Close()
}

// fence is the highest epoch this host has durably seen for the VM, in either part.
func (j *journal) fence(vm schemas.VMID) uint64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.fences[vm]
}

func (j *journal) seen(id schemas.CommandID) (judged, bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	g, ok := j.ids[id]
	return g, ok
}

// record is what this host durably knows as a destination of the VM.
func (j *journal) record(vm schemas.VMID) migration.Record {
	j.mu.Lock()
	defer j.mu.Unlock()
	r := j.recs[vm]
	r.Fence = max(r.Fence, j.fences[vm])
	return r
}

// made are the files made here for the VM's disks, while they are not its own.
func (j *journal) made(vm schemas.VMID) files {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.files[vm]
}

// open lists the moves this host leads that have not ended.
func (j *journal) open() []moveRecord {
	j.mu.Lock()
	defer j.mu.Unlock()
	var out []moveRecord
	for _, m := range j.moves {
		if m.Mark != migration.MarkEnded {
			out = append(out, m)
		}
	}
	return out
}

// leads reports whether this host leads a move of the VM that has not ended.
func (j *journal) leads(vm schemas.VMID) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	m, ok := j.moves[vm]
	return ok && m.Mark != migration.MarkEnded
}

// received lists the VMs this host is or was a destination of.
func (j *journal) received() []schemas.VMID {
	j.mu.Lock()
	defer j.mu.Unlock()
	out := make([]schemas.VMID, 0, len(j.recs))
	for vm := range j.recs {
		out = append(out, vm)
	}
	return out
}

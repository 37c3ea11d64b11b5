package forecaster

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/cespare/xxhash/v2"
	"github.com/foreshift/foreshift/forecaster/pressure"
	"github.com/foreshift/foreshift/forecaster/window"
	"github.com/foreshift/foreshift/schemas"
)

// A snapshot is a row of sections, each with its length before it (uint64, little
// endian): the header in JSON, the open steps, and for every lane its bank and its
// head; then xxhash64 of all before it.

// snapshotVersion is the version of the snapshot's layout.
const snapshotVersion = 3

// header is the small part of a snapshot.
type header struct {
	Version  int
	Base     int64
	Late     int
	Now      int64
	Read     uint64
	Closed   schemas.Step
	Any      bool
	Issued   schemas.Step
	Made     bool
	Observed schemas.Step
	Parts    []partState
	VMs      []vmSaved
	InForce  []Version
	Waiting  []Version
}

type partState struct {
	Partition int
	Last      uint64
	SentAt    int64
	Queue     [][]byte // encoded steps messages
	Recs      []recState
}

type recState struct {
	Step     schemas.Step
	Own      bool
	Revision int
	Lease    uint64
	Stored   int64
	Read     uint64
}

type vmSaved struct {
	VM     schemas.VMID
	Index  int
	Steps  int // rows put so far
	Dirty  bool
	Taught bool
	Track  pressure.Tracker
	Long   [schemas.NumResources]pressure.LongRun
}

// AppendSnapshot implements streams.Decider: which steps are closed, what is under
// way, open steps, and all that was learnt. Windows are not in it: they are restored by
// folding the last 8 days of STEPS again after Restore.
func (d *Decider) AppendSnapshot(b []byte) []byte {
	h := header{Version: snapshotVersion, Base: int64(d.cfg.Base), Late: d.cfg.lateSteps(), Now: d.now, Read: d.read,
		Closed: d.closed, Any: d.any, Issued: d.issued, Made: d.made, Observed: d.observed,
		InForce: d.models.list(), Waiting: d.models.waiting}
	for i := range d.parts {
		if s := d.savePart(i); s.Last != 0 || len(s.Queue) > 0 || len(s.Recs) > 0 {
			h.Parts = append(h.Parts, s)
		}
		for _, v := range d.store.Partition(i) {
			if st := d.slot(v); st.present {
				h.VMs = append(h.VMs, vmSaved{v.ID, st.index, v.Steps, st.dirty, st.taught, st.track, st.long})
			}
		}
	}
	from := len(b)
	b = section(b, func(b []byte) []byte {
		head, err := json.Marshal(&h)
		if err != nil { // plain finite values: cannot happen; an empty header is refused by Restore
			return b
		}
		return append(b, head...)
	})
	b = section(b, d.acc.AppendState)
	for _, l := range d.lanes {
		b = section(b, l.bank.AppendState)
		b = section(b, l.head.AppendState)
	}
	return binary.LittleEndian.AppendUint64(b, xxhash.Sum64(b[from:]))
}

func (d *Decider) savePart(i int) partState {
	p := &d.parts[i]
	s := partState{Partition: i, Last: p.last, SentAt: p.sentAt}
	for _, m := range p.queue {
		enc, err := schemas.Encode(m)
		if err != nil {
			d.stats.Dropped++ // it could not be published either
			continue
		}
		s.Queue = append(s.Queue, enc)
	}
	for _, r := range p.ring {
		if r.known {
			s.Recs = append(s.Recs, recState{r.step, r.own, r.revision, r.lease, r.stored, r.read})
		}
	}
	return s
}

// section appends what add appends, with its length before it.
func section(b []byte, add func([]byte) []byte) []byte {
	at := len(b)
	b = add(binary.LittleEndian.AppendUint64(b, 0))
	binary.LittleEndian.PutUint64(b[at:], uint64(len(b)-at-8))
	return b
}

// cut gives the first section of b and what follows it.
func cut(b []byte) (sec, rest []byte, err error) {
	if len(b) < 8 {
		return nil, nil, errors.New("truncated")
	}
	n := binary.LittleEndian.Uint64(b)
	if n > uint64(len(b)-8) {
		return nil, nil, fmt.Errorf("section of %d bytes in %d", n, len(b)-8)
	}
	return b[8 : 8+n], b[8+n:], nil
}

// Restore implements streams.Decider. The decider must be new, and is good for nothing
// after an error. The STEPS of the last 8 days must be applied before the next Tick,
// those before the snapshot too.
func (d *Decider) Restore(b []byte) error {
	if err := d.restore(b); err != nil {
		return fmt.Errorf("forecaster snapshot: %w", err)
	}
	return nil
}

func (d *Decider) restore(b []byte) error {
	if len(b) < 8 || xxhash.Sum64(b[:len(b)-8]) != binary.LittleEndian.Uint64(b[len(b)-8:]) {
		return errors.New("truncated or damaged")
	}
	sec, b, err := cut(b[:len(b)-8])
	if err != nil {
		return err
	}
	var h header
	dec := json.NewDecoder(bytes.NewReader(sec))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&h); err != nil {
		return fmt.Errorf("header: %w", err)
	}
	if h.Version != snapshotVersion || h.Base != int64(d.cfg.Base) || h.Late != d.cfg.lateSteps() {
		return fmt.Errorf("version %d, base %d ns, late limit %d steps; want %d, %d, %d",
			h.Version, h.Base, h.Late, snapshotVersion, int64(d.cfg.Base), d.cfg.lateSteps())
	}
	if sec, b, err = cut(b); err != nil {
		return fmt.Errorf("open steps: %w", err)
	}
	if rest, err := d.acc.LoadState(sec); err != nil || len(rest) != 0 {
		return fmt.Errorf("open steps: %d bytes too many: %w", len(rest), err)
	}
	for _, l := range d.lanes {
		for _, load := range [...]func([]byte) error{l.bank.LoadState, l.head.LoadState} {
			if sec, b, err = cut(b); err == nil {
				err = load(sec)
			}
			if err != nil {
				return fmt.Errorf("%s: %w", l.r, err)
			}
		}
	}
	if len(b) != 0 {
		return fmt.Errorf("%d bytes too many", len(b))
	}
	d.read = h.Read
	d.now, d.closed, d.any, d.issued, d.made, d.observed = h.Now, h.Closed, h.Any, h.Issued, h.Made, h.Observed
	if err := d.models.restore(d, h.InForce, h.Waiting); err != nil {
		return err
	}
	if err := d.restoreVMs(h.VMs); err != nil {
		return err
	}
	for i := range h.Parts {
		if err := d.restorePart(&h.Parts[i]); err != nil {
			return err
		}
	}
	return nil
}

func (d *Decider) restoreVMs(vms []vmSaved) error {
	taken := map[int]bool{}
	for _, s := range vms {
		if s.Index < 0 || s.Index > 1<<20 || taken[s.Index] || s.Steps < 0 || s.Steps > window.Rows {
			return fmt.Errorf("vm %s: index %d, which is out of range or taken, %d rows", s.VM, s.Index, s.Steps)
		}
		taken[s.Index] = true
		v := d.store.Ensure(s.VM)
		if v == nil {
			return fmt.Errorf("vm %s: more than %d VMs", s.VM, d.cfg.MaxVMs)
		}
		v.Steps = s.Steps
		*d.slot(v) = vmState{id: s.VM, index: s.Index, present: true, dirty: s.Dirty, taught: s.Taught, track: s.Track, long: s.Long}
		for _, l := range d.lanes {
			l.room(s.Index)
		}
	}
	return nil
}

func (d *Decider) restorePart(s *partState) error {
	if s.Partition < 0 || s.Partition >= len(d.parts) {
		return fmt.Errorf("partition %d", s.Partition)
	}
	p := &d.parts[s.Partition]
	p.last, p.restored, p.sentAt = s.Last, s.Last, s.SentAt
	for _, r := range s.Recs {
		if r.Step < 0 {
			return fmt.Errorf("partition %d: step %d", s.Partition, r.Step)
		}
		if rec := p.rec(r.Step); rec != nil {
			*rec = stepRec{step: r.Step, known: true, own: r.Own, revision: r.Revision, lease: r.Lease, stored: r.Stored, read: r.Read}
		}
	}
	for i, enc := range s.Queue {
		msg, err := schemas.Decode(schemas.KindSteps, enc)
		if err != nil {
			return fmt.Errorf("partition %d: queued steps %d: %w", s.Partition, i, err)
		}
		m := msg.(*schemas.Steps)
		p.queue = append(p.queue, m)
		d.foldRows(m, p.at(m.Step), 0, true) // closed, but not in the stream yet
	}
	return nil
}

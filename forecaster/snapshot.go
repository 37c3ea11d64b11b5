package forecaster

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"

	"github.com/foreshift/foreshift/forecaster/pressure"
	"github.com/foreshift/foreshift/forecaster/window"
	"github.com/foreshift/foreshift/schemas"
)

// snapshotVersion is the version of the snapshot's layout.
const snapshotVersion = 1

// header is the small part of a snapshot; what follows it is the accumulator.
type header struct {
	Version  int
	Base     int64
	Late     int
	Now      int64
	Closed   schemas.Step
	Any      bool
	Issued   schemas.Step
	Parts    []partState
	Trackers []tracked
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
}

type tracked struct {
	VM    schemas.VMID
	Track pressure.Tracker
}

// AppendSnapshot implements streams.Decider: which steps are closed, what is under
// way, open steps. Windows are not in it: they are restored by folding the last 8
// days of STEPS again after Restore, and the models from the windows.
func (d *Decider) AppendSnapshot(b []byte) []byte {
	h := header{Version: snapshotVersion, Base: int64(d.cfg.Base), Late: d.cfg.lateSteps(), Now: d.now,
		Closed: d.closed, Any: d.any, Issued: d.issued}
	for i := range d.parts {
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
				s.Recs = append(s.Recs, recState{r.step, r.own, r.revision, r.lease, r.stored})
			}
		}
		if s.Last != 0 || len(s.Queue) > 0 || len(s.Recs) > 0 {
			h.Parts = append(h.Parts, s)
		}
	}
	d.each(func(v *window.VM, st *vmState) {
		if st.track.Known {
			h.Trackers = append(h.Trackers, tracked{v.ID, st.track})
		}
	})
	head, err := json.Marshal(&h)
	if err != nil { // plain values: cannot happen; an empty header is refused by Restore
		head = []byte("{}")
	}
	b = binary.LittleEndian.AppendUint64(b, uint64(len(head)))
	b = append(b, head...)
	return d.acc.AppendState(b)
}

// Restore implements streams.Decider. The decider must be new. The STEPS of the last
// 8 days must be applied before the next Tick, those before the snapshot too.
func (d *Decider) Restore(b []byte) error {
	if len(b) < 8 {
		return fmt.Errorf("forecaster snapshot: %d bytes", len(b))
	}
	n := binary.LittleEndian.Uint64(b)
	if n > uint64(len(b)-8) {
		return fmt.Errorf("forecaster snapshot: header of %d bytes in %d", n, len(b)-8)
	}
	var h header
	dec := json.NewDecoder(bytes.NewReader(b[8 : 8+n]))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&h); err != nil {
		return fmt.Errorf("forecaster snapshot: header: %w", err)
	}
	if h.Version != snapshotVersion || h.Base != int64(d.cfg.Base) || h.Late != d.cfg.lateSteps() {
		return fmt.Errorf("forecaster snapshot: version %d, base %d ns, late limit %d steps; want %d, %d, %d",
			h.Version, h.Base, h.Late, snapshotVersion, int64(d.cfg.Base), d.cfg.lateSteps())
	}
	rest, err := d.acc.LoadState(b[8+n:])
	if err != nil {
		return fmt.Errorf("forecaster snapshot: %w", err)
	}
	if len(rest) != 0 {
		return fmt.Errorf("forecaster snapshot: %d bytes too many", len(rest))
	}
	d.now, d.closed, d.any, d.issued = h.Now, h.Closed, h.Any, h.Issued
	for i := range h.Parts {
		if err := d.restorePart(&h.Parts[i]); err != nil {
			return fmt.Errorf("forecaster snapshot: %w", err)
		}
	}
	for _, t := range h.Trackers {
		if v := d.store.Ensure(t.VM); v != nil {
			d.state(v).track = t.Track
		}
	}
	return nil
}

func (d *Decider) restorePart(s *partState) error {
	if s.Partition < 0 || s.Partition >= len(d.parts) {
		return fmt.Errorf("partition %d", s.Partition)
	}
	p := &d.parts[s.Partition]
	p.last, p.sentAt = s.Last, s.SentAt
	for _, r := range s.Recs {
		if r.Step < 0 {
			return fmt.Errorf("partition %d: step %d", s.Partition, r.Step)
		}
		if rec := p.rec(r.Step); rec != nil {
			*rec = stepRec{step: r.Step, known: true, own: r.Own, revision: r.Revision, lease: r.Lease, stored: r.Stored}
		}
	}
	for i, enc := range s.Queue {
		msg, err := schemas.Decode(schemas.KindSteps, enc)
		if err != nil {
			return fmt.Errorf("partition %d: queued steps %d: %w", s.Partition, i, err)
		}
		m := msg.(*schemas.Steps)
		p.queue = append(p.queue, m)
		d.foldRows(m, p.at(m.Step), 0) // closed, but not in the stream yet
	}
	return nil
}

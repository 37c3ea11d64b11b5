package forecaster

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/cespare/xxhash/v2"
	"github.com/foreshift/foreshift/forecaster/ensemble"
	"github.com/foreshift/foreshift/forecaster/model"
	"github.com/foreshift/foreshift/forecaster/window"
	"github.com/foreshift/foreshift/schemas"
	"github.com/foreshift/foreshift/streams"
)

// stage is how far a partition has been taken over by a decider that holds only some.
type stage uint8

const (
	foreign stage = iota // nothing is kept of it
	loading              // its history is folded into windows
	active               // the models know its VMs; older rows of the windows are still to come
	filled               // all is here
)

// SetLeases says by which revision each partition is owned from the next Tick on; 0 is
// not.
func (d *Decider) SetLeases(revisions [schemas.Partitions]uint64) {
	for p, r := range revisions {
		d.owned[p] = r != 0
	}
	d.leases = revisions
}

// leaseOf is the revision by which a partition is owned; of who was told none apart it
// is that of all.
func (d *Decider) leaseOf(part int, all uint64) uint64 {
	if r := d.leases[part]; r != 0 {
		return r
	}
	return all
}

// madeOf tells the accumulator what a step was made of.
func (d *Decider) madeOf(part int, s schemas.Step) uint64 {
	if r := d.parts[part].at(s); r != nil {
		return r.read
	}
	return 0
}

// readOf is the sequence of METRICS up to which a partition's samples have been read.
func (d *Decider) readOf(part int) uint64 { return max(d.read, d.from[part]) }

// liveFor are the partitions for which the message with a sequence is news.
func (d *Decider) liveFor(seq uint64) *[schemas.Partitions]bool {
	if seq == 0 || seq > d.mostFrom {
		return &d.live
	}
	d.mask = d.live
	for p, from := range d.from {
		d.mask[p] = d.mask[p] && seq > from
	}
	return &d.mask
}

// Follow begins to take a partition over: from now on its history is folded.
func (d *Decider) Follow(part int) {
	if d.share[part] == foreign {
		d.share[part] = loading
	}
}

// FoldFor folds samples that came before those that are folded as they come, for some
// partitions.
func (d *Decider) FoldFor(m *schemas.Metrics, e streams.Event, parts *[schemas.Partitions]bool) {
	d.acc.FoldOf(m, e.Time, e.Seq, parts)
}

// Live says that a partition's samples up to sequence from have been folded; those
// above are from now on as they come.
func (d *Decider) Live(part int, from uint64) {
	d.live[part], d.from[part] = true, from
	d.mostFrom = max(d.mostFrom, from)
}

// Stale says that what is here of a partition may lack samples: it must be loaded anew.
func (d *Decider) Stale(part int) bool { return d.parts[part].stale }

// Waiting is how many closed steps of a partition are not in the history yet.
func (d *Decider) Waiting(part int) int { return len(d.parts[part].queue) }

// Drop forgets a partition.
func (d *Decider) Drop(part int) {
	d.store.Drop(part, func(v *window.VM) {
		st := d.slot(v)
		if st.present {
			for _, l := range d.lanes {
				l.bank.Remove(st.index)
			}
		}
		*st = vmState{}
	})
	d.acc.Drop(part)
	d.parts[part] = partition{ring: make([]stepRec, len(d.parts[part].ring))}
	d.share[part], d.live[part], d.owned[part], d.again[part], d.from[part], d.leases[part] = foreign, false, false, false, 0, 0
	d.gather()
}

// partVersion is the version of the layout of a partition's snapshot.
const partVersion = 1

// partHeader is the small part of a partition's snapshot.
type partHeader struct {
	Version  int
	Base     int64
	Closed   schemas.Step // newest step closed: what came before is in the history
	Observed schemas.Step // newest step the models have seen
	VMs      []vmSaved
}

// Part is a partition's snapshot, decoded: what was learnt of each of its VMs.
type Part struct {
	partHeader
	banks [schemas.NumResources]*ensemble.Ensemble
}

// SavePart writes what was learnt of the VMs of a partition: the small state that a new
// owner cannot get from the history. Sections as in a whole snapshot.
func (d *Decider) SavePart(part int, b []byte) ([]byte, error) {
	h := partHeader{Version: partVersion, Base: int64(d.cfg.Base), Closed: d.closed, Observed: d.observed}
	var banks [schemas.NumResources]*ensemble.Ensemble
	for r := range banks {
		banks[r] = ensemble.New()
	}
	for _, v := range d.store.Partition(part) {
		st := d.slot(v)
		if !st.present || d.share[part] < active {
			continue
		}
		index := 0
		for r, l := range d.lanes {
			index = banks[r].Add(model.Key{VM: v.ID, Resource: l.r})
			if err := banks[r].Adopt(index, l.bank, st.index); err != nil {
				return b, fmt.Errorf("partition %d: vm %s: %w", part, v.ID, err)
			}
		}
		h.VMs = append(h.VMs, vmSaved{v.ID, index, v.Steps, st.dirty, st.taught, st.track, st.long})
	}
	from := len(b)
	head, err := json.Marshal(&h)
	if err != nil {
		return b, fmt.Errorf("partition %d: %w", part, err)
	}
	b = section(b, func(b []byte) []byte { return append(b, head...) })
	for _, bank := range banks {
		b = section(b, bank.AppendState)
	}
	return binary.LittleEndian.AppendUint64(b, xxhash.Sum64(b[from:])), nil
}

// DecodePart reads what SavePart wrote. It takes a while and needs no decider.
func DecodePart(b []byte, base int64) (*Part, error) {
	p := &Part{}
	if len(b) < 8 || xxhash.Sum64(b[:len(b)-8]) != binary.LittleEndian.Uint64(b[len(b)-8:]) {
		return nil, errors.New("partition snapshot: truncated or damaged")
	}
	sec, b, err := cut(b[:len(b)-8])
	if err != nil {
		return nil, fmt.Errorf("partition snapshot: %w", err)
	}
	dec := json.NewDecoder(bytes.NewReader(sec))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&p.partHeader); err != nil {
		return nil, fmt.Errorf("partition snapshot: header: %w", err)
	}
	if p.Version != partVersion || p.Base != base || len(p.VMs) > 1<<20 || p.Observed < 0 {
		return nil, fmt.Errorf("partition snapshot: version %d, base %d ns; want %d and %d", p.Version, p.Base, partVersion, base)
	}
	for r := range p.banks {
		if sec, b, err = cut(b); err != nil {
			return nil, fmt.Errorf("partition snapshot: %w", err)
		}
		p.banks[r] = ensemble.New()
		if err := p.banks[r].LoadState(sec); err != nil {
			return nil, fmt.Errorf("partition snapshot: %w", err)
		}
	}
	if len(b) != 0 {
		return nil, fmt.Errorf("partition snapshot: %d bytes too many", len(b))
	}
	return p, nil
}

// Activate lets the models know the VMs of a partition whose newest history is folded.
// Without a snapshot (nil) they are new. It is false, and nothing has changed, when the
// snapshot is of a step that the others have not come to yet.
func (d *Decider) Activate(part int, p *Part) bool {
	if p != nil && d.made && p.Observed > d.observed {
		return false
	}
	if d.owned[part] && d.any { // what has ended meanwhile is closed first, so that the models see it
		d.closePart(part, d.closed, d.cfg.Lease())
	}
	d.share[part] = active
	d.again[part] = true
	if p != nil && p.Observed > 0 {
		if !d.made {
			d.begin(part, p)
		}
		d.adopt(part, p)
	}
	for _, v := range d.store.Partition(part) {
		d.state(v)
	}
	d.gather()
	return true
}

// begin puts a decider that has seen nothing yet where the partition's history ends.
func (d *Decider) begin(part int, p *Part) {
	at := p.Observed
	for _, v := range d.store.Partition(part) {
		at = max(at, v.LastStep)
	}
	if at-p.Observed > catchUp {
		at = p.Observed
	}
	d.observed, d.issued, d.made = at, at, true
	if !d.any || d.closed < at {
		d.closed, d.any = at, true
	}
}

// adopt brings the models of the snapshot to the step of ours, through the rows of the
// history, and takes them over.
func (d *Decider) adopt(part int, p *Part) {
	if d.observed-p.Observed > catchUp {
		return // they have missed too much; the windows teach new ones
	}
	vms := make([]*window.VM, len(p.VMs))
	rows := 0
	for i, s := range p.VMs {
		vms[i] = d.store.Get(s.VM)
		rows = max(rows, s.Index+1)
	}
	y := make([]float32, rows)
	for r, bank := range p.banks {
		for s := p.Observed + 1; s <= d.observed; s++ {
			for i := range y {
				y[i] = schemas.NaN()
			}
			for i, v := range vms {
				if v != nil {
					w := v.W.View()
					y[p.VMs[i].Index] = w.At(schemas.Resource(r), int(s-w.First))
				}
			}
			bank.Observe(s, y, model.Regressors{})
		}
	}
	for i, s := range p.VMs {
		v := vms[i]
		if v == nil || v.ID.Partition() != part {
			continue
		}
		st := d.state(v)
		for r, l := range d.lanes {
			if err := l.bank.Adopt(st.index, p.banks[r], s.Index); err != nil {
				d.stats.Dropped++ // it learns anew, from its window
				break
			}
			// A refit that fell due meanwhile is made up for.
			key := model.Key{VM: s.VM, Resource: l.r}
			s.Dirty = s.Dirty || model.Due(key, d.observed-schemas.Step(s.Steps), d.observed) > p.Observed
			if r == len(d.lanes)-1 {
				st.dirty, st.taught, st.track, st.long = s.Dirty, s.Taught, s.Track, s.Long
			}
		}
		v.Steps = max(v.Steps, s.Steps)
	}
}

// Fill folds older history of a partition that is active.
func (d *Decider) Fill(m *schemas.Steps, e streams.Event) {
	if m.Base == d.cfg.Base && d.share[m.Partition] >= loading {
		d.foldRows(m, d.parts[m.Partition].at(m.Step), e.Time, true)
	}
}

// Filled says that all older history of a partition has been folded.
func (d *Decider) Filled(part int) {
	if d.share[part] != active {
		return
	}
	d.share[part] = filled
	for _, v := range d.store.Partition(part) {
		v.Steps = max(v.Steps, v.W.Len())
	}
}

// reissue forecasts the partitions that have come since the last step was closed.
func (d *Decider) reissue(outs []streams.Out, lease uint64) []streams.Out {
	var only [schemas.Partitions]bool
	some := false
	for p := range only {
		only[p] = d.again[p] && d.owned[p] && d.share[p] >= active
		some = some || only[p]
	}
	if !some || !d.made {
		return outs
	}
	d.gather()
	history := 0
	for _, v := range d.list {
		history = max(history, int(d.issued-v.W.First())+1)
	}
	if history == 0 {
		return outs
	}
	for p := range only {
		d.again[p] = d.again[p] && !only[p]
	}
	d.joint.Begin(d.issued, history)
	return d.forecast(outs, d.batches(lease, &only), false)
}

// SaveShared writes what was learnt of no VM alone: the clusters' starting weights and
// the heads.
func (d *Decider) SaveShared(b []byte) ([]byte, error) {
	from := len(b)
	for _, l := range d.lanes {
		e := ensemble.New()
		if err := e.AdoptShared(l.bank); err != nil {
			return b, err
		}
		b = section(b, e.AppendState)
		b = section(b, l.head.AppendState)
	}
	return binary.LittleEndian.AppendUint64(b, xxhash.Sum64(b[from:])), nil
}

// LoadShared takes it over; on an error nothing has changed.
func (d *Decider) LoadShared(b []byte) error {
	if len(b) < 8 || xxhash.Sum64(b[:len(b)-8]) != binary.LittleEndian.Uint64(b[len(b)-8:]) {
		return errors.New("shared snapshot: truncated or damaged")
	}
	b = b[:len(b)-8]
	next := make([]*lane, len(d.lanes))
	for i, l := range d.lanes {
		next[i] = newLane(l.r)
		for _, load := range [...]func([]byte) error{next[i].bank.LoadState, next[i].head.LoadState} {
			sec, rest, err := cut(b)
			if err == nil {
				err = load(sec)
			}
			if err != nil {
				return fmt.Errorf("shared snapshot: %s: %w", l.r, err)
			}
			b = rest
		}
	}
	for i, l := range d.lanes {
		l.head = next[i].head
		if err := l.bank.AdoptShared(next[i].bank); err != nil {
			return err
		}
	}
	return nil
}

// NewShare makes a decider that holds no partition yet.
func NewShare(cfg Config) (*Decider, error) {
	d, err := NewDecider(cfg)
	if err != nil {
		return nil, err
	}
	for p := range d.share {
		d.share[p], d.live[p], d.owned[p] = foreign, false, false
	}
	return d, nil
}

func (d *Decider) ownsAny() bool { return slices.Contains(d.owned[:], true) }

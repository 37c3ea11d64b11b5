package forecaster

import (
	"fmt"

	"github.com/apache/arrow/go/v17/arrow/memory"
	"github.com/foreshift/foreshift/forecaster/calendar"
	"github.com/foreshift/foreshift/forecaster/ensemble"
	"github.com/foreshift/foreshift/forecaster/pressure"
	"github.com/foreshift/foreshift/forecaster/window"
	"github.com/foreshift/foreshift/schemas"
	"github.com/foreshift/foreshift/streams"
)

// Decider is the forecaster's pure heart. It is owned by one goroutine.
type Decider struct {
	cfg      Config
	owned    [schemas.Partitions]bool
	share    [schemas.Partitions]stage  // how far each partition has been taken over
	live     [schemas.Partitions]bool   // whose samples are folded as they come
	again    [schemas.Partitions]bool   // forecast at the next Tick, though no step has closed
	read     uint64                     // sequence of METRICS folded last
	from     [schemas.Partitions]uint64 // sequence of METRICS folded before a partition went live
	mostFrom uint64                     // highest of them
	mask     [schemas.Partitions]bool   // scratch
	leases   [schemas.Partitions]uint64 // by which each is owned; 0 = by that of all

	acc   *window.Accumulator // of METRICS
	store *window.Store       // of STEPS, and of what was closed here
	parts [schemas.Partitions]partition

	now    int64        // ns, newest stream time a Tick was told
	closed schemas.Step // newest closed step
	any    bool         // closed is set
	issued schemas.Step // newest step forecasts were made for
	made   bool         // issued is set

	future   future       // known-future series
	effect   effects      // of MIGRATIONS
	lanes    []*lane      // one a resource
	observed schemas.Step // newest step the lanes have seen
	vms      []vmState    // by window.VM.Slot
	list     []*window.VM // those with rows, in order of partition and id; of this issue
	queue    []*window.VM // scratch: those that wait for a refit
	atOnce   int          // rows to refit to at one step, see turns
	joint    ensemble.Joint
	models   versions
	rows     []window.Row
	scores   [schemas.NumResources]score
	stats    Stats
}

var _ streams.Decider = (*Decider)(nil)

// vmState is what the decider keeps of a VM beside its window.
type vmState struct {
	id      schemas.VMID
	index   int // of its series in every lane
	present bool
	dirty   bool // the window changed other than by the newest step: refit when it is its turn
	turn    bool // it is, in this issue
	taught  bool // the heads have been shown the window it came with
	track   pressure.Tracker
	said    said
	long    [schemas.NumResources]pressure.LongRun
}

// Stats counts since the start; gauges are of the last Tick.
type Stats struct {
	VMs       int
	Closed    schemas.Step // newest closed step; 0 before the first
	LagNs     int64        // from the end of the newest closed step to now
	Folded    window.Counts
	Steps     uint64                     // steps messages made
	Revisions uint64                     // of them corrections
	Known     uint64                     // rows dropped because the history had them already
	LostRaces uint64                     // steps messages that another owner forestalled
	Dropped   uint64                     // rows or messages dropped at a bound
	Forecasts uint64                     // VMs forecast
	Cold      uint64                     // VMs forecast as the fleet is: too little history of their own
	Absurd    uint64                     // values that no demand can be, taken as missing
	Stale     uint64                     // VMs withheld: no fresh telemetry
	NoData    uint64                     // VMs withheld: CPU demand unknown
	Widened   uint64                     // VMs forecast with widened quantiles
	Waiting   int                        // VMs whose changed past the models have not been refitted to yet
	Pressures uint64                     // pressure events made
	Models    uint64                     // versions of learnt state taken over
	Effects   uint64                     // of moves, told
	Unjudged  uint64                     // moves of whose effect nothing can be said
	Live      [schemas.NumResources]Live // how good the forecasts have been lately
	Entries   int                        // calendar entries and external series in force
	Expanded  calendar.Counts
}

// NewDecider makes a decider that owns every partition.
func NewDecider(cfg Config) (*Decider, error) {
	cfg = cfg.WithDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	mem := memory.NewGoAllocator()
	d := &Decider{cfg: cfg, acc: window.NewAccumulator(mem, window.Limits{
		Base: cfg.Base, Late: cfg.lateSteps(), Future: cfg.Future, VMs: cfg.MaxVMs}),
		store: window.NewStore(mem, cfg.MaxVMs), effect: newEffects(), future: future{book: calendar.NewBook(cfg.Base)},
		atOnce: int(max(cfg.Base/refitTime, refitLeast)) * window.Rows}
	for r := range schemas.Resource(schemas.NumResources) {
		d.lanes = append(d.lanes, newLane(r))
	}
	d.acc.SetKnown(d.madeOf)
	for p := range d.owned {
		d.owned[p], d.live[p], d.share[p] = true, true, filled
		d.parts[p].ring = make([]stepRec, cfg.lateSteps()+16)
	}
	return d, nil
}

// SetOwned says which partitions to publish for from the next Tick on; nil is none.
func (d *Decider) SetOwned(owned []bool) {
	for p := range d.owned {
		d.owned[p] = p < len(owned) && owned[p]
	}
}

// SetLast tells the last sequence of a partition's subject in STEPS, for subjects
// whose last message is older than what is folded.
func (d *Decider) SetLast(partition int, seq uint64) {
	if partition >= 0 && partition < len(d.parts) {
		d.parts[partition].last = max(d.parts[partition].last, seq)
	}
}

// Stats gives the counters.
func (d *Decider) Stats() Stats {
	s := d.stats
	for r := range s.Live {
		s.Live[r] = d.scores[r].live()
	}
	s.VMs, s.Folded = d.store.Len(), d.acc.Counts
	s.Entries, s.Expanded = d.future.book.Len(), d.future.book.Counts
	if d.any {
		s.Closed, s.LagNs = d.closed, d.now-int64(d.closed.End(d.cfg.Base))
	}
	return s
}

// Apply implements streams.Decider.
func (d *Decider) Apply(e streams.Event) error {
	switch m := e.Msg.(type) {
	case *schemas.Metrics:
		d.acc.FoldOf(m, e.Time, e.Seq, d.liveFor(e.Seq))
		d.read = max(d.read, e.Seq)
	case *schemas.Steps:
		return d.foldSteps(m, e)
	case *schemas.Command, *schemas.Outcome, *schemas.Effect:
		d.effect.fold(e)
	case *Version:
		return d.models.fold(m)
	case *schemas.External, *schemas.Calendar, *schemas.VMEntry, nil:
		return d.future.fold(e)
	default:
		return fmt.Errorf("forecaster: unexpected message %T in %s", m, e.Stream)
	}
	return nil
}

// foldSteps takes a message of the history: rows that are newer than ours by
// (revision, lease) go into the windows, and the subject's last sequence is noted.
func (d *Decider) foldSteps(m *schemas.Steps, e streams.Event) error {
	if m.Base != d.cfg.Base {
		return fmt.Errorf("forecaster: steps with base %v, ours is %v", m.Base, d.cfg.Base)
	}
	if ahead := schemas.StepAt(schemas.Time(e.Time), d.cfg.Base) + 2; m.Step > ahead {
		return fmt.Errorf("forecaster: step %d lies in the future of stream time (step %d)", m.Step, ahead-2)
	}
	if d.share[m.Partition] == foreign {
		return nil
	}
	p := &d.parts[m.Partition]
	rec := p.at(m.Step)
	ours := rec != nil && rec.own && rec.revision == m.Revision && rec.lease == m.Lease
	if !ours || e.Seq <= p.last { // ours is in the windows already, unless they are being restored
		d.foldRows(m, rec, e.Time, e.Seq <= p.restored)
	}
	if rec = p.rec(m.Step); rec != nil && !ours && newer(m.Revision, m.Lease, rec) {
		*rec = stepRec{step: m.Step, known: true, revision: m.Revision, lease: m.Lease, stored: e.Time, read: m.Metrics}
	} else if rec != nil {
		rec.stored = max(rec.stored, e.Time)
	}
	if e.Seq > p.last {
		p.last = e.Seq
		d.settle(p, m, ours)
	}
	return nil
}

func (d *Decider) foldRows(m *schemas.Steps, rec *stepRec, stored int64, seen bool) {
	var old, row window.Row
	for i, id := range m.VM {
		v := d.store.Get(id)
		if v != nil && v.W.Get(m.Step, &old) {
			if m.Revision < old.Revision || m.Revision == old.Revision && rec != nil && rec.known && m.Lease < rec.lease {
				continue
			}
		}
		row = window.Row{VM: id, Host: m.Host[i], Step: m.Step, Revision: m.Revision, Coverage: m.Coverage[i],
			Flags: m.Flags[i], AllocCPU: value(m.AllocCPU, i), AllocMem: value(m.AllocMem, i), Stored: stored}
		for c := range m.Cols {
			row.V[c] = value(m.Cols[c], i)
		}
		d.clean(&row)
		if !seen {
			d.put(&row)
		} else if v != nil { // a VM that the snapshot does not know had been forgotten
			n := v.Steps
			if !d.store.Put(&row) {
				d.stats.Dropped++
			}
			v.Steps = n
		}
	}
}

// mostDemand is what no VM demands of anything: a peta of bytes, bytes a second or
// thousandths of a core. What claims more is a broken counter, and would take the
// other VMs of its message with it.
const mostDemand = 1e15

// clean makes what no demand can be missing.
func (d *Decider) clean(row *window.Row) {
	for c, v := range row.V {
		if v < 0 || v > mostDemand {
			row.V[c] = schemas.NaN()
			d.stats.Absurd++
		}
	}
}

// put writes a row and marks the VM for a refit unless the row is the next one.
func (d *Decider) put(row *window.Row) {
	if !d.store.Put(row) {
		d.stats.Dropped++
		return
	}
	v := d.store.Get(row.VM)
	if d.share[v.Partition] < active {
		return
	}
	st := d.state(v)
	if d.made && row.Step <= d.observed {
		st.dirty = true
	}
}

// slot is the state of a VM, which may be another's still.
func (d *Decider) slot(v *window.VM) *vmState {
	for len(d.vms) <= v.Slot {
		d.vms = append(d.vms, vmState{})
	}
	return &d.vms[v.Slot]
}

// state finds or makes the state of a VM and its series in the lanes, which have them
// at the same index.
func (d *Decider) state(v *window.VM) *vmState {
	st := d.slot(v)
	if st.present && st.id == v.ID {
		return st
	}
	*st = vmState{id: v.ID, present: true, dirty: true}
	for _, l := range d.lanes {
		st.index = l.add(v.ID)
	}
	return st
}

// evict forgets VMs that were not seen for the length of the window.
func (d *Decider) evict() {
	d.store.Evict(d.closed, func(v *window.VM) {
		st := &d.vms[v.Slot]
		if st.present {
			for _, l := range d.lanes {
				l.bank.Remove(st.index)
			}
		}
		*st = vmState{}
	})
	d.acc.Evict(d.closed)
}

func value(col []float32, i int) float32 {
	if col == nil {
		return schemas.NaN()
	}
	return col[i]
}

// Tick implements streams.Decider: closes steps, publishes the history, and when a
// step has closed forecasts from it.
func (d *Decider) Tick(cut streams.Cut) []streams.Out {
	d.now = max(d.now, cut.Now, d.acc.Now())
	lease := d.cfg.Lease()
	var outs []streams.Out
	closing := schemas.StepAt(schemas.Time(d.now-int64(d.cfg.Grace)), d.cfg.Base) - 1
	fresh := !d.any || closing > d.closed
	if fresh {
		d.close(closing, lease)
		d.evict()
	}
	outs = d.publish(outs, lease)
	if fresh || d.made && d.observed < d.closed && d.ownsAny() {
		outs = d.issue(outs, lease)
		return d.effects(outs, lease)
	}
	return d.reissue(outs, lease)
}

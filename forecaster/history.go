package forecaster

import (
	"fmt"

	"github.com/foreshift/foreshift/forecaster/window"
	"github.com/foreshift/foreshift/schemas"
	"github.com/foreshift/foreshift/streams"
)

// partition is the record of one partition's history.
type partition struct {
	last     uint64           // sequence of the last message of its subject
	restored uint64           // last when the snapshot was taken: what came before was counted
	queue    []*schemas.Steps // closed, not yet seen in the stream; the first may be under way
	sentAt   int64            // ns, when; 0 = not under way
	ring     []stepRec        // newest message per step, by step
	stale    bool             // what is here may lack samples: to be loaded anew before it is owned
}

// stepRec is the newest message of one step of a partition.
type stepRec struct {
	step     schemas.Step
	known    bool
	own      bool // made here
	revision int
	lease    uint64
	stored   int64  // ns, stream time of the newest message seen
	read     uint64 // sequence of METRICS that its owner had read; 0 = not told
}

// has reports whether a row gathered here, or a part of it, went into the message.
func (r *stepRec) has(row *window.Row) bool {
	if r.read != 0 && row.First != 0 {
		return row.First <= r.read
	}
	return row.Stored <= r.stored
}

// maxQueue bounds the steps messages that wait per partition.
const maxQueue = 1024

// handOver is how many closed steps of a partition that another instance owns are
// kept, in case it dies before it has published them.
const handOver = 6

// at finds the record of a step, or nil.
func (p *partition) at(s schemas.Step) *stepRec {
	if r := &p.ring[int(s)%len(p.ring)]; r.known && r.step == s {
		return r
	}
	return nil
}

// rec finds the record of a step or makes room for it; nil when the ring has gone on
// to newer steps.
func (p *partition) rec(s schemas.Step) *stepRec {
	r := &p.ring[int(s)%len(p.ring)]
	switch {
	case r.known && r.step == s:
	case r.known && r.step > s:
		return nil
	default:
		*r = stepRec{step: s}
	}
	return r
}

// newer reports whether (revision, lease) beats what the record has.
func newer(revision int, lease uint64, r *stepRec) bool {
	return !r.known || revision > r.revision || revision == r.revision && lease >= r.lease
}

// close takes what was gathered up to the step and makes steps messages of it.
func (d *Decider) close(upTo schemas.Step, lease uint64) {
	for part := range d.parts {
		if d.owned[part] {
			if d.share[part] >= active {
				d.closePart(part, upTo, lease)
			}
			continue
		}
		p := &d.parts[part]
		p.stale = p.stale || len(p.queue) > 0 // closed, and the samples are gone
		p.queue, p.sentAt = nil, 0
		d.rows = d.acc.Take(part, upTo-handOver, d.rows[:0])
		d.stats.Known += uint64(len(d.rows))
		for i := range d.rows { // the owner has it, or nobody
			r := p.at(d.rows[i].Step)
			p.stale = p.stale || r == nil || r.read != 0 && d.rows[i].Read > r.read
		}
	}
	d.closed, d.any = upTo, true
	d.acc.Close(upTo)
}

// closePart does it for one partition that is owned.
func (d *Decider) closePart(part int, upTo schemas.Step, lease uint64) {
	d.rows = d.acc.Take(part, upTo, d.rows[:0])
	d.record(part, d.rows, d.leaseOf(part, lease))
}

// record makes one message for each step of the rows, which are sorted by step.
func (d *Decider) record(part int, rows []window.Row, lease uint64) {
	p := &d.parts[part]
	for len(rows) > 0 {
		n := 1
		for n < len(rows) && rows[n].Step == rows[0].Step {
			n++
		}
		step := rows[0].Step
		rec := p.rec(step)
		revision := 0
		if rec == nil { // older than what is told apart: beyond the late limit
			d.stats.Dropped += uint64(n)
			rows = rows[n:]
			continue
		}
		if rec.known {
			revision = rec.revision + 1
		}
		m := d.newSteps(part, step, revision, lease)
		for i := range rows[:n] {
			row := &rows[i]
			d.clean(row)
			if d.combine(row, rec) {
				row.Revision = revision
				d.put(row)
				appendRow(m, row)
			}
		}
		rows = rows[n:]
		if len(m.VM) == 0 {
			continue
		}
		*rec = stepRec{step: step, known: true, own: true, revision: revision, lease: lease, stored: rec.stored, read: d.readOf(part)}
		d.enqueue(p, m)
	}
}

// combine merges a row with what the history has of its step; false when the history
// holds all of it.
func (d *Decider) combine(row *window.Row, rec *stepRec) bool {
	v := d.store.Get(row.VM)
	var old window.Row
	if v == nil || !v.W.Get(row.Step, &old) {
		return true
	}
	// What another closed after these samples were stored has them in it.
	if !rec.own && rec.has(row) {
		if rec.read != 0 && row.Read > rec.read { // part of it is news: only a second reading tells
			d.parts[v.Partition].stale = true
		}
		d.stats.Known++
		return false
	}
	late := *row
	old.VM, old.Host, old.AllocCPU, old.AllocMem = row.VM, row.Host, row.AllocCPU, row.AllocMem
	if err := old.Merge(&late); err != nil {
		d.stats.Dropped++
		return false
	}
	*row = old
	return true
}

func (d *Decider) newSteps(part int, step schemas.Step, revision int, lease uint64) *schemas.Steps {
	return &schemas.Steps{Partition: part, Step: step, Revision: revision, Lease: lease, Base: d.cfg.Base, Metrics: d.readOf(part)}
}

func appendRow(m *schemas.Steps, r *window.Row) {
	m.VM, m.Host = append(m.VM, r.VM), append(m.Host, r.Host)
	m.Coverage, m.Flags = append(m.Coverage, r.Coverage), append(m.Flags, r.Flags)
	m.AllocCPU, m.AllocMem = append(m.AllocCPU, r.AllocCPU), append(m.AllocMem, r.AllocMem)
	for c, v := range r.V {
		col := m.Cols[c]
		if col == nil && v == v { // the rows before had none
			for range len(m.VM) - 1 {
				col = append(col, schemas.NaN())
			}
		}
		if col != nil || v == v {
			m.Cols[c] = append(col, v)
		}
	}
}

func (d *Decider) enqueue(p *partition, m *schemas.Steps) {
	if len(p.queue) >= maxQueue { // the bus has been away for days: keep the newest
		d.stats.Dropped++
		keep := 0
		if p.sentAt != 0 {
			keep = 1
		}
		p.queue = append(p.queue[:keep], p.queue[keep+1:]...)
	}
	p.queue = append(p.queue, m)
	d.stats.Steps++
	if m.Revision > 0 {
		d.stats.Revisions++
	}
}

// publish sends the first message of every queue that is not under way, or that has
// not shown up for so long that it must be sent again.
func (d *Decider) publish(outs []streams.Out, lease uint64) []streams.Out {
	for part := range d.parts {
		p := &d.parts[part]
		if !d.owned[part] || len(p.queue) == 0 || p.sentAt != 0 && d.now-p.sentAt < int64(d.cfg.Retry) {
			continue
		}
		m := p.queue[0]
		p.sentAt = d.now
		lease := d.leaseOf(part, lease)
		subject := streams.SubjectSteps(part)
		outs = append(outs, streams.Out{Subject: subject, ID: fmt.Sprintf("%d.%d.%d", part, m.Step, m.Revision),
			Msg: m, Lease: lease, Expect: &streams.Expect{Filter: subject, Seq: p.last}})
	}
	return outs
}

// settle looks at a message that became the last of the subject: ours has arrived, or
// somebody else's came first and ours, if it was under way, is lost.
func (d *Decider) settle(p *partition, m *schemas.Steps, ours bool) {
	if len(p.queue) == 0 {
		return
	}
	first := p.queue[0]
	if ours && first.Step == m.Step && first.Revision == m.Revision {
		p.queue[0] = nil
		p.queue, p.sentAt = p.queue[1:], 0
		return
	}
	if p.sentAt != 0 {
		p.sentAt = 0 // the expectation failed: send again on the new sequence
		d.stats.LostRaces++
	}
	if first.Step != m.Step || ours {
		return
	}
	if m.Metrics != 0 { // who had read what is told by sequence alone: begin again from there
		p.stale = true
		return
	}
	// The same step by another owner: only what it lacks is still news, and it needs
	// a revision above the other's.
	rest := d.newSteps(m.Partition, first.Step, max(first.Revision, m.Revision+1), first.Lease)
	var row window.Row
	for i, id := range first.VM {
		if contains(m.VM, id) {
			continue
		}
		row = window.Row{VM: id, Host: first.Host[i], Coverage: first.Coverage[i], Flags: first.Flags[i],
			AllocCPU: value(first.AllocCPU, i), AllocMem: value(first.AllocMem, i)}
		for c := range first.Cols {
			row.V[c] = value(first.Cols[c], i)
		}
		appendRow(rest, &row)
	}
	if len(rest.VM) == 0 {
		p.queue = p.queue[1:]
		return
	}
	p.queue[0] = rest
	if rec := p.rec(first.Step); rec != nil {
		*rec = stepRec{step: first.Step, known: true, own: true, revision: rest.Revision, lease: rest.Lease, stored: rec.stored}
	}
}

func contains(ids []schemas.VMID, id schemas.VMID) bool {
	for _, x := range ids {
		if x == id {
			return true
		}
	}
	return false
}

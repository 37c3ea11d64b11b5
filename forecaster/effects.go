package forecaster

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/foreshift/foreshift/forecaster/effect"
	"github.com/foreshift/foreshift/schemas"
	"github.com/foreshift/foreshift/streams"
)

// effects is the fold of MIGRATIONS: moves whose effect is still to be told, and what it
// takes to tell it. It is read anew from the stream's start after a restart, and so is
// in no snapshot.
type effects struct {
	record  map[schemas.VMID]uint64            // last sequence on each VM's record
	open    map[schemas.VMID]schemas.CommandID // commanded, not ended
	waiting map[schemas.CommandID]*awaited     // ended well, effect not told
	lately  map[schemas.HostID][]schemas.Time  // when moves from or to a host ended or began
	told    map[schemas.CommandID]schemas.Step // told here, not seen on the stream; when
	newest  schemas.Time
}

// awaited is a move whose effect is to be told.
type awaited struct {
	schemas.Outcome
	at schemas.Time
}

// Bounds of what is kept of MIGRATIONS.
const (
	maxAwaited = 4096
	maxRecord  = 1 << 18
	maxLately  = 256 // moves a host
)

func newEffects() effects {
	return effects{record: map[schemas.VMID]uint64{}, open: map[schemas.VMID]schemas.CommandID{}, waiting: map[schemas.CommandID]*awaited{},
		lately: map[schemas.HostID][]schemas.Time{}, told: map[schemas.CommandID]schemas.Step{}}
}

func (f *effects) fold(e streams.Event) {
	var vm schemas.VMID
	at := schemas.Time(e.Time)
	switch m := e.Msg.(type) {
	case *schemas.Command:
		vm, f.open[m.VM] = m.VM, m.ID
		f.touch(at, m.Source, m.Destination)
	case *schemas.Outcome:
		vm = m.VM
		if m.Result != schemas.ResultUnknown && f.open[vm] == m.Command {
			delete(f.open, vm)
		}
		f.touch(at, m.Source, m.Destination)
		if m.Result == schemas.ResultSucceeded {
			if len(f.waiting) < maxAwaited {
				f.waiting[m.Command] = &awaited{*m, at}
			}
		}
	case *schemas.Effect:
		vm = m.VM
		delete(f.waiting, m.Command)
		delete(f.told, m.Command)
	}
	if len(f.record) >= maxRecord { // the oldest goes: an effect of it would lose its race and be told again
		low, of := e.Seq, vm
		for v, seq := range f.record {
			if seq < low {
				low, of = seq, v
			}
		}
		delete(f.record, of)
	}
	f.record[vm] = max(f.record[vm], e.Seq)
	f.newest = max(f.newest, at)
}

// touch notes that a move began or ended at two hosts.
func (f *effects) touch(at schemas.Time, hosts ...schemas.HostID) {
	for _, h := range hosts {
		l := append(f.lately[h], at)
		f.lately[h] = l[max(0, len(l)-maxLately):]
	}
}

// effects tells what the moves achieved whose hour has passed with the newest step. A
// move too old for the windows is given up.
func (d *Decider) effects(outs []streams.Out, lease uint64) []streams.Out {
	f := &d.effect
	if len(f.waiting) == 0 {
		return outs
	}
	due := make([]*awaited, 0, len(f.waiting))
	for _, w := range f.waiting {
		due = append(due, w)
	}
	slices.SortFunc(due, func(a, b *awaited) int {
		return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.Command, b.Command))
	})
	var all []effect.Past
	for _, w := range due {
		m := d.moved(w)
		if d.closed > m.Due()+schemas.StepsPerDay { // the windows have gone on
			delete(f.waiting, w.Command)
			d.stats.Unjudged++
			continue
		}
		if d.closed < m.Due() || !d.owned[w.VM.Partition()] || d.share[w.VM.Partition()] < filled || f.open[w.VM] != "" || d.closed-f.told[w.Command] < resend && f.told[w.Command] != 0 {
			continue
		}
		if all == nil {
			all = d.pasts()
		}
		since := (m.From - effect.Span).Start(d.cfg.Base)
		busy := map[schemas.HostID]bool{w.Source: true, w.Destination: true}
		for h, times := range f.lately {
			busy[h] = busy[h] || times[len(times)-1] >= since
		}
		e, ok := effect.Judge(&m, d.closed, all, busy)
		if !ok {
			delete(f.waiting, w.Command)
			d.stats.Unjudged++
			continue
		}
		e.Time = d.closed.End(d.cfg.Base)
		f.told[w.Command] = d.closed
		d.stats.Effects++
		outs = append(outs, streams.Out{Subject: streams.SubjectEffect(w.VM), ID: "effect." + string(w.Command), Msg: &e, Lease: lease,
			Expect: &streams.Expect{Filter: streams.RecordOf(w.VM), Seq: f.record[w.VM]}})
	}
	for h, times := range f.lately {
		if times[len(times)-1] < f.newest.Add(-2*schemas.StepsPerDay*d.cfg.Base) {
			delete(f.lately, h)
		}
	}
	maps.DeleteFunc(f.told, func(c schemas.CommandID, _ schemas.Step) bool { return f.waiting[c] == nil })
	return outs
}

// resend is after how many steps an effect that did not show up is told again.
const resend = 2

// moved is a move in steps.
func (d *Decider) moved(w *awaited) effect.Move {
	from := w.Started
	if from == 0 || from > w.Time {
		from = w.Time.Add(-time.Duration(float64(w.Duration) * float64(time.Second)))
	}
	return effect.Move{Command: w.Command, Epoch: w.Epoch, VM: w.VM, Source: w.Source, Destination: w.Destination,
		From: schemas.StepAt(from, d.cfg.Base), To: schemas.StepAt(w.Time, d.cfg.Base)}
}

// pasts are the pasts of all VMs with fresh telemetry.
func (d *Decider) pasts() []effect.Past {
	out := make([]effect.Past, 0, len(d.list))
	for _, v := range d.list {
		if v.LastStep >= d.closed-staleAfter {
			out = append(out, effect.Past{VM: v.ID, Host: v.Host, Since: v.Since, View: v.W.View()})
		}
	}
	return out
}

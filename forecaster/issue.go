package forecaster

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/foreshift/foreshift/forecaster/ensemble"
	"github.com/foreshift/foreshift/forecaster/pressure"
	"github.com/foreshift/foreshift/forecaster/window"
	"github.com/foreshift/foreshift/schemas"
	"github.com/foreshift/foreshift/streams"
)

const (
	staleAfter = 3  // base steps without a row after which a VM is not forecast
	coldBelow  = 7  // rows below which a VM is forecast as the fleet is, where no expert speaks
	warmFrom   = 72 // rows from which quantiles are not widened any more
	catchUp    = 72 // steps that are lived through one by one after an outage
	modelName  = "ensemble: empirical, rises, seasonal-naive, ets, arima, prophet, lstm"
)

// issue brings the lanes to the newest step there is a history of, and forecasts from
// it what is owned.
//
// Who owns nothing stands by one step behind, for the owner's step comes over the bus
// a moment after its own clock says that it is closed; it keeps the same weights and
// memories as the owner and can go on in its place.
func (d *Decider) issue(outs []streams.Out, lease uint64) []streams.Out {
	upTo := d.closed
	idle := !slices.Contains(d.owned[:], true)
	if idle {
		upTo--
		if !slices.ContainsFunc(d.share[:], func(s stage) bool { return s >= active }) {
			return outs
		}
	}
	if d.made && upTo <= d.observed {
		return outs
	}
	d.gather()
	d.observe(upTo)
	d.judge(upTo)
	d.issued, d.made = upTo, true
	history := 0
	for _, v := range d.list {
		history = max(history, int(upTo-v.W.First())+1)
	}
	if history == 0 {
		return outs
	}
	d.joint.Begin(d.issued, history)
	if idle && !d.lanes[0].bank.Captures(upTo) {
		return outs
	}
	batches := d.batches(lease, nil)
	clear(d.again[:])
	return d.forecast(outs, batches, idle)
}

// forecast fills the batches and makes their messages; who is idle only remembers what
// it would have said.
func (d *Decider) forecast(outs []streams.Out, batches []*batch, idle bool) []streams.Out {
	together(d.cfg.Workers, len(d.lanes), func(i int) {
		d.lanes[i].forecast(d, batches)
	})
	if idle {
		return outs
	}
	batches = d.known(batches)
	d.paths(batches)
	together(d.cfg.Workers, len(d.lanes), func(i int) {
		for _, b := range batches {
			d.lanes[i].estimate(d, b.m, b.vms, b.chances)
		}
	})
	return d.send(outs, batches)
}

// gather lists the VMs with rows.
func (d *Decider) gather() {
	d.list = d.list[:0]
	for part := range d.parts {
		if d.share[part] < active {
			continue
		}
		for _, v := range d.store.Partition(part) {
			if v.W.Len() > 0 {
				d.list = append(d.list, v)
			}
		}
	}
}

// observe lets the lanes live through the steps up to upTo, refit what is due, and
// learn from what came.
func (d *Decider) observe(upTo schemas.Step) {
	d.expand()
	if !d.made || upTo-d.observed > catchUp {
		d.observed = upTo - 1
		for i := range d.vms {
			d.vms[i].dirty = d.vms[i].present
		}
	}
	d.models.take(d, upTo)
	d.turns(upTo)
	together(d.cfg.Workers, len(d.lanes), func(i int) {
		l := d.lanes[i]
		for s := d.observed + 1; s <= upTo; s++ {
			l.observe(d, s)
		}
		l.refit(d, upTo)
		l.learn(d, upTo)
	})
	for _, l := range d.lanes {
		d.stats.Dropped += l.bad
		l.bad = 0
	}
	for _, v := range d.list {
		st := &d.vms[v.Slot]
		st.dirty = st.dirty && !st.turn
		st.turn = false
		st.taught = st.taught || !st.dirty && v.W.Len() >= schemas.StepsPerDay
	}
	d.observed = upTo
}

// turns chooses the VMs to refit of those whose past has changed. All of them after an
// ordinary step; but of a fleet that comes with days of history, at the first start or
// at once, only as many as leave the step most of its time. The others wait, forecast
// as the fleet is and wider.
func (d *Decider) turns(now schemas.Step) {
	d.queue = d.queue[:0]
	for _, v := range d.list {
		if d.vms[v.Slot].dirty && d.share[v.Partition] == filled {
			d.queue = append(d.queue, v)
		}
	}
	left := d.atOnce
	work := func(v *window.VM) int { return v.W.Len() + refitRows }
	sum := 0
	for _, v := range d.queue {
		sum += work(v)
	}
	if sum > left { // in an order that is another at every step: nobody waits for ever
		slices.SortFunc(d.queue, func(a, b *window.VM) int {
			return cmp.Or(cmp.Compare(turnOf(a.ID, now), turnOf(b.ID, now)), bytes.Compare(a.ID[:], b.ID[:]))
		})
	}
	d.stats.Waiting = len(d.queue)
	for _, v := range d.queue {
		if left -= work(v); left < 0 {
			break
		}
		d.vms[v.Slot].turn = true
		d.stats.Waiting--
	}
}

// To refit a VM to a whole window takes about a quarter of a second of one core: three
// resources, the replay that warms their weights, and what the heads learn of it. A step
// has room for one in refitTime, which is a quarter of the step on one core, and for
// refitLeast. One of n rows counts as n + refitRows.
const (
	refitTime  = time.Second
	refitLeast = 4
	refitRows  = 64
)

// turnOf is the place of a VM among those that wait at a step.
func turnOf(id schemas.VMID, now schemas.Step) uint64 {
	return xxhash.Sum64(binary.LittleEndian.AppendUint64(id[:len(id):len(id)], uint64(now)))
}

func (d *Decider) fresh(v *window.VM) bool { return v.LastStep >= d.issued-staleAfter }

// batch is a message in the making.
type batch struct {
	part    int
	m       *schemas.Forecasts
	vms     []*window.VM // of its rows
	chances []chances
}

// batches makes room for the forecasts of all VMs that are ready, in owned partitions;
// when none is owned, of all.
// Only those of the given partitions when there are any.
func (d *Decider) batches(lease uint64, only *[schemas.Partitions]bool) (out []*batch) {
	idle := !slices.Contains(d.owned[:], true)
	for part := range d.parts {
		if !d.owned[part] && !idle || d.share[part] < active || only != nil && !only[part] {
			continue
		}
		lease := d.leaseOf(part, lease)
		var ready []*window.VM
		for _, v := range d.store.Partition(part) {
			if d.ready(v) {
				ready = append(ready, v)
			}
		}
		for vms := range slices.Chunk(ready, schemas.MaxForecastVMs) {
			b := &batch{part: part, m: d.newForecasts(part, lease), vms: vms, chances: make([]chances, len(vms))}
			for _, v := range vms {
				b.m.VM, b.m.Host = append(b.m.VM, v.ID), append(b.m.Host, v.Host)
				b.m.AllocCPU, b.m.AllocMem = append(b.m.AllocCPU, v.AllocCPU), append(b.m.AllocMem, v.AllocMem)
			}
			for r := range b.m.Q {
				b.m.Q[r] = make([]float32, len(vms)*schemas.Slots*schemas.NumLevels)
			}
			out = append(out, b)
		}
	}
	return out
}

// ready says whether a VM's history is fresh enough; if not it is counted.
func (d *Decider) ready(v *window.VM) bool {
	if v.W.Len() == 0 || !d.fresh(v) {
		d.stats.Stale++
		return false
	}
	return true
}

func (d *Decider) newForecasts(part int, lease uint64) *schemas.Forecasts {
	f := &schemas.Forecasts{Partition: part, Issued: d.issued, Grid: schemas.Grid{Start: d.issued + 1}, Base: d.cfg.Base,
		Lease: lease, Model: modelName, K: ensemble.K + 1, Weight: d.joint.Weight}
	f.Origins = append(append(f.Origins, d.joint.Origins[:]...), d.issued)
	for k, o := range f.Origins {
		f.Origins[k] = max(0, o)
	}
	return f
}

// known takes out the rows whose CPU demand nothing is known of, and the batches that
// are empty then.
func (d *Decider) known(batches []*batch) []*batch {
	const n = schemas.Slots * schemas.NumLevels
	return slices.DeleteFunc(batches, func(b *batch) bool {
		f, kept := b.m, 0
		for i, v := range b.vms {
			if schemas.IsNaN(f.Q[schemas.CPU][i*n]) {
				d.stats.NoData++
				continue
			}
			if b.chances[i].cold[schemas.CPU] {
				d.stats.Cold++
			}
			if b.chances[i].wide[schemas.CPU] {
				d.stats.Widened++
			}
			d.stats.Forecasts++
			f.VM[kept], f.Host[kept], f.AllocCPU[kept], f.AllocMem[kept] = f.VM[i], f.Host[i], f.AllocCPU[i], f.AllocMem[i]
			for _, q := range f.Q {
				copy(q[kept*n:(kept+1)*n], q[i*n:(i+1)*n])
			}
			b.vms[kept], b.chances[kept] = v, b.chances[i]
			kept++
		}
		b.vms, b.chances = b.vms[:kept], b.chances[:kept]
		f.VM, f.Host, f.AllocCPU, f.AllocMem = f.VM[:kept], f.Host[:kept], f.AllocCPU[:kept], f.AllocMem[:kept]
		for r := range f.Q {
			f.Q[r] = f.Q[r][:kept*n]
		}
		return kept == 0
	})
}

// paths joins the fleet's scenarios. Sums over the fleet are made in the order of the
// list; then each message is its own.
func (d *Decider) paths(batches []*batch) {
	for _, v := range d.list {
		if d.fresh(v) {
			w := v.W.View()
			d.joint.Join(&w)
		}
	}
	const dist, per = schemas.Slots * schemas.NumLevels, (ensemble.K + 1) * schemas.Slots * schemas.ScenarioResources
	workers := max(1, min(d.cfg.Workers, len(batches)))
	together(workers, workers, func(k int) {
		joint := d.joint // its scratch is not shared
		for n := k; n < len(batches); n += workers {
			b := batches[n]
			b.m.D = make([]float32, len(b.vms)*per)
			for i, v := range b.vms {
				w := v.W.View()
				cpu, mem := b.m.Q[schemas.CPU][i*dist:(i+1)*dist], b.m.Q[schemas.Memory][i*dist:(i+1)*dist]
				joint.Paths(&w, [schemas.ScenarioResources]schemas.Dist{{Q: cpu}, {Q: mem}}, b.m.D[i*per:(i+1)*per])
			}
		}
	})
}

// send makes the messages: forecasts in chunks by partition, each followed by the
// pressures of its VMs that are worth telling.
func (d *Decider) send(outs []streams.Out, batches []*batch) []streams.Out {
	for len(batches) > 0 {
		n := 1
		for n < len(batches) && batches[n].part == batches[0].part {
			n++
		}
		lease := batches[0].m.Lease
		for i, b := range batches[:n] {
			b.m.Chunk, b.m.Chunks = i, n
			outs = append(outs, streams.Out{Subject: streams.SubjectForecasts(b.part),
				ID: fmt.Sprintf("forecasts.%d.%d.%d.%d", b.part, d.issued, i, lease), Msg: b.m, Lease: lease})
		}
		for _, b := range batches[:n] {
			for i, v := range b.vms {
				d.remember(b.m, i, v)
				m := d.pressure(v, &b.chances[i])
				if d.vms[v.Slot].track.Publish(m, d.cfg.Base) {
					d.stats.Pressures++
					d.explain(m, v, &b.chances[i])
					outs = append(outs, streams.Out{Subject: streams.SubjectPressureVM(v.ID, schemas.CauseOwnLimit),
						ID: fmt.Sprintf("pressure.%s.own_limit.%d.%d", v.ID, d.issued, lease), Msg: m, Lease: lease})
				}
			}
		}
		batches = batches[n:]
	}
	return outs
}

// pressure makes the event of a VM's own limits.
func (d *Decider) pressure(v *window.VM, c *chances) *schemas.PressureVM {
	est := map[schemas.Resource]pressure.Estimate{}
	for r, limit := range c.limit {
		if limit > 0 {
			est[schemas.Resource(r)] = c.of[r]
		}
	}
	m := pressure.Message(pressure.Subject{VM: v.ID, Host: v.Host, Issued: d.issued, Base: d.cfg.Base, Now: schemas.Time(d.now)}, est, c.limit)
	if m.Onset != 0 { // in the step that has begun meanwhile: now
		m.Onset = max(m.Onset, m.Time)
	}
	return m
}

// complete gives slots about which no expert spoke the nearest slot's quantiles; a
// distribution is missing as a whole or not at all.
func complete(d schemas.Dist) {
	last := -1
	for s := range schemas.Slots {
		if q := d.At(s); q[0] == q[0] {
			if last < 0 {
				for b := range s {
					copy(d.At(b), q)
				}
			}
			last = s
		} else if last >= 0 {
			copy(q, d.At(last))
		}
	}
}

// widen stretches the quantiles away from the median.
func widen(d schemas.Dist, by float32) {
	for s := range schemas.Slots {
		q := d.At(s)
		m := q[schemas.NumLevels/2]
		for l := range q {
			q[l] = min(max(0, m+(q[l]-m)*by), 2*mostDemand)
		}
	}
}

// bound keeps quantiles below what can come, whatever a trend or little knowledge makes
// of them.
func bound(d schemas.Dist, most float32) {
	for i, v := range d.Q {
		if v > most {
			d.Q[i] = most
		}
	}
}

package forecaster

import (
	"fmt"

	"github.com/foreshift/foreshift/forecaster/ensemble"
	"github.com/foreshift/foreshift/forecaster/model"
	"github.com/foreshift/foreshift/forecaster/pressure"
	"github.com/foreshift/foreshift/forecaster/window"
	"github.com/foreshift/foreshift/schemas"
	"github.com/foreshift/foreshift/streams"
)

const (
	staleAfter = 3  // base steps without a row after which a VM is not forecast
	coldBelow  = 6  // rows below which a VM is not forecast: no expert speaks before
	warmFrom   = 72 // rows from which quantiles are not widened any more
	modelName  = "ensemble: empirical, rises, seasonal-naive, arima, ets, prophet"
)

// observe tells the bank the demand of all steps up to the newest closed one and
// refits what is due.
func (d *Decider) observe() {
	d.expand()
	if !d.made || d.closed-d.observed > model.RefitEvery {
		d.observed = d.closed - 1
		for i := range d.vms {
			d.vms[i].dirty = d.vms[i].present
		}
	}
	for s := d.observed + 1; s <= d.closed; s++ {
		for i := range d.byIndex {
			d.byIndex[i] = schemas.NaN()
		}
		d.each(func(v *window.VM, st *vmState) {
			w := v.W.View()
			for r, i := range st.index {
				d.byIndex[i] = w.At(schemas.Resource(r), int(s-w.First))
			}
		})
		d.bank.Observe(s, d.byIndex, d.future.known)
	}
	d.observed = d.closed
	d.each(func(v *window.VM, st *vmState) {
		w := v.W.View()
		for r, i := range st.index {
			key := model.Key{VM: v.ID, Resource: schemas.Resource(r)}
			if !st.dirty && model.Due(key, w.First, d.closed) != d.closed {
				continue
			}
			if err := d.bank.Refit(i, w, key.Hash()); err != nil {
				d.stats.Dropped++ // an index the bank does not know: never happens, but is seen
			}
		}
		st.dirty = false
	})
}

// each visits the VMs with rows, in order of partition and id.
func (d *Decider) each(f func(*window.VM, *vmState)) {
	for part := range d.parts {
		for _, v := range d.store.Partition(part) {
			if v.W.Len() > 0 {
				f(v, &d.vms[v.Slot])
			}
		}
	}
}

// issue forecasts every owned partition from the newest closed step.
func (d *Decider) issue(outs []streams.Out, lease uint64) []streams.Out {
	d.observe()
	d.issued, d.made = d.closed, true
	history := 0
	d.each(func(v *window.VM, _ *vmState) {
		history = max(history, int(d.closed-v.W.First())+1)
	})
	if history == 0 {
		return outs
	}
	d.joint.Begin(d.issued, history)
	d.each(func(v *window.VM, _ *vmState) {
		if d.fresh(v) {
			w := v.W.View()
			d.joint.Join(&w)
		}
	})
	for part := range d.parts {
		if d.owned[part] && len(d.store.Partition(part)) > 0 {
			outs = d.issuePart(outs, part, lease)
		}
	}
	return outs
}

func (d *Decider) fresh(v *window.VM) bool { return v.LastStep >= d.issued-staleAfter }

// issuePart makes the forecasts of one partition, in chunks, and the pressures of
// its VMs.
func (d *Decider) issuePart(outs []streams.Out, part int, lease uint64) []streams.Out {
	var chunks []*schemas.Forecasts
	var pressures []streams.Out
	for _, v := range d.store.Partition(part) {
		st := &d.vms[v.Slot]
		if !d.ready(v) {
			continue
		}
		if n := len(chunks); n == 0 || len(chunks[n-1].VM) == schemas.MaxForecastVMs {
			chunks = append(chunks, d.newForecasts(part, lease))
		}
		f := chunks[len(chunks)-1]
		if !d.forecast(f, v, st) {
			d.stats.NoData++
			continue
		}
		d.stats.Forecasts++
		if m := d.pressure(f, v); st.track.Publish(m, d.cfg.Base) {
			d.stats.Pressures++
			pressures = append(pressures, streams.Out{Subject: streams.SubjectPressureVM(v.ID, schemas.CauseOwnLimit),
				ID: fmt.Sprintf("pressure.%s.own_limit.%d.%d", v.ID, d.issued, lease), Msg: m, Lease: lease})
		}
	}
	if n := len(chunks); n > 0 && len(chunks[n-1].VM) == 0 {
		chunks = chunks[:n-1]
	}
	for i, f := range chunks {
		f.Chunk, f.Chunks = i, len(chunks)
		outs = append(outs, streams.Out{Subject: streams.SubjectForecasts(part),
			ID: fmt.Sprintf("forecasts.%d.%d.%d.%d", part, d.issued, i, lease), Msg: f, Lease: lease})
	}
	return append(outs, pressures...)
}

// ready says whether a VM has enough, and fresh enough, history; if not it is
// counted why.
func (d *Decider) ready(v *window.VM) bool {
	switch {
	case v.W.Len() == 0 || !d.fresh(v):
		d.stats.Stale++
		return false
	case v.Steps < coldBelow:
		d.stats.Cold++
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

// forecast appends a VM to the message; false when its CPU demand is not known.
func (d *Decider) forecast(f *schemas.Forecasts, v *window.VM, st *vmState) bool {
	const n = schemas.Slots * schemas.NumLevels
	at := len(f.VM) * n
	var dist [schemas.NumResources]schemas.Dist
	for r := range f.Q {
		f.Q[r] = grow(f.Q[r], n, schemas.MaxForecastVMs)
		dist[r] = schemas.Dist{Q: f.Q[r][at : at+n]}
		d.bank.Forecast(st.index[r], f.Grid, d.future.known, &dist[r])
		complete(dist[r])
		if v.Steps < warmFrom {
			widen(dist[r], 1+float32(warmFrom-v.Steps)/warmFrom)
		}
	}
	if schemas.IsNaN(dist[schemas.CPU].Q[0]) {
		for r := range f.Q {
			f.Q[r] = f.Q[r][:at]
		}
		return false
	}
	if v.Steps < warmFrom {
		d.stats.Widened++
	}
	per := f.K * schemas.Slots * schemas.ScenarioResources
	from := len(f.D)
	f.D = grow(f.D, per, schemas.MaxForecastVMs)
	w := v.W.View()
	d.joint.Paths(&w, [schemas.ScenarioResources]schemas.Dist{dist[schemas.CPU], dist[schemas.Memory]}, f.D[from:from+per])
	f.VM, f.Host = append(f.VM, v.ID), append(f.Host, v.Host)
	f.AllocCPU, f.AllocMem = append(f.AllocCPU, v.AllocCPU), append(f.AllocMem, v.AllocMem)
	return true
}

// grow lengthens s by n, with room for many of that size from the first.
func grow(s []float32, n, many int) []float32 {
	if len(s)+n <= cap(s) {
		return s[:len(s)+n]
	}
	// Most partitions have few VMs: double instead of taking all at once.
	c := min(max(n, 2*cap(s)), n*many)
	g := make([]float32, len(s)+n, max(c, len(s)+n))
	copy(g, s)
	return g
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
			q[l] = max(0, m+(q[l]-m)*by)
		}
	}
}

// pressure estimates the VM's own limits from its row, the last of the message.
func (d *Decider) pressure(f *schemas.Forecasts, v *window.VM) *schemas.PressureVM {
	row := len(f.VM) - 1
	w := v.W.View()
	est := map[schemas.Resource]pressure.Estimate{}
	var limits schemas.Vec
	for r, alloc := range [...]float32{v.AllocCPU, v.AllocMem} {
		res := schemas.Resource(r)
		if !(alloc > 0) {
			continue
		}
		in := pressure.Input{Limit: alloc * float32(d.cfg.LimitRatio), Dist: f.Dist(row, res), Scenarios: f.Scenarios(row), Resource: res}
		d.series = w.Series(res, d.series)
		in.Y = d.series
		limits[r] = float64(in.Limit)
		est[res] = d.head.Estimate(&in)
	}
	return pressure.Message(pressure.Subject{VM: v.ID, Host: v.Host, Issued: d.issued, Base: d.cfg.Base, Now: schemas.Time(d.now)}, est, limits)
}

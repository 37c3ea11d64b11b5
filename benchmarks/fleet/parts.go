package fleet

import (
	"context"
	"fmt"

	"github.com/apache/arrow/go/v17/arrow/memory"
	"github.com/foreshift/foreshift/forecaster/ensemble"
	"github.com/foreshift/foreshift/forecaster/model"
	"github.com/foreshift/foreshift/forecaster/window"
	"github.com/foreshift/foreshift/schemas"
)

// Parts are what one series costs the models, timed part by part on a few VMs and
// with all experts asked at every step, whatever cadence the decider has.
type Parts struct {
	VMs        int             `json:"vms"`
	ObserveUs  float64         `json:"observe_us"`  // a value
	RefitMs    float64         `json:"refit_ms"`    // a refit, searches of the day included
	ForecastUs float64         `json:"forecast_us"` // of 44 slots
	Banks      map[string]Bank `json:"banks"`

	windowBytes, seriesBytes float64
}

// Bank is the same of one bank of models alone.
type Bank struct {
	ObserveUs  float64 `json:"observe_us"`
	RefitMs    float64 `json:"refit_ms"`
	ForecastUs float64 `json:"forecast_us"`
	Bytes      float64 `json:"bytes"` // of state, a series
}

// parts times the ensemble, then each bank alone.
func parts(ctx context.Context, l *load, vms, steps int) (Parts, error) {
	p := Parts{VMs: vms, Banks: map[string]Bank{}}
	all, err := time1(ctx, l, ensemble.New(), vms, steps)
	if err != nil {
		return p, fmt.Errorf("fleet: ensemble: %w", err)
	}
	p.ObserveUs, p.RefitMs, p.ForecastUs, p.seriesBytes = all.ObserveUs, all.RefitMs, all.ForecastUs, all.Bytes
	p.windowBytes = float64(window.New(memory.NewGoAllocator()).Bytes())
	for _, name := range ensemble.Names()[1:] {
		b, err := ensemble.Named(name)
		if err != nil {
			return p, err
		}
		if p.Banks[name], err = time1(ctx, l, b, vms, steps); err != nil {
			return p, fmt.Errorf("fleet: %s: %w", name, err)
		}
	}
	return p, nil
}

// time1 lets a bank live through the rows after eight days of history.
func time1(ctx context.Context, l *load, bank model.Bank, vms, steps int) (Bank, error) {
	var out Bank
	windows := make([]*window.Window, vms)
	keys := make([]model.Key, 0, vms*schemas.NumResources)
	for n := range windows {
		windows[n] = window.New(memory.NewGoAllocator())
		l.fill(windows[n], n, 0, window.Rows)
		for r := range schemas.Resource(schemas.NumResources) {
			k := model.Key{VM: l.vms[n], Resource: r}
			if i := bank.Add(k); i != len(keys) {
				return out, fmt.Errorf("index %d for series %d", i, len(keys))
			}
			keys = append(keys, k)
		}
	}
	y := make([]float32, len(keys))
	observe := func(k int) {
		for i, key := range keys {
			y[i] = l.at(i/schemas.NumResources, key.Resource, k)
		}
		bank.Observe(l.step(k), y, model.Regressors{})
	}
	d := schemas.NewDist()
	refits, asked := 0, 0
	for k := window.Rows - 1; k < window.Rows+steps; k++ {
		if ctx.Err() != nil {
			return out, ctx.Err()
		}
		if k >= window.Rows {
			for n, w := range windows {
				l.fill(w, n, k, k+1)
			}
		}
		a := cpu()
		observe(k)
		b := cpu()
		for i, key := range keys {
			if v := windows[i/schemas.NumResources].View(); k < window.Rows || model.Due(key, v.First, v.Last()) == v.Last() {
				if err := bank.Refit(i, v, key.Hash()); err != nil {
					return out, err
				}
				refits++
			}
		}
		c := cpu()
		if k < window.Rows { // the cold start is not counted
			refits = 0
			continue
		}
		for i := range keys {
			bank.Forecast(i, schemas.Grid{Start: l.step(k) + 1}, model.Regressors{}, &d)
			asked++
		}
		out.ObserveUs += (b - a) * 1e6
		out.RefitMs += (c - b) * 1e3
		out.ForecastUs += (cpu() - c) * 1e6
	}
	out.ObserveUs /= float64(steps * len(keys))
	out.RefitMs /= float64(refits)
	out.ForecastUs /= float64(asked)
	out.Bytes = float64(len(bank.AppendState(nil))) / float64(len(keys))
	return out, nil
}

// Package walk lets a bank of models live through recorded demand as it would in the
// service: step by step it observes, refits what is due and is asked for forecasts.
//
// What comes in: series (package trace) and a bank. What goes out: whatever is asked of
// the bank between two steps; [Bank.Forecast] is what the service would publish then.
//
// What is promised: nothing is seen before its time; a missing value is told to nobody;
// the same series in the same order give the same, whatever the clock.
//
// Why one walk for all benchmarks: a figure of one is comparable with the next only if
// both let the models live alike.
package walk

import (
	"fmt"

	"github.com/apache/arrow/go/v17/arrow/memory"
	"github.com/cespare/xxhash/v2"
	"github.com/foreshift/foreshift/benchmarks/trace"
	"github.com/foreshift/foreshift/forecaster/ensemble"
	"github.com/foreshift/foreshift/forecaster/model"
	"github.com/foreshift/foreshift/forecaster/window"
	"github.com/foreshift/foreshift/schemas"
	"golang.org/x/sys/unix"
)

// Epoch is the step of t = 0: any multiple of a week far from 0 will do.
const Epoch = schemas.Step(1000 * 7 * schemas.StepsPerDay)

// Bank is a bank on its way through series, each of which is the demand of a VM of its
// own.
type Bank struct {
	model.Bank
	Known  model.Regressors // what is known of the future, by index of the bank
	series []*trace.Series
	keys   []model.Key
	index  []int
	win    []*window.Window
	until  []int // t from which a series is missing
	y      []float32
	row    window.Row
	at     schemas.Step
	grasp  func(schemas.Step) bool
	took   [2]float64 // CPU seconds of fits, of forecasts
	steps  float64    // values told
	asked  float64    // forecasts made
	dist   schemas.Dist
}

// New adds the series to an empty bank.
func New(b model.Bank, series []*trace.Series) *Bank {
	n := len(series)
	w := &Bank{Bank: b, series: series, keys: make([]model.Key, n), index: make([]int, n), win: make([]*window.Window, n),
		until: make([]int, n), y: make([]float32, n), dist: schemas.NewDist()}
	if e, ok := b.(*ensemble.Ensemble); ok {
		w.grasp = e.Captures
	}
	for c := range w.row.V {
		w.row.V[c] = schemas.NaN()
	}
	w.row.Coverage = 1
	for i, s := range series {
		w.keys[i] = model.Key{VM: ID(s.ID), Resource: schemas.CPU}
		w.index[i] = b.Add(w.keys[i])
		w.win[i] = window.New(memory.NewGoAllocator())
		w.until[i] = s.End()
	}
	return w
}

// ID makes the UUID of a series from its name.
func ID(name string) (id schemas.VMID) {
	a, b := xxhash.Sum64String(name), xxhash.Sum64String(name+"#")
	for i := range 8 {
		id[i], id[8+i] = byte(a>>(8*i)), byte(b>>(8*i))
	}
	return id
}

// Until says from which t on series i is not looked at any more.
func (w *Bank) Until(i, t int) { w.until[i] = t }

// Range is the first t of any series and the t after the last.
func (w *Bank) Range() (first, end int) {
	for i, s := range w.series {
		if i == 0 {
			first, end = s.Start, w.until[i]
		}
		first, end = min(first, s.Start), max(end, w.until[i])
	}
	return first, end
}

// Step is what happens in service when the step at t closes. Steps go up by one.
func (w *Bank) Step(t int) error {
	w.at = Epoch + schemas.Step(t)
	for i, s := range w.series {
		v := schemas.NaN()
		if k := t - s.Start; k >= 0 && k < len(s.Y) && t < w.until[i] {
			v = s.Y[k]
		}
		w.y[w.index[i]] = v
		if v == v {
			w.row.Step, w.row.V[schemas.ColCPU] = w.at, v
			w.win[i].Put(&w.row)
			w.steps++
		}
	}
	begun := CPU()
	w.Bank.Observe(w.at, w.y, w.Known)
	for i := range w.series {
		if w.win[i].Len() == 0 || t >= w.until[i] {
			continue
		}
		v := w.win[i].View()
		if model.Due(w.keys[i], v.First, w.at) != w.at {
			continue
		}
		if err := w.Bank.Refit(w.index[i], v, w.keys[i].Hash()); err != nil {
			return fmt.Errorf("series %s at t %d: %w", w.series[i].ID, t, err)
		}
	}
	w.took[0] += CPU() - begun
	return nil
}

// Forecast writes what the bank says of series i from the step after the last.
func (w *Bank) Forecast(i int, dst *schemas.Dist) { w.Later(i, 0, dst) }

// Later is Forecast for a grid that begins some steps later.
func (w *Bank) Later(i, ahead int, dst *schemas.Dist) {
	begun := CPU()
	w.Bank.Forecast(w.index[i], schemas.Grid{Start: w.at + 1 + schemas.Step(ahead)}, w.Known, dst)
	w.took[1] += CPU() - begun
	if ahead == 0 {
		w.asked++
	}
}

// Wants says whether the bank wants to be asked for forecasts at the last step, to
// learn from them.
func (w *Bank) Wants() bool { return w.grasp != nil && w.grasp(w.at) }

// Ask asks for the forecast of series i, only for the bank to learn from it.
func (w *Bank) Ask(i int) {
	if w.win[i].Len() > 0 {
		w.Forecast(i, &w.dist)
	}
}

// Fill gives the bank all of the series at once, as a history that is imported: windows
// are filled, the last step is observed and every series fitted to its window.
func (w *Bank) Fill() error {
	first, end := w.Range()
	w.at = Epoch + schemas.Step(end-1)
	for i, s := range w.series {
		w.y[w.index[i]] = schemas.NaN()
		for k, v := range s.Y[:max(0, min(len(s.Y), w.until[i]-s.Start))] {
			if v == v {
				w.row.Step, w.row.V[schemas.ColCPU] = Epoch+schemas.Step(s.Start+k), v
				w.win[i].Put(&w.row)
				w.steps++
			}
			if s.Start+k == end-1 {
				w.y[w.index[i]] = v
			}
		}
	}
	if end <= first {
		return nil
	}
	begun := CPU()
	defer func() { w.took[0] += CPU() - begun }()
	w.Bank.Observe(w.at, w.y, w.Known)
	for i := range w.series {
		if w.win[i].Len() == 0 {
			continue
		}
		if err := w.Bank.Refit(w.index[i], w.win[i].View(), w.keys[i].Hash()); err != nil {
			return fmt.Errorf("series %s: %w", w.series[i].ID, err)
		}
	}
	return nil
}

// Time counts the CPU time of f among that of forecasts.
func (w *Bank) Time(f func()) {
	begun := CPU()
	f()
	w.took[1] += CPU() - begun
}

// Window is the history of series i as the service holds it.
func (w *Bank) Window(i int) window.View { return w.win[i].View() }

// Index is the bank's index of series i.
func (w *Bank) Index(i int) int { return w.index[i] }

// At is the last step.
func (w *Bank) At() schemas.Step { return w.at }

// Used is the CPU time in seconds of fits (observing included) and of forecasts, and
// how many values were told and forecasts asked for.
func (w *Bank) Used() (fit, forecast, values, asked float64) {
	return w.took[0], w.took[1], w.steps, w.asked
}

// CPU is the CPU time of the calling thread in seconds; lock the thread to measure.
func CPU() float64 {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t); err != nil {
		return 0 // no such clock: CPU times read 0
	}
	return float64(t.Nano()) / 1e9
}

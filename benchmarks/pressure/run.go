// Package pressure measures how good the pressure scores are, on recorded demand.
//
// What comes in: series (package trace), a limit and horizons among those of
// schemas.Horizons.
//
// What goes out: for the event "the highest of the next h steps is above the limit",
// over the last 9 days: Brier score and skill, log loss, calibration errors, average
// precision, each with an interval by bootstrap over VMs; for all origins and for
// those that would be an onset (nothing above in the hour before), and the points of a
// reliability diagram. Then what a budget of alarms is worth at several leads ([Alarms]),
// and the CPU time.
//
// What is promised: the walk is that of service. The head of production learns from
// windows of 8 days as they slide on and says what it would have said; nothing is seen
// before its time. Origins are hourly from day 7 on. A missing value (after half an
// hour of carrying the last one on) exceeds nothing. The same input gives the same
// figures.
//
// Why onsets: most of what happens in the next hour goes on from the last; a score that
// leaves that in flatters everybody.
package pressure

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"

	"github.com/foreshift/foreshift/benchmarks/trace"
	clock "github.com/foreshift/foreshift/benchmarks/walk"
	"github.com/foreshift/foreshift/forecaster/pressure"
	"github.com/foreshift/foreshift/forecaster/window"
	"github.com/foreshift/foreshift/schemas"
)

const (
	day      = schemas.StepsPerDay
	hour     = 12
	gap      = 6 // steps a value is carried on
	warm     = 7 * day
	testDays = 9
)

// Options of a run.
type Options struct {
	Limit    float64
	Horizons []int     // steps, of schemas.Horizons; default all
	Out      io.Writer // chances of the test part as CSV; nil = none
	Raw      bool      // leave the calibration out
}

// Result of a run.
type Result struct {
	VMs      int       `json:"vms"`
	Limit    float64   `json:"limit"`
	TestDays float64   `json:"test_days"`
	CPU      float64   `json:"cpu_seconds"` // learning and asking, of this process; scoring is left out
	Asked    int       `json:"asked"`       // times a VM was asked for, for all horizons at once
	Horizons []Horizon `json:"horizons"`
}

// Horizon is what a horizon scored.
type Horizon struct {
	Steps  int    `json:"horizon_steps"`
	All    Scores `json:"all"`
	Onset  Scores `json:"onset"`
	Alarms Alarms `json:"alarms"`
}

// said is one chance and what came.
type said struct {
	vm, origin int
	p, usual   float64 // of the head, and of the VM's own past alone
	ahead      int     // steps until it came, if it did
	hit, onset bool
}

// Run walks through the series.
func Run(ctx context.Context, series []trace.Series, opt Options) (*Result, error) {
	if !(opt.Limit > 0) {
		return nil, errors.New("bench pressure: the limit must be above 0")
	}
	if len(series) == 0 {
		return nil, errors.New("bench pressure: no series")
	}
	if len(opt.Horizons) == 0 {
		opt.Horizons = schemas.Horizons[:]
	}
	for _, h := range opt.Horizons {
		if !slices.Contains(schemas.Horizons[:], h) {
			return nil, fmt.Errorf("bench pressure: a horizon of %d steps; pressure is scored for %v (1h, 6h, 24h)", h, schemas.Horizons)
		}
	}
	first, end := series[0].Start, 0
	for i := range series {
		first, end = min(first, series[i].Start), max(end, series[i].End())
	}
	steps := end - first
	if steps < 2*day {
		return nil, fmt.Errorf("bench pressure: the file spans %d steps of 5 minutes; %d (2 days) are needed", steps, 2*day)
	}
	// What is short is tested on its second half.
	test := max(min(warm, steps/2), steps-testDays*day)
	test += (hour - test%hour) % hour
	vms := make([]vm, len(series))
	for i := range vms {
		vms[i].fill(&series[i], first, end, float32(opt.Limit))
	}
	runtime.LockOSThread()
	before := clock.CPU()
	rows, err := walk(ctx, vms, first, steps, test, &opt)
	used := clock.CPU() - before
	runtime.UnlockOSThread()
	if err != nil {
		return nil, err
	}
	begins := make([][]int, len(vms))
	for i := range vms {
		begins[i] = vms[i].begins(test)
	}
	res := &Result{VMs: len(series), Limit: opt.Limit, TestDays: float64(steps-test) / day, CPU: used, Asked: len(vms) * ((steps - test + hour - 1) / hour)}
	for k, h := range opt.Horizons {
		res.Horizons = append(res.Horizons, Horizon{Steps: h, All: score(rows[k], len(vms), false), Onset: score(rows[k], len(vms), true),
			Alarms: alarms(rows[k], begins, h, steps-test)})
	}
	return res, write(opt.Out, series, rows, first, &opt)
}

// vm is a series on the file's common clock.
type vm struct {
	y    []float32
	over []int32 // exceedances before each step
	long pressure.LongRun
}

func (v *vm) fill(s *trace.Series, first, end int, limit float32) {
	v.y = make([]float32, end-first)
	for t := range v.y {
		v.y[t] = schemas.NaN()
	}
	copy(v.y[s.Start-first:], s.Y)
	v.over = make([]int32, len(v.y)+1)
	last, age := schemas.NaN(), gap
	for t, x := range v.y {
		if x == x {
			last, age = x, 0
		} else if age++; age <= gap {
			x = last
		}
		v.over[t+1] = v.over[t]
		if x > limit {
			v.over[t+1]++
		}
	}
}

func (v *vm) exceeds(t, n int) bool { return v.over[t+n] > v.over[max(t, 0)] }

// ahead is how many of the n steps from t on pass before one is above.
func (v *vm) ahead(t, n int) int {
	for k := range n {
		if v.over[t+k+1] > v.over[t] {
			return k
		}
	}
	return n
}

// begins gives the steps from t on that are above with none in the hour before.
func (v *vm) begins(t int) (list []int) {
	for ; t+1 < len(v.over); t++ {
		if v.exceeds(t, 1) && !v.exceeds(t-hour, min(t, hour)) {
			list = append(list, t)
		}
	}
	return list
}

// usual is the smoothed share of past hourly windows of h steps that exceeded.
func (v *vm) usual(o, h int) float64 {
	var n, k float64
	for w := o % hour; w+h <= o; w += hour {
		n++
		if v.exceeds(w, h) {
			k++
		}
	}
	return (k + .1) / (n + .5)
}

// walk asks the head at every hourly origin and keeps what it said in the test part.
func walk(ctx context.Context, vms []vm, first, steps, test int, opt *Options) ([][]said, error) {
	head := pressure.NewHead()
	head.Raw = opt.Raw
	rows := make([][]said, len(opt.Horizons))
	var in pressure.Input
	in.Limit = float32(opt.Limit)
	for o := hour; o < steps; o += hour {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		for i := range vms {
			v := &vms[i]
			in.Y, in.Long, in.Step = v.y[max(0, o-window.Rows):o], &v.long, schemas.Step(first+o-1)
			head.Learn(&in, 0)
		}
		head.Fit(schemas.Step(first + o))
		if o < test {
			continue
		}
		for i := range vms {
			v := &vms[i]
			in.Y, in.Long, in.Step = v.y[max(0, o-window.Rows):o], &v.long, schemas.Step(first+o-1)
			e := head.Estimate(&in)
			for k, h := range opt.Horizons {
				if o+h >= steps {
					continue
				}
				p := float64([...]schemas.Ratio{e.Chance.H1, e.Chance.H6, e.Chance.H24}[slices.Index(schemas.Horizons[:], h)])
				rows[k] = append(rows[k], said{vm: i, origin: o, p: p, usual: v.usual(o, h), hit: v.exceeds(o, h), ahead: v.ahead(o, h), onset: !v.exceeds(o-hour, hour)})
			}
		}
	}
	return rows, nil
}

func write(w io.Writer, series []trace.Series, rows [][]said, first int, opt *Options) error {
	if w == nil {
		return nil
	}
	if _, err := fmt.Fprintln(w, "vm,origin,horizon_steps,p"); err != nil {
		return err
	}
	for k, h := range opt.Horizons {
		for _, r := range rows[k] {
			if _, err := fmt.Fprintf(w, "%s,%d,%d,%.6g\n", series[r.vm].ID, first+r.origin, h, r.p); err != nil {
				return err
			}
		}
	}
	return nil
}

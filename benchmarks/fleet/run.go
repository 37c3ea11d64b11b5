package fleet

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"syscall"
	"time"

	"github.com/foreshift/foreshift/forecaster"
	"github.com/foreshift/foreshift/forecaster/model"
	"github.com/foreshift/foreshift/forecaster/window"
	"github.com/foreshift/foreshift/schemas"
	"github.com/foreshift/foreshift/streams"
)

// Options say what to measure. The zero value of a field but the first two means the
// value given.
type Options struct {
	Hosts, VMs int
	Sample     int    // VMs whose steps are timed at most: 500
	Held       int    // VMs whose memory is measured at most: 2000
	Steps      int    // steps measured: model.RefitEvery, and always a multiple of it
	Parts      int    // VMs whose models are timed part by part: 100
	Seed       uint64 // of the synthetic demand: 1
}

// Result is what a fleet costs. CPU is in seconds of one core, taken from the
// process's own account.
type Result struct {
	Hosts        int  `json:"hosts"`
	VMs          int  `json:"vms"`
	Sample       int  `json:"sample_vms"` // whose steps were timed
	Held         int  `json:"held_vms"`   // whose memory was measured
	Steps        int  `json:"steps"`      // timed of each of the sample
	Extrapolated bool `json:"extrapolated"`

	Step  StepCPU `json:"cpu_seconds_per_step"` // of the whole fleet
	Bytes Memory  `json:"bytes_per_vm"`
	Out   int     `json:"published_bytes_per_step"` // of the whole fleet
	Parts Parts   `json:"parts"`
	Cold  float64 `json:"cold_start_cpu_seconds_per_vm"` // folding eight days of history and the first forecast from it
}

// StepCPU are the CPU-seconds of one base step.
type StepCPU struct {
	Total  float64 `json:"total"`
	Ingest float64 `json:"ingest"` // folding the samples: one message a host
	Decide float64 `json:"decide"` // closing the step, models, scenarios, pressures
	Encode float64 `json:"encode"` // of what is published
	GC     float64 `json:"gc"`     // of the total, what the collector took
	// How Decide divides, from Parts times how often each was done.
	Observe  float64 `json:"observe"`
	Refit    float64 `json:"refit"`
	Forecast float64 `json:"forecast"`
}

// Memory is what is in use after a collection, in bytes by VM.
type Memory struct {
	Once   float64 `json:"once"` // what the decider keeps whatever the number of VMs; not by VM
	Total  float64 `json:"total"`
	Window float64 `json:"window"` // of it the eight days
	Series float64 `json:"series"` // and the models and weights of one of the four series, as long as their state is
}

// Run measures.
func Run(ctx context.Context, o Options) (*Result, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	r := &Result{Hosts: o.Hosts, VMs: o.VMs, Sample: min(o.VMs, o.Sample), Held: min(o.VMs, o.Held), Steps: o.Steps}
	r.Extrapolated = r.Sample < o.VMs
	rows := window.Rows + 1 + o.Steps
	if r.Parts, err = parts(ctx, newLoad(o.Seed, o.Parts, 1, rows), o.Parts, o.Steps); err != nil {
		return nil, err
	}
	hosts := func(vms int) int { return max(1, o.Hosts*vms/o.VMs) }
	if err := r.hold(ctx, newLoad(o.Seed, r.Held, hosts(r.Held), youngRows+1)); err != nil {
		return nil, err
	}
	if err := r.decide(ctx, newLoad(o.Seed, r.Sample, hosts(r.Sample), rows)); err != nil {
		return nil, err
	}
	return r, nil
}

func (o Options) withDefaults() (Options, error) {
	var errs []error
	if o.VMs < 1 || o.VMs > 1<<20 {
		errs = append(errs, fmt.Errorf("%d VMs are not within 1..%d", o.VMs, 1<<20))
	}
	if o.Hosts < 1 || o.Hosts > o.VMs {
		errs = append(errs, fmt.Errorf("%d hosts for %d VMs: want 1..%d", o.Hosts, o.VMs, max(o.VMs, 1)))
	}
	for _, f := range [...]struct {
		name string
		v    *int
		d    int
	}{{"sample", &o.Sample, 500}, {"held", &o.Held, 2000}, {"steps", &o.Steps, model.RefitEvery}, {"parts", &o.Parts, 100}} {
		if *f.v == 0 {
			*f.v = f.d
		}
		if *f.v < 0 {
			errs = append(errs, fmt.Errorf("%s: %d is negative", f.name, *f.v))
		}
	}
	o.Steps = (o.Steps + model.RefitEvery - 1) / model.RefitEvery * model.RefitEvery
	if o.Seed == 0 {
		o.Seed = 1
	}
	return o, errors.Join(errs...)
}

// node is a decider with what the bus does for it.
type node struct {
	*forecaster.Decider
	seq uint64
}

// publish hands the history that the decider made back to it, as the stream does.
func (n *node) publish(outs []streams.Out, now int64) error {
	for _, o := range outs {
		m, ok := o.Msg.(*schemas.Steps)
		if !ok {
			continue
		}
		n.seq++
		if err := n.Apply(streams.Event{Stream: streams.Steps, Seq: n.seq, Time: now, Subject: o.Subject, Msg: m}); err != nil {
			return err
		}
	}
	return nil
}

// begin makes a decider for the load's VMs, folds rows of history into it and lets it
// make its first forecasts from one step more.
func begin(ctx context.Context, l *load, rows, most int) (*node, error) {
	d, err := forecaster.NewDecider(forecaster.Config{MaxVMs: most})
	if err != nil {
		return nil, err
	}
	n := &node{Decider: d}
	for k := range rows {
		err := l.history(k, func(m *schemas.Steps) error {
			n.seq++
			return n.Apply(streams.Event{Stream: streams.Steps, Seq: n.seq, Time: int64(m.Step.End(schemas.DefaultBase)), Subject: streams.SubjectSteps(m.Partition), Msg: m})
		})
		if err != nil {
			return nil, fmt.Errorf("fleet: history: %w", err)
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
	}
	if err := n.ingest(l, rows); err != nil {
		return nil, err
	}
	outs, now := n.tick(l, rows)
	if len(outs) == 0 {
		return nil, fmt.Errorf("fleet: nothing was published")
	}
	return n, n.publish(outs, now)
}

// tick closes row k.
func (n *node) tick(l *load, k int) (outs []streams.Out, now int64) {
	now = int64(l.step(k).End(schemas.DefaultBase) + schemas.Time(forecaster.Config{}.WithDefaults().Grace))
	return n.Tick(streams.Cut{Now: now}), now
}

// youngRows are enough for every model to be fitted. A VM's memory is as large after
// them as after eight days: all of it is allocated when the VM is first seen.
const youngRows = 40

// hold measures memory.
func (r *Result) hold(ctx context.Context, l *load) error {
	whole, err := held(ctx, l, r.VMs)
	if err != nil || r.Held == 1 {
		r.Bytes.Total = whole
		return err
	}
	few := max(1, r.Held/4)
	part, err := held(ctx, newLoad(l.seed, few, min(l.hosts, few), youngRows+1), r.VMs)
	if err != nil {
		return err
	}
	r.Bytes.Total = (whole - part) / float64(r.Held-few)
	r.Bytes.Once = whole - r.Bytes.Total*float64(r.Held)
	return nil
}

// held is the memory of a decider with the load's VMs, in bytes.
func held(ctx context.Context, l *load, most int) (float64, error) {
	before := heap()
	n, err := begin(ctx, l, youngRows, most)
	if err != nil {
		return 0, err
	}
	after := heap()
	runtime.KeepAlive(n)
	return float64(after) - float64(before), nil
}

// decide runs the decider on the sample and fills in what it took.
func (r *Result) decide(ctx context.Context, l *load) error {
	from := cpu()
	n, err := begin(ctx, l, window.Rows, r.VMs)
	if err != nil {
		return err
	}
	r.Cold = (cpu() - from) / float64(r.Sample)
	scale := float64(r.VMs) / float64(r.Sample) / float64(r.Steps)
	collected := gc()
	for k := window.Rows + 1; k <= window.Rows+r.Steps; k++ {
		a := cpu()
		if err := n.ingest(l, k); err != nil {
			return err
		}
		b := cpu()
		outs, now := n.tick(l, k)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		c := cpu()
		size := 0
		for _, o := range outs {
			p, err := schemas.Encode(o.Msg)
			if err != nil {
				return fmt.Errorf("fleet: encode %s: %w", o.Subject, err)
			}
			size += len(p)
		}
		e := cpu()
		if err := n.publish(outs, now); err != nil {
			return err
		}
		r.Step.Ingest += (b - a) * scale
		r.Step.Decide += (c - b) * scale
		r.Step.Encode += (e - c) * scale
		r.Out += size
	}
	r.Step.GC = (gc() - collected) * scale
	r.Step.Total = r.Step.Ingest + r.Step.Decide + r.Step.Encode
	r.Out = int(float64(r.Out) * scale)
	series := float64(r.VMs * schemas.NumResources)
	r.Step.Observe = r.Parts.ObserveUs * 1e-6 * series
	r.Step.Refit = r.Parts.RefitMs * 1e-3 * series / model.RefitEvery
	r.Step.Forecast = r.Parts.ForecastUs * 1e-6 * series
	r.Bytes.Window, r.Bytes.Series = r.Parts.windowBytes, r.Parts.seriesBytes
	return nil
}

// ingest folds the samples of row k.
func (n *node) ingest(l *load, k int) error {
	return l.samples(k, func(m *schemas.Metrics) error {
		return n.Apply(streams.Event{Stream: streams.Metrics, Seq: uint64(k), Time: int64(m.Time[0]) + int64(time.Second), Subject: streams.SubjectMetrics(m.Host), Msg: m})
	})
}

// heap is what is in use after a collection, in bytes.
func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// cpu is the processor time of this process so far, in seconds.
func cpu() float64 {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9
}

package scale

import (
	"context"
	"fmt"
	"time"

	"github.com/foreshift/foreshift/schemas"
	"github.com/foreshift/foreshift/streams"
)

// Latency is how long after the sample that completes a step the fleet is told of it.
type Latency struct {
	VMs       int        `json:"vms"`
	Instances int        `json:"instances"`
	BaseS     float64    `json:"base_s"`
	GraceS    float64    `json:"grace_s"` // part of it: a step waits so long for samples that are late
	Forecasts int        `json:"forecasts"`
	ForecastP [2]float64 `json:"sample_to_forecast_s"` // p50, p99
	Pressures int        `json:"pressures"`
	PressureP [2]float64 `json:"sample_to_pressure_s"`
	CPU       float64    `json:"cpu_s_a_step"` // of all forecasters, while steps were measured
	RSS       float64    `json:"rss_bytes"`    // of all forecasters, at the end
	Course    []Stage    `json:"course"`       // a stage for each step
	RSSSlope  float64    `json:"rss_slope_per_h"`
	CPUSlope  float64    `json:"cpu_slope_per_h"` // of the CPU time a step; both as a share of their mean, an hour
	Samples   Samples    `json:"samples"`
}

// Stage is what a step took, from shortly before its beginning to shortly before its end,
// with the forecasts of the step before.
type Stage struct {
	CPU float64 `json:"cpu_s"`
	RSS float64 `json:"rss_bytes"`            // at its end
	P99 float64 `json:"sample_to_forecast_s"` // 99 % of the VMs
}

// RunLatency measures, by stream time, from a step's last sample to each VM's forecast
// and pressure.
func RunLatency(ctx context.Context, o Options, instances, steps int) (*Latency, error) {
	r, err := start(ctx, o)
	if r != nil {
		defer r.close()
	}
	if err != nil {
		return nil, err
	}
	for range instances {
		if _, err := r.spawn(); err != nil {
			return nil, err
		}
	}
	if _, err := r.even(ctx, 5*time.Minute, r.procs...); err != nil {
		return nil, err
	}
	if _, err := r.again(ctx, 3*time.Minute+4*o.Base); err != nil {
		return nil, err
	}
	// What a step costs is looked at from one step's middle to another's.
	time.Sleep(time.Until(schemas.StepAt(schemas.At(time.Now()), o.Base).End(o.Base).Std()) - o.Base/20)
	from := schemas.StepAt(schemas.At(time.Now()), o.Base)
	before, _, err := r.used(ctx)
	if err != nil {
		return nil, err
	}
	l := &Latency{VMs: o.VMs, Instances: instances, BaseS: o.Base.Seconds(), GraceS: max(o.Base/10, min(o.Base, 2*time.Second)).Seconds()}
	listening, cancel := context.WithTimeout(ctx, time.Duration(steps)*o.Base)
	defer cancel()
	var forecasts, pressures []float64
	by := map[schemas.Step][]float64{}
	course := make(chan error, 1)
	go func() { course <- l.follow(listening, r, before, steps) }()
	stop := r.listen(listening, func(e streams.Event) {
		if m, ok := e.Msg.(*schemas.Forecasts); ok && m.Issued >= from {
			late := time.Duration(e.Time - int64(m.Issued.End(o.Base))).Seconds()
			for range m.VM {
				forecasts = append(forecasts, late)
				by[m.Issued] = append(by[m.Issued], late)
			}
		}
	})
	err = r.reader.Consume(listening, "bench", streams.Input{Stream: streams.Pressure, From: streams.FromNew}, func(e streams.Event) {
		if m, ok := e.Msg.(*schemas.PressureVM); ok && m.Issued >= from {
			pressures = append(pressures, time.Duration(e.Time-int64(m.Issued.End(o.Base))).Seconds())
		}
	})
	if serr := stop(); err == nil {
		err = serr
	}
	if cerr := <-course; err == nil {
		err = cerr
	}
	if err != nil {
		return nil, err
	}
	after, rss, err := r.used(ctx)
	if err != nil {
		return nil, err
	}
	l.CPU, l.RSS = (after-before)/float64(steps), rss
	l.slopes(from, by)
	if len(forecasts) == 0 {
		return nil, fmt.Errorf("nothing was forecast within %d steps", steps)
	}
	l.Forecasts, l.Pressures = len(forecasts), len(pressures)
	l.ForecastP = [2]float64{quantile(forecasts, .5), quantile(forecasts, .99)}
	if len(pressures) > 0 {
		l.PressureP = [2]float64{quantile(pressures, .5), quantile(pressures, .99)}
	}
	if err := r.settleDown(ctx); err != nil {
		return nil, err
	}
	l.Samples, err = r.check(ctx)
	return l, err
}

// follow looks at the forecasters once a step until the context ends.
func (l *Latency) follow(ctx context.Context, r *rig, before float64, steps int) error {
	tick := time.NewTicker(r.Base)
	defer tick.Stop()
	for range steps - 1 {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		cpu, rss, err := r.used(ctx)
		if err != nil {
			return err
		}
		l.Course = append(l.Course, Stage{CPU: cpu - before, RSS: rss})
		before = cpu
		r.Say("step %d: %.1f CPU-s, %.0f MB", len(l.Course), l.Course[len(l.Course)-1].CPU, rss/1e6)
	}
	return nil
}

// slopes completes the course.
func (l *Latency) slopes(from schemas.Step, by map[schemas.Step][]float64) {
	var at, cpu, rss []float64
	c, m := 0.0, 0.0
	for i := range l.Course {
		s := &l.Course[i]
		if late := by[from+schemas.Step(i)]; len(late) > 0 {
			s.P99 = quantile(late, .99)
		}
		at, cpu, rss = append(at, float64(i)*l.BaseS/3600), append(cpu, s.CPU), append(rss, s.RSS)
		c, m = c+s.CPU/float64(len(l.Course)), m+s.RSS/float64(len(l.Course))
	}
	if len(at) > 2 {
		l.CPUSlope, l.RSSSlope = slope(at, cpu)/c, slope(at, rss)/m
	}
}

package scale

import (
	"context"
	"fmt"
	"math/rand/v2"
	"syscall"
	"time"

	"github.com/foreshift/foreshift/schemas"
	"github.com/foreshift/foreshift/streams"
)

// Soak is what a long run with faults did to a process that was never killed itself.
type Soak struct {
	VMs        int     `json:"vms"`
	Minutes    float64 `json:"minutes"`
	Faults     int     `json:"faults"`
	RSS        float64 `json:"rss_bytes"`        // at the end
	RSSSlope   float64 `json:"rss_slope_per_h"`  // of the second half, as a share of its mean, an hour
	Goroutines float64 `json:"goroutines"`       // at the end
	GoSlope    float64 `json:"goroutines_slope"` // of the second half, an hour
	Samples    Samples `json:"samples"`
}

// RunSoak runs three forecasters for a while. Every fault hits one of the last two: it is
// killed and started again, or stopped for longer than its lease. The first is watched.
func RunSoak(ctx context.Context, o Options, length, every time.Duration, seed uint64) (*Soak, error) {
	r, err := start(ctx, o)
	if r != nil {
		defer r.close()
	}
	if err != nil {
		return nil, err
	}
	rng := rand.New(rand.NewPCG(seed, 1))
	var p [3]*proc
	for i := range p {
		if p[i], err = r.spawn(); err != nil {
			return nil, err
		}
	}
	if _, err := r.again(ctx, 3*time.Minute+4*o.Base); err != nil {
		return nil, err
	}
	s := &Soak{VMs: o.VMs, Minutes: length.Minutes()}
	begun := time.Now()
	var t, rss, routines []float64
	fault := begun.Add(every)
	for time.Since(begun) < length {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(min(5*time.Second, length/60)):
		}
		f, err := p[0].figures(ctx)
		if err != nil {
			return nil, err
		}
		t = append(t, time.Since(begun).Hours())
		rss, routines = append(rss, f["process_resident_memory_bytes"]), append(routines, f["go_goroutines"])
		if time.Now().Before(fault) {
			continue
		}
		fault = fault.Add(every)
		s.Faults++
		victim := 1 + rng.IntN(2)
		if rng.IntN(2) == 0 {
			o.Say("%4.0f s: kill -9 of forecaster %d", time.Since(begun).Seconds(), victim)
			if err := p[victim].kill(); err != nil {
				return nil, err
			}
			if p[victim], err = r.spawn(); err != nil {
				return nil, err
			}
			continue
		}
		o.Say("%4.0f s: forecaster %d is stopped for 6 s", time.Since(begun).Seconds(), victim)
		if err := p[victim].signal(syscall.SIGSTOP); err != nil {
			return nil, err
		}
		time.Sleep(6 * time.Second)
		if err := p[victim].signal(syscall.SIGCONT); err != nil {
			return nil, err
		}
	}
	half := len(t) / 2
	mean := 0.0
	for _, v := range rss[half:] {
		mean += v / float64(len(rss)-half)
	}
	s.RSS, s.RSSSlope = rss[len(rss)-1], slope(t[half:], rss[half:])/mean
	s.Goroutines, s.GoSlope = routines[len(routines)-1], slope(t[half:], routines[half:])
	if _, err := r.even(ctx, time.Minute, p[:]...); err != nil {
		return nil, err
	}
	if err := r.settleDown(ctx); err != nil {
		return nil, err
	}
	s.Samples, err = r.check(ctx)
	return s, err
}

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
	Samples   Samples    `json:"samples"`
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
	from := schemas.StepAt(schemas.At(time.Now()), o.Base)
	l := &Latency{VMs: o.VMs, Instances: instances, BaseS: o.Base.Seconds(), GraceS: max(o.Base/10, min(o.Base, 2*time.Second)).Seconds()}
	listening, cancel := context.WithTimeout(ctx, time.Duration(steps+1)*o.Base)
	defer cancel()
	var forecasts, pressures []float64
	stop := r.listen(listening, func(e streams.Event) {
		if m, ok := e.Msg.(*schemas.Forecasts); ok && m.Issued >= from {
			for range m.VM {
				forecasts = append(forecasts, time.Duration(e.Time-int64(m.Issued.End(o.Base))).Seconds())
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
	if err != nil {
		return nil, err
	}
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

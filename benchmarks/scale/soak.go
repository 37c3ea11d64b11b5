package scale

import (
	"context"
	"math/rand/v2"
	"syscall"
	"time"
)

// Soak is what a long run with faults did to a forecaster and a placer that were never
// killed themselves.
type Soak struct {
	VMs     int     `json:"vms"`
	Hosts   int     `json:"hosts"`
	Minutes float64 `json:"minutes"`
	Faults  int     `json:"faults"`
	Ended   int     `json:"ended_by_themselves"` // services, started again as whoever runs them would
	Watched         // the forecaster
	Placer  Watched `json:"placer"`
	Samples Samples `json:"samples"`
}

// Watched is what became of one process; slopes are of the second half.
type Watched struct {
	RSS        float64 `json:"rss_bytes"`        // at the end
	RSSSlope   float64 `json:"rss_slope_per_h"`  // as a share of its mean, an hour
	Goroutines float64 `json:"goroutines"`       // at the end
	GoSlope    float64 `json:"goroutines_slope"` // an hour
	CPU        float64 `json:"cores"`            // used, over the whole run
}

// watch collects figures of a process.
type watch struct {
	p                 *proc
	at, rss, gos, cpu []float64
}

func (w *watch) look(ctx context.Context, since time.Time) error {
	f, err := w.p.figures(ctx)
	if err != nil {
		return err
	}
	w.at = append(w.at, time.Since(since).Hours())
	w.rss, w.gos = append(w.rss, f["process_resident_memory_bytes"]), append(w.gos, f["go_goroutines"])
	w.cpu = append(w.cpu, f["process_cpu_seconds_total"])
	return nil
}

func (w *watch) result() Watched {
	half, last := len(w.at)/2, len(w.at)-1
	mean := 0.0
	for _, v := range w.rss[half:] {
		mean += v / float64(len(w.rss)-half)
	}
	return Watched{RSS: w.rss[last], RSSSlope: slope(w.at[half:], w.rss[half:]) / mean, Goroutines: w.gos[last], GoSlope: slope(w.at[half:], w.gos[half:]),
		CPU: (w.cpu[last] - w.cpu[0]) / 3600 / (w.at[last] - w.at[0])}
}

// RunSoak runs three forecasters and two placers for a while. Every fault hits one of the
// last two forecasters or the second placer, which may be the active one: it is killed and
// started again, or stopped for longer than its lease. The first of each are watched.
func RunSoak(ctx context.Context, o Options, length, every time.Duration, seed uint64) (*Soak, error) {
	o.Capacity = true
	r, err := start(ctx, o)
	if r != nil {
		defer r.close()
	}
	if err != nil {
		return nil, err
	}
	rng := rand.New(rand.NewPCG(seed, 1))
	placer := func() (*proc, error) { return r.service("placer") }
	var p [5]*proc // three forecasters, two placers
	begin := [len(p)]func() (*proc, error){r.spawn, r.spawn, r.spawn, placer, placer}
	for i := range p {
		if p[i], err = begin[i](); err != nil {
			return nil, err
		}
	}
	if _, err := r.again(ctx, 3*time.Minute+4*o.Base); err != nil {
		return nil, err
	}
	s := &Soak{VMs: o.VMs, Hosts: o.Hosts, Minutes: length.Minutes()}
	begun := time.Now()
	watched := [2]*watch{{p: p[0]}, {p: p[3]}}
	fault := begun.Add(every)
	for time.Since(begun) < length {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(min(5*time.Second, length/60)):
		}
		for _, w := range watched {
			if err := w.look(ctx, begun); err != nil {
				return nil, err
			}
		}
		for _, i := range [...]int{1, 2, 4} {
			if p[i].alive() {
				continue
			}
			s.Ended++
			o.Say("%4.0f s: %s ended by itself (%v): %s", time.Since(begun).Seconds(), p[i].name, p[i].err, p[i].last())
			if p[i], err = begin[i](); err != nil {
				return nil, err
			}
		}
		if time.Now().Before(fault) {
			continue
		}
		fault = fault.Add(every)
		s.Faults++
		victim := [...]int{1, 2, 4}[rng.IntN(3)]
		if rng.IntN(2) == 0 {
			o.Say("%4.0f s: kill -9 of %s", time.Since(begun).Seconds(), p[victim].name)
			if err := p[victim].kill(); err != nil {
				return nil, err
			}
			if p[victim], err = begin[victim](); err != nil {
				return nil, err
			}
			continue
		}
		o.Say("%4.0f s: %s is stopped for 6 s", time.Since(begun).Seconds(), p[victim].name)
		if err := p[victim].signal(syscall.SIGSTOP); err != nil {
			return nil, err
		}
		time.Sleep(6 * time.Second)
		if err := p[victim].signal(syscall.SIGCONT); err != nil {
			return nil, err
		}
	}
	s.Watched, s.Placer = watched[0].result(), watched[1].result()
	o.Say("forecaster %+v; placer %+v", s.Watched, s.Placer)
	if _, err := r.even(ctx, 5*time.Minute, p[:3]...); err != nil {
		return nil, err
	}
	if err := r.settleDown(ctx); err != nil {
		return nil, err
	}
	s.Samples, err = r.check(ctx)
	return s, err
}

package lab

import (
	"context"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/foreshift/foreshift/schemas"
)

// Sample is what the guests of each host asked for at one moment.
type Sample struct {
	Time time.Time
	CPU  []float64 // mCPU by host, in the order of [Lab.Hosts]
}

// Total is the demand on all hosts together: what one host would have carried.
func (s Sample) Total() float64 {
	sum := 0.0
	for _, x := range s.CPU {
		sum += x
	}
	return sum
}

// counters are a vCPU's cumulative nanoseconds.
type counters struct{ run, delay float64 }

// parseCounters reads vcpu.0.time and vcpu.0.delay from virsh domstats, by domain.
func parseCounters(lines []string) map[string]counters {
	out := map[string]counters{}
	name := ""
	for _, l := range lines {
		l = strings.TrimSpace(l)
		if rest, ok := strings.CutPrefix(l, "Domain: "); ok {
			name = strings.Trim(rest, "'")
			continue
		}
		key, text, ok := strings.Cut(l, "=")
		if !ok || name == "" {
			continue
		}
		v, err := strconv.ParseFloat(text, 64)
		if err != nil {
			continue
		}
		c := out[name]
		switch key {
		case "vcpu.0.time":
			c.run = v
		case "vcpu.0.delay":
			c.delay = v
		default:
			continue
		}
		out[name] = c
	}
	return out
}

// demand turns two readings into mCPU: what the vCPUs ran and what they waited for
// a core. QEMU's own threads are left out: sending a guest's memory away is not
// the guest's demand. A counter that went back belongs to another process and
// starts anew.
func demand(before, after map[string]counters, elapsed time.Duration) float64 {
	if elapsed <= 0 {
		return 0
	}
	sum := 0.0
	for name, a := range after {
		b, ok := before[name]
		if !ok || a.run < b.run || a.delay < b.delay {
			continue
		}
		sum += (a.run - b.run) + (a.delay - b.delay)
	}
	return sum / float64(elapsed.Nanoseconds()) * 1000
}

// Meter reads the hosts' counters with the real virsh, apart from Foreshift's own
// agent, until it is stopped.
type Meter struct {
	cancel context.CancelFunc
	done   chan struct{}

	mu      sync.Mutex
	samples []Sample
	missed  int
}

// maxSamples bounds the record: more than an hour at four a second.
const maxSamples = 20000

// Meter starts to measure every so often.
func (l *Lab) Meter(ctx context.Context, every time.Duration) *Meter {
	ctx, cancel := context.WithCancel(ctx)
	m := &Meter{cancel: cancel, done: make(chan struct{})}
	type reading struct {
		at    time.Time
		guest map[string]counters
	}
	shells := make([]*virshShell, len(l.Hosts))
	for i, h := range l.Hosts {
		shells[i] = &virshShell{host: h}
	}
	read := func() []reading {
		out := make([]reading, len(shells))
		var wg sync.WaitGroup
		for i, s := range shells {
			wg.Go(func() {
				asked := time.Now()
				lines, err := s.ask("domstats --vcpu", 5*time.Second)
				if err == nil {
					out[i] = reading{asked.Add(time.Since(asked) / 2), parseCounters(lines)}
				}
			})
		}
		wg.Wait()
		return out
	}
	go func() {
		defer close(m.done)
		defer func() {
			for _, s := range shells {
				s.close()
			}
		}()
		t := time.NewTicker(every)
		defer t.Stop()
		last := read()
		for {
			select {
			case <-ctx.Done():
				return
			case <-t.C:
			}
			now := read()
			s := Sample{Time: time.Now(), CPU: make([]float64, len(shells))}
			missed := false
			for i := range now {
				if now[i].guest == nil {
					missed = true
					continue
				}
				if last[i].guest != nil {
					s.CPU[i] = demand(last[i].guest, now[i].guest, now[i].at.Sub(last[i].at))
				} else {
					missed = true
				}
				last[i] = now[i]
			}
			m.mu.Lock()
			switch {
			case missed: // absent is not zero
				m.missed++
			case len(m.samples) < maxSamples:
				m.samples = append(m.samples, s)
			}
			m.mu.Unlock()
		}
	}()
	return m
}

// Samples is the record so far.
func (m *Meter) Samples() []Sample {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]Sample(nil), m.samples...)
}

// Stop ends the measurement.
func (m *Meter) Stop() {
	m.cancel()
	<-m.done
}

// Crossing is a stretch in which demand lay above a limit.
type Crossing struct {
	From time.Time `json:"from"`
	To   time.Time `json:"to"`
	Peak float64   `json:"peak_mcpu"` // highest mean over the smoothing window
}

// smooth and hold make a crossing of a limit one that a tenant would feel: the
// counters' resolution is 10 ms, so a single reading says little.
const (
	smooth = time.Second
	hold   = 2 * time.Second
)

// Crossings finds where the mean over the last second stays above the limit for 2 s
// or more. value picks the demand of a sample.
func Crossings(samples []Sample, value func(Sample) float64, limit schemas.MilliCPU) []Crossing {
	var out []Crossing
	var cur *Crossing
	end := func() {
		if cur != nil && cur.To.Sub(cur.From) >= hold {
			out = append(out, *cur)
		}
		cur = nil
	}
	first, sum := 0, 0.0
	for i, s := range samples {
		sum += value(s)
		for s.Time.Sub(samples[first].Time) > smooth {
			sum -= value(samples[first])
			first++
		}
		mean := sum / float64(i-first+1)
		if mean <= float64(limit) {
			end()
			continue
		}
		if cur == nil {
			cur = &Crossing{From: samples[first].Time} // its earliest possible begin
		}
		cur.To = s.Time
		cur.Peak = max(cur.Peak, mean)
	}
	end()
	return out
}

// between picks the samples of [from, to).
func between(samples []Sample, from, to time.Time) []Sample {
	var out []Sample
	for _, s := range samples {
		if !s.Time.Before(from) && s.Time.Before(to) {
			out = append(out, s)
		}
	}
	return out
}

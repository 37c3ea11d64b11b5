package scale

import (
	"context"
	"fmt"
	"math"
	"syscall"
	"time"
)

// Takeover is what kill -9, a graceful join and a graceful leave did.
type Takeover struct {
	VMs        int     `json:"vms"`
	Hosts      int     `json:"hosts"`
	BaseS      float64 `json:"base_s"`
	IntervalS  float64 `json:"interval_s"`
	History    int     `json:"history_steps"`
	ColdS      float64 `json:"cold_start_s"`        // until every VM was forecast by the first instances
	Orphans    int     `json:"partitions_orphaned"` // by the kill
	FirstS     float64 `json:"first_again_s"`       // the first of them was forecast again
	AgainS     float64 `json:"all_again_s"`         // all of them were
	RefilledS  float64 `json:"refilled_s"`          // their windows were full
	JoinReadyS float64 `json:"join_ready_s"`        // a new instance: from its start until it had its share
	JoinGapS   float64 `json:"join_gap_s"`          // longest that a partition was without an owner meanwhile
	LeaveS     float64 `json:"leave_s"`             // one left in good order: until the others had all of it
	RSS        float64 `json:"rss_bytes"`           // of one instance with a third of the fleet
	Samples    Samples `json:"samples"`
}

// RunTakeover starts three forecasters, kills one with SIGKILL, adds one, stops one with
// SIGTERM, and checks the history.
func RunTakeover(ctx context.Context, o Options) (*Takeover, error) {
	r, err := start(ctx, o)
	if r != nil {
		defer r.close()
	}
	if err != nil {
		return nil, err
	}
	t := &Takeover{VMs: o.VMs, Hosts: o.Hosts, BaseS: o.Base.Seconds(), IntervalS: o.Interval.Seconds(), History: o.History}
	begun := time.Now()
	var p [4]*proc
	for i := range 3 {
		if p[i], err = r.spawn(); err != nil {
			return nil, err
		}
	}
	if _, err := r.even(ctx, 5*time.Minute, p[:3]...); err != nil {
		return nil, err
	}
	if _, err := r.again(ctx, 3*time.Minute+4*o.Base); err != nil {
		return nil, err
	}
	t.ColdS = time.Since(begun).Seconds()
	o.Say("three forecasters share %d VMs, all forecast after %.0f s", o.VMs, t.ColdS)
	if err := r.saved(ctx, p[:3]...); err != nil {
		return nil, err
	}
	if _, err := r.even(ctx, 3*time.Minute, p[:3]...); err != nil { // on a machine that is too busy leases are lost
		return nil, err
	}
	f, err := p[1].figures(ctx)
	if err != nil {
		return nil, err
	}
	t.Orphans, t.RSS = int(f[partitions("owned")]), f["process_resident_memory_bytes"]
	killed := time.Now()
	each, err := r.newLease(ctx, t.Orphans, 20*time.Second, p[1].kill)
	if err != nil {
		return nil, err
	}
	if len(each) < max(1, t.Orphans) {
		return nil, fmt.Errorf("%d of %d orphaned partitions were forecast again within 20 s", len(each), t.Orphans)
	}
	t.FirstS, t.AgainS = each[0].Seconds(), each[len(each)-1].Seconds()
	o.Say("kill -9: %d partitions forecast again after %.1f to %.1f s", len(each), t.FirstS, t.AgainS)
	for _, q := range []*proc{p[0], p[2]} {
		_, err := until(ctx, 2*time.Minute, "windows refilled", func() (bool, error) {
			f, err := q.figures(ctx)
			return err == nil && f[partitions("taken")] == 32 && f[partitions("filled")] == 32, err
		})
		if err != nil {
			return nil, err
		}
	}
	t.RefilledS = time.Since(killed).Seconds()
	o.Say("their windows were full after %.1f s", t.RefilledS)
	gap, err := r.gaps(ctx)
	if err != nil {
		return nil, err
	}
	begun = time.Now()
	if p[3], err = r.spawn(); err != nil {
		return nil, err
	}
	if _, err := r.even(ctx, 2*time.Minute, p[0], p[2], p[3]); err != nil {
		return nil, err
	}
	t.JoinReadyS = time.Since(begun).Seconds()
	if t.JoinGapS, err = gap(); err != nil {
		return nil, err
	}
	o.Say("a third one had its share %.1f s after its start; no partition was without an owner for longer than %.2f s", t.JoinReadyS, t.JoinGapS)
	begun = time.Now()
	if err := p[0].signal(syscall.SIGTERM); err != nil {
		return nil, err
	}
	if _, err := r.even(ctx, 2*time.Minute, p[2], p[3]); err != nil {
		return nil, err
	}
	t.LeaveS = time.Since(begun).Seconds()
	o.Say("one left: the others had all of it after %.1f s", t.LeaveS)
	if _, err := r.again(ctx, time.Minute+3*o.Base); err != nil {
		return nil, err
	}
	if err := r.settleDown(ctx); err != nil {
		return nil, err
	}
	t.Samples, err = r.check(ctx)
	return t, err
}

// saved waits until the processes have stored a snapshot of every partition they hold.
func (r *rig) saved(ctx context.Context, procs ...*proc) error {
	for _, p := range procs {
		if _, err := until(ctx, 4*time.Minute, "snapshots", func() (bool, error) {
			f, err := p.figures(ctx)
			return err == nil && f[`foreshift_forecaster_partition_events{what="saved"}`] >= f[partitions("taken")], err
		}); err != nil {
			return err
		}
	}
	return nil
}

// Spread is the lag by number of instances.
type Spread struct {
	VMs    int          `json:"vms"`
	BaseS  float64      `json:"base_s"`
	Share  float64      `json:"cores_an_instance"`
	By     map[int]Lags `json:"lag_by_instances"`
	Sample Samples      `json:"samples"`
}

// RunSpread measures the lag of the slowest partition with each of the given numbers of
// instances. As they share the cores of one machine, each is held to a share of one: it
// is stopped and continued 20 times a second.
func RunSpread(ctx context.Context, o Options, share float64, steps int, instances ...int) (*Spread, error) {
	r, err := start(ctx, o)
	if r != nil {
		defer r.close()
	}
	if err != nil {
		return nil, err
	}
	s := &Spread{VMs: o.VMs, BaseS: o.Base.Seconds(), Share: share, By: map[int]Lags{}}
	throttled, stop := context.WithCancel(ctx)
	defer stop()
	for _, n := range instances {
		for len(r.procs) < n {
			p, err := r.spawn()
			if err != nil {
				return nil, err
			}
			defer throttle(throttled, p, share, len(r.procs))()
		}
		if _, err := r.even(ctx, 6*time.Minute, r.procs...); err != nil {
			return nil, err
		}
		if _, err := r.again(ctx, 2*time.Minute+4*o.Base); err != nil {
			return nil, err
		}
		if s.By[n], err = r.lags(ctx, steps); err != nil {
			return nil, err
		}
		o.Say("%d instances: the slowest partition is forecast %.1f s after its step, the median %.1f s", n, s.By[n].Slowest, s.By[n].Median)
	}
	stop()
	if err := r.settleDown(ctx); err != nil {
		return nil, err
	}
	s.Sample, err = r.check(ctx)
	return s, err
}

// throttle holds a process to a share of one core, as long as it uses no more than one.
// The returned function waits for its end.
func throttle(ctx context.Context, p *proc, share float64, phase int) func() {
	done := make(chan struct{})
	const period = 50 * time.Millisecond
	go func() {
		defer close(done)
		time.Sleep(time.Duration(phase) * period / 4)
		for ctx.Err() == nil && p.alive() {
			_ = p.signal(syscall.SIGCONT)
			time.Sleep(time.Duration(share * float64(period)))
			if ctx.Err() != nil {
				break
			}
			_ = p.signal(syscall.SIGSTOP)
			time.Sleep(time.Duration((1 - share) * float64(period)))
		}
		if p.alive() {
			_ = p.signal(syscall.SIGCONT)
		}
	}()
	return func() { <-done }
}

// slope is the least-squares slope of values at times, a second.
func slope(t, v []float64) float64 {
	n, mt, mv := float64(len(t)), 0.0, 0.0
	for i := range t {
		mt, mv = mt+t[i]/n, mv+v[i]/n
	}
	a, b := 0.0, 0.0
	for i := range t {
		a += (t[i] - mt) * (v[i] - mv)
		b += (t[i] - mt) * (t[i] - mt)
	}
	if b == 0 {
		return math.NaN()
	}
	return a / b
}

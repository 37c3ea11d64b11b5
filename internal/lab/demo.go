package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/foreshift/foreshift/schemas"
)

// Stack is Foreshift as the demonstration sees it: all of its services, wired to
// the lab's hosts by whoever calls [Demo].
type Stack interface {
	// Start runs the services against the site, in observe mode, and returns when
	// they take in telemetry. It is given ctx for the start only.
	Start(ctx context.Context, site Site) error
	// SetMode changes what Foreshift may do by itself.
	SetMode(ctx context.Context, mode schemas.Mode) error
	// Events carries *schemas.PressureHost, *schemas.Plan, *schemas.Progress and
	// *schemas.Outcome as they are published; others are ignored. It may be asked
	// for before Start, and is closed by Stop. Values are not to be changed.
	Events() <-chan schemas.Message
	// Err is closed, or carries the error, when a service has ended by itself.
	Err() <-chan error
	// Stop ends all services. It may be called without Start, and twice.
	Stop() error
}

// Site is what the stack is to look after.
type Site struct {
	Dir    string        // for the stack's own state; removed with the lab
	Base   time.Duration // base step
	Hosts  []*Host       // URIs, addresses, declared capacities
	Guests []*Guest
}

// DemoConfig describes a demonstration. Stack and Out are needed.
type DemoConfig struct {
	Stack Stack
	Out   io.Writer
	Lab   Config        // directory and cache; the hosts are the demonstration's own
	Base  time.Duration // default 250 ms: a day of 288 steps lasts 72 s
	Days  int           // observed before Foreshift may act; default 2
}

// The demonstration's numbers. The loads are of a vCPU and do not count what a
// guest costs by itself, 30 to 80 mCPU: at the trough the two ask for some 350
// mCPU, at the peak for some 850, and the limit lies far from both, so that the
// noise of a sample of 250 ms does not decide.
const (
	demoLimit  = schemas.MilliCPU(620)
	steadyLoad = 20 // percent
	lowLoad    = 5
	highLoad   = 58
	demoBeat   = 50 * time.Millisecond
)

// risingLoad is low, rises from 50 % to 66 % of the day, stays high, and falls at
// 86 %.
func risingLoad(day time.Duration) string {
	at := func(share float64) float64 { return share * day.Seconds() }
	return fmt.Sprintf("0:%d,%.2f:%d,%.2f:%d,%.2f:%d,%.2f:%d", lowLoad, at(.5), lowLoad, at(.66), highLoad, at(.86), highLoad, at(.89), lowLoad)
}

// Demo shows Foreshift at its job on real hypervisors. Two guests share a host of
// declared capacity; each day the load of one rises so that the sum crosses it.
// For two days Foreshift only watches, and the limit is crossed: that is the run
// without a move. On the third it may act, and has to move a guest before the
// crossing. The story is told on Out as it happens, then the verdict. The error is
// nil when the demonstration could be carried through, whatever the verdict.
func Demo(ctx context.Context, cfg DemoConfig) (Verdict, error) {
	if cfg.Base == 0 {
		cfg.Base = 250 * time.Millisecond
	}
	if cfg.Days == 0 {
		cfg.Days = 2
	}
	if cfg.Stack == nil || cfg.Out == nil {
		return Verdict{}, errors.New("lab demo: a stack and a place to tell the story are needed")
	}
	if cfg.Base < 50*time.Millisecond || cfg.Base > 10*time.Second || cfg.Days < 1 || cfg.Days > 10 {
		return Verdict{}, fmt.Errorf("lab demo: base step %v (50 ms to 10 s) or %d days (1 to 10) out of range", cfg.Base, cfg.Days)
	}
	d := &demo{cfg: cfg, day: schemas.StepsPerDay * cfg.Base, story: newStory(cfg.Out)}
	v, err := d.run(ctx)
	if err != nil {
		return v, fmt.Errorf("lab demo: %w", err)
	}
	return v, nil
}

type demo struct {
	cfg   DemoConfig
	day   time.Duration
	story *story
	lab   *Lab
	start time.Time // of the first day
	ev    Evidence
	auto  bool
	sent  bool // the command of the move has gone out
}

func (d *demo) run(ctx context.Context) (v Verdict, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	lc := d.cfg.Lab
	lc.Hosts, lc.Capacity, lc.Progress = nil, schemas.Amounts{CPU: demoLimit, Mem: 2 << 30}, d.story.note
	if d.lab, err = Up(ctx, lc); err != nil {
		return v, err
	}
	defer func() { err = errors.Join(err, d.lab.Down(ctx)) }()
	guests, err := d.boot(ctx)
	if err != nil {
		return v, err
	}
	defer func() { err = errors.Join(err, d.cfg.Stack.Stop()) }()
	d.story.note("starting Foreshift in observe mode")
	if err := d.cfg.Stack.Start(ctx, Site{Dir: d.lab.StateDir(), Base: d.cfg.Base, Hosts: d.lab.Hosts, Guests: guests}); err != nil {
		return v, err
	}
	var watches []*Watcher
	for _, g := range guests {
		watches = append(watches, d.lab.Watch(ctx, g.ID, 200*time.Millisecond))
	}
	meter := d.lab.Meter(ctx, d.cfg.Base)
	err = d.days(ctx, guests[0].Phase, meter)
	meter.Stop()
	d.ev.Samples = meter.Samples()
	for i, g := range guests {
		seen := watches[i].Stop()
		end := -1
		if at, err := d.lab.RunsAt(ctx, g.ID); err == nil { // else: the verdict says so
			for j, h := range d.lab.Hosts {
				if h == at {
					end = j
				}
			}
		}
		d.ev.Guests = append(d.ev.Guests, GuestEvidence{ID: g.ID, Name: g.Name, Beats: d.lab.Beats.Report(g.Name), Seen: seen, EndAt: end})
	}
	if err != nil {
		return v, err
	}
	v = Judge(d.ev)
	d.story.verdict(d.ev, v)
	return v, nil
}

// boot starts the two guests, one after the other: a guest takes a whole core while
// it boots.
func (d *demo) boot(ctx context.Context) ([]*Guest, error) {
	phase := time.Duration((time.Now().UnixNano() + int64(25*time.Second)) % int64(d.day)) // the day begins when all is up
	specs := []GuestSpec{
		{Name: "steady", Load: fmt.Sprintf("0:%d", steadyLoad)},
		{Name: "rising", Load: risingLoad(d.day)},
	}
	var guests []*Guest
	for _, s := range specs {
		s.Period, s.Phase, s.Beat, s.DirtyRate = d.day, phase, demoBeat, 1<<20
		d.story.note(fmt.Sprintf("booting guest %s on %s", s.Name, d.lab.Hosts[0].ID))
		g, err := d.lab.StartGuest(ctx, d.lab.Hosts[0], s)
		if err != nil {
			return nil, err
		}
		guests = append(guests, g)
	}
	return guests, nil
}

// days lets the observed days and the auto day pass and listens to Foreshift.
func (d *demo) days(ctx context.Context, phase time.Duration, meter *Meter) error {
	now := time.Now()
	into := time.Duration((now.UnixNano() - int64(phase)) % int64(d.day))
	d.start = now.Add(d.day - into)
	d.ev = Evidence{Limit: demoLimit, Start: d.start, Day: d.day, Watched: d.cfg.Days}
	for _, h := range d.lab.Hosts {
		d.ev.HostIDs = append(d.ev.HostIDs, h.ID)
	}
	d.story.begin(d.lab.Hosts[0], d.cfg, d.day, time.Until(d.start))
	for n := 0; n <= d.cfg.Days; n++ {
		at := d.start.Add(time.Duration(n) * d.day)
		if err := d.until(ctx, at); err != nil {
			return err
		}
		if n > 0 {
			d.tell(n, meter)
		}
		if n == d.cfg.Days {
			if err := d.cfg.Stack.SetMode(ctx, schemas.ModeAuto); err != nil {
				return err
			}
			d.auto = true
			d.story.at(at, "day %d: mode auto. From now on Foreshift may move", n+1)
		} else {
			d.story.at(at, "day %d: mode observe. Foreshift watches and moves nothing", n+1)
		}
	}
	if err := d.until(ctx, d.start.Add(time.Duration(d.cfg.Days+1)*d.day)); err != nil {
		return err
	}
	d.tell(d.cfg.Days+1, meter)
	return nil
}

// tell says how the nth day went, as measured.
func (d *demo) tell(n int, meter *Meter) {
	from := d.start.Add(time.Duration(n-1) * d.day)
	samples := between(meter.Samples(), from, from.Add(d.day))
	onHost := func(s Sample) float64 { return s.CPU[0] }
	d.story.dayDone(n, from, peak(samples, onHost), Crossings(samples, onHost, demoLimit))
}

// until listens to Foreshift until a time has come.
func (d *demo) until(ctx context.Context, end time.Time) error {
	timer := time.NewTimer(time.Until(end))
	defer timer.Stop()
	events := d.cfg.Stack.Events()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-timer.C:
			return nil
		case err := <-d.cfg.Stack.Err():
			if err == nil {
				err = errors.New("ended by itself")
			}
			return fmt.Errorf("foreshift: %w", err)
		case m, ok := <-events:
			if !ok {
				return errors.New("foreshift's events ended")
			}
			d.hear(m)
		}
	}
}

// hear keeps what Foreshift says as evidence and tells it.
func (d *demo) hear(m schemas.Message) {
	switch m := m.(type) {
	case *schemas.PressureHost:
		if m.Host != d.ev.HostIDs[0] {
			return
		}
		if !d.sent && m.Onset != 0 {
			d.ev.Prediction = m // the last one before the command
		}
		d.story.pressure(m)
	case *schemas.Plan:
		for i := range m.Actions {
			if d.auto && !d.sent {
				d.ev.Action = &m.Actions[i]
				d.sent = m.Actions[i].State == schemas.ActionCommanded
			}
		}
		d.story.plan(m, d.auto)
	case *schemas.Progress:
		d.story.progress(m)
	case *schemas.Outcome:
		if d.auto {
			d.ev.Outcomes = append(d.ev.Outcomes, m)
		}
		d.story.outcome(m)
	}
}

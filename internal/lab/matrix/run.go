package matrix

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/foreshift/foreshift/internal/lab"
	"github.com/foreshift/foreshift/schemas"
)

// run is one round of one cell.
type run struct {
	*Fleet
	ctx      context.Context
	cell     Cell
	round    int
	label    string
	src, dst int
	cmd      *schemas.Command
	quiet    bool // the cell's own way of commanding was taken

	mu     sync.Mutex
	struck bool
	errs   []error
	wrong  []string
	wg     sync.WaitGroup
}

// wrongs notes something that a cell itself has seen and that must not be.
func (x *run) wrongs(format string, a ...any) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.wrong = append(x.wrong, fmt.Sprintf(format, a...))
}

// fault notes an error of the fault's own machinery: then the round proves nothing.
func (x *run) fault(err error) {
	if err == nil {
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.errs = append(x.errs, err)
}

// later mends what was broken; a round waits for it.
func (x *run) later(d time.Duration, mend func() error) {
	x.wg.Go(func() {
		pause(x.ctx, d)
		x.fault(mend())
	})
}

// blow is the fuse's end.
func (x *run) blow() {
	x.mu.Lock()
	x.struck = true
	x.mu.Unlock()
	x.cell.fault(x)
}

// hit reports whether the fault has struck.
func (x *run) hit() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.struck
}

// where finds the guest among the two hosts.
func (f *Fleet) where(ctx context.Context) (int, error) {
	at, err := f.Lab.RunsAt(ctx, f.guest.ID)
	if err != nil {
		return 0, err
	}
	for i, h := range f.Lab.Hosts[:2] {
		if h == at {
			return i, nil
		}
	}
	return 0, fmt.Errorf("the guest runs on %s, which has no actuator", at.Name)
}

// Limits of one round, real time.
const (
	answerSlack = 20 * time.Second // what a first outcome may take past deadline and limits, on a busy machine
	mendWait    = 40 * time.Second // for an UNKNOWN to end by itself
	settleWait  = 30 * time.Second // for hosts to be as the outcome says
)

// Round plays one round of a cell. The error is of the lab, not of what it shows.
func (f *Fleet) Round(ctx context.Context, c Cell, round int) (_ Result, err error) {
	if err := f.kind(ctx, c); err != nil {
		return Result{}, fmt.Errorf("%s: %w", c.Name, err)
	}
	src, err := f.where(ctx)
	if err != nil {
		return Result{}, fmt.Errorf("%s: %w", c.Name, err)
	}
	x := &run{Fleet: f, ctx: ctx, cell: c, round: round, label: c.step(round), src: src, dst: 1 - src}
	res := Result{Cell: c.Name, Round: round, Step: x.label}
	e := Evidence{Cell: c, Source: f.Lab.Hosts[src].ID, Dest: f.Lab.Hosts[1-src].ID, Before: f.Lab.Beats.Report(f.guest.Name)}
	for _, h := range f.Lab.Hosts {
		e.Hosts = append(e.Hosts, h.ID)
	}
	if x.cmd, err = f.order(ctx, src, 1-src); err != nil {
		return res, fmt.Errorf("%s: %w", c.Name, err)
	}
	if slow(x.label) {
		if err := f.Lab.Hosts[x.dst].Throttle(20e6); err != nil {
			return res, err
		}
		defer func() { err = errors.Join(err, f.Lab.Hosts[x.dst].Throttle(0)) }()
	}
	w := f.Lab.Watch(ctx, f.guest.ID, 200*time.Millisecond)
	began := time.Now()
	f.arm(nil)
	if x.label != "" && c.fault != nil {
		host := -1
		if !strings.HasPrefix(x.label, "receive ") {
			host = src
		}
		f.arm(&fuse{label: x.label, host: host, blow: x.blow, busy: &x.wg})
	}
	if c.before != nil {
		c.before(x)
	}
	if !x.quiet {
		x.fault(f.send(ctx, x.cmd, string(x.cmd.ID)))
	}
	e.First, e.End = x.await(began)
	res.Seconds = schemas.Seconds(time.Since(began).Seconds())
	if e.First != nil {
		res.Seconds = schemas.Seconds(e.First.Time.Std().Sub(began).Seconds())
	}
	if c.after != nil {
		c.after(x)
	}
	if x.label == "report done" { // it comes after the outcome
		for end := time.Now().Add(3 * time.Second); !x.hit() && time.Now().Before(end) && pause(ctx, 20*time.Millisecond); {
		}
	}
	f.mu.Lock()
	f.armed = nil // the step was not reached: it shall not go off in the next round
	f.mu.Unlock()
	x.wg.Wait()
	if e.End != nil && e.End.Result == schemas.ResultUnknown && !c.harms { // all is mended: now it must end
		if o, ok := f.outcome(ctx, x.cmd.ID, mendWait, ended); ok {
			e.End = &o
		}
	}
	if c.unlocks { // a libvirtd tells its lock daemon only once in which directory to lock
		for _, h := range f.Lab.Hosts[:2] {
			x.fault(errors.Join(h.KillLibvirtd(ctx), h.StartLibvirtd(ctx)))
		}
	}
	x.settle(&e)
	e.Seen = w.Stop()
	e.After = f.Lab.Beats.Report(f.guest.Name)
	x.mu.Lock()
	res.Struck = x.struck || c.fault == nil && c.why != "" || x.quiet
	err = errors.Join(x.errs...)
	x.mu.Unlock()
	if err != nil {
		return res, fmt.Errorf("%s: %w", c.Name, err)
	}
	f.mu.Lock()
	res.Trace = slices.Clone(f.trace)
	f.mu.Unlock()
	res.Wrong = append(judge(e), x.wrong...)
	fill(&res, e, began)
	again := len(res.Wrong) > 0 || c.harms || c.elsewhere || c.unlocks || e.After.Resets != e.Before.Resets
	if again {
		res.Person = c.harms || e.End == nil || e.End != nil && e.End.Result == schemas.ResultUnknown
		if err := x.renew(e); err != nil {
			return res, fmt.Errorf("%s: fresh guest: %w", c.Name, err)
		}
	}
	return res, nil
}

func fill(res *Result, e Evidence, began time.Time) {
	if e.First != nil {
		res.First = e.First.Result
	}
	if e.End != nil {
		res.End, res.Reason = e.End.Result, e.End.Reason.String()
	}
	for i, s := range e.States {
		if s == lab.StateRunning {
			res.RunsAt = e.Hosts[i]
		}
	}
	res.Running, res.Looks, res.Alien = e.Seen.MaxRunning, e.Seen.Looks, e.After.Alien-e.Before.Alien
	res.Silence = schemas.Millis(e.After.Silence(began, e.After.Last).Milliseconds())
}

func ended(r schemas.Result) bool  { return r != schemas.ResultUnknown }
func anyEnd(r schemas.Result) bool { return true }

// await waits for the command's first outcome and for its end.
func (x *run) await(began time.Time) (first, end *schemas.Outcome) {
	l := limits()
	last := began.Add(moveLimit)
	if d := x.cmd.Deadline.Std(); d.After(last) {
		last = d
	}
	within := time.Until(last.Add(l.AbortGrace + l.Answer + answerSlack))
	o, ok := x.outcome(x.ctx, x.cmd.ID, within, anyEnd)
	if !ok {
		return nil, nil
	}
	first, end = &o, &o
	if o.Result == schemas.ResultUnknown {
		if e, ok := x.outcome(x.ctx, x.cmd.ID, mendWait, ended); ok {
			end = &e
		}
	}
	return first, end
}

// settle waits until the hosts are as a finished round should leave them, and notes
// what is not.
func (x *run) settle(e *Evidence) {
	f := x.Fleet
	tidy := func() bool {
		e.States, e.Left = f.Lab.States(x.ctx, f.guest.ID), nil
		running, at := 0, (*lab.Host)(nil)
		for i, s := range e.States {
			switch s {
			case lab.StateRunning:
				running, at = running+1, f.Lab.Hosts[i]
			case lab.StateAbsent:
			default:
				e.Left = append(e.Left, fmt.Sprintf("a copy on %s: %s", f.Lab.Hosts[i].Name, s))
			}
		}
		if f.local {
			if err := f.Lab.CheckLocal(f.guest, at); err != nil {
				e.Left = append(e.Left, err.Error())
			}
		}
		last := f.Lab.Beats.Report(f.guest.Name).Last
		e.Alive = time.Since(last) < time.Second
		return running == 1 && len(e.Left) == 0 && e.Alive
	}
	if x.cell.harms {
		tidy()
		e.Left = nil // a person's to clear
		return
	}
	for end := time.Now().Add(settleWait); !tidy() && time.Now().Before(end) && pause(x.ctx, 300*time.Millisecond); {
	}
	x.fault(x.left(e))
	for _, h := range f.Lab.Hosts { // QEMU processes that libvirt has lost sight of
		pids, err := h.QEMUs()
		if err != nil {
			x.fault(err)
		}
		want := 0
		if i := slices.Index(f.Lab.Hosts, h); e.States[i] != lab.StateAbsent && e.States[i] != lab.StateOff {
			want = 1
		}
		if len(pids) > want {
			e.Left = append(e.Left, fmt.Sprintf("QEMU processes %v on %s", pids, h.Name))
		}
	}
}

// left notes what a move may have made beside the guest's copies, and left: other
// domains, leases of trials.
func (x *run) left(e *Evidence) error {
	for _, h := range x.Lab.Hosts {
		all, err := h.Domains(x.ctx)
		if err != nil {
			return err
		}
		for _, vm := range all {
			if vm != x.guest.ID {
				e.Left = append(e.Left, fmt.Sprintf("domain %s on %s", vm, h.Name))
			}
		}
	}
	// The lease of a trial goes a moment after the outcome.
	var leases []string
	var err error
	for end := time.Now().Add(3 * time.Second); ; pause(x.ctx, 100*time.Millisecond) {
		if leases, err = filepath.Glob(filepath.Join(x.Lab.LeaseDir(), "foreshift-*")); len(leases) == 0 || time.Now().After(end) {
			break
		}
	}
	for _, l := range leases {
		e.Left = append(e.Left, "the lease "+filepath.Base(l))
	}
	return err
}

// renew does what a person would after the round's harm: the VM is started again
// where a definition of it is left, the open move is resolved, and a new guest takes
// its place.
func (x *run) renew(e Evidence) error {
	f, ctx := x.Fleet, x.ctx
	if e.End == nil || e.End != nil && e.End.Result == schemas.ResultUnknown {
		at := x.dst
		for i, s := range f.Lab.States(ctx, f.guest.ID)[:2] {
			if s == lab.StateRunning {
				at = i
			}
		}
		h, other := f.Lab.Hosts[at], f.Lab.Hosts[1-at]
		// Each may fail for want of something to do: the last look tells.
		_, _ = other.Virsh(ctx, "destroy", f.guest.ID.String())
		_, _ = h.Virsh(ctx, "destroy", f.guest.ID.String())
		if _, err := h.Virsh(ctx, "start", f.guest.ID.String()); err != nil {
			if _, err := h.Virsh(ctx, "create", filepath.Join(f.Lab.Dir, "hosts", f.Lab.Hosts[0].Name, f.guest.Name+".xml")); err != nil {
				return err
			}
		}
		err := f.act(ctx, &schemas.Act{Act: schemas.ActResolve, VM: f.guest.ID, Command: x.cmd.ID, RunsAt: h.ID, Why: "the lab has started it again"})
		if err != nil {
			return err
		}
		if _, ok := f.outcome(ctx, x.cmd.ID, 20*time.Second, ended); !ok {
			f.say("warning: an operator's word did not end " + string(x.cmd.ID))
		}
	}
	if err := f.Lab.RemoveGuest(ctx, f.guest); err != nil {
		return err
	}
	return f.boot(ctx)
}

// slow says at which steps the transfer must take its time to be hit.
func slow(label string) bool { return label == "pre-copy" || label == "switchover" || label == "disk" }

// The faults' tools.

func (x *run) killLibvirtd(host int, back time.Duration) {
	h := x.Lab.Hosts[host]
	x.fault(h.KillLibvirtd(x.ctx))
	x.later(back, func() error { return h.StartLibvirtd(x.ctx) })
}

func (x *run) killPart(p *process, back time.Duration) {
	x.fault(p.kill())
	x.later(back, func() error { return errors.Join(p.wait(), p.start()) })
}

func (x *run) stopPart(p *process, asleep time.Duration) {
	x.fault(p.signal(syscall.SIGSTOP))
	x.later(asleep, func() error { return p.signal(syscall.SIGCONT) })
}

func (x *run) cutLink(host int, back time.Duration) {
	h := x.Lab.Hosts[host]
	x.fault(h.CutLink())
	x.later(back, h.HealLink)
}

// heal makes all whole again after a round that broke off, with a new guest.
func (f *Fleet) heal(ctx context.Context) error {
	f.arm(nil)
	var errs []error
	for _, p := range append(f.actuators[:], f.bus) {
		if p.running() {
			errs = append(errs, p.signal(syscall.SIGCONT))
		} else {
			errs = append(errs, p.start())
		}
	}
	for _, g := range append(f.gates[:], f.peers[:]...) {
		g.Heal()
	}
	for _, h := range f.Lab.Hosts {
		errs = append(errs, h.HealLink(), h.Throttle(0))
		if _, err := h.Domains(ctx); err != nil {
			errs = append(errs, h.StartLibvirtd(ctx))
		}
		_, _ = h.Virsh(ctx, "destroy", "double") // there is rarely one
	}
	errs = append(errs, f.Lab.RemoveGuest(ctx, f.guest))
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("heal: %w", err)
	}
	return f.boot(ctx)
}

package matrix

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/foreshift/foreshift/internal/lab"
)

// SplitCells are the four faults that left two running copies, or were on the way to
// it, when libvirt led the migration by itself.
func SplitCells() []Cell {
	cells := []Cell{
		{Name: "split: Finish's reply lost", before: func(x *run) { x.gates[x.dst].LoseReplies(lab.CallFinish3, x.strike) },
			after: func(x *run) { x.gates[x.dst].Heal() }, Quick: true},
		{Name: "split: destination libvirtd killed at Finish", before: func(x *run) {
			x.gates[x.dst].LoseReplies(lab.CallFinish3, func() {
				x.strike()
				x.killLibvirtd(x.dst, mended)
			})
		}, after: func(x *run) { x.gates[x.dst].Heal() }, Quick: true},
		{Name: "split: source libvirtd killed before Confirm", Steps: []string{"confirm"}, fault: func(x *run) { x.killLibvirtd(x.src, mended) }, Quick: true},
	}
	for _, step := range []string{"begin done", "prepare done", "perform", "perform done", "hand-over done", "finish done", "resume done", "confirm done"} {
		cells = append(cells, Cell{Name: "split: orchestrator dead at " + step, Steps: []string{step}, Quick: step == "finish done",
			fault: func(x *run) { x.killPart(x.actuators[x.src], mended) }})
	}
	return cells
}

// strike notes that a fault without a step has struck.
func (x *run) strike() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.struck = true
}

// ControlResult is what plain peer-to-peer migration made of one of the faults.
type ControlResult struct {
	Fault   string `json:"fault"`
	Round   int    `json:"round"`
	Struck  bool   `json:"struck"`
	Running int    `json:"most_running_copies"`
	Alien   int64  `json:"foreign_records"`
	Looks   int    `json:"looks"`
}

// Two reports whether two copies ran, by virsh and by the guest's own disk.
func (r ControlResult) Two() bool { return r.Running > 1 && r.Alien > 0 }

// Control plays the faults at Finish on plain peer-to-peer migration, in which two
// copies are expected to run: the instruments that see none in the matrix see them
// here. Each round ends with a new guest.
func (f *Fleet) Control(ctx context.Context, kill bool, round int) (_ ControlResult, err error) {
	res := ControlResult{Fault: "Finish's reply lost", Round: round}
	if kill {
		res.Fault = "destination libvirtd killed at Finish"
	}
	src, err := f.where(ctx)
	if err != nil {
		return res, fmt.Errorf("control: %w", err)
	}
	from, to := f.Lab.Hosts[src], f.Lab.Hosts[1-src]
	gate, err := to.NewGate("peer")
	if err != nil {
		return res, err
	}
	defer func() { err = errors.Join(err, gate.Close()) }()
	struck := make(chan error, 1)
	gate.LoseReplies(lab.CallFinish3, func() {
		if kill {
			// Finish starts the guest at once; killed a moment later, the daemon has done it
			// and cannot say so.
			pause(ctx, 300*time.Millisecond)
			struck <- to.KillLibvirtd(ctx)
			gate.Cut()
			return
		}
		struck <- nil
	})
	before := f.Lab.Beats.Report(f.guest.Name)
	w := f.Lab.Watch(ctx, f.guest.ID, 200*time.Millisecond)
	_, _ = from.Migrate(ctx, f.guest, to, gate.URI()) // it says that it failed
	select {
	case err := <-struck:
		if err != nil {
			return res, err
		}
		res.Struck = true
	case <-time.After(5 * time.Second):
	}
	if kill {
		if err := to.StartLibvirtd(ctx); err != nil {
			return res, err
		}
	}
	for end := time.Now().Add(25 * time.Second); time.Now().Before(end); {
		res.Running, res.Alien = w.Report().MaxRunning, f.Lab.Beats.Report(f.guest.Name).Alien-before.Alien
		if res.Two() || !pause(ctx, 200*time.Millisecond) {
			break
		}
	}
	res.Looks = w.Stop().Looks
	if err := f.Lab.RemoveGuest(ctx, f.guest); err != nil {
		return res, err
	}
	return res, f.boot(ctx)
}

package actuator

import (
	"testing"
	"time"

	"github.com/foreshift/foreshift/internal/sim"
	"github.com/foreshift/foreshift/schemas"
	"github.com/foreshift/foreshift/streams"
	"github.com/foreshift/foreshift/streams/streamstest"
)

// shareOut says what the commands may use, as a tunnel role does; negative: it waits.
func (r *rig) shareOut(b *streams.Bus, rates map[schemas.CommandID]schemas.BytesPerSecond) {
	r.t.Helper()
	m := &schemas.Tunnel{A: "private", B: "public", Time: schemas.At(time.Now()), Rate: 60e6}
	for id, rate := range rates {
		s := schemas.Share{Command: id, VM: schemas.VMID{1}, Rate: rate, Reason: schemas.Reason{Code: schemas.ReasonOK}}
		if rate < 0 {
			s.Rate, s.Waits, s.Reason.Code = 0, true, schemas.ReasonTurn
		}
		m.Shares = append(m.Shares, s)
	}
	if _, err := b.Publish(r.ctx(), streams.Out{Subject: streams.SubjectTunnel("private", "public"), Msg: m}); err != nil {
		r.t.Fatal(err)
	}
}

// others gives n VMs of host i.
func (r *rig) others(i, n int) (out []sim.VM) {
	r.t.Helper()
	h := r.fleet.Hosts()[i].ID
	for _, v := range r.fleet.VMs() {
		if at := r.fleet.Running(v.ID); len(at) == 1 && at[0] == h && len(out) < n {
			out = append(out, v)
		}
	}
	if len(out) < n {
		r.t.Fatalf("host %s has %d VMs, want %d", h, len(out), n)
	}
	return out
}

// outcome is what the record says of a command so far.
func (r *rig) outcome(id schemas.CommandID) (schemas.Outcome, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, o := range r.outcomes {
		if o.Command == id {
			return o, true
		}
	}
	return schemas.Outcome{}, false
}

// TestParkedHoldsUpNobody: a command that waits for its share is parked. Another VM's
// command goes on beside it; a later one of the same VM does not overtake it; the actuator
// may be started anew meanwhile; and it starts when it may.
func TestParkedHoldsUpNobody(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	stop := r.host(0)
	r.host(1)
	tunnel := streamstest.Connect(t, r.srv, streams.RoleTunnel)
	r.beat()
	vms := r.others(0, 2)
	waits := r.command(vms[0], 0, 1)
	waits.Bandwidth = 500e6
	held := map[schemas.CommandID]schemas.BytesPerSecond{waits.ID: -1}
	r.shareOut(tunnel, held)
	r.send(waits)
	behind := r.command(vms[0], 0, 1) // it knows of the first, and would be accepted alone
	r.send(behind)
	free := r.command(vms[1], 0, 1)
	r.send(free)
	r.want(free.ID, schemas.ResultSucceeded, 20*time.Second)
	r.at(vms[1], 1)

	stop()
	r.host(0)
	r.beat()
	r.shareOut(tunnel, held)
	free = r.command(vms[1], 1, 0)
	r.send(free)
	r.want(free.ID, schemas.ResultSucceeded, 20*time.Second)
	for _, c := range []*schemas.Command{waits, behind} {
		if o, ended := r.outcome(c.ID); ended {
			t.Fatalf("%s did not wait: %s %s", c.ID, o.Result, o.Reason)
		}
	}
	r.at(vms[0], 0)

	r.shareOut(tunnel, map[schemas.CommandID]schemas.BytesPerSecond{waits.ID: 500e6})
	first := r.want(waits.ID, schemas.ResultSucceeded, 20*time.Second)
	last := r.end(behind.ID, 20*time.Second)
	if last.Result != schemas.ResultRefused {
		t.Errorf("the later command of the VM ended %s %s, after %s %s", last.Result, last.Reason, first.Result, first.Reason)
	}
	r.at(vms[0], 1)
}

// TestParkedIsJudgedAnew: who waits is refused when moves are paused, and when the command
// expires; then the record says what it waited for.
func TestParkedIsJudgedAnew(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.host(0)
	r.host(1)
	tunnel := streamstest.Connect(t, r.srv, streams.RoleTunnel)
	r.beat()
	vms := r.others(0, 2)
	late := r.command(vms[0], 0, 1)
	late.Bandwidth, late.Expires = 500e6, late.Issued.Add(3*time.Second)
	r.shareOut(tunnel, map[schemas.CommandID]schemas.BytesPerSecond{late.ID: -1})
	r.send(late)
	if o := r.want(late.ID, schemas.ResultRefused, 20*time.Second); o.Reason.Code != schemas.ReasonTurn {
		t.Errorf("it expired while it waited its turn, and is told as %s", o.Reason)
	}
	c := r.command(vms[1], 0, 1)
	c.Bandwidth = 500e6
	r.shareOut(tunnel, map[schemas.CommandID]schemas.BytesPerSecond{c.ID: -1})
	r.send(c)
	time.Sleep(time.Second)
	r.act(r.operator, &schemas.Act{Act: schemas.ActPause, By: "op"})
	if o := r.want(c.ID, schemas.ResultRefused, 20*time.Second); o.Reason.Code != schemas.ReasonPaused {
		t.Errorf("moves were paused, and it is refused for %s", o.Reason)
	}
	for _, vm := range vms {
		r.at(vm, 0)
	}
}

func TestLot(t *testing.T) {
	var l lot
	vm := schemas.VMID{1}
	five, seven := l.enter(vm, 5), l.enter(vm, 7)
	again := l.enter(vm, 5) // delivered twice
	if a, b, c := l.ahead(vm, 5), l.ahead(vm, 7), l.ahead(vm, 9); a != 0 || b != 5 || c != 5 {
		t.Errorf("ahead: %d %d %d", a, b, c)
	}
	if l.ahead(schemas.VMID{2}, 9) != 0 {
		t.Error("another VM's are in the way")
	}
	five()
	if l.ahead(vm, 7) != 5 {
		t.Error("the second delivery has gone with the first")
	}
	again()
	seven()
	if l.ahead(vm, 9) != 0 || len(l.parked) != 0 {
		t.Errorf("left: %v", l.parked)
	}
}

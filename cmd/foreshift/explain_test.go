package main

import (
	"encoding/binary"
	"fmt"
	"os"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/foreshift/foreshift/console"
	"github.com/foreshift/foreshift/schemas"
	"github.com/foreshift/foreshift/streams"
	"github.com/foreshift/foreshift/streams/embedded"
)

// Size of a large fleet, and how long an answer may take on it.
const (
	manyHosts = 1000
	vmsOfHost = 20
	answered  = time.Second
)

// bigFleet says on the bus what agents, forecaster and placer say of 1,000 hosts and
// 20,000 VMs, every twentieth host of which is pressed.
func bigFleet(t *testing.T, srv *embedded.Server, now schemas.Time) (events []streams.Event) {
	t.Helper()
	ctx := t.Context()
	say := func(role string, outs []streams.Out) {
		t.Helper()
		b, err := streams.Connect(ctx, srv.Credentials(role))
		if err != nil {
			t.Fatal(err)
		}
		defer b.Close()
		if err := b.PublishAsync(ctx, outs); err != nil {
			t.Fatal(err)
		}
	}
	id := func(h, v int) (out schemas.VMID) {
		binary.BigEndian.PutUint64(out[8:], uint64(h*vmsOfHost+v+1))
		return out
	}
	var capacity, own, host []streams.Out
	for h := range manyHosts {
		name := schemas.HostID(fmt.Sprintf("host-%04d", h))
		c := &schemas.CapacityHost{Host: name, Site: schemas.SiteID([]string{"north", "south"}[h%2]), Time: now, Speed: 1, Overcommit: schemas.Overcommit{CPU: 1, Mem: 1}, Capacity: schemas.Amounts{CPU: 64000, Mem: 512 << 30}, Used: schemas.Amounts{CPU: 20000, Mem: 200 << 30}, URI: "qemu:///system"}
		pressed := h%20 == 0
		for v := range vmsOfHost {
			vm := id(h, v)
			c.VMs = append(c.VMs, schemas.InventoryVM{VM: vm, Name: fmt.Sprintf("vm-%05d", h*vmsOfHost+v), State: schemas.VMRunning, VCPUs: 4, AllocCPU: 4000, AllocMem: 8 << 30, Resident: 4 << 30, Movable: true})
			p := schemas.PressureVM{VM: vm, Host: name, Cause: schemas.CauseOwnLimit, Time: now, Resource: "cpu", Score: .02, Chances: map[string]schemas.Chance{"cpu": {H24: .02}}}
			own = append(own, streams.Out{Subject: streams.SubjectPressureVM(vm, p.Cause), ID: fmt.Sprint("o", h, ".", v), Msg: &p})
			if !pressed {
				continue
			}
			q := p
			q.Cause, q.Score, q.Onset, q.Chances = schemas.CauseHostContention, .8, now.Add(time.Hour), map[string]schemas.Chance{"cpu": {H1: .1, H6: .5, H24: .8}}
			host = append(host, streams.Out{Subject: streams.SubjectPressureVM(vm, q.Cause), ID: fmt.Sprint("c", h, ".", v), Msg: &q})
			host = append(host, streams.Out{Subject: streams.SubjectBenefit(vm), ID: fmt.Sprint("b", h, ".", v), Msg: &schemas.Benefit{VM: vm, Host: name, Time: now, Reason: schemas.Reason{Code: schemas.ReasonNoBenefit, Detail: "every move costs more than it brings"},
				WhyNot: []schemas.Decline{{VM: vm, Host: "host-0001", Reason: schemas.Reason{Code: schemas.ReasonNoRoom, Detail: "host-0001 has not the memory"}}}}})
		}
		capacity = append(capacity, streams.Out{Subject: streams.SubjectCapacityHost(name), ID: string(name), Msg: c})
		score := schemas.Ratio(.01)
		if pressed {
			score = .8
		}
		host = append(host, streams.Out{Subject: streams.SubjectPressureHost(name), ID: fmt.Sprint("h", h), Msg: &schemas.PressureHost{Host: name, Site: c.Site, Time: now, Resource: "cpu", Score: score, Onset: now.Add(time.Hour), Peak: 66000, Limit: 64000, Chances: map[string]schemas.Chance{"cpu": {H24: score}}}})
	}
	say(streams.RoleAgent, capacity)
	say(streams.RoleForecaster, own)
	say(streams.RolePlacer, host)
	for _, outs := range [][]streams.Out{capacity, own, host} {
		for i := range outs {
			events = append(events, streams.Event{Seq: uint64(len(events) + 1), Msg: outs[i].Msg})
		}
	}
	return events
}

// On a fleet of 20,000 VMs, explain answers for any of them within a second, from the
// bus to the words, though it reads of the others only where they are. (That the
// console says it in the same words is tested beside its model.)
func TestExplainOnALargeFleet(t *testing.T) {
	if testing.Short() {
		t.Skip("a fleet of 20,000 VMs")
	}
	dir := t.TempDir()
	srv, err := embedded.Start(embedded.Options{StateDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer srv.Shutdown()
	admin, err := streams.Connect(t.Context(), srv.Credentials(streams.RoleAdmin))
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	if _, err := streams.Apply(t.Context(), admin, srv.ApplyOptions()); err != nil {
		t.Fatal(err)
	}
	now := schemas.At(time.Now())
	events := bigFleet(t, srv, now)
	if err := (streams.State{URL: srv.URL(), PID: os.Getpid(), Started: now, Base: "5m"}).Save(dir); err != nil {
		t.Fatal(err)
	}

	var took []time.Duration
	for _, name := range []string{"vm-00000", "vm-00021", "vm-19999", "vm-10013", "vm-07777"} {
		begin, work := time.Now(), cpuTime(t)
		out, err := foreshiftIn(t, dir, "explain", name)
		if err != nil {
			t.Fatal(out, err)
		}
		// On a machine that is busy with else, the work that it takes: of the server and
		// of the command together.
		took = append(took, min(time.Since(begin), cpuTime(t)-work))
	}
	slices.Sort(took)
	t.Logf("explain of %d VMs took %v", manyHosts*vmsOfHost, took)
	if best := took[0]; best > answered {
		t.Errorf("the quickest answer took %s, want at most %s", best, answered)
	}

	// What explain reads is a part; it says what the whole says.
	bus, err := streams.Connect(t.Context(), srv.Credentials(streams.RoleOperator))
	if err != nil {
		t.Fatal(err)
	}
	defer bus.Close()
	whole := console.Build(events, now)
	if len(whole.VMs) != manyHosts*vmsOfHost {
		t.Fatalf("%d VMs are seen", len(whole.VMs))
	}
	for i := 0; i < len(whole.VMs); i += 3997 {
		m := &whole.VMs[i]
		part, err := console.LoadVM(t.Context(), bus, now.Std(), m.ID.String())
		if err != nil {
			t.Fatal(err)
		}
		got, err := part.FindVM(m.ID.String())
		if err != nil {
			t.Fatal(err)
		}
		if got, want := part.Explain(got).String(), whole.Explain(m).String(); got != want {
			t.Errorf("of %s the part says\n%s\nand the whole\n%s", m.Name, got, want)
		}
	}
}

// cpuTime is what this process has used of the processors.
func cpuTime(t *testing.T) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// foreshiftIn runs a command against a state directory.
func foreshiftIn(t *testing.T, dir string, args ...string) (string, error) {
	t.Helper()
	return foreshift(t, append(args, "--state", dir)...)
}

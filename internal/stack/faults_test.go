package stack_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/foreshift/foreshift/schemas"
	"github.com/foreshift/foreshift/streams"
	"github.com/foreshift/foreshift/streams/streamstest"
	"github.com/nats-io/nats.go"
)

// TestStackUnderFaults runs three nats-servers, three forecasters, two placers, a
// recorder, the agent and an actuator for each simulated host, keeps VMs moving, and
// breaks one part after the other. When all is whole again, every command has an end that
// is known, no VM ever ran twice or was lost, VMs move and are forecast, and the way back
// from a move to its samples can be followed.
func TestStackUnderFaults(t *testing.T) {
	bin := programs(t)
	ctx, cancel := context.WithTimeout(context.Background(), 4*time.Minute)
	defer cancel()
	begun := time.Now()
	r := start(ctx, t, bin, bin)
	t.Logf("all is up after %v", time.Since(begun).Round(time.Second))
	moving, rest := context.WithCancel(ctx)
	r.restless(moving)
	r.until("a first move", 45*time.Second, func() bool { return r.ends()[schemas.ResultSucceeded] > 0 })
	const hurt = 3 * time.Second
	pause := func(c *child, d time.Duration) {
		c.signal(syscall.SIGSTOP)
		time.Sleep(d)
		c.signal(syscall.SIGCONT)
	}
	again := func(c *child) { c.kill(); time.Sleep(hurt / 3); c.start() }
	for _, f := range []struct {
		name string
		do   func()
	}{
		{"kill -9 of the server that leads MIGRATIONS", func() { again(r.servers[r.leader(streams.Migrations)]) }},
		{"a forecaster is killed", func() { again(r.forecasters[0]) }},
		{"the active placer is killed", func() { again(r.activePlacer()) }},
		{"an actuator is killed", func() { again(r.actuators[1]) }},
		{"the server that leads ACTS is stopped", func() { pause(r.servers[r.leader(streams.Acts)], hurt) }},
		{"a server is cut off from the others", func() {
			i := r.leader(streams.Migrations)
			r.isolate(i, true)
			time.Sleep(hurt)
			r.isolate(i, false)
		}},
		{"the active placer is stopped for longer than its lease", func() { pause(r.activePlacer(), 5*time.Second) }},
		{"an actuator is stopped", func() { pause(r.actuators[2], hurt) }},
		{"a server's disk is full", r.fillDisk},
	} {
		before := r.ends()[schemas.ResultSucceeded]
		f.do()
		t.Logf("%5.1f s: %s; %d moves had ended before", time.Since(begun).Seconds(), f.name, before)
		time.Sleep(time.Second)
	}
	r.t.Cleanup(r.explain)
	before := r.ends()[schemas.ResultSucceeded]
	r.until("VMs move again", 45*time.Second, func() bool { return r.ends()[schemas.ResultSucceeded] > before })
	rest()
	r.moving.Wait()
	r.judge()
	r.follow()
}

// TestStackUpgrade replaces services of one build by those of another while VMs move,
// and back again. FORESHIFT_PREVIOUS is where the other build is.
func TestStackUpgrade(t *testing.T) {
	bin, old := programs(t), os.Getenv("FORESHIFT_PREVIOUS")
	if old == "" {
		t.Skip("upgrade skipped: FORESHIFT_PREVIOUS does not name another build; run ./task stack:upgrade")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 6*time.Minute)
	defer cancel()
	r := start(ctx, t, bin, old)
	moving, rest := context.WithCancel(ctx)
	r.restless(moving)
	r.until("a first move", 45*time.Second, func() bool { return r.ends()[schemas.ResultSucceeded] > 0 })
	var all []*child
	for i := range 4 { // mixed: one of each in turn
		for _, list := range [][]*child{r.actuators, r.forecasters, r.placers, {r.recorder}} {
			if i < len(list) {
				all = append(all, list[i])
			}
		}
	}
	for _, dir := range []string{bin, old, bin} {
		for _, c := range all {
			c.replace(filepath.Join(dir, "foreshift"))
			time.Sleep(700 * time.Millisecond)
		}
		before := r.ends()[schemas.ResultSucceeded]
		r.until("VMs move", 45*time.Second, func() bool { return r.ends()[schemas.ResultSucceeded] > before })
		t.Logf("all of %s: VMs move", dir)
	}
	rest()
	r.moving.Wait()
	r.judge()
}

// explain says of a run that failed how moves ended, and why nothing more moves.
func (r *rig) explain() {
	if !r.t.Failed() {
		return
	}
	for _, e := range r.record() {
		switch m := e.Msg.(type) {
		case *schemas.Command:
			r.t.Logf("command %s %s -> %s at %d", m.Name, m.Source, m.Destination, e.Seq)
		case *schemas.Outcome:
			r.t.Logf("%s of %s by %s: %s", m.Result, m.Command, m.Host, m.Reason)
		}
	}
	events, err := r.operator.History(context.Background(), streams.Input{Stream: streams.Plans, From: streams.FromAll})
	r.t.Logf("%d plans, %v", len(events), err)
	for _, e := range events[max(0, len(events)-2):] {
		if m, ok := e.Msg.(*schemas.Plan); ok {
			for _, d := range m.Declined {
				r.t.Logf("plan %s: %s", m.ID, d.Reason)
			}
			for _, a := range m.Actions {
				r.t.Logf("plan %s: %s -> %s %s %s", m.ID, a.Name, a.Destination, a.State, a.Hold)
			}
		}
	}
}

func (r *rig) activePlacer() *child {
	for r.ctx.Err() == nil {
		for _, p := range r.placers {
			if p.active() {
				return p
			}
		}
		time.Sleep(100 * time.Millisecond)
	}
	r.t.Fatal("no placer is active")
	return nil
}

// fillDisk fills the disk of the last server, and starts it again when there is room.
func (r *rig) fillDisk() {
	if r.small == "" {
		r.t.Log("a full disk was not tried: only root can mount one that is small")
		return
	}
	path := filepath.Join(r.small, "ballast")
	f, err := os.Create(path)
	if err != nil {
		r.t.Fatal(err)
	}
	for _, n := range []int{1 << 20, 4 << 10} {
		for err = nil; err == nil; {
			_, err = f.Write(make([]byte, n))
		}
		if !errors.Is(err, syscall.ENOSPC) {
			r.t.Fatal(err)
		}
	}
	f.Close()
	time.Sleep(4 * time.Second)
	if err := os.Remove(path); err != nil {
		r.t.Fatal(err)
	}
	r.servers[2].quit(5 * time.Second)
	r.servers[2].start()
}

// record is the whole of MIGRATIONS.
func (r *rig) record() []streams.Event {
	ctx, cancel := context.WithTimeout(r.ctx, 5*time.Second)
	defer cancel()
	events, err := r.operator.History(ctx, streams.Input{Stream: streams.Migrations, From: streams.FromAll})
	if err != nil {
		return nil // no leader just now
	}
	return events
}

func (r *rig) ends() map[schemas.Result]int { return endsOf(r.record()) }

// endsOf counts moves by how they ended; under "" are those of which no end is known.
func endsOf(record []streams.Event) map[schemas.Result]int {
	last := map[schemas.CommandID]schemas.Result{}
	for _, e := range record {
		switch m := e.Msg.(type) {
		case *schemas.Command:
			last[m.ID] = ""
		case *schemas.Outcome:
			last[m.Command] = m.Result
		}
	}
	out := map[schemas.Result]int{}
	for _, res := range last {
		out[res]++
	}
	return out
}

// judge waits until all moves have ended and looks at what became of the VMs.
func (r *rig) judge() {
	r.t.Helper()
	var record []streams.Event
	var ends map[schemas.Result]int
	r.until("every move has an end that is known", 60*time.Second, func() bool {
		record = r.record()
		ends = endsOf(record)
		return len(ends) > 0 && ends[""] == 0 && ends[schemas.ResultUnknown] == 0
	})
	if bad := r.fleet.Violations(); len(bad) > 0 {
		for _, v := range bad {
			r.t.Errorf("vm %s: %+v", v, r.fleet.Truth(v))
		}
	}
	for _, v := range r.fleet.VMs() {
		if n := len(r.fleet.Running(v.ID)); n != 1 {
			r.t.Errorf("%s runs on %d hosts", v.Name, n)
		}
	}
	r.until("all VMs are forecast", 30*time.Second, r.forecast)
	if ends[schemas.ResultSucceeded] < 5 {
		r.t.Errorf("only %v moves: too little to tell", ends)
	}
	why := map[string]int{}
	for _, e := range record {
		if m, ok := e.Msg.(*schemas.Outcome); ok && m.Result == schemas.ResultFailed {
			why[m.Reason.String()]++
		}
	}
	r.t.Logf("moves by their end: %v; those that failed: %v", ends, why)
}

// follow goes back from a move that succeeded to the samples it came of, by what stands
// in headers: the trace, and what each decision had seen.
func (r *rig) follow() {
	var outcome *schemas.Outcome
	var command *schemas.Command
	var ended, began uint64
	r.until("the record is read", 30*time.Second, func() bool {
		commands, at := map[schemas.CommandID]*schemas.Command{}, map[schemas.CommandID]uint64{}
		for _, e := range r.record() {
			switch m := e.Msg.(type) {
			case *schemas.Command:
				commands[m.ID], at[m.ID] = m, e.Seq
			case *schemas.Outcome:
				if c := commands[m.Command]; c != nil && m.Result == schemas.ResultSucceeded {
					outcome, ended, command, began = m, e.Seq, c, at[m.Command]
				}
			}
		}
		return outcome != nil
	})
	inspector := streamstest.ConnectTo(r.t, r.o, streams.RoleInspector)
	header := func(c *streams.Conn, stream string, seq uint64) nats.Header {
		s, err := c.JS.Stream(r.ctx, stream)
		if err != nil {
			r.t.Fatalf("%s: %v", stream, err)
		}
		m, err := s.GetMsg(r.ctx, seq)
		if err != nil {
			r.t.Fatalf("%s %d: %v", stream, seq, err)
		}
		return m.Header
	}
	trace := func(h nats.Header) string { return strings.Split(h.Get(schemas.HeaderTrace)+"---", "-")[1] }
	seen := func(h nats.Header, stream string) uint64 {
		for part := range strings.SplitSeq(h.Get(schemas.HeaderSeen), ",") {
			if name, n, _ := strings.Cut(part, "="); name == stream {
				seq, err := strconv.ParseUint(n, 10, 64)
				if err != nil {
					r.t.Fatal(err)
				}
				return seq
			}
		}
		r.t.Fatalf("%q does not tell of %s", h.Get(schemas.HeaderSeen), stream)
		return 0
	}
	end, order := header(r.admin.Ctrl, streams.Migrations, ended), header(r.admin.Ctrl, streams.Migrations, began)
	if trace(end) == "" || trace(end) != trace(order) || trace(order) != streams.TraceID(string(command.ID)) {
		r.t.Fatalf("outcome %s, command %s: not one trace", end.Get(schemas.HeaderTrace), order.Get(schemas.HeaderTrace))
	}
	// The forecasts that the command's decision had seen, back to the VM's own.
	at := seen(order, streams.Forecasts)
	read := func(stream string, upTo uint64, filter string, has func(any) bool) uint64 {
		found := uint64(0)
		if _, err := inspector.Scan(r.ctx, streams.Input{Stream: stream, From: streams.FromAll, Filters: []string{filter}}, func(e streams.Event) {
			if e.Seq <= upTo && has(e.Msg) {
				found = e.Seq
			}
		}); err != nil {
			r.t.Fatal(err)
		}
		if found == 0 {
			r.t.Fatalf("nothing of %s up to %d of %s under %s", command.Name, upTo, stream, filter)
		}
		return found
	}
	var issued schemas.Step
	forecast := read(streams.Forecasts, at, streams.SubjectForecasts(command.VM.Partition()), func(m any) bool {
		f, ok := m.(*schemas.Forecasts)
		for i := 0; ok && i < len(f.VM); i++ {
			if f.VM[i] == command.VM {
				issued = f.Issued
				return true
			}
		}
		return false
	})
	h := header(inspector.Tel, streams.Forecasts, forecast)
	if trace(h) != streams.TraceID(fmt.Sprintf("step.%d", issued)) {
		r.t.Errorf("forecasts of step %d: %s", issued, h.Get(schemas.HeaderTrace))
	}
	sample := read(streams.Metrics, seen(h, streams.Metrics), streams.SubjectMetrics(command.Source), func(m any) bool {
		s, ok := m.(*schemas.Metrics)
		for i := 0; ok && i < len(s.VM); i++ {
			if s.VM[i] == command.VM {
				return true
			}
		}
		return false
	})
	r.t.Logf("%s: outcome %d, command %d, trace %s; forecast %d of step %d; sample %d of METRICS", command.Name, ended, began, trace(end), forecast, issued, sample)
}

package actuator

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/foreshift/foreshift/internal/sim"
	"github.com/foreshift/foreshift/schemas"
	"github.com/foreshift/foreshift/streams"
	"github.com/foreshift/foreshift/streams/embedded"
	"github.com/foreshift/foreshift/streams/streamstest"
)

// rig is a simulated fleet, a real bus, and an actuator for each host that a test
// starts.
type rig struct {
	t        *testing.T
	fleet    *sim.Fleet
	srv      *embedded.Server
	placer   *streams.Bus
	operator *streams.Bus
	auth     *streams.Authorities
	state    string
	dead     schemas.VMID // its guest was killed: the simulator counts it as lost

	mu       sync.Mutex
	outcomes []schemas.Outcome
	progress []schemas.Progress
	arrived  chan struct{}
	n        int
	stops    map[schemas.HostID]func()
	silence  func() // ends the placer's heartbeats; nil before the first
}

func newRig(t *testing.T) *rig { t.Helper(); return newRigAt(t, 40e9) }

// newRigAt has links of a given speed, bytes/s: VMs have about a gigabyte.
func newRigAt(t *testing.T, speed schemas.BytesPerSecond) *rig {
	t.Helper()
	return newRigOf(t, sim.Config{Seed: 3, Hosts: 4, VMs: 16, Base: time.Second, NICBandwidth: speed, LinkBandwidth: speed, PeerTimeout: 150 * time.Millisecond})
}

func newRigOf(t *testing.T, c sim.Config) *rig {
	t.Helper()
	f, err := sim.New(c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- f.Serve(ctx) }()
	hosts := make([]schemas.HostID, 0, 4)
	for _, h := range f.Hosts() {
		hosts = append(hosts, h.ID)
	}
	r := &rig{t: t, fleet: f, srv: streamstest.Start(t, hosts...), state: t.TempDir(), arrived: make(chan struct{}, 1), stops: map[schemas.HostID]func(){}}
	r.placer, r.operator = streamstest.Connect(t, r.srv, streams.RolePlacer), streamstest.Connect(t, r.srv, streams.RoleOperator)
	if r.auth, err = streams.LoadAuthorities(filepath.Join(r.srv.Dir(), streams.FileAuthorities)); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Add(2)
	go func() {
		defer wg.Done()
		err := r.placer.Consume(ctx, "test", streams.Input{Stream: streams.Migrations, Filters: []string{"migrations.*.outcome.*"}}, func(e streams.Event) {
			r.mu.Lock()
			r.outcomes = append(r.outcomes, *e.Msg.(*schemas.Outcome))
			r.mu.Unlock()
			select {
			case r.arrived <- struct{}{}:
			default:
			}
		})
		if err != nil {
			t.Error(err)
		}
	}()
	go func() {
		defer wg.Done()
		err := r.operator.Consume(ctx, "test", streams.Input{Stream: streams.Progress}, func(e streams.Event) {
			r.mu.Lock()
			r.progress = append(r.progress, *e.Msg.(*schemas.Progress))
			r.mu.Unlock()
		})
		if err != nil {
			t.Error(err)
		}
	}()
	t.Cleanup(func() {
		for _, stop := range r.stops {
			stop()
		}
		if r.silence != nil {
			r.silence()
		}
		for _, vm := range f.Violations() {
			if vm == r.dead {
				continue
			}
			t.Errorf("VM %s: %+v", vm, f.Truth(vm))
		}
		cancel()
		wg.Wait()
		f.Close()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return r
}

// host starts the actuator of a host; the function ends it.
func (r *rig) host(i int, change ...func(*Config)) (stop func()) {
	r.t.Helper()
	h := r.fleet.Hosts()[i]
	c := r.srv.Credentials(streams.RoleActuatorID + "-" + string(h.ID))
	c.Log = slog.New(slog.DiscardHandler)
	ctx, cancel := context.WithCancel(context.Background())
	b, err := streams.Connect(ctx, c)
	if err != nil {
		r.t.Fatal(err)
	}
	cfg := Config{Bus: b, Host: h.ID, URI: h.URI, StateDir: r.state, Authorities: r.auth, Log: slog.New(slog.DiscardHandler)}
	for _, f := range change {
		f(&cfg)
	}
	a, err := New(cfg)
	if err != nil {
		r.t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			if err := <-done; err != nil {
				r.t.Errorf("actuator %s: %v", h.ID, err)
			}
			b.Close()
		})
	}
	r.stops[h.ID] = stop
	return stop
}

// beat has the placer give signs of life from now on, often: those of before an actuator
// listens do not count.
func (r *rig) beat() {
	if r.silence != nil {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	r.silence = func() {
		cancel()
		if err := <-done; err != nil {
			r.t.Errorf("the placer's heartbeats ended: %v", err)
		}
		r.silence = nil
	}
	go func() {
		for n := 0; ; n++ {
			id := fmt.Sprintf("beat-%d", n)
			_, err := r.placer.Publish(ctx, streams.Out{Subject: streams.SubjectAct(schemas.ActHeartbeat), ID: id,
				Msg: &schemas.Act{ID: id, Act: schemas.ActHeartbeat, By: "placer", Time: schemas.At(time.Now())}})
			if ctx.Err() != nil {
				err = nil
			}
			if ctx.Err() != nil || err != nil {
				done <- err
				return
			}
			select {
			case <-ctx.Done():
			case <-time.After(100 * time.Millisecond):
			}
		}
	}()
}

func (r *rig) act(b *streams.Bus, a *schemas.Act) {
	r.t.Helper()
	r.n++
	a.ID, a.Time = fmt.Sprintf("act-%d", r.n), schemas.At(time.Now())
	if _, err := b.Publish(r.ctx(), streams.Out{Subject: streams.SubjectAct(a.Act), ID: a.ID, Msg: a}); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) ctx() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	r.t.Cleanup(cancel)
	return ctx
}

// on gives a VM of host i.
func (r *rig) on(i int) sim.VM {
	r.t.Helper()
	h := r.fleet.Hosts()[i].ID
	for _, v := range r.fleet.VMs() {
		if at := r.fleet.Running(v.ID); len(at) == 1 && at[0] == h {
			return v
		}
	}
	r.t.Fatalf("no VM on host %s", h)
	return sim.VM{}
}

// command makes a command of a move that may start now.
func (r *rig) command(vm sim.VM, from, to int) *schemas.Command {
	r.t.Helper()
	r.n++
	now := schemas.At(time.Now())
	after := uint64(0)
	if last, err := r.placer.LastUnder(r.ctx(), streams.Migrations, "migrations.>"); err == nil {
		after = last.Seq
	}
	return &schemas.Command{ID: schemas.CommandID(fmt.Sprintf("c%d", r.n)), Plan: "p1", PlanHash: "00", VM: vm.ID, Name: vm.Name,
		Source: r.fleet.Hosts()[from].ID, Destination: r.fleet.Hosts()[to].ID, Issued: now, Expires: now.Add(50 * time.Second),
		Deadline: now.Add(2 * time.Minute), AfterSeq: after, Reason: schemas.Reason{Code: schemas.ReasonOK}}
}

// send publishes a command as the placer does; its sequence is the move's epoch.
func (r *rig) send(c *schemas.Command) uint64 {
	r.t.Helper()
	out := streams.Out{Subject: streams.SubjectCommand(c.VM, c.Source, c.Destination), ID: string(c.ID), Msg: c}
	seq, err := r.placer.Publish(r.ctx(), out)
	if err != nil {
		r.t.Fatal(err)
	}
	return seq
}

// raw publishes a command signed by any key, or by none.
func (r *rig) raw(c *schemas.Command, kp nkeys.KeyPair) {
	r.t.Helper()
	data, err := schemas.Encode(c)
	if err != nil {
		r.t.Fatal(err)
	}
	m := &nats.Msg{Subject: streams.SubjectCommand(c.VM, c.Source, c.Destination), Data: data, Header: nats.Header{}}
	m.Header.Set(schemas.HeaderSchema, schemas.SchemaHeader(schemas.KindCommand))
	if kp != nil {
		pub, err := kp.PublicKey()
		if err != nil {
			r.t.Fatal(err)
		}
		m.Header.Set(schemas.HeaderSigner, pub)
		m.Header.Set(schemas.HeaderSignature, streams.Sign(kp, m.Subject, data))
	}
	streamstest.Raw(r.t, r.srv, m)
}

// want waits for an outcome of the command.
func (r *rig) want(id schemas.CommandID, result schemas.Result, within time.Duration) schemas.Outcome {
	r.t.Helper()
	late := time.After(within)
	for {
		r.mu.Lock()
		var seen []string
		for _, o := range r.outcomes {
			if o.Command == id && o.Result == result {
				r.mu.Unlock()
				return o
			}
			seen = append(seen, fmt.Sprintf("%s %s %s", o.Command, o.Result, o.Reason))
		}
		r.mu.Unlock()
		select {
		case <-r.arrived:
		case <-time.After(50 * time.Millisecond):
		case <-late:
			r.t.Fatalf("no outcome %q of %s within %s; seen %q", result, id, within, seen)
		}
	}
}

// end waits for the outcome that ends the command; UNKNOWN does not.
func (r *rig) end(id schemas.CommandID, within time.Duration) schemas.Outcome {
	r.t.Helper()
	late := time.After(within)
	for {
		r.mu.Lock()
		for _, o := range r.outcomes {
			if o.Command == id && o.Result != schemas.ResultUnknown {
				r.mu.Unlock()
				return o
			}
		}
		r.mu.Unlock()
		select {
		case <-r.arrived:
		case <-time.After(50 * time.Millisecond):
		case <-late:
			r.t.Fatalf("no end of %s within %s", id, within)
		}
	}
}

// at checks where the VM runs, by the simulator's own knowledge.
func (r *rig) at(vm sim.VM, host int) {
	r.t.Helper()
	got, want := r.fleet.Running(vm.ID), r.fleet.Hosts()[host].ID
	if len(got) != 1 || got[0] != want {
		r.t.Fatalf("VM runs on %v, want %s", got, want)
	}
}

// phase waits for progress of the phase.
func (r *rig) phase(id schemas.CommandID, p schemas.Phase) {
	r.t.Helper()
	late := time.Now().Add(10 * time.Second)
	for time.Now().Before(late) {
		r.mu.Lock()
		for _, x := range r.progress {
			if x.Command == id && x.Phase == p {
				r.mu.Unlock()
				return
			}
		}
		r.mu.Unlock()
		time.Sleep(5 * time.Millisecond)
	}
	r.t.Fatalf("no progress %q of %s", p, id)
}

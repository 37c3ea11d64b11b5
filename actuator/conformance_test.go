package actuator

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/foreshift/foreshift/actuator/libvirt"
	"github.com/foreshift/foreshift/actuator/migration"
	"github.com/foreshift/foreshift/internal/sim"
	"github.com/foreshift/foreshift/schemas"
)

// pair is two hosts and a VM that runs on the first, as any implementation of
// [SourceHost] and [DestinationHost] gives them.
type pair struct {
	source SourceHost
	dest   DestinationHost
	vm     schemas.VMID
	name   string
}

func conform(t *testing.T, fresh func(t *testing.T) pair) {
	t.Helper()
	conformWithin(t, 30*time.Second, fresh)
}

// conformWithin is what the drive relies on, whatever the hosts are.
func conformWithin(t *testing.T, limit time.Duration, fresh func(t *testing.T) pair) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	now := schemas.At(time.Now())
	epoch := uint64(10)
	ticket := func(p pair) migration.Ticket {
		epoch++
		return migration.Ticket{Epoch: epoch, Command: &schemas.Command{ID: "c1", VM: p.vm, Name: p.name, Source: "h1", Destination: "h2", AfterSeq: epoch - 1,
			Expires: now.Add(time.Minute), Deadline: now.Add(time.Hour)}}
	}
	must := func(t *testing.T, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	see := func(t *testing.T, p pair, tk migration.Ticket, src, dst migration.Copy) {
		t.Helper()
		s, err := p.source.Observe(ctx, p.vm)
		must(t, err)
		d, err := p.dest.Observe(ctx, tk)
		must(t, err)
		if s.Copy != src || d.Copy != dst {
			t.Fatalf("source %s, destination %s; want %s, %s", s.Copy, d.Copy, src, dst)
		}
	}
	through := func(t *testing.T, p pair, tk migration.Ticket) (sent []byte) {
		t.Helper()
		offer, err := p.source.Begin(ctx, tk)
		must(t, err)
		prepared, err := p.dest.Prepare(ctx, tk, offer)
		must(t, err)
		see(t, p, tk, migration.Running, migration.Paused)
		sent, err = p.source.Perform(ctx, tk, prepared)
		must(t, err)
		see(t, p, tk, migration.Paused, migration.Paused)
		return sent
	}
	t.Run("move", func(t *testing.T) {
		p := fresh(t)
		tk := ticket(p)
		see(t, p, tk, migration.Running, migration.Absent)
		sent := through(t, p, tk)
		done, err := p.dest.Finish(ctx, tk, sent)
		must(t, err)
		see(t, p, tk, migration.Paused, migration.Paused)
		if done.Incoming {
			t.Fatal("finished, and still said to be incoming")
		}
		_, err = p.dest.Resume(ctx, tk)
		must(t, err)
		see(t, p, tk, migration.Paused, migration.Running)
		must(t, p.source.Confirm(ctx, p.vm, done.Cookie))
		see(t, p, tk, migration.Absent, migration.Running)
	})
	t.Run("destroyed by the journal", func(t *testing.T) {
		p := fresh(t)
		tk := ticket(p)
		sent := through(t, p, tk)
		_, err := p.dest.Finish(ctx, tk, sent)
		must(t, err)
		p.source.Drop(p.vm) // as after a restart
		_, err = p.dest.Resume(ctx, tk)
		must(t, err)
		if err := p.source.Confirm(ctx, p.vm, nil); err == nil {
			t.Fatal("Confirm3 without the connection of Begin3")
		}
		must(t, p.source.Destroy(ctx, p.vm))
		must(t, p.source.Destroy(ctx, p.vm)) // twice is once
		see(t, p, tk, migration.Absent, migration.Running)
	})
	t.Run("abort before the transfer", func(t *testing.T) {
		p := fresh(t)
		tk := ticket(p)
		_, err := p.source.Begin(ctx, tk)
		must(t, err)
		must(t, p.source.Abort(ctx, p.vm))
		see(t, p, tk, migration.Running, migration.Absent)
		if _, err := p.source.Begin(ctx, ticket(p)); err != nil {
			t.Fatalf("the VM is not free again: %v", err)
		}
		must(t, p.source.Abort(ctx, p.vm))
	})
	t.Run("roll back after the transfer", func(t *testing.T) {
		p := fresh(t)
		tk := ticket(p)
		through(t, p, tk)
		_, err := p.dest.Release(ctx, tk)
		must(t, err)
		_, err = p.dest.Release(ctx, tk) // twice is once
		must(t, err)
		see(t, p, tk, migration.Paused, migration.Absent)
		must(t, p.source.Resume(ctx, p.vm))
		see(t, p, tk, migration.Running, migration.Absent)
	})
	t.Run("no transfer without a guest to take it", func(t *testing.T) {
		p := fresh(t)
		tk := ticket(p)
		_, err := p.source.Begin(ctx, tk)
		must(t, err)
		_, err = p.source.Perform(ctx, tk, migration.Reply{URI: "tcp://127.0.0.1:1"})
		if migration.HowOf(err) != migration.Refused {
			t.Fatalf("Perform without Prepare: %v", err)
		}
		see(t, p, tk, migration.Running, migration.Absent)
	})
	t.Run("absent is no error", func(t *testing.T) {
		p := fresh(t)
		s, err := p.source.Observe(ctx, schemas.VMID{1, 2, 3})
		must(t, err)
		if s.Copy != migration.Absent {
			t.Fatalf("a VM that does not exist is %s", s.Copy)
		}
	})
}

func TestConformanceFakes(t *testing.T) {
	vm := schemas.VMID{7}
	conform(t, func(*testing.T) pair {
		f := newFakePair(vm)
		return pair{fakeSource{f}, fakeIncoming{f}, vm, "v"}
	})
}

// TestConformanceReceiver: the same with the destination's journal and rules before
// the host.
func TestConformanceReceiver(t *testing.T) {
	vm := schemas.VMID{7}
	conform(t, func(t *testing.T) pair {
		f := newFakePair(vm)
		return pair{fakeSource{f}, receiver(t, f), vm, "v"}
	})
}

func receiver(t testing.TB, f *fakePair) *Receiver {
	t.Helper()
	j, err := openJournal(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := j.close(); err != nil {
			t.Error(err)
		}
	})
	return newReceiver(fakeIncoming{f}, j, migration.DefaultRules(), migration.DefaultLimits(), func() int64 { return time.Now().UnixNano() })
}

func TestConformanceSim(t *testing.T) {
	t.Parallel()
	f, err := sim.New(sim.Config{Seed: 5, Hosts: 2, VMs: 12, Base: time.Second, NICBandwidth: 40e9, LinkBandwidth: 40e9})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- f.Serve(ctx) }()
	var hosts []*libvirt.Host
	for _, h := range f.Hosts() {
		x, err := libvirt.Open(ctx, h.URI)
		if err != nil {
			t.Fatal(err)
		}
		hosts = append(hosts, x)
	}
	var mine []sim.VM
	for _, v := range f.VMs() {
		if v.Host == f.Hosts()[0].ID {
			mine = append(mine, v)
		}
	}
	t.Cleanup(func() {
		for _, h := range hosts {
			h.Close()
		}
		cancel()
		f.Close()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	next := 0
	conform(t, func(t *testing.T) pair {
		if next == len(mine) {
			t.Fatal("the first host has too few VMs")
		}
		v := mine[next]
		next++
		return pair{hosts[0].Source(), hosts[1].Destination(""), v.ID, v.Name}
	})
}

// TestPrepareLooksAgain: a host that was stopped between its look and Prepare3 prepares
// nothing on top of a VM that somebody has made meanwhile, nor for a request that has
// expired.
func TestPrepareLooksAgain(t *testing.T) {
	for code, meanwhile := range map[schemas.ReasonCode]func(f *fakePair, now *time.Duration){
		schemas.ReasonAlreadyThere: func(f *fakePair, _ *time.Duration) { f.dst = migration.Seen{Copy: migration.Paused} },
		schemas.ReasonExpired:      func(_ *fakePair, now *time.Duration) { *now = time.Hour },
	} {
		vm := schemas.VMID{7}
		f := newFakePair(vm)
		r := receiver(t, f)
		var late time.Duration
		r.now = func() int64 { return time.Now().Add(late).UnixNano() }
		r.step = func(_ schemas.VMID, label string) {
			if label == "receive prepare" {
				f.mu.Lock()
				defer f.mu.Unlock()
				meanwhile(f, &late)
			}
		}
		now := schemas.At(time.Now())
		tk := migration.Ticket{Epoch: 10, Command: &schemas.Command{VM: vm, AfterSeq: 9, Expires: now.Add(time.Minute), Deadline: now.Add(time.Minute)}}
		offer, err := fakeSource{f}.Begin(context.Background(), tk)
		if err != nil {
			t.Fatal(err)
		}
		_, err = r.Prepare(context.Background(), tk, offer)
		var no *migration.Refusal
		if !errors.As(err, &no) || no.Why.Code != code {
			t.Errorf("%v, want a refusal for %s", err, code)
		}
		if f.session != 0 {
			t.Errorf("%s: prepared all the same", code)
		}
	}
}

// TestReceiverTwice: what is asked again is answered again and done once; what is
// out of order is refused with its reason.
func TestReceiverTwice(t *testing.T) {
	ctx := context.Background()
	vm := schemas.VMID{7}
	f := newFakePair(vm)
	r := receiver(t, f)
	now := schemas.At(time.Now())
	tk := migration.Ticket{Epoch: 10, Command: &schemas.Command{VM: vm, AfterSeq: 9, Expires: now.Add(time.Minute), Deadline: now.Add(time.Minute)}}
	refused := func(err error, code schemas.ReasonCode) {
		t.Helper()
		var no *migration.Refusal
		if !errors.As(err, &no) || no.Why.Code != code {
			t.Fatalf("%v, want a refusal for %s", err, code)
		}
	}
	offer, err := fakeSource{f}.Begin(ctx, tk)
	if err != nil {
		t.Fatal(err)
	}
	_, err = r.Resume(ctx, tk)
	refused(err, schemas.ReasonInvalid)
	for range 2 {
		p, err := r.Prepare(ctx, tk, offer)
		if err != nil || p.URI == "" || p.Peer.Fence != 10 {
			t.Fatalf("%+v %v", p, err)
		}
	}
	if _, err := (fakeSource{f}).Perform(ctx, tk, migration.Reply{URI: "x"}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		p, err := r.Finish(ctx, tk, []byte("perform"))
		if err != nil || string(p.Cookie) != "finish" {
			t.Fatalf("%+v %v", p, err)
		}
	}
	for range 2 {
		p, err := r.Resume(ctx, tk)
		if err != nil || p.Copy != migration.Running || p.Peer.Resumed != 10 {
			t.Fatalf("%+v %v", p, err)
		}
	}
	if f.resumes != 1 {
		t.Fatalf("resumed %d times", f.resumes)
	}
	if p, err := r.Observe(ctx, tk); err != nil || p.Life != migration.LifeCPU {
		t.Fatalf("%+v %v", p, err)
	}
	_, err = r.Release(ctx, tk)
	refused(err, schemas.ReasonHandedOver)
	old := tk
	old.Epoch = 9
	_, err = r.Prepare(ctx, old, offer)
	refused(err, schemas.ReasonEpoch)
}

// BenchmarkDrive is a whole move over fakes: our own time outside libvirt's calls,
// journals and their fsyncs included, the bus not.
func BenchmarkDrive(b *testing.B) {
	vm := schemas.VMID{7}
	for i := range b.N {
		b.StopTimer()
		f := newFakePair(vm)
		r := receiver(b, f)
		now := time.Now()
		c := &schemas.Command{ID: "c1", VM: vm, Source: "h1", Destination: "h2", AfterSeq: 1, Expires: schemas.At(now.Add(time.Minute)), Deadline: schemas.At(now.Add(time.Minute))}
		epoch := uint64(10 + i)
		var last schemas.Outcome
		d := &Drive{Source: fakeSource{f}, Destination: r, Ticket: migration.Ticket{Command: c, Epoch: epoch}, Rules: migration.DefaultRules(),
			Started: schemas.At(now), State: migration.Start(epoch, int64(c.Deadline), now.UnixNano(), migration.DefaultLimits()),
			Now: func() int64 { return time.Now().UnixNano() }, Fence: func() uint64 { return epoch },
			Mark: func(migration.Mark) error {
				return r.j.write(entry{VM: schemas.VMID{8}, Move: &moveRecord{Mark: migration.MarkHanded, Command: c}})
			},
			Report: func(_ context.Context, o schemas.Outcome) error { last = o; return nil }}
		b.StartTimer()
		d.Run(context.Background())
		if last.Result != schemas.ResultSucceeded {
			b.Fatal(last.Reason)
		}
	}
}

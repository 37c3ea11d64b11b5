package sim

import (
	"errors"
	"testing"
	"time"

	"github.com/digitalocean/go-libvirt"

	"github.com/foreshift/foreshift/internal/sim/rpc"
	"github.com/foreshift/foreshift/schemas"
)

func (h *handover) inject(x Fault) {
	h.t.Helper()
	h.must(h.f.Inject(x))
}

// peer moves the VM by peer-to-peer Perform3.
func (h *handover) peer(flags libvirt.DomainMigrateFlags) error {
	_, err := h.s.DomainMigratePerform3Params(h.dom, libvirt.OptString{h.dst.URI}, nil, nil, flags|libvirt.MigratePeer2peer)
	return err
}

const peerFlags = libvirt.MigrateLive | libvirt.MigratePersistDest | libvirt.MigrateUndefineSource

func TestPeerToPeer(t *testing.T) {
	f := serve(t, quick())
	h := newHandover(t, f, 1)
	h.must(h.peer(peerFlags))
	h.want("absent 1/2")
	h.safe(h.dst.ID)
}

// TestPeerToPeerRunsTwice shows what real libvirt does when the reply of Finish is
// lost, and that the truth sees it.
func TestPeerToPeerRunsTwice(t *testing.T) {
	clock := &hand{t: epoch}
	cfg := quick()
	cfg.Now = clock.now
	for _, c := range []struct {
		name  string
		flags libvirt.DomainMigrateFlags
		kind  FaultKind
		want  string
		most  int
	}{
		{"lost reply", peerFlags, DropReply, "1/6 1/2", 2},
		{"lost reply, paused", peerFlags | libvirt.MigratePaused, DropReply, "1/6 3/1", 1},
		{"daemon killed at Finish", peerFlags, KillDaemon, "1/6 1/2", 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := serve(t, cfg)
			h := newHandover(t, f, 1)
			h.inject(Fault{Kind: c.kind, Host: h.dst.ID, Proc: rpc.DomainMigrateFinish3Params})
			failed := make(chan error, 1)
			go func() { failed <- h.peer(c.flags) }()
			for {
				select {
				case err := <-failed:
					wantCode(t, err, 1)
				case <-time.After(time.Millisecond):
					clock.add(100 * time.Millisecond)
					continue
				}
				break
			}
			eventually(t, "daemon back", func() bool {
				clock.add(100 * time.Millisecond)
				c := libvirt.NewWithDialer(dialer(address(h.dst.URI)))
				if c.ConnectToURI(libvirt.QEMUSystem) != nil {
					return false
				}
				return c.Disconnect() == nil
			})
			h.d = dial(t, h.dst)
			h.want(c.want)
			if got := f.Truth(h.vm.ID).MaxRunning; got != c.most {
				t.Fatalf("%d copies ran at once, want %d", got, c.most)
			}
			if n := len(f.Violations()); n != c.most-1 {
				t.Fatalf("%d violations", n)
			}
		})
	}
}

func TestFaultsOfCalls(t *testing.T) {
	f := serve(t, quick())
	h := newHandover(t, f, 1)

	h.inject(Fault{Kind: FailCall, Host: h.src.ID, Proc: rpc.DomainGetState, Code: 38, Message: "cannot fork child process"})
	_, _, err := h.s.DomainGetState(h.dom, 0)
	wantCode(t, err, 38)
	h.want("1/1 absent") // once only

	h.inject(Fault{Kind: DelayCall, Host: h.src.ID, Proc: rpc.DomainGetState, For: 60 * time.Millisecond})
	begun := time.Now()
	if _, _, err = h.s.DomainGetState(h.dom, 0); err != nil || time.Since(begun) < 60*time.Millisecond {
		t.Fatalf("delayed call: %v after %s", err, time.Since(begun))
	}

	// A hanging call holds up nobody else, and ends with its connection.
	h.inject(Fault{Kind: HangCall, Host: h.src.ID, Proc: rpc.DomainSuspend})
	hung := make(chan error, 1)
	go func() { hung <- h.s.DomainSuspend(h.dom) }()
	eventually(t, "suspend is taken", func() bool { return !f.armed(h.src.ID, rpc.DomainSuspend) })
	h.want("1/1 absent")
	h.must(h.s.Disconnect())
	if err := <-hung; !errors.Is(err, libvirt.ErrInterrupted) {
		t.Fatalf("hung call: %v", err)
	}
	h.s = dial(t, h.src)

	// A reply that is lost: the call was carried out.
	h.inject(Fault{Kind: DropReply, Host: h.src.ID, Proc: rpc.DomainSuspend})
	go func() { hung <- h.s.DomainSuspend(h.dom) }()
	eventually(t, "suspended", func() bool { return h.states() == "3/1 absent" })
	h.must(h.s.Disconnect())
	<-hung

	for _, bad := range []Fault{{Kind: KillDaemon, Host: "nowhere"}, {Kind: HangCall, Host: h.src.ID}, {Kind: CutLink, Sites: [2]schemas.SiteID{"a", "a"}},
		{Kind: DeadOnArrival}, {Kind: KillQEMU, Host: h.src.ID}} {
		if f.Inject(bad) == nil {
			t.Errorf("fault %+v is accepted", bad)
		}
	}
}

func TestLostReplyOfFinishLeavesBothPaused(t *testing.T) {
	f := serve(t, quick())
	h := newHandover(t, f, 1)
	h.must(h.begin())
	h.must(h.prepare())
	h.must(h.perform())
	h.inject(Fault{Kind: DropReply, Host: h.dst.ID, Proc: rpc.DomainMigrateFinish3Params})
	go func() { _ = h.finish(0) }() // it never returns before its connection ends
	eventually(t, "finished", func() bool { return h.states() == "3/2 3/1" })
	d, err := h.d.DomainLookupByUUID(libvirt.UUID(h.vm.ID))
	h.must(err)
	h.must(h.d.DomainResume(d))
	h.must(h.s.DomainDestroy(h.dom)) // allowed in every phase
	h.must(h.s.DomainUndefineFlags(h.dom, 0))
	h.want("absent 1/5")
	h.safe(h.dst.ID)
}

func TestDeadDaemons(t *testing.T) {
	back := func(h *handover, host Host) *libvirt.Libvirt { return dial(h.t, host) }
	t.Run("source after Perform", func(t *testing.T) {
		f := serve(t, quick())
		h := newHandover(t, f, 1)
		h.must(h.begin())
		h.must(h.prepare())
		h.must(h.perform())
		h.inject(Fault{Kind: KillDaemon, Host: h.src.ID, For: 20 * time.Millisecond})
		h.s = back(h, h.src)
		h.want("3/2 3/2")
		wantCode(t, h.confirm(0), 55)
		h.must(h.finish(0))
		h.must(h.d.DomainResume(h.arrived))
		h.must(h.s.DomainDestroy(h.dom))
		h.must(h.s.DomainUndefineFlags(h.dom, 0))
		h.safe(h.dst.ID)
	})
	t.Run("destination after Prepare", func(t *testing.T) {
		f := serve(t, quick())
		h := newHandover(t, f, 1)
		h.must(h.begin())
		h.must(h.prepare())
		h.inject(Fault{Kind: KillDaemon, Host: h.dst.ID, For: 20 * time.Millisecond})
		h.d = back(h, h.dst)
		h.want("1/1 absent")
		wantCode(t, h.perform(), 9)
		h.safe(h.src.ID)
	})
	t.Run("destination right after Finish", func(t *testing.T) {
		f := serve(t, quick())
		h := newHandover(t, f, 1)
		h.must(h.begin())
		h.must(h.prepare())
		h.must(h.perform())
		h.inject(Fault{Kind: KillDaemon, Host: h.dst.ID, Proc: rpc.DomainMigrateFinish3Params, For: 20 * time.Millisecond})
		if err := h.finish(0); err == nil {
			t.Fatal("Finish answered although its daemon died")
		}
		h.d = back(h, h.dst)
		h.want("3/2 3/1")
	})
}

func TestDeadGuests(t *testing.T) {
	clock := &hand{t: epoch}
	cfg := quick()
	cfg.Now = clock.now
	f := serve(t, cfg)
	h := newHandover(t, f, 1)
	stop := make(chan struct{})
	ticking := make(chan struct{})
	go func() {
		defer close(ticking)
		for {
			select {
			case <-stop:
				return
			case <-time.After(time.Millisecond):
				clock.add(20 * time.Millisecond)
			}
		}
	}()
	h.inject(Fault{Kind: DeadOnArrival, VM: h.vm.ID})
	h.must(h.begin())
	h.must(h.prepare())
	h.must(h.perform())
	h.must(h.finish(0))
	h.must(h.d.DomainResume(h.arrived))
	h.must(h.confirm(0))
	close(stop)
	<-ticking
	h.want("absent 1/5") // all looks well
	signs := func() (cpu, updated uint64) {
		recs, err := h.d.ConnectGetAllDomainStats([]libvirt.Domain{h.arrived}, uint32(libvirt.DomainStatsCPUTotal|libvirt.DomainStatsBalloon), 0)
		h.must(err)
		for _, p := range recs[0].Params {
			switch p.Field {
			case "cpu.time":
				cpu = p.Value.I.(uint64)
			case "balloon.last-update":
				updated = p.Value.I.(uint64)
			}
		}
		return cpu, updated
	}
	c0, u0 := signs()
	clock.add(30 * time.Second)
	if c1, u1 := signs(); c1 != c0 || u1 != u0 {
		t.Fatalf("a dead guest shows life: cpu %d -> %d, balloon %d -> %d", c0, c1, u0, u1)
	}
	if tr := f.Truth(h.vm.ID); !tr.Lost {
		t.Fatalf("truth %+v of a VM whose only copy is dead", tr)
	}

	// A killed QEMU leaves a shut-off definition.
	other := f.on(h.src.ID)[1]
	h.inject(Fault{Kind: KillQEMU, Host: h.src.ID, VM: other.ID})
	d, err := h.s.DomainLookupByUUID(libvirt.UUID(other.ID))
	h.must(err)
	if s, r, err := h.s.DomainGetState(d, 0); err != nil || s != 5 || r != 3 {
		t.Fatalf("after its QEMU was killed: %d/%d, %v", s, r, err)
	}
	h.inject(Fault{Kind: KillGuest, Host: h.src.ID, VM: f.on(h.src.ID)[2].ID})
}

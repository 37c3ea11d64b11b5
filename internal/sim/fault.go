package sim

import (
	"fmt"
	"time"

	"github.com/foreshift/foreshift/internal/sim/rpc"
	"github.com/foreshift/foreshift/schemas"
)

// FaultKind is what goes wrong.
type FaultKind uint8

// The faults. Those with Proc set wait for the next call of that procedure on the
// host and strike once; the others strike at once.
const (
	// DropReply carries the call out and loses its reply: the caller waits.
	DropReply FaultKind = iota + 1
	// FailCall answers with Code and Message instead of carrying the call out.
	FailCall
	// DelayCall carries the call out For later.
	DelayCall
	// HangCall never carries it out and never answers (or, with For, lets it go then).
	HangCall
	// KillDaemon kills the host's libvirt daemon; connections drop, guests run on.
	// With Proc: right after that call was carried out, before its reply. It is back
	// after For (default 1 s).
	KillDaemon
	// KillQEMU kills the VM's QEMU on the host.
	KillQEMU
	// CutLink cuts the link between two sites for For.
	CutLink
	// DeadOnArrival makes the VM's guest dead after its next migration, although
	// every call succeeds.
	DeadOnArrival
	// KillGuest makes the VM's guest on the host dead inside its running QEMU.
	KillGuest
)

// Fault is one fault to inject.
type Fault struct {
	Kind    FaultKind
	Host    schemas.HostID
	Proc    rpc.Proc // procedure to wait for; 0 = now
	VM      schemas.VMID
	Sites   [2]schemas.SiteID
	For     time.Duration
	Code    rpc.Code
	Message string
}

// Inject arms the fault or lets it strike.
func (f *Fleet) Inject(x Fault) error {
	host, known := f.byHost[x.Host]
	vm, isVM := f.byVM[x.VM]
	f.lock()
	defer f.unlock()
	switch x.Kind {
	case CutLink:
		if x.Sites[0] == x.Sites[1] || x.For <= 0 {
			return fmt.Errorf("sim: cut link %q-%q for %s: want two sites and a duration", x.Sites[0], x.Sites[1], x.For)
		}
		f.w.CutLink(x.Sites[0], x.Sites[1], x.For)
		return nil
	case DeadOnArrival:
		if !isVM {
			return fmt.Errorf("sim: fault: no VM %s", x.VM)
		}
		f.w.DieOnArrival(vm)
		return nil
	}
	if !known {
		return fmt.Errorf("sim: fault: no host %q", x.Host)
	}
	if x.Proc != 0 && x.Kind != KillGuest {
		f.faults = append(f.faults, &x)
		return nil
	}
	switch x.Kind {
	case KillDaemon:
		f.killDaemon(host, x.For)
	case KillQEMU, KillGuest:
		return f.strike(host, &x)
	default:
		return fmt.Errorf("sim: fault of kind %d wants a procedure", x.Kind)
	}
	return nil
}

func (f *Fleet) strike(host int, x *Fault) error {
	g := f.w.Host(host).Find(x.VM)
	if g == nil || !g.Active() {
		return fmt.Errorf("sim: fault: VM %s is not active on %s", x.VM, x.Host)
	}
	if x.Kind == KillQEMU {
		g.Crash()
	} else {
		g.Kill()
	}
	return nil
}

// armed says whether a fault that makes calls slow waits for p.
func (f *Fleet) armed(host schemas.HostID, p rpc.Proc) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, x := range f.faults {
		if x.Host == host && x.Proc == p && (x.Kind == DelayCall || x.Kind == HangCall) {
			return true
		}
	}
	return false
}

// take gives the fault that waits for p, once. The lock must not be held.
func (f *Fleet) take(host schemas.HostID, p rpc.Proc) *Fault {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.takeLocked(host, p)
}

func (f *Fleet) takeLocked(host schemas.HostID, p rpc.Proc) *Fault {
	for i, x := range f.faults {
		if x.Host == host && x.Proc == p {
			f.faults = append(f.faults[:i:i], f.faults[i+1:]...)
			return x
		}
	}
	return nil
}

// loseFinish is asked by the world, under the lock, whether a peer-to-peer Finish
// is answered.
func (f *Fleet) loseFinish(host int) bool {
	x := f.takeLocked(f.hosts[host].ID, rpc.DomainMigrateFinish3Params)
	if x == nil {
		return false
	}
	if x.Kind == KillDaemon {
		f.killDaemon(host, x.For)
	}
	return x.Kind == KillDaemon || x.Kind == DropReply || x.Kind == HangCall
}

// killDaemon stops a daemon and starts it again after d. The lock is held.
func (f *Fleet) killDaemon(host int, d time.Duration) {
	if d <= 0 {
		d = time.Second
	}
	dm := f.daemons[host]
	if dm.world.Down() || f.closed {
		return
	}
	f.w.DaemonDied(dm.world)
	servers := dm.servers
	dm.servers = nil
	dm.unbind()
	stopped := make(chan struct{})
	f.wg.Add(1)
	go func() {
		defer f.wg.Done()
		for _, s := range servers {
			s.Stop()
		}
		close(stopped)
	}()
	f.w.After(d, func() {
		f.w.DaemonBack(dm.world)
		if f.closed {
			return
		}
		f.wg.Add(1)
		go func() {
			defer f.wg.Done()
			<-stopped
			f.revive(dm)
		}()
	})
}

// revive listens again; the address was ours a moment ago, so a failure is tried
// again for a while before the host is given up as unreachable.
func (f *Fleet) revive(d *daemon) {
	for try := 0; try < 50; try++ {
		f.mu.Lock()
		if f.closed {
			f.mu.Unlock()
			return
		}
		err := d.bind(f.cfg.Port)
		if err == nil {
			d.serve()
			f.mu.Unlock()
			return
		}
		d.unbind()
		f.mu.Unlock()
		time.Sleep(20 * time.Millisecond)
	}
}

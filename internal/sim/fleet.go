package sim

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/foreshift/foreshift/internal/sim/load"
	"github.com/foreshift/foreshift/internal/sim/rpc"
	"github.com/foreshift/foreshift/internal/sim/world"
	"github.com/foreshift/foreshift/schemas"
)

// Fleet is a simulated fleet. All methods may be called at any time from any
// goroutine.
type Fleet struct {
	cfg    Config
	start  schemas.Step
	hosts  []Host
	vms    []VM
	demand *load.Source
	byVM   map[schemas.VMID]int
	byHost map[schemas.HostID]int

	wake chan struct{}
	wg   sync.WaitGroup // daemons that are being stopped or started

	mu      sync.Mutex // guards everything below, and the event callbacks of connections
	w       *world.World
	daemons []*daemon
	faults  []*Fault
	leases  map[string]*rpc.Conn // held by a probe guest that ends with a connection
	serving bool
	closed  bool
}

// daemon is one host's libvirt daemon.
type daemon struct {
	f         *Fleet
	index     int
	host      *Host
	world     *world.Host
	listeners []net.Listener // bound, not yet served
	servers   []*rpc.Server
	watchers  []*rpc.Conn       // connections that want events
	volumes   map[string]uint64 // files of the host's own pool, with their capacity
}

// New makes a fleet and binds its listeners, so that the URIs of [Fleet.Hosts] are
// complete. [Fleet.Serve] serves them; a fleet that is never served must be closed
// with [Fleet.Close].
func New(cfg Config) (*Fleet, error) {
	if err := cfg.fill(); err != nil {
		return nil, err
	}
	f := &Fleet{cfg: cfg, byVM: map[schemas.VMID]int{}, byHost: map[schemas.HostID]int{}, leases: map[string]*rpc.Conn{}, wake: make(chan struct{}, 1)}
	f.start = schemas.StepAt(schemas.At(cfg.Start), cfg.Base)
	var profile []load.Profile
	if cfg.Trace != "" {
		t, err := load.ReadTrace(cfg.Trace, cfg.VMs)
		if err != nil {
			return nil, fmt.Errorf("sim: %w", err)
		}
		f.demand = load.FromTrace(t, cfg.VMs, f.start, cfg.PeakIn)
		f.vms = vmsOfTrace(cfg.Seed, t, cfg.VMs)
	} else {
		profile = profiles(cfg.Seed, cfg.VMs)
		f.demand = load.New(profile, f.start, cfg.PeakIn)
		f.vms = vmsOf(cfg.Seed, profile)
	}
	f.hosts = hostsOf(&cfg, f.vms, f.demand)
	if err := place(f.hosts, f.vms, f.demand); err != nil {
		return nil, err
	}
	f.build()
	if err := f.listen(); err != nil {
		return nil, err
	}
	return f, nil
}

// build makes the world out of hosts and VMs.
func (f *Fleet) build() {
	c := world.Config{Base: f.cfg.Base, Start: f.cfg.Start.UnixNano(), Demand: f.demand.At,
		LinkBandwidth: float64(f.cfg.LinkBandwidth), NICBandwidth: float64(f.cfg.NICBandwidth),
		PeerTimeout: f.cfg.PeerTimeout, StreamTimeout: f.cfg.StreamTimeout,
		Event: f.event, LoseReply: f.loseFinish, DiskLock: f.cfg.DiskLock}
	for i := range f.hosts {
		h := &f.hosts[i]
		f.byHost[h.ID] = i
		c.Hosts = append(c.Hosts, world.HostSpec{ID: h.ID, Site: h.Site, UUID: h.UUID, CPU: float64(h.Capacity.CPU),
			Mem: h.memory(), Speed: float64(h.Speed), Match: func(uri string) bool { return h.matches(uri) }})
	}
	for i, v := range f.vms {
		f.byVM[v.ID] = i
		c.VMs = append(c.VMs, world.VMSpec{ID: v.ID, Name: v.Name, VCPUs: v.VCPUs, Mem: float64(v.AllocMem),
			WorkingSet: .05 + .12*load.Unit(f.cfg.Seed, 7, uint64(i)), Disk: float64(v.Disk), Host: f.byHost[v.Host]})
	}
	f.w = world.New(c)
	for i := range f.hosts {
		f.daemons = append(f.daemons, &daemon{f: f, index: i, host: &f.hosts[i], world: f.w.Host(i), volumes: map[string]uint64{}})
	}
	for _, v := range f.vms {
		if f.cfg.LocalDisks {
			f.daemons[f.byHost[v.Host]].volumes[f.diskPath(v.Name)] = uint64(v.Disk)
		}
	}
}

// matches says whether a libvirt URI of a peer-to-peer migration means the host.
func (h *Host) matches(uri string) bool {
	rest, ok := strings.CutPrefix(uri, "qemu+tcp://")
	if !ok {
		return false
	}
	addr, _, _ := strings.Cut(rest, "/")
	mine, _, _ := strings.Cut(strings.TrimPrefix(h.URI, "qemu+tcp://"), "/")
	return addr == mine || addr == string(h.ID)
}

// Hosts are the hosts, with complete URIs.
func (f *Fleet) Hosts() []Host { return append([]Host(nil), f.hosts...) }

// VMs are the VMs with their first hosts.
func (f *Fleet) VMs() []VM { return append([]VM(nil), f.vms...) }

// listen binds every host's address at one port.
func (f *Fleet) listen() error {
	var last error
	for try := 0; try < 20; try++ {
		port := f.cfg.Port
		if port == 0 {
			l, err := net.Listen("tcp4", "127.0.0.1:0")
			if err != nil {
				return fmt.Errorf("sim: %w", err)
			}
			port = l.Addr().(*net.TCPAddr).Port
			if err := l.Close(); err != nil {
				return fmt.Errorf("sim: %w", err)
			}
		}
		if last = f.bind(port); last == nil {
			for i := range f.hosts {
				f.hosts[i].URI = fmt.Sprintf("qemu+tcp://%s:%d/system", f.hosts[i].Address, port)
			}
			f.cfg.Port = port
			return nil
		}
		if f.cfg.Port != 0 {
			break
		}
	}
	return fmt.Errorf("sim: %w", last)
}

func (f *Fleet) bind(port int) error {
	for _, d := range f.daemons {
		if err := d.bind(port); err != nil {
			for _, x := range f.daemons {
				x.unbind()
			}
			return err
		}
	}
	return nil
}

func (d *daemon) bind(port int) error {
	addrs := []string{d.host.Address}
	if d.index == 0 {
		addrs = append(addrs, "127.0.0.1")
	}
	for _, a := range addrs {
		l, err := net.Listen("tcp4", net.JoinHostPort(a, strconv.Itoa(port)))
		if err != nil {
			return err
		}
		d.listeners = append(d.listeners, l)
	}
	return nil
}

func (d *daemon) unbind() {
	for _, l := range d.listeners {
		_ = l.Close() // nothing was accepted on it yet
	}
	d.listeners = nil
}

func (d *daemon) serve() {
	for _, l := range d.listeners {
		d.servers = append(d.servers, rpc.Start(l, d))
	}
	d.listeners = nil
}

// Serve answers libvirt calls until ctx ends, then closes everything. It returns
// nil when it was told to end.
func (f *Fleet) Serve(ctx context.Context) error {
	f.mu.Lock()
	if f.closed || f.serving {
		f.mu.Unlock()
		return errors.New("sim: the fleet is served or closed already")
	}
	f.serving = true
	for _, d := range f.daemons {
		d.serve()
	}
	f.mu.Unlock()

	// What time alone changes (transfers, timers) happens in the calls that ask for
	// it, and here, so that events come when nobody asks.
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for busy := false; ctx.Err() == nil; {
		ticks := tick.C
		if !busy {
			ticks = nil
		}
		select {
		case <-ctx.Done():
		case <-f.wake:
			busy = true
		case <-ticks:
			f.lock()
			busy = f.w.Busy()
			f.mu.Unlock()
		}
	}
	f.Close()
	return nil
}

// Close stops all listeners and connections and waits for them. It may be called
// more than once.
func (f *Fleet) Close() {
	f.mu.Lock()
	f.closed = true
	var servers []*rpc.Server
	for _, d := range f.daemons {
		d.unbind()
		servers = append(servers, d.servers...)
		d.servers = nil
	}
	f.mu.Unlock()
	for _, s := range servers {
		s.Stop()
	}
	f.wg.Wait()
}

// lock takes the fleet's lock and lets the world catch up with the clock.
func (f *Fleet) lock() {
	f.mu.Lock()
	f.w.Advance(f.cfg.Now().UnixNano())
}

// unlock gives the lock back; the ticker is woken if there is something to watch.
func (f *Fleet) unlock() {
	busy := f.w.Busy()
	f.mu.Unlock()
	if busy {
		select {
		case f.wake <- struct{}{}:
		default:
		}
	}
}

// event sends a world's event to whoever asked for it. It runs under the lock and
// only queues.
func (f *Fleet) event(host int, ev world.Event) {
	d := f.daemons[host]
	kind, proc := int32(0), rpc.EventLifecycle
	if ev.Iteration > 0 {
		kind, proc = 20, rpc.EventMigrationIteration
	}
	dom := rpc.Domain{Name: ev.Name, UUID: ev.UUID, ID: ev.ID}
	for _, c := range d.watchers {
		for _, cb := range c.Callbacks {
			if cb.Event != kind || !cb.All && cb.Domain != ev.UUID {
				continue
			}
			c.Send(proc, func(e *rpc.Encoder) {
				e.I32(cb.ID)
				e.Domain(dom)
				if ev.Iteration > 0 {
					e.I32(ev.Iteration)
					return
				}
				e.I32(ev.Event)
				e.I32(ev.Detail)
			})
		}
	}
}

// Closed implements [rpc.Handler]: phases bound to the connection end.
func (d *daemon) Closed(c *rpc.Conn) {
	d.f.lock()
	defer d.f.unlock()
	d.unwatch(c)
	c.Callbacks = nil
	d.f.release(func(_ string, by *rpc.Conn) bool { return by == c })
	d.f.w.ConnClosed(c)
}

func (d *daemon) unwatch(c *rpc.Conn) {
	for i, x := range d.watchers {
		if x == c {
			d.watchers = append(d.watchers[:i:i], d.watchers[i+1:]...)
			return
		}
	}
}

package sim

import (
	"errors"
	"fmt"
	"time"

	"github.com/foreshift/foreshift/internal/sim/rpc"
	"github.com/foreshift/foreshift/internal/sim/world"
	"github.com/foreshift/foreshift/schemas"
)

// Versions that the simulated hosts tell: libvirt and QEMU.
const (
	libvirtVersion = 9_000_000
	qemuVersion    = 10_000_002
)

// featureParams is VIR_DRV_FEATURE_MIGRATION_PARAMS: phases with typed parameters.
const featureParams = 13

// request is one call under way.
type request struct {
	d   *daemon
	c   *rpc.Conn
	in  *rpc.Decoder
	out *rpc.Encoder
}

// args says whether the arguments read so far were well formed.
func (r *request) args() error {
	if err := r.in.Err(); err != nil {
		return rpc.Errorf(rpc.CodeRPC, "Unable to decode message payload: %v", err)
	}
	return nil
}

// guest reads a domain and finds its copy on the host.
func (r *request) guest() (*world.Guest, error) {
	d := r.in.Domain()
	if err := r.args(); err != nil {
		return nil, err
	}
	return r.find(d.UUID, d.Name)
}

func (r *request) find(id rpc.UUID, name string) (*world.Guest, error) {
	if g := r.d.world.Find(id); g != nil {
		return g, nil
	}
	return nil, rpc.Errorf(rpc.CodeNoDomain, "Domain not found: no domain with matching uuid '%s' (%.80s)", schemas.VMID(id), name)
}

func domainOf(g *world.Guest) rpc.Domain {
	return rpc.Domain{Name: g.VM.Name, UUID: g.VM.ID, ID: g.ID}
}

// errOf makes an error interface of a libvirt error without the typed-nil trap.
func errOf(e *rpc.Error) error {
	if e == nil {
		return nil
	}
	return e
}

type handler func(*request) error

// locked runs h under the fleet's lock, with the world at the present time.
func locked(h handler) handler {
	return func(r *request) error {
		r.d.f.lock()
		defer r.d.f.unlock()
		if r.d.world.Down() {
			return rpc.ErrNoReply
		}
		return h(r)
	}
}

// onGuest is a call that takes a domain, changes it and returns nothing.
func onGuest(do func(*request, *world.Guest) *rpc.Error) handler {
	return locked(func(r *request) error {
		g, err := r.guest()
		if err != nil {
			return err
		}
		return errOf(do(r, g))
	})
}

// handlers is the table of procedures, filled at start so that no call depends on
// the order of initialisation.
var handlers = map[rpc.Proc]handler{}

func init() {
	for _, group := range []map[rpc.Proc]handler{connectCalls, nodeCalls, domainCalls, poolCalls, migrationCalls, eventCalls} {
		for p, h := range group {
			handlers[p] = h
		}
	}
}

// Blocks implements [rpc.Handler].
func (d *daemon) Blocks(_ *rpc.Conn, p rpc.Proc) bool {
	return p == rpc.DomainMigratePerform3Params || d.f.armed(d.host.ID, p)
}

// Call implements [rpc.Handler]: faults first, then the procedure.
func (d *daemon) Call(c *rpc.Conn, p rpc.Proc, in *rpc.Decoder, out *rpc.Encoder) error {
	h, ok := handlers[p]
	if !ok {
		return rpc.UnknownProcedure(p)
	}
	r := &request{d: d, c: c, in: in, out: out}
	x := d.f.take(d.host.ID, p)
	if x == nil {
		return h(r)
	}
	switch x.Kind {
	case FailCall:
		code := x.Code
		if code == 0 {
			code = rpc.CodeOperationFailed
		}
		return rpc.Errorf(code, "%s", x.Message)
	case HangCall:
		wait(c, x.For)
		return rpc.ErrNoReply
	case DelayCall:
		if !wait(c, x.For) {
			return rpc.ErrNoReply
		}
		return h(r)
	}
	err := h(r)
	d.f.lock()
	defer d.f.unlock()
	switch x.Kind {
	case KillDaemon:
		d.f.killDaemon(d.index, x.For)
		return rpc.ErrNoReply
	case KillQEMU:
		return errors.Join(err, d.f.strike(d.index, x))
	}
	return rpc.ErrNoReply
}

// wait waits for d (0: for ever) and says false when the connection ended first.
func wait(c *rpc.Conn, d time.Duration) bool {
	if d <= 0 {
		<-c.Done()
		return false
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-c.Done():
		return false
	case <-t.C:
		return true
	}
}

// Features of a connection, as in libvirt's virDrvFeature.
var features = map[int32]bool{
	2: false, 3: true, 4: true, 6: true, 7: true, // migration v2 (by v3), p2p, v3, change protection
	9: true, 10: true, 11: true, 13: true, // typed strings, keep-alive, migratable XML, migration parameters
	14: true, 15: true, // event callbacks, close callback
}

var connectCalls = map[rpc.Proc]handler{
	rpc.AuthList: func(r *request) error {
		r.out.U32(1)
		r.out.I32(0) // none
		return nil
	},
	rpc.ConnectOpen: func(r *request) error {
		r.in.Opt()
		r.in.U32()
		return r.args()
	},
	rpc.ConnectClose: func(*request) error { return nil },
	rpc.ConnectSupportsFeature: func(r *request) error {
		f := r.in.I32()
		r.out.Bool(features[f] && !(r.d.f.cfg.NoPhases && f == featureParams))
		return r.args()
	},
	rpc.ConnectGetType:    func(r *request) error { r.out.Str("QEMU"); return nil },
	rpc.ConnectGetVersion: func(r *request) error { r.out.U64(qemuVersion); return nil },
	rpc.ConnectGetLibVersion: func(r *request) error {
		r.out.U64(libvirtVersion)
		return nil
	},
	rpc.ConnectGetHostname: func(r *request) error { r.out.Str(string(r.d.host.ID)); return nil },
	rpc.ConnectGetURI:      func(r *request) error { r.out.Str("qemu:///system"); return nil },
	rpc.ConnectIsSecure:    func(r *request) error { r.out.Bool(false); return nil },
	rpc.ConnectGetMaxVcpus: func(r *request) error { r.out.I32(255); return nil },
	rpc.ConnectGetCapabilities: func(r *request) error {
		r.out.Str(capabilitiesXML(r.d.host))
		return nil
	},
	rpc.ConnectGetDomainCapabilities: func(r *request) error {
		r.out.Str(domainCapabilitiesXML(r.d.host))
		return nil
	},
	rpc.ConnectCompareCPU: func(r *request) error {
		xml, flags := r.in.Str(), r.in.U32()
		if err := r.args(); err != nil {
			return err
		}
		v, err := compareCPU(r.d.host, xml, flags)
		r.out.I32(v)
		return err
	},
	rpc.ConnectCompareHypervisorCPU: func(r *request) error {
		for i := 0; i < 4; i++ { // emulator, architecture, machine, kind of virtualisation
			r.in.Opt()
		}
		xml, flags := r.in.Str(), r.in.U32()
		if err := r.args(); err != nil {
			return err
		}
		v, err := compareCPU(r.d.host, xml, flags)
		r.out.I32(v)
		return err
	},
}

var nodeCalls = map[rpc.Proc]handler{
	rpc.NodeGetInfo: func(r *request) error {
		cores := r.d.cores()
		var model [32]byte
		copy(model[:], "x86_64")
		for _, b := range model {
			r.out.I32(int32(b))
		}
		r.out.U64(uint64(r.d.host.memory()) / 1024)
		for _, v := range []int32{cores, 2600, 1, 1, cores, 1} { // cpus, MHz, nodes, sockets, cores, threads
			r.out.I32(v)
		}
		return nil
	},
	rpc.NodeGetCPUStats: locked(func(r *request) error {
		cpu, n := r.in.I32(), r.in.I32()
		r.in.U32()
		if err := r.args(); err != nil {
			return err
		}
		if n == 0 {
			r.out.U32(0)
			r.out.I32(4)
			return nil
		}
		u := r.d.world.Usage()
		if cpu >= 0 { // one core: an even share
			u.Busy /= float64(r.d.cores())
			u.Idle /= float64(r.d.cores())
		}
		r.fields([]field{{"kernel", u.Busy * .1}, {"user", u.Busy * .9}, {"idle", max(0, u.Idle)}, {"iowait", 0}}, n)
		return nil
	}),
	rpc.NodeGetMemoryStats: locked(func(r *request) error {
		n := r.in.I32()
		r.in.I32()
		r.in.U32()
		if err := r.args(); err != nil {
			return err
		}
		if n == 0 {
			r.out.U32(0)
			r.out.I32(4)
			return nil
		}
		total := r.d.host.memory() / 1024
		used := r.d.world.Usage().Used / 1024
		r.fields([]field{{"total", total}, {"free", (total - used) * .9}, {"buffers", 0}, {"cached", (total - used) * .1}}, n)
		return nil
	}),
	rpc.NodeGetFreeMemory: locked(func(r *request) error {
		r.out.U64(uint64(r.d.host.memory() - r.d.world.Usage().Used))
		return nil
	}),
	rpc.NodeGetSecurityModel: func(*request) error {
		return rpc.Errorf(rpc.CodeNoSupport, "this function is not supported by the connection driver: virNodeGetSecurityModel")
	},
}

type field struct {
	name  string
	value float64
}

// fields answers a node statistics call: name and value, at most n of them.
func (r *request) fields(fs []field, n int32) {
	fs = fs[:min(len(fs), max(0, int(n)))]
	r.out.U32(uint32(len(fs)))
	for _, f := range fs {
		r.out.Str(f.name)
		r.out.U64(uint64(f.value))
	}
	r.out.I32(0)
}

func (d *daemon) cores() int32 {
	return max(1, int32(float64(d.host.Capacity.CPU)/1000/float64(d.host.Speed)+.5))
}

var eventCalls = map[rpc.Proc]handler{
	rpc.ConnectEventRegisterAny: locked(func(r *request) error {
		cb := rpc.Callback{Event: r.in.I32(), All: true}
		if r.in.U32() != 0 {
			cb.All, cb.Domain = false, r.in.Domain().UUID
		}
		if err := r.args(); err != nil {
			return err
		}
		if cb.Event < 0 || cb.Event > 26 || len(r.c.Callbacks) >= 64 {
			return rpc.Errorf(rpc.CodeInvalidArg, "invalid argument: unsupported event %d, or too many callbacks", cb.Event)
		}
		if len(r.c.Callbacks) == 0 {
			r.d.watchers = append(r.d.watchers, r.c)
		}
		r.c.NextCallback++
		cb.ID = r.c.NextCallback
		r.c.Callbacks = append(r.c.Callbacks, cb)
		r.out.I32(cb.ID)
		return nil
	}),
	rpc.ConnectEventDeregisterAny: locked(func(r *request) error {
		id := r.in.I32()
		if err := r.args(); err != nil {
			return err
		}
		for i, cb := range r.c.Callbacks {
			if cb.ID == id {
				r.c.Callbacks = append(r.c.Callbacks[:i:i], r.c.Callbacks[i+1:]...)
				if len(r.c.Callbacks) == 0 {
					r.d.unwatch(r.c)
				}
				return nil
			}
		}
		return rpc.Errorf(rpc.CodeInvalidArg, "invalid argument: domain event callback %d not registered", id)
	}),
	rpc.ConnectRegisterClose:   func(*request) error { return nil },
	rpc.ConnectUnregisterClose: func(*request) error { return nil },
}

func notFound(what, key string) error {
	return rpc.Errorf(rpc.CodeNoDomain, "Domain not found: no domain with matching %s '%.80s'", what, key)
}

func itoa(v int) string { return fmt.Sprint(v) }

package libvirt

import (
	"context"
	"encoding/xml"
	"fmt"
	"log/slog"
	"math"
	"strings"
	"sync"
	"sync/atomic"

	lv "github.com/digitalocean/go-libvirt"

	"github.com/foreshift/foreshift/actuator/migration"
	"github.com/foreshift/foreshift/schemas"
)

// flags of every phase of every move. PAUSED is what makes it a two-phase commit:
// neither side can run the VM by itself after the transfer. AUTO_CONVERGE slows a
// guest down that writes faster than the link carries, and only then.
const flags = lv.MigrateLive | lv.MigratePaused | lv.MigrateChangeProtection | lv.MigrateAbortOnError | lv.MigrateAutoConverge | lv.MigratePersistDest | lv.MigrateUndefineSource

// labShared is set when disks lie on the laboratory's shared directory, which
// libvirt takes for a local one.
var labShared atomic.Bool

// AllowLabSharedDirectory makes this process add VIR_MIGRATE_UNSAFE, for guests
// whose disks lie in the directory that the laboratory's hosts share on one
// machine. internal/lab alone calls it; nothing that reads a configuration may.
func AllowLabSharedDirectory() { labShared.Store(true) }

// phaseFlags are the flags of a move, the same in all its phases.
func phaseFlags(disks []schemas.DiskCopy) lv.DomainMigrateFlags {
	f := flags
	if len(disks) > 0 {
		f |= lv.MigrateNonSharedDisk
	}
	if labShared.Load() {
		f |= lv.MigrateUnsafe
	}
	return f
}

// copied names the disks that are copied along; libvirt takes the others as they are.
func copied(disks []schemas.DiskCopy) (params []lv.TypedParam) {
	for _, d := range disks {
		params = append(params, text(lv.MigrateParamMigrateDisks, d.Target))
	}
	return params
}

// Host is one host's daemon. Looks go over a connection of its own, which is made
// anew when it is lost; each move has another.
type Host struct {
	t   target
	lim Limits
	log *slog.Logger

	mu     sync.Mutex
	qemu   uint64 // version of the hypervisor, 0 not asked yet
	phases bool   // a client may lead
	watch  *conn
	out    map[schemas.VMID]*session
	in     map[schemas.VMID]*session
}

// session is one move on this host, bound to one connection.
type session struct {
	c        *conn
	dom      lv.Domain
	epoch    uint64
	name     string
	events   <-chan Event
	flags    lv.DomainMigrateFlags
	postCopy bool            // and may be asked for post-copy
	probe    lv.Domain       // peer: the guest that holds the lease
	peer     bool            // libvirt leads: nothing has begun before Perform3
	params   []lv.TypedParam // source: for Perform3
	reply    migration.Reply // destination: Prepare3's, for a request that comes again
	started  bool            // Perform3 is under way
	through  bool            // Perform3 has succeeded
}

// Open connects to a host's daemon. It accepts qemu:///system,
// qemu+unix:///system?socket=PATH and qemu+tcp://host:port/system.
func Open(ctx context.Context, uri string) (*Host, error) {
	return OpenWith(ctx, uri, DefaultLimits)
}

// OpenWith is [Open] with other deadlines.
func OpenWith(ctx context.Context, uri string, lim Limits) (*Host, error) {
	t, err := parse(uri)
	if err != nil {
		return nil, err
	}
	h := &Host{t: t, lim: lim, log: slog.Default(), out: map[schemas.VMID]*session{}, in: map[schemas.VMID]*session{}}
	if _, err := h.conn(ctx); err != nil {
		return nil, err
	}
	return h, nil
}

// Close ends all connections; the daemon cancels what was under way.
func (h *Host) Close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.watch != nil {
		h.watch.close()
	}
	for _, m := range []map[schemas.VMID]*session{h.out, h.in} {
		for vm, s := range m {
			s.c.close()
			delete(m, vm)
		}
	}
}

// conn gives the connection for looks.
func (h *Host) conn(ctx context.Context) (*conn, error) {
	h.mu.Lock()
	c := h.watch
	h.mu.Unlock()
	if c != nil && c.alive() {
		return c, nil
	}
	n, err := connect(ctx, h.t, h.lim)
	if err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.watch != nil && h.watch != c && h.watch.alive() {
		n.close() // another caller was first
		return h.watch, nil
	}
	if c != nil {
		c.close()
	}
	h.watch = n
	return n, nil
}

// leads says why a client may not lead a migration's phases on this host, nil when it
// may. It is asked once.
func (h *Host) leads(ctx context.Context, c *conn) error {
	h.mu.Lock()
	ok := h.phases
	h.mu.Unlock()
	if ok {
		return nil
	}
	n, err := call(ctx, c, "features", c.lim.Quick, func() (int32, error) { return c.l.ConnectSupportsFeature(featureParams) })
	if err != nil && !isRefused(err) {
		return err
	}
	if err != nil || n == 0 {
		return &migration.Refusal{Why: schemas.Reason{Code: schemas.ReasonUnsafe,
			Detail: "the daemon does not let a client lead the phases of a migration, and no disk lock is proven: install a newer libvirt, or prove a lock (foreshift preflight --lease FILE) and start the actuators with --handover p2p"}}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.phases = true
	return nil
}

// version is the hypervisor's, asked once.
func (h *Host) version(ctx context.Context, c *conn) (uint64, error) {
	h.mu.Lock()
	v := h.qemu
	h.mu.Unlock()
	if v != 0 {
		return v, nil
	}
	v, err := call(ctx, c, "version of QEMU", c.lim.Quick, c.l.ConnectGetVersion)
	if err != nil {
		return 0, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.qemu = v
	return v, nil
}

// see observes a VM over the connection for looks.
func (h *Host) see(ctx context.Context, vm schemas.VMID) (migration.Seen, error) {
	c, err := h.conn(ctx)
	if err != nil {
		return migration.Seen{}, err
	}
	return c.see(ctx, vm)
}

func (h *Host) session(m map[schemas.VMID]*session, vm schemas.VMID) *session {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := m[vm]
	if s != nil && !s.c.alive() {
		delete(m, vm)
		return nil
	}
	return s
}

// end forgets a move and closes its connection.
func (h *Host) end(m map[schemas.VMID]*session, vm schemas.VMID) {
	h.mu.Lock()
	s := m[vm]
	delete(m, vm)
	h.mu.Unlock()
	if s != nil {
		s.c.close()
	}
}

// List gives the VMs of the host, running or not.
func (h *Host) List(ctx context.Context) ([]schemas.VMID, error) {
	c, err := h.conn(ctx)
	if err != nil {
		return nil, err
	}
	doms, err := c.list(ctx, 0)
	if err != nil {
		return nil, err
	}
	vms := make([]schemas.VMID, len(doms))
	for i, d := range doms {
		vms[i] = schemas.VMID(d.UUID)
	}
	return vms, nil
}

// list gives the domains of the host: all of them, or those that the flags choose.
func (c *conn) list(ctx context.Context, which lv.ConnectListAllDomainsFlags) ([]lv.Domain, error) {
	return call(ctx, c, "list", c.lim.Quick, func() ([]lv.Domain, error) {
		d, _, err := c.l.ConnectListAllDomains(1, which)
		return d, err
	})
}

// guests reads the definitions of those domains.
func (c *conn) guests(ctx context.Context, which lv.ConnectListAllDomainsFlags) ([]Guest, error) {
	doms, err := c.list(ctx, which)
	if err != nil {
		return nil, err
	}
	out := make([]Guest, 0, len(doms))
	for _, d := range doms {
		doc, err := call(ctx, c, "definition of "+d.Name, c.lim.Quick, func() (string, error) { return c.l.DomainGetXMLDesc(d, 0) })
		if isNotFound(err) {
			continue // it went
		}
		if err != nil {
			return nil, err
		}
		g, err := ParseGuest(doc)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", d.Name, err)
		}
		out = append(out, g)
	}
	return out, nil
}

// destroy ends and undefines this host's copy. The rules have been asked before.
func (h *Host) destroy(ctx context.Context, vm schemas.VMID) error {
	c, err := h.conn(ctx)
	if err != nil {
		return err
	}
	dom, err := c.lookup(ctx, vm)
	if isNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	seen, err := c.see(ctx, vm)
	if err != nil {
		return err
	}
	if seen.Copy == migration.Paused || seen.Copy == migration.Running {
		err := do(ctx, c, "destroy "+vm.String(), c.lim.Phase, func() error { return c.l.DomainDestroyFlags(dom, 0) })
		if err != nil && !isNotFound(err) {
			return err
		}
	}
	const undefine = lv.DomainUndefineManagedSave | lv.DomainUndefineSnapshotsMetadata | lv.DomainUndefineCheckpointsMetadata | lv.DomainUndefineKeepNvram
	if _, err := c.lookup(ctx, vm); isNotFound(err) {
		return nil // it was transient, or undefined with its end
	}
	err = do(ctx, c, "undefine "+vm.String(), c.lim.Phase, func() error { return c.l.DomainUndefineFlags(dom, undefine) })
	if isNotFound(err) {
		return nil
	}
	return err
}

// identity reads name and UUID out of a domain's XML.
func identity(doc string) (name string, vm schemas.VMID, err error) {
	var d struct {
		Name string `xml:"name"`
		UUID string `xml:"uuid"`
	}
	if err := xml.Unmarshal([]byte(doc), &d); err != nil {
		return "", vm, fmt.Errorf("domain XML: %w", err)
	}
	if vm, err = schemas.ParseVMID(strings.TrimSpace(d.UUID)); err != nil {
		return "", vm, fmt.Errorf("domain XML: %w", err)
	}
	if d.Name == "" {
		return "", vm, fmt.Errorf("domain XML of %s: no name", vm)
	}
	return d.Name, vm, nil
}

func text(key, v string) lv.TypedParam {
	return lv.TypedParam{Field: key, Value: *lv.NewTypedParamValueString(v)}
}

// mebibytes is libvirt's unit of migration speed; at least 1, since 0 is no limit.
func mebibytes(r schemas.BytesPerSecond) uint64 {
	return uint64(max(1, math.Round(float64(r)/(1<<20))))
}

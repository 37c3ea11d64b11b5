package sim

import (
	"encoding/xml"
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"github.com/foreshift/foreshift/internal/sim/rpc"
	"github.com/foreshift/foreshift/internal/sim/world"
	"github.com/foreshift/foreshift/schemas"
)

// cookie is what the phases hand to each other through the client.
type cookie struct {
	XMLName  xml.Name `xml:"qemu-migration"`
	Name     string   `xml:"name"`
	UUID     string   `xml:"uuid"`
	HostName string   `xml:"hostname"`
	HostUUID string   `xml:"hostuuid"`
	Stage    string   `xml:"stage"`
}

// The phase that made a cookie.
const (
	stageBegun     = "begun"
	stagePrepared  = "prepared"
	stagePerformed = "performed"
	stageFinished  = "finished"
)

func (r *request) cookie(g *world.VMSpec, stage string) ([]byte, error) {
	return xml.Marshal(cookie{Name: g.Name, UUID: schemas.VMID(g.ID).String(), HostName: string(r.d.host.ID),
		HostUUID: r.d.host.UUID.String(), Stage: stage})
}

// check verifies a cookie against the domain and the phase that must have made it.
// Without must an empty one passes, as in libvirt.
func (r *request) check(b []byte, id rpc.UUID, stage string, must bool) error {
	if len(b) == 0 && !must {
		return nil
	}
	var c cookie
	if err := xml.Unmarshal(b, &c); err != nil {
		return rpc.Errorf(rpc.CodeInternal, "internal error: Incoming cookie data is not valid: %v", err)
	}
	switch {
	case c.UUID != schemas.VMID(id).String():
		return rpc.Errorf(rpc.CodeInternal, "internal error: Incoming cookie data had unexpected UUID %.40s vs %s", c.UUID, schemas.VMID(id))
	case c.HostUUID == r.d.host.UUID.String():
		return rpc.Errorf(rpc.CodeInternal, "internal error: Attempt to migrate guest to the same host %s", c.HostUUID)
	case c.Stage != stage:
		return rpc.Errorf(rpc.CodeInternal, "internal error: Incoming cookie data is of phase %.20q, not %q", c.Stage, stage)
	}
	return nil
}

// options are the typed parameters of a migration.
type options struct {
	uri, name, destXML string
	ceiling            float64 // bytes/s
}

func optionsOf(ps []rpc.Param) (o options, _ error) {
	for _, p := range ps {
		want := uint32(rpc.TypeString)
		switch p.Field {
		case "migrate_uri":
			o.uri = p.Str
		case "destination_name":
			o.name = p.Str
		case "destination_xml":
			o.destXML = p.Str
		case "bandwidth":
			o.ceiling = float64(p.Bits) * (1 << 20)
			want = rpc.TypeUllong
		case "persistent_xml", "graphics_uri", "listen_address", "migrate_disks", "disks_uri", "tls.destination", "compression":
		case "disks_port", "auto_converge.initial", "auto_converge.increment", "parallel.connections":
			want = rpc.TypeInt
		case "bandwidth.postcopy":
			want = rpc.TypeUllong
		default:
			return o, rpc.Errorf(rpc.CodeInvalidArg, "invalid argument: parameter '%.80s' not supported", p.Field)
		}
		if p.Type != want {
			return o, rpc.Errorf(rpc.CodeInvalidArg, "invalid argument: invalid type %d for parameter '%s'", p.Type, p.Field)
		}
	}
	return o, nil
}

var migrationCalls = map[rpc.Proc]handler{
	rpc.DomainMigrateBegin3Params: locked(func(r *request) error {
		g, err := r.guest()
		if err != nil {
			return err
		}
		_, err = optionsOf(r.in.Params())
		flags := r.in.U32()
		if e := r.args(); e != nil {
			return e
		}
		if err != nil {
			return err
		}
		if err := r.local(g.VM.Name, flags); err != nil {
			return err
		}
		if e := r.d.f.w.Begin(g, r.c, flags); e != nil {
			return e
		}
		c, err := r.cookie(g.VM, stageBegun)
		r.out.Bytes(c)
		r.out.Str(r.d.f.domainXML(g))
		return err
	}),
	rpc.DomainMigratePrepare3Params: prepare,
	rpc.DomainMigratePerform3Params: perform,
	rpc.DomainMigrateFinish3Params:  locked(finish),
	rpc.DomainMigrateConfirm3Params: locked(func(r *request) error {
		g, err := r.guest()
		if err != nil {
			return err
		}
		_, err = optionsOf(r.in.Params())
		c, flags, cancelled := r.in.Bytes(), r.in.U32(), r.in.I32()
		if e := r.args(); e != nil {
			return e
		}
		if err != nil {
			return err
		}
		if cancelled == 0 {
			if err := r.check(c, g.VM.ID, stageFinished, false); err != nil {
				return err
			}
		}
		return errOf(r.d.f.w.Confirm(g, flags, cancelled != 0))
	}),
	rpc.DomainAbortJob: onGuest(func(r *request, g *world.Guest) *rpc.Error { return r.d.f.w.Abort(g) }),
	rpc.DomainMigrateSetMaxSpeed: onGuest(func(r *request, g *world.Guest) *rpc.Error {
		return g.SetMaxSpeed(r.in.U64())
	}),
	rpc.DomainMigrateGetMaxSpeed: onGuest(func(r *request, g *world.Guest) *rpc.Error {
		r.out.U64(g.MaxSpeed())
		return nil
	}),
	rpc.DomainMigrateSetMaxDowntime: onGuest(func(r *request, g *world.Guest) *rpc.Error {
		return g.SetMaxDowntime(r.in.U64())
	}),
	rpc.DomainMigrateGetMaxDowntime: onGuest(func(r *request, g *world.Guest) *rpc.Error {
		r.out.U64(g.MaxDowntime())
		return nil
	}),
	rpc.DomainMigrateStartPostCopy: onGuest(func(*request, *world.Guest) *rpc.Error {
		return rpc.Errorf(rpc.CodeOperationInvalid, "Requested operation is not valid: post-copy can only be started while outgoing migration is in progress")
	}),
	rpc.DomainGetJobInfo: onGuest(func(r *request, g *world.Guest) *rpc.Error {
		s, err := g.Job(false, true)
		if err != nil {
			return err
		}
		ms, total, done, left := uint64(s.Elapsed/1e6), uint64(s.Total), uint64(s.Processed), uint64(s.Remaining)
		r.out.I32(s.Type)
		for _, v := range [...]uint64{ms, 0, total, done, left, total, done, left, 0, 0, 0} {
			r.out.U64(v)
		}
		return nil
	}),
	rpc.DomainGetJobStats: onGuest(func(r *request, g *world.Guest) *rpc.Error {
		flags := r.in.U32()
		s, err := g.Job(flags&1 != 0, flags&2 != 0)
		if err != nil {
			return err
		}
		r.out.I32(s.Type)
		w := paramWriter{e: r.out, at: r.out.Count()}
		w.job(&s)
		r.out.SetCount(w.at, w.n)
		return nil
	}),
}

// job appends a job's statistics under libvirt's names.
func (w *paramWriter) job(s *world.JobStats) {
	if s.Type == world.JobNone {
		return
	}
	ms := func(ns float64) uint64 { return uint64(ns / 1e6) }
	w.int("operation", s.Operation)
	w.u64("time_elapsed", ms(s.Elapsed))
	if s.DiskTotal > 0 {
		w.u64("disk_total", uint64(s.DiskTotal))
		w.u64("disk_processed", uint64(s.DiskTotal-s.DiskRemaining))
		w.u64("disk_remaining", uint64(s.DiskRemaining))
	}
	if s.Total == 0 {
		return
	}
	w.u64("setup_time", ms(s.Setup))
	w.u64("downtime", ms(s.Downtime))
	if s.Type == world.JobCompleted {
		w.u64("downtime_net", ms(s.DowntimeNet))
	}
	w.u64("data_total", uint64(s.Total))
	w.u64("data_processed", uint64(s.Processed))
	w.u64("data_remaining", uint64(s.Remaining))
	w.u64("memory_total", uint64(s.Total))
	w.u64("memory_processed", uint64(s.Processed))
	w.u64("memory_remaining", uint64(s.Remaining))
	w.u64("memory_bps", uint64(s.Bps))
	w.u64("memory_constant", uint64(s.Constant/4096))
	w.u64("memory_normal", uint64(s.Processed/4096))
	w.u64("memory_normal_bytes", uint64(s.Processed))
	w.u64("memory_dirty_rate", uint64(s.DirtyRate/4096))
	w.u64("memory_iteration", uint64(s.Iteration))
	w.u64("memory_page_size", 4096)
	w.u64("memory_postcopy_requests", 0)
	if s.DiskTotal == 0 {
		w.u64("disk_total", 0)
		w.u64("disk_processed", 0)
		w.u64("disk_remaining", 0)
	}
	if s.Throttle > 0 {
		w.int("auto_converge_throttle", int32(s.Throttle*100))
	}
}

func prepare(r *request) error {
	o, err := optionsOf(r.in.Params())
	c, flags := r.in.Bytes(), r.in.U32()
	if e := r.args(); e != nil {
		return e
	}
	if err != nil {
		return err
	}
	var dom struct {
		XMLName xml.Name `xml:"domain"`
		Name    string   `xml:"name"`
		UUID    string   `xml:"uuid"`
	}
	if o.destXML == "" {
		return rpc.Errorf(rpc.CodeInternal, "internal error: no domain XML passed")
	}
	if err := xml.Unmarshal([]byte(o.destXML), &dom); err != nil {
		return rpc.Errorf(rpc.CodeXML, "XML error: %v", err)
	}
	id, err := schemas.ParseVMID(strings.TrimSpace(dom.UUID))
	if err != nil {
		return rpc.Errorf(rpc.CodeXML, "XML error: %v", err)
	}
	if err := r.check(c, id, stageBegun, true); err != nil {
		return err
	}
	uri, err := r.listenURI(o.uri)
	if err != nil {
		return err
	}
	r.d.f.lock()
	defer r.d.f.unlock()
	if r.d.world.Down() {
		return rpc.ErrNoReply
	}
	if err := r.waits(dom.Name, flags); err != nil {
		return err
	}
	port, e := r.d.f.w.Prepare(r.d.world, r.c, id, flags)
	if e != nil {
		return e
	}
	g := r.d.world.Find(id)
	ck, err := r.cookie(g.VM, stagePrepared)
	r.out.Bytes(ck)
	out := fmt.Sprintf("%s:%d", uri, port)
	r.out.Opt(&out)
	return err
}

// listenURI is the address that the source's QEMU will connect to, without port.
func (r *request) listenURI(asked string) (string, error) {
	if asked == "" {
		return "tcp://" + r.d.host.Address, nil
	}
	u, err := url.Parse(asked)
	if err != nil || u.Scheme != "tcp" || u.Hostname() == "" {
		return "", rpc.Errorf(rpc.CodeInvalidArg, "invalid argument: unable to parse URI: %.80s", asked)
	}
	return "tcp://" + u.Hostname(), nil
}

func perform(r *request) error {
	d := r.in.Domain()
	peer, isPeer := r.in.Opt()
	o, err := optionsOf(r.in.Params())
	c, flags := r.in.Bytes(), r.in.U32()
	if e := r.args(); e != nil {
		return e
	}
	if err != nil {
		return err
	}
	done := make(chan *rpc.Error, 1)
	f := r.d.f
	f.lock()
	g, err := r.find(d.UUID, d.Name)
	var spec *world.VMSpec
	switch {
	case r.d.world.Down():
		err = rpc.ErrNoReply
	case err != nil:
	case flags&world.FlagTunnelled != 0:
		err = rpc.Errorf(rpc.CodeNoSupport, "this function is not supported by the connection driver: tunnelled migration")
	case flags&world.FlagPeer2Peer != 0 && (!isPeer || peer == ""):
		err = rpc.Errorf(rpc.CodeInternal, "internal error: Unexpected dconnuri parameter with non-peer2peer migration")
	case flags&world.FlagPeer2Peer != 0:
		spec = g.VM
		err = errOf(f.w.PerformPeer(g, r.c, peer, flags, o.ceiling, func(e *rpc.Error) { done <- e }))
	default:
		spec = g.VM
		var port int
		if port, err = r.target(c, g, o.uri); err == nil {
			err = errOf(f.w.Perform(g, r.c, port, flags, o.ceiling, func(e *rpc.Error) { done <- e }))
		}
	}
	f.unlock()
	if err != nil {
		return err
	}
	select {
	case <-r.c.Done():
		return rpc.ErrNoReply
	case e := <-done:
		if e != nil {
			return e
		}
	}
	if flags&world.FlagPeer2Peer != 0 { // no further phase, so no cookie: libvirt's client refuses one
		r.out.Bytes(nil)
		return nil
	}
	ck, err := r.cookie(spec, stagePerformed)
	r.out.Bytes(ck)
	return err
}

// target checks what Prepare gave and finds the port in it.
func (r *request) target(c []byte, g *world.Guest, uri string) (int, error) {
	if err := r.check(c, g.VM.ID, stagePrepared, true); err != nil {
		return 0, err
	}
	i := strings.LastIndexByte(uri, ':')
	if i < 0 {
		return 0, rpc.Errorf(rpc.CodeInternal, "internal error: missing or invalid migration URI %.80q", uri)
	}
	port, err := strconv.Atoi(uri[i+1:])
	if err != nil {
		return 0, rpc.Errorf(rpc.CodeInternal, "internal error: missing or invalid migration URI %.80q", uri)
	}
	return port, nil
}

func finish(r *request) error {
	o, err := optionsOf(r.in.Params())
	c, flags, cancelled := r.in.Bytes(), r.in.U32(), r.in.I32()
	if e := r.args(); e != nil {
		return e
	}
	if err != nil {
		return err
	}
	if o.name == "" {
		return rpc.Errorf(rpc.CodeInvalidArg, "invalid argument: missing domain name")
	}
	if g := r.d.world.FindName(o.name); g != nil && cancelled == 0 {
		if err := r.check(c, g.VM.ID, stagePerformed, true); err != nil {
			return err
		}
	}
	g, e := r.d.f.w.Finish(r.d.world, o.name, flags, cancelled != 0)
	if e != nil {
		return e
	}
	if g == nil {
		// libvirt drops the guest and returns no domain without setting an error,
		// which its RPC layer reports like this.
		return rpc.Errorf(rpc.CodeInternal, "Library function returned error but did not set virError")
	}
	ck, err := r.cookie(g.VM, stageFinished)
	r.out.Domain(domainOf(g))
	r.out.Bytes(ck)
	return err
}

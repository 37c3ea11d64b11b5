package libvirt

import (
	"context"
	"time"

	lv "github.com/digitalocean/go-libvirt"

	"github.com/foreshift/foreshift/actuator/migration"
	"github.com/foreshift/foreshift/schemas"
)

// Source is the host in the part of a move's source.
type Source struct{ h *Host }

// Source gives the host's source side.
func (h *Host) Source() *Source { return &Source{h} }

// Observe looks at the host's copy.
func (s *Source) Observe(ctx context.Context, vm schemas.VMID) (migration.Seen, error) {
	return s.h.see(ctx, vm)
}

// Begin binds a new connection to the move and calls Begin3.
func (s *Source) Begin(ctx context.Context, t migration.Ticket) (migration.Offer, error) {
	vm := t.VM()
	if s.h.session(s.h.out, vm) != nil {
		return migration.Offer{}, refuse("begin "+vm.String(), "a move of the VM is already under way on this host")
	}
	if t.Lead != nil {
		return s.beginPeer(ctx, t)
	}
	c, err := connect(ctx, s.h.t, s.h.lim)
	if err != nil {
		return migration.Offer{}, err
	}
	qemu, err := s.h.version(ctx, c)
	if err == nil {
		err = s.h.leads(ctx, c)
	}
	if err != nil {
		c.close()
		return migration.Offer{}, err
	}
	offer, m, err := begin(ctx, c, t, qemu)
	if err != nil {
		c.close()
		return migration.Offer{}, err
	}
	s.h.mu.Lock()
	s.h.out[vm] = m
	s.h.mu.Unlock()
	return offer, nil
}

func begin(ctx context.Context, c *conn, t migration.Ticket, qemu uint64) (o migration.Offer, m *session, err error) {
	vm := t.VM()
	m = &session{c: c, epoch: t.Epoch}
	if m.dom, err = c.lookup(ctx, vm); err != nil {
		return o, nil, err
	}
	if m.events, err = c.listen(ctx, vm); err != nil {
		return o, nil, err
	}
	live, err := call(ctx, c, "live definition of "+vm.String(), c.lim.Quick, func() (string, error) { return c.l.DomainGetXMLDesc(m.dom, 0) })
	if err != nil {
		return o, nil, err
	}
	g, err := fit(live, qemu)
	if err != nil {
		return o, nil, err
	}
	if o.Disks, err = c.local(ctx, m.dom, &g); err != nil {
		return o, nil, err
	}
	o.WantsPostCopy = g.PostCopy
	m.flags, m.params = phaseFlags(o.Disks), copied(o.Disks)
	// The definition that will stay at the destination is this one's, not the live
	// one's. A transient VM has none.
	persistent, err := call(ctx, c, "definition of "+vm.String(), c.lim.Quick, func() (string, error) {
		return c.l.DomainGetXMLDesc(m.dom, lv.DomainXMLInactive|lv.DomainXMLSecure|lv.DomainXMLMigratable)
	})
	switch {
	case err == nil:
		m.params = append(m.params, text(lv.MigrateParamPersistXML, persistent))
	case !isRefused(err):
		return o, nil, err
	}
	if bw := t.Command.Bandwidth; bw > 0 {
		m.params = append(m.params, lv.TypedParam{Field: lv.MigrateParamBandwidth, Value: *lv.NewTypedParamValueUllong(mebibytes(bw))})
	}
	begun, err := call(ctx, c, "begin "+vm.String(), c.lim.Phase, func() (o migration.Offer, err error) {
		o.Cookie, o.XML, err = c.l.DomainMigrateBegin3Params(m.dom, m.params, uint32(m.flags))
		return o, err
	})
	o.XML, o.Cookie = begun.XML, begun.Cookie
	return o, m, err
}

// maxPerform bounds a transfer that nobody aborts.
const maxPerform = 24 * time.Hour

// Perform sends the VM; it returns Perform3's cookie when all of it has arrived and
// the source is paused. Its deadline is ctx's: ending it closes the connection, and
// libvirt cancels the transfer.
func (s *Source) Perform(ctx context.Context, t migration.Ticket, p migration.Reply) ([]byte, error) {
	vm := t.VM()
	m := s.h.session(s.h.out, vm)
	if m == nil {
		return nil, refuse("perform "+vm.String(), "no move of the VM has begun on this host")
	}
	if m.peer {
		return nil, s.performPeer(ctx, m, t, p)
	}
	if len(p.Cookie) == 0 {
		// libvirtd 9.0 itself ends when it is asked all the same.
		s.h.end(s.h.out, vm)
		return nil, refuse("perform "+vm.String(), "the destination has prepared nothing: its reply has no cookie")
	}
	if most := t.Command.MaxDowntime; most > 0 {
		err := s.SetDowntime(ctx, vm, migration.Downtime(most, 0))
		if isRefused(err) {
			s.h.log.Warn("downtime not set; the daemon's own holds", "vm", vm, "err", err)
		} else if err != nil {
			return nil, err
		}
	}
	s.h.mark(m, true, false)
	params := append(append([]lv.TypedParam(nil), m.params...), text(lv.MigrateParamURI, p.URI))
	cookie, err := call(ctx, m.c, "perform "+vm.String(), maxPerform, func() ([]byte, error) {
		return m.c.l.DomainMigratePerform3Params(m.dom, nil, params, p.Cookie, m.flags)
	})
	s.h.mark(m, false, err == nil)
	if err != nil {
		s.h.end(s.h.out, vm) // the job is over, or cancelled with the connection
	}
	return cookie, err
}

func (h *Host) mark(m *session, started, through bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	m.started, m.through = started, through
}

// Confirm ends the source's copy by Confirm3(cancelled=0), over Begin's connection.
func (s *Source) Confirm(ctx context.Context, vm schemas.VMID, cookie []byte) error {
	return s.confirm(ctx, vm, cookie, 0)
}

func (s *Source) confirm(ctx context.Context, vm schemas.VMID, cookie []byte, cancelled int32) error {
	m := s.h.session(s.h.out, vm)
	if m == nil {
		return &Error{Op: "confirm " + vm.String(), Class: Lost, Err: errNotBound}
	}
	err := do(ctx, m.c, "confirm "+vm.String(), m.c.lim.Phase, func() error {
		return m.c.l.DomainMigrateConfirm3Params(m.dom, nil, cookie, uint32(m.flags), cancelled)
	})
	s.h.end(s.h.out, vm)
	return err
}

// Resume takes the VM back: Confirm3(cancelled=1) while the move's connection
// stands, DomainResume by the journal otherwise.
func (s *Source) Resume(ctx context.Context, vm schemas.VMID) error {
	if s.h.session(s.h.out, vm) != nil {
		if err := s.confirm(ctx, vm, nil, 1); err != nil {
			return err
		}
	}
	seen, err := s.h.see(ctx, vm)
	if err != nil || seen.Copy != migration.Paused {
		return err
	}
	return s.h.resume(ctx, vm)
}

func (h *Host) resume(ctx context.Context, vm schemas.VMID) error {
	c, err := h.conn(ctx)
	if err != nil {
		return err
	}
	dom, err := c.lookup(ctx, vm)
	if err != nil {
		return err
	}
	return do(ctx, c, "resume "+vm.String(), c.lim.Phase, func() error { return c.l.DomainResume(dom) })
}

// Destroy ends and undefines the source's copy, when Confirm3 is out of the question.
func (s *Source) Destroy(ctx context.Context, vm schemas.VMID) error {
	err := s.h.destroy(ctx, vm)
	s.h.end(s.h.out, vm)
	return err
}

// Abort ends the move before switchover: the transfer under way, or the protection
// that Begin3 put on the VM.
func (s *Source) Abort(ctx context.Context, vm schemas.VMID) error {
	m := s.h.session(s.h.out, vm)
	if m == nil {
		return refuse("abort "+vm.String(), "no move of the VM is under way on this host")
	}
	s.h.mu.Lock()
	started, through := m.started, m.through
	s.h.mu.Unlock()
	switch {
	case started:
		return do(ctx, m.c, "abort "+vm.String(), m.c.lim.Quick, func() error { return m.c.l.DomainAbortJob(m.dom) })
	case m.peer:
		s.h.end(s.h.out, vm) // only the lease was taken
		return nil
	case through:
		return refuse("abort "+vm.String(), "the transfer is complete")
	}
	return s.confirm(ctx, vm, nil, 1)
}

// Drop closes the move's connection: what is under way is cancelled by the daemon.
func (s *Source) Drop(vm schemas.VMID) { s.h.end(s.h.out, vm) }

// SetRate changes the ceiling of the transfer under way.
func (s *Source) SetRate(ctx context.Context, vm schemas.VMID, r schemas.BytesPerSecond) error {
	m := s.h.session(s.h.out, vm)
	if m == nil {
		return refuse("set the rate of "+vm.String(), "no move of the VM is under way on this host")
	}
	return do(ctx, m.c, "set the rate of "+vm.String(), m.c.lim.Quick, func() error {
		return m.c.l.DomainMigrateSetMaxSpeed(m.dom, mebibytes(r), 0)
	})
}

// SetDowntime changes how long the guest may stand still at the switchover.
func (s *Source) SetDowntime(ctx context.Context, vm schemas.VMID, down schemas.Millis) error {
	m := s.h.session(s.h.out, vm)
	if m == nil {
		return refuse("set the downtime of "+vm.String(), "no move of the VM is under way on this host")
	}
	return do(ctx, m.c, "set the downtime of "+vm.String(), m.c.lim.Quick, func() error {
		return m.c.l.DomainMigrateSetMaxDowntime(m.dom, uint64(max(1, down)), 0)
	})
}

// Stats reads the job. It must not be called once the source is suspended: it then
// holds up the switchover.
func (s *Source) Stats(ctx context.Context, vm schemas.VMID) (migration.JobStats, error) {
	m := s.h.session(s.h.out, vm)
	if m == nil {
		return migration.JobStats{}, nil
	}
	return m.c.jobStats(ctx, m.dom, 0)
}

// Events gives the events of the move, nil when none is under way.
func (s *Source) Events(vm schemas.VMID) <-chan Event {
	if m := s.h.session(s.h.out, vm); m != nil {
		return m.events
	}
	return nil
}

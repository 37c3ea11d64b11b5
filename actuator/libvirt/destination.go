package libvirt

import (
	"context"
	"errors"
	"fmt"

	lv "github.com/digitalocean/go-libvirt"

	"github.com/foreshift/foreshift/actuator/migration"
	"github.com/foreshift/foreshift/schemas"
)

var errNotBound = errors.New("the connection of the move is gone")

// Destination is the host in the part of a move's destination. It knows no journal:
// the rules have been asked before.
type Destination struct {
	h       *Host
	address string
}

// Destination gives the host's destination side. address is where the source's QEMU
// shall connect; empty lets libvirt choose.
func (h *Host) Destination(address string) *Destination { return &Destination{h, address} }

// Session is the epoch whose incoming guest this process holds the connection of, 0
// if none.
func (d *Destination) Session(vm schemas.VMID) uint64 {
	if m := d.h.session(d.h.in, vm); m != nil {
		return m.epoch
	}
	return 0
}

// Observe looks at the host's copy.
func (d *Destination) Observe(ctx context.Context, t migration.Ticket) (migration.Reply, error) {
	seen, err := d.h.see(ctx, t.VM())
	if err == nil && seen.Copy == migration.Paused {
		if m := d.h.session(d.h.in, t.VM()); m != nil && m.through {
			seen.Incoming = false // Finish3 went through over this very connection
		}
	}
	return migration.Reply{Seen: seen}, err
}

// Prepare binds a new connection to the move and calls Prepare3.
func (d *Destination) Prepare(ctx context.Context, t migration.Ticket, o migration.Offer) (migration.Reply, error) {
	vm := t.VM()
	name, is, err := identity(o.XML)
	if err != nil {
		return migration.Reply{}, refuse("prepare "+vm.String(), err.Error())
	}
	if is != vm {
		return migration.Reply{}, refuse("prepare "+vm.String(), "the XML is of "+is.String())
	}
	if m := d.h.session(d.h.in, vm); m != nil && m.epoch == t.Epoch {
		return d.with(ctx, t, m.reply)
	}
	d.h.end(d.h.in, vm)
	c, err := connect(ctx, d.h.t, d.h.lim)
	if err != nil {
		return migration.Reply{}, err
	}
	qemu, err := d.h.version(ctx, c)
	if err == nil {
		err = fit(o.XML, qemu)
	}
	if err != nil {
		c.close()
		return migration.Reply{}, err
	}
	params := []lv.TypedParam{text(lv.MigrateParamDestXML, o.XML)}
	uri := ""
	if d.address != "" {
		uri = "tcp://" + d.address
		params = append(params, text(lv.MigrateParamURI, uri))
	}
	r, err := call(ctx, c, "prepare "+vm.String(), c.lim.Phase, func() (r migration.Reply, err error) {
		var out lv.OptString
		r.Cookie, out, err = c.l.DomainMigratePrepare3Params(params, o.Cookie, uint32(phaseFlags()))
		r.URI = uri
		if len(out) > 0 && out[0] != "" {
			r.URI = out[0]
		}
		return r, err
	})
	if err == nil && r.URI == "" {
		err = refuse("prepare "+vm.String(), "the daemon names no address to connect to")
	}
	if err != nil {
		c.close()
		return migration.Reply{}, err
	}
	d.h.mu.Lock()
	d.h.in[vm] = &session{c: c, epoch: t.Epoch, name: name, reply: r}
	d.h.mu.Unlock()
	return d.with(ctx, t, r)
}

// with adds what is now seen to a reply.
func (d *Destination) with(ctx context.Context, t migration.Ticket, r migration.Reply) (migration.Reply, error) {
	o, err := d.Observe(ctx, t)
	r.Seen = o.Seen
	return r, err
}

// Finish calls Finish3(cancelled=0): the copy is whole then, and paused.
func (d *Destination) Finish(ctx context.Context, t migration.Ticket, cookie []byte) (migration.Reply, error) {
	vm := t.VM()
	m := d.h.session(d.h.in, vm)
	if m == nil || m.epoch != t.Epoch {
		return migration.Reply{}, &Error{Op: "finish " + vm.String(), Class: Refused, Err: errNotBound}
	}
	type answer struct {
		dom    lv.Domain
		cookie []byte
	}
	a, err := call(ctx, m.c, "finish "+vm.String(), m.c.lim.Phase, func() (a answer, err error) {
		a.dom, a.cookie, err = m.c.l.DomainMigrateFinish3Params([]lv.TypedParam{text(lv.MigrateParamDestName, m.name)}, cookie, uint32(phaseFlags()), 0)
		return a, err
	})
	if err != nil {
		d.h.end(d.h.in, vm)
		return migration.Reply{}, err
	}
	if got := schemas.VMID(a.dom.UUID); got != vm {
		return migration.Reply{}, refuse("finish "+vm.String(), fmt.Sprintf("the daemon finished %s instead", got))
	}
	d.h.mark(m, false, true)
	r := migration.Reply{Cookie: a.cookie}
	job, err := m.c.jobStats(ctx, a.dom, lv.DomainJobStatsCompleted|lv.DomainJobStatsKeepCompleted)
	if err != nil && !isRefused(err) && !isNotFound(err) {
		return r, err
	}
	r.Downtime, r.Volume = job.Downtime, job.Processed
	return d.with(ctx, t, r)
}

// Resume lets the VM run here.
func (d *Destination) Resume(ctx context.Context, t migration.Ticket) (migration.Reply, error) {
	vm := t.VM()
	seen, err := d.h.see(ctx, vm)
	if err != nil {
		return migration.Reply{}, err
	}
	if seen.Copy != migration.Running {
		if err := d.h.resume(ctx, vm); err != nil {
			return migration.Reply{Seen: seen}, err
		}
	}
	d.h.end(d.h.in, vm) // Finish3 has ended the job: nothing is bound to it any more
	return d.Observe(ctx, t)
}

// Release ends and undefines the copy that was prepared here.
func (d *Destination) Release(ctx context.Context, t migration.Ticket) (migration.Reply, error) {
	vm := t.VM()
	if m := d.h.session(d.h.in, vm); m != nil {
		if !m.through {
			// Cancelled, Finish3 kills the incoming guest and frees its port. The name
			// may be gone with the guest: what counts is what is seen afterwards.
			err := do(ctx, m.c, "cancel "+vm.String(), m.c.lim.Phase, func() error {
				_, _, err := m.c.l.DomainMigrateFinish3Params([]lv.TypedParam{text(lv.MigrateParamDestName, m.name)}, nil, uint32(phaseFlags()), 1)
				return err
			})
			if err != nil && !isRefused(err) && !isNotFound(err) {
				d.h.log.Warn("incoming guest not cancelled over its own connection", "vm", vm, "err", err)
			}
		}
		d.h.end(d.h.in, vm)
	}
	if err := d.h.destroy(ctx, vm); err != nil {
		return migration.Reply{}, err
	}
	return d.Observe(ctx, t)
}

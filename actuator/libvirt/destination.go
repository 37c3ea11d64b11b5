package libvirt

import (
	"context"
	"errors"
	"fmt"
	"time"

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
		_, err = fit(o.XML, qemu)
	}
	if err != nil {
		c.close()
		return migration.Reply{}, err
	}
	flags := phaseFlags(o.Disks)
	params := append(copied(o.Disks), text(lv.MigrateParamDestXML, o.XML))
	uri := ""
	if d.address != "" {
		uri = "tcp://" + d.address
		params = append(params, text(lv.MigrateParamURI, uri))
	}
	made, err := c.makeVolumes(ctx, o.Disks)
	if err != nil {
		c.close()
		return migration.Reply{}, err
	}
	r, err := call(ctx, c, "prepare "+vm.String(), c.lim.Phase, func() (r migration.Reply, err error) {
		var out lv.OptString
		r.Cookie, out, err = c.l.DomainMigratePrepare3Params(params, o.Cookie, uint32(flags))
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
		if isRefused(err) { // after anything else nobody knows: they go with the release
			err = joined(err, c.removeVolumes(ctx, made))
		}
		c.close()
		return migration.Reply{}, err
	}
	d.h.mu.Lock()
	d.h.in[vm] = &session{c: c, epoch: t.Epoch, name: name, flags: flags, reply: r}
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
	a, err := d.finish(ctx, m, vm, cookie)
	if err != nil {
		d.h.end(d.h.in, vm)
		return migration.Reply{}, err
	}
	if a.silent {
		d.h.log.Warn("Finish3 has not answered, and the copy is whole: its answer is not waited for", "vm", vm)
		d.h.mark(m, false, true)
		return d.with(ctx, t, migration.Reply{})
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

// finishAnswer is what Finish3 answered; silent when it did not, and the copy was
// seen to be whole all the same.
type finishAnswer struct {
	dom    lv.Domain
	cookie []byte
	silent bool
}

// The guest stands still while Finish3 is waited for. After quietLook the host is
// looked at too: a copy that is said, looks later again, to be paused by nobody's
// transfer is whole, for Finish3 says so last. Its answer alone is lost then.
const (
	quietLook  = 700 * time.Millisecond
	quietTwice = 700 * time.Millisecond
)

// finish calls Finish3(cancelled=0), and does not wait for an answer that is lost.
func (d *Destination) finish(ctx context.Context, m *session, vm schemas.VMID, cookie []byte) (finishAnswer, error) {
	type result struct {
		a   finishAnswer
		err error
	}
	done := make(chan result, 1)
	go func() {
		a, err := call(ctx, m.c, "finish "+vm.String(), m.c.lim.Phase, func() (a finishAnswer, err error) {
			a.dom, a.cookie, err = m.c.l.DomainMigrateFinish3Params([]lv.TypedParam{text(lv.MigrateParamDestName, m.name)}, cookie, uint32(m.flags), 0)
			return a, err
		})
		done <- result{a, err}
	}()
	wait, whole := quietLook, false
	for {
		select {
		case r := <-done:
			return r.a, r.err
		case <-time.After(wait):
		}
		wait = quietTwice
		look, cancel := context.WithTimeout(ctx, 2*time.Second)
		seen, err := d.h.see(look, vm)
		cancel()
		now := err == nil && seen.Copy == migration.Paused && !seen.Incoming
		if whole && now {
			return finishAnswer{silent: true}, nil
		}
		whole = now
	}
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
				_, _, err := m.c.l.DomainMigrateFinish3Params([]lv.TypedParam{text(lv.MigrateParamDestName, m.name)}, nil, uint32(m.flags), 1)
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

package libvirt

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"path"
	"strings"

	lv "github.com/digitalocean/go-libvirt"

	"github.com/foreshift/foreshift/actuator/migration"
	"github.com/foreshift/foreshift/schemas"
)

// Peer-to-peer migration, in which libvirt leads. When it does not hear of the
// destination's Finish it starts the source again, although the VM may run there: two
// running copies were seen. Only a disk lock that both hosts share forbids the second.
// No call tells whether locking is on, so that it is tried: the source holds a lease
// with a tiny guest of its own, and the destination must fail to start another with
// the same one.

// peerFlags are those of a peer-to-peer move.
const peerFlags = lv.MigrateLive | lv.MigratePeer2peer | lv.MigrateAbortOnError | lv.MigrateAutoConverge | lv.MigratePersistDest | lv.MigrateUndefineSource

// probeXML is a guest of 16 MiB that has nothing but a lease.
func probeXML(lease string) (string, error) {
	var id [16]byte
	if _, err := rand.Read(id[:]); err != nil {
		return "", err
	}
	id[6], id[8] = id[6]&15|0x40, id[8]&63|0x80
	// Lockd knows one lockspace, the directory of its configuration: the lease is a file
	// in it, which has to be there.
	space, key := path.Split(path.Clean(lease))
	parts := []string{path.Base(space), key, path.Dir(path.Clean(space))}
	for i, p := range parts {
		var b strings.Builder
		if err := xml.EscapeText(&b, []byte(p)); err != nil {
			return "", err
		}
		parts[i] = b.String()
	}
	return fmt.Sprintf(`<domain type='qemu'><name>foreshift-probe-%s</name><uuid>%s</uuid><memory unit='MiB'>16</memory><vcpu>1</vcpu>
<os><type>hvm</type></os><features><acpi/></features><on_reboot>destroy</on_reboot>
<devices><lease><lockspace>%s</lockspace><key>%s</key><target path='%s'/></lease><controller type='usb' model='none'/><memballoon model='none'/></devices></domain>`,
		hex.EncodeToString(id[:4]), schemas.VMID(id), parts[0], parts[1], parts[2]), nil
}

// probe starts the guest that holds a lease; it ends with the connection.
func (c *conn) probe(ctx context.Context, lease string) (lv.Domain, error) {
	doc, err := probeXML(lease)
	if err != nil {
		return lv.Domain{}, err
	}
	return call(ctx, c, "probe the disk lock", c.lim.Phase, func() (lv.Domain, error) {
		return c.l.DomainCreateXML(doc, lv.DomainStartAutodestroy)
	})
}

func unlocked(format string, args ...any) *migration.Refusal {
	return &migration.Refusal{Why: schemas.Reason{Code: schemas.ReasonLock, Detail: fmt.Sprintf(format, args...)}}
}

const lockFix = `set lock_manager = "lockd" in qemu.conf and auto_disk_leases = 1 with a file_lockspace_dir on shared storage in qemu-lockd.conf, on both hosts, give that directory as --peer-leases, or use the default handover`

// mending says what to do when a lease could not be tried for.
func mending(err error) string {
	if strings.Contains(err.Error(), "Lockspace for path") {
		return "its virtlockd has been started again and was not told the directory: restart libvirtd"
	}
	return lockFix
}

// beginPeer binds a connection to the move and takes the lease. Nothing is asked of
// the VM itself yet.
func (s *Source) beginPeer(ctx context.Context, t migration.Ticket) (o migration.Offer, err error) {
	vm := t.VM()
	c, err := connect(ctx, s.h.t, s.h.lim)
	if err != nil {
		return o, err
	}
	m := &session{c: c, epoch: t.Epoch, flags: peerFlags, peer: true}
	if labShared.Load() {
		m.flags |= lv.MigrateUnsafe
	}
	defer func() {
		if err != nil {
			c.close()
		}
	}()
	qemu, err := s.h.version(ctx, c)
	if err != nil {
		return o, err
	}
	if o, err = c.readyPeer(ctx, t, m, qemu); err != nil {
		return o, err
	}
	if m.probe, err = c.probe(ctx, t.Lead.Lease); err != nil {
		if isRefused(err) {
			err = unlocked("this host could not take the trial's lease: %v; %s", err, mending(err))
		}
		return o, err
	}
	s.h.mu.Lock()
	s.h.out[vm] = m
	s.h.mu.Unlock()
	return o, nil
}

// readyPeer looks at the VM as Begin3 would.
func (c *conn) readyPeer(ctx context.Context, t migration.Ticket, m *session, qemu uint64) (o migration.Offer, err error) {
	vm := t.VM()
	if m.dom, err = c.lookup(ctx, vm); err != nil {
		return o, err
	}
	if m.events, err = c.listen(ctx, vm); err != nil {
		return o, err
	}
	live, err := call(ctx, c, "live definition of "+vm.String(), c.lim.Quick, func() (string, error) { return c.l.DomainGetXMLDesc(m.dom, 0) })
	if err != nil {
		return o, err
	}
	g, err := fit(live, qemu)
	if err != nil {
		return o, err
	}
	disks, err := c.local(ctx, m.dom, &g)
	if err != nil {
		return o, err
	}
	if len(disks) > 0 {
		return o, unfit("disk %s is on local storage: it goes along in the default handover only", disks[0].Target)
	}
	if why := g.unlockable(); why != "" {
		return o, unlocked("%s: two copies of the VM would not exclude each other; give it a <lease>, or use the default handover", why)
	}
	if bw := t.Command.Bandwidth; bw > 0 {
		m.params = append(m.params, lv.TypedParam{Field: lv.MigrateParamBandwidth, Value: *lv.NewTypedParamValueUllong(mebibytes(bw))})
	}
	m.postCopy = g.PostCopy && g.noPostCopy() == ""
	o.XML, o.Peer, o.WantsPostCopy, o.NoPostCopy = live, t.Lead, g.PostCopy, g.noPostCopy() // the XML for the destination to say whether it can run that CPU
	return o, nil
}

// unlockable says why a lock manager does not keep two copies of the guest apart, empty
// when it does: by a lease, or by a lock of its own on every disk.
func (g *Guest) unlockable() string {
	if g.Leases > 0 {
		return ""
	}
	if len(g.Disks) == 0 {
		return "it has no disk that could be locked"
	}
	for _, d := range g.Disks {
		if d.Common {
			return "disk " + d.Target + " is shareable, which a lock allows to several at once"
		}
		if d.Type != "file" && d.Type != "block" {
			return "disk " + d.Target + " is of type " + d.Type + ", which lockd does not lock"
		}
	}
	return ""
}

// noPostCopy says why the guest must not move by post-copy, whatever its owner wants.
func (g *Guest) noPostCopy() string {
	if len(g.Passed) > 0 {
		return "a device of the host is passed through to it (" + g.Passed[0] + ")"
	}
	return ""
}

// performPeer lets libvirt lead. The lease is given up before, so that nothing of the
// probe is left.
func (s *Source) performPeer(ctx context.Context, m *session, t migration.Ticket, p migration.Reply) error {
	vm := t.VM()
	if p.PeerURI == "" {
		return unlocked("the destination names no address at which its libvirt listens: start its actuator with --peer-uri")
	}
	err := do(ctx, m.c, "end the probe", m.c.lim.Phase, func() error { return m.c.l.DomainDestroy(m.probe) })
	if err != nil && !isNotFound(err) {
		return err
	}
	params, flags := append([]lv.TypedParam(nil), m.params...), m.flags
	if p.URI != "" {
		params = append(params, text(lv.MigrateParamURI, p.URI))
	}
	if m.postCopy && p.NoPostCopy == "" {
		flags |= lv.MigratePostcopy
	}
	s.h.mark(m, true, false)
	_, err = call(ctx, m.c, "perform "+vm.String()+" peer to peer", maxPerform, func() ([]byte, error) {
		return m.c.l.DomainMigratePerform3Params(m.dom, lv.OptString{p.PeerURI}, params, nil, flags)
	})
	s.h.mark(m, false, false)
	s.h.end(s.h.out, vm)
	return err
}

// StartPostCopy lets the destination run at once and fetch what is left.
func (s *Source) StartPostCopy(ctx context.Context, vm schemas.VMID) error {
	m := s.h.session(s.h.out, vm)
	if m == nil {
		return refuse("post-copy of "+vm.String(), "no move of the VM is under way on this host")
	}
	return do(ctx, m.c, "post-copy of "+vm.String(), m.c.lim.Quick, func() error { return m.c.l.DomainMigrateStartPostCopy(m.dom, 0) })
}

// Prove tries to take the lease that the source holds: nil when that failed because it
// is taken, which proves that the disk lock of both hosts works.
func (d *Destination) Prove(ctx context.Context, lease string) error {
	c, err := connect(ctx, d.h.t, d.h.lim)
	if err != nil {
		return err
	}
	defer c.close() // the guest, if it did start, ends with it
	_, err = c.probe(ctx, lease)
	switch {
	case err == nil:
		return unlocked("a second guest with the same lease could start here: the two hosts do not lock disks against each other; %s", lockFix)
	case isRefused(err) && (strings.Contains(err.Error(), "resource busy") || strings.Contains(err.Error(), "is locked")):
		return nil
	case isRefused(err):
		return unlocked("whether disks are locked could not be tried here: %v; %s", err, mending(err))
	}
	return err
}

// TryLock makes the trial of a disk lock between the hosts behind two URIs: nil when it
// proves that they lock against each other.
func TryLock(ctx context.Context, from, to, lease string) error {
	a, err := Open(ctx, from)
	if err != nil {
		return err
	}
	defer a.Close() // and the guest that holds the lease with it
	b, err := Open(ctx, to)
	if err != nil {
		return err
	}
	defer b.Close()
	c, err := a.conn(ctx)
	if err != nil {
		return err
	}
	if _, err := c.probe(ctx, lease); err != nil {
		return fmt.Errorf("the lease could not be taken: %w", err)
	}
	return b.Destination("").Prove(ctx, lease)
}

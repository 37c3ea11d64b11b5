package lab

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/foreshift/foreshift/schemas"
)

// GuestSpec is what a guest should be and do. Only Name is needed.
type GuestSpec struct {
	Name   string
	ID     schemas.VMID  // default: random
	Memory schemas.Bytes // default 96 MiB; a guest with 64 MiB does not boot

	// WorkingSet is rewritten at DirtyRate, page by page, each page checked first.
	WorkingSet schemas.Bytes          // default 16 MiB
	DirtyRate  schemas.BytesPerSecond // default 2 MiB/s

	PostCopy bool // its owner allows post-copy

	// Load is the CPU the guest burns over its day, as "SECOND:PERCENT,..." of its
	// one vCPU, e.g. "0:10,30:10,45:60,60:60,65:10"; empty for none. The day is
	// Period long (default 72 s) and begins wherever Unix time is a multiple of it
	// plus Phase.
	Load   string
	Period time.Duration
	Phase  time.Duration

	// Beat is the time between heartbeats, default 10 ms: the precision to which a
	// downtime is seen. Under emulation a beat costs 1 to 3 ms of a core, for it
	// wakes the guest and its device, so a guest whose load matters beats slower.
	Beat time.Duration

	// Disk gives the guest a small disk in a directory that all hosts see, on which
	// it keeps a record that shows a second writer. QEMU's own lock is off for it
	// (shareable): what is to be seen is whether two copies run, not whether QEMU
	// would have stopped the second.
	Disk bool

	// Local, at least 4 MiB, puts that disk into the storage pool of its host alone,
	// of such a size, so that it has to be copied along.
	Local schemas.Bytes
}

// Guest is a VM of the lab.
type Guest struct {
	GuestSpec
	Address string
	Console string // file to which its serial console is appended
	Started time.Time
}

var (
	guestNames = regexp.MustCompile(`^[a-z][a-z0-9-]{0,31}$`)
	loadText   = regexp.MustCompile(`^[0-9.:,]*$`)
)

func (s GuestSpec) defaults() (GuestSpec, error) {
	if !guestNames.MatchString(s.Name) {
		return s, fmt.Errorf("guest name %q: want a lower-case letter and up to 31 letters, digits or '-'", s.Name)
	}
	if !loadText.MatchString(s.Load) || len(s.Load) > 1000 {
		return s, fmt.Errorf("guest %s: load %q: want SECOND:PERCENT,... of at most 1000 characters", s.Name, s.Load)
	}
	if s.ID.IsZero() {
		id, err := newUUID()
		if err != nil {
			return s, err
		}
		s.ID = id
	}
	if s.Memory == 0 {
		s.Memory = 96 << 20
	}
	if s.WorkingSet == 0 {
		s.WorkingSet = 16 << 20
	}
	if s.DirtyRate == 0 {
		s.DirtyRate = 2 << 20
	}
	if s.Period == 0 {
		s.Period = 72 * time.Second
	}
	if s.Beat == 0 {
		s.Beat = 10 * time.Millisecond
	}
	const spare = 72 << 20 // what the kernel, its RAM disk and the guest program need
	if s.Memory < s.WorkingSet+spare {
		return s, fmt.Errorf("guest %s: a working set of %.0f MiB needs %.0f MiB of memory, not %.0f", s.Name, s.WorkingSet/(1<<20), (s.WorkingSet+spare)/(1<<20), s.Memory/(1<<20))
	}
	return s, nil
}

// StartGuest defines and starts a VM on a host and returns when its first
// heartbeat is in: it has booted.
func (l *Lab) StartGuest(ctx context.Context, h *Host, spec GuestSpec) (*Guest, error) {
	spec, err := spec.defaults()
	if err != nil {
		return nil, fmt.Errorf("lab: %w", err)
	}
	l.mu.Lock()
	if len(l.guests) >= maxGuests {
		l.mu.Unlock()
		return nil, fmt.Errorf("lab: guest %s: there are %d guests already", spec.Name, maxGuests)
	}
	for _, g := range l.guests {
		if g.Name == spec.Name || g.ID == spec.ID {
			l.mu.Unlock()
			return nil, fmt.Errorf("lab: guest %s (%s) exists already", spec.Name, spec.ID)
		}
	}
	octet := l.nextAddr
	l.nextAddr++
	g := &Guest{GuestSpec: spec, Address: l.addr(octet).String(), Console: filepath.Join(l.consoleDir(), spec.Name+".log"), Started: time.Now()}
	l.guests = append(l.guests, g)
	l.mu.Unlock()

	if spec.Disk {
		file, content := l.diskFile(spec.Name), make([]byte, 1<<20)
		if spec.Local > 0 {
			file, content = h.LocalFile(spec.Name), localContent(spec.Local)
		}
		if err := os.WriteFile(file, content, 0o600); err != nil {
			return nil, fmt.Errorf("lab: guest %s: disk: %w", spec.Name, err)
		}
	}
	if l.cfg.Lock || l.cfg.IdleLock {
		if err := os.WriteFile(filepath.Join(l.LeaseDir(), leaseKey(spec.Name)), nil, 0o600); err != nil {
			return nil, fmt.Errorf("lab: guest %s: lease: %w", spec.Name, err)
		}
	}
	file := filepath.Join(h.dir, spec.Name+".xml")
	text, err := l.domainXML(g, octet)
	if err != nil {
		return nil, fmt.Errorf("lab: guest %s: %w", spec.Name, err)
	}
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		return nil, fmt.Errorf("lab: guest %s: %w", spec.Name, err)
	}
	if _, err := h.virsh(ctx, "define", file); err != nil {
		return nil, fmt.Errorf("lab: %w", err)
	}
	if _, err := h.virsh(ctx, "start", spec.Name); err != nil {
		return nil, fmt.Errorf("lab: %w", err)
	}
	if !poll(ctx, 120*time.Second, 50*time.Millisecond, func() bool { return l.Beats.Report(spec.Name).Synced }) {
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("lab: guest %s: wait for its heartbeat: %w", spec.Name, err)
		}
		return nil, fmt.Errorf("lab: guest %s: no heartbeat after 120 s; its console ends with: %s", spec.Name, g.Tail(800))
	}
	return g, nil
}

// domainTemplate is the part of libvirt's domain XML that the lab uses
// (https://libvirt.org/formatdomain.html).
const domainTemplate = `<domain type='qemu'>
  <name>%[1]s</name>
  <uuid>%[2]s</uuid>
%[12]s  <memory unit='KiB'>%[3]d</memory>
  <vcpu>1</vcpu>
  <os>
    <type arch='x86_64' machine='q35'>hvm</type>
    <kernel>%[4]s</kernel>
    <initrd>%[5]s</initrd>
    <cmdline>%[6]s</cmdline>
  </os>
  <features><acpi/></features>
  <cpu mode='custom' match='exact'><model fallback='forbid'>qemu64</model></cpu>
  <clock offset='utc'><timer name='hpet' present='no'/></clock>
  <on_poweroff>destroy</on_poweroff>
  <on_reboot>restart</on_reboot>
  <on_crash>destroy</on_crash>
  <devices>
    <emulator>%[7]s</emulator>
    <controller type='usb' model='none'/>
    <serial type='file'><source path='%[8]s' append='on'/><target port='0'/></serial>
    <interface type='bridge'>
      <source bridge='%[9]s'/>
      <mac address='%[10]s'/>
      <model type='virtio'/>
    </interface>
    <memballoon model='virtio'><stats period='1'/></memballoon>
%[11]s  </devices>
</domain>
`

// domainXML describes a guest to libvirt. Emulation (type qemu), since KVM is not
// to be relied on; the console is a file under a path that is the same on every
// host, so it goes on after a migration.
func (l *Lab) domainXML(g *Guest, octet byte) (string, error) {
	args := []string{
		"console=ttyS0", "quiet", "panic=0",
		// Under emulation each of these is dear: page table isolation flushes the
		// translated code's TLB at every system call, and any clock but the TSC is a
		// device. The guest runs nothing but its own program.
		"mitigations=off", "tsc=reliable", "clocksource=tsc", "no_timer_check",
		"lab.name=" + g.Name,
		fmt.Sprintf("lab.ip=%s/24", g.Address),
		fmt.Sprintf("lab.heartbeat=%s:%d", l.bridgeAddr(), heartbeatPort),
		fmt.Sprintf("lab.wss=%g", float64(g.WorkingSet)/(1<<20)),
		fmt.Sprintf("lab.rate=%g", float64(g.DirtyRate)/(1<<20)),
		fmt.Sprintf("lab.period=%g", g.Period.Seconds()),
		fmt.Sprintf("lab.phase=%g", g.Phase.Seconds()),
	}
	args = append(args, fmt.Sprintf("lab.beat=%g", float64(g.Beat)/float64(time.Millisecond)))
	if g.Load != "" {
		args = append(args, "lab.load="+g.Load)
	}
	disk := ""
	if g.Disk {
		args = append(args, "lab.disk=/dev/vda")
		disk = fmt.Sprintf(diskTemplate, l.diskFile(g.Name), "<shareable/>")
		if g.Local > 0 {
			disk = fmt.Sprintf(diskTemplate, localPool+"/"+g.Name+".img", "")
		}
	}
	if l.cfg.Lock || l.cfg.IdleLock { // a lock of its own: the disk is shareable, so that locks on it keep nobody out
		disk += fmt.Sprintf("    <lease><lockspace>%s</lockspace><key>%s</key><target path='%s'/></lease>\n", filepath.Base(l.LeaseDir()), leaseKey(g.Name), filepath.Dir(l.LeaseDir()))
	}
	labels := ""
	if g.PostCopy {
		labels = postCopyLabel
	}
	id := l.rec.ID
	mac := fmt.Sprintf("52:54:00:%s:%s:%02x", id[:2], id[2:], octet)
	texts := []string{filepath.Join(l.guestDir(), "vmlinuz"), filepath.Join(l.guestDir(), "initrd.gz"), strings.Join(args, " "), g.Console}
	for i, t := range texts {
		var b bytes.Buffer
		if err := xml.EscapeText(&b, []byte(t)); err != nil {
			return "", err
		}
		texts[i] = b.String()
	}
	return fmt.Sprintf(domainTemplate, g.Name, g.ID, int64(g.Memory)>>10, texts[0], texts[1], texts[2], emulator, texts[3], guestBridge, mac, disk, labels), nil
}

// postCopyLabel is the label by which a VM's owner allows post-copy.
const postCopyLabel = "  <metadata><f:labels xmlns:f='urn:foreshift:labels'><f:label key='post-copy' value='yes'/></f:labels></metadata>\n"

// diskTemplate: no cache of the host's lies between the guest and the shared file.
const diskTemplate = `    <disk type='file' device='disk'>
      <driver name='qemu' type='raw' cache='none'/>
      <source file='%s'/>
      <target dev='vda' bus='virtio'/>
      %s
    </disk>
`

func leaseKey(guest string) string { return "guest-" + guest }

func (l *Lab) diskFile(guest string) string { return filepath.Join(l.Dir, "disks", guest+".img") }

// RemoveGuest ends a guest on every host and forgets it, so that its name is free.
func (l *Lab) RemoveGuest(ctx context.Context, g *Guest) error {
	var errs []error
	for _, h := range l.Hosts {
		all, err := h.Domains(ctx)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if !slices.Contains(all, g.ID) {
			continue
		}
		if l.stateOn(ctx, h, g.ID) != StateOff {
			if _, err := h.Virsh(ctx, "destroy", g.ID.String()); err != nil && slices.Contains([]State{StateRunning, StatePaused}, l.stateOn(ctx, h, g.ID)) {
				errs = append(errs, err)
			}
		}
		if l.stateOn(ctx, h, g.ID) == StateAbsent {
			continue // it was transient
		}
		if _, err := h.Virsh(ctx, "undefine", g.ID.String()); err != nil {
			errs = append(errs, err)
		}
	}
	for _, h := range l.Hosts {
		if g.Local > 0 {
			errs = append(errs, os.RemoveAll(h.LocalFile(g.Name)))
		}
	}
	l.mu.Lock()
	l.guests = slices.DeleteFunc(l.guests, func(x *Guest) bool { return x == g })
	l.mu.Unlock()
	l.Beats.Forget(g.Name)
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("lab: remove guest %s: %w", g.Name, err)
	}
	return nil
}

// Tail is the end of the guest's console, at most n bytes.
func (g *Guest) Tail(n int) string {
	b, err := os.ReadFile(g.Console)
	if err != nil {
		return err.Error()
	}
	return strings.ToValidUTF8(string(b[max(0, len(b)-n):]), "?")
}

package actuator

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/foreshift/foreshift/actuator/migration"
	"github.com/foreshift/foreshift/schemas"
)

// PeerConfig lets libvirt lead the moves of a host, peer to peer, under a disk lock.
// Every such move begins with a trial of the lock between its two hosts, and the lock
// daemon is watched until it ends: killed, it loses its locks and nobody says so.
type PeerConfig struct {
	URI    string         // where the source's libvirt reaches this host's: qemu+tls://HOST/system
	Leases string         // the file_lockspace_dir of qemu-lockd.conf, shared by all hosts: there the trial's leases are
	Daemon string         // pid file of virtlockd or of sanlock
	Site   schemas.SiteID // of this host; post-copy never crosses sites, nor goes where the site is not known

	born func(schemas.VMID) (uint64, error) // nil: qemuBorn
}

// DefaultLockDaemon is virtlockd's pid file.
const DefaultLockDaemon = "/run/virtlockd.pid"

var lockDaemons = []string{"virtlockd", "sanlock"}

func (c *PeerConfig) validate() error {
	var errs []error
	if c.URI == "" {
		errs = append(errs, errors.New("peer to peer: no URI at which this host's libvirt listens; for example qemu+tls://host/system"))
	}
	if !filepath.IsAbs(c.Leases) {
		errs = append(errs, fmt.Errorf("peer to peer: leases: %q is not an absolute path; it is the file_lockspace_dir of qemu-lockd.conf, which all hosts share", c.Leases))
	}
	return errors.Join(errs...)
}

// Running names the lock daemon that runs on this host, or says why none does.
func (c *PeerConfig) Running() (string, error) {
	d, err := c.daemon()
	if err != nil {
		return "", err
	}
	return d.String(), nil
}

// lockDaemon is one running daemon: one that comes after it is another.
type lockDaemon struct {
	name  string
	pid   int
	since uint64 // clock ticks after the machine's start
}

func (d lockDaemon) String() string { return fmt.Sprintf("%s %d since %d", d.name, d.pid, d.since) }

// daemon finds the lock daemon that runs now.
func (c *PeerConfig) daemon() (lockDaemon, error) {
	var none lockDaemon
	file := c.Daemon
	if file == "" {
		file = DefaultLockDaemon
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return none, fmt.Errorf("the lock daemon does not run: %w", err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil || pid <= 1 {
		return none, fmt.Errorf("the lock daemon's %s holds %.20q", file, b)
	}
	name, since, err := process(pid)
	if err != nil {
		return none, fmt.Errorf("the lock daemon %d: %w", pid, err)
	}
	if !slices.Contains(lockDaemons, name) {
		return none, fmt.Errorf("process %d of %s is %q, which is no lock daemon", pid, file, name)
	}
	return lockDaemon{name, pid, since}, nil
}

var errEnded = errors.New("it has ended")

// process gives a running process's name and when it started, in clock ticks after the
// machine did.
func process(pid int) (name string, since uint64, err error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", 0, errEnded
	}
	// pid (comm) state ...; the 22nd field is when it started (proc(5)).
	open, shut := strings.IndexByte(string(stat), '('), strings.LastIndexByte(string(stat), ')')
	if open < 0 || shut < open {
		return "", 0, errors.New("it cannot be looked at")
	}
	rest := strings.Fields(string(stat[shut+1:]))
	if len(rest) < 20 || rest[0] == "Z" {
		return "", 0, errEnded
	}
	if since, err = strconv.ParseUint(rest[19], 10, 64); err != nil {
		return "", 0, fmt.Errorf("its start: %w", err)
	}
	return string(stat[open+1 : shut]), since, nil
}

// qemuBorn says when the QEMU of a VM started: the oldest, should there be several.
func qemuBorn(vm schemas.VMID) (born uint64, err error) {
	dirs, err := os.ReadDir("/proc")
	if err != nil {
		return 0, err
	}
	mark := []byte("\x00-uuid\x00" + vm.String() + "\x00")
	found := false
	for _, d := range dirs {
		pid, err := strconv.Atoi(d.Name())
		if err != nil {
			continue
		}
		line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if err != nil || !bytes.Contains(line, mark) {
			continue // it went, or is another
		}
		if _, since, err := process(pid); err == nil && (!found || since < born) {
			born, found = since, true
		}
	}
	if !found {
		return 0, fmt.Errorf("no QEMU process of %s is seen", vm)
	}
	return born, nil
}

const lockDaemonFix = "systemctl enable --now virtlockd.socket virtlockd.service, or use the default handover"

// lockState is zero while the lock daemon runs from which a VM of this host took its
// lock. A daemon that came later knows nothing of it, though it passes every trial.
func (c *PeerConfig) lockState(vm schemas.VMID) schemas.Reason {
	d, err := c.daemon()
	if err != nil {
		return schemas.Reason{Code: schemas.ReasonLock, Detail: err.Error() + "; " + lockDaemonFix}
	}
	look := c.born
	if look == nil {
		look = qemuBorn
	}
	born, err := look(vm)
	switch {
	case err != nil:
		return schemas.Reason{Code: schemas.ReasonLock, Detail: "whether the VM holds its lock cannot be told: " + err.Error() + "; use the default handover"}
	case born < d.since:
		return schemas.Reason{Code: schemas.ReasonLock, Detail: fmt.Sprintf("%s %d started after the VM, whose lock went with the one before: shut the VM down and start it, or use the default handover", d.name, d.pid)}
	}
	return schemas.Reason{}
}

// heldFor is held for the host at which the VM runs.
func (c *PeerConfig) heldFor(vm schemas.VMID) func() schemas.Reason {
	held := c.held() // first: a daemon that ends from here on is missed
	own := c.lockState(vm)
	return func() schemas.Reason {
		if !own.OK() {
			return own
		}
		return held()
	}
}

// held gives a function that says whether the lock daemon of this moment still runs.
func (c *PeerConfig) held() func() schemas.Reason {
	first, err := c.daemon()
	return func() schemas.Reason {
		now, again := c.daemon()
		if e := errors.Join(err, again); e != nil {
			return schemas.Reason{Code: schemas.ReasonLock, Detail: e.Error() + "; " + lockDaemonFix}
		}
		if now != first {
			return schemas.Reason{Code: schemas.ReasonLock, Detail: fmt.Sprintf("the lock daemon was %s and is %s: its locks are lost", first, now)}
		}
		return schemas.Reason{}
	}
}

func (c *PeerConfig) lease(vm schemas.VMID) string {
	return filepath.Join(c.Leases, "foreshift-"+vm.String())
}

// end removes the lease of a move's trial.
func (c *PeerConfig) end(vm schemas.VMID) error {
	if err := os.Remove(c.lease(vm)); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// lead makes the lease of a move's trial.
func (c *PeerConfig) lead(vm schemas.VMID) (*schemas.PeerLead, error) {
	lease := c.lease(vm)
	f, err := os.OpenFile(lease, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, &migration.Refusal{Why: schemas.Reason{Code: schemas.ReasonLock, Detail: "the lease of the trial: " + err.Error()}}
	}
	if err := f.Close(); err != nil {
		return nil, &migration.Refusal{Why: schemas.Reason{Code: schemas.ReasonLock, Detail: "the lease of the trial: " + err.Error()}}
	}
	return &schemas.PeerLead{Lease: lease, Site: c.Site}, nil
}

// proof is what a destination knows of its lock for one move.
type proof struct {
	epoch uint64
	held  func() schemas.Reason
}

// prove tries the lock for a peer-to-peer move, once; zero when it has been proven.
func (r *Receiver) prove(t migration.Ticket, try func() error) schemas.Reason {
	vm := t.VM()
	if r.peer == nil {
		return schemas.Reason{Code: schemas.ReasonLock, Detail: "this host takes no peer-to-peer moves: start its actuator with --handover p2p, or the source's without"}
	}
	r.mu.Lock()
	p, ok := r.proofs[vm]
	r.mu.Unlock()
	if ok && p.epoch == t.Epoch {
		return p.held()
	}
	p = proof{t.Epoch, r.peer.held()}
	if why := p.held(); !why.OK() {
		return why
	}
	if err := try(); err != nil {
		return migration.ReasonOf(err)
	}
	r.mu.Lock()
	r.proofs[vm] = p
	r.mu.Unlock()
	return p.held()
}

// locked adds to a reply what a peer-to-peer move has to know of this host.
func (r *Receiver) locked(t migration.Ticket, lead *schemas.PeerLead, reply *migration.Reply) {
	r.mu.Lock()
	p, ok := r.proofs[t.VM()]
	r.mu.Unlock()
	if ok && p.epoch == t.Epoch {
		reply.Lock = p.held()
	}
	if lead == nil || r.peer == nil {
		return
	}
	reply.PeerURI = r.peer.URI
	if r.address != "" {
		reply.URI = "tcp://" + r.address
	}
	switch {
	case lead.Site == "" || r.peer.Site == "":
		reply.NoPostCopy = "it is not known at which sites the two hosts are"
	case lead.Site != r.peer.Site:
		reply.NoPostCopy = fmt.Sprintf("the move goes from site %s to site %s: a link that is cut would lose the VM", lead.Site, r.peer.Site)
	}
}

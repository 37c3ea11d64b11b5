package actuator

import (
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
func (c *PeerConfig) Running() (string, error) { return c.daemon() }

// daemon names the lock daemon that runs now, so that another one, later, is known as
// another.
func (c *PeerConfig) daemon() (string, error) {
	file := c.Daemon
	if file == "" {
		file = DefaultLockDaemon
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("the lock daemon does not run: %w", err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil || pid <= 1 {
		return "", fmt.Errorf("the lock daemon's %s holds %.20q", file, b)
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", fmt.Errorf("the lock daemon %d has ended", pid)
	}
	// pid (comm) state ...; the 22nd field is when it started (proc(5)).
	open, shut := strings.IndexByte(string(stat), '('), strings.LastIndexByte(string(stat), ')')
	if open < 0 || shut < open {
		return "", fmt.Errorf("the lock daemon %d cannot be looked at", pid)
	}
	name, rest := string(stat[open+1:shut]), strings.Fields(string(stat[shut+1:]))
	if !slices.Contains(lockDaemons, name) {
		return "", fmt.Errorf("process %d of %s is %q, which is no lock daemon", pid, file, name)
	}
	if len(rest) < 20 || rest[0] == "Z" {
		return "", fmt.Errorf("the lock daemon %d has ended", pid)
	}
	return fmt.Sprintf("%s %d since %s", name, pid, rest[19]), nil
}

const lockDaemonFix = "systemctl enable --now virtlockd.socket virtlockd.service, or use the default handover"

// lockState is zero while a lock daemon runs.
func (c *PeerConfig) lockState() schemas.Reason {
	if _, err := c.daemon(); err != nil {
		return schemas.Reason{Code: schemas.ReasonLock, Detail: err.Error() + "; " + lockDaemonFix}
	}
	return schemas.Reason{}
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

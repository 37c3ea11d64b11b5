package lab

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"sync"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/foreshift/foreshift/schemas"
)

// Config describes a lab. The zero value is a good one.
type Config struct {
	// Dir is the lab's own directory; it is made, and removed with the lab. Default
	// /var/lib/foreshift-lab/default. Two labs may run side by side in two
	// directories.
	Dir string
	// Cache outlives the lab; default [DefaultCache].
	Cache string
	// Hosts, default three: h1, h2 and h3, all of the capacity below.
	Hosts []HostConfig
	// Capacity is declared for each host that names none; default 2 cores, 2 GiB.
	Capacity schemas.Amounts
	// Lock gives every host a virtlockd, and has libvirt lock disks with it.
	Lock bool
	// IdleLock gives every host a virtlockd and every guest its lease as Lock does, and
	// leaves libvirt untold: all looks as if disks were locked, and nothing is.
	IdleLock bool
	// Bare makes the network alone, without hypervisors: for what lies between hosts.
	// It installs nothing.
	Bare bool
	// Progress hears what is being done; may be nil.
	Progress func(string)
}

// HostConfig is one host to make.
type HostConfig struct {
	Name     string // host name; default h1, h2, ...
	ID       schemas.HostID
	Site     schemas.SiteID
	Capacity schemas.Amounts
}

// maxHosts and maxGuests bound a lab: it is one machine.
const (
	maxHosts  = 8
	maxGuests = 100
)

// registry holds one file per lab of this boot, written before anything is made,
// so that leftovers of a killed run can be found. It is under /run because what it
// tells of does not outlive a boot either.
const registry = "/run/foreshift-lab"

// marker is the file that shows a directory to be a lab's own, hence removable.
const marker = ".foreshift-lab"

// record is the content of a registry file.
type record struct {
	ID      string   `json:"id"`
	Dir     string   `json:"dir"`
	Owner   int      `json:"owner_pid"`
	Started string   `json:"owner_started"` // by /proc, so that a reused pid is told apart
	Hosts   []string `json:"hosts"`         // network namespaces
	Links   []string `json:"links"`
}

// Lab is a running lab.
type Lab struct {
	Hosts []*Host
	// Beats is the record of the guests' heartbeats.
	Beats *Heartbeats
	// Dir is the lab's directory.
	Dir string

	cfg      Config
	rec      record
	subnet   netip.Prefix
	mu       sync.Mutex
	guests   []*Guest
	nextAddr byte
}

var hostNames = regexp.MustCompile(`^[a-z][a-z0-9]{0,7}$`)

// defaults fills what was left out and checks the rest.
func (c Config) defaults() (Config, error) {
	if c.Dir == "" {
		c.Dir = "/var/lib/foreshift-lab/default"
	}
	if c.Cache == "" {
		c.Cache = DefaultCache
	}
	if c.Progress == nil {
		c.Progress = func(string) {}
	}
	if c.Capacity == (schemas.Amounts{}) {
		c.Capacity = schemas.Amounts{CPU: 2000, Mem: 2 << 30}
	}
	if len(c.Hosts) == 0 {
		c.Hosts = make([]HostConfig, 3)
	}
	if len(c.Hosts) > maxHosts {
		return c, fmt.Errorf("%d hosts, at most %d", len(c.Hosts), maxHosts)
	}
	c.Hosts = append([]HostConfig{}, c.Hosts...)
	seen := map[string]bool{}
	for i := range c.Hosts {
		h := &c.Hosts[i]
		if h.Name == "" {
			h.Name = fmt.Sprintf("h%d", i+1)
		}
		if h.ID == "" {
			h.ID = schemas.HostID("lab-" + string(rune('a'+i)))
		}
		if h.Site == "" {
			h.Site = "lab"
		}
		if h.Capacity == (schemas.Amounts{}) {
			h.Capacity = c.Capacity
		}
		if !hostNames.MatchString(h.Name) {
			return c, fmt.Errorf("host name %q: want a lower-case letter and up to 7 letters or digits", h.Name)
		}
		if err := schemas.CheckToken("host id", string(h.ID)); err != nil {
			return c, err
		}
		if seen[h.Name] || seen[string(h.ID)] {
			return c, fmt.Errorf("host %s (%s) is named twice", h.Name, h.ID)
		}
		seen[h.Name], seen[string(h.ID)] = true, true
	}
	dir, err := filepath.Abs(c.Dir)
	if err != nil {
		return c, err
	}
	c.Dir = dir
	// A UNIX socket's path has at most 107 bytes (unix(7)).
	if longest := filepath.Join(dir, "hosts", "12345678", "run", "libvirt-sock-ro"); len(longest) > 107 {
		return c, fmt.Errorf("directory %s is too long for a socket below it: at most %d bytes", dir, 107-len(longest)+len(dir))
	}
	return c, nil
}

// Up installs what is missing and starts the hosts. A lab left in the same
// directory by a process that is gone is cleaned first; one whose process lives is
// an error. If Up fails, what it had made is removed again.
func Up(ctx context.Context, cfg Config) (*Lab, error) {
	cfg, err := cfg.defaults()
	if err != nil {
		return nil, fmt.Errorf("lab: %w", err)
	}
	if os.Geteuid() != 0 {
		return nil, ErrNotRoot
	}
	if !cfg.Bare {
		if err := install(ctx, cfg.Cache, cfg.Progress); err != nil {
			return nil, err
		}
	}
	l := &Lab{Dir: cfg.Dir, cfg: cfg, nextAddr: firstGuest}
	if err := l.register(); err != nil {
		return nil, fmt.Errorf("lab: %w", err)
	}
	if err := l.start(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("lab: %w", err), l.Down(ctx))
	}
	return l, nil
}

func (l *Lab) start(ctx context.Context) error {
	l.cfg.Progress(fmt.Sprintf("starting %d hosts in %s", len(l.Hosts), l.Dir))
	if !l.cfg.Bare {
		if err := l.prepareDir(); err != nil {
			return err
		}
	}
	if err := l.makeNetwork(); err != nil {
		return err
	}
	beats, err := ListenHeartbeats(netip.AddrPortFrom(l.bridgeAddr(), heartbeatPort).String())
	if err != nil {
		return err
	}
	l.Beats = beats
	if l.cfg.Bare {
		return l.waitReachable(ctx)
	}
	if err := l.startHosts(ctx); err != nil {
		return err
	}
	return l.waitReachable(ctx)
}

// register chooses the lab's id and writes down what it is going to make.
func (l *Lab) register() error {
	if err := os.MkdirAll(registry, 0o755); err != nil {
		return err
	}
	unlock, err := lockFile(filepath.Join(registry, "lock"))
	if err != nil {
		return err
	}
	defer unlock()
	all, err := records()
	if err != nil {
		return err
	}
	taken := map[string]bool{}
	for _, r := range all {
		if r.Dir == l.Dir {
			if r.alive() {
				return fmt.Errorf("a lab already runs in %s (process %d)", r.Dir, r.Owner)
			}
			if err := r.remove(l.cfg.Progress); err != nil {
				return fmt.Errorf("clean up after process %d: %w", r.Owner, err)
			}
			continue
		}
		taken[r.ID] = true
	}
	if err := claimDir(l.Dir); err != nil {
		return err
	}
	id := ""
	for n := uint64(0); id == ""; n++ {
		if c := fmt.Sprintf("%04x", (xxhash.Sum64String(l.Dir)+n)&0xffff); !taken[c] {
			id = c
		}
	}
	l.rec = record{ID: id, Dir: l.Dir, Owner: os.Getpid(), Started: processStart(os.Getpid()), Links: []string{"fsl" + id + "br"}}
	for i, h := range l.cfg.Hosts {
		link := fmt.Sprintf("fsl%s%c", id, 'a'+i)
		l.rec.Hosts = append(l.rec.Hosts, fmt.Sprintf("fslab-%s-%s", id, h.Name))
		l.rec.Links = append(l.rec.Links, link)
		dir := filepath.Join(l.Dir, "hosts", h.Name)
		uuid, err := newUUID()
		if err != nil {
			return err
		}
		socket := filepath.Join(dir, "run", "libvirt-sock")
		l.Hosts = append(l.Hosts, &Host{
			ID: h.ID, Name: h.Name, Site: h.Site, Capacity: h.Capacity, UUID: uuid,
			Socket: socket, URI: "qemu+unix:///system?socket=" + socket,
			dir: dir, netns: l.rec.Hosts[i], link: link, drivers: filepath.Join(l.Dir, "drivers"),
		})
	}
	b, err := json.Marshal(l.rec)
	if err != nil {
		return err
	}
	return os.WriteFile(l.rec.path(), b, 0o644)
}

// Down stops the guests and hosts and removes all that the lab made, the directory
// included. It may be called more than once, and with a context that has ended: what
// was made must go.
func (l *Lab) Down(ctx context.Context) error {
	ctx = context.WithoutCancel(ctx)
	var errs []error
	if l.Beats != nil {
		errs = append(errs, l.Beats.Close())
	}
	l.saveCapabilities()
	errs = append(errs, l.rec.remove(l.cfg.Progress))
	for _, h := range l.Hosts {
		errs = append(errs, h.reap(ctx))
		if h.locks != nil {
			_ = h.locks.Wait() // killed with all that ran in the host
			h.locks = nil
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("lab down: %w", err)
	}
	return nil
}

// Clean removes the labs whose process is gone, and with all set those that still
// run too. It says which directories it cleaned.
func Clean(ctx context.Context, all bool, progress func(string)) ([]string, error) {
	if os.Geteuid() != 0 {
		return nil, ErrNotRoot
	}
	if progress == nil {
		progress = func(string) {}
	}
	if _, err := os.Stat(registry); os.IsNotExist(err) {
		return nil, nil
	}
	unlock, err := lockFile(filepath.Join(registry, "lock"))
	if err != nil {
		return nil, fmt.Errorf("lab clean: %w", err)
	}
	defer unlock()
	recs, err := records()
	if err != nil {
		return nil, fmt.Errorf("lab clean: %w", err)
	}
	var cleaned []string
	var errs []error
	for _, r := range recs {
		if ctx.Err() != nil {
			errs = append(errs, ctx.Err())
			break
		}
		if r.alive() && !all {
			continue
		}
		if err := r.remove(progress); err != nil {
			errs = append(errs, fmt.Errorf("lab clean %s: %w", r.Dir, err))
			continue
		}
		cleaned = append(cleaned, r.Dir)
	}
	return cleaned, errors.Join(errs...)
}

// Host finds a host by id or name.
func (l *Lab) Host(id string) (*Host, error) {
	for _, h := range l.Hosts {
		if string(h.ID) == id || h.Name == id {
			return h, nil
		}
	}
	return nil, fmt.Errorf("lab: no host %q", id)
}

// newUUID is a random UUID (RFC 9562, version 4).
func newUUID() (schemas.VMID, error) {
	var v schemas.VMID
	if _, err := rand.Read(v[:]); err != nil {
		return v, fmt.Errorf("random UUID: %w", err)
	}
	v[6] = v[6]&0x0f | 0x40
	v[8] = v[8]&0x3f | 0x80
	return v, nil
}

// poll calls done until it is true or the time is over.
func poll(ctx context.Context, within, every time.Duration, done func() bool) bool {
	deadline := time.Now().Add(within)
	for {
		if done() {
			return true
		}
		if time.Now().After(deadline) {
			return false
		}
		select {
		case <-ctx.Done():
			return false
		case <-time.After(every):
		}
	}
}

// StateDir is a directory below the lab's own for what belongs to it; it goes with
// the lab.
func (l *Lab) StateDir() string { return filepath.Join(l.Dir, "state") }

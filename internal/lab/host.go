package lab

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/foreshift/foreshift/schemas"
)

// Host is one hypervisor of the lab.
type Host struct {
	ID       schemas.HostID
	Name     string
	Site     schemas.SiteID
	Capacity schemas.Amounts // declared: the hosts share one kernel
	UUID     schemas.VMID    // libvirt's host_uuid; two hosts with one refuse to migrate
	Address  string          // on the lab's network; migrations come in here
	Socket   string          // libvirtd's UNIX socket, reachable from outside
	URI      string          // qemu+unix:///system?socket=...

	dir, netns, link, drivers string

	mu     sync.Mutex
	locks  *exec.Cmd // virtlockd
	daemon *exec.Cmd
	ended  chan struct{} // closed when daemon has ended
}

// libvirtDirs are the places libvirtd uses, each bound to the host's own.
var libvirtDirs = [][2]string{{"etc", "/etc/libvirt"}, {"var", "/var/lib/libvirt"}, {"log", "/var/log/libvirt"}, {"cache", "/var/cache/libvirt"}, {"run", "/run/libvirt"}}

// drivers are what the lab loads of libvirt's connection drivers; the others want
// services (udev, D-Bus) that a namespace has not.
var drivers = []string{"qemu", "storage", "secret", "network"}

func driverSource(name string) string {
	return "/usr/lib/x86_64-linux-gnu/libvirt/connection-driver/libvirt_driver_" + name + ".so"
}

// prepareDir lays out the lab's directory.
func (l *Lab) prepareDir() error {
	driverDir := filepath.Join(l.Dir, "drivers")
	for _, d := range []string{driverDir, l.LeaseDir(), l.guestDir(), l.consoleDir(), filepath.Join(l.Dir, "disks")} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return err
		}
	}
	for _, d := range drivers {
		if err := os.Symlink(driverSource(d), filepath.Join(driverDir, filepath.Base(driverSource(d)))); err != nil {
			return err
		}
	}
	// The guest's kernel is copied: a migration's destination loads the very file
	// that the source booted, whatever the cache holds by then.
	for from, to := range map[string]string{"kernel/vmlinuz": "vmlinuz", "initrd.gz": "initrd.gz"} {
		if err := copyFile(filepath.Join(l.cfg.Cache, from), filepath.Join(l.guestDir(), to)); err != nil {
			return err
		}
	}
	var hosts strings.Builder
	hosts.WriteString("127.0.0.1 localhost\n")
	for i, h := range l.Hosts {
		fmt.Fprintf(&hosts, "10.0.0.%d %s\n", i+1, h.Name) // names only: migrations go by address
	}
	for _, h := range l.Hosts {
		for _, d := range libvirtDirs {
			if err := os.MkdirAll(filepath.Join(h.dir, d[0]), 0o755); err != nil {
				return err
			}
		}
		if err := os.WriteFile(filepath.Join(h.dir, "hosts"), []byte(hosts.String()), 0o644); err != nil {
			return err
		}
	}
	for _, d := range libvirtDirs { // mount points
		if err := os.MkdirAll(d[1], 0o755); err != nil {
			return err
		}
	}
	return nil
}

func (l *Lab) guestDir() string   { return filepath.Join(l.Dir, "guest") }
func (l *Lab) consoleDir() string { return filepath.Join(l.Dir, "consoles") }

// writeConfig writes libvirtd.conf and qemu.conf. There is no TCP listener: every
// phase of a migration is a call on a host's own socket.
func (h *Host) writeConfig() error {
	libvirtdConf := fmt.Sprintf(`listen_tls = 0
listen_tcp = 0
auth_unix_rw = "none"
unix_sock_rw_perms = "0700"
host_uuid = "%s"
max_clients = 200
max_workers = 20
prio_workers = 5
keepalive_interval = 2
keepalive_count = 3
log_level = 3
log_outputs = "3:file:/var/log/libvirt/libvirtd.log"
`, h.UUID)
	qemuConf := fmt.Sprintf(`user = "root"
group = "root"
dynamic_ownership = 0
remember_owner = 0
security_driver = "none"
stdio_handler = "file"
cgroup_controllers = [ ]
namespaces = [ ]
seccomp_sandbox = 0
migration_address = "0.0.0.0"
migration_host = "%s"
migration_port_min = 49152
migration_port_max = 49215
keepalive_interval = 2
keepalive_count = 3
`, h.Address)
	if err := os.WriteFile(filepath.Join(h.dir, "etc", "libvirtd.conf"), []byte(libvirtdConf), 0o644); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(h.dir, "etc", "qemu.conf"), []byte(qemuConf), 0o644)
}

// startHosts starts every libvirtd. The probe of QEMU's capabilities takes seconds,
// so its result is kept in the cache; without it the first host probes alone and
// the others take over what it found.
func (l *Lab) startHosts(ctx context.Context) error {
	warm := l.loadCapabilities(l.Hosts...)
	for i, h := range l.Hosts {
		if err := h.writeConfig(); err != nil {
			return fmt.Errorf("host %s: %w", h.Name, err)
		}
		if !warm && i == 1 {
			l.loadCapabilities(l.Hosts[1:]...)
		}
		if l.cfg.Lock {
			if err := h.lockConfig(l.LeaseDir()); err != nil {
				return fmt.Errorf("host %s: %w", h.Name, err)
			}
		}
		if l.cfg.Lock || l.cfg.IdleLock {
			if err := h.StartLock(ctx); err != nil {
				return err
			}
		}
		if err := h.start(ctx); err != nil {
			return err
		}
		if err := h.definePool(ctx); err != nil {
			return err
		}
		if !warm && i == 0 {
			l.cfg.Progress("probing QEMU's capabilities (once)")
			if _, err := h.virsh(ctx, "capabilities"); err != nil {
				return err
			}
			l.saveCapabilities()
		}
	}
	return nil
}

// start runs libvirtd in the host's namespaces and waits until it answers.
func (h *Host) start(ctx context.Context) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.daemon != nil {
		return fmt.Errorf("host %s: libvirtd runs already", h.Name)
	}
	// A stale pid file or socket of a killed daemon is replaced by libvirtd itself.
	cmd := exec.Command(libvirtd, "--pid-file", "/run/libvirt/libvirtd.pid")
	cmd.Env = append(os.Environ(), "LIBVIRT_DRIVER_DIR="+h.drivers)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // a Ctrl-C is for us: we stop it in order
	out, err := os.OpenFile(filepath.Join(h.dir, "libvirtd.out"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return fmt.Errorf("host %s: %w", h.Name, err)
	}
	defer out.Close()
	cmd.Stdout, cmd.Stderr = out, out
	if err := onThread(func() error { return h.enterAndStart(cmd) }); err != nil {
		return fmt.Errorf("host %s: %w", h.Name, err)
	}
	ended := make(chan struct{})
	h.daemon, h.ended = cmd, ended
	go func() {
		_ = cmd.Wait() // how it ended is in its log
		close(ended)
	}()
	ok := poll(ctx, 30*time.Second, 20*time.Millisecond, func() bool {
		select {
		case <-ended:
			return true
		default:
		}
		c, err := net.DialTimeout("unix", h.Socket, time.Second)
		if err != nil {
			return false
		}
		c.Close()
		return true
	})
	select {
	case <-ended:
		h.daemon = nil
		return fmt.Errorf("host %s: libvirtd ended at once: %s", h.Name, h.logTail())
	default:
	}
	if !ok {
		return fmt.Errorf("host %s: libvirtd does not listen on %s: %s", h.Name, h.Socket, h.logTail())
	}
	if _, err := h.virsh(ctx, "hostname"); err != nil {
		return err
	}
	return nil
}

// enterAndStart starts cmd in the host's network namespace and in mount and
// host-name namespaces of its own, with the host's directories bound over
// libvirt's. It must run on a thread of its own: see [onThread].
func (h *Host) enterAndStart(cmd *exec.Cmd) error {
	ns, err := os.Open(h.netnsPath())
	if err != nil {
		return err
	}
	defer ns.Close()
	if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("enter network namespace %s: %w", h.netns, err)
	}
	if err := unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_NEWUTS); err != nil {
		return fmt.Errorf("new mount and host-name namespaces: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := unix.Sethostname([]byte(h.Name)); err != nil {
		return fmt.Errorf("set host name: %w", err)
	}
	binds := libvirtDirs
	if _, err := os.Stat("/etc/hosts"); err == nil { // a bare image may have none; nothing hangs on names
		binds = append([][2]string{{"hosts", "/etc/hosts"}}, binds...)
	}
	for _, b := range binds {
		if err := unix.Mount(filepath.Join(h.dir, b[0]), b[1], "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("bind %s: %w", b[1], err)
		}
	}
	if err := h.hideKVM(); err != nil {
		return err
	}
	if realTimeAllowed() {
		if err := setRealTime(0); err != nil {
			return err
		}
	}
	return cmd.Start()
}

// hideKVM covers /dev/kvm with a file that nobody can write. The lab's guests are
// emulated; with the device in sight libvirt would describe what KVM can run, which
// is not what these hosts do with their guests.
func (h *Host) hideKVM() error {
	const device = "/dev/kvm"
	if _, err := os.Stat(device); err != nil {
		return nil // there is none
	}
	cover := filepath.Join(h.dir, "no-kvm")
	if err := os.WriteFile(cover, nil, 0o400); err != nil {
		return err
	}
	if err := unix.Mount(cover, device, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("cover %s: %w", device, err)
	}
	if err := unix.Mount("", device, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, ""); err != nil {
		return fmt.Errorf("cover %s: %w", device, err)
	}
	return nil
}

// logTail is the end of what libvirtd said, for an error.
func (h *Host) logTail() string {
	var all strings.Builder
	for _, f := range []string{filepath.Join(h.dir, "libvirtd.out"), filepath.Join(h.dir, "log", "libvirtd.log")} {
		if b, err := os.ReadFile(f); err == nil {
			all.Write(b[max(0, len(b)-1000):])
		}
	}
	return strings.TrimSpace(all.String())
}

// reap waits for a daemon that has been killed.
func (h *Host) reap(ctx context.Context) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.daemon == nil {
		return nil
	}
	select {
	case <-h.ended:
		h.daemon = nil
		return nil
	case <-ctx.Done():
		return fmt.Errorf("host %s: wait for libvirtd: %w", h.Name, ctx.Err())
	case <-time.After(10 * time.Second):
		return fmt.Errorf("host %s: libvirtd does not end", h.Name)
	}
}

func (h *Host) capabilityDir() string { return filepath.Join(h.dir, "cache", "qemu", "capabilities") }

// loadCapabilities gives hosts the cached result of probing QEMU; false without one.
// libvirt checks it against the binaries and drops it when they have changed.
func (l *Lab) loadCapabilities(hosts ...*Host) bool {
	from := filepath.Join(l.cfg.Cache, "capabilities")
	for _, h := range hosts {
		if n, err := copyDir(from, h.capabilityDir()); err != nil || n == 0 {
			return false
		}
	}
	return true
}

// saveCapabilities keeps what the first host knows of QEMU. Failing costs a probe
// the next time and nothing else.
func (l *Lab) saveCapabilities() {
	if len(l.Hosts) > 0 {
		_, _ = copyDir(l.Hosts[0].capabilityDir(), filepath.Join(l.cfg.Cache, "capabilities"))
	}
}

// copyDir copies the plain files of a directory and counts them.
func copyDir(from, to string) (int, error) {
	entries, err := os.ReadDir(from)
	if err != nil {
		return 0, err
	}
	if err := os.MkdirAll(to, 0o755); err != nil {
		return 0, err
	}
	n := 0
	for _, e := range entries {
		if !e.Type().IsRegular() {
			continue
		}
		if err := copyFile(filepath.Join(from, e.Name()), filepath.Join(to, e.Name())); err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}

func copyFile(from, to string) error {
	b, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	if err := os.WriteFile(to+".new", b, 0o644); err != nil {
		return err
	}
	return os.Rename(to+".new", to)
}

package lab

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

const virtlockd = "/usr/sbin/virtlockd"

// Disk locks: with [Config.Lock] every host has a virtlockd, and all lock in one
// directory that they share.

// LeaseDir is that directory: leases of VMs without disks are in it too.
func (l *Lab) LeaseDir() string { return filepath.Join(l.Dir, "lockspace") }

// LockPID is the pid file of the host's lock daemon, as seen from outside.
func (h *Host) LockPID() string { return filepath.Join(h.dir, "run", "virtlockd.pid") }

// lockConfig turns locking on.
func (h *Host) lockConfig(shared string) error {
	if err := os.MkdirAll(shared, 0o755); err != nil {
		return err
	}
	text := fmt.Sprintf("auto_disk_leases = 1\nrequire_lease_for_disks = 0\nfile_lockspace_dir = %q\n", shared)
	if err := os.WriteFile(filepath.Join(h.dir, "etc", "qemu-lockd.conf"), []byte(text), 0o644); err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(h.dir, "etc", "qemu.conf"), os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	if _, err := f.WriteString("lock_manager = \"lockd\"\n"); err != nil {
		return err
	}
	return f.Close()
}

// StartLock starts the host's virtlockd; libvirtd comes after it.
func (h *Host) StartLock(ctx context.Context) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.locks != nil {
		return nil
	}
	cmd := exec.Command(virtlockd, "--pid-file", "/run/libvirt/virtlockd.pid")
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := onThread(func() error { return h.enterAndStart(cmd) }); err != nil {
		return fmt.Errorf("host %s: virtlockd: %w", h.Name, err)
	}
	h.locks = cmd
	ok := poll(ctx, 10*time.Second, 20*time.Millisecond, func() bool {
		_, err := os.Stat(filepath.Join(h.dir, "run", "virtlockd-sock"))
		return err == nil
	})
	if !ok {
		return fmt.Errorf("host %s: virtlockd does not listen", h.Name)
	}
	return nil
}

// KillLock kills the host's virtlockd with SIGKILL. Its locks are lost, and libvirt
// does not say so.
func (h *Host) KillLock() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.locks == nil {
		return fmt.Errorf("host %s: virtlockd does not run", h.Name)
	}
	cmd := h.locks
	h.locks = nil
	if err := cmd.Process.Kill(); err != nil {
		return fmt.Errorf("host %s: kill virtlockd: %w", h.Name, err)
	}
	_ = cmd.Wait() // killed
	return os.RemoveAll(filepath.Join(h.dir, "run", "virtlockd-sock"))
}

package lab

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
)

// KillLibvirtd kills the host's libvirtd with SIGKILL and waits for its end. Its
// guests go on.
func (h *Host) KillLibvirtd(ctx context.Context) error {
	h.mu.Lock()
	d := h.daemon
	h.mu.Unlock()
	if d == nil {
		return fmt.Errorf("host %s: libvirtd does not run", h.Name)
	}
	if err := d.Process.Kill(); err != nil {
		return fmt.Errorf("host %s: kill libvirtd: %w", h.Name, err)
	}
	return h.reap(ctx)
}

// StartLibvirtd starts libvirtd again after [Host.KillLibvirtd]; it finds the
// guests that still run.
func (h *Host) StartLibvirtd(ctx context.Context) error { return h.start(ctx) }

// KillQEMU kills the host's copy of a VM with SIGKILL.
func (h *Host) KillQEMU(name string) error {
	pid, err := h.qemuPID(name)
	if err != nil {
		return err
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		return fmt.Errorf("host %s: kill QEMU %d of %s: %w", h.Name, pid, name, err)
	}
	if !poll(context.Background(), 5*time.Second, 10*time.Millisecond, func() bool { return processStart(pid) == "" }) {
		return fmt.Errorf("host %s: QEMU %d of %s does not end", h.Name, pid, name)
	}
	return nil
}

// qemuPID finds the process of a VM by libvirt's pid file, and makes sure that the
// number has not been given to another program since.
func (h *Host) qemuPID(name string) (int, error) {
	b, err := os.ReadFile(filepath.Join(h.dir, "run", "qemu", name+".pid"))
	if err != nil {
		return 0, fmt.Errorf("host %s: VM %s has no QEMU: %w", h.Name, name, err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil || pid <= 1 {
		return 0, fmt.Errorf("host %s: pid file of %s holds %q", h.Name, name, b)
	}
	cmdline, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil || !strings.Contains(string(cmdline), "guest="+name) {
		return 0, fmt.Errorf("host %s: process %d is not the QEMU of %s", h.Name, pid, name)
	}
	return pid, nil
}

// CutLink takes the host off the network: neither guests' nor migration traffic
// passes. The libvirt socket still answers; it is not on the network.
func (h *Host) CutLink() error { return h.setLink("cut", netlink.LinkSetDown) }

// HealLink undoes [Host.CutLink].
func (h *Host) HealLink() error { return h.setLink("heal", netlink.LinkSetUp) }

func (h *Host) setLink(what string, set func(netlink.Link) error) error {
	link, err := netlink.LinkByName(h.link)
	if err == nil {
		err = set(link)
	}
	if err != nil {
		return fmt.Errorf("host %s: %s link %s: %w", h.Name, what, h.link, err)
	}
	return nil
}

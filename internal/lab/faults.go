package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/foreshift/foreshift/schemas"
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

// Throttle limits what reaches the host over the network, in bytes/s, so that a
// transfer's phases last long enough to be hit; 0 takes the limit away.
func (h *Host) Throttle(rate schemas.BytesPerSecond) error {
	link, err := netlink.LinkByName(h.link)
	if err != nil {
		return fmt.Errorf("host %s: throttle: %w", h.Name, err)
	}
	q := &netlink.Tbf{
		QdiscAttrs: netlink.QdiscAttrs{LinkIndex: link.Attrs().Index, Handle: netlink.MakeHandle(1, 0), Parent: netlink.HANDLE_ROOT},
		Rate:       uint64(rate), Limit: 1 << 20,
	}
	if rate == 0 {
		err = netlink.QdiscDel(q)
		if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EINVAL) {
			err = nil // there was none
		}
	} else {
		// The kernel counts the burst in ticks of 64 ns (PSCHED_SHIFT 6): here 128 KiB.
		q.Buffer = uint32(128 << 10 / float64(rate) * 1e9 / 64)
		err = netlink.QdiscReplace(q)
	}
	if err != nil {
		return fmt.Errorf("host %s: throttle to %.0f bytes/s: %w", h.Name, rate, err)
	}
	return nil
}

// QEMUs lists the QEMU processes on the host, those included that libvirt has
// forgotten.
func (h *Host) QEMUs() ([]int, error) {
	var st unix.Stat_t
	if err := unix.Stat(h.netnsPath(), &st); err != nil {
		return nil, fmt.Errorf("host %s: %w", h.Name, err)
	}
	pids, err := processesIn(map[uint64]bool{st.Ino: true})
	if err != nil {
		return nil, fmt.Errorf("host %s: %w", h.Name, err)
	}
	return slices.DeleteFunc(pids, func(pid int) bool {
		exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
		return err != nil || exe != emulator
	}), nil
}

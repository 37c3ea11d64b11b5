package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"
)

// parameters are the words "lab.KEY=VALUE" of the kernel command line.
type parameters map[string]string

func parseParameters(cmdline string) parameters {
	p := parameters{}
	for _, f := range strings.Fields(cmdline) {
		if f, ok := strings.CutPrefix(f, "lab."); ok {
			k, v, _ := strings.Cut(f, "=")
			p[k] = v
		}
	}
	return p
}

// number reads a parameter within bounds.
func (p parameters) number(key string, absent, low, high float64) (float64, error) {
	text := p[key]
	if text == "" {
		return absent, nil
	}
	v, err := strconv.ParseFloat(text, 64)
	if err != nil || !(v >= low && v <= high) {
		return 0, fmt.Errorf("lab.%s=%s: want a number from %v to %v", key, text, low, high)
	}
	return v, nil
}

// boot mounts the kernel's file systems, loads the modules in the order in which
// the lab listed them, and opens the serial console. What fails is said there; a
// guest without its network shows by its missing heartbeat.
func boot() io.Writer {
	var faults []error
	for _, m := range []struct{ kind, at string }{{"proc", "/proc"}, {"sysfs", "/sys"}, {"devtmpfs", "/dev"}} {
		if err := syscall.Mount(m.kind, m.at, m.kind, 0, ""); err != nil && err != syscall.EBUSY {
			faults = append(faults, fmt.Errorf("mount %s: %w", m.at, err))
		}
	}
	if list, err := os.ReadFile("/modules/order"); err != nil {
		faults = append(faults, err)
	} else {
		for _, name := range strings.Fields(string(list)) {
			if err := loadModule("/modules/" + name); err != nil {
				faults = append(faults, err)
			}
		}
	}
	var console io.Writer = os.Stdout
	if f, err := os.OpenFile("/dev/ttyS0", os.O_RDWR|syscall.O_NOCTTY, 0); err != nil {
		faults = append(faults, err)
	} else {
		console = f
	}
	for _, err := range faults {
		fmt.Fprintf(console, "GUEST-FAULT %v\r\n", err)
	}
	return console
}

// loadModule hands one module to the kernel: finit_module(2), number 313 on amd64.
func loadModule(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	var none [1]byte
	if _, _, e := syscall.Syscall(313, f.Fd(), uintptr(unsafe.Pointer(&none[0])), 0); e != 0 && e != syscall.EEXIST {
		return fmt.Errorf("load module %s: %w", path, e)
	}
	return nil
}

// ifreq is struct ifreq of netdevice(7): a name and one of several values.
type ifreq struct {
	name  [16]byte
	value [24]byte
}

// network gives the interface its address (a.b.c.d/bits) and sets it up; an empty
// address leaves the guest without a network. The device appears a little after
// its module is loaded, so it is waited for.
func network(name, cidr string) error {
	if cidr == "" {
		return nil
	}
	ip, subnet, err := net.ParseCIDR(cidr)
	if err != nil {
		return fmt.Errorf("lab.ip: %w", err)
	}
	for i := 0; ; i++ {
		if _, err := os.Stat("/sys/class/net/" + name); err == nil {
			break
		}
		if i == 500 {
			return fmt.Errorf("network: no device %s after 10 s", name)
		}
		time.Sleep(20 * time.Millisecond)
	}
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_DGRAM, 0)
	if err != nil {
		return fmt.Errorf("network: %w", err)
	}
	defer syscall.Close(fd)
	ask := func(what string, call uintptr, fill func(*ifreq)) error {
		var r ifreq
		copy(r.name[:15], name)
		fill(&r)
		if _, _, e := syscall.Syscall(syscall.SYS_IOCTL, uintptr(fd), call, uintptr(unsafe.Pointer(&r))); e != 0 {
			return fmt.Errorf("network: %s of %s: %w", what, name, e)
		}
		return nil
	}
	address := func(a []byte) func(*ifreq) { // struct sockaddr_in: family, port, address
		return func(r *ifreq) { r.value[0] = syscall.AF_INET; copy(r.value[4:8], a) }
	}
	if err := ask("set the address", syscall.SIOCSIFADDR, address(ip.To4())); err != nil {
		return err
	}
	if err := ask("set the mask", syscall.SIOCSIFNETMASK, address(subnet.Mask)); err != nil {
		return err
	}
	return ask("set up", syscall.SIOCSIFFLAGS, func(r *ifreq) { r.value[0] = syscall.IFF_UP })
}

package plane

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"golang.zx2c4.com/wireguard/conn"
	"golang.zx2c4.com/wireguard/device"
	"golang.zx2c4.com/wireguard/ipc"
	"golang.zx2c4.com/wireguard/tun"
)

// sockets is where userspace WireGuard listens for its configuration.
const sockets = "/var/run/wireguard"

// Hold keeps a userspace WireGuard device until ctx ends or its interface is removed. It
// knows no key and no peer: the role configures it as it would the kernel's.
func Hold(ctx context.Context, name string, mtu int) error {
	t, err := tun.CreateTUN(name, mtu)
	if err != nil {
		return fmt.Errorf("hold %s: %w", name, err)
	}
	d := device.NewDevice(t, conn.NewDefaultBind(), device.NewLogger(device.LogLevelError, name+": "))
	defer d.Close()
	f, err := ipc.UAPIOpen(name)
	if err != nil {
		return fmt.Errorf("hold %s: %w", name, err)
	}
	l, err := ipc.UAPIListen(name, f)
	if err != nil {
		return fmt.Errorf("hold %s: %w", name, err)
	}
	defer os.Remove(filepath.Join(sockets, name+".sock"))
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go d.IpcHandle(c)
		}
	}()
	if err := d.Up(); err != nil {
		return fmt.Errorf("hold %s: %w", name, err)
	}
	select {
	case <-ctx.Done():
	case <-d.Wait():
	}
	return nil
}

// startHolder starts the process that keeps the device, in a session of its own, so that
// it outlives the role.
func (p *Plane) startHolder(name string, mtu int) error {
	if len(p.cfg.Holder) == 0 {
		return fmt.Errorf("no command to hold %s", name)
	}
	// A holder that was killed leaves its socket; its interface is gone.
	_ = os.Remove(filepath.Join(sockets, name+".sock"))
	if err := os.MkdirAll(p.cfg.Dir, 0o700); err != nil {
		return err
	}
	path := filepath.Join(p.cfg.Dir, name+".log")
	out, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	args := append(append([]string{}, p.cfg.Holder[1:]...), "--interface", name, "--mtu", fmt.Sprint(mtu))
	cmd := exec.Command(p.cfg.Holder[0], args...)
	cmd.Stdout, cmd.Stderr, cmd.Dir = out, out, "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for late := time.Now().Add(20 * time.Second); time.Now().Before(late); time.Sleep(20 * time.Millisecond) {
		select {
		case err := <-ended:
			b, _ := os.ReadFile(path)
			return fmt.Errorf("holder of %s: %v: %s", name, err, b)
		default:
		}
		// The socket's file is there a moment before anybody listens on it.
		if c, err := net.Dial("unix", filepath.Join(sockets, name+".sock")); err == nil {
			return c.Close()
		}
	}
	return fmt.Errorf("holder of %s (process %d) does not listen", name, cmd.Process.Pid)
}

// awaitHolder waits until the holder of a removed interface has ended.
func (p *Plane) awaitHolder(name string) error {
	path := filepath.Join(sockets, name+".sock")
	for late := time.Now().Add(5 * time.Second); time.Now().Before(late); time.Sleep(20 * time.Millisecond) {
		if _, err := os.Stat(path); err != nil {
			return nil
		}
	}
	return os.Remove(path) // it was killed before
}

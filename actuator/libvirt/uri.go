package libvirt

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/url"
	"os"
	"strings"
	"time"
)

// target is where a URI leads: an address to dial, and the driver's own URI.
type target struct {
	network, address string
	driver           string
}

// sockets are where the daemon listens by default, the monolithic one last.
var sockets = []string{"/run/libvirt/virtqemud-sock", "/run/libvirt/libvirt-sock", "/var/run/libvirt/libvirt-sock"}

// parse understands qemu:///system, qemu+unix:///system?socket=PATH and
// qemu+tcp://host[:port]/system.
func parse(uri string) (target, error) {
	u, err := url.Parse(uri)
	if err != nil {
		return target{}, fmt.Errorf("libvirt URI %q: %w", uri, err)
	}
	driver, transport, _ := strings.Cut(u.Scheme, "+")
	if driver != "qemu" {
		return target{}, fmt.Errorf("libvirt URI %q: driver %q is not qemu", uri, driver)
	}
	if u.Path != "/system" && u.Path != "/session" {
		return target{}, fmt.Errorf("libvirt URI %q: path %q is neither /system nor /session", uri, u.Path)
	}
	t := target{driver: "qemu://" + u.Path}
	switch {
	case transport == "tcp":
		if u.Hostname() == "" {
			return target{}, fmt.Errorf("libvirt URI %q: no host", uri)
		}
		port := u.Port()
		if port == "" {
			port = "16509"
		}
		t.network, t.address = "tcp", net.JoinHostPort(u.Hostname(), port)
	case (transport == "" || transport == "unix") && u.Host == "":
		t.network, t.address = "unix", u.Query().Get("socket")
		if t.address == "" {
			t.address = defaultSocket()
		}
	default:
		return target{}, fmt.Errorf("libvirt URI %q: transport %q to host %q is not supported; use unix or tcp", uri, transport, u.Host)
	}
	return t, nil
}

func defaultSocket() string {
	for _, s := range sockets {
		if _, err := os.Stat(s); err == nil || !errors.Is(err, fs.ErrNotExist) {
			return s
		}
	}
	return sockets[1]
}

// keepAlive notices a dead TCP peer in about ten seconds.
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: 4 * time.Second, Interval: 2 * time.Second, Count: 3}

func (t target) dial(ctx context.Context) (*framed, error) {
	d := net.Dialer{KeepAliveConfig: keepAlive}
	c, err := d.DialContext(ctx, t.network, t.address)
	if err != nil {
		return nil, err
	}
	return &framed{Conn: c, gone: make(chan struct{})}, nil
}

// Bounds of a packet: its header, and a little more than libvirt's own 32 MiB.
const (
	minPacket = 28
	maxPacket = 33 << 20
)

// framed checks the length word of every packet that comes in: go-libvirt trusts
// it. It also tells when the connection is gone.
type framed struct {
	net.Conn
	gone chan struct{}
	word [4]byte
	have int   // bytes of the length word
	left int64 // bytes of the packet still to come
}

func (f *framed) Read(p []byte) (int, error) {
	n, err := f.Conn.Read(p)
	if !f.scan(p[:n]) {
		n, err = 0, io.ErrUnexpectedEOF
	}
	if err != nil {
		f.end()
	}
	return n, err
}

func (f *framed) end() {
	select {
	case <-f.gone:
	default: // only the reading goroutine comes here
		close(f.gone)
	}
}

// scan walks over b and reports whether it can be part of a stream of packets.
func (f *framed) scan(b []byte) bool {
	for len(b) > 0 {
		if f.left > 0 {
			k := min(int64(len(b)), f.left)
			f.left -= k
			b = b[k:]
			continue
		}
		f.word[f.have] = b[0]
		f.have++
		b = b[1:]
		if f.have < 4 {
			continue
		}
		n := int64(f.word[0])<<24 | int64(f.word[1])<<16 | int64(f.word[2])<<8 | int64(f.word[3])
		if n < minPacket || n > maxPacket {
			return false
		}
		f.have, f.left = 0, n-4
	}
	return true
}

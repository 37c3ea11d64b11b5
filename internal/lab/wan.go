package lab

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Relay passes the tunnel's packets between the gateways, each after a delay: the kernel
// of the lab has no netem. Packets keep their order.
type Relay struct {
	Passed  atomic.Int64
	Dropped atomic.Int64
	conns   []*net.UDPConn
	wg      sync.WaitGroup
}

// relayQueue bounds what is on its way, in packets.
const relayQueue = 20000

func newRelay(delay time.Duration) (*Relay, error) {
	r := &Relay{}
	for port := wanPort; port <= wanPort+1; port++ {
		a, err := relaySocket(wanViaA, port)
		if err != nil {
			return nil, errors.Join(err, r.Close())
		}
		r.conns = append(r.conns, a)
		b, err := relaySocket(wanViaB, port)
		if err != nil {
			return nil, errors.Join(err, r.Close())
		}
		r.conns = append(r.conns, b)
		r.pass(a, b, &net.UDPAddr{IP: net.ParseIP(wanB), Port: port}, delay)
		r.pass(b, a, &net.UDPAddr{IP: net.ParseIP(wanA), Port: port}, delay)
	}
	return r, nil
}

func relaySocket(ip string, port int) (*net.UDPConn, error) {
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.ParseIP(ip), Port: port})
	if err != nil {
		return nil, err
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	err = raw.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 16<<20)
		_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, 16<<20)
	})
	return c, err
}

func (r *Relay) pass(in, out *net.UDPConn, to *net.UDPAddr, delay time.Duration) {
	type packet struct {
		due time.Time
		b   []byte
	}
	queue := make(chan packet, relayQueue)
	r.wg.Add(2)
	go func() {
		defer r.wg.Done()
		defer close(queue)
		buf := make([]byte, 64<<10)
		for {
			n, _, err := in.ReadFromUDP(buf)
			if err != nil {
				if errors.Is(err, net.ErrClosed) {
					return
				}
				continue // an ICMP error of an earlier packet
			}
			select {
			case queue <- packet{time.Now().Add(delay), append([]byte(nil), buf[:n]...)}:
			default:
				r.Dropped.Add(1)
			}
		}
	}()
	go func() {
		defer r.wg.Done()
		for p := range queue {
			if d := time.Until(p.due); d > 0 {
				time.Sleep(d)
			}
			if _, err := out.WriteToUDP(p.b, to); err != nil {
				r.Dropped.Add(1)
				continue
			}
			r.Passed.Add(1)
		}
	}()
}

// Close ends the relay.
func (r *Relay) Close() error {
	var errs []error
	for _, c := range r.conns {
		errs = append(errs, c.Close())
	}
	r.wg.Wait()
	return errors.Join(errs...)
}

// Capture sees every frame of interfaces, and sorts it: WireGuard's own packets, the
// neighbour discovery that carries them, and all else, of which there should be none.
type Capture struct {
	WireGuard, Neighbour, Bytes atomic.Int64

	mu    sync.Mutex
	other map[string]int
	fds   []int
	wg    sync.WaitGroup
	ended atomic.Bool
}

// maxOther bounds the kinds of foreign frames that are told apart.
const maxOther = 32

func newCapture(names ...string) (*Capture, error) {
	c := &Capture{other: map[string]int{}}
	for _, name := range names {
		link, err := net.InterfaceByName(name)
		if err != nil {
			return nil, errors.Join(err, c.Close())
		}
		all := int(htons(unix.ETH_P_ALL))
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, all)
		if err != nil {
			return nil, errors.Join(err, c.Close())
		}
		c.fds = append(c.fds, fd)
		wait := unix.Timeval{Usec: 200000}
		err = errors.Join(unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &wait), unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 16<<20),
			unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: htons(unix.ETH_P_ALL), Ifindex: link.Index}))
		if err != nil {
			return nil, errors.Join(err, c.Close())
		}
		c.wg.Add(1)
		go func() {
			defer c.wg.Done()
			buf := make([]byte, 256) // heads are enough
			for !c.ended.Load() {
				n, _, err := unix.Recvfrom(fd, buf, unix.MSG_TRUNC)
				if err == nil {
					c.Bytes.Add(int64(n))
					c.sort(buf[:min(n, len(buf))])
				}
			}
		}()
	}
	return c, nil
}

func htons(v uint16) uint16 { return v<<8 | v>>8 }

// sort looks at one frame. A WireGuard packet is UDP to or from the tunnel's ports, whose
// payload begins with a type from 1 to 4 and three zero bytes.
func (c *Capture) sort(b []byte) {
	if len(b) < 14 {
		return
	}
	kind := binary.BigEndian.Uint16(b[12:])
	switch {
	case kind == unix.ETH_P_ARP:
		c.Neighbour.Add(1)
		return
	case kind == unix.ETH_P_IPV6 && len(b) > 54 && b[20] == unix.IPPROTO_ICMPV6 || kind == unix.ETH_P_IPV6 && len(b) > 54 && b[20] == 0:
		c.Neighbour.Add(1) // of the interfaces' own link-local addresses
		return
	case kind == unix.ETH_P_IP && len(b) >= 34:
		ip := b[14:]
		head := int(ip[0]&15) * 4
		if ip[9] == unix.IPPROTO_UDP && len(ip) >= head+12 {
			from, to, p := binary.BigEndian.Uint16(ip[head:]), binary.BigEndian.Uint16(ip[head+2:]), ip[head+8:]
			ours := func(v uint16) bool { return v == wanPort || v == wanPort+1 }
			if (ours(from) || ours(to)) && p[0] >= 1 && p[0] <= 4 && p[1] == 0 && p[2] == 0 && p[3] == 0 {
				c.WireGuard.Add(1)
				return
			}
		}
		c.note(fmt.Sprintf("IPv4 protocol %d from %v to %v", ip[9], net.IP(ip[12:16]), net.IP(ip[16:20])))
		return
	}
	c.note(fmt.Sprintf("ethertype %04x", kind))
}

func (c *Capture) note(what string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, known := c.other[what]; known || len(c.other) < maxOther {
		c.other[what]++
	}
}

// Other is what crossed that was not the tunnel's, by kind.
func (c *Capture) Other() map[string]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make(map[string]int, len(c.other))
	for k, v := range c.other {
		out[k] = v
	}
	return out
}

// Close ends the capture.
func (c *Capture) Close() error {
	if c.ended.Swap(true) {
		return nil
	}
	c.wg.Wait()
	var errs []error
	for _, fd := range c.fds {
		errs = append(errs, unix.Close(fd))
	}
	return errors.Join(errs...)
}

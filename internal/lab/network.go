package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"runtime"
	"strconv"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Addresses in the lab's /24: hosts from 1, guests from 101, the machine itself
// 254.
const (
	firstHost     = 1
	firstGuest    = 101
	bridgeOctet   = 254
	heartbeatPort = 7777
	guestBridge   = "br0" // in every host, so that a guest finds it wherever it goes
)

func (l *Lab) addr(octet byte) netip.Addr {
	a := l.subnet.Addr().As4()
	a[3] = octet
	return netip.AddrFrom4(a)
}

func (l *Lab) bridgeAddr() netip.Addr { return l.addr(bridgeOctet) }

// freeSubnet is the first 10.77.x.0/24, from the lab's own number on, that no
// address or route of the machine touches.
func freeSubnet(id string) (netip.Prefix, error) {
	start, err := strconv.ParseUint(id, 16, 16)
	if err != nil {
		return netip.Prefix{}, err
	}
	addrs, err := netlink.AddrList(nil, netlink.FAMILY_V4)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("list addresses: %w", err)
	}
	routes, err := netlink.RouteList(nil, netlink.FAMILY_V4)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("list routes: %w", err)
	}
	var used []*net.IPNet
	for _, a := range addrs {
		used = append(used, a.IPNet)
	}
	for _, r := range routes {
		// The default route and the like cover everything and collide with nothing.
		if r.Dst != nil {
			if ones, _ := r.Dst.Mask.Size(); ones >= 16 {
				used = append(used, r.Dst)
			}
		}
	}
	for i := range 256 {
		p := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 77, byte(start + uint64(i)), 0}), 24)
		if !overlaps(p, used) {
			return p, nil
		}
	}
	return netip.Prefix{}, fmt.Errorf("no free network 10.77.x.0/24")
}

func overlaps(p netip.Prefix, used []*net.IPNet) bool {
	for _, u := range used {
		a, ok := netip.AddrFromSlice(u.IP.To4())
		ones, bits := u.Mask.Size()
		if ok && bits == 32 && p.Overlaps(netip.PrefixFrom(a, ones)) {
			return true
		}
	}
	return false
}

// makeNetwork makes the bridge of the machine and, per host, a namespace joined to
// it, with a bridge of its own that carries the host's address and the guests.
func (l *Lab) makeNetwork() error {
	var err error
	if l.subnet, err = freeSubnet(l.rec.ID); err != nil {
		return err
	}
	bridge := &netlink.Bridge{LinkAttrs: netlink.NewLinkAttrs()}
	bridge.Name, bridge.HardwareAddr = l.rec.Links[0], l.hardware(bridgeOctet)
	if err := netlink.LinkAdd(bridge); err != nil {
		return fmt.Errorf("add bridge %s: %w", bridge.Name, err)
	}
	if err := setAddr(netlink.AddrAdd, bridge, netip.PrefixFrom(l.bridgeAddr(), 24)); err != nil {
		return err
	}
	if err := netlink.LinkSetUp(bridge); err != nil {
		return fmt.Errorf("set up %s: %w", bridge.Name, err)
	}
	for i, h := range l.Hosts {
		h.Address = l.addr(firstHost + byte(i)).String()
		if err := l.makeHostNetwork(h, bridge, firstHost+byte(i)); err != nil {
			return fmt.Errorf("host %s: %w", h.Name, err)
		}
	}
	return nil
}

// hardware is the address of a bridge. It is set and not left to the kernel, which
// would take the lowest of the bridge's ports and so change it as guests come and
// go.
func (l *Lab) hardware(octet byte) net.HardwareAddr {
	id, _ := strconv.ParseUint(l.rec.ID, 16, 16) // checked by freeSubnet
	return net.HardwareAddr{0x02, 0xf5, byte(id >> 8), byte(id), 0, octet}
}

// waitReachable waits until a packet comes through to every host and back: the
// kernel brings a new link's carrier up in the background, a little later on a
// quiet machine and much later on a busy one. Nobody listens on port 1, so a
// refusal is the answer.
func (l *Lab) waitReachable(ctx context.Context) error {
	d := net.Dialer{Timeout: 300 * time.Millisecond}
	for _, h := range l.Hosts {
		var last error
		if !poll(ctx, 30*time.Second, 10*time.Millisecond, func() bool {
			c, err := d.DialContext(ctx, "tcp", net.JoinHostPort(h.Address, "1"))
			if err == nil {
				c.Close()
				return true
			}
			last = err
			return errors.Is(err, unix.ECONNREFUSED)
		}) {
			return fmt.Errorf("host %s is not reachable over the lab's network: %w", h.Name, last)
		}
	}
	return nil
}

func (l *Lab) makeHostNetwork(h *Host, bridge netlink.Link, octet byte) error {
	ns, err := newNamespace(h.netns)
	if err != nil {
		return err
	}
	defer ns.Close()
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MasterIndex = h.link, bridge.Attrs().Index
	veth := &netlink.Veth{LinkAttrs: attrs, PeerName: "eth0", PeerNamespace: netlink.NsFd(int(ns))}
	if err := netlink.LinkAdd(veth); err != nil {
		return fmt.Errorf("add link %s: %w", h.link, err)
	}
	if err := netlink.LinkSetUp(veth); err != nil {
		return fmt.Errorf("set up %s: %w", h.link, err)
	}
	in, err := netlink.NewHandleAt(ns)
	if err != nil {
		return fmt.Errorf("netlink in %s: %w", h.netns, err)
	}
	defer in.Close()
	inner := &netlink.Bridge{LinkAttrs: netlink.NewLinkAttrs()}
	inner.Name, inner.HardwareAddr = guestBridge, l.hardware(octet)
	if err := in.LinkAdd(inner); err != nil {
		return fmt.Errorf("add bridge %s: %w", guestBridge, err)
	}
	eth0, err := in.LinkByName("eth0")
	if err != nil {
		return err
	}
	lo, err := in.LinkByName("lo")
	if err != nil {
		return err
	}
	if err := in.LinkSetMaster(eth0, inner); err != nil {
		return fmt.Errorf("join eth0 to %s: %w", guestBridge, err)
	}
	if err := setAddr(in.AddrAdd, inner, netip.PrefixFrom(l.addr(octet), 24)); err != nil {
		return err
	}
	for _, link := range []netlink.Link{lo, eth0, inner} {
		if err := in.LinkSetUp(link); err != nil {
			return fmt.Errorf("set up %s: %w", link.Attrs().Name, err)
		}
	}
	for i := range l.Hosts { // the neighbours are known for good: no ARP when a migration begins
		o := firstHost + byte(i)
		if o == octet {
			continue
		}
		n := &netlink.Neigh{LinkIndex: inner.Index, State: netlink.NUD_PERMANENT, IP: l.addr(o).AsSlice(), HardwareAddr: l.hardware(o)}
		if err := in.NeighSet(n); err != nil {
			return fmt.Errorf("neighbour %s: %w", n.IP, err)
		}
	}
	return nil
}

func setAddr(add func(netlink.Link, *netlink.Addr) error, link netlink.Link, p netip.Prefix) error {
	a := &netlink.Addr{IPNet: &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), 32)}}
	if err := add(link, a); err != nil {
		return fmt.Errorf("address %s on %s: %w", p, link.Attrs().Name, err)
	}
	return nil
}

// newNamespace makes a named network namespace without leaving the caller in it.
func newNamespace(name string) (netns.NsHandle, error) {
	runtime.LockOSThread()
	home, err := netns.Get()
	if err != nil {
		runtime.UnlockOSThread()
		return netns.None(), fmt.Errorf("this network namespace: %w", err)
	}
	defer home.Close()
	ns, err := netns.NewNamed(name)
	if back := netns.Set(home); back != nil {
		// The thread is in the wrong place: keep it locked, so that it dies with
		// its goroutine and serves nobody else.
		return netns.None(), fmt.Errorf("return from network namespace %s: %w", name, back)
	}
	runtime.UnlockOSThread()
	if err != nil {
		return netns.None(), fmt.Errorf("new network namespace %s: %w", name, err)
	}
	return ns, nil
}

func (h *Host) netnsPath() string { return filepath.Join(netnsDir, h.netns) }

package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/foreshift/foreshift/schemas"
)

// Sites is a lab split into two sites: the hosts of the public one hang on a bridge of
// their own, and the only way between the two bridges is what the gateways make of a WAN
// link between them. The link is shaped by HTB, and delayed by a relay in a namespace
// between the gateways that passes nothing but the tunnel's packets.
type Sites struct {
	Private, Public *GatewayHost
	Relay           *Relay
	Wire            *Capture // what crossed the WAN link

	lab    *Lab
	wan    string // namespace between the gateways
	client string // namespace of a client, in the private site
	stops  []io.Closer
}

// GatewayHost is a gateway's network namespace.
type GatewayHost struct {
	Site     schemas.SiteID
	Netns    string
	Bridge   string // of the segment, inside
	Endpoint string // where the peer reaches it
	Prefix   string // for the names of the tunnel's interfaces: sockets are the machine's
}

// Addresses of the WAN link's halves, inside the lab's namespaces only.
const (
	wanA, wanViaA = "192.0.2.1", "192.0.2.254"
	wanB, wanViaB = "198.51.100.1", "198.51.100.254"
	wanPort       = 51820 // and the next one
	segmentBridge = "seg"
	clientOctet   = 201
)

// Split makes two sites of a running lab: hosts of any site but the first host's move to
// the public bridge. rate shapes the WAN link, in bytes/s each way; delay is one way.
func (l *Lab) Split(ctx context.Context, rate schemas.BytesPerSecond, delay time.Duration, mtu int) (*Sites, error) {
	id := l.rec.ID
	s := &Sites{lab: l, wan: "fslab-" + id + "-wan", client: "fslab-" + id + "-client",
		Private: &GatewayHost{Site: l.Hosts[0].Site, Netns: "fslab-" + id + "-gwa", Bridge: segmentBridge, Endpoint: fmt.Sprintf("%s:%d", wanViaB, wanPort), Prefix: "f" + id + "a"},
		Public:  &GatewayHost{Netns: "fslab-" + id + "-gwb", Bridge: segmentBridge, Endpoint: fmt.Sprintf("%s:%d", wanViaA, wanPort), Prefix: "f" + id + "b"}}
	public := "fsl" + id + "pb"
	// Written down before it is made, so that a killed run is cleaned up.
	l.rec.Hosts = append(l.rec.Hosts, s.Private.Netns, s.Public.Netns, s.wan, s.client)
	l.rec.Links = append(l.rec.Links, public, "fsl"+id+"ga", "fsl"+id+"gb", "fsl"+id+"cl")
	b, err := json.Marshal(l.rec)
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(l.rec.path(), b, 0o644); err != nil {
		return nil, err
	}
	bridge := &netlink.Bridge{LinkAttrs: netlink.NewLinkAttrs()}
	bridge.Name, bridge.HardwareAddr = public, l.hardware(bridgeOctet-1)
	if err := errors.Join(netlink.LinkAdd(bridge), netlink.LinkSetUp(bridge)); err != nil {
		return nil, fmt.Errorf("lab: bridge of the public site: %w", err)
	}
	private, err := netlink.LinkByName(l.rec.Links[0])
	if err != nil {
		return nil, err
	}
	for _, h := range l.Hosts {
		if h.Site == s.Private.Site {
			continue
		}
		s.Public.Site = h.Site
		link, err := netlink.LinkByName(h.link)
		if err != nil {
			return nil, err
		}
		if err := netlink.LinkSetMaster(link, bridge); err != nil {
			return nil, fmt.Errorf("lab: move %s to the public site: %w", h.Name, err)
		}
	}
	if s.Public.Site == "" {
		return nil, errors.New("lab: all hosts are of one site: name another for some")
	}
	if err := s.namespaces(private, bridge); err != nil {
		return nil, err
	}
	if err := s.way(rate, mtu); err != nil {
		return nil, err
	}
	if err := s.listen(delay); err != nil {
		return nil, err
	}
	// This program is the way between the sites, and the clock that measures it.
	if err := Prioritise(os.Getpid()); err != nil {
		return nil, err
	}
	return s, nil
}

// namespaces makes the gateways, each with a bridge of the segment that hangs on its
// site's, and the client in the private site.
func (s *Sites) namespaces(private, public netlink.Link) error {
	id := s.lab.rec.ID
	for i, g := range []*GatewayHost{s.Private, s.Public} {
		master := []netlink.Link{private, public}[i]
		if err := veth(g.Netns, "fsl"+id+"g"+string(rune('a'+i)), "lan", master); err != nil {
			return err
		}
		if err := inNetns(g.Netns, func() error {
			seg := &netlink.Bridge{LinkAttrs: netlink.NewLinkAttrs()}
			seg.Name = segmentBridge
			lan, err := netlink.LinkByName("lan")
			if err != nil {
				return err
			}
			return errors.Join(netlink.LinkAdd(seg), netlink.LinkSetMaster(lan, seg), netlink.LinkSetUp(lan), netlink.LinkSetUp(seg))
		}); err != nil {
			return fmt.Errorf("lab: gateway of %s: %w", g.Site, err)
		}
	}
	ns, err := newNamespace(s.wan)
	if err != nil {
		return err
	}
	ns.Close()
	if err := veth(s.client, "fsl"+id+"cl", "eth0", private); err != nil {
		return err
	}
	return inNetns(s.client, func() error {
		eth0, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		return errors.Join(setAddr(netlink.AddrAdd, eth0, netip.PrefixFrom(s.lab.addr(clientOctet), 24)), netlink.LinkSetUp(eth0))
	})
}

// veth makes a namespace joined to a bridge of the machine.
func veth(name, outer, inner string, master netlink.Link) error {
	ns, err := newNamespace(name)
	if err != nil {
		return err
	}
	defer ns.Close()
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MasterIndex = outer, master.Attrs().Index
	v := &netlink.Veth{LinkAttrs: attrs, PeerName: inner, PeerNamespace: netlink.NsFd(int(ns))}
	if err := netlink.LinkAdd(v); err != nil {
		return fmt.Errorf("lab: add link %s: %w", outer, err)
	}
	if err := netlink.LinkSetUp(v); err != nil {
		return fmt.Errorf("lab: set up %s: %w", outer, err)
	}
	return inNetns(name, func() error {
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		return netlink.LinkSetUp(lo)
	})
}

// way makes the WAN link: from each gateway to the namespace between them, shaped both
// ways there.
func (s *Sites) way(rate schemas.BytesPerSecond, mtu int) error {
	wan, err := netns.GetFromName(s.wan)
	if err != nil {
		return err
	}
	defer wan.Close()
	for i, g := range []*GatewayHost{s.Private, s.Public} {
		own, via, name := []string{wanA, wanB}[i], []string{wanViaA, wanViaB}[i], []string{"wana", "wanb"}[i]
		if err := inNetns(g.Netns, func() error {
			attrs := netlink.NewLinkAttrs()
			attrs.Name, attrs.MTU = "wan", mtu
			v := &netlink.Veth{LinkAttrs: attrs, PeerName: name, PeerNamespace: netlink.NsFd(int(wan)), PeerMTU: uint32(mtu)}
			if err := netlink.LinkAdd(v); err != nil {
				return err
			}
			return errors.Join(setAddr(netlink.AddrAdd, v, netip.PrefixFrom(netip.MustParseAddr(own), 24)), netlink.LinkSetUp(v), shapeLink(v, rate))
		}); err != nil {
			return fmt.Errorf("lab: WAN link of %s: %w", g.Site, err)
		}
		if err := inNetns(s.wan, func() error {
			link, err := netlink.LinkByName(name)
			if err != nil {
				return err
			}
			return errors.Join(netlink.LinkSetMTU(link, mtu), setAddr(netlink.AddrAdd, link, netip.PrefixFrom(netip.MustParseAddr(via), 24)), netlink.LinkSetUp(link))
		}); err != nil {
			return fmt.Errorf("lab: WAN link of %s: %w", g.Site, err)
		}
	}
	return nil
}

// shapeLink bounds what leaves an interface.
func shapeLink(link netlink.Link, rate schemas.BytesPerSecond) error {
	root := netlink.NewHtb(netlink.QdiscAttrs{LinkIndex: link.Attrs().Index, Handle: netlink.MakeHandle(1, 0), Parent: netlink.HANDLE_ROOT})
	root.Defcls = 0x10
	if err := netlink.QdiscAdd(root); err != nil {
		return err
	}
	burst := uint32(float64(rate)/250) + 3200
	return netlink.ClassReplace(netlink.NewHtbClass(netlink.ClassAttrs{LinkIndex: link.Attrs().Index, Handle: netlink.MakeHandle(1, 0x10), Parent: netlink.MakeHandle(1, 0)},
		netlink.HtbClassAttrs{Rate: uint64(rate * 8), Ceil: uint64(rate * 8), Buffer: burst, Cbuffer: burst, Quantum: 15000}))
}

// listen starts the relay and the capture in the namespace between the gateways.
func (s *Sites) listen(delay time.Duration) error {
	return inNetns(s.wan, func() error {
		var err error
		if s.Relay, err = newRelay(delay); err != nil {
			return fmt.Errorf("lab: relay: %w", err)
		}
		s.stops = append(s.stops, s.Relay)
		if s.Wire, err = newCapture("wana", "wanb"); err != nil {
			return fmt.Errorf("lab: capture: %w", err)
		}
		s.stops = append(s.stops, s.Wire)
		return nil
	})
}

// Cut takes the WAN link down, or up again.
func (s *Sites) Cut(down bool) error {
	return inNetns(s.wan, func() error {
		link, err := netlink.LinkByName("wanb")
		if err != nil {
			return err
		}
		if down {
			return netlink.LinkSetDown(link)
		}
		return netlink.LinkSetUp(link)
	})
}

// Forward lets programs in a gateway's namespace reach an address of the machine, such
// as a bus on loopback, at the same port of their own loopback.
func (s *Sites) Forward(g *GatewayHost, port int) error {
	at := fmt.Sprintf("127.0.0.1:%d", port)
	return inNetns(g.Netns, func() error {
		l, err := net.Listen("tcp", at)
		if err != nil {
			return err
		}
		s.stops = append(s.stops, l)
		go func() {
			for {
				in, err := l.Accept()
				if err != nil {
					return
				}
				go func() {
					defer in.Close()
					out, err := net.Dial("tcp", at) // on another thread: the machine's
					if err != nil {
						return
					}
					defer out.Close()
					go func() { _, _ = io.Copy(out, in); out.Close() }()
					_, _ = io.Copy(in, out)
				}()
			}
		}()
		return nil
	})
}

// Start starts a program in a gateway's namespace, in a session of its own. It runs ahead
// of others, as hosts do: a gateway is a machine of its own.
func (g *GatewayHost) Start(log string, name string, args ...string) (*exec.Cmd, error) {
	out, err := os.OpenFile(log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	cmd := exec.Command(name, args...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	return cmd, inNetns(g.Netns, func() error {
		if realTimeAllowed() {
			if err := setRealTime(0); err != nil {
				return err
			}
		}
		return cmd.Start()
	})
}

// Run runs a program in a gateway's namespace and gives what it said.
func (g *GatewayHost) Run(ctx context.Context, name string, args ...string) (string, error) {
	var b []byte
	err := inNetns(g.Netns, func() (err error) {
		b, err = exec.CommandContext(ctx, name, args...).CombinedOutput()
		return err
	})
	return string(b), err
}

// Left names what a tunnel left in a gateway's namespace.
func (g *GatewayHost) Left() (left []string, err error) {
	err = inNetns(g.Netns, func() error {
		links, err := netlink.LinkList()
		if err != nil {
			return err
		}
		for _, l := range links {
			switch n := l.Attrs().Name; n {
			case "lo", "lan", "wan", segmentBridge:
			default:
				left = append(left, "interface "+n)
			}
		}
		for _, l := range links {
			queues, err := netlink.QdiscList(l)
			if err != nil {
				return err
			}
			for _, q := range queues {
				if q.Type() == "htb" && l.Attrs().Name != "wan" { // the WAN link's own shape is the lab's
					left = append(left, "classes of "+l.Attrs().Name)
				}
			}
		}
		routes, err := netlink.RouteList(nil, unix.AF_INET)
		for _, r := range routes {
			if r.Dst == nil || r.Dst.String() != "192.0.2.0/24" && r.Dst.String() != "198.51.100.0/24" {
				left = append(left, "route "+r.String())
			}
		}
		return err
	})
	sockets, _ := filepath.Glob("/var/run/wireguard/" + g.Prefix + "*")
	return append(left, sockets...), err
}

// Dial opens a TCP connection from the client's namespace.
func (s *Sites) Dial(address string) (c net.Conn, err error) {
	err = inNetns(s.client, func() error {
		c, err = net.DialTimeout("tcp", address, 5*time.Second)
		return err
	})
	return c, err
}

// Listen listens on a port of a host's address, in its namespace.
func (h *Host) Listen(port int) (l net.Listener, err error) {
	err = inNetns(h.netns, func() error {
		l, err = net.Listen("tcp", net.JoinHostPort(h.Address, fmt.Sprint(port)))
		return err
	})
	return l, err
}

// Run runs a program in a host's network namespace and gives what it said.
func (h *Host) Run(ctx context.Context, name string, args ...string) (string, error) {
	g := GatewayHost{Netns: h.netns}
	return g.Run(ctx, name, args...)
}

// Dial opens a TCP connection from a host.
func (h *Host) Dial(address string) (c net.Conn, err error) {
	err = inNetns(h.netns, func() error {
		c, err = net.DialTimeout("tcp", address, 5*time.Second)
		return err
	})
	return c, err
}

// Close ends what the split runs; what it made goes with the lab.
func (s *Sites) Close() error {
	var errs []error
	for _, g := range []*GatewayHost{s.Private, s.Public} {
		// Of holders that go with their namespace; those that were told to go have none.
		left, _ := filepath.Glob("/var/run/wireguard/" + g.Prefix + "*")
		for _, f := range left {
			errs = append(errs, os.Remove(f))
		}
	}
	for _, c := range s.stops {
		if err := c.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// inNetns runs f on a thread of its own in a named namespace.
func inNetns(name string, f func() error) error {
	return onThread(func() error {
		ns, err := netns.GetFromName(name)
		if err != nil {
			return err
		}
		defer ns.Close()
		if err := netns.Set(ns); err != nil {
			return err
		}
		return f()
	})
}

package plane

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/wgctrl"
	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"

	"github.com/foreshift/foreshift/schemas"
)

// Overheads in bytes: an IPv4 and UDP header with WireGuard's own.
const wireguardOverhead = 60

// vxlanPort is the one of RFC 7348.
const vxlanPort = 4789

// Config says what one end of a tunnel is made of.
type Config struct {
	Dir    string                        // for keys, mode 0700
	Prefix string                        // of the interfaces' names, at most 10 letters and digits
	First  bool                          // this site is the first of the two in order
	Inside netip.Prefix                  // network inside the tunnel, at least a /29
	Listen int                           // UDP port; the next one is used while keys are changed
	Bridge string                        // of the VMs' segment; empty: no segment is carried
	VNI    int                           // of the segment
	WAN    int                           // MTU of the way between the gateways; 0: 1500
	Holder []string                      // command that holds a userspace device; interface and MTU are appended
	Reach  map[schemas.HostID]netip.Addr // where a host's migrations are sent from and to
}

var prefixes = regexp.MustCompile(`^[a-z][a-z0-9]{0,9}$`)

// Validate reports every fault at once.
func (c *Config) Validate() error {
	var errs []error
	bad := func(format string, a ...any) { errs = append(errs, fmt.Errorf(format, a...)) }
	if c.Dir == "" {
		bad("directory for keys: missing")
	}
	if !prefixes.MatchString(c.Prefix) {
		bad("interface %q: want a lower-case letter and up to 9 letters or digits", c.Prefix)
	}
	if !c.Inside.IsValid() || !c.Inside.Addr().Is4() || c.Inside.Bits() > 29 {
		bad("inside %s: want an IPv4 network of at least 8 addresses, such as 10.88.0.0/29", c.Inside)
	}
	if c.Listen < 1 || c.Listen > 65534 {
		bad("port %d: want 1 to 65534; the next one is used too", c.Listen)
	}
	if c.Bridge != "" && (c.VNI < 1 || c.VNI >= 1<<24) {
		bad("segment number %d: want 1 to %d", c.VNI, 1<<24-1)
	}
	if c.WAN != 0 && (c.WAN < 576 || c.WAN > 9216) {
		bad("MTU %d: want 576 to 9216", c.WAN)
	}
	return errors.Join(errs...)
}

// Plane is one end of a tunnel.
type Plane struct {
	cfg    Config
	forms  map[key]form // classes in force
	device string       // on which they are
	last   counts       // of what passed
}

// New checks the configuration; nothing is made yet.
func New(c Config) (*Plane, error) {
	if c.WAN == 0 {
		c.WAN = 1500
	}
	if err := c.Validate(); err != nil {
		return nil, fmt.Errorf("tunnel: %w", err)
	}
	return &Plane{cfg: c, forms: map[key]form{}}, nil
}

// Two epochs live side by side while keys are changed; parity tells them apart.
func (p *Plane) wg(epoch int) string { return fmt.Sprintf("%sw%d", p.cfg.Prefix, epoch&1) }
func (p *Plane) vx(epoch int) string { return fmt.Sprintf("%sx%d", p.cfg.Prefix, epoch&1) }

// address of an end inside the tunnel.
func (p *Plane) address(first bool, epoch int) netip.Addr {
	a := p.cfg.Inside.Masked().Addr().As4()
	a[3] += 1 + 2*byte(epoch&1)
	if !first {
		a[3]++
	}
	return netip.AddrFrom4(a)
}

// Inside is the address of the peer in an epoch: what probes are sent to.
func (p *Plane) Inside(epoch int) netip.Addr { return p.address(!p.cfg.First, epoch) }

// Up makes the interface of an epoch, with its key and address, and gives what is to be
// announced of it.
func (p *Plane) Up(epoch int) (schemas.TunnelKey, error) {
	k, err := p.key(epoch)
	if err != nil {
		return schemas.TunnelKey{}, err
	}
	own, peer, name := p.address(p.cfg.First, epoch), p.Inside(epoch), p.wg(epoch)
	mtu := p.cfg.WAN - wireguardOverhead
	link, err := netlink.LinkByName(name)
	if err != nil {
		if link, err = p.make(name, mtu); err != nil {
			return schemas.TunnelKey{}, err
		}
	}
	c, err := wgctrl.New()
	if err != nil {
		return schemas.TunnelKey{}, fmt.Errorf("tunnel: %w", err)
	}
	defer c.Close()
	port := p.cfg.Listen + epoch&1
	d, err := c.Device(name)
	if err != nil {
		return schemas.TunnelKey{}, fmt.Errorf("tunnel: interface %s is no WireGuard device that answers (its holder may have died: remove it with `ip link del %s`): %w", name, name, err)
	}
	if d.PrivateKey != k || d.ListenPort != port {
		if err := c.ConfigureDevice(name, wgtypes.Config{PrivateKey: &k, ListenPort: &port}); err != nil {
			return schemas.TunnelKey{}, fmt.Errorf("tunnel: configure %s: %w", name, err)
		}
	}
	a := &netlink.Addr{IPNet: &net.IPNet{IP: own.AsSlice(), Mask: net.CIDRMask(32, 32)}, Peer: &net.IPNet{IP: peer.AsSlice(), Mask: net.CIDRMask(32, 32)}}
	if err := netlink.AddrReplace(link, a); err != nil {
		return schemas.TunnelKey{}, fmt.Errorf("tunnel: address %s on %s: %w", own, name, err)
	}
	if link.Attrs().MTU != mtu {
		if err := netlink.LinkSetMTU(link, mtu); err != nil {
			return schemas.TunnelKey{}, fmt.Errorf("tunnel: MTU of %s: %w", name, err)
		}
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return schemas.TunnelKey{}, fmt.Errorf("tunnel: set up %s: %w", name, err)
	}
	return schemas.TunnelKey{Epoch: epoch, Public: k.PublicKey().String(), Address: own.String(), Port: port}, nil
}

// make adds the interface: the kernel's where it can, else one that a holder keeps.
func (p *Plane) make(name string, mtu int) (netlink.Link, error) {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU = name, mtu
	err := netlink.LinkAdd(&netlink.Wireguard{LinkAttrs: attrs})
	switch {
	case err == nil:
	case errors.Is(err, unix.EOPNOTSUPP):
		if err := p.startHolder(name, mtu); err != nil {
			return nil, fmt.Errorf("tunnel: no WireGuard in the kernel, and none outside: %w", err)
		}
	default:
		return nil, fmt.Errorf("tunnel: add %s: %w", name, err)
	}
	return netlink.LinkByName(name)
}

// Peer sets the only peer of an epoch's interface: its key, where it is reached, and the
// one address it may send from.
func (p *Plane) Peer(k schemas.TunnelKey, endpoint string) error {
	b, err := base64.StdEncoding.DecodeString(k.Public)
	if err != nil || len(b) != 32 {
		return fmt.Errorf("tunnel: peer's key %q: want 32 bytes in base64", k.Public)
	}
	want := p.Inside(k.Epoch)
	if k.Address != want.String() {
		return fmt.Errorf("tunnel: the peer announces the address %s inside, this end expects %s: both need the same --inside network", k.Address, want)
	}
	host, port, err := net.SplitHostPort(endpoint)
	if err != nil {
		return fmt.Errorf("tunnel: peer's endpoint: %w", err)
	}
	if k.Port != 0 && k.Epoch&1 == 1 {
		// The endpoint names the way to the first port; the second lies beside it.
		port = fmt.Sprint(atoi(port) + 1)
	}
	to, err := net.ResolveUDPAddr("udp", net.JoinHostPort(host, port))
	if err != nil {
		return fmt.Errorf("tunnel: peer's endpoint: %w", err)
	}
	c, err := wgctrl.New()
	if err != nil {
		return fmt.Errorf("tunnel: %w", err)
	}
	defer c.Close()
	name := p.wg(k.Epoch)
	key := wgtypes.Key(b)
	d, err := c.Device(name)
	if err != nil {
		return fmt.Errorf("tunnel: %s: %w", name, err)
	}
	if len(d.Peers) == 1 && d.Peers[0].PublicKey == key {
		return nil // the endpoint may have roamed since
	}
	peer := wgtypes.PeerConfig{PublicKey: key, ReplaceAllowedIPs: true, AllowedIPs: []net.IPNet{{IP: want.AsSlice(), Mask: net.CIDRMask(32, 32)}}}
	if p.cfg.First {
		// One end begins. Two that begin at once over a slow way each answer the other and
		// forget their own question, again and again; so the second end learns where the
		// first is from what that sends.
		alive := 5 * time.Second
		peer.Endpoint, peer.PersistentKeepaliveInterval = to, &alive
	}
	err = c.ConfigureDevice(name, wgtypes.Config{ReplacePeers: true, Peers: []wgtypes.PeerConfig{peer}})
	if err != nil {
		return fmt.Errorf("tunnel: peer of %s: %w", name, err)
	}
	return nil
}

// Shaken is when the peer of an epoch last proved its key; zero when it never did.
func (p *Plane) Shaken(epoch int) time.Time {
	c, err := wgctrl.New()
	if err != nil {
		return time.Time{}
	}
	defer c.Close()
	d, err := c.Device(p.wg(epoch))
	if err != nil || len(d.Peers) != 1 {
		return time.Time{}
	}
	return d.Peers[0].LastHandshakeTime
}

// Segment carries the VMs' segment over an epoch's tunnel: frames of any VM reach the
// other site with their own addresses. A frame keeps the size the VMs have always sent;
// where it does not fit, the outer packet is fragmented inside the tunnel, so that no VM
// need be told of the way it crosses.
func (p *Plane) Segment(epoch int) error {
	if p.cfg.Bridge == "" {
		return nil
	}
	bridge, err := netlink.LinkByName(p.cfg.Bridge)
	if err != nil {
		return fmt.Errorf("tunnel: bridge %s of the segment: %w", p.cfg.Bridge, err)
	}
	name := p.vx(epoch)
	link, err := netlink.LinkByName(name)
	if err != nil {
		attrs := netlink.NewLinkAttrs()
		attrs.Name, attrs.TxQLen = name, 1000
		// Not bound to the interface below: that would bind its MTU too. The route is enough.
		vx := &netlink.Vxlan{LinkAttrs: attrs, VxlanId: p.cfg.VNI, SrcAddr: p.address(p.cfg.First, epoch).AsSlice(),
			Group: p.Inside(epoch).AsSlice(), Learning: true, Port: vxlanPort + epoch&1}
		if err := netlink.LinkAdd(vx); err != nil {
			return fmt.Errorf("tunnel: add %s: %w", name, err)
		}
		if link, err = netlink.LinkByName(name); err != nil {
			return fmt.Errorf("tunnel: %s: %w", name, err)
		}
	}
	if link.Attrs().MTU != bridge.Attrs().MTU {
		if err := netlink.LinkSetMTU(link, bridge.Attrs().MTU); err != nil {
			return fmt.Errorf("tunnel: MTU of %s: %w", name, err)
		}
	}
	if err := netlink.LinkSetMaster(link, bridge); err != nil {
		return fmt.Errorf("tunnel: join %s to %s: %w", name, p.cfg.Bridge, err)
	}
	// Two ways between two bridges are a loop: the other epoch's goes first.
	if other, err := netlink.LinkByName(p.vx(epoch + 1)); err == nil {
		if err := netlink.LinkDel(other); err != nil {
			return fmt.Errorf("tunnel: remove %s: %w", other.Attrs().Name, err)
		}
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("tunnel: set up %s: %w", name, err)
	}
	if p.device != name {
		p.device, p.forms, p.last = name, map[key]form{}, counts{}
		return p.clearClasses(link)
	}
	return nil
}

// Drop removes an epoch: its interface and its key.
func (p *Plane) Drop(epoch int) error {
	var errs []error
	for _, name := range []string{p.vx(epoch), p.wg(epoch)} {
		if link, err := netlink.LinkByName(name); err == nil {
			errs = append(errs, netlink.LinkDel(link))
		}
	}
	if err := os.Remove(p.keyFile(epoch)); err != nil && !errors.Is(err, os.ErrNotExist) {
		errs = append(errs, err)
	}
	errs = append(errs, p.awaitHolder(p.wg(epoch)))
	return errors.Join(errs...)
}

// Down removes everything of the tunnel.
func (p *Plane) Down() error {
	epochs, err := p.Epochs()
	errs := []error{err}
	for _, e := range append(epochs, 0, 1) {
		errs = append(errs, p.Drop(e))
	}
	logs, _ := filepath.Glob(filepath.Join(p.cfg.Dir, p.cfg.Prefix+"*.log"))
	for _, l := range logs {
		errs = append(errs, os.Remove(l))
	}
	if err := os.Remove(p.cfg.Dir); err != nil && !errors.Is(err, os.ErrNotExist) && !errors.Is(err, syscall.ENOTEMPTY) {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func sortInts(v []int) { slices.Sort(v) }

func atoi(s string) (n int) { _, _ = fmt.Sscan(s, &n); return n }

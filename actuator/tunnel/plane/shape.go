package plane

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/foreshift/foreshift/schemas"
)

// Classes of the segment's device. Moves have theirs from firstMove on.
const (
	rootMajor  = 1
	linkClass  = 0x1
	otherClass = 0x10
	firstMove  = 0x100
	maxPairs   = 256
)

// pairing is two hosts between which moves are sent, from the first to the second. All
// moves of a pair share a class: their packets differ in the port alone, which QEMU
// chooses. By default a host sends one move at a time, so that a pair is a move.
type pairing struct{ from, to netip.Addr }

// minor is the class of a pair, chosen anew for each.
func (p *Plane) minor() uint16 {
	used := map[uint16]bool{}
	for _, m := range p.pairs {
		used[m] = true
	}
	for m := uint16(firstMove); ; m++ {
		if !used[m] {
			return m
		}
	}
}

// Shape sets the classes to a share-out: the link's rate for all, a guarantee for what is
// no move, and for every pair of hosts with moves from this site what those may use. A
// change that fails leaves the rates that are in force.
func (p *Plane) Shape(t *schemas.Tunnel) error {
	if p.device == "" {
		return nil // no segment is carried
	}
	link, err := netlink.LinkByName(p.device)
	if err != nil {
		return fmt.Errorf("tunnel: %s: %w", p.device, err)
	}
	root := netlink.NewHtb(netlink.QdiscAttrs{LinkIndex: link.Attrs().Index, Handle: netlink.MakeHandle(rootMajor, 0), Parent: netlink.HANDLE_ROOT})
	root.Defcls = otherClass
	if err := netlink.QdiscAdd(root); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("tunnel: classes of %s: %w", p.device, err)
	}
	if err := class(link, 0, linkClass, t.Rate, t.Rate); err != nil {
		return err
	}
	if err := class(link, linkClass, otherClass, max(t.Reserved, 1e4), t.Rate); err != nil {
		return err
	}
	want := map[pairing]schemas.BytesPerSecond{}
	for _, s := range t.Shares {
		from, okF := p.cfg.Reach[s.Source]
		to, okT := p.cfg.Reach[s.Destination]
		if okF && okT && !s.Waits && len(want) < maxPairs {
			want[pairing{from, to}] += max(s.Rate, 1e5)
		}
	}
	var errs []error
	for pair, minor := range p.pairs {
		if _, ok := want[pair]; !ok {
			errs = append(errs, p.removeClass(link, minor))
			delete(p.pairs, pair)
		}
	}
	for pair, rate := range want {
		minor, known := p.pairs[pair]
		if !known {
			minor = p.minor()
		}
		if err := class(link, linkClass, minor, rate, rate); err != nil {
			errs = append(errs, err)
			continue
		}
		if !known {
			if err := filter(link, minor, pair); err != nil {
				errs = append(errs, err)
				continue
			}
			p.pairs[pair] = minor
		}
	}
	return errors.Join(errs...)
}

// class adds a class or changes its rates in place. HTB counts in bits.
func class(link netlink.Link, parent, minor uint16, rate, ceil schemas.BytesPerSecond) error {
	up := netlink.MakeHandle(rootMajor, parent)
	burst := uint32(float64(ceil)/250) + 3200
	c := netlink.NewHtbClass(netlink.ClassAttrs{LinkIndex: link.Attrs().Index, Handle: netlink.MakeHandle(rootMajor, minor), Parent: up},
		netlink.HtbClassAttrs{Rate: uint64(rate * 8), Ceil: uint64(ceil * 8), Buffer: burst, Cbuffer: burst, Quantum: 15000})
	if err := netlink.ClassReplace(c); err != nil {
		return fmt.Errorf("tunnel: class 1:%x of %s: %w", minor, link.Attrs().Name, err)
	}
	if parent == 0 {
		return nil
	}
	// A queue of its own, or the device's would let low rates queue for seconds.
	q := &netlink.GenericQdisc{QdiscAttrs: netlink.QdiscAttrs{LinkIndex: link.Attrs().Index, Handle: netlink.MakeHandle(minor, 0), Parent: netlink.MakeHandle(rootMajor, minor)}, QdiscType: "pfifo"}
	if err := netlink.QdiscAdd(q); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("tunnel: queue of class 1:%x of %s: %w", minor, link.Attrs().Name, err)
	}
	return nil
}

// filter sends a pair's migrations to their class: TCP from one host to the other, to the
// ports that QEMU listens on, 49152 and above. The priority is the class's number, so
// that it can be found again.
func filter(link netlink.Link, minor uint16, pair pairing) error {
	from, to := pair.from.As4(), pair.to.As4()
	f := &netlink.U32{FilterAttrs: netlink.FilterAttrs{LinkIndex: link.Attrs().Index, Parent: netlink.MakeHandle(rootMajor, 0), Priority: minor, Protocol: unix.ETH_P_IP},
		ClassId: netlink.MakeHandle(rootMajor, minor),
		Sel: &netlink.TcU32Sel{Flags: netlink.TC_U32_TERMINAL, Keys: []netlink.TcU32Key{
			{Mask: 0x00ff0000, Val: unix.IPPROTO_TCP << 16, Off: 8},
			{Mask: 0xffffffff, Val: binary.BigEndian.Uint32(from[:]), Off: 12},
			{Mask: 0xffffffff, Val: binary.BigEndian.Uint32(to[:]), Off: 16},
			{Mask: 0x0000c000, Val: 0x0000c000, Off: 20},
		}}}
	if err := netlink.FilterAdd(f); err != nil {
		return fmt.Errorf("tunnel: filter of class 1:%x of %s: %w", minor, link.Attrs().Name, err)
	}
	return nil
}

func (p *Plane) removeClass(link netlink.Link, minor uint16) error {
	f := &netlink.U32{FilterAttrs: netlink.FilterAttrs{LinkIndex: link.Attrs().Index, Parent: netlink.MakeHandle(rootMajor, 0), Priority: minor, Protocol: unix.ETH_P_IP}}
	err := netlink.FilterDel(f)
	c := netlink.NewHtbClass(netlink.ClassAttrs{LinkIndex: link.Attrs().Index, Handle: netlink.MakeHandle(rootMajor, minor), Parent: netlink.MakeHandle(rootMajor, linkClass)}, netlink.HtbClassAttrs{})
	return errors.Join(err, netlink.ClassDel(c))
}

// clearClasses takes away what an earlier role left: it knew which class was whose.
func (p *Plane) clearClasses(link netlink.Link) error {
	list, err := netlink.ClassList(link, netlink.HANDLE_NONE)
	if err != nil {
		return nil // there are none
	}
	var errs []error
	for _, c := range list {
		if _, minor := netlink.MajorMinor(c.Attrs().Handle); minor >= firstMove && c.Attrs().Handle>>16 == rootMajor {
			errs = append(errs, p.removeClass(link, minor))
		}
	}
	return errors.Join(errs...)
}

// Classes is how many classes of moves are in force.
func (p *Plane) Classes() int { return len(p.pairs) }

// Other is the rate of all that is no move, since the last call; ok is false on the first.
func (p *Plane) Other(now time.Time) (rate schemas.BytesPerSecond, ok bool) {
	if p.device == "" {
		return 0, false
	}
	link, err := netlink.LinkByName(p.device)
	if err != nil {
		return 0, false
	}
	list, err := netlink.ClassList(link, netlink.HANDLE_NONE)
	if err != nil {
		return 0, false
	}
	for _, c := range list {
		a := c.Attrs()
		if a.Handle != netlink.MakeHandle(rootMajor, otherClass) || a.Statistics == nil || a.Statistics.Basic == nil {
			continue
		}
		n := a.Statistics.Basic.Bytes
		was, at := p.last, p.lastAt
		p.last, p.lastAt = n, now
		if dt := now.Sub(at).Seconds(); !at.IsZero() && dt > 0 && n >= was {
			return schemas.BytesPerSecond(float64(n-was) / dt), true
		}
	}
	return 0, false
}

package plane

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
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
	maxClasses = 256
	maxPorts   = 8 // of one move
)

// pairing is two hosts between which moves are sent, from the first to the second.
type pairing struct{ from, to netip.Addr }

// key is what has a class: a move, or the moves between two hosts whose ports nobody has
// told. Those share one: their packets differ in nothing that is known.
type key struct {
	pairing
	move schemas.CommandID // empty: all whose ports are not known
}

// form is a class in force.
type form struct {
	minor uint16
	ports []int
}

// minor is the class of a key, chosen anew for each.
func (p *Plane) minor() uint16 {
	used := map[uint16]bool{}
	for _, f := range p.forms {
		used[f.minor] = true
	}
	for m := uint16(firstMove); ; m++ {
		if !used[m] {
			return m
		}
	}
}

// Shape sets the classes to a share-out: the link's rate for all, a guarantee for what is
// no move, and for every move from this site what it may use. A move is known by the ports
// it sends to; until those are told, which is moments after it has begun, by its hosts. A
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
	type wish struct {
		rate  schemas.BytesPerSecond
		ports []int
	}
	want := map[key]wish{}
	for _, s := range t.Shares {
		from, okF := p.cfg.Reach[s.Source]
		to, okT := p.cfg.Reach[s.Destination]
		if !okF || !okT || s.Waits || len(want) >= maxClasses {
			continue
		}
		k := key{pairing: pairing{from, to}}
		if len(s.Ports) > 0 {
			k.move = s.Command
		}
		want[k] = wish{want[k].rate + max(s.Rate, 1e5), s.Ports[:min(len(s.Ports), maxPorts)]}
	}
	var errs []error
	remove := func(k key, f form) {
		errs = append(errs, p.removeClass(link, f.minor))
		delete(p.forms, k)
	}
	for k, w := range want {
		f, known := p.forms[k]
		if known && !slices.Equal(w.ports, f.ports) {
			remove(k, f)
			known = false
		}
		if !known {
			f = form{p.minor(), w.ports}
		}
		if err := class(link, linkClass, f.minor, w.rate, w.rate); err != nil {
			errs = append(errs, err)
			continue
		}
		if !known {
			if err := filters(link, f, k.pairing); err != nil {
				errs = append(errs, err)
				continue
			}
			p.forms[k] = f
		}
	}
	// Last: a move that has just told its ports has its own class by now.
	for k, f := range p.forms {
		if _, ok := want[k]; !ok {
			remove(k, f)
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

// What a filter looks at, by its place in the IPv4 header and, there being no options in
// what a host sends of itself, in that of TCP behind it.
const (
	atProtocol = 8
	atFrom     = 12
	atTo       = 16
	atPort     = 20 // the destination's is the lower half
	// QEMU's ports, 49152 and above: their two highest bits are set.
	qemuPorts = 0xc000
	// unknownFirst is added to the priority of a filter for moves whose ports nobody has
	// told: those of a port are asked before it.
	unknownFirst = 0x8000
)

// filters send migrations to their class: TCP from one host to the other, to the move's
// own ports, or to any that QEMU listens on. The priority tells the class's number, so
// that they can be found again.
func filters(link netlink.Link, f form, pair pairing) error {
	from, to := pair.from.As4(), pair.to.As4()
	add := func(priority uint16, port netlink.TcU32Key) error {
		u := &netlink.U32{FilterAttrs: netlink.FilterAttrs{LinkIndex: link.Attrs().Index, Parent: netlink.MakeHandle(rootMajor, 0), Priority: priority, Protocol: unix.ETH_P_IP},
			ClassId: netlink.MakeHandle(rootMajor, f.minor),
			Sel: &netlink.TcU32Sel{Flags: netlink.TC_U32_TERMINAL, Keys: []netlink.TcU32Key{
				{Mask: 0x00ff0000, Val: unix.IPPROTO_TCP << 16, Off: atProtocol},
				{Mask: 0xffffffff, Val: binary.BigEndian.Uint32(from[:]), Off: atFrom},
				{Mask: 0xffffffff, Val: binary.BigEndian.Uint32(to[:]), Off: atTo},
				port,
			}}}
		if err := netlink.FilterAdd(u); err != nil {
			return fmt.Errorf("tunnel: filter of class 1:%x of %s: %w", f.minor, link.Attrs().Name, err)
		}
		return nil
	}
	if len(f.ports) == 0 {
		return add(unknownFirst+f.minor, netlink.TcU32Key{Mask: qemuPorts, Val: qemuPorts, Off: atPort})
	}
	for _, port := range f.ports {
		if err := add(f.minor, netlink.TcU32Key{Mask: 0xffff, Val: uint32(port), Off: atPort}); err != nil {
			return err
		}
	}
	return nil
}

// removeClass removes a class and what leads to it.
func (p *Plane) removeClass(link netlink.Link, minor uint16) error {
	var errs []error
	for _, priority := range []uint16{minor, unknownFirst + minor} {
		f := &netlink.U32{FilterAttrs: netlink.FilterAttrs{LinkIndex: link.Attrs().Index, Parent: netlink.MakeHandle(rootMajor, 0), Priority: priority, Protocol: unix.ETH_P_IP}}
		if err := netlink.FilterDel(f); err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.EINVAL) {
			errs = append(errs, err)
		}
	}
	c := netlink.NewHtbClass(netlink.ClassAttrs{LinkIndex: link.Attrs().Index, Handle: netlink.MakeHandle(rootMajor, minor), Parent: netlink.MakeHandle(rootMajor, linkClass)}, netlink.HtbClassAttrs{})
	return errors.Join(append(errs, netlink.ClassDel(c))...)
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
func (p *Plane) Classes() int { return len(p.forms) }

// Traffic is what passed the tunnel since the last look, in bytes/s.
type Traffic struct {
	Other schemas.BytesPerSecond // from this site, and of no move
	All   schemas.BytesPerSecond // in the direction in which more passed
}

// counts are the bytes counted so far, and when.
type counts struct {
	other, sent, received uint64
	at                    time.Time
}

// Passed looks at what passes; ok is false on the first look.
func (p *Plane) Passed(now time.Time) (t Traffic, ok bool) {
	if p.device == "" {
		return Traffic{}, false
	}
	link, err := netlink.LinkByName(p.device)
	if err != nil || link.Attrs().Statistics == nil {
		return Traffic{}, false
	}
	list, err := netlink.ClassList(link, netlink.HANDLE_NONE)
	if err != nil {
		return Traffic{}, false
	}
	for _, c := range list {
		a := c.Attrs()
		if a.Handle != netlink.MakeHandle(rootMajor, otherClass) || a.Statistics == nil || a.Statistics.Basic == nil {
			continue
		}
		was, is := p.last, counts{a.Statistics.Basic.Bytes, link.Attrs().Statistics.TxBytes, link.Attrs().Statistics.RxBytes, now}
		p.last = is
		dt := now.Sub(was.at).Seconds()
		if was.at.IsZero() || dt <= 0 || is.other < was.other || is.sent < was.sent || is.received < was.received {
			return Traffic{}, false
		}
		return Traffic{schemas.BytesPerSecond(float64(is.other-was.other) / dt), schemas.BytesPerSecond(float64(max(is.sent-was.sent, is.received-was.received)) / dt)}, true
	}
	return Traffic{}, false
}

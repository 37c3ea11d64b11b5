// Package plane is a gateway's end of an encrypted tunnel: a WireGuard interface, a VXLAN
// inside it that carries the segment of the VMs, and the classes of traffic on that.
//
// What comes in: what the tunnel role decides: the peer's announced key and endpoint, and
// the share-out of the link. What goes out: interfaces, addresses, classes and filters of
// this network namespace, all of whose names begin with the tunnel's own prefix.
//
// What is promised:
//
//   - A private key is made here, in a file of mode 0600, and is never sent.
//   - The peer may send from one address inside the tunnel, and from no other.
//   - Every call states what shall be and may be made again: a role that comes back finds
//     its interfaces, and carries on with them.
//   - Interfaces outlive the role. WireGuard of the kernel does by itself; where there is
//     none, a process of its own, the holder, keeps the userspace device and its TUN, and
//     ends when the interface is removed.
//   - [Plane.Down] leaves nothing behind: no interface, no class, no route, no key.
//
// Why VXLAN in WireGuard: a VM keeps its MAC and IP only if both sites are one segment.
package plane

// Package rpc speaks the server's side of libvirt's remote protocol: packets,
// XDR, typed parameters, errors, events and keep-alive, on plain TCP.
//
// What comes in: bytes of a client that may be virsh, go-libvirt or hostile. What
// goes out: calls to a [Handler], each with a bounded [Decoder] over its
// arguments and an [Encoder] for its result.
//
// What is promised:
//
//   - A packet never makes the server allocate more than a small multiple of the
//     bytes that really arrived, never panics, and never blocks another
//     connection. What cannot be decoded gets an error reply; what is not a packet
//     ends the connection.
//   - Replies and events of one connection leave in the order in which they were
//     queued. A client that does not read is cut off when its bounded queue is
//     full or a write takes too long.
//   - An idle connection costs one goroutine with its smallest stack and about 1 KB,
//     so that one process serves thousands of hosts.
//
// Why by hand: the usual reflective XDR packages encode the protocol's unions but
// cannot decode them, allocate what a length word claims, and cost more than the
// simulated work itself. The layout is that of libvirt's remote_protocol.x and
// virnetprotocol.x (RFC 4506 for XDR).
package rpc

// Package libvirt is the control plane's only user of go-libvirt: the calls of a
// client-managed migration, each side on its own host's daemon.
//
// What comes in: a libvirt URI of this host and the phases of one move. What goes
// out: what the host says of its copy, cookies and addresses for the other side,
// and errors of five classes (see [Class]).
//
// What is promised:
//
//   - Every call has a deadline. go-libvirt has none: when one passes, the
//     connection is closed and the call's result is unknown. A lost connection
//     never says anything about the VM.
//   - All phases of a move on one host go over one connection, from the first to
//     the last; libvirt drops what is half done when that connection goes.
//   - The flags are the same in every phase: live, paused at the destination,
//     protected against change, aborted on I/O errors, slowed down when it writes too fast, defined at the destination
//     and undefined at the source. Never peer-to-peer, never tunnelled; unsafe only
//     for the laboratory's shared directory, which no configuration reaches.
//   - Life is judged by what the guest does (CPU time, balloon reports), never by
//     libvirt having returned OK.
//
// Traps of go-libvirt that this package goes around: its event subscriptions ignore
// the domain, so that events are told apart here; ending a subscription on a live
// connection can lock its reader up for ever, so that they end with the connection;
// a packet with a short length word panics, so that packets are checked first;
// JobCompleted events cannot be decoded, so that the completed statistics are asked
// for at the destination; calls after a disconnection return EINVAL.
package libvirt

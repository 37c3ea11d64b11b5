// Package streams is the bus: the one table of streams, subjects, buckets and
// consumers, typed publishing and consuming, leases, and the one shell in which
// every service's decider runs.
//
// What comes in: raw NATS messages. What goes out: [Event] values for deciders,
// and the [Out] values they return, published with content ids, schema headers,
// signatures and optimistic locks.
//
// What is promised:
//
//   - Nothing but "foreshift streams apply" creates a stream, a bucket or a durable
//     consumer; a service that finds one missing says which command makes it.
//   - Whether a message is acked, retried or given up is decided in one place. A
//     message that cannot be decoded becomes a dead letter with its reason and a
//     counter; it never stops a service and is never retried for ever.
//   - Streams are told apart by account (TEL, CTRL, AUDIT). A role holds only the
//     connections it needs; there are no imports between accounts.
//   - Leases are for liveness only; safety never rests on one.
package streams

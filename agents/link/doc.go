// Package link is the Telegraf input "foreshift_link": it measures the links from
// this agent's site to others.
//
// What comes in: the time that TCP connections to a target in the other site take
// (one handshake is one round trip; a refused connection has made it too), the
// declared bandwidth, and, where an interface is named, the bytes that pass it.
// What goes out: one metric "foreshift_link" per link and gather with the median
// round trip, the share of probes that were lost, the bandwidth, and what is free
// of it.
//
// What is promised: probes of all links run side by side, each under its deadline,
// so a dead link costs the others nothing; a link that cannot be measured gives
// loss 1 and no round trip, never a zero one. Many agents may probe the same link:
// the output "foreshift_jetstream" lets one of them, elected by lease, publish.
package link

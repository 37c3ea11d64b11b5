// Package tunnel is the role that serves the link between two sites: it shares the link
// out among the moves that cross it, and on real gateways keeps the encrypted tunnel.
//
// What comes in: commands and outcomes of moves, their progress, what hosts carry and
// what is measured of the link. What goes out: the share-out of the link on
// tunnels.<link>, which gateways and actuators follow, and capacity.link, by which the
// placer knows what one more move could have.
//
// What is promised: of all gateways of a link one holds its lease and decides, the others
// fold and are ready; nothing unsafe follows when two believe they hold it, since a rate
// is only a rate. The decision is [share.Ledger], which is pure. A role that dies leaves
// moves at the rates they have, and tunnels up; one that takes over begins with the rates
// in force.
//
// Why a role of its own: no host sees all that crosses a link, and no placer is fast
// enough to follow a guest that begins to write.
package tunnel

// Package tunnel measures what the share-out of a link is worth: several moves over one
// link, ended sooner and late less often than without it?
//
// What comes in: a number of random sets of moves, and a seed. What goes out: for our
// share-out, for fixed equal shares and for no control, the total completion time, the
// missed deadlines and how much of its guarantee other traffic had; with the paired
// differences and their intervals by bootstrap over sets.
//
// What is promised: all three cross the same link with the same guests, the same other
// traffic and the same deadlines; the share-out is the one that runs live, told what a
// tunnel role is told (late, and with noise), not what the simulation knows. A move that
// its command's expiry refuses is ordered again 5 s later. The pre-copy is QEMU's: a
// round sends what the last one left dirty, at most the guest's working set, and the
// guest switches over when the rest takes 0.3 s. One that does not end within [patience]
// times what all moves take one after the other counts as ended then.
//
// Why a simulation: hundreds of sets in seconds, where a lab has a few in an hour.
package tunnel

// Package rescheduling moves a few virtual machines of a recorded cluster so that
// more large ones can be placed: the VM rescheduling problem of ByteDance's data set
// (EuroSys'25), on a snapshot of hosts with two NUMA nodes each.
//
// What comes in: a [Snapshot] (JSON, plain or gzipped), the most moves K allowed, a
// seed and CPU-seconds.
//
// What goes out: moves in an order that can be carried out one after the other, and
// the number y of 16-core places on single NUMA nodes once they are done.
//
// What is promised:
//
//   - Every move is possible when its turn comes: cores and huge pages suffice at its
//     destination at that moment, nothing moves that may not, and hosts that are not
//     ACTIVE neither give nor take. [Check] shows it from the snapshot and the list
//     of moves alone, sharing nothing with the search. The hosts of all clusters of a
//     snapshot are one pool, as in the published figures.
//   - The result is a pure function of snapshot, K, seed and the lengths of the
//     search's rounds, which the report names; a deadline only decides how many
//     rounds there are and how long, so that [Options].Rounds repeats a run exactly.
//
// Why it is here: the same moves that make room for large machines make room for
// moves against pressure, and the data set has proven optima to be held against.
package rescheduling

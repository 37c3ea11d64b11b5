// Package cluster simulates a whole Foreshift cluster, deterministically: hosts with
// their libvirts and disks, the network, the servers of NATS, clocks, people, and
// somebody who means harm; and on them the real deciders and state machines.
//
// What comes in: a seed. It alone decides of what the cluster is made, what befalls it
// (faults F1 to F14 of docs/SIMULATION.md) and in which order everything happens. What
// goes out: a violation of an invariant (I1 to I14), with its story, or none; counts
// of what happened; and a hash of it all.
//
// What is promised:
//
//   - What decides is the real code: admission, the source's and the destination's
//     machine of a move with their guards, the placer's decider with its budgets, and
//     the rules of authority. Only shells are written anew, as events.
//   - The same seed gives the same history to the last event, wherever it runs: there
//     is no clock, no goroutine, and one stream of chance for each purpose.
//   - Invariants are looked at when anything happens that could break them, against
//     what is true, not against what anybody believes.
//   - A guard that is left out is missed: for each there is a seed that finds it.
//
// Why: nobody can think of every order in which things go wrong, and no lab can wait
// for it. The manner is FoundationDB's and TigerBeetle's.
package cluster

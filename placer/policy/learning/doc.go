// Package learning is what the placer learns from its own moves: what they take, which
// settings pay, and from when on it may be trusted to act alone.
//
// What comes in: outcomes of moves with what was expected of them ([Costs]); what other
// settings would have cost on the same demand, in shadow ([Tuner]); and what came of
// decisions that nobody carried out ([Ladder]). What goes out: corrected durations, bytes
// and downtimes; at most one change of one setting with its evidence; and whether auto has
// been earned.
//
// What is promised:
//
//   - Everything is a pure fold: no clock, no chance, no I/O. The same events in the same
//     order give the same state, and the state is in the placer's snapshot.
//   - What is learnt of costs is compared with arithmetic alone, never with itself, and
//     stays within a factor of 20 of it.
//   - A setting changes only if the shadow's 90 % interval excludes 0, one setting at a
//     time, by at most a tenth, inside the operator's bounds, and not on poor data. Why not
//     is a typed answer.
//   - A change is an ordinary act with its evidence: it can be rolled back like any other.
//
// Why so little at a time: a fleet's bad days are few, and a setting that a quiet week
// likes can be the one that hurts in the next. Ten steps of a tenth go as far as one of
// two and a half, and can be taken back on the way.
package learning

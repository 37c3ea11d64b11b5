// Package learning is what the placer learns from its own moves: what they take, which
// settings pay, and from when on it may be trusted to act alone.
//
// What comes in: outcomes of moves with what was expected of them ([Costs]); what other
// settings would have cost on the same demand, in shadow ([Decide]); and what came of
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
//   - Settings change only towards what is expected to lose least over all days that were
//     played, together, by a factor of 1.6 at the most; not if the chance to lose 5 % more is above
//     a quarter; inside the operator's bounds, and not on poor data. Why not is a typed answer.
//   - A change is an ordinary act with its evidence: it can be rolled back like any other.
//
// Why not wait until it is certain: a fleet's bad days are few, and what tells settings
// apart are they alone. Whoever demands certainty of one week stays with what is wrong for
// months, or believes the quiet weeks, in which fewer moves are certainly better. So all
// days count, neighbours among the values lend each other their days, and what may be
// luck is drawn towards no difference. Why together: of two settings that are both wrong
// each alone may bring nothing.
package learning

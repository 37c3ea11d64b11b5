// Package share decides how the moves that cross a link between two sites share it.
//
// What comes in: the link (its shaped rate, what is guaranteed to all other traffic,
// what that traffic takes now) and the moves that want to cross it, each with what it
// has left to send, the rate at which its guest writes, its deadline and the rate in
// force. What goes out: a rate for every move that runs, and a typed reason for every
// one that waits. [Ledger] is the fold of the bus's messages that keeps the links and
// their moves; [Divider.Divide] is the arithmetic.
//
// What is promised, and held to by property tests:
//
//   - The rates together never exceed what other traffic leaves: the link's rate less
//     what is guaranteed to it, or less what it takes when that is more.
//   - Floors first: a running move gets [Margin] times the rate at which its guest
//     writes, below which pre-copy comes to no end, before any other move gets more
//     than its own floor. Where not even the floors fit, the earliest deadlines have
//     theirs, so that some moves end rather than none.
//   - Then what the deadlines ask for, the earliest first; then the rest, max-min
//     fair: the slowest are raised first, up to what each can use.
//   - Work-conserving: nothing is left over while a running move could use it, but for
//     the band of [Band] within which rates are left alone.
//   - Stable: inputs that change a little change no rate.
//   - A move that cannot converge on what the link leaves does not start, and says so.
//     One that could start, but would only slow the others down, waits for its turn as
//     long as its deadline and its command's expiry allow: of two moves over one link,
//     one after the other, neither ends later and one ends sooner, and less memory is
//     sent twice.
//
// Why a pure function: the same inputs give the same rates, live, in a test and in a
// simulation of ten thousand moves.
package share

// Package effect says what a move achieved: how each measured quantity of the VM, of
// its old host and of its new one changed, against what would have come without the
// move.
//
// What comes in: a [Move] that has ended, and the recent past of all VMs ([Past]:
// windows, and on which host since when). What goes out: schemas.Effect, with before,
// after, the counterfactual, and the 90 % interval of the difference, a term for each
// quantity of which there is enough to say something.
//
// How: the mean of the hour (12 steps) after the move is compared with a forecast of it
// from what was known before the move: the level of the hour before, the rhythm of the
// days before, and the pull back to it, weighed by least squares on the series' own past.
// What the VMs on hosts without moves did against their own forecasts in the same hour
// is what happened to the whole fleet, and is taken out of it. The interval comes from
// the same estimate at some hundreds of moments of the past at which nothing moved: how
// far it was off then is how far it may be off now. Where the fleet disagrees with itself
// more than it used to, as when its load shifts for some more than for others, the
// interval widens in proportion.
//
// What is promised:
//
//   - The true effect lies in the interval in nine of ten cases, also while the whole
//     fleet's load shifts; a test holds it to between 85 and 95 of 100.
//   - VMs that came, left or moved near the time are in no sum and in no comparison.
//     Steps in which the VM was migrating or paused are left out.
//   - A quantity nobody measured, or with too little past to know how wrong the
//     estimate may be, gets no term: nothing is guessed.
//   - [Judge] is a pure function; sums run in the order of the VMs' ids.
//
// Why not the ensemble's own forecasts: steal, swap, response times and sums over hosts
// have none, and the past errors that make the interval must be those of the very
// estimate that is made.
package effect

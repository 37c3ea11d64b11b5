// Package pressure says how likely it is that a VM's own demand exceeds its own
// limit within the next 12, 72 and 288 base steps (1, 6 and 24 hours of 5 minutes).
//
// What comes in: a VM's window, its forecast and scenarios, its allocation.
//
// What goes out: a schemas.Chance per resource, when the shortage is expected to
// begin (onset), the expected peak, and sentences that say why; and, from [Tracker],
// whether that is worth publishing.
//
// What is promised:
//
//   - The chance is of the window's maximum, directly. It is not derived from the slots'
//     marginal quantiles as if slots were independent. It is made from some fifty
//     features: how often such windows exceeded the limit (in eight weeks, lately, after
//     calm moments, yesterday and on the days and weekdays before at this time), how high
//     demand was (over an hour up to a week, in the same window of other days), and for
//     how long pauses between exceedances last. A logistic regression takes them, small
//     trees add what bends and crosses, and an isotonic map puts both right: all pooled over the fleet by resource, horizon and state.
//   - The regression starts from coefficients fitted once to public traces and moves
//     with what the fleet itself lives through ([Head.Learn], [Head.Fit]); chances that
//     calibrate it were given before their outcome was known.
//   - What is remembered is bounded: of moments that came to nothing the fewer the surer
//     they were, each for as many as it stands for. [Head.AppendState] has all of it.
//   - A VM with less than two days of history takes part of its chance from the
//     forecast.
//   - A longer horizon never has a smaller chance.
//   - Onset is the first slot by which half of the chance of a first exceedance has
//     accrued. It is left empty while the chance is below [Floor].
//   - The cause is always own_limit: a move does not help, so a resize is advised.
//     Contention on the host is the placer's to see.
//
// Why pooled: exceedances are rare and cluster in few VMs; one VM's own are too few to
// learn from, and its own past is among the features.
package pressure

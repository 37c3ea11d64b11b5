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
//   - The chance is of the window's maximum, estimated directly from how often
//     windows of that length exceeded the limit: overall, after a state like the
//     present one, at this time of day, and along the scenarios. It is not derived
//     from the slots' marginal quantiles as if slots were independent.
//   - A longer horizon never has a smaller chance.
//   - Onset is the first slot by which half of the chance of a first exceedance has
//     accrued. It is left empty while the chance is below [Floor].
//   - The cause is always own_limit: a move does not help, so a resize is advised.
//     Contention on the host is the placer's to see.
//
// Why counting and not a fitted law: exceedances are rare and clustered; the counts
// are shrunk towards each other and combined on the logit scale with fixed weights.
package pressure

// Package model holds the forecasting models, each a [Bank] of series: batched
// arrays indexed by a small integer, not an object a series.
//
// What comes in: one value per series and base step ([Bank.Observe]), and now and
// then the series' whole window ([Bank.Refit]).
//
// What goes out: predictive quantiles on the forecast grid. [Experts] gives the
// parts of a bank one by one, for the ensemble to weigh.
//
// What is promised:
//
//   - Observe is O(1) and Forecast works in scratch memory; neither allocates.
//   - Quantiles do not decrease with their level and are never negative. A series
//     that stood still is forecast to stand still; one that is mostly zero keeps its
//     zeros, for all models here are empirical and assume no shape.
//   - A missing value (NaN) is left out, never taken as zero. An expert that has too
//     little to go by says so instead of guessing.
//   - When a series is refitted follows from its key and the step ([Due]), never
//     from how fast the machine is; what a refit yields depends on the window up to
//     that step alone, but for what [Prophet] remembers of events.
//   - AppendState writes all that a bank keeps, bounded and versioned: one restored
//     goes on bit by bit as the one written down. Without a state, a refit from the
//     window comes to the same but for that memory.
//   - What cannot be a demand (infinite, negative, beyond 10^15) is missing.
package model

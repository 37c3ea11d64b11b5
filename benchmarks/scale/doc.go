// Package scale runs forecasters as processes of their own on a real bus under a
// synthetic fleet, kills, stops, adds and throttles them, and measures what became of
// the fleet's history and forecasts.
//
// What comes in: the size of the fleet, how often its agents report, the base step, and
// the binary. What goes out: how long partitions went without a forecast, how far the
// slowest partition lags, how much memory the processes keep, and whether every sample
// is in the history once.
//
// The last is checked by content: the k-th sample of a step adds 16 x 2^k to what its VM
// demands, so that the mean of a step tells which samples went in, and how often.
//
// It is promised that only processes started here are signalled, and that they end with
// the run.
package scale

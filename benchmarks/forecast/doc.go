// Package forecast measures how good the forecasts are, on recorded demand.
//
// What comes in: series (package trace), a horizon and the names of models.
//
// What goes out: for every model its errors against what came (MASE, CRPS pooled and
// relative to the seasonal naive, coverage of the 80 % band) and its CPU time, for
// fits and forecasts apart; and, if asked for, the forecasts themselves as CSV.
//
// What is promised:
//
//   - Series are walked through step by step by the banks that production runs:
//     observe, refit when due, forecast. Nothing is seen before its time, and nothing
//     is fitted to the file as a whole.
//   - Series are split into [Shards] by name, each with a bank of its own, as a fleet
//     is into partitions; so what is learnt across series, and every figure but the
//     CPU time, is the same whatever the number of cores.
//   - A missing value is told to nobody and scored by nobody.
//
// Why CPU time and not the clock: benchmarks share machines.
package forecast

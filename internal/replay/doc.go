// Package replay runs placement policies over recorded demand, side by side, and says
// what each would have saved: the backtest.
//
// What comes in: a [History] of demand read from trace files, a utilisation to size the
// hosts for, and the policies to compare, each from the same random placements.
//
// What goes out: a [Result]: for every policy the demand that went unserved, moves,
// bytes, returns, downtime, its ratios to the fair peer without forecasts and to our own
// placer that takes the last value to last, with intervals; the gates that say whether
// the comparison means anything; and a page that shows it.
//
// What is promised:
//
//   - A policy sees demand up to the step after which it decides, and its move takes
//     time, memory at both hosts and CPU of its source, for all policies alike. Only the
//     oracle looks ahead, and it is called so.
//   - The predictive policy is what runs in service: the ensemble walks through the
//     history step by step, its joint scenarios are folded into a fleet, and the placer
//     decides. Forecasts do not depend on placement, so they are made once and shared
//     by all placements and settings.
//   - Steps at which no host can be pressed are not put to the placer, since it would
//     decide nothing then.
//   - The same history and options give the same moves and hash of them, whatever the
//     number of workers. Nothing here can act: no bus, no host, no clock.
//   - A history too short, a size that cannot hold, or a gate that fails is said, never
//     covered by a figure.
//
// Why a world so plain (a host serves up to its cores, what exceeds them goes unserved):
// its one figure, unserved core-hours, is the same for all policies, cannot be improved
// by moving load about below capacity, and needs nothing that a trace does not have.
package replay

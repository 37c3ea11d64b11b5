// Package fleet measures what forecasting a whole fleet costs: the CPU of one base
// step and the memory a VM takes.
//
// What comes in: the number of hosts and VMs, and of how many of them to time the steps
// and to measure the memory. What goes out: a [Result] with CPU-seconds by part and bytes a VM.
//
// What is promised:
//
//   - The forecaster's own decider does the work: eight days of history are folded
//     as STEPS messages, each step comes as one message a host, and what the decider
//     publishes is encoded as it is for the bus. Nothing is stubbed.
//   - A measurement covers whole refit periods, so that every series is refitted and
//     asked as often as in a year.
//   - What was measured and what was multiplied are told apart: with fewer VMs timed
//     than asked for, the figures of the fleet are those of the sample times the ratio
//     and [Result].Extrapolated says so. A sample must be well beyond the processor's
//     caches; a few hundred VMs, at about 180 KB each, are.
//
// Why a sample at all: a hundred thousand cold starts are hours of fitting before the
// first step can be timed. The decider's work is per VM and nothing
// in it grows with the fleet but the table it walks.
package fleet

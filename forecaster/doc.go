// Package forecaster turns telemetry into the durable history, forecasts and
// pressures of VMs.
//
// What comes in: METRICS (rows of samples per host), STEPS (the history: what this
// or another owner closed before, and imports), EXTERNAL (calendar entries and
// numeric series known for the future) and the labels of VMs in bucket vms, by which
// entries find whom they concern.
//
// What goes out, per partition that is owned: steps.<partition> when a base step
// closes and again as a revision when samples came late; forecasts.<partition> for
// the newest closed step; pressure.vm.<vm>.own_limit when it changed.
//
// What is promised:
//
//   - [Decider] is pure: the same events and cuts give the same bytes, also after a
//     restart from the snapshot and the STEPS of the last 8 days.
//   - A step closes when stream time has passed its end by the grace. Every sample
//     counts once: it is in the step, in a revision of it, or in a counter.
//   - Steps of a partition are published one at a time, each expecting the last
//     sequence that was seen of its subject; the next waits until the stream shows
//     it. Who loses that race takes over what the other published and sends only
//     what is missing from it.
//   - A VM with hardly any history, or none that is fresh, gets no forecast rather
//     than a guess; one with little gets a wider one. Both are counted.
//   - The state of METRICS and that of STEPS meet only in Tick. Everything is folded
//     whether owned or not, so that taking over a partition needs no reading back;
//     only what is owned is published.
//
// service.go is the shell: the bus, the lease and the gauges.
package forecaster

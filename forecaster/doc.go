// Package forecaster turns telemetry into the durable history, forecasts and
// pressures of VMs.
//
// What comes in: METRICS (rows of samples per host), STEPS (the history: what this
// or another owner closed before, and imports), MODELS, EXTERNAL (calendar entries and
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
//     restart from the snapshot, which holds all that was learnt, and the STEPS of the
//     last 8 days, which fill the windows and are not learnt from twice; and whatever
//     the number of goroutines: each resource is a lane of its own.
//   - A step closes when stream time has passed its end by the grace. Every sample
//     counts once: it is in the step, in a revision of it, or in a counter.
//   - Steps of a partition are published one at a time, each expecting the last
//     sequence that was seen of its subject; the next waits until the stream shows
//     it. Who loses that race takes over what the other published and sends only
//     what is missing from it.
//   - A VM seen for the first time is forecast at its first closed step, as the fleet
//     is and much wider; one with little history is widened; one without fresh
//     telemetry gets none. All are counted by reason. What no demand can be is missing.
//   - However many VMs come with days of history at once, a step refits only as many as
//     leave it most of its time; the others wait, forecast as the fleet is.
//   - Versions of learnt state (MODELS) come into force at their step, the same for all
//     partitions: weights of the network, and the past steps that scenarios follow.
//     Without any, what is built in serves, and the origins of the step.
//   - The state of METRICS and that of STEPS meet only in Tick. Everything is folded and
//     learnt from whether owned or not (by who owns nothing one step behind), so that
//     taking over needs no reading back; only what is owned is published.
//
// service.go and keeper.go are the shell: the bus, the lease, the gauges; versions
// fetched and published, and the network trained on the fleet's own history in the
// background.
package forecaster

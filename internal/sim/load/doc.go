// Package load is what the simulated VMs want: demand as a pure function of the
// VM and the base step, from a seed or from a trace file.
//
// What comes in: a [Profile] per VM (class of work, size, seed, time zone) and a
// calendar that says which step is midnight of a Monday. What goes out: a
// [Demand] for any VM and step, in the past or the future.
//
// What is promised:
//
//   - The same profile, calendar and step give the same demand, whoever asks, in
//     whatever order: history and live agree to the last bit.
//   - A day has [schemas.StepsPerDay] steps whatever a step lasts, so that the
//     same week plays in a week or in half an hour.
//   - Demand never exceeds what the VM is allocated, memory always leaves a tenth.
//
// Why functions and not generators: a generator has to be run from its start and
// its state kept; a function can be asked for last Tuesday. Noise is value noise
// on hashed lattices of several periods, which is autocorrelated by construction.
package load

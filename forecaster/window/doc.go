// Package window turns samples into base steps and keeps each VM's recent past.
//
// What comes in: the rows of schemas.Metrics (a sample is the mean over the
// interval that ended at its time) and the rows of schemas.Steps (history that
// was closed before, by this process, by another owner or by an import).
//
// What goes out: closed rows for the durable history, and a [View] of 8 days of
// base steps as contiguous float32 columns, which the models read in place.
//
// What is promised:
//
//   - A [Window] lives in Arrow-owned buffers of fixed size, slides by memmove and
//     costs at most 128 KB a VM together with its last hour at the agent's own
//     resolution ([Recent]); 164 KB with the optional columns. Writing a row does
//     not allocate. Row i is step First+i: gaps are rows of NaN, never left out.
//   - An [Accumulator] shares a sample out over the base steps it overlaps and
//     weights means by the time covered, so that the agent's interval and phase do
//     not matter. Doubles, samples from the future and samples too late are counted
//     and dropped; what comes late but in time is handed out once more as a
//     correction of its step.
//   - The number of VMs is bounded, and one not seen for 8 days is forgotten.
//   - The two states do not touch: the accumulator knows metrics only, windows know
//     closed steps only. They meet where the caller closes a step.
//
// Why sliding buffers: a contiguous column is what quantiles, regressions and
// Arrow itself want. One memmove every eight hours costs a few ns a value; a ring would
// make every reader handle two pieces, and a record builder per VM doubles the memory.
package window

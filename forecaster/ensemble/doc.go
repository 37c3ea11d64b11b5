// Package ensemble mixes the experts of all banks into one calibrated distribution
// per series, and joins the VMs' distributions into scenarios.
//
// What comes in: the experts' quantiles (package model) and, for scenarios, the
// VMs' windows.
//
// What goes out: schemas.Dist per VM and resource, and schemas.Scenarios per VM,
// whose k-th path follows the same past origin for every VM of the fleet.
//
// What is promised:
//
//   - The mix is a trimmed weighted mean of quantiles per level (not of densities: it
//     stays sharp where experts agree on the shape and differ in place, and a minority
//     that is far off does not move it). Weights are learnt online for every series,
//     bucket of leads and group of levels from what was forecast and then came, by
//     Bernstein online aggregation, starting from the weights that pay in the series'
//     cluster. The spread is tracked so that outer quantiles are exceeded as often as
//     they say. An expert with nothing to go by hands its weight to the others, and
//     one without a weight is not asked, but when something is to be learnt of it.
//   - What was learnt can be written down and read again: it goes on bit by bit.
//   - A sum of scenarios over VMs keeps the tail that co-bursting VMs have: origins
//     and the step looked at in each slot are a function of the step alone, or were
//     chosen for the fleet, the same for all. A VM without history at an origin follows the others' path, scaled,
//     or one common path; never independent noise.
//     Each VM's order of the scenarios is drawn to the fleet's, for a sum errs by what is
//     missed of what its VMs share.
//   - A newcomer's quantiles are wider, by what newcomers' lacked so far.
//   - Over its scenarios a VM has the ensemble's own quantiles (Schaake shuffle:
//     Clark et al. 2004), plus one path on which the last ten minutes persist for an
//     hour with weight .4.
//   - The same windows and step give the same bytes.
//
// Why weights by bucket and level: the last hour knows the next step, the days before
// know the evening, and who has the best median need not have the best tail.
package ensemble

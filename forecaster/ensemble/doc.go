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
//   - The mix is a weighted mean of quantiles per level (not of densities: the mean
//     of quantiles stays sharp where experts agree on the shape and differ in
//     place). Weights depend on the lead and on how daily the series is; an expert
//     with nothing to go by hands its weight to the others.
//   - A sum of scenarios over VMs keeps the tail that co-bursting VMs have: origins
//     and the step looked at in each slot are a function of the step alone, the same
//     for all. A VM without history at an origin follows the others' path, scaled,
//     or one common path; never independent noise.
//   - Over its scenarios a VM has the ensemble's own quantiles (Schaake shuffle:
//     Clark et al. 2004), plus one path on which the last ten minutes persist for an
//     hour with weight .4.
//   - The same windows and step give the same bytes.
//
// Why fixed weights: they are a prior, found once on public traces; learning them
// online needs only to replace [Weights].
package ensemble

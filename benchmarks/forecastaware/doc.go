// Package forecastaware moves virtual machines by their forecast demand: a synthetic
// benchmark with known bounds, and a generator of harder instances.
//
// What comes in: an [Instance] (JSON, plain or gzipped): hosts with cores and memory,
// VMs with a host, memory and demand per slot, a threshold and the most moves K; a
// seed and CPU-seconds.
//
// What goes out: moves, in an order that can be carried out one after the other,
// which make the demand above threshold, summed over hosts and slots, plus a price
// for the memory moved, as small as the search can.
//
// What is promised:
//
//   - At most K VMs move, each once. Memory is hard, and as in a live migration a VM
//     holds it at its source until all moves are done: what arrives at a host fits
//     into what is free there at first. So any order of the moves is possible. Where
//     an instance has links between sites, no more memory crosses one than it takes.
//   - [Check] shows all this and the objective from the instance and the moves alone,
//     sharing nothing with the search.
//   - Every host is a candidate for every VM. To look at the coolest ones only costs
//     six times the objective on the largest published instance.
//   - [LowerBound] is proven: what each host would do best if nobody arrived anywhere.
//     The search starts from those departures; on the published instances it reaches
//     the bound, so that their optima are known.
//   - The result is a pure function of instance, seed and the counts in the report.
//
// Why it is here: it is the placer's problem laid bare, one resource and one future,
// small enough for the optimum to be known. [Family] makes instances where demand,
// links between sites and K pull in different directions, and [WriteLP] gives any of
// them to a solver. Side by side with CBC, its optimum or its bound (coinor-cbc):
//
//	go test -run - -bench Family -benchtime 1x -timeout 30m ./benchmarks/forecastaware
package forecastaware

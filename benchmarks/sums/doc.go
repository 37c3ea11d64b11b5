// Package sums measures whether a sum of scenarios over the VMs of a host is a good
// forecast of the host's demand.
//
// What comes in: recorded demand of many VMs, which random groups of them stand for
// hosts.
//
// What goes out: the pinball loss of the sum's p90 and p95 and how often they were not
// exceeded, for our joint scenarios and for what one could do instead: adding the VMs'
// forecasts as if they were independent, and looking at the group's own past.
//
// What is promised: VMs are walked through by the ensemble that production runs, a
// group is never seen before its time, and the figures of one seed are the same
// whatever the number of cores.
//
// Why: VMs burst together. Who adds them as if they did not believes in a host that is
// safe, and who looks at the group's past must have had the group on one host.
package sums

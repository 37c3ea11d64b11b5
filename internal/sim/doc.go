// Package sim is a fleet of simulated hosts that speak libvirt: the real virsh,
// go-libvirt and everything built on them work against it, live migration
// included.
//
// What comes in: a [Config] (how many hosts and VMs, a seed or a trace, how long a
// step lasts) and libvirt calls over TCP, one loopback address per host. What goes
// out: libvirt's replies and events as of the clock, the history that a fleet
// would have recorded ([Fleet.History]), and the truth about every VM
// ([Fleet.Truth]), against which safety is judged.
//
// What is promised:
//
//   - It listens on loopback only, never on other addresses.
//   - The same configuration gives the same hosts, VMs, placement and demand;
//     history and live are one function. Time comes from Config.Now alone.
//   - Without moves, one host in four runs clearly
//     short of CPU around the daily peak, while others have ample room and memory
//     fits everywhere: a better placement without any shortage exists.
//   - The phases of a migration are bound to client connections, fail and recover
//     as libvirt's do (see package world); faults can be injected ([Fleet.Inject]).
//   - Hostile packets cost their own connection only.
//
// Why a server and not a fake in Go: what talks to libvirt is tested with the very
// code that talks to a real one, over a real socket that can break.
package sim

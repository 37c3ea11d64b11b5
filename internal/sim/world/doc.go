// Package world is the physics of the simulated fleet: hosts that share out their
// cores, guests that run, wait, dirty memory and move, links that are shared.
//
// What comes in: the fleet's make-up, what each VM wants at each step (a pure
// function), calls as libvirt's QEMU driver takes them, and the time, always as an
// argument. What goes out: counters and states as of that time, libvirt errors,
// lifecycle events, and the ground truth that no real fleet has: where copies run.
//
// What is promised:
//
//   - Everything is a function of time. Counters are kept at the borders of
//     segments of constant rate and read in between, so that how often one looks
//     changes nothing, not even the last bit.
//   - CPU is served in proportion when the sum of demands exceeds a host's cores;
//     what is not served is time in the run queue (vcpu.delay). A pre-copy costs its
//     source a tenth of a core.
//   - Pre-copy sends memory in rounds while the guest dirties its working set
//     again: unique dirty memory W grows by dW/dt = d(1-W/S), d the write rate and S
//     the working set. Concurrent moves share NICs and the link between sites
//     max-min fairly, each under its own ceiling.
//   - The phases of a migration follow libvirt's v3 protocol: what a lost
//     connection, a dead daemon or a dead QEMU leaves behind is what libvirt leaves.
//   - [World.Truth] counts what must never happen: two running copies of a VM, a
//     stale copy brought back to life, the last intact copy lost.
//
// Why apart from the wire: the physics runs in virtual time in tests and needs
// neither sockets nor goroutines. The caller serialises all access.
package world

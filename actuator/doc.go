// Package actuator carries out live migrations: one actuator per host, over the
// host's own libvirt.
//
// What comes in: signed commands of the placer that name this host as their source
// (durable consumer actuator-<host>), signed acts of operators and the placer's
// heartbeat, and signed requests of other hosts' actuators for which this host is
// the destination. What goes out: calls to libvirt, progress, and exactly one final
// outcome for every command on the VM's record.
//
// What is promised:
//
//   - NATS decides what should happen; the host decides what is allowed. Every
//     command is judged again here: signature against the pinned keys, expiry,
//     fence, heartbeat, pause, and what libvirt says now ([migration.Admit]).
//   - What must not be forgotten is on disk, flushed, before it takes effect: fence,
//     accepted commands, "handed over", resume intents, releases.
//   - After a crash at any point the move is finished, rolled back or held from the
//     journal and from what both hosts say; see package migration for the rules.
//   - Stopping: a move that was not handed over is aborted and rolled back; one that
//     was is finished. What takes longer than [StopGrace] is left to the journal:
//     the connection closes, libvirt cancels an unfinished transfer, and the next
//     start goes on from there.
//   - Nothing else is ever done to a guest: none is started, stopped or defined.
package actuator

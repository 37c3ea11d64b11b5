// Package lab is a small fleet of real hypervisors on one machine.
//
// Three hosts come up, each a network, mount and host-name namespace with its own
// libvirtd and QEMU, joined by one bridge. They differ from a rack only in sharing
// a kernel, which is why each host's capacity is declared and not measured. Guests
// are booted from a cloud kernel and a static Go program as PID 1 (package guest):
// they burn CPU by a schedule, dirty memory, check every page, and send a heartbeat
// every 10 ms, so that downtime and damage are seen from outside and not taken from
// libvirt's word.
//
// In come a directory, the hosts' declared capacity and what each guest should do.
// Out come libvirt URIs that anything may use ([Host.URI]: the agent, the
// actuators, virsh), the heartbeats' record ([Heartbeats]), a count of running
// copies of a VM taken with the real virsh ([Watch]), faults on demand (a cut or
// throttled link, a killed libvirtd, a killed QEMU, a call to libvirtd whose reply is
// lost: [Gate]), and [Demo], which shows Foreshift moving a VM before its host runs
// short. A guest may have a disk that all hosts see, with a record on it that shows a
// second writer. Package matrix breaks moves with these tools.
//
// Promised: [Install] and [Up] can be called again and again; everything a lab
// makes carries the lab's own prefix and is written down before it is made, so that
// [Lab.Down], or [Clean] after a killed run, removes all of it and nothing else.
// [Up] without root fails with [ErrNotRoot], whose text is what a skipped test
// prints.
//
// Why namespaces and emulation: KVM is rarely to be had on build machines, and
// nothing short of libvirt's and QEMU's own code shows what they do when a link is
// cut in the middle of a switchover. QEMU must be 9 or newer: older ones corrupt
// emulated guests on migration while libvirt reports success.
package lab

// Package domain is the Telegraf input "foreshift_domain": it watches the VMs of
// one or many libvirt hosts.
//
// What comes in: for every host and gather one GetAllDomainStats (run time and
// wait of the vCPUs, balloon, network, disks, dirty rate), the host's own CPU and
// memory, and, seldom, descriptions of VMs, storage pools and capabilities. What
// goes out: metrics "foreshift_vm", one per active VM, with cumulative counters
// and gauges as libvirt gives them, then one "foreshift_host" with the host's
// counters and its inventory as JSON. Both carry at_ns, the middle of the call in
// nanoseconds, since Telegraf rounds a metric's own time; rates are made once, by
// the output "foreshift_jetstream".
//
// What is promised:
//
//   - Absent is not zero: a quantity that libvirt did not tell has no field, and a
//     host that did not answer has no metrics. The reader sees its age.
//   - One bad host never delays the others: each has its own connection, its own
//     deadline and its own back-off, and a gather that waits for it is given up.
//   - Nothing a host says can harm the agent: lengths are checked before memory is
//     taken, counts are bounded, numbers that cannot be are missing.
//   - It only reads. The one thing it starts is libvirt's dirty rate measurement,
//     for few VMs at a time, and that can be switched off (the connection is then
//     read-only).
//
// Why not Telegraf's own libvirt input: it has no UUIDs, starts no dirty rate
// measurement, and knows neither hosts nor inventory. Why an own client beneath:
// the Go library knows no deadline, and its decoder reflects over every parameter
// and believes every length.
package domain

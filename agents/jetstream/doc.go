// Package jetstream is the Telegraf output "foreshift_jetstream": it makes rates
// of what the inputs counted and puts them on the bus.
//
// What comes in: metrics foreshift_vm and foreshift_host, in whatever batches
// Telegraf cuts them; foreshift_link; Telegraf's cpu, mem, net and pressure (Linux
// PSI) of the agent's own machine; http_response and ping of applications. What
// goes out: for every host and gather one metrics.<host> (Arrow IPC, a row per
// active VM and one for the host) and one capacity.host.<host>; entries of the
// buckets hosts and vms when they change; capacity.link.<a>.<b> from the one agent
// that holds the link's lease.
//
// What is promised:
//
//   - A message is one gather of one host: it is built when its foreshift_host and
//     as many foreshift_vm as that one names have come, or when a newer gather of
//     the host begins.
//   - Rates are made here and nowhere else. A VM new to a host starts anew: its
//     first row has gauges only. A counter that went back gives FlagReset and no
//     rates; so does none a gap of more than three gathers.
//   - A Write that fails is repeated by Telegraf with the same metrics and leads to
//     the same messages with the same ids: what was stored is not stored again and
//     no counter is lost, since state moves on only when the bus has acknowledged.
//   - Memory is bounded: by hosts and VMs, never by how long the bus is away (the
//     backlog stays in Telegraf's buffer).
//
// Why an own output: Telegraf's NATS output knows no headers, no ids and no Arrow,
// and it would create streams.
package jetstream

// Package schemas holds every message of Foreshift as a Go value.
//
// What comes in and goes out: bytes of one NATS message on one side, a checked
// Go value on the other. Messages that a person may want to read on the bus are
// JSON; the high-volume ones (metrics, steps, forecasts) are self-contained
// Arrow IPC streams, so that any single message can be decoded by itself.
//
// What is promised:
//
//   - The package is the only meeting place of the services: it imports no other
//     package of Foreshift and every service imports it.
//   - Every number carries its unit in its type or in the last part of its name
//     ([MilliCPU], [Bytes], downtime_ms). Missing is missing ([NaN] in memory,
//     null on the wire), never zero.
//   - [Decode] gives a valid message or an error that names the field; it never
//     panics, and the memory it takes is bounded by a multiple of its input. NaN and
//     infinities never enter by the wire.
//   - A value has one form: equal messages give equal bytes, a list or map without
//     items is [] or {} on the wire and nil in memory, and what was decoded encodes
//     to a message that decodes to the same value.
//   - A message of an unknown major version is refused; an unknown minor version
//     of a known major is read leniently, so that services N-1 and N can meet
//     during a rolling upgrade.
//   - A golden sample of each message version is kept under testdata and decoded
//     for ever.
//
// Why a package and not generated code: the Go types are the contract; the JSON
// Schemas under v1/ are generated from them (task gen) and CI checks the drift.
// Why encoding/json/v2: it refuses by default what two readers could take for two
// different messages. Why our own reader and writer of the few Arrow types we use:
// the usual reader trusts the lengths it is told, and the usual writer costs five
// times as much. The tests hold both against Arrow's own library.
package schemas

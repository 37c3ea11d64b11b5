// Package calendar turns what operators know of the future into regressors on base
// steps: campaigns, batch windows and holidays (schemas.Calendar, with RFC 5545
// recurrence and IANA time zones) and numeric series such as a traffic forecast
// (schemas.External).
//
// What comes in: entries by id, the newest of an id being in force; the labels of
// VMs. What goes out: a [Sheet] for a range of steps, past and future: the distinct
// series, and for every VM and resource the model.Term values that concern it.
//
// What is promised:
//
//   - A series is a pure function of the entries and the step: it does not matter when
//     or for which range a sheet is made. Order is that of ids and classes, never of a
//     map or of arrival.
//   - Events of one class on one resource are one regressor. It holds the share by which
//     the operator expects demand to change (.4 = +40 %), times the part of the step
//     that the event covers; an event without an expectation for the resource is an
//     indicator whose effect the model has to find out.
//   - Everything is bounded: entries, values, kinds of VM, series, occurrences. What
//     does not fit is left out and counted, and the fleet is forecast without it.
//   - A rule that never ends, never begins or would take long to expand is refused when
//     it comes in ([Compile]), with what to write instead.
//
// Times are real times, in a fleet with a base step of one second too: a campaign at
// nine o'clock is at nine o'clock. The package reads no clock and the rules no
// machine's zone; the zone database is linked in, for hosts that have none.
package calendar

// Package console is what a person sees: a read model of the whole fleet, folded
// from the last messages of the bus, and the status page over it. The command
// line reads the same model, so that page and terminal never disagree.
//
// What comes in: events of the streams that a viewer may read. What goes out: a
// [View] value, the page and its JSON.
//
// What is promised: reading changes nothing; what is absent or stale is shown as
// such and never as zero; the page has no external assets.
package console

// Package console is what a person sees of a fleet: a picture of it at one moment,
// folded from the last messages of the bus, the facts by which a VM's fate is
// explained, and the words a person says back. The command line reads it as it is;
// console/live keeps the same picture up to date and console/web shows it, so that
// page, terminal and API never disagree.
//
// What comes in: events of the streams that an operator may read. What goes out: a
// [View] value, [explain.VM] facts, and signed acts.
//
// What is promised: reading changes nothing; what is absent or stale is shown as
// such and never as zero; an act is published in one place ([Say]), whoever says it.
package console

// Package matrix proves the handover on real hypervisors: it breaks one thing at
// one labelled step of a move, again and again, and judges from outside what came of
// the VM.
//
// What comes in: a number of rounds and a choice of cells. A cell is a fault and the
// steps at which it strikes. What goes out: one [Result] per faulted move, and the
// table of them in Markdown.
//
// How: the lab's hosts are real libvirtd and QEMU; the bus and the two hosts'
// actuators are processes of their own (this very binary, see [Part]), so that they
// can be killed and stopped. An actuator calls its fail point at every step of a
// move and waits there for a word from here: what is broken is broken at that step
// and not some milliseconds round it. An actuator reaches its libvirtd through a
// gate ([lab.Gate]), which loses a reply or the connection when asked.
//
// What is promised: the verdict rests on evidence that is not Foreshift's own: the
// real virsh asks all hosts five times a second; the guest keeps a record on its
// disk and notices a second writer; its heartbeat counts on, or starts anew. Of
// Foreshift's word only this is judged: that there is one, success, failure or
// UNKNOWN, by the move's deadline, and that it agrees. [Control] runs the same
// faults on plain peer-to-peer migration and is expected to find two running copies:
// the instruments can see what the matrix says is not there.
package matrix

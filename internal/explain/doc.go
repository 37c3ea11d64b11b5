// Package explain puts into words what the placer did about a VM, or about the
// whole fleet, and why.
//
// What comes in: the messages that speak of it, as they are on the bus: pressures,
// the benefit of a move, the newest plan, the record of moves. What goes out: a
// [Story], a headline with questions and answers: does it run short, why this VM,
// why this host and not that one, why now, why does it stay, and what a person can
// do about it.
//
// What is promised: the same facts give the same words, on the command line and on
// the page; nothing is said that no message says; what is not known is said to be
// not known. Reasons keep their typed code beside the words.
//
// Why apart: words that are made in two places tell two stories.
package explain

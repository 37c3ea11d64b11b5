// Package docs reads the commands of README and docs, so that a test can run every one
// of them and compare what it says with what is written.
//
// What comes in: Markdown. A fenced block "console" holds commands, after "$ ", each
// followed by its output. A block that cannot be run where the tests run says so in
// its heading, with the reason: "console not-run: needs root and real hypervisors", or
// "sh not-run: ...", whose lines are commands without "$ ".
// Names in a block can stand for what a run brings: "console web-23=moved". Commands in
// running text are held against the generated reference.
//
// What goes out: [Block] values, faults, and whether an output has the shape that is
// written: the same words in the same lines, while numbers, times, ids and names with a
// number may be others; "..." stands for anything within a line, and for any lines as a
// line of its own.
//
// Why: a command that does not do what its page says is worse than no page.
package docs

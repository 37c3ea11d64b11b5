// Package service is what every Foreshift process has around its work: one signal
// context at the root, one logger, and one small HTTP listener for health and
// metrics.
//
// What comes in: signals from the operating system, the checks that parts of the
// process register. What goes out: a context that ends once, exit codes (0 done,
// 1 failed, 2 wrong use), /livez, /readyz and /metrics.
//
// What is promised: the first signal asks everything to stop and is said aloud,
// the second one ends the process at once; a listener off loopback is refused
// here as long as nothing guards it.
//
// Why here: so that main stays thin and no service invents its own.
package service

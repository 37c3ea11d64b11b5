// Package benchmarks measures Foreshift end to end, where more than one package is
// on the way. It holds tests only; figures are of the whole process, in CPU time,
// for the wall clock of a shared machine says little.
package benchmarks

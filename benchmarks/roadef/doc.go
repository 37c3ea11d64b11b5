// Package roadef drives the search of the placer over the machine reassignment
// problem of the ROADEF/EURO Challenge 2012, which Google posed: a thousand
// machines, fifty thousand processes, and rules that look much like those of a
// fleet of virtual machines.
//
// What comes in: a model and its first assignment, in the challenge's own text
// format, compressed or not; a budget in CPU-seconds or in evaluations; a seed.
// What goes out: an assignment, one machine per process in the order of the file,
// and a [Report] of what it costs and how fast the search was.
//
// What is promised:
//
//   - No rule is ever broken: capacity, one process of a service per machine, spread
//     over locations, dependency within neighbourhoods, and transient resources,
//     which a process that moves keeps on the machine it leaves. The answer is
//     checked by an evaluator that shares no arithmetic with the search.
//   - Costs are exact integers: the evaluator reproduces the published cost of every
//     first assignment.
//   - The same seed and the same counts of evaluations give the same assignment. A
//     search bounded by time records its counts, so that it can be repeated.
//
// Why here: the challenge is public, hard, and was fought over by eighty teams. It
// shares nothing with the live fleet but the driver, [search.Anneal]; what makes the
// driver good here makes it good there.
//
// Terms as in the challenge: "Machine Reassignment", problem definition v1, 2011,
// https://www.roadef.org/challenge/2012/en/sujet.php.
package roadef

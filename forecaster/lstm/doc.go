// Package lstm is one small recurrent network for all series of a fleet (a global
// model): it carries a memory of 64 numbers a series forward, one step at a time,
// and says from it how the demand is distributed 5 minutes to 24 hours ahead and
// how high its maximum over the next 1, 6 and 24 hours will be.
//
// What comes in: one value a series and base step, and now and then the series'
// window ([Bank] is a model.Experts); for training, whole series ([Trainer]).
//
// What goes out: quantiles. The network does not draw them out of the air: for each
// horizon it weighs six candidates (last value, last hour, last day, time of day,
// same time yesterday and a week ago) and bends each quantile by a part of what the
// candidates disagree by. So it speaks every series' own unit, a series that stood
// still is forecast to stand still, and one that is mostly zero keeps its zeros.
//
// What is promised:
//
//   - A step and a forecast do not allocate and cost microseconds; StateBytes a
//     series and nothing that grows.
//   - Weights are versioned and checksummed bytes ([Weights.Encode]); those built in
//     come from synthetic series alone ([Generate]) and the train command makes them
//     again, so that no trace of anybody's fleet is in the program.
//   - Training is a function of series, seed and number of updates: no clock, no
//     chance of its own. Weights are judged on VMs they were not trained on, and
//     [FineTune] hands out new ones only if they are better there.
//
// Why a network of our own: it is 13 thousand numbers and two loops, and no library
// in reach trains one in Go. Long short-term memory: Hochreiter and Schmidhuber,
// Neural Computation 9(8), 1997, with the forget gate of Gers et al. 2000; quantiles
// at many horizons at once: Wen et al., A Multi-Horizon Quantile Recurrent
// Forecaster, arXiv 1711.11053.
package lstm

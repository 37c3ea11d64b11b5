package ensemble

import "github.com/foreshift/foreshift/schemas"

// NumBuckets is the number of buckets of leads that have weights of their own.
const NumBuckets = 6

// bucketSlots are the first slots of the buckets, and the end: the next step, the
// next quarter hour, the hour, 4 hours, 12 hours, the day.
var bucketSlots = [NumBuckets + 1]int{0, 1, 3, 12, 24, 32, schemas.Slots}

// BucketOf is the bucket of a slot.
func BucketOf(slot int) int {
	b := 0
	for slot >= bucketSlots[b+1] {
		b++
	}
	return b
}

// groups of quantile levels share weights: each learns at one level, the levels
// between two groups take the mean of both.
const groups = 3

// groupLevel is the level (index of schemas.Levels) at which each group learns: .1,
// .5, .9.
var groupLevel = [groups]int{2, 6, 10}

// levelGroup gives for each level the groups whose weights it takes, in halves.
var levelGroup = [schemas.NumLevels][2]int{{0, 0}, {0, 0}, {0, 0}, {0, 0}, {0, 1}, {1, 1}, {1, 1}, {1, 1}, {1, 2}, {2, 2}, {2, 2}, {2, 2}, {2, 2}}

// FullyDaily is the strength of the daily rhythm (model.Empirical.Strength) from
// which a series takes the daily weights alone.
const FullyDaily = .4

// prior are the weights a cluster starts with, by expert: [0] for series without a
// daily rhythm, [1] for those that have one. They are chosen by groups of experts, not
// one by one, on machines of two data centres and looked at again on others: ARIMA and
// ETS have the best median nearly everywhere, the others are right where those cannot
// be. A day of outcomes outweighs them.
var prior = map[string][2][NumBuckets]float32{
	"arima":          {{1, 1, 1, 1, 1, 1}, {1, 1, 1, 1, 1, 1}},
	"ets":            {{1, 1, 1, 1, 1, 1}, {1, 1, 1, 1, 1, 1}},
	"lstm":           {{.30, .30, .30, .30, .30, .30}, {.30, .30, .30, .30, .30, .30}},
	"prophet":        {{.15, .15, .15, .15, .15, .15}, {.15, .15, .15, .15, .15, .15}},
	"trailing-1h":    {{.35, .50, .50, .25, .05, .01}, {.10, .10, .10, .03, .01, .01}},
	"trailing-4h":    {{.05, .10, .20, .35, .30, .15}, {.03, .03, .05, .05, .02, .01}},
	"trailing-24h":   {{.01, .02, .05, .15, .35, .45}, {.01, .01, .02, .04, .06, .07}},
	"time-of-day":    {{.01, .02, .05, .15, .30, .40}, {.03, .05, .15, .45, .80, .80}},
	"hour-of-week":   {{.01, .01, .01, .01, .02, .02}, {.01, .01, .01, .03, .06, .06}},
	"increments":     {{.20, .15, .10, .05, .00, .00}, {.30, .30, .25, .10, .00, .00}},
	"daily-rise":     {{.10, .05, .05, .05, .00, .00}, {.40, .40, .40, .30, .00, .00}},
	"recent-rise":    {{.20, .10, .05, .02, .00, .00}, {.20, .15, .10, .02, .00, .00}},
	"hold":           {{.20, .10, .05, .02, .00, .00}, {.10, .05, .02, .01, .00, .00}},
	"seasonal-naive": {{.01, .01, .01, .01, .01, .01}, {.01, .01, .01, .02, .04, .04}},
}

// unnamed is the prior of an expert without an entry: it has to earn its weight.
const unnamed = .03

// startWeights gives the normalised prior of all experts in a bucket.
func startWeights(names []string, daily float32, bucket int, dst []float32) {
	var total float32
	for k, name := range names {
		w, ok := prior[name]
		dst[k] = unnamed
		if ok {
			dst[k] = (1-daily)*w[0][bucket] + daily*w[1][bucket]
		}
		total += dst[k]
	}
	normalise(dst, total)
}

// normalise makes shares of weights whose sum is total, none below least.
func normalise(w []float32, total float32) {
	var sum float32
	for k := range w {
		w[k] = max(least, w[k]/total)
		sum += w[k]
	}
	for k := range w {
		w[k] /= sum
	}
}

// least is the smallest prior: no expert is beyond recall.
const least = .002

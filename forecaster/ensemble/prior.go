package ensemble

// Buckets of leads that share weights, and the number of experts: six of the
// empirical bank and the seasonal naive.
const (
	NumBuckets = 7
	NumExperts = 7
)

// FullyDaily is the strength of the daily rhythm (model.Empirical.Strength) from
// which a series takes the daily weights alone.
const FullyDaily = .4

// Weights of the experts by bucket of lead: [0] for series without a daily rhythm,
// [1] for those that have one. Series between take a mix of the two.
type Weights [2][NumBuckets][NumExperts]float32

// BucketOf is the bucket of a slot: the next step, the next quarter hour, half hour,
// hour, 4 hours, 8 hours, the day.
func BucketOf(slot int) int {
	switch {
	case slot < 1:
		return 0
	case slot < 3:
		return 1
	case slot < 6:
		return 2
	case slot < 12:
		return 3
	case slot < 24:
		return 4
	case slot < 28:
		return 5
	default:
		return 6
	}
}

// Prior are the weights a fleet starts with. They lie between what minimises the
// geometric mean of the pinball loss on public traces (Bitbrains GWA-T-12, Azure V1:
// the last hour alone within an hour) and what covers: a band from twelve values is
// too narrow, so the longer windows keep a part.
var Prior = Weights{
	{ // 1h   4h   24h  day  week incr naive
		{.70, .10, .00, .00, .00, .20, .00},
		{.70, .15, .00, .00, .00, .15, .00},
		{.65, .20, .05, .00, .00, .10, .00},
		{.60, .25, .10, .05, .00, .00, .00},
		{.35, .30, .15, .20, .00, .00, .00},
		{.05, .35, .30, .30, .00, .00, .00},
		{.00, .10, .45, .45, .00, .00, .00},
	},
	{
		{.15, .05, .00, .00, .00, .80, .00},
		{.30, .05, .00, .00, .00, .65, .00},
		{.40, .05, .00, .10, .00, .45, .00},
		{.30, .05, .00, .20, .00, .45, .00},
		{.00, .05, .00, .85, .05, .05, .00},
		{.00, .00, .05, .85, .10, .00, .00},
		{.00, .00, .05, .85, .10, .00, .00},
	},
}

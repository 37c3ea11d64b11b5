package pressure

import "github.com/foreshift/foreshift/schemas"

// starts are the coefficients a fleet begins with, by horizon and state, in the order
// of the features. They were fitted once to the first weeks of public traces
// (Bitbrains GWA-T-12 and Azure V1; CPU and memory, limits of 50 to 90 %) taken
// together, and rounded: what several kinds of VM share. A fleet's own lessons move
// them, see [logistic].
var starts = [len(schemas.Horizons)][numStates][numFeatures]float64{
	{ // bias usual lately now eve same week top24 top1 over1 level topweek since share busy rise next
		{-1.80, 0.25, 0.05, 0.00, 0.35, 1.55, 0.40, 0.15, 2.20, 0.00, 1.35, 0.45, -2.25, -0.25, -2.80, -1.85, 0.10},
		{0.15, 0.45, -0.10, 1.65, 0.85, 0.55, 0.25, -0.60, 0.65, 0.15, 1.45, 0.20, -1.15, 0.75, -0.25, 0.10, -0.90},
	},
	{
		{-1.85, 0.20, 0.05, 0.00, 0.20, 2.05, 0.35, 0.00, 0.95, 0.00, 0.70, 0.60, -1.65, -0.45, -0.60, -0.55, 0.20},
		{0.20, 0.40, -0.20, 1.45, 0.60, 1.65, 0.45, -0.10, 0.45, 0.20, 1.35, -0.15, -1.00, 0.90, -0.85, 0.55, 0.05},
	},
	{
		{-0.45, 0.35, 0.05, 0.00, -0.50, 1.20, 0.40, 0.10, 0.15, 0.00, 0.60, 1.05, -1.35, 0.00, 0.15, 0.55, 0.10},
		{0.10, 0.40, 0.05, 0.85, 0.40, 0.80, 0.05, 0.10, 0.25, 0.10, 0.95, 0.10, -0.30, 0.55, 0.10, 0.45, 0.10},
	},
}

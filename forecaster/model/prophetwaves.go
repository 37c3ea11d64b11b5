package model

import "math"

// waves hold the Fourier series' sines and cosines: at the middle of every block of
// the day and the week, for the fit, and at every step, for forecasts.
var waves = makeWaves()

type waveTables struct {
	daily  [dayBlocks][2 * maxDaily]float64
	weekly [weekBlocks][2 * maxWeekly]float64
	ofDay  [day][2 * maxDaily]float32
	ofWeek [week][2 * maxWeekly]float32
}

func makeWaves() *waveTables {
	t := new(waveTables)
	for b := range t.daily {
		wave(float64(b*fitBlock)+(fitBlock-1)/2., day, t.daily[b][:])
	}
	for b := range t.weekly {
		wave(float64(b*fitBlock)+(fitBlock-1)/2., week, t.weekly[b][:])
	}
	var w [2 * maxDaily]float64
	for s := range t.ofDay {
		wave(float64(s), day, w[:])
		for k := range t.ofDay[s] {
			t.ofDay[s][k] = float32(w[k])
		}
	}
	for s := range t.ofWeek {
		wave(float64(s), week, w[:2*maxWeekly])
		for k := range t.ofWeek[s] {
			t.ofWeek[s][k] = float32(w[k])
		}
	}
	return t
}

// wave writes sine and cosine of the orders 1, 2, ... of a period at t.
func wave(t, period float64, dst []float64) {
	for k := 0; k < len(dst)/2; k++ {
		dst[2*k], dst[2*k+1] = math.Sincos(2 * math.Pi * float64(k+1) * t / period)
	}
}

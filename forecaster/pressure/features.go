package pressure

import (
	"math"

	"github.com/foreshift/foreshift/schemas"
)

// Features of a moment and horizon h. Demand is counted in limits, up to 2: what lies
// far off says no more. "Same window" is that of h steps at the same time of day, up
// to the origin where it reaches beyond it.
const (
	fNow  = iota // the last step is above
	fTop1        // highest of the last 1, 3, 6, 24, 72 and 168 hours
	fTop3
	fTop6
	fTop24
	fTop72
	fTop168
	fMean1 // mean of the last 1, 3, 12, 72, 288 and 2016 steps
	fMean3
	fMean12
	fMean72
	fMean288
	fMean2016
	fSpread  // standard deviation of the last day
	fRise    // mean of the last hour less that of the day
	fRiseNow // mean of the last quarter hour less that of the hour
	fShare72 // log of the share of steps above in the last 72, 288, 864 and 2016 steps
	fShare288
	fShare864
	fShare2016
	fDaily     // mean of the last seven days' highest values
	fDailyZ    // limit less that, in their standard deviations
	fDailyLow  // the lowest of them
	fDaily2    // the second highest
	fSince     // log of the steps since the last exceedance, within a week
	fSinceLong // log of the hours since it, within eight weeks
	fUsual     // log odds of a window that exceeds: of all known, of eight days, of three
	fUsual8
	fLately
	fCalm // the same of windows that began in a calm moment: of all known, of eight days
	fCalm8
	fEve   // yesterday's same window exceeded
	fWeek  // that of a week ago did
	fSame7 // share of the last 7 and 3 days whose same window did
	fSame3
	fNear7     // share of the last 7 whose same window, half an hour longer at both ends, did
	fSameLong  // log odds of it over all days known
	fWeeks     // share of the same weekdays known whose same window did
	fNext      // highest value of yesterday's same window
	fNextMean  // mean of the highest values of the last 7 days' same windows
	fNextTop   // the highest of them
	fNextZ     // limit less their mean, in their standard deviations
	fNextWeek  // highest value of the same window a week ago
	fHazard    // log odds that a pause as long as the present one ends within h
	fHazardN   // log of how many pauses lasted as long
	fHazardNow // the share of those that ended within h, recent ones counting more
	fSine      // time of day
	fCosine
	numFeatures
)

// features are kept as one byte each, for examples are many: 0..255 from lo to hi.
// unit is a usual deviation, so that coefficients are of one size.
var features = [numFeatures]struct{ lo, hi, unit float64 }{
	fNow:  {0, 1, .25},
	fTop1: {0, 2, .25}, fTop3: {0, 2, .25}, fTop6: {0, 2, .25}, fTop24: {0, 2, .3}, fTop72: {0, 2, .3}, fTop168: {0, 2, .3},
	fMean1: {0, 2, .2}, fMean3: {0, 2, .2}, fMean12: {0, 2, .2}, fMean72: {0, 2, .2}, fMean288: {0, 2, .2}, fMean2016: {0, 2, .2},
	fSpread: {0, 1, .1}, fRise: {-1, 1, .1}, fRiseNow: {-1, 1, .1},
	fShare72: {-6.5, .1, 1.5}, fShare288: {-6.5, .1, 1.5}, fShare864: {-6.5, .1, 1.5}, fShare2016: {-6.5, .1, 1.5},
	fDaily: {0, 2, .3}, fDailyZ: {-4, 8, 4}, fDailyLow: {0, 2, .3}, fDaily2: {0, 2, .3},
	fSince: {0, 7.7, 2}, fSinceLong: {0, 7.3, 2},
	fUsual: {-8, 8, 3}, fUsual8: {-8, 8, 3}, fLately: {-8, 8, 3}, fCalm: {-8, 8, 2}, fCalm8: {-8, 8, 2},
	fEve: {0, 1, .3}, fWeek: {0, 1, .3}, fSame7: {0, 1, .25}, fSame3: {0, 1, .25}, fNear7: {0, 1, .25}, fSameLong: {-8, 8, 2.5}, fWeeks: {0, 1, .25},
	fNext: {0, 2, .3}, fNextMean: {0, 2, .3}, fNextTop: {0, 2, .3}, fNextZ: {-4, 8, 4}, fNextWeek: {0, 2, .3},
	fHazard: {-8, 8, 2}, fHazardN: {0, 6, 1}, fHazardNow: {0, 1, .25},
	fSine: {-1, 1, .7}, fCosine: {-1, 1, .7},
}

// codes are the features as bytes.
type codes [numFeatures]uint8

// value is a feature in its units, 0 in the middle of its range.
func (c *codes) value(i int) float64 { return centre[i] + float64(c[i])*width[i] }

var centre, width = func() (c, w [numFeatures]float64) {
	for i, f := range features {
		w[i] = (f.hi - f.lo) / 255 / f.unit
		c[i] = -(f.hi - f.lo) / 2 / f.unit
	}
	return c, w
}()

// past is what a moment's counts say, for explanations.
type past struct{ windows, exceeded, days, same float64 }

// features of the moment before step o (the first o steps are known), for a window of
// h steps; look must have been called for o. nowhere is set where demand was not even
// near the limit within a week.
func (m *moment) features(o, h int, dst *codes) (is past) {
	const day = schemas.StepsPerDay
	var f [numFeatures]float64
	if m.y[o-1] > m.limit {
		f[fNow] = 1
	}
	m.tops(o, &f)
	for i, n := range [...]int{1, 3, 12, 72, 288, 2016} {
		f[fMean1+i] = m.mean(o, n)
	}
	f[fSpread] = m.deviation(o, day)
	f[fRise], f[fRiseNow] = f[fMean12]-f[fMean288], f[fMean3]-f[fMean12]
	for i, n := range [...]int{72, 288, 864, 2016} {
		f[fShare72+i] = math.Log(m.count(o, n)/float64(min(o, n)) + .002)
	}
	since := 0
	for since < min(o, 7*day) && m.over[o-since] == m.over[o-since-1] {
		since++
	}
	f[fSince] = math.Log1p(float64(since))
	ago := 0
	for ago < m.last && m.hours[ago+1] == 0 {
		ago++
	}
	f[fSinceLong] = math.Log1p(float64(ago))

	n := max(1, h/hour)
	all, k, calm, fell := m.frequency(n, longHours)
	is.windows, is.exceeded = all, k
	prior := math.Sqrt(float64(n)) // windows that overlap tell less
	f[fUsual] = odds(k, all, .1, .5)
	f[fCalm] = odds(fell, calm, .025*prior, 5*prior)
	all, k, calm, fell = m.frequency(n, n-1+8*24)
	f[fUsual8] = odds(k, all, .1, .5)
	f[fCalm8] = odds(fell, calm, .025*prior, 5*prior)
	usually := sigmoid(f[fCalm8])
	all, k, _, _ = m.frequency(n, n-1+72)
	f[fLately] = odds(k, all, .1, .5)

	m.same(o, h, &f, &is)
	lasted, ended, recent := m.hazard(o, h)
	f[fHazard] = odds(ended, lasted, usually, 1)
	f[fHazardN], f[fHazardNow] = math.Log1p(lasted), recent
	angle := 2 * math.Pi * float64((int(m.end)-len(m.y)+o)%day) / day
	f[fSine], f[fCosine] = math.Sin(angle), math.Cos(angle)
	for i, v := range f {
		r := &features[i]
		dst[i] = uint8((min(max(v, r.lo), r.hi)-r.lo)/(r.hi-r.lo)*255 + .5)
	}
	return is
}

// tops makes the features of highest values, in one pass over a week.
func (m *moment) tops(o int, f *[numFeatures]float64) {
	const day = schemas.StepsPerDay
	var top float32
	at := [...]int{12, 36, 72, 288, 864, 2016}
	var days tally
	var daily float32
	i := 0
	for n := 1; n <= 2016; n++ {
		if n > o {
			break
		}
		v := m.y[o-n]
		if v > top {
			top = v
		}
		if v > daily {
			daily = v
		}
		if n%day == 0 {
			days.add(float64(daily / m.limit))
			daily = 0
		}
		if n == at[i] {
			f[fTop1+i] = float64(top / m.limit)
			i++
		}
	}
	for ; i < len(at); i++ {
		f[fTop1+i] = float64(top / m.limit)
	}
	f[fDaily], f[fDailyZ], f[fDailyLow], f[fDaily2] = days.mean(), days.z(), days.low, days.second
}

// same makes the features of the same window on other days.
func (m *moment) same(o, h int, f *[numFeatures]float64, is *past) {
	const day = schemas.StepsPerDay
	var next tally
	var near, same3 float64
	for d := 1; d <= 7 && o-d*day >= 0; d++ {
		t := o - d*day
		is.days++
		top := float64(m.top(t, min(h, d*day)) / m.limit)
		next.add(top)
		hit := m.exceeds(t, min(h, d*day))
		if hit {
			is.same++
			if d <= 3 {
				same3++
			}
		}
		if m.exceeds(t-gap, min(h+2*gap, d*day+gap)) {
			near++
		}
		switch d {
		case 1:
			f[fNext] = top
			if hit {
				f[fEve] = 1
			}
		case 7:
			f[fNextWeek] = top
			if hit {
				f[fWeek] = 1
			}
		}
	}
	f[fSame7], f[fSame3], f[fNear7] = is.same/max(1, is.days), same3/max(1, min(3, is.days)), near/max(1, is.days)
	f[fNextMean], f[fNextTop], f[fNextZ] = next.mean(), next.high, next.z()
	n := max(1, h/hour)
	var days, hits, weeks, weekly float64
	for d := 1; d*24 <= m.last; d++ {
		days++
		hit := m.hit(d*24, min(n, d*24))
		if hit {
			hits++
		}
		if d%7 == 0 {
			weeks++
			if hit {
				weekly++
			}
		}
	}
	f[fSameLong] = odds(hits, days, .1, .5)
	f[fWeeks] = weekly / max(1, weeks)
}

// tally gathers a few values.
type tally struct{ n, sum, square, low, high, second float64 }

func (t *tally) add(v float64) {
	v = min(v, 2)
	if t.n == 0 || v < t.low {
		t.low = v
	}
	if v > t.high {
		t.high, t.second = v, t.high
	} else if v > t.second {
		t.second = v
	}
	t.n++
	t.sum += v
	t.square += v * v
}

func (t *tally) mean() float64 { return t.sum / max(1, t.n) }

// z is how far the limit is above the mean, in standard deviations and a little.
func (t *tally) z() float64 {
	m := t.mean()
	return (1 - m) / (math.Sqrt(max(0, t.square/max(1, t.n)-m*m)) + .03)
}

// odds is the log odds of k of n, with some of both added; bounded: no count is certain.
func odds(k, n, addK, addN float64) float64 { return logit((k + addK) / (n + addN)) }

func logit(p float64) float64 {
	p = min(max(p, .0005), .9995)
	return math.Log(p / (1 - p))
}

func sigmoid(z float64) float64 { return 1 / (1 + math.Exp(-z)) }

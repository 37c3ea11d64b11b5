package pressure

import (
	"math"

	"github.com/foreshift/foreshift/schemas"
)

// Features of a moment and horizon, as the logistic takes them.
const (
	fBias     = iota
	fUsual    // log odds of a window that exceeds, over all that is known of the VM
	fLately   // the same over the windows of the last 72 hours
	fNow      // the last step is above
	fEve      // yesterday's same window exceeded
	fSameTime // share of the last 7 days whose same window did
	fWeek     // the same window a week ago did
	fTop24    // highest of the last 24 h over the limit
	fTop1     // highest of the last hour over the limit
	fOver1    // which is above
	fLevel    // mean of the last quarter hour over the limit
	fTopWeek  // highest of the window over the limit
	fSince    // log of the steps since the last exceedance
	fShare    // log of the share of steps above in the last 24 h
	fBusy     // mean of the last 24 h over the limit
	fRise     // last hour's mean less that of the day, over the limit
	fNext     // highest of yesterday's same window over the limit
	numFeatures
)

// moment is what features are made from: a prefix of the series.
type moment struct {
	y     []float32 // gaps of at most half an hour filled with the value before
	over  []int32   // over[t] = exceedances before t
	limit float32
}

// gap is the longest gap filled, in steps.
const gap = 6

// set takes a series; O(len(y)).
func (m *moment) set(y []float32, limit float32) {
	m.limit = limit
	m.y = append(m.y[:0], y...)
	m.over = append(m.over[:0], 0)
	last, age := schemas.NaN(), gap
	for t, v := range m.y {
		if v == v {
			last, age = v, 0
		} else if age++; age <= gap {
			m.y[t] = last
		}
		n := m.over[t]
		if m.y[t] > limit {
			n++
		}
		m.over = append(m.over, n)
	}
}

// exceeds says whether any of the n steps from t on is above, as far as there are any.
func (m *moment) exceeds(t, n int) bool {
	lo, hi := max(t, 0), min(t+n, len(m.y))
	return lo < hi && m.over[hi] > m.over[lo]
}

// top is the highest of n steps from t on, 0 when all are missing.
func (m *moment) top(t, n int) float32 {
	var top float32
	for _, v := range m.y[min(max(t, 0), len(m.y)):min(max(t+n, 0), len(m.y))] {
		if v > top {
			top = v
		}
	}
	return top
}

func (m *moment) mean(t, n int) float32 {
	var sum, k float32
	for _, v := range m.y[min(max(t, 0), len(m.y)):min(max(t+n, 0), len(m.y))] {
		if v == v {
			sum += v
			k++
		}
	}
	return sum / max(k, 1)
}

// ratio is a demand over the limit, bounded: what lies far off says no more.
func (m *moment) ratio(v float32) float64 { return min(float64(v/m.limit), 2) }

// features of the moment before step o (the first o steps are known), for a window of
// h steps; long is what is known of longer ago than the series, or nil. It returns
// the counts that went into the frequencies, for explanations.
func (m *moment) features(o, h int, long *LongRun, horizon int, f *[numFeatures]float64) (windows, exceeded, days, same float64) {
	*f = [numFeatures]float64{fBias: 1}
	const day = schemas.StepsPerDay
	var n, k, n72, k72 float64
	for w := o - h; w >= 0; w -= now {
		hit := 0.
		if m.exceeds(w, h) {
			hit = 1
		}
		n++
		k += hit
		if n <= 72 {
			n72++
			k72 += hit
		}
	}
	windows, exceeded = n, k
	if long != nil {
		if long.Windows[horizon] > float32(n) {
			n, k = float64(long.Windows[horizon]), float64(long.Exceeded[horizon])
		}
	}
	f[fUsual] = logit((k + .1) / (n + .5))
	f[fLately] = logit((k72 + .1) / (n72 + .5))
	if o > 0 && m.y[o-1] > m.limit {
		f[fNow] = 1
	}
	for d := 1; d <= 7; d++ {
		t := o - d*schemas.StepsPerDay
		if t < 0 {
			break
		}
		days++
		if m.exceeds(t, min(h, o-t)) {
			same++
			if d == 1 {
				f[fEve] = 1
			}
			if d == 7 {
				f[fWeek] = 1
			}
		}
	}
	f[fSameTime] = same / max(days, 1)
	top1 := m.top(o-now, now)
	f[fTop24] = m.ratio(m.top(o-day, day))
	f[fTop1] = m.ratio(top1)
	if top1 > m.limit {
		f[fOver1] = 1
	}
	f[fLevel] = m.ratio(m.mean(o-3, 3))
	f[fTopWeek] = m.ratio(m.top(o-7*day, 7*day))
	since := 0
	for since < min(o, 7*day) && !(m.y[o-1-since] > m.limit) {
		since++
	}
	f[fSince] = math.Log1p(float64(since)) / 4
	f[fShare] = math.Log(float64(m.over[o]-m.over[max(0, o-day)])/float64(day)+.002) / 3
	busy := m.mean(o-day, day)
	f[fBusy] = m.ratio(busy)
	f[fRise] = max(-2, m.ratio(m.mean(o-now, now)-busy))
	f[fNext] = m.ratio(m.top(o-day, min(h, day)))
	return windows, exceeded, days, same
}

// logit is bounded: no count is certain.
func logit(p float64) float64 {
	p = min(max(p, .0005), .9995)
	return math.Log(p / (1 - p))
}

func sigmoid(z float64) float64 { return 1 / (1 + math.Exp(-z)) }

// LongRun counts a VM's windows beyond what its series holds. The zero value is a new
// VM. 24 bytes.
type LongRun struct {
	Windows  [len(schemas.Horizons)]float32
	Exceeded [len(schemas.Horizons)]float32
}

// keepLong bounds the memory of the long run: 60 days of hourly windows.
const keepLong = 1440

func (l *LongRun) add(horizon int, hit bool) {
	if l.Windows[horizon] >= keepLong {
		l.Windows[horizon] *= .5
		l.Exceeded[horizon] *= .5
	}
	l.Windows[horizon]++
	if hit {
		l.Exceeded[horizon]++
	}
}

package pressure

import (
	"math"

	"github.com/foreshift/foreshift/schemas"
)

// moment is a series made ready for features: running sums, so that each of its
// prefixes answers quickly.
type moment struct {
	y      []float32 // gaps of at most half an hour filled with the value before
	over   []int32   // over[t] = exceedances before t
	known  []int32   // known[t] = values before t
	sum    []float64 // of the values before t
	square []float64
	begins []int32 // steps at which an exceedance began, none in the half hour before
	limit  float32
	end    schemas.Step // after the last value; 0 = not told

	hours [longHours + 1]int32 // of one origin: hours[j] = those above among the last j
	last  int                  // hours known of it
}

// gap is the longest gap filled, and the shortest pause between two exceedances, in
// steps.
const gap = 6

// set takes a series that ends before step end; O(len(y)).
func (m *moment) set(y []float32, limit float32, end schemas.Step) {
	m.limit, m.end = limit, end
	m.y = append(m.y[:0], y...)
	m.over = append(m.over[:0], 0)
	m.known = append(m.known[:0], 0)
	m.sum = append(m.sum[:0], 0)
	m.square = append(m.square[:0], 0)
	m.begins = m.begins[:0]
	last, age := schemas.NaN(), gap
	quiet := gap
	for t, v := range m.y {
		if v == v {
			last, age = v, 0
		} else if age++; age <= gap {
			v = last
			m.y[t] = v
		}
		n, k, s, q := m.over[t], m.known[t], m.sum[t], m.square[t]
		if v == v {
			x := float64(v / limit)
			k, s, q = k+1, s+x, q+x*x
		}
		quiet++
		if v > limit {
			if n++; quiet > gap {
				m.begins = append(m.begins, int32(t))
			}
			quiet = 0
		}
		m.over = append(m.over, n)
		m.known = append(m.known, k)
		m.sum = append(m.sum, s)
		m.square = append(m.square, q)
	}
}

// exceeds says whether any of the n steps from t on is above, as far as there are any.
func (m *moment) exceeds(t, n int) bool {
	lo, hi := max(t, 0), min(t+n, len(m.y))
	return lo < hi && m.over[hi] > m.over[lo]
}

// count is the number of exceedances in the n steps before o.
func (m *moment) count(o, n int) float64 { return float64(m.over[o] - m.over[max(0, o-n)]) }

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

// mean of the n steps before o, over the limit.
func (m *moment) mean(o, n int) float64 {
	lo := max(0, o-n)
	return (m.sum[o] - m.sum[lo]) / float64(max(1, m.known[o]-m.known[lo]))
}

// deviation of the n steps before o, over the limit.
func (m *moment) deviation(o, n int) float64 {
	lo := max(0, o-n)
	mean := m.mean(o, n)
	return math.Sqrt(max(0, (m.square[o]-m.square[lo])/float64(max(1, m.known[o]-m.known[lo]))-mean*mean))
}

// look makes hours of origin o: of the series as far as it goes, then of the long run.
func (m *moment) look(o int, long *LongRun) {
	j := 0
	for ; j < longHours && o-(j+1)*hour >= 0; j++ {
		m.hours[j+1] = m.hours[j]
		if m.exceeds(o-(j+1)*hour, hour) {
			m.hours[j+1]++
		}
	}
	if long != nil && m.end > 0 {
		at := (int64(m.end) - int64(len(m.y)) + int64(o)) / hour // the hour the origin is in
		for ; j < longHours; j++ {
			above, known := long.at(at - int64(j) - 1)
			if !known {
				break
			}
			m.hours[j+1] = m.hours[j]
			if above {
				m.hours[j+1]++
			}
		}
	}
	m.last = j
}

// hit says whether one of the n hours from j hours before the origin on was above, up
// to the origin.
func (m *moment) hit(j, n int) bool { return m.hours[j] > m.hours[max(0, j-n)] }

// frequency gives, of the windows of n hours that began up to within hours ago and
// are over, their number and how many exceeded; then the same of those that began in
// a calm moment.
func (m *moment) frequency(n, within int) (windows, exceeded, calm, fell float64) {
	for j := n; j <= min(m.last, within); j++ {
		hit := m.hit(j, n)
		windows++
		if hit {
			exceeded++
		}
		if j < m.last && !m.hit(j+1, 1) {
			calm++
			if hit {
				fell++
			}
		}
	}
	return windows, exceeded, calm, fell
}

// hazard looks at the pauses between the beginnings of exceedances: of those that
// lasted as long as the present one, how many ended within the next h steps; then
// the same share with recent ones counting more.
func (m *moment) hazard(o, h int) (lasted, ended, recent float64) {
	j := len(m.begins)
	for j > 0 && int(m.begins[j-1]) >= o {
		j--
	}
	if j < 2 {
		return 0, 0, 0
	}
	since := o - int(m.begins[j-1])
	w, of, in := 1., 0., 0.
	for k := j - 1; k > 0; k-- {
		pause := int(m.begins[k] - m.begins[k-1])
		if pause >= since {
			lasted++
			of += w
			if pause < since+h {
				ended++
				in += w
			}
		}
		w *= .7
	}
	return lasted, ended, in / (of + .3)
}

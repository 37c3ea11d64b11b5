package model

import "github.com/foreshift/foreshift/schemas"

const day = schemas.StepsPerDay

// ring is a roster that keeps the last day of every series, value of step s at s % day,
// or reads those that another keeps.
type ring struct {
	roster
	y  []float32 // n x day
	of *ring     // whose values are read; nil: its own
}

// Share lets the bank read the last day of its series from e instead of keeping it
// once more. Both must have the same series at the same indices and e must be told,
// fitted and restored first. To be called before the first [Bank.Add].
func (n *SeasonalNaive) Share(e *Empirical) { n.of = &e.ring }

// Share is that of [SeasonalNaive].
func (r *Rises) Share(e *Empirical) { r.of = &e.ring }

// tables are the parts of its state: none where they are another's.
func (r *ring) tables() []table {
	if r.of != nil {
		return nil
	}
	return []table{{day, &r.y}}
}

func (r *ring) add(k Key) int {
	i := r.roster.add(k)
	if r.of == nil {
		r.y = Grown(r.y, i, day)
		fill(row(r.y, i, day))
	}
	return i
}

func (r *ring) observe(s schemas.Step, y []float32) {
	if s < 0 || r.any && s < r.last-day+1 {
		return
	}
	if r.of != nil {
		r.last, r.any = max(r.last, s), true
		return
	}
	if !r.any {
		r.last, r.any = s-1, true
	}
	for g := max(r.last+1, s-day+1); g <= s; g++ { // what lay between is missing
		p := int(g % day)
		for i := range r.keys {
			r.y[i*day+p] = schemas.NaN()
		}
	}
	p := int(s % day)
	for i := range y {
		if i < len(r.keys) && r.used[i] && measured(y[i]) {
			r.y[i*day+p] = y[i]
		}
	}
	r.last = max(r.last, s)
}

// refill takes the last day of series i from its window, whose newest row is at or
// before the last observed step.
func (r *ring) refill(i int, x []float32, last schemas.Step) {
	if !r.any {
		r.last, r.any = last, true
	}
	if r.of != nil {
		return
	}
	for n := 0; n < min(day, len(x)); n++ {
		s := last - schemas.Step(n)
		if s <= r.last && s > r.last-day {
			r.y[i*day+int(s%day)] = x[len(x)-1-n]
		}
	}
}

// tail copies the newest n values of series i, missing ones left out, into dst.
func (r *ring) tail(i, n int, dst []float32) []float32 {
	if r.of != nil {
		r = r.of
	}
	dst = dst[:0]
	n = min(n, int(r.last+1))
	y, at := row(r.y, i, day), int(r.last%day)
	for k := 0; k < n; k++ {
		if v := y[at]; v == v {
			dst = append(dst, v)
		}
		if at--; at < 0 {
			at = day - 1
		}
	}
	return dst
}

// at is the value of series i at step s of the last day, NaN outside it.
func (r *ring) at(i int, s schemas.Step) float32 {
	if r.of != nil {
		r = r.of
	}
	if s > r.last || s <= r.last-day || s < 0 {
		return schemas.NaN()
	}
	return r.y[i*day+int(s%day)]
}

package forecast

import (
	"io"
	"strconv"

	"github.com/foreshift/foreshift/forecaster/model"
	"github.com/foreshift/foreshift/schemas"
)

// score compares the forecast just made of series i with what came.
func (w *walk) score(i int, s schemas.Step, t *tally) {
	j := &w.jobs[i]
	o := j.origins[w.next[i]]
	p := pastOf(j.Y[:o], j.Bound)
	if !w.expand(i, s, t) {
		t.withheld++
		last := float32(0)
		if len(p.naive) > 0 {
			last = p.naive[len(p.naive)-1]
		}
		for h := range w.q {
			for k := range w.q[h] {
				w.q[h][k] = last
			}
		}
	}
	if w.csv {
		w.lines(j.ID, j.Start+o)
	}
	if !p.ok || p.scale == 0 {
		return // nothing to compare with: a constant, or hardly any history
	}
	var naive quantiles
	any := false
	for h := range w.q {
		if o+h >= len(j.Y) {
			break
		}
		y := float64(j.Y[o+h])
		if y != y {
			continue
		}
		any = true
		p.step(h, &naive)
		w.own[i].add(h, y, &w.q[h], p.bound)
		w.base[i].add(h, y, &naive, p.bound)
	}
	if any {
		w.scale[i] += p.scale
		w.done[i]++
	}
}

// expand turns the distribution on the grid into quantiles of every step of the
// horizon; beyond the first day the bank is asked for a grid that begins later.
func (w *walk) expand(i int, s schemas.Step, t *tally) bool {
	if f, ok := w.bank.(stepForecaster); ok {
		begun := cpu()
		ok := f.StepQuantiles(w.index[i], s+1, len(w.q), nineLevels[:], w.flat)
		t.forecast += cpu() - begun
		if ok && w.flat[0] == w.flat[0] {
			for h := range w.q {
				copy(w.q[h][:], w.flat[9*h:9*h+9])
			}
			return true
		}
	}
	known := false
	for h := range w.q {
		if h > 0 && h%season == 0 {
			begun := cpu()
			w.bank.Forecast(w.index[i], schemas.Grid{Start: s + 1 + schemas.Step(h)}, model.Regressors{}, &w.dist)
			t.forecast += cpu() - begun
		}
		g := schemas.Grid{}
		d := w.dist.At(g.SlotOf(schemas.Step(h % season)))
		if d[0] != d[0] {
			if h > 0 { // a slot nobody speaks of: as the one before
				w.q[h] = w.q[h-1]
			}
			continue
		}
		for k, l := range nine {
			w.q[h][k] = d[l]
		}
		if !known {
			known = true
			for b := range h {
				w.q[b] = w.q[h]
			}
		}
	}
	return known
}

// nineLevels are the levels scored.
var nineLevels = func() (a [9]float32) {
	for k, l := range nine {
		a[k] = schemas.Levels[l]
	}
	return a
}()

// lines appends the forecast as CSV.
func (w *walk) lines(id string, origin int) {
	for h := range w.q {
		w.text = append(w.text, id...)
		w.text = append(w.text, ',')
		w.text = strconv.AppendInt(w.text, int64(origin), 10)
		w.text = append(w.text, ',')
		w.text = strconv.AppendInt(w.text, int64(h+1), 10)
		for _, q := range w.q[h] {
			w.text = append(w.text, ',')
			w.text = strconv.AppendFloat(w.text, float64(q), 'g', 6, 32)
		}
		w.text = append(w.text, '\n')
	}
}

// csvOut writes forecasts and remembers the first error.
type csvOut struct {
	w   io.Writer
	err error
}

func (o *csvOut) head() {
	o.write([]byte("series,origin,step,q0.1,q0.2,q0.3,q0.4,q0.5,q0.6,q0.7,q0.8,q0.9\n"))
}

func (o *csvOut) write(b []byte) {
	if o.w != nil && o.err == nil && len(b) > 0 {
		_, o.err = o.w.Write(b)
	}
}

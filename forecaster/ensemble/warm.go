package ensemble

import (
	"github.com/foreshift/foreshift/forecaster/model"
	"github.com/foreshift/foreshift/forecaster/window"
	"github.com/foreshift/foreshift/schemas"
)

// A series that comes with a window - restored, back-filled, imported - is walked
// through its last days at once, so that its weights are not those of a newcomer. Only
// the experts that cost little to refit take part; the others keep the cluster's prior
// until outcomes come. About 10 ms a series, once.
const (
	warmDays   = 3
	warmFrom   = 4 * day // rows a window must have
	warmRefit  = 144
	warmAsk    = 12
	warmLowest = day // rows before the first replayed step
)

// warm replays the end of the window for series i, whose cluster is set.
func (e *Ensemble) warm(i int, w *window.View) error {
	s := Of(model.NewEmpirical(), model.NewRises(), model.NewSeasonalNaive())
	key := e.keys[i]
	s.Add(key)
	s.learn.cluster[0] = e.learn.cluster[i]
	x := w.Series(key.Resource, nil)
	d := schemas.NewDist()
	start := max(warmLowest, w.N-warmDays*day)
	y := make([]float32, 1)
	for n := start; n < w.N; n++ {
		step := w.First + schemas.Step(n)
		y[0] = x[n]
		s.Observe(step, y, model.Regressors{})
		if (n-start)%warmRefit == 0 {
			if err := s.Refit(0, upTo(w, n+1), 0); err != nil {
				return err
			}
		}
		if step%warmAsk == 0 {
			s.Forecast(0, schemas.Grid{Start: step + 1}, model.Regressors{}, &d)
		}
	}
	e.learn.take(i, s.learn, e.names, s.names)
	return nil
}

// upTo is the view as it was when it had n rows.
func upTo(w *window.View, n int) window.View {
	v := *w
	v.N = n
	v.Flags, v.Cov = w.Flags[:n], w.Cov[:n]
	for c, col := range w.Cols {
		if col != nil {
			v.Cols[c] = col[:n]
		}
	}
	return v
}

// take copies what the only series of another learner has learnt to series i, expert
// by expert's name. Its mix is worse than that of all experts, so that regrets against
// it are too large; they are lowered to say only which of its experts is the best, and
// nothing against those that did not take part.
func (l *learner) take(i int, from *learner, names, theirs []string) {
	for c := range cell {
		best := from.reg[c*from.experts]
		for _, r := range from.reg[c*from.experts+1 : (c+1)*from.experts] {
			best = max(best, r)
		}
		for k, name := range names {
			for j, other := range theirs {
				if name == other {
					l.reg[(i*cell+c)*l.experts+k] = from.reg[c*from.experts+j] - max(best, 0)
				}
			}
		}
		l.vol[i*cell+c], l.top[i*cell+c], l.width[i*cell+c] = from.vol[c], from.top[c], from.width[c]
	}
	copy(l.seen[i*NumBuckets:(i+1)*NumBuckets], from.seen)
}

// unseen says whether no outcome of series i was learnt from yet.
func (l *learner) unseen(i int) bool {
	for _, v := range l.seen[i*NumBuckets : (i+1)*NumBuckets] {
		if v > 0 {
			return false
		}
	}
	return true
}

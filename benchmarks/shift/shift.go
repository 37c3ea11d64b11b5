// Package shift shows what the forecaster does when a VM's pattern changes.
//
// What comes in: nothing; the stream is made up from a seed. For a week demand follows
// a daily wave, then, overnight, it becomes a level that wanders and knows no time of
// day.
//
// What goes out: by hour, the loss of the whole ensemble, of the ensemble with the
// weights it began with, and of each bank alone, all at one to four hours ahead; the
// experts' weights in the median; and both as pictures.
//
// What is promised: banks live through the stream as in the service (package walk), and
// the same seed gives the same bytes.
package shift

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"

	"github.com/foreshift/foreshift/benchmarks/trace"
	"github.com/foreshift/foreshift/benchmarks/walk"
	"github.com/foreshift/foreshift/forecaster/ensemble"
	"github.com/foreshift/foreshift/internal/chart"
	"github.com/foreshift/foreshift/schemas"
)

const (
	day = schemas.StepsPerDay
	// Change is the step at which the pattern changes, Steps the stream's length.
	Change = 7 * day
	Steps  = 10 * day
	scored = 5 * day // first step scored
	hour   = 12
	slot   = 12 // 60 to 75 minutes ahead: weights are looked at there
)

// Models that walk along.
var Models = []string{ensemble.Auto, ensemble.Auto + "-learning", "empirical", "arima", "ets", "prophet", "seasonal-naive"}

// Result of a run. Loss is by model and hour from the first scored one on, in percent
// of mean demand; NaN where nothing came due.
type Result struct {
	Seed    uint64
	Loss    map[string][]float64
	Experts []string
	Weights [][]float64 // by expert, by hour; nil where the ensemble does not tell
}

// Stream is the demand.
func Stream(seed uint64) *trace.Series {
	rng := rand.New(rand.NewPCG(seed, 0x51f7))
	s := &trace.Series{ID: "changing", Y: make([]float32, Steps)}
	level := 60.
	for t := range s.Y {
		y := 45 + 30*math.Sin(2*math.Pi*float64(t)/day) + 3*rng.NormFloat64()
		if t >= Change {
			if level += .7 * rng.NormFloat64(); level < 15 || level > 75 {
				level = min(max(level, 30-level), 150-level) // back from the edge
			}
			y = level + .5*rng.NormFloat64()
		}
		s.Y[t] = float32(max(0, y))
	}
	return s
}

// weigher is an ensemble that tells its experts' shares in the median of a slot.
type weigher interface {
	Names() []string
	Weights(i, slot int, dst []float32)
}

// Run walks all models through the stream.
func Run(ctx context.Context, seed uint64, workers int) (*Result, error) {
	s := Stream(seed)
	res := &Result{Seed: seed, Loss: map[string][]float64{}}
	rows := make([][]float64, len(Models))
	if err := walk.Parallel(ctx, workers, len(Models), func(m int) error {
		b, err := ensemble.Named(Models[m])
		if err != nil {
			return err
		}
		tell, _ := b.(weigher)
		if m > 0 {
			tell = nil
		}
		rows[m], err = res.walk(ctx, walk.New(b, []*trace.Series{s}), s, tell)
		return err
	}); err != nil {
		return nil, fmt.Errorf("shift: %w", err)
	}
	for m, name := range Models {
		res.Loss[name] = rows[m]
	}
	return res, nil
}

// walk scores one bank; only the first is asked for weights.
func (r *Result) walk(ctx context.Context, b *walk.Bank, s *trace.Series, tell weigher) ([]float64, error) {
	loss, n := make([]float64, (Steps-scored)/hour), make([]float64, (Steps-scored)/hour)
	d := schemas.NewDist()
	var share []float32
	if tell != nil {
		r.Experts = tell.Names()
		share, r.Weights = make([]float32, len(r.Experts)), make([][]float64, len(r.Experts))
	}
	for t := range Steps {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if err := b.Step(t); err != nil {
			return nil, err
		}
		if t < scored-4*hour || t%3 != 2 {
			if b.Wants() {
				b.Ask(0)
			}
			continue
		}
		b.Forecast(0, &d)
		for at := t + 1 + hour; at <= t+4*hour && at < Steps; at++ {
			if at < scored {
				continue
			}
			y := float64(s.Y[at])
			h := (at - scored) / hour
			for l, q := range d.At(schemas.Grid{}.SlotOf(schemas.Step(at - t - 1))) {
				tau, e := float64(schemas.Levels[l]), y-float64(q)
				loss[h] += 100 * math.Max(tau*e, (tau-1)*e) / 45
			}
			n[h] += schemas.NumLevels
		}
		if tell != nil && t >= scored && t%hour == hour-1 {
			tell.Weights(b.Index(0), slot, share)
			for k, w := range share {
				r.Weights[k] = append(r.Weights[k], float64(w))
			}
		}
	}
	for h := range loss {
		loss[h] /= n[h]
	}
	return loss, nil
}

// Mean is the mean loss of a model over hours from..to-1 after the change; negative
// hours are before it.
func (r *Result) Mean(model string, from, to int) float64 {
	at := (Change - scored) / hour
	var sum float64
	for _, v := range r.Loss[model][at+from : at+to] {
		sum += v
	}
	return sum / float64(to-from)
}

// smooth is a moving mean over 6 hours.
func smooth(x []float64) []float64 {
	out := make([]float64, len(x))
	for k := range x {
		lo := max(0, k-5)
		for _, v := range x[lo : k+1] {
			out[k] += v / float64(k+1-lo)
		}
	}
	return out
}

// Plot draws the losses, and the weights of the experts that matter (nil when they are
// not told).
func (r *Result) Plot() (loss, weights []byte) {
	hours := make([]float64, (Steps-scored)/hour)
	for h := range hours {
		hours[h] = float64(h) - float64(Change-scored)/hour
	}
	change := chart.Mark{At: 0, Name: "the pattern changes", Upright: true}
	var lines []chart.Series
	for _, m := range Models {
		lines = append(lines, chart.Series{Name: m, X: hours, Y: smooth(r.Loss[m])})
	}
	loss = chart.Line(chart.Figure{Title: "Loss one to four hours ahead, when a pattern changes",
		Desc: "After the change the loss of all models rises; the whole ensemble's falls again, near that of the best.",
		X:    chart.Axis{Label: "hours after the change"}, Y: chart.Axis{Label: "pinball loss, % of demand"}, Width: 860, Height: 320}, lines, change)
	var shares []chart.Series
	for k, name := range r.Experts {
		var most float64
		for _, w := range r.Weights[k] {
			most = max(most, w)
		}
		if most >= .1 {
			shares = append(shares, chart.Series{Name: name, X: hours[:min(len(hours), len(r.Weights[k]))], Y: r.Weights[k]})
		}
	}
	if len(shares) == 0 {
		return loss, nil
	}
	return loss, chart.Line(chart.Figure{Title: "Experts' shares in the median an hour ahead",
		Desc: "Experts that follow the day lose their weight to those that follow the last hours.",
		X:    chart.Axis{Label: "hours after the change"}, Y: chart.Axis{Label: "share", Min: 0, Max: 1}, Width: 860, Height: 320}, shares, change)
}

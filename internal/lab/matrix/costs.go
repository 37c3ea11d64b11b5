package matrix

import (
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/foreshift/foreshift/placer/plan"
	"github.com/foreshift/foreshift/placer/policy/learning"
	"github.com/foreshift/foreshift/schemas"
)

// Foretold is one move: what the placer would have said of it before it began, and what
// came.
type Foretold struct {
	Speed     schemas.BytesPerSecond `json:"link_bytes_per_second"`
	Learnt    int                    `json:"moves_learnt"` // before it
	Plain     Expected               `json:"plain"`        // by arithmetic alone
	Predicted Expected               `json:"predicted"`    // with what was learnt
	Came      Expected               `json:"came"`
}

// Expected is how long a move takes and how long the guest stands still in it.
type Expected struct {
	Duration schemas.Seconds `json:"seconds"`
	Downtime schemas.Millis  `json:"downtime_ms"`
}

// CostsReport holds the predictions of moves against what came, once enough was learnt.
type CostsReport struct {
	Moves         []Foretold     `json:"moves"`
	Judged        int            `json:"judged"` // of them
	Duration      schemas.Ratio  `json:"duration_error_median"`
	PlainDuration schemas.Ratio  `json:"duration_error_median_plain"` // of arithmetic alone
	Downtime      schemas.Ratio  `json:"downtime_error_median"`
	DowntimeMs    schemas.Millis `json:"downtime_error_median_ms"`
	Failures      []string       `json:"failures"` // of the bars
}

// The bars of the learnt cost model.
const (
	maxDurationError = .20
	maxDowntimeError = .50
	maxDowntimeMore  = schemas.Millis(100) // or this
	labNIC           = 125e6               // bytes/s: what a placer takes a host's network to give when nobody says
)

// teller is a placer's model of what moves take, fed with the moves so far.
type teller struct {
	costs learning.Costs
	moves []Foretold
}

// tell puts into a command what the placer would.
func (t *teller) tell(c *schemas.Command, memory schemas.Bytes, dirty, speed schemas.BytesPerSecond) {
	p := plan.PreCopy(memory, dirty, speed)
	took := t.costs.Correct("", "", learning.Took{Duration: p.Duration, Downtime: p.Downtime, Volume: p.Volume})
	ms := func(d time.Duration) schemas.Millis { return schemas.Millis(d.Seconds() * 1000) }
	c.Predicted.Duration, c.Predicted.Downtime, c.Predicted.Volume = schemas.Seconds(took.Duration.Seconds()), ms(took.Downtime), took.Volume
	c.Predicted.Plain = &schemas.Plain{Duration: schemas.Seconds(p.Duration.Seconds()), Downtime: ms(p.Downtime), Volume: p.Volume}
}

// hear takes in what came of it, as the placer reads it on the VM's record.
func (t *teller) hear(o *schemas.Outcome, speed schemas.BytesPerSecond) {
	p := o.Predicted
	t.moves = append(t.moves, Foretold{Speed: speed, Learnt: len(t.moves), Plain: Expected{p.Plain.Duration, p.Plain.Downtime},
		Predicted: Expected{p.Duration, p.Downtime}, Came: Expected{o.Duration, o.Downtime}})
	t.costs.Learn(o)
}

// judgeCosts takes the medians over the moves before which so many had been learnt, and
// holds them to the bars. It is pure.
func judgeCosts(moves []Foretold, learnt int) CostsReport {
	r := CostsReport{Moves: moves}
	var duration, plain, downtime, more []float64
	for _, m := range moves {
		if m.Learnt < learnt || m.Came.Duration <= 0 || m.Came.Downtime <= 0 {
			continue
		}
		off := func(expected, came float64) float64 { return math.Abs(expected-came) / came }
		duration = append(duration, off(float64(m.Predicted.Duration), float64(m.Came.Duration)))
		plain = append(plain, off(float64(m.Plain.Duration), float64(m.Came.Duration)))
		downtime = append(downtime, off(float64(m.Predicted.Downtime), float64(m.Came.Downtime)))
		more = append(more, math.Abs(float64(m.Predicted.Downtime-m.Came.Downtime)))
	}
	if r.Judged = len(duration); r.Judged == 0 {
		r.Failures = []string{fmt.Sprintf("no move was made after %d others", learnt)}
		return r
	}
	r.Duration, r.PlainDuration, r.Downtime, r.DowntimeMs = schemas.Ratio(median(duration)), schemas.Ratio(median(plain)), schemas.Ratio(median(downtime)), schemas.Millis(median(more))
	if r.Duration > maxDurationError {
		r.Failures = append(r.Failures, fmt.Sprintf("the median error of the duration is %.0f %%, want at most %.0f", 100*r.Duration, 100*maxDurationError))
	}
	if r.Downtime > maxDowntimeError && r.DowntimeMs > maxDowntimeMore {
		r.Failures = append(r.Failures, fmt.Sprintf("the median error of the downtime is %.0f ms, %.0f %%", r.DowntimeMs, 100*r.Downtime))
	}
	return r
}

func median(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	slices.Sort(v)
	return (v[(len(v)-1)/2] + v[len(v)/2]) / 2
}

// Line says a report in a line.
func (r CostsReport) Line() string {
	return fmt.Sprintf("predictions of %d moves, medians: duration off by %.0f %% (arithmetic alone %.0f %%), downtime by %.0f ms, %.0f %%",
		r.Judged, 100*r.Duration, 100*r.PlainDuration, r.DowntimeMs, 100*r.Downtime)
}

// linkSpeeds are what links give in [Fleet.Costs], in turn; labNIC is one without a limit.
var linkSpeeds = []schemas.BytesPerSecond{labNIC, 20e6, 40e6, 12e6}

// Costs makes moves over links of different speeds, each foretold by what the moves
// before it have taught, and judges those after the first so many.
func (f *Fleet) Costs(ctx context.Context, moves, learnt int, say func(string)) (CostsReport, error) {
	if err := f.measured(nil); err != nil {
		return CostsReport{}, err
	}
	t := &teller{}
	for i := range moves {
		speed := linkSpeeds[i%len(linkSpeeds)]
		if err := f.over(ctx, speed, func() error { return f.moved(ctx, nil, t, speed, nil) }); err != nil {
			return judgeCosts(t.moves, learnt), err
		}
		m := t.moves[len(t.moves)-1]
		say(fmt.Sprintf("move %2d at %3.0f MB/s: predicted %5.2f s, %4.0f ms still; came %5.2f s, %4.0f ms (arithmetic %5.2f s, %4.0f ms)", i+1, float64(speed)/1e6,
			float64(m.Predicted.Duration), float64(m.Predicted.Downtime), float64(m.Came.Duration), float64(m.Came.Downtime), float64(m.Plain.Duration), float64(m.Plain.Downtime)))
	}
	return judgeCosts(t.moves, learnt), nil
}

// over does something while both hosts take in no more than a speed.
func (f *Fleet) over(ctx context.Context, speed schemas.BytesPerSecond, do func() error) (err error) {
	if speed >= labNIC {
		return do()
	}
	src, err := f.where(ctx)
	if err != nil {
		return err
	}
	to := f.Lab.Hosts[1-src]
	if err := to.Throttle(speed); err != nil {
		return err
	}
	err = do()
	if mend := to.Throttle(0); err == nil {
		err = mend
	}
	return err
}

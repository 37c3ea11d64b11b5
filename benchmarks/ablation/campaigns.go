package ablation

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/foreshift/foreshift/benchmarks/trace"
	"github.com/foreshift/foreshift/benchmarks/walk"
	"github.com/foreshift/foreshift/forecaster/calendar"
	"github.com/foreshift/foreshift/forecaster/ensemble"
	"github.com/foreshift/foreshift/forecaster/model"
	"github.com/foreshift/foreshift/schemas"
)

const (
	day  = schemas.StepsPerDay
	vms  = 3
	days = 9
)

// campaigns are where demand is raised: hours from the begin, for how long, by how much.
// The last two are scored.
var campaigns = [...]struct{ at, length, by float64 }{{2*24 + 9, 3, .5}, {5*24 + 15, 2, .5}, {7*24 + 11, 3, .5}, {8*24 + 18, 2, .5}}

const scoredFrom = 7 * day

// lifted is the share by which campaigns raise demand at a step of the story.
func lifted(t int) float64 {
	for _, c := range campaigns {
		if h := float64(t) / 12; h >= c.at && h < c.at+c.length {
			return c.by
		}
	}
	return 0
}

// demand of VM n: a daily wave with noise, raised during campaigns.
func demand(n, t int) float64 {
	noise := float64(xxhash.Sum64String(fmt.Sprint("demand", n, t))%1000)/1000 - .5
	return (1000 + 400*math.Sin(2*math.Pi*float64(t)/day-float64(n)) + 80*noise) * (1 + lifted(t))
}

// Campaigns walks the ensemble through a few web VMs with campaigns at odd times, with
// a calendar that announces them (somewhat too little: +40 % for +50 %) and with none,
// and gives the mean pinball loss of the forecasts, issued every hour, at the steps of
// the last two campaigns, in percent of demand.
func Campaigns(ctx context.Context) (with, without float64, err error) {
	for k, told := range [...]bool{true, false} {
		loss, err := campaignLoss(ctx, told)
		if err != nil {
			return 0, 0, fmt.Errorf("campaigns: %w", err)
		}
		*[...]*float64{&with, &without}[k] = loss
	}
	return with, without, nil
}

func campaignLoss(ctx context.Context, told bool) (float64, error) {
	series := make([]trace.Series, vms)
	list := make([]*trace.Series, vms)
	book := calendar.NewBook(schemas.DefaultBase)
	for n := range series {
		s := trace.Series{ID: fmt.Sprintf("web-%d", n), Y: make([]float32, days*day)}
		for t := range s.Y {
			s.Y[t] = float32(demand(n, t))
		}
		series[n], list[n] = s, &series[n]
		book.PutVM(walk.ID(s.ID), map[string]string{"tier": "web"})
	}
	begin := walk.Epoch.Start(schemas.DefaultBase)
	for k, c := range campaigns {
		hours := func(h float64) schemas.Time { return begin.Add(time.Duration(h * float64(time.Hour))) }
		if err := book.Put(&schemas.Calendar{ID: fmt.Sprintf("c%d", k), Name: "campaign", Class: "campaign", Start: hours(c.at), End: hours(c.at + c.length),
			Match: map[string]string{"tier": "web"}, Expected: map[string]schemas.Ratio{"cpu": .4}}); err != nil {
			return 0, err
		}
	}
	b := walk.New(ensemble.New(), list)
	if told {
		sheet := book.Sheet(walk.Epoch, (days+2)*day)
		b.Known = model.Regressors{From: sheet.From, X: sheet.X, Of: make([][]model.Term, vms)}
		for n := range series {
			b.Known.Of[b.Index(n)] = sheet.Terms(walk.ID(series[n].ID), schemas.CPU)
		}
	}
	d := schemas.NewDist()
	var loss, size float64
	for t := range days * day {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		if err := b.Step(t); err != nil {
			return 0, err
		}
		for n := range series {
			if t%12 != 11 || t < scoredFrom-day {
				if b.Wants() {
					b.Ask(n)
				}
				continue
			}
			b.Forecast(n, &d)
			for s := range schemas.Slots {
				for k := range schemas.SlotLen(s) {
					at := t + 1 + schemas.SlotOffset(s) + k
					if at < scoredFrom || at >= days*day || lifted(at) == 0 {
						continue
					}
					y := float64(series[n].Y[at])
					size += y
					for l, q := range d.At(s) {
						tau, e := float64(schemas.Levels[l]), y-float64(q)
						loss += math.Max(tau*e, (tau-1)*e) / schemas.NumLevels
					}
				}
			}
		}
	}
	return 100 * loss / size, nil
}

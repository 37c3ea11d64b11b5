package calendar_test

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/apache/arrow/go/v17/arrow/memory"
	"github.com/cespare/xxhash/v2"
	"github.com/foreshift/foreshift/forecaster/calendar"
	"github.com/foreshift/foreshift/forecaster/ensemble"
	"github.com/foreshift/foreshift/forecaster/model"
	"github.com/foreshift/foreshift/forecaster/window"
	"github.com/foreshift/foreshift/schemas"
)

const (
	base = schemas.DefaultBase
	day  = schemas.StepsPerDay
	days = 8
)

// begin is midnight in Berlin, in summer.
var begin = schemas.At(time.Date(2026, 6, 1, 22, 0, 0, 0, time.UTC))

// fleet is a few web VMs whose demand is a daily wave with noise, raised by extra, and
// the ensemble that lives with them and a calendar.
type fleet struct {
	t     *testing.T
	bank  *ensemble.Ensemble
	book  *calendar.Book
	vms   []schemas.VMID
	index []int
	win   []*window.Window
	from  schemas.Step
	extra func(at schemas.Time) float64 // share by which demand is raised
	y     []float32
}

func newFleet(t *testing.T, extra func(schemas.Time) float64, entries ...*schemas.Calendar) *fleet {
	t.Helper()
	f := &fleet{t: t, bank: ensemble.New(), book: calendar.NewBook(base), from: schemas.StepAt(begin, base), extra: extra}
	for _, e := range entries {
		if err := e.Validate(); err != nil {
			t.Fatal(err)
		}
		if err := f.book.Put(e); err != nil {
			t.Fatal(err)
		}
	}
	for n := range 2 {
		id := schemas.VMID{byte(n + 1)}
		f.vms = append(f.vms, id)
		f.book.PutVM(id, map[string]string{"tier": "web"})
		f.index = append(f.index, f.bank.Add(model.Key{VM: id, Resource: schemas.CPU}))
		f.win = append(f.win, window.New(memory.NewGoAllocator()))
	}
	f.y = make([]float32, len(f.vms))
	return f
}

// usual demand of VM n at a step.
func usual(n int, s schemas.Step) float64 {
	noise := float64(xxhash.Sum64String(fmt.Sprint(n, s))%1000)/1000 - .5
	return 1000 + 400*math.Sin(2*math.Pi*float64(s%day)/day-float64(n)/3) + 60*noise
}

func (f *fleet) demand(n int, s schemas.Step) float64 {
	return usual(n, s) * (1 + f.extra(s.Start(base)))
}

// known are the regressors from the begin of the story to a day after its end.
func (f *fleet) known() model.Regressors {
	sheet := f.book.Sheet(f.from, (days+2)*day)
	k := model.Regressors{From: sheet.From, X: sheet.X}
	for n, id := range f.vms {
		for len(k.Of) <= f.index[n] {
			k.Of = append(k.Of, nil)
		}
		k.Of[f.index[n]] = sheet.Terms(id, schemas.CPU)
	}
	return k
}

// live lets steps from..to-1 pass; said is called with every forecast made on the hour.
func (f *fleet) live(from, to schemas.Step, known model.Regressors, said func(n int, issued schemas.Step, d *schemas.Dist)) {
	f.t.Helper()
	d := schemas.NewDist()
	row := window.Row{Coverage: 1}
	for c := range row.V {
		row.V[c] = schemas.NaN()
	}
	for s := f.from + from; s < f.from+to; s++ {
		for n := range f.vms {
			v := float32(f.demand(n, s))
			f.y[f.index[n]] = v
			row.Step, row.V[schemas.ColCPU] = s, v
			f.win[n].Put(&row)
		}
		f.bank.Observe(s, f.y, known)
		for n, i := range f.index {
			key := model.Key{VM: f.vms[n], Resource: schemas.CPU}
			if v := f.win[n].View(); model.Due(key, v.First, s) == s {
				if err := f.bank.Refit(i, v, key.Hash()); err != nil {
					f.t.Fatal(err)
				}
			}
			if f.bank.Captures(s) || s%12 == 11 {
				f.bank.Forecast(i, schemas.Grid{Start: s + 1}, known, &d)
				if said != nil && s%12 == 11 {
					said(n, s, &d)
				}
			}
		}
	}
}

func during(e *schemas.Calendar, at schemas.Time) bool {
	c, err := calendar.Compile(e)
	if err != nil {
		return false
	}
	spans, _ := c.Between(at, at.Add(time.Second), nil)
	return len(spans) > 0
}

// A campaign that never took place before, of which only the calendar knows, is in the
// forecast hours ahead; and only then, and only as far as it was announced.
func TestEntryAloneForeseesACampaign(t *testing.T) {
	sale := &schemas.Calendar{ID: "sale", Name: "sale", Class: "campaign", Zone: "Europe/Berlin", Match: map[string]string{"tier": "web"},
		Start: begin.Add(5*24*time.Hour + 12*time.Hour), End: begin.Add(5*24*time.Hour + 15*time.Hour), Expected: map[string]schemas.Ratio{"cpu": .6}}
	extra := func(at schemas.Time) float64 {
		if at >= sale.Start && at < sale.End {
			return .6
		}
		return 0
	}
	issued := schemas.Step(5*day + 6*12) // six hours before
	run := func(entries ...*schemas.Calendar) (in, out, high float64) {
		f := newFleet(t, extra, entries...)
		known := f.known()
		f.live(0, issued, known, nil)
		d := schemas.NewDist()
		g := schemas.Grid{Start: f.from + issued}
		for n, i := range f.index {
			f.bank.Forecast(i, g, known, &d)
			for s := range schemas.Slots {
				at := g.Start + schemas.Step(schemas.SlotOffset(s)+schemas.SlotLen(s)/2)
				q := d.At(s)
				want := usual(n, at)
				// Slots that lie within the campaign with all they have, and in the hours before.
				first := (g.Start + schemas.Step(schemas.SlotOffset(s))).Start(base)
				last := (g.Start + schemas.Step(schemas.SlotOffset(s)+schemas.SlotLen(s))).Start(base)
				switch {
				case first >= sale.Start && last <= sale.End:
					in, high = max(in, float64(q[6])/want), max(high, float64(q[10])/want)
				case last < sale.Start:
					out = max(out, math.Abs(float64(q[6])/want-1))
				}
			}
		}
		return in, out, high
	}
	in, out, high := run(sale)
	if in < 1.3 || high < 1.5 || out > .15 {
		t.Errorf("with the entry: median x %.2f and p90 x %.2f of usual in the campaign, %.2f off before it", in, high, out)
	}
	if in, _, high := run(); in > 1.1 || high > 1.3 {
		t.Errorf("without an entry: median x %.2f, p90 x %.2f: who told?", in, high)
	}
}

// An entry that comes again and again and is wrong every time is believed less and
// less: in the end forecasts are what they are without it.
func TestWrongEntryDoesNoHarm(t *testing.T) {
	wrong := &schemas.Calendar{ID: "wrong", Name: "wrong", Class: "rumour", Zone: "Europe/Berlin", Repeat: "FREQ=DAILY",
		Start: begin.Add(12 * time.Hour), End: begin.Add(15 * time.Hour), Expected: map[string]schemas.Ratio{"cpu": .6}}
	nothing := func(schemas.Time) float64 { return 0 }
	run := func(entries ...*schemas.Calendar) (loss float64) {
		f := newFleet(t, nothing, entries...)
		known := f.known()
		f.live(0, 4*day, known, nil)
		f.live(4*day, 7*day, known, func(n int, issued schemas.Step, d *schemas.Dist) {
			for s := range schemas.Slots {
				q := d.At(s)
				at := issued + 1 + schemas.Step(schemas.SlotOffset(s)+schemas.SlotLen(s)/2)
				y := f.demand(n, at)
				if !during(wrong, at.Start(base)) {
					continue // only where it could do harm
				}
				for l, tau := range schemas.Levels {
					e := y - float64(q[l])
					loss += math.Max(float64(tau)*e, (float64(tau)-1)*e)
				}
			}
		})
		return loss
	}
	with, without := run(wrong), run()
	if with > 1.1*without {
		t.Errorf("loss is %.2f of what it is without the entry", with/without)
	}
}

// A numeric series that demand follows is learnt; when it ends, or says nothing, forecasts
// are no worse than if it had never been.
func TestNumericSeries(t *testing.T) {
	// Visitors come in waves that no clock knows.
	visitors := func(at schemas.Time) float64 {
		h := at.Sub(begin).Hours()
		return 100 + 60*math.Sin(2*math.Pi*h/17) + 30*math.Sin(2*math.Pi*h/41)
	}
	extra := func(at schemas.Time) float64 { return (visitors(at) - 100) / 200 }
	series := func(hours int) *schemas.External {
		x := &schemas.External{ID: "visitors", Start: begin, Every: 3600}
		for h := range hours {
			x.Value = append(x.Value, visitors(begin.Add(time.Duration(h)*time.Hour+30*time.Minute)))
		}
		return x
	}
	run := func(x *schemas.External) (loss float64) {
		f := newFleet(t, extra)
		if x != nil {
			if err := f.book.PutExternal(x); err != nil {
				t.Fatal(err)
			}
		}
		known := f.known()
		f.live(0, 5*day, known, nil)
		f.live(5*day, 6*day, known, func(n int, issued schemas.Step, d *schemas.Dist) {
			for s := range schemas.Slots {
				y := f.demand(n, issued+1+schemas.Step(schemas.SlotOffset(s)+schemas.SlotLen(s)/2))
				loss += math.Abs(y - float64(d.At(s)[6]))
			}
		})
		return loss
	}
	none, whole, absent := run(nil), run(series(8*24)), run(series(2*24))
	if whole > .8*none {
		t.Errorf("error with the series is %.2f of what it is without", whole/none)
	}
	if absent > 1.05*none {
		t.Errorf("error with a series that ended days ago is %.2f of what it is without", absent/none)
	}
}

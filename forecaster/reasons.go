package forecaster

import (
	"fmt"
	"math"

	"github.com/foreshift/foreshift/forecaster/window"
	"github.com/foreshift/foreshift/schemas"
)

// explain adds to an event what only the decider sees: who made the forecast, the part
// of what is known of the future, and the past day that the last one is most like.
func (d *Decider) explain(m *schemas.PressureVM, v *window.VM, c *chances) {
	if m.Advice == "" || m.Limit <= 0 {
		return
	}
	for r := range schemas.Resource(schemas.NumResources) {
		if r.String() != m.Resource {
			continue
		}
		l := d.lanes[r]
		if who, share := l.makers(d.vms[v.Slot].index, slotOf(schemas.Grid{Start: d.issued + 1}, schemas.StepAt(m.Onset, d.cfg.Base))); who != "" {
			m.Why = append(m.Why, schemas.Why{Kind: "model", Share: share, Text: "the forecast for then is made of " + who})
		}
		if add := float64(c.known[r]) / m.Limit; math.Abs(add) >= .01 {
			m.Why = append(m.Why, schemas.Why{Kind: "calendar", Share: schemas.Ratio(min(1, math.Abs(add))),
				Text: fmt.Sprintf("calendar entries and external series change the forecast by up to %+.0f %% of the limit within the day", 100*add)})
		}
		w := v.W.View()
		l.x = w.Series(r, l.x)
		if days, peak, ok := similar(l.x); ok {
			m.Why = append(m.Why, schemas.Why{Kind: "season",
				Text: fmt.Sprintf("the last 24 hours are most like those %d days before, after which demand peaked at %.0f %% of the limit within a day", days, 100*float64(peak)/m.Limit)})
		}
	}
}

// mostMakers and leastShare bound the experts that are named.
const (
	mostMakers = 3
	leastShare = .05
)

// makers names the experts with the largest shares in the median of a slot, and gives
// the share of them all.
func (l *lane) makers(i, slot int) (text string, share schemas.Ratio) {
	names := l.bank.Names()
	l.shares = append(l.shares[:0], make([]float32, len(names))...)
	l.bank.Weights(i, slot, l.shares)
	for range mostMakers {
		best := 0
		for k, w := range l.shares {
			if w > l.shares[best] {
				best = k
			}
		}
		w := l.shares[best]
		if !(w >= leastShare) {
			break
		}
		if text != "" {
			text += ", "
		}
		text += fmt.Sprintf("%s (%.0f %%)", names[best], 100*w)
		share += schemas.Ratio(w)
		l.shares[best] = 0
	}
	return text, min(1, share)
}

// slotOf is the slot of a grid that a step falls in; the first for what is before.
func slotOf(g schemas.Grid, s schemas.Step) int {
	slot := 0
	for n := range schemas.Slots {
		if start, _ := g.Slot(n); start <= s {
			slot = n
		}
	}
	return slot
}

// similar finds the past day, ending a whole number of days ago, that differs least
// from the last one, and the highest demand of the day that followed it.
func similar(y []float32) (days int, peak float32, ok bool) {
	const day = schemas.StepsPerDay
	least := math.Inf(1)
	for n := 1; (n+1)*day <= len(y); n++ {
		var sum, k float64
		last, then := y[len(y)-day:], y[len(y)-(n+1)*day:len(y)-n*day]
		for i, v := range last {
			if diff := float64(v - then[i]); diff == diff {
				sum += math.Abs(diff)
				k++
			}
		}
		if k < day/2 || sum/k >= least {
			continue
		}
		least, days, peak, ok = sum/k, n, 0, true
		for _, v := range y[len(y)-n*day : len(y)-(n-1)*day] {
			if v > peak {
				peak = v
			}
		}
	}
	return days, peak, ok
}

// concerned says whether anything known of the future concerns a series within the
// day after a step.
func (l *lane) concerned(index int, now schemas.Step) bool {
	if index >= len(l.known.Of) {
		return false
	}
	for _, t := range l.known.Of[index] {
		from := int(now + 1 - l.known.From)
		for n := max(0, from); n < min(from+schemas.StepsPerDay, len(l.known.X[t.X])); n++ {
			if x := l.known.X[t.X][n]; x != 0 && x == x {
				return true
			}
		}
	}
	return false
}

// change is the largest change of the median from one forecast to another.
func change(from, to schemas.Dist) (most float32) {
	const mid = schemas.NumLevels / 2
	for s := range schemas.Slots {
		if x := to.At(s)[mid] - from.At(s)[mid]; math.Abs(float64(x)) > math.Abs(float64(most)) {
			most = x
		}
	}
	return most
}

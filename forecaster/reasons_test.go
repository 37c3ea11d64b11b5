package forecaster

import (
	"strings"
	"testing"

	"github.com/foreshift/foreshift/schemas"
	"github.com/foreshift/foreshift/streams"
)

// whyOf picks the parts of an explanation that contain a text.
func whyOf(m *schemas.PressureVM, kind, text string) (found []schemas.Why) {
	for _, y := range m.Why {
		if y.Kind == kind && strings.Contains(y.Text, text) {
			found = append(found, y)
		}
	}
	return found
}

// A VM that a campaign will take over its limit says so, and by how much; the same
// VM without the label is not under pressure for its sake.
func TestWhyNamesTheCalendar(t *testing.T) {
	w := newWorld(t, Config{})
	now := firstStep + 6*288 + 40
	w.backfill(2, firstStep, now)
	w.now = int64(now.Start(base))
	noon := firstStep + 6*288 + 144
	entry := &schemas.Calendar{ID: "c", Name: "campaign", Class: "campaign", Start: (noon - 24).Start(base), End: (noon + 24).Start(base),
		Match: map[string]string{"tier": "web"}, Expected: map[string]schemas.Ratio{"cpu": 1}}
	w.told(streams.SubjectCalendar("c"), streams.External, entry)
	w.told(streams.SubjectKV(streams.BucketVMs, vmID(0).String()), kvVMs, &schemas.VMEntry{VM: vmID(0), Name: "vm", Labels: map[string]string{"tier": "web"}, Time: schemas.Time(w.now)})
	told := map[schemas.VMID]bool{}
	for s := now; s < now+3; s++ {
		w.live(2, s, nil)
		for _, m := range of[*schemas.PressureVM](w.drain(w.afterGrace(s))) {
			for _, y := range whyOf(m, "calendar", "+") {
				if told[m.VM] = true; y.Share <= .1 {
					t.Errorf("its share is %v: %s", y.Share, y.Text)
				}
			}
			if m.Resource != "cpu" {
				t.Errorf("%s of VM %d is under pressure", m.Resource, m.VM[0])
			}
		}
	}
	if !told[vmID(0)] || told[vmID(1)] {
		t.Fatalf("the campaign is named for %v", told)
	}
}

// The makers of the forecast and the most similar day are named to who is warned.
func TestWhyNamesMakersAndSimilarDay(t *testing.T) {
	w := newWorld(t, Config{})
	now := firstStep + 4*288 + 130
	w.backfill(4, firstStep, now)
	seen := 0
	for s := now; s < now+3; s++ {
		w.live(4, s, nil)
		for _, m := range of[*schemas.PressureVM](w.drain(w.afterGrace(s))) {
			if m.Advice == "" {
				continue
			}
			seen++
			if y := whyOf(m, "season", "days before"); len(y) != 1 || !strings.Contains(y[0].Text, "peaked at") {
				t.Errorf("the similar day of VM %d: %v", m.VM[0], m.Why)
			}
			if y := whyOf(m, "model", "is made of"); len(y) != 1 || y[0].Share < .4 || y[0].Share > 1 || !strings.Contains(y[0].Text, " %)") {
				t.Errorf("the makers of VM %d: %v", m.VM[0], m.Why)
			}
		}
	}
	if seen == 0 {
		t.Fatal("nobody was warned")
	}
}

func TestSimilarDay(t *testing.T) {
	const day = schemas.StepsPerDay
	series := func(of ...func(k int) float32) (y []float32) {
		for _, f := range of {
			for k := range day {
				y = append(y, f(k))
			}
		}
		return y
	}
	flat := func(v float32) func(int) float32 { return func(int) float32 { return v } }
	gap := func(f func(int) float32, from int) func(int) float32 {
		return func(k int) float32 {
			if k >= from {
				return schemas.NaN()
			}
			return f(k)
		}
	}
	rise := func(k int) float32 { return float32(k) }
	for name, c := range map[string]struct {
		y    []float32
		days int
		peak float32
		ok   bool
	}{
		"too young":                {y: series(rise)},
		"yesterday":                {y: series(flat(50), flat(100), flat(101)), days: 1, peak: 101, ok: true},
		"of three days":            {y: series(rise, flat(700), flat(90), rise), days: 3, peak: 700, ok: true},
		"the newest of equals":     {y: series(flat(1), flat(2), flat(1), flat(3), flat(1)), days: 2, peak: 3, ok: true},
		"gaps are no difference":   {y: series(gap(rise, 200), flat(400), rise), days: 2, peak: 400, ok: true},
		"a day with little in it":  {y: series(gap(rise, 20), flat(400), rise), days: 1, peak: 287, ok: true},
		"nothing known of the day": {y: series(rise, gap(rise, 0))},
	} {
		days, peak, ok := similar(c.y)
		if ok != c.ok || ok && (days != c.days || peak != c.peak) {
			t.Errorf("%s: %d days before, peak %v, %v", name, days, peak, ok)
		}
	}
	if s := slotOf(schemas.Grid{Start: firstStep}, firstStep-5); s != 0 {
		t.Errorf("before the grid: slot %d", s)
	}
	if s := slotOf(schemas.Grid{Start: firstStep}, firstStep+13); s != 12 {
		t.Errorf("13 steps ahead: slot %d", s)
	}
}

package replay

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/foreshift/foreshift/placer/policy/learning"
	"github.com/foreshift/foreshift/schemas"
)

// bursty is a history of 16 days with bursts of many sizes, an hour or so long and
// never twice the same, so that some are worth a move and many are not.
func bursty() *History {
	h := &History{Name: "bursty", Steps: 16 * day}
	x := uint64(7)
	draw := func(n int) int {
		x = x*6364136223846793005 + 1442695040888963407
		return int(x>>33) % n
	}
	for v := range 12 {
		h.VMs = append(h.VMs, VM{fmt.Sprintf("vm%02d", v), 4, 8})
		d := make([]float32, h.Steps)
		for t := range d {
			d[t] = .8
		}
		for t := draw(40); t < h.Steps; t += 20 + draw(60) {
			height := .4 * float32(1+draw(8))
			for s := t; s < min(h.Steps, t+3+draw(15)); s++ {
				d[s] = min(4, .8+height)
			}
		}
		h.D = append(h.D, d...)
	}
	return h
}

// foretold keeps the truth as forecasts: what is shown is how settings are learnt, and
// this way it takes no model.
func foretold(t *testing.T, h *History) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "f")
	w, err := newWriter(oracle{h}, h, "empirical", warmDays*day, path)
	if err != nil {
		t.Fatal(err)
	}
	fr := newFrame(h)
	for s := warmDays * day; s < h.Steps; s++ {
		if err := w.After(s, fr); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.close(); err != nil {
		t.Fatal(err)
	}
	return path
}

// From bad starts the settings move toward where less is lost, and the cost model from
// a third of the speed to the truth.
func TestLearnFromBadStarts(t *testing.T) {
	h := bursty()
	opt := Options{U: .92, Hosts: 3, Placements: 2, Model: "empirical", Workers: 1, Forecasts: foretold(t, h)}
	var done, total int
	opt.Progress = func(d, n int) { done, total = d, n }
	high, _ := settingsOf("predictive")
	low := high
	high.MinBenefit, low.MinBenefit = 3000, 50
	res, err := Learn(context.Background(), h, opt, []Start{{"too timid", high, 1. / 3}, {"hasty", low, 1. / 3}})
	if err != nil {
		t.Fatal(err)
	}
	var table strings.Builder
	if err := res.Table(&table); err != nil {
		t.Fatal(err)
	}
	t.Log(table.String())
	if done != total || total == 0 {
		t.Errorf("progress ends at %d of %d", done, total)
	}
	for i := range res.Starts {
		s := &res.Starts[i]
		if s.Final > 1.02*s.Whole {
			t.Errorf("%s: %g core-hours lost with what was learnt, %g with what it began with", s.Name, s.Final, s.Whole)
		}
		if s.Durations[0] < 1 || s.Durations[1] > .2 {
			t.Errorf("%s: durations are off by %g by arithmetic and %g as learnt", s.Name, s.Durations[0], s.Durations[1])
		}
	}
	// From far too high the least benefit comes down, and with it what is lost; where
	// it is low already it does no harm to go on.
	timid, hasty := &res.Starts[0], &res.Starts[1]
	if timid.To[learning.MinBenefit] > timid.From[learning.MinBenefit]/2 || timid.Final > .6*timid.Whole || len(timid.Changes) < 4 || timid.Changes[0].Low <= 0 {
		t.Errorf("from too timid: %v to %v, %g core-hours lost after %g, changes %+v", timid.From, timid.To, timid.Final, timid.Whole, timid.Changes)
	}
	if hasty.To[learning.MinBenefit] > timid.To[learning.MinBenefit] || hasty.On > 1.02*hasty.Off || hasty.Refusals[string(schemas.ReasonPoorData)] == 0 {
		t.Errorf("where it matters little: %v to %v, %g core-hours lost after %g, refused %v", hasty.From, hasty.To, hasty.On, hasty.Off, hasty.Refusals)
	}
	page := string(res.HTML())
	if !strings.Contains(page, "<svg") || strings.Contains(page, "src=") {
		t.Error("the page has no picture, or fetches one")
	}
}

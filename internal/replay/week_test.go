package replay

import (
	"strings"
	"testing"
	"time"

	"github.com/foreshift/foreshift/schemas"
)

func TestTell(t *testing.T) {
	const base = 5 * time.Minute
	a, b := schemas.VMID{1}, schemas.VMID{2}
	first := schemas.Step(1000)
	var steps []*schemas.Steps
	for s := range schemas.Step(24) {
		ha, hb := schemas.HostID("h1"), schemas.HostID("h1")
		if s >= 12 {
			ha = "h2" // by our command
		}
		if s >= 18 {
			hb = "h2" // by somebody else
		}
		m := &schemas.Steps{Step: first + s, Base: base, VM: []schemas.VMID{a, b}, Host: []schemas.HostID{ha, hb}}
		m.Cols[schemas.ColCPU], m.Cols[schemas.ColSteal] = []float32{3000, 3000}, []float32{500, schemas.NaN()}
		steps = append(steps, m)
	}
	at := (first + 11).Start(base)
	c := &schemas.Command{ID: "c", VM: a, Source: "h1", Destination: "h2", Issued: at, Predicted: schemas.Prediction{Onset: at.Add(time.Hour), Gain: schemas.Gain{Benefit: 7200}}}
	o := &schemas.Outcome{Command: "c", VM: a, Result: schemas.ResultSucceeded, Time: at.Add(time.Minute), Downtime: 500, Volume: 2 << 30}
	e := &schemas.Effect{Command: "c", Terms: map[string]schemas.Change{"source.steal_mcpu": {Low: -5, High: -1}}}
	p := &schemas.Plan{Actions: []schemas.Action{{ID: "c"}, {ID: "d", Predicted: schemas.Prediction{Gain: schemas.Gain{Benefit: 3600}}}}}
	w := Tell(WeekInput{Base: base, Steps: steps, Capacity: map[schemas.HostID]float64{"h1": 4000, "h2": 4000}, Plans: []*schemas.Plan{p, p},
		Commands: []*schemas.Command{c}, Outcomes: []*schemas.Outcome{o}, Effects: []*schemas.Effect{e}})
	// Both on one host of 4 cores want 6: 2 cores short for 12 steps on h1 and 6 on h2.
	if w.Short != 18 || w.Unmet < 2.99 || w.Unmet > 3.01 || w.Waited < .99 || w.Waited > 1.01 {
		t.Errorf("short %d, unmet %v, waited %v", w.Short, w.Unmet, w.Waited)
	}
	if w.Commanded != 1 || w.Succeeded != 1 || w.InTime != 1 || w.Expected != 2 || w.Shadow != 1 || w.ShadowGain != 1 || w.Relieved != 1 || w.Foreign != 1 || w.VMs != 2 {
		t.Errorf("%+v", w)
	}
	var text strings.Builder
	if err := w.Table(&text); err != nil || !strings.Contains(text.String(), "another balancer") {
		t.Error(text.String(), err)
	}
	text.Reset()
	if err := Tell(WeekInput{Base: base, Steps: steps}).Table(&text); err != nil || !strings.Contains(text.String(), "2 VMs; no host reports here") {
		t.Error(text.String(), err)
	}
}

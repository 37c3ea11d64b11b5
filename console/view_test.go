package console

import (
	"testing"
	"time"

	"github.com/foreshift/foreshift/schemas"
	"github.com/foreshift/foreshift/streams"
)

var t0 = schemas.At(time.Date(2031, 5, 4, 12, 0, 0, 0, time.UTC))

func event(seq uint64, m schemas.Message) streams.Event { return streams.Event{Seq: seq, Msg: m} }

func story() []streams.Event {
	web, db := schemas.VMID{15: 1}, schemas.VMID{15: 2}
	cmd := func(id string, vm schemas.VMID, onset schemas.Time) *schemas.Command {
		return &schemas.Command{ID: schemas.CommandID(id), VM: vm, Name: "web-1", Source: "a", Destination: "b", Issued: t0,
			Reason: schemas.Reason{Code: schemas.ReasonOK, Detail: "host a is short of cpu"}, Predicted: schemas.Prediction{Onset: onset}}
	}
	return []streams.Event{
		event(1, &schemas.CapacityHost{Host: "b", Site: "public", Time: t0.Add(-time.Hour)}),
		event(2, &schemas.CapacityHost{Host: "a", Site: "private", Time: t0, VMs: []schemas.InventoryVM{
			{VM: web, Name: "web-1", State: schemas.VMRunning}, {VM: db, Name: "<b>db</b>", State: schemas.VMRunning}}}),
		event(3, &schemas.CapacityHost{Host: "c", Site: "private", Time: t0, VMs: []schemas.InventoryVM{{VM: db, Name: "<b>db</b>", State: schemas.VMRunning}}}),
		event(4, &schemas.PressureVM{VM: web, Cause: schemas.CauseHostContention, Score: .8, Resource: "cpu", Onset: t0.Add(time.Minute)}),
		event(5, cmd("m1", web, t0.Add(time.Minute))),
		event(6, &schemas.Outcome{Command: "m1", Result: schemas.ResultSucceeded, Time: t0.Add(10 * time.Second)}),
		event(7, cmd("m2", web, t0)),
		event(8, &schemas.Outcome{Command: "m2", Result: schemas.ResultSucceeded, Time: t0.Add(10 * time.Second)}),
		event(9, cmd("m3", db, 0)),
		event(10, &schemas.Outcome{Command: "m3", Result: schemas.ResultUnknown, Reason: schemas.Reason{Code: schemas.ReasonUnreachable}}),
		event(11, cmd("m4", db, 0)),
		event(12, &schemas.Shortfall{Site: "private", Onset: t0.Add(time.Hour), Resource: "memory"}),
		event(13, &schemas.Shortfall{Site: "public"}), // over
		event(14, &schemas.Act{Act: schemas.ActPause}),
	}
}

func TestBuild(t *testing.T) {
	v := Build(story(), t0)
	if got, want := v.Count(), (Counts{Succeeded: 2, Predicted: 1, Unknown: 1, Running: 1}); got != want {
		t.Errorf("counts %+v, want %+v", got, want)
	}
	if len(v.Hosts) != 3 || v.Hosts[0].ID != "a" || !v.Hosts[2].Stale || v.Hosts[0].Stale {
		t.Errorf("hosts %+v", v.Hosts)
	}
	if v.VMs[0].Name != "web-1" || v.VMs[0].Score() != .8 || len(v.VMs[1].Hosts) != 2 {
		t.Errorf("vms %+v", v.VMs)
	}
	if v.Moves[0].Command.ID != "m4" || v.Moves[3].Lead() != 50*time.Second {
		t.Errorf("moves are not newest first, or the lead is wrong: %+v", v.Moves)
	}
	if len(v.Shortfalls) != 1 || v.Shortfalls[0].Site != "private" || !v.Paused {
		t.Errorf("shortfalls %+v, paused %v", v.Shortfalls, v.Paused)
	}
}

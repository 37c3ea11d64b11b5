package forecaster

import (
	"testing"

	"github.com/foreshift/foreshift/schemas"
	"github.com/foreshift/foreshift/streams"
)

// backfillOn is backfill with the host of each VM.
func (w *world) backfillOn(vms int, from, to schemas.Step, host func(n int, s schemas.Step) schemas.HostID) {
	w.t.Helper()
	for s := from; s < to; s++ {
		parts := map[int]*schemas.Steps{}
		for n := range vms {
			p := vmID(n).Partition()
			if parts[p] == nil {
				parts[p] = &schemas.Steps{Partition: p, Step: s, Base: base}
			}
			m := parts[p]
			cpu, mem := demand(n, s)
			m.VM, m.Host = append(m.VM, vmID(n)), append(m.Host, host(n, s))
			m.Coverage, m.Flags = append(m.Coverage, 1), append(m.Flags, 0)
			m.AllocCPU, m.AllocMem = append(m.AllocCPU, 2000), append(m.AllocMem, 4e9)
			m.Cols[schemas.ColCPU], m.Cols[schemas.ColMem] = append(m.Cols[schemas.ColCPU], cpu), append(m.Cols[schemas.ColMem], mem)
		}
		for p := range schemas.Partitions {
			if m := parts[p]; m != nil {
				w.apply(streams.Steps, streams.SubjectSteps(p), m, int64(s.End(base)))
			}
		}
	}
}

// A move is told of once, an hour of steps after it ended, on the VM's own record; not
// while another move of the VM is under way, and again when the word got lost.
func TestEffectOfAMove(t *testing.T) {
	w := newWorld(t, Config{})
	const vms = 12
	moved, vm := firstStep+900, vmID(5)
	host := func(n int, s schemas.Step) schemas.HostID {
		if n == 5 && s > moved {
			return "h1"
		}
		return schemas.HostID([]string{"h0", "h1", "h2"}[n%3])
	}
	begun, ended := int64(moved.Start(base))+60e9, int64(moved.Start(base))+90e9
	w.backfillOn(vms, firstStep, moved+12, host)
	c := &schemas.Command{ID: "c-1", Plan: "p", PlanHash: "0", VM: vm, Name: "five", Source: "h2", Destination: "h1", Issued: schemas.Time(begun), Expires: schemas.Time(begun + 60e9), Deadline: schemas.Time(begun + 600e9),
		Reason: schemas.Reason{Code: schemas.ReasonOK}, Predicted: schemas.Prediction{Gain: schemas.Gain{Terms: []schemas.Term{}}}}
	w.apply(streams.Migrations, streams.SubjectCommand(vm, "h2", "h1"), c, begun)
	o := &schemas.Outcome{Command: "c-1", Epoch: 1, VM: vm, Host: "h2", Source: "h2", Destination: "h1", Time: schemas.Time(ended), Started: schemas.Time(begun), Result: schemas.ResultSucceeded,
		Reason: schemas.Reason{Code: schemas.ReasonOK}, RunsAt: "h1", Duration: 30, Predicted: c.Predicted}
	w.apply(streams.Migrations, streams.SubjectOutcome(vm, "h2"), o, ended)
	w.last[streams.RecordOf(vm)] = w.seq[streams.Migrations]
	if e := of[*schemas.Effect](w.drain(w.afterGrace(moved + 11))); len(e) != 0 {
		t.Fatalf("told before its hour: %v", e)
	}
	lost := 0
	w.lose = func(o streams.Out) bool { _, is := o.Msg.(*schemas.Effect); lost++; return is }
	w.backfillOn(vms, moved+12, moved+13, host)
	first := of[*schemas.Effect](w.drain(w.afterGrace(moved + 12)))
	if len(first) != 1 || lost == 0 {
		t.Fatalf("%d effects", len(first))
	}
	e := first[0]
	mover, _ := demand(5, moved+3)
	if c := e.Terms["source.cpu_mcpu"]; c.Low >= 0 || c.After-c.Without > -float64(mover)/2 {
		t.Errorf("the source is not relieved: %+v", c)
	}
	if c := e.Terms["destination.cpu_mcpu"]; c.After-c.Without < float64(mover)/2 {
		t.Errorf("the destination is not burdened: %+v", c)
	}
	if c := e.Terms["vm.cpu_mcpu"]; c.Low > 0 || c.High < 0 {
		t.Errorf("its own demand changed: %+v", c)
	}
	if _, ok := e.Terms["vm.steal_mcpu"]; ok {
		t.Error("a term of what nobody measured")
	}
	w.lose = nil
	w.backfillOn(vms, moved+13, moved+15, host)
	again := of[*schemas.Effect](w.drain(w.afterGrace(moved + 14)))
	if len(again) != 1 {
		t.Fatalf("%d effects after the first was lost", len(again))
	}
	w.apply(streams.Migrations, streams.SubjectEffect(vm), again[0], w.now)
	w.backfillOn(vms, moved+15, moved+20, host)
	if more := of[*schemas.Effect](w.drain(w.afterGrace(moved + 19))); len(more) != 0 {
		t.Fatalf("told again: %v", more)
	}
	if s := w.d.Stats(); s.Effects != 2 || s.Unjudged != 0 {
		t.Errorf("%d told, %d unjudged", s.Effects, s.Unjudged)
	}
}

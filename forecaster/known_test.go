package forecaster

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/foreshift/foreshift/forecaster/model"
	"github.com/foreshift/foreshift/schemas"
	"github.com/foreshift/foreshift/streams"
	"github.com/foreshift/foreshift/streams/streamstest"
	"github.com/prometheus/client_golang/prometheus"
)

// told applies an entry of the calendar, or labels, to a world.
func (w *world) told(subject, stream string, m schemas.Message) {
	w.t.Helper()
	w.apply(stream, subject, m, w.now)
}

const kvVMs = "KV_" + streams.BucketVMs

// What operators know reaches the bank as regressors of the VMs concerned, and leaves
// it again.
func TestTheCalendarReachesTheBank(t *testing.T) {
	w := newWorld(t, Config{})
	last := firstStep + 600
	w.backfill(3, firstStep, last)
	noon := (last + 30).Start(base)
	entry := &schemas.Calendar{ID: "c", Name: "campaign", Class: "campaign", Start: noon, End: noon.Add(time.Hour), Match: map[string]string{"tier": "web"},
		Expected: map[string]schemas.Ratio{"cpu": .4}}
	w.told(streams.SubjectCalendar("c"), streams.External, entry)
	for n, tier := range []string{"web", "db"} {
		w.told(streams.SubjectKV(streams.BucketVMs, vmID(n).String()), kvVMs, &schemas.VMEntry{VM: vmID(n), Name: "vm", Labels: map[string]string{"tier": tier}, Time: noon})
	}
	w.live(3, last, nil)
	w.drain(w.afterGrace(last))
	termsOf := func(n int, r schemas.Resource) []model.Term {
		return w.d.lanes[r].known.Of[w.d.vms[w.d.store.Get(vmID(n)).Slot].index]
	}
	known := w.d.lanes[schemas.CPU].known
	terms := termsOf(0, schemas.CPU)
	if len(terms) != 1 || terms[0].Mean != 1 {
		t.Fatalf("the web VM's CPU has %+v", terms)
	}
	for off, want := range map[schemas.Step]float32{29: 0, 30: .4, 41: .4, 42: 0} {
		if got := known.X[terms[0].X][last+off-known.From]; got != want {
			t.Errorf("%d steps ahead: %v, want %v", off, got, want)
		}
	}
	if m := termsOf(0, schemas.Memory); len(m) != 1 || m[0].Mean != 0 {
		t.Errorf("its memory has %+v", m)
	}
	for n := 1; n < 3; n++ {
		if m := termsOf(n, schemas.CPU); len(m) != 0 {
			t.Errorf("VM %d has %+v", n, m)
		}
	}
	if known.From > last-2304 || int(known.From)+len(known.X[0]) < int(last)+288 {
		t.Errorf("regressors from %d for %d steps, newest step %d", known.From, len(known.X[0]), last)
	}
	// The label goes with the key.
	e := streams.Event{Stream: kvVMs, Subject: streams.SubjectKV(streams.BucketVMs, vmID(0).String()), Seq: 99, Time: w.now}
	if err := w.d.Apply(e); err != nil {
		t.Fatal(err)
	}
	w.live(3, last+1, nil)
	w.drain(w.afterGrace(last + 1))
	if m := termsOf(0, schemas.CPU); len(m) != 0 {
		t.Errorf("without its label: %+v", m)
	}
	// A rule that nobody understands is refused and counted; the fleet is forecast.
	bad := *entry
	bad.Repeat = "FREQ=NEVER"
	if err := w.d.Apply(streams.Event{Stream: streams.External, Subject: streams.SubjectCalendar("c"), Seq: 9, Time: w.now, Msg: &bad}); err == nil {
		t.Error("was not refused")
	}
	w.live(3, last+2, nil)
	if len(of[*schemas.Forecasts](w.drain(w.afterGrace(last+2)))) == 0 {
		t.Error("no forecasts")
	}
	if s := w.d.Stats(); s.Entries != 0 || s.Expanded.Refused != 1 || len(w.d.lanes[0].known.X) != 0 {
		t.Errorf("%+v", s)
	}
}

// TestServiceHearsTheCalendar: the role may read what it needs, and what an operator
// publishes is in force.
func TestServiceHearsTheCalendar(t *testing.T) {
	srv := streamstest.Start(t)
	operator := streamstest.Connect(t, srv, streams.RoleOperator)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	start := schemas.At(time.Now())
	if _, err := operator.Publish(ctx, streams.Out{Subject: streams.SubjectCalendar("c"), ID: "1",
		Msg: &schemas.Calendar{ID: "c", Name: "campaign", Start: start, End: start.Add(time.Hour)}}); err != nil {
		t.Fatal(err)
	}
	reg := prometheus.NewRegistry()
	bus := streamstest.Connect(t, srv, streams.RoleForecaster)
	run, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() {
		ended <- Run(run, bus, Config{Base: 500 * time.Millisecond, Grace: 100 * time.Millisecond}, slog.New(slog.DiscardHandler), reg)
	}()
	inForce := func() float64 {
		families, err := reg.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			if f.GetName() == "foreshift_forecaster_known_future" {
				return f.GetMetric()[0].GetGauge().GetValue()
			}
		}
		return 0
	}
	for inForce() != 1 {
		select {
		case err := <-ended:
			t.Fatalf("ended: %v", err)
		case <-time.After(20 * time.Millisecond):
		}
	}
	stop()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
}

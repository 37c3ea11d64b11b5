package forecaster

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/foreshift/foreshift/schemas"
	"github.com/foreshift/foreshift/streams"
	"github.com/foreshift/foreshift/streams/streamstest"
	"github.com/prometheus/client_golang/prometheus"
)

// TestServiceOnARealBus runs the service against a real server: history in, metrics
// in, the step closes, forecasts and the step come out; started again it goes on
// where it ended.
func TestServiceOnARealBus(t *testing.T) {
	srv := streamstest.Start(t)
	agent := streamstest.Connect(t, srv, "agent-h1")
	reader := streamstest.Connect(t, srv, streams.RoleInspector)
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	const step = 500 * time.Millisecond
	id := vmID(1)
	flush := func(seq uint64, at time.Time) {
		t.Helper()
		m := &schemas.Metrics{Host: "h1", Site: "a", Agent: "x", Seq: seq, VM: []schemas.VMID{id}, Time: []schemas.Time{schemas.At(at)},
			IntervalS: []float32{.25}, Flags: []schemas.Flags{0}, AllocCPU: []float32{2000}, AllocMem: []float32{4e9}}
		m.Cols[schemas.ColCPU], m.Cols[schemas.ColMem] = []float32{500}, []float32{1e9}
		if _, err := agent.Publish(ctx, streams.Out{Subject: streams.SubjectMetrics("h1"), ID: "m." + at.String(), Msg: m}); err != nil {
			t.Fatal(err)
		}
	}
	// run feeds the service until there are forecasts issued after a step.
	run := func(after schemas.Step) (issued schemas.Step) {
		t.Helper()
		ctx, stop := context.WithCancel(ctx)
		ended := make(chan error, 1)
		reg := prometheus.NewRegistry()
		bus := streamstest.Connect(t, srv, streams.RoleForecaster)
		go func() {
			ended <- Run(ctx, bus, Config{Base: step, Grace: 100 * time.Millisecond}, slog.New(slog.DiscardHandler), reg)
		}()
		seq := uint64(1)
		for issued <= after {
			flush(seq, time.Now())
			seq++
			events, err := reader.Last(ctx, streams.Forecasts)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range events {
				issued = max(issued, e.Msg.(*schemas.Forecasts).Issued)
			}
			select {
			case err := <-ended:
				t.Fatalf("ended: %v", err)
			case <-time.After(50 * time.Millisecond):
			}
		}
		families, err := reg.Gather()
		if err != nil {
			t.Fatal(err)
		}
		have := ""
		for _, f := range families {
			have += f.GetName() + " "
		}
		for _, want := range []string{"foreshift_forecaster_vms", "foreshift_forecaster_closed_step_lag_seconds", "foreshift_forecaster_made", "foreshift_forecaster_withheld", "foreshift_forecaster_rows"} {
			if !strings.Contains(have, want) {
				t.Errorf("gauge %s is missing in %s", want, have)
			}
		}
		stop()
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
		return issued
	}
	first := run(0)
	second := run(first + coldBelow)
	if second <= first {
		t.Fatalf("issued %d, then %d", first, second)
	}
	events, err := reader.History(ctx, streams.Input{Stream: streams.Steps, From: streams.FromAll})
	if err != nil {
		t.Fatal(err)
	}
	type key struct {
		step     schemas.Step
		revision int
	}
	seen := map[key]bool{}
	for _, e := range events {
		m := e.Msg.(*schemas.Steps)
		k := key{m.Step, m.Revision}
		if seen[k] {
			t.Fatalf("step %d revision %d is there twice", m.Step, m.Revision)
		}
		seen[k] = true
		if m.Cols[schemas.ColCPU][0] != 500 || m.VM[0] != id {
			t.Fatalf("%+v", m)
		}
	}
	if len(seen) < coldBelow {
		t.Fatalf("%d steps", len(seen))
	}
}

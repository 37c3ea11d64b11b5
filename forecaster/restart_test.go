package forecaster

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/foreshift/foreshift/forecaster/ensemble"
	"github.com/foreshift/foreshift/schemas"
	"github.com/foreshift/foreshift/streams"
	"github.com/foreshift/foreshift/streams/embedded"
	"github.com/foreshift/foreshift/streams/streamstest"
	"github.com/prometheus/client_golang/prometheus"
)

// life is one run of the service and what its decider was shown.
type life struct {
	t     *testing.T
	srv   *embedded.Server
	cfg   Config
	shown []any // streams.Event and tick, in order; read it after stop
	stop  func()
}

func begin(t *testing.T, srv *embedded.Server, cfg Config) *life {
	t.Helper()
	l := &life{t: t, srv: srv, cfg: cfg}
	ctx, cancel := context.WithCancel(context.Background())
	bus := streamstest.Connect(t, srv, streams.RoleForecaster)
	ended := make(chan error, 1)
	go func() {
		ended <- run(ctx, bus, cfg, slog.New(slog.DiscardHandler), prometheus.NewRegistry(), func(x any) { l.shown = append(l.shown, x) })
	}()
	l.stop = func() {
		cancel()
		if err := <-ended; err != nil {
			t.Fatalf("service: %v", err)
		}
	}
	return l
}

// TestAServiceStartedAgainHasForgottenNothing kills the service in the middle, starts
// it again, and compares it with a twin that was shown the same events and cuts and
// never stopped.
func TestAServiceStartedAgainHasForgottenNothing(t *testing.T) {
	srv := streamstest.Start(t)
	agent := streamstest.Connect(t, srv, "agent-h1")
	reader := streamstest.Connect(t, srv, streams.RoleInspector)
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	cfg := Config{Base: 200 * time.Millisecond, Grace: 50 * time.Millisecond, TuneEvery: -1}
	ids := []schemas.VMID{vmID(1), vmID(2), vmID(3)}
	seq := uint64(0)
	flush := func() {
		at := time.Now()
		seq++
		m := &schemas.Metrics{Host: "h1", Site: "a", Agent: "x", Seq: seq}
		for i, id := range ids {
			m.VM, m.Time, m.IntervalS = append(m.VM, id), append(m.Time, schemas.At(at)), append(m.IntervalS, .05)
			m.Flags, m.AllocCPU, m.AllocMem = append(m.Flags, 0), append(m.AllocCPU, 2000), append(m.AllocMem, 4e9)
			m.Cols[schemas.ColCPU] = append(m.Cols[schemas.ColCPU], float32(500+100*i)+float32(seq%17)*20)
			m.Cols[schemas.ColMem] = append(m.Cols[schemas.ColMem], 1e9+float32(seq%5)*1e6)
		}
		if _, err := agent.Publish(ctx, streams.Out{Subject: streams.SubjectMetrics("h1"), ID: "m." + at.String(), Msg: m}); err != nil {
			t.Fatal(err)
		}
	}
	// live feeds the service until it has issued n steps more.
	live := func(n int) *life {
		l := begin(t, srv, cfg)
		var first, last schemas.Step
		for first == 0 || last < first+schemas.Step(n) {
			flush()
			events, err := reader.Last(ctx, streams.Forecasts)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range events {
				last = max(last, e.Msg.(*schemas.Forecasts).Issued)
			}
			if first == 0 {
				first = last
			}
			select {
			case <-ctx.Done():
				t.Fatal("no forecasts")
			case <-time.After(20 * time.Millisecond):
			}
		}
		l.stop()
		return l
	}
	one := live(16)
	two := live(12)
	var revision uint64
	cfg.Lease = func() uint64 { return revision }
	lives := slices.Concat(one.shown, two.shown)
	twin := replay(t, cfg, lives, &revision, ensemble.Tuning{})
	data, _, err := streamstest.Connect(t, srv, streams.RoleForecaster).Snapshot(ctx, snapshotName)
	if err != nil {
		t.Fatal(err)
	}
	want := twin.AppendSnapshot(nil)
	if !bytes.Equal(data, want) {
		t.Fatalf("the twin's state of %d bytes is not the snapshot's of %d bytes: %s", len(want), len(data), differ(t, twin, data))
	}
	if dull := replay(t, cfg, lives, &revision, ensemble.Tuning{NoLearning: true}); bytes.Equal(dull.AppendSnapshot(nil), want) {
		t.Fatal("nothing was learnt: the comparison says nothing")
	}
}

// replay shows a new decider what the lives' deciders were shown.
func replay(t *testing.T, cfg Config, lives []any, revision *uint64, tuning ensemble.Tuning) *Decider {
	t.Helper()
	d, err := NewDecider(cfg)
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range d.lanes {
		l.bank.Tune(tuning)
	}
	seen := map[string]uint64{}
	for _, x := range lives {
		switch x := x.(type) {
		case streams.Event:
			if x.Seq <= seen[x.Stream] { // told again for the windows
				continue
			}
			seen[x.Stream] = x.Seq
			if err := d.Apply(x); err != nil {
				t.Fatal(err)
			}
		case tick:
			*revision = x.revision
			d.SetOwned(nil)
			if x.owner {
				d.SetOwned(all)
			}
			d.Tick(x.Cut)
		}
	}
	return d
}

// differ names the first part of the header in which a snapshot differs.
func differ(t *testing.T, twin *Decider, data []byte) string {
	t.Helper()
	mine, _, err := cut(twin.AppendSnapshot(nil))
	if err != nil {
		return err.Error()
	}
	at := bytes.Index(data, []byte(`{"Version":`))
	if at < 0 {
		return "no header"
	}
	var a, b map[string]json.RawMessage
	if err := json.Unmarshal(mine, &a); err != nil {
		return err.Error()
	}
	if err := json.NewDecoder(bytes.NewReader(data[at:])).Decode(&b); err != nil {
		return err.Error()
	}
	for k := range a {
		if !bytes.Equal(a[k], b[k]) {
			return k + ": " + string(a[k]) + " and " + string(b[k])
		}
	}
	return "headers are equal"
}

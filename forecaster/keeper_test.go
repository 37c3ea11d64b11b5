package forecaster

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/foreshift/foreshift/forecaster/lstm"
	"github.com/foreshift/foreshift/schemas"
	"github.com/foreshift/foreshift/streams"
	"github.com/foreshift/foreshift/streams/streamstest"
)

// A version that training made is published with its bytes, fetched by who reads
// MODELS, in force from its step on, and still so after a restart; damaged bytes are
// not taken.
func TestModelsArePublishedAndTaken(t *testing.T) {
	srv := streamstest.Start(t)
	bus := streamstest.Connect(t, srv, streams.RoleForecaster)
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	cfg := Config{TuneEvery: -1}.WithDefaults()
	k := newModelKeeper(ctx, bus, cfg, slog.New(slog.DiscardHandler))
	k.steps, k.pause = 4, 0
	series := lstm.Generate(1, 60, 3)
	if err := k.tune(lstm.NewWeights(1), series, 1, 7); err != nil { // from noise: anything is better
		t.Fatal(err)
	}
	events, err := bus.Last(ctx, streams.Models)
	if err != nil || len(events) != 1 {
		t.Fatalf("%d versions published: %v", len(events), err)
	}
	m := events[0].Msg.(*schemas.Model)
	if m.Name != ModelLSTM || m.Version != 1 || m.Scores["loss_after_ratio"] >= m.Scores["loss_before_ratio"] || events[0].Lease != 7 {
		t.Fatalf("%+v, lease %d", m, events[0].Lease)
	}
	k.announced(m)
	got := k.fetch()
	if len(got) != 1 || Digest(got[0].Data) != m.Digest || len(k.fetch()) != 0 {
		t.Fatalf("fetched %d versions", len(got))
	}
	name := streams.SubjectModel(m.Name, m.Version)
	for range 2 { // the second finds nothing to delete
		if err := bus.DeleteObject(ctx, streams.ObjectModels, name); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := bus.Object(ctx, streams.ObjectModels, name); !errors.Is(err, streams.ErrNotFound) {
		t.Fatalf("after it was deleted: %v", err)
	}
	k.announced(&schemas.Model{Name: ModelLSTM, Version: 2})
	if got := k.fetch(); len(got) != 0 || len(k.wanted) != 0 {
		t.Fatalf("fetched %d versions whose bytes are gone, %d still wanted", len(got), len(k.wanted))
	}

	v := *got[0]
	v.Step = firstStep + 11
	w := newWorld(t, Config{})
	w.backfill(2, firstStep, firstStep+10)
	tell := func(d *Decider, v Version) error {
		return d.Apply(streams.Event{Stream: streams.Models, Subject: streams.SubjectModel(v.Name, v.Version), Seq: 1, Msg: &v})
	}
	bad := v
	bad.Data = append([]byte{}, v.Data...)
	bad.Data[100] ^= 1
	if err := tell(w.d, bad); err == nil {
		t.Fatal("took damaged bytes")
	}
	if err := tell(w.d, v); err != nil {
		t.Fatal(err)
	}
	inForce := func(d *Decider) bool {
		n, err := d.Network()
		if err != nil {
			t.Fatal(err)
		}
		return bytes.Equal(n.Encode(), v.Data)
	}
	for s := firstStep + 10; s < firstStep+12; s++ {
		w.live(2, s, nil)
		w.drain(w.afterGrace(s))
		if inForce(w.d) != (s >= v.Step) {
			t.Fatalf("at step %d of %d in force: %v", s, v.Step, inForce(w.d))
		}
	}
	again, err := NewDecider(Config{})
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Restore(w.d.AppendSnapshot(nil)); err != nil || !inForce(again) {
		t.Fatalf("after a restart in force: %v, %v", inForce(again), err)
	}
	if err := tell(again, v); err != nil || len(again.models.waiting) != 0 {
		t.Fatalf("told again: %v, %d waiting", err, len(again.models.waiting))
	}
}

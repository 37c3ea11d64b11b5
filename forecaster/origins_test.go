package forecaster

import (
	"bytes"
	"context"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/foreshift/foreshift/forecaster/ensemble"
	"github.com/foreshift/foreshift/schemas"
	"github.com/foreshift/foreshift/streams"
	"github.com/foreshift/foreshift/streams/streamstest"
)

// originsVersion is a version as its keeper makes it.
func originsVersion(t *testing.T, version uint64, at schemas.Step, origins []schemas.Step) *Version {
	t.Helper()
	data, err := encodeOrigins(origins)
	if err != nil {
		t.Fatal(err)
	}
	return &Version{Model: schemas.Model{Name: ModelOrigins, Version: version, Step: at, Digest: Digest(data), Size: len(data)}, Data: data}
}

// Two deciders that own different partitions follow the same origins at every step:
// those of the step, then those one of them chose, also after a restart.
func TestPartitionsAgreeOnOrigins(t *testing.T) {
	const vms = 8
	now := firstStep + 3*288
	ws := [2]*world{newWorld(t, Config{}), newWorld(t, Config{})}
	for half, w := range ws {
		owned := make([]bool, schemas.Partitions)
		for p := range owned {
			owned[p] = p%2 == half
		}
		w.d.SetOwned(owned)
		w.backfill(vms, firstStep, now)
	}
	// step lets both live through a step; what one publishes of the history the other
	// reads. It gives what was published after.
	step := func(s schemas.Step) (outs [2][]streams.Out) {
		for i, w := range ws {
			w.live(vms, s, nil)
			outs[i] = w.drain(w.afterGrace(s))
		}
		for i, w := range ws {
			for _, o := range outs[1-i] {
				if m, ok := o.Msg.(*schemas.Steps); ok {
					w.apply(streams.Steps, o.Subject, m, w.now)
				}
			}
		}
		return outs
	}
	var version *Version
	tell := func(d *Decider) {
		e := streams.Event{Stream: streams.Models, Subject: streams.SubjectModel(ModelOrigins, 1), Seq: 1, Time: int64(now.Start(base)), Msg: version}
		if err := d.Apply(e); err != nil {
			t.Fatal(err)
		}
	}
	var snap []byte
	at, outsAt := 0, 0
	for s := now; s < now+8; s++ {
		if s == now+6 { // with a version in force
			snap, at, outsAt = ws[1].d.AppendSnapshot(nil), len(ws[1].events), len(ws[1].outs)
		}
		outs := step(s)
		want := ensemble.Origins(s, int(s-firstStep)+1)
		if version != nil && s >= version.Step {
			for k := range want {
				want[k] = chosenOf(t, version)[k] + s - version.Step
			}
		}
		for i := range ws {
			fs := of[*schemas.Forecasts](outs[i])
			if len(fs) == 0 {
				t.Fatalf("half %d forecasts nothing", i)
			}
			for _, f := range fs {
				if f.Partition%2 != i || !slices.Equal(f.Origins[:ensemble.K], want[:]) {
					t.Fatalf("step %d, half %d, partition %d follows\n%v, want\n%v", s-now, i, f.Partition, f.Origins, want)
				}
			}
		}
		switch s {
		case now + 1:
			version = originsVersion(t, 1, s+boundary, ws[0].d.ChooseOrigins(s+boundary))
			if own := ensemble.Origins(version.Step, int(version.Step-firstStep)+1); slices.Equal(chosenOf(t, version), own[:]) {
				t.Fatal("the choice is that of the step: the comparison says nothing")
			}
			tell(ws[0].d)
		case now + 2: // later, but in time
			tell(ws[1].d)
		}
	}
	d, err := NewDecider(Config{})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Restore(snap); err != nil {
		t.Fatal(err)
	}
	owned := ws[1].d.owned
	d.SetOwned(owned[:])
	var outs []streams.Out
	for i, e := range ws[1].events {
		switch e := e.(type) {
		case streams.Event:
			if i >= at || e.Stream == streams.Steps {
				if err := d.Apply(e); err != nil {
					t.Fatal(err)
				}
			}
		case streams.Cut:
			if i >= at {
				outs = append(outs, d.Tick(e)...)
			}
		}
	}
	if !bytes.Equal(digest(t, outs), digest(t, ws[1].outs[outsAt:])) {
		t.Fatal("snapshot and tail differ from the whole")
	}
}

func chosenOf(t *testing.T, v *Version) []schemas.Step {
	t.Helper()
	var j ensemble.Joint
	if err := useOrigins(&j, v); err != nil {
		t.Fatal(err)
	}
	j.Begin(v.Step, 1)
	return j.Origins[:]
}

func TestBadOriginsAreRefused(t *testing.T) {
	good := make([]schemas.Step, ensemble.K)
	future := slices.Clone(good)
	future[3] = firstStep
	for name, origins := range map[string][]schemas.Step{"none": nil, "too few": good[1:], "in the future": future} {
		w := newWorld(t, Config{})
		v := originsVersion(t, 1, firstStep, origins)
		if err := w.d.Apply(streams.Event{Stream: streams.Models, Seq: 1, Msg: v}); err == nil || len(w.d.models.waiting) != 0 {
			t.Errorf("%s: taken", name)
		}
	}
}

// The keeper publishes what the fleet's state suggests, not more often than it should.
func TestOriginsArePublished(t *testing.T) {
	srv := streamstest.Start(t)
	bus := streamstest.Connect(t, srv, streams.RoleForecaster)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	k := newModelKeeper(ctx, bus, Config{TuneEvery: -1}.WithDefaults(), slog.New(slog.DiscardHandler))
	w := newWorld(t, Config{})
	k.origins(w.d) // knows of nothing yet
	now := firstStep + 3*288
	w.backfill(3, firstStep, now)
	for s := now; s < now+originsEvery+1; s++ {
		w.live(3, s, nil)
		w.drain(w.afterGrace(s))
		k.choose = time.Time{}
		k.origins(w.d)
		k.wait()
		events, err := bus.Last(ctx, streams.Models)
		if err != nil {
			t.Fatal(err)
		}
		if want := 1 + int(s-now)/originsEvery; len(events) != want {
			t.Fatalf("after %d steps %d versions, want %d", s-now, len(events), want)
		}
		for _, e := range events {
			k.announced(e.Msg.(*schemas.Model))
		}
		for _, v := range k.fetch() {
			if err := w.d.Apply(streams.Event{Stream: streams.Models, Seq: v.Version, Msg: v}); err != nil {
				t.Fatal(err)
			}
		}
	}
	v := w.d.models.inForce[ModelOrigins]
	if v.Version != 1 || v.Step != now+boundary || len(w.d.models.waiting) != 1 {
		t.Fatalf("in force: version %d from step %d, %d waiting", v.Version, v.Step-now, len(w.d.models.waiting))
	}
}

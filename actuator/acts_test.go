package actuator

import (
	"context"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/foreshift/foreshift/schemas"
	"github.com/foreshift/foreshift/streams"
	"github.com/foreshift/foreshift/streams/streamstest"
)

// TestForgedActHidesNone: an actuator that starts while new moves are paused knows it,
// though somebody has put a pause of their own, which nobody signed, over the
// operator's.
func TestForgedActHidesNone(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.act(r.operator, &schemas.Act{Act: schemas.ActPause, By: "op"})
	forgePause(t, r)
	r.beat()
	r.host(0)
	r.host(1)
	c := r.command(r.on(0), 0, 1)
	r.send(c)
	if o := r.want(c.ID, schemas.ResultRefused, 10*time.Second); o.Reason.Code != schemas.ReasonPaused {
		t.Fatalf("refused for %s, want %s", o.Reason, schemas.ReasonPaused)
	}
}

// deaf is a bus whose reader of acts is never sent a pause, as when it stands in the stream
// under a sequence that the server had given before, and lost.
type deaf struct{ bus }

func (d deaf) Follow(ctx context.Context, service string, in streams.Input, handle func(streams.Event), caughtUp func()) error {
	return d.bus.Follow(ctx, service, in, func(e streams.Event) {
		if a, ok := e.Msg.(*schemas.Act); !ok || a.Act != schemas.ActPause {
			handle(e)
		}
	}, caughtUp)
}

// TestPauseIsAskedFor: an operator's pause that the stream's reader is not sent holds all
// the same, soon, and so does the resume after it. One that nobody signed does not.
func TestPauseIsAskedFor(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	quick := func(c *Config) { c.bus, c.pausingEvery = deaf{c.Bus}, 50*time.Millisecond }
	r.host(0, quick)
	r.host(1, quick)
	r.beat()
	vm, at := r.on(0), 0
	move := func() schemas.Outcome {
		c := r.command(vm, at, 1-at)
		r.send(c)
		o := r.end(c.ID, 15*time.Second)
		if o.Result == schemas.ResultSucceeded {
			at = 1 - at
		}
		return o
	}
	if o := move(); o.Result != schemas.ResultSucceeded {
		t.Fatalf("before: %s for %s", o.Result, o.Reason)
	}
	forgePause(t, r)
	time.Sleep(200 * time.Millisecond)
	if o := move(); o.Result != schemas.ResultSucceeded {
		t.Fatalf("after a forged pause: %s for %s", o.Result, o.Reason)
	}
	r.act(r.operator, &schemas.Act{Act: schemas.ActPause, By: "op"})
	for begun := time.Now(); ; {
		o := move()
		if o.Reason.Code == schemas.ReasonPaused {
			break
		}
		if time.Since(begun) > 10*time.Second {
			t.Fatalf("moves go on after a pause: %s for %s", o.Result, o.Reason)
		}
	}
	r.act(r.operator, &schemas.Act{Act: schemas.ActResume, By: "op"})
	for begun := time.Now(); move().Result != schemas.ResultSucceeded; {
		if time.Since(begun) > 10*time.Second {
			t.Fatal("moves do not go on after a resume")
		}
	}
}

// forgePause has the server store a pause that nobody has signed.
func forgePause(t *testing.T, r *rig) {
	t.Helper()
	forged := &schemas.Act{ID: "forged", Act: schemas.ActPause, By: "nobody", Time: schemas.At(time.Now())}
	data, err := schemas.Encode(forged)
	if err != nil {
		t.Fatal(err)
	}
	m := &nats.Msg{Subject: streams.SubjectAct(schemas.ActPause), Data: data, Header: nats.Header{}}
	m.Header.Set(schemas.HeaderSchema, schemas.SchemaHeader(schemas.KindAct))
	streamstest.Raw(t, r.srv, m)
}

// TestHeartbeatStoredAnew: a heartbeat from before an actuator began is no sign of life
// when somebody has it stored anew, also if others came after it. A new one is.
func TestHeartbeatStoredAnew(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	beat := func() *streams.Received {
		r.act(r.placer, &schemas.Act{Act: schemas.ActHeartbeat, By: "placer"})
		m, err := r.placer.LastUnder(r.ctx(), streams.Acts, streams.SubjectAct(schemas.ActHeartbeat))
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	first := beat()
	beat()
	quick := func(c *Config) { c.catchUp = time.Second }
	r.host(0, quick)
	r.host(1, quick)
	time.Sleep(500 * time.Millisecond)
	again := &nats.Msg{Subject: first.Subject, Data: first.Data, Header: first.Header}
	again.Header.Del("Nats-Msg-Id")
	streamstest.Raw(t, r.srv, again)
	c := r.command(r.on(0), 0, 1)
	r.send(c)
	if o := r.want(c.ID, schemas.ResultRefused, 15*time.Second); o.Reason.Code != schemas.ReasonHeartbeat {
		t.Fatalf("refused for %s, want %s", o.Reason, schemas.ReasonHeartbeat)
	}
	beat()
	time.Sleep(200 * time.Millisecond)
	c = r.command(r.on(0), 0, 1)
	r.send(c)
	r.want(c.ID, schemas.ResultSucceeded, 15*time.Second)
}

package actuator

import (
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
	forged := &schemas.Act{ID: "forged", Act: schemas.ActPause, By: "nobody", Time: schemas.At(time.Now())}
	data, err := schemas.Encode(forged)
	if err != nil {
		t.Fatal(err)
	}
	m := &nats.Msg{Subject: streams.SubjectAct(schemas.ActPause), Data: data, Header: nats.Header{}}
	m.Header.Set(schemas.HeaderSchema, schemas.SchemaHeader(schemas.KindAct))
	streamstest.Raw(t, r.srv, m)
	r.beat()
	r.host(0)
	r.host(1)
	c := r.command(r.on(0), 0, 1)
	r.send(c)
	if o := r.want(c.ID, schemas.ResultRefused, 10*time.Second); o.Reason.Code != schemas.ReasonPaused {
		t.Fatalf("refused for %s, want %s", o.Reason, schemas.ReasonPaused)
	}
}

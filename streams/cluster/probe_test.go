package cluster_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/foreshift/foreshift/schemas"
	"github.com/foreshift/foreshift/streams"
	"github.com/foreshift/foreshift/streams/streamstest"
)

// TestReadyIsAWrite: a service that is connected to the last of three servers is not
// ready, for what it writes is not stored; when a second is back, it is again by itself.
func TestReadyIsAWrite(t *testing.T) {
	c := streamstest.StartCluster(t)
	ctx, cancel := context.WithTimeout(context.Background(), 90*time.Second)
	defer cancel()
	bus := c.Connect(streams.RolePlacer)
	beat := func(id string) error {
		_, err := bus.Publish(ctx, streams.Out{Subject: streams.SubjectAct(schemas.ActHeartbeat), ID: id, Msg: &schemas.Act{ID: id, Act: schemas.ActHeartbeat, By: "placer", Time: schemas.At(time.Now())}})
		return err
	}
	if err := beat("one"); err != nil || bus.Ready() != nil {
		t.Fatalf("before: %v, %v", err, bus.Ready())
	}
	c.Stop(1)
	c.Stop(2)
	for bus.Ready() != nil && ctx.Err() == nil { // until it is connected to the one that is left
		time.Sleep(50 * time.Millisecond)
	}
	if err := beat("two"); err == nil {
		t.Fatal("one of three servers stored a message")
	}
	if err := bus.Ready(); err == nil || !strings.Contains(err.Error(), streams.Acts) || !strings.Contains(err.Error(), "takes no messages") {
		t.Fatalf("connected, and without a quorum: %v", err)
	}
	if err := bus.Tel.NC.FlushTimeout(time.Second); err != nil {
		t.Fatalf("not connected, so nothing was tested: %v", err)
	}
	c.Start(1)
	for n := 0; beat("again") != nil && ctx.Err() == nil; n++ {
		time.Sleep(100 * time.Millisecond)
	}
	if err := bus.Ready(); err != nil {
		t.Fatalf("two of three again: %v", err)
	}
}

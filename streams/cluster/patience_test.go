package cluster_test

import (
	"context"
	"testing"
	"time"

	"github.com/foreshift/foreshift/streams"
	"github.com/foreshift/foreshift/streams/streamstest"
)

// TestBeginWithoutLeader begins what services are made of while two of three servers are
// away, for longer than one question waits: each goes on once there is a leader, and what
// a person asks for ends with an error meanwhile.
func TestBeginWithoutLeader(t *testing.T) {
	c := streamstest.StartCluster(t, "h1")
	ctx, cancel := context.WithTimeout(context.Background(), 4*time.Minute) // a busy machine may need one
	defer cancel()
	placer, host := c.Connect(streams.RolePlacer), c.Connect("actuator-h1")
	forecaster := c.Connect(streams.RoleForecaster)
	c.Stop(1)
	c.Stop(2)
	caughtUp, worked := make(chan struct{}), make(chan struct{})
	ended := make(chan error, 3)
	go func() {
		ended <- placer.Follow(ctx, "test", streams.Input{Stream: streams.Plans, From: streams.FromAll}, func(streams.Event) {}, func() { close(caughtUp) })
	}()
	go func() {
		ended <- host.Work(ctx, streams.DurableActuator("h1"), func(context.Context, *streams.Received) streams.Verdict {
			close(worked)
			return streams.Ack()
		})
	}()
	joined := make(chan *streams.Share, 1)
	go func() {
		s, err := forecaster.Join(ctx, "test", 4, time.Second)
		if err != nil {
			ended <- err
			return
		}
		joined <- s
	}()
	lease, err := placer.Hold(ctx, "test", time.Second)
	if err != nil {
		t.Fatalf("lease: %v", err)
	}
	asked := time.Now()
	if got, err := placer.Last(ctx, streams.Plans); err == nil {
		t.Errorf("last plans without a leader: %v", got)
	}
	select {
	case err := <-ended:
		t.Fatalf("ended after %v without a leader: %v", time.Since(asked), err)
	case <-time.After(6 * time.Second): // a question waits for 5
	}
	c.Start(1)
	c.Start(2)
	for {
		if _, err := placer.Publish(ctx, streams.Out{Subject: streams.SubjectCommand(vm, "h1", "h2"), ID: "c", Msg: command("c", 0), Expect: &streams.Expect{Filter: streams.RecordOf(vm)}}); err == nil {
			break
		} else if ctx.Err() != nil {
			t.Fatal(err)
		}
	}
	for what, done := range map[string]<-chan struct{}{"the input has caught up": caughtUp, "the command is there": worked} {
		select {
		case <-done:
		case err := <-ended:
			t.Fatalf("%s: %v", what, err)
		case <-ctx.Done():
			t.Fatalf("%s: not", what)
		}
	}
	var share *streams.Share
	select {
	case share = <-joined:
	case err := <-ended:
		t.Fatalf("join: %v", err)
	}
	for !lease.Held() {
		if ctx.Err() != nil {
			t.Fatal("the lease is not held")
		}
		time.Sleep(50 * time.Millisecond)
	}
	cancel()
	<-lease.Done()
	<-share.Done()
	for range 2 {
		if err := <-ended; err != nil {
			t.Errorf("told to end: %v", err)
		}
	}
}

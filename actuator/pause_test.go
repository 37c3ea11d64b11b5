package actuator

import (
	"testing"
	"time"

	"github.com/foreshift/foreshift/schemas"
)

// TestPauseStopsNewMovesWithin2s sends commands without pause for breath while an
// operator pauses: none that is sent two seconds later starts, however quickly the bus
// carries either.
func TestPauseStopsNewMovesWithin2s(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.host(0)
	r.host(1)
	r.host(2)
	r.beat()
	vm := r.on(0)
	first := r.command(vm, 0, 1)
	r.send(first)
	r.want(first.ID, schemas.ResultSucceeded, 15*time.Second)
	r.act(r.operator, &schemas.Act{Act: schemas.ActPause, By: "op"})
	paused := time.Now()
	at, began := 1, time.Duration(0)
	for time.Since(paused) < 4*time.Second {
		sent := time.Since(paused)
		next := 3 - at // between hosts 1 and 2
		c := r.command(vm, at, next)
		r.send(c)
		o := r.end(c.ID, 15*time.Second)
		switch {
		case o.Result == schemas.ResultSucceeded:
			at, began = next, sent
		case o.Reason.Code != schemas.ReasonPaused:
			t.Fatalf("refused for %s", o.Reason)
		}
		time.Sleep(50 * time.Millisecond)
	}
	if began > 2*time.Second {
		t.Fatalf("a move sent %v after the pause started", began)
	}
	t.Logf("the last move that started was sent %v after the pause", began)
	r.at(vm, at)
}

// TestNothingStartsWithoutAHeartbeat: when the placer's heartbeat has stopped for half a
// minute, as when it is cut off, a command that is good in all else starts nothing.
func TestNothingStartsWithoutAHeartbeat(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for half a minute")
	}
	t.Parallel()
	r := newRig(t)
	r.host(0)
	r.host(1)
	r.beat()
	vm := r.on(0)
	first := r.command(vm, 0, 1)
	r.send(first)
	r.want(first.ID, schemas.ResultSucceeded, 15*time.Second)
	r.silence()
	time.Sleep(31 * time.Second)
	c := r.command(vm, 1, 0)
	r.send(c)
	if o := r.end(c.ID, 15*time.Second); o.Result != schemas.ResultRefused || o.Reason.Code != schemas.ReasonHeartbeat {
		t.Fatalf("%s for %s", o.Result, o.Reason)
	}
	r.at(vm, 1)
}

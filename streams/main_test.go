package streams_test

import (
	"context"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/foreshift/foreshift/schemas"
	"github.com/foreshift/foreshift/streams"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		// The server keeps one goroutine for all servers of a process.
		goleak.IgnoreTopFunction("github.com/nats-io/nats-server/v2/server.(*ipQueue[...]).recycle"),
	)
}

// during gives a context for one test.
func during(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// eventually waits for a condition; it polls, so that a slow machine only makes
// the test slower.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(15 * time.Second); ; {
		if ok() {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("never happened: %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

var (
	vm1 = schemas.VMID{0x3f, 0x1c, 1}
	vm2 = schemas.VMID{0x3f, 0x1c, 2}
	now = schemas.At(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC))
)

// command is a valid one.
func command(id schemas.CommandID, vm schemas.VMID) *schemas.Command {
	return &schemas.Command{ID: id, Plan: "p1", PlanHash: "00", VM: vm, Name: "web", Source: "h1", Destination: "h2",
		Issued: now, Expires: now.Add(time.Minute), Deadline: now.Add(10 * time.Minute)}
}

func commandOut(id schemas.CommandID, vm schemas.VMID, after uint64) streams.Out {
	return streams.Out{Subject: streams.SubjectCommand(vm, "h1", "h2"), ID: string(id), Msg: command(id, vm),
		Expect: &streams.Expect{Filter: streams.RecordOf(vm), Seq: after}}
}

func progress(vm schemas.VMID, round int) *schemas.Progress {
	return &schemas.Progress{Command: "c1", Epoch: 1, VM: vm, Host: "h1", Time: now, Phase: schemas.PhasePreCopy, Round: round}
}

func heartbeat(id string) *schemas.Act {
	return &schemas.Act{ID: id, Act: schemas.ActHeartbeat, By: "placer", Time: now}
}

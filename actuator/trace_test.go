package actuator

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/foreshift/foreshift/schemas"
	"github.com/foreshift/foreshift/streams"
)

// lines is where two actuators log to.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

// TestLogsCarryTheTrace: what both hosts log of a move has the trace that the
// traceparent of its command says, and that of nothing else.
func TestLogsCarryTheTrace(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	var out lines
	logged := func(c *Config) {
		c.Log = slog.New(slog.NewJSONHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	r.host(0, logged)
	r.host(1, logged)
	r.beat()
	vm := r.on(0)
	c := r.command(vm, 0, 1)
	r.send(c)
	r.want(c.ID, schemas.ResultSucceeded, 15*time.Second)
	again := r.command(vm, 0, 1) // it is not there any more
	r.send(again)
	r.want(again.ID, schemas.ResultRefused, 15*time.Second)

	sent, err := r.placer.LastUnder(r.ctx(), streams.Migrations, streams.SubjectCommand(vm.ID, c.Source, c.Destination))
	if err != nil {
		t.Fatal(err)
	}
	if parent := sent.Header.Get(schemas.HeaderTrace); !strings.Contains(parent, streams.TraceID(string(again.ID))) {
		t.Fatalf("the command's traceparent is %q", parent)
	}
	out.mu.Lock()
	defer out.mu.Unlock()
	seen := map[string]int{}
	for line := range strings.Lines(out.b.String()) {
		var x struct{ Msg, Trace, Command, VM string }
		if err := json.Unmarshal([]byte(line), &x); err != nil {
			t.Fatal(err)
		}
		if x.VM == "" {
			continue
		}
		if x.Trace == "" || x.Trace != streams.TraceID(x.Command) {
			t.Errorf("trace %q of command %q: %s", x.Trace, x.Command, line)
		}
		seen[x.Msg]++
	}
	for _, msg := range []string{"next", "outcome", "command refused"} {
		if seen[msg] == 0 {
			t.Errorf("no line %q; seen %v", msg, seen)
		}
	}
}

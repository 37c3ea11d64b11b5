package placer_test

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/foreshift/foreshift/placer"
	"github.com/foreshift/foreshift/placer/internal/fleettest"
	"github.com/foreshift/foreshift/placer/policy"
	"github.com/foreshift/foreshift/schemas"
	"github.com/foreshift/foreshift/streams"
	"github.com/foreshift/foreshift/streams/streamstest"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
)

// On a real bus, with real signatures: what agents and the forecaster say leads to
// a pressure, a plan and one signed command on the VM's record; a second placer
// stands by; everything stops.
func TestServiceOnTheBus(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	t.Run("bus", func(t *testing.T) {
		srv := streamstest.Start(t, "h1", "h2")
		agent, fc := streamstest.Connect(t, srv, streams.RoleAgent), streamstest.Connect(t, srv, streams.RoleForecaster)
		watch := streamstest.Connect(t, srv, streams.RolePlacer)
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()

		p := policy.Default()
		p.Mode, p.HoldSteps = schemas.ModeAuto, 1
		done := make(chan error, 2)
		var said lines
		log := slog.New(slog.NewJSONHandler(&said, nil))
		for range 2 {
			bus := streamstest.Connect(t, srv, streams.RolePlacer)
			go func() {
				done <- placer.Run(ctx, bus, placer.Config{Base: time.Second, Policy: p, LeaseTTL: time.Second}, log, prometheus.NewRegistry())
			}()
		}

		seen := make(chan streams.Event, 1024)
		for _, in := range []streams.Input{{Stream: streams.Pressure}, {Stream: streams.Plans}, {Stream: streams.Migrations}, {Stream: streams.Acts}} {
			go func() {
				err := watch.Consume(ctx, "test", in, func(e streams.Event) {
					select {
					case seen <- e:
					case <-ctx.Done():
					}
				})
				if err != nil && ctx.Err() == nil {
					t.Errorf("read %s: %v", in.Stream, err)
				}
			}()
		}
		w := fleettest.New(time.Second)
		w.Hosts = []fleettest.Host{{ID: "h1", Site: "s1", Cores: 8, GiB: 64, Simulated: true}, {ID: "h2", Site: "s1", Cores: 8, GiB: 64, Simulated: true}}
		w.VMs = []fleettest.VM{{Name: "db", Host: "h1", Cores: 5, GiB: 8}, {Name: "web", Host: "h1", Cores: 5, GiB: 4}}
		go func() {
			for ctx.Err() == nil {
				w.Now = schemas.At(time.Now())
				var outs []streams.Out
				for _, m := range w.Capacity() {
					outs = append(outs, streams.Out{Subject: streams.SubjectCapacityHost(m.Host), Msg: m})
				}
				if err := agent.PublishAsync(ctx, outs); err != nil && ctx.Err() == nil {
					t.Errorf("capacity: %v", err)
				}
				outs = nil
				for _, m := range w.Forecasts() {
					outs = append(outs, streams.Out{Subject: streams.SubjectForecasts(m.Partition), Msg: m})
				}
				if err := fc.PublishAsync(ctx, outs); err != nil && ctx.Err() == nil {
					t.Errorf("forecasts: %v", err)
				}
				select {
				case <-time.After(250 * time.Millisecond):
				case <-ctx.Done():
				}
			}
		}()

		got := map[string]int{}
		var order *schemas.Command
		var epoch uint64
		plans := map[schemas.PlanID]bool{}
		for order == nil || got["acts"] == 0 || got["pressure"] == 0 || got["benefit"] == 0 || !plans[order.Plan] {
			select {
			case e := <-seen:
				kind, _, _ := strings.Cut(e.Subject, ".")
				got[kind]++
				switch m := e.Msg.(type) {
				case *schemas.Command:
					order, epoch = m, e.Seq
				case *schemas.Plan:
					plans[m.ID] = true
				}
			case err := <-done:
				t.Fatalf("a placer ended: %v", err)
			case <-ctx.Done():
				t.Fatalf("no command; seen %v", got)
			}
		}
		if order.Source != "h1" || order.Destination != "h2" || order.Expires.Sub(order.Issued) != schemas.CommandLife {
			t.Errorf("command %+v", order)
		}
		for !said.has("command published") && ctx.Err() == nil { // the record has it before its placer hears so
			time.Sleep(time.Millisecond)
		}
		cancel()
		for range 2 {
			if err := <-done; err != nil {
				t.Errorf("stopped with %v", err)
			}
		}
		said.of(t, order, epoch)
		if got["migrations"] != 1 {
			t.Errorf("%d messages on the record, want one command", got["migrations"])
		}
	})
}

// lines are what is logged, in JSON.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

func (l *lines) has(s string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return bytes.Contains(l.buf.Bytes(), []byte(s))
}

// of wants one line of the command, with what leads to it.
func (l *lines) of(t *testing.T, c *schemas.Command, epoch uint64) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for _, b := range bytes.Split(l.buf.Bytes(), []byte("\n")) {
		var m struct {
			Msg, Trace, Command, VM string
			Epoch                   uint64
		}
		if len(b) == 0 {
			continue
		}
		if err := json.Unmarshal(b, &m); err != nil {
			t.Fatalf("%s: %v", b, err)
		}
		if m.Msg != "command published" {
			continue
		}
		n++
		if m.Trace != streams.TraceID(string(c.ID)) || m.Command != string(c.ID) || m.VM != c.VM.String() || m.Epoch != epoch {
			t.Errorf("command %s of %s, epoch %d: %s", c.ID, c.VM, epoch, b)
		}
	}
	if n != 1 {
		t.Errorf("%d lines of the command, want one", n)
	}
}

package placer_test

import (
	"context"
	"log/slog"
	"strings"
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
		for range 2 {
			bus := streamstest.Connect(t, srv, streams.RolePlacer)
			go func() {
				done <- placer.Run(ctx, bus, placer.Config{Base: time.Second, Policy: p, LeaseTTL: time.Second}, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
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
		plans := map[schemas.PlanID]bool{}
		for order == nil || got["acts"] == 0 || got["pressure"] == 0 || got["benefit"] == 0 || !plans[order.Plan] {
			select {
			case e := <-seen:
				kind, _, _ := strings.Cut(e.Subject, ".")
				got[kind]++
				switch m := e.Msg.(type) {
				case *schemas.Command:
					order = m
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
		cancel()
		for range 2 {
			if err := <-done; err != nil {
				t.Errorf("stopped with %v", err)
			}
		}
		if got["migrations"] != 1 {
			t.Errorf("%d messages on the record, want one command", got["migrations"])
		}
	})
}

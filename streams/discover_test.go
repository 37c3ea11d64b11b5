package streams_test

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"github.com/foreshift/foreshift/streams"
	"github.com/foreshift/foreshift/streams/streamstest"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"
)

// idle is a decider that does nothing.
type idle struct{}

func (idle) Apply(streams.Event) error      { return nil }
func (idle) Tick(streams.Cut) []streams.Out { return nil }
func (idle) AppendSnapshot(b []byte) []byte { return b }
func (idle) Restore([]byte) error           { return nil }

// TestServicesAreFound: an inspector lists the services and their figures as `nats
// micro` does, and asks one how it is; a viewer does not.
func TestServicesAreFound(t *testing.T) {
	srv := streamstest.Start(t)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 2)
	for _, role := range []string{streams.RoleForecaster, streams.RolePlacer} {
		svc := &streams.Service{Name: role, Bus: streamstest.Connect(t, srv, role), Decider: idle{}, TickEvery: 20 * time.Millisecond}
		go func() { ended <- svc.Run(ctx) }()
	}
	defer func() {
		cancel()
		for range 2 {
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
	}()
	inspector := streamstest.Connect(t, srv, streams.RoleInspector).Tel.NC
	for _, verb := range []string{"PING", "INFO", "STATS"} {
		names := map[string]bool{}
		for deadline := time.Now().Add(10 * time.Second); len(names) < 2 && time.Now().Before(deadline); {
			inbox := inspector.NewInbox()
			sub, err := inspector.SubscribeSync(inbox)
			if err != nil {
				t.Fatal(err)
			}
			if err := inspector.PublishRequest("$SRV."+verb, inbox, nil); err != nil {
				t.Fatal(err)
			}
			for {
				m, err := sub.NextMsg(300 * time.Millisecond)
				if err != nil {
					break
				}
				var id micro.ServiceIdentity
				if err := json.Unmarshal(m.Data, &id); err != nil {
					t.Fatal(err)
				}
				names[id.Name] = true
			}
			if err := sub.Unsubscribe(); err != nil {
				t.Fatal(err)
			}
		}
		if !names["forecaster"] || !names["placer"] {
			t.Errorf("%s: found %v", verb, names)
		}
	}
	m, err := inspector.Request("$SRV.HEALTH.placer", nil, 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	var health struct {
		Service string       `json:"service"`
		Cut     *streams.Cut `json:"cut"`
	}
	if err := json.Unmarshal(m.Data, &health); err != nil || health.Service != "placer" || health.Cut == nil {
		t.Errorf("health %s: %v", m.Data, err)
	}
	viewer := streamstest.Connect(t, srv, streams.RoleViewer).Tel.NC
	if _, err := viewer.Request("$SRV.HEALTH.placer", nil, time.Second); err == nil {
		t.Error("a viewer was answered")
	} else if err == nats.ErrNoResponders {
		t.Errorf("a viewer could ask: %v", err)
	}
}

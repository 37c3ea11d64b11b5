package streams_test

import (
	"fmt"
	"testing"

	"github.com/foreshift/foreshift/schemas"
	"github.com/foreshift/foreshift/streams"
	"github.com/foreshift/foreshift/streams/streamstest"
)

// TestLastOfALargeFleet: as many subjects as a large fleet has, a host and its VMs each.
func TestLastOfALargeFleet(t *testing.T) {
	s := streamstest.Start(t)
	b := streamstest.Connect(t, s, streams.RolePlacer)
	ctx := during(t)
	const hosts = 22_000
	var outs []streams.Out
	for i := range hosts {
		p := pressureHost(schemas.HostID(fmt.Sprint("h", i)))
		outs = append(outs, streams.Out{Subject: streams.SubjectPressureHost(p.Host), Msg: p})
		if len(outs) == 2_000 {
			if err := b.PublishAsync(ctx, outs); err != nil {
				t.Fatal(err)
			}
			outs = outs[:0]
		}
	}
	events, err := b.Last(ctx, streams.Pressure)
	if err != nil || len(events) != hosts {
		t.Fatalf("%d events of %d: %v", len(events), hosts, err)
	}
}

package streams_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/foreshift/foreshift/schemas"
	"github.com/foreshift/foreshift/streams"
	"github.com/foreshift/foreshift/streams/streamstest"
)

// flushes are n flushes of one host with 50 VMs: about 6 KB each on the wire.
func flushes(b *testing.B, n, from int) []streams.Out {
	b.Helper()
	outs := make([]streams.Out, n)
	m := metricsOf("h1", 50, 1)
	for i := range outs {
		outs[i] = streams.Out{Subject: streams.SubjectMetrics("h1"), ID: fmt.Sprint("m", from+i), Msg: m}
	}
	data, err := schemas.Encode(m)
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(data)))
	return outs
}

// BenchmarkPublishAsync is one flush of 50 VMs: encoded, stored, acknowledged.
func BenchmarkPublishAsync(b *testing.B) {
	s := streamstest.Start(b)
	bus := streamstest.Connect(b, s, "agent-h1")
	outs := flushes(b, b.N, 0)
	b.ReportAllocs()
	b.ResetTimer()
	for len(outs) > 0 {
		n := min(len(outs), 500)
		if err := bus.PublishAsync(context.Background(), outs[:n]); err != nil {
			b.Fatal(err)
		}
		outs = outs[n:]
	}
}

// BenchmarkConsume is one flush of 50 VMs: read in order and decoded.
func BenchmarkConsume(b *testing.B) {
	s := streamstest.Start(b)
	bus := streamstest.Connect(b, s, "agent-h1")
	if err := bus.PublishAsync(context.Background(), flushes(b, b.N, 0)); err != nil {
		b.Fatal(err)
	}
	r := streamstest.Connect(b, s, streams.RoleForecaster)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	b.ReportAllocs()
	b.ResetTimer()
	n := 0
	err := r.Consume(ctx, "bench", streams.Input{Stream: streams.Metrics}, func(streams.Event) {
		if n++; n == b.N {
			cancel()
		}
	})
	if err != nil || n != b.N {
		b.Fatalf("%d of %d: %v", n, b.N, err)
	}
}

package jetstream

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/influxdata/telegraf"
	"github.com/influxdata/telegraf/config"
	"github.com/influxdata/telegraf/metric"
	"github.com/influxdata/telegraf/testutil"
	"go.uber.org/goleak"

	"github.com/foreshift/foreshift/schemas"
	"github.com/foreshift/foreshift/streams"
	"github.com/foreshift/foreshift/streams/embedded"
)

// startBus runs an embedded bus with its streams.
func startBus(t *testing.T) *embedded.Server {
	t.Helper()
	s, err := embedded.Start(embedded.Options{StateDir: t.TempDir(), Hosts: []schemas.HostID{"h1"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Shutdown)
	admin, err := streams.Connect(context.Background(), s.Credentials("admin"))
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	if _, err := streams.Apply(context.Background(), admin, s.ApplyOptions()); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestEverythingArrivesOnARealBus(t *testing.T) {
	t.Cleanup(func() { goleak.VerifyNone(t) })
	s := startBus(t)
	o := &Output{URL: s.URL(), Credentials: s.Dir(), Role: "agent", Agent: "test", LeaseTTL: config.Duration(time.Second),
		Timeout: config.Duration(20 * time.Second), Log: testutil.Logger{Quiet: true}}
	if err := o.Init(); err != nil {
		t.Fatal(err)
	}
	if err := o.Connect(); err != nil {
		t.Fatal(err)
	}
	link := func(n int) {
		write(t, o, metric.New(measureLink, map[string]string{"site_a": "a", "site_b": "b", "by": "test"},
			map[string]any{"rtt_ms": 12.5, "loss_ratio": 0.0, "bandwidth_bytes_per_second": 1e6, "free_bytes_per_second": 9e5}, at(n)))
	}
	now := time.Now().Truncate(time.Millisecond)
	for n := range 2 {
		when := now.Add(time.Duration(n) * 10 * time.Second)
		write(t, o, sampleVM("h1", 1, when, map[string]any{"cpu_time_ns": uint64(n) * 5e9}), sampleHost("h1", when, 1, nil))
	}
	viewer, err := streams.Connect(context.Background(), s.Credentials("inspector"))
	if err != nil {
		t.Fatal(err)
	}
	defer viewer.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	last := func(stream, filter string) any {
		t.Helper()
		es, err := viewer.Last(ctx, stream, filter)
		if err != nil {
			t.Fatal(err)
		}
		if len(es) == 0 {
			return nil
		}
		return es[0].Msg
	}
	m, ok := last(streams.Metrics, "metrics.h1").(*schemas.Metrics)
	if !ok || m.Seq != 2 || m.Cols[schemas.ColCPU][0] != 500 || !strings.HasPrefix(m.Agent, "test-") {
		t.Errorf("metrics %+v", m)
	}
	if c, ok := last(streams.Capacity, "capacity.host.h1").(*schemas.CapacityHost); !ok || c.Used.CPU != 500 || len(c.VMs) != 1 {
		t.Errorf("capacity %+v", c)
	}
	if e, ok := last("KV_hosts", "$KV.hosts.h1").(*schemas.HostEntry); !ok || e.Site != "a" {
		t.Errorf("host entry %+v", e)
	}
	if e, ok := last("KV_vms", "$KV.vms."+vmID(1).String()).(*schemas.VMEntry); !ok || e.Name != "vm-1" {
		t.Errorf("VM entry %+v", e)
	}
	var c *schemas.CapacityLink
	for n := 1; c == nil; n++ { // until the lease is won
		link(n)
		if ctx.Err() != nil {
			t.Fatal("the link was never published")
		}
		c, _ = last(streams.Capacity, "capacity.link.a.b").(*schemas.CapacityLink)
	}
	if c.RTT != 12.5 || c.Free != 9e5 || c.By != "test" {
		t.Errorf("link %+v", c)
	}
	if err := o.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestABusThatIsAwayIsNoErrorAtTheStart(t *testing.T) {
	s := startBus(t)
	o := &Output{URL: "nats://127.0.0.1:1", Credentials: s.Dir(), Role: "agent", LeaseTTL: config.Duration(time.Second),
		Timeout: config.Duration(time.Second), Log: testutil.Logger{Quiet: true}}
	if err := o.Init(); err != nil {
		t.Fatal(err)
	}
	if err := o.Connect(); err != nil {
		t.Fatal("the agent must start while the bus is away: ", err)
	}
	gather := sampleHost("h1", at(0), 0, nil)
	if err := o.Write([]telegraf.Metric{gather}); err == nil {
		t.Fatal("a Write that cannot reach the bus must fail, so that Telegraf keeps the metrics")
	}
	o.URL = s.URL()
	write(t, o, gather)
	if o.hosts["h1"].seq != 1 {
		t.Error("the gather was not published")
	}
	if err := o.Close(); err != nil {
		t.Fatal(err)
	}

	o = &Output{URL: s.URL(), Credentials: filepath.Join(os.TempDir(), "no-such-directory"), Role: "agent", LeaseTTL: config.Duration(time.Second),
		Timeout: config.Duration(time.Second), Log: testutil.Logger{Quiet: true}}
	if err := o.Init(); err != nil {
		t.Fatal(err)
	}
	if err := o.Connect(); err == nil || !strings.Contains(err.Error(), "foreshift up") {
		t.Errorf("credentials that are not there: %v, want an error that says what to do", err)
	}
}

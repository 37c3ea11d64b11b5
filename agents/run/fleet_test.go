package run

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/influxdata/telegraf"
	"github.com/influxdata/telegraf/config"
	"github.com/influxdata/telegraf/plugins/inputs"

	"github.com/foreshift/foreshift/agents/domain"
	"github.com/foreshift/foreshift/internal/sim"
	"github.com/influxdata/telegraf/testutil"
)

// simulate runs a simulated fleet until ctx ends.
func simulate(t testing.TB, ctx context.Context, hosts, vms int) *sim.Fleet {
	t.Helper()
	f, err := sim.New(sim.Config{Seed: 1, Hosts: hosts, VMs: vms, Sites: []sim.Site{{ID: "a", Hosts: hosts}}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(ctx)
	served := make(chan error, 1)
	go func() { served <- f.Serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-served; err != nil && ctx.Err() == nil {
			t.Error(err)
		}
	})
	return f
}

// counting counts what a gather gives and keeps nothing.
type counting struct {
	testutil.NopAccumulator
	metrics chan telegraf.Metric
}

func (c *counting) AddMetric(m telegraf.Metric) { c.metrics <- m }
func (c *counting) AddError(err error)          { panic(err) }

// BenchmarkGather200x20 is one agent that polls 200 simulated hosts of 20 VMs over
// libvirt's wire protocol: one operation is one gather of all. The simulator runs
// in the same process, so the CPU time reported is that of both; run the agent as
// a process of its own (see the README) for its own share.
func BenchmarkGather200x20(b *testing.B) {
	const hosts, vms = 200, 4000
	fleet := simulate(b, context.Background(), hosts, vms)
	in := inputs.Inputs[domain.Name]().(*domain.Input)
	in.Log = testutil.Logger{Quiet: true}
	in.Timeout = config.Duration(30 * time.Second)
	for _, h := range fleet.Hosts() {
		in.Hosts = append(in.Hosts, &domain.Host{ID: string(h.ID), Site: string(h.Site), URI: h.URI})
	}
	if err := in.Init(); err != nil {
		b.Fatal(err)
	}
	defer in.Stop()
	acc := &counting{metrics: make(chan telegraf.Metric, 1024)}
	gather := func() {
		go in.Gather(acc)
		for n := 0; n < hosts+vms; n++ {
			<-acc.metrics
		}
	}
	gather() // connects, and reads every description
	b.ReportAllocs()
	cpu := cpuTime(b)
	b.ResetTimer()
	for range b.N {
		gather()
	}
	b.StopTimer()
	b.ReportMetric((cpuTime(b)-cpu).Seconds()/float64(b.N), "cpu-s/gather")
	b.ReportMetric(float64(residentBytes(b))/(1<<20), "MiB-rss")
}

// cpuTime is what this process has used.
func cpuTime(t testing.TB) time.Duration {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		t.Fatal(err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

func residentBytes(t testing.TB) int {
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Fatal(err)
	}
	f := bytes.Fields(b)
	if len(f) < 2 {
		t.Fatal(fmt.Errorf("statm %q", b))
	}
	n, err := strconv.Atoi(string(f[1]))
	if err != nil {
		t.Fatal(err)
	}
	return n * os.Getpagesize()
}

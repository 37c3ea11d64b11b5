package jetstream

import (
	"context"
	"errors"
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/influxdata/telegraf"
	"github.com/influxdata/telegraf/config"
	"github.com/influxdata/telegraf/metric"
	"github.com/influxdata/telegraf/testutil"
	"pgregory.net/rapid"

	"github.com/foreshift/foreshift/schemas"
	"github.com/foreshift/foreshift/streams"
)

// fakeBus stores what is published, once per id, and fails when told to.
type fakeBus struct {
	stored []streams.Out
	ids    map[string]bool
	fail   func(streams.Out) error // asked for every message
	closed bool
}

func (b *fakeBus) store(o streams.Out) error {
	if b.fail != nil {
		if err := b.fail(o); err != nil {
			return err
		}
	}
	if err := o.Msg.Validate(); err != nil {
		return err
	}
	if b.ids[o.ID] {
		return nil // a double, as the bus drops it
	}
	// Through the wire, so that the test sees what a reader sees.
	raw, err := schemas.Encode(o.Msg)
	if err != nil {
		return err
	}
	if o.Msg, err = schemas.Decode(o.Msg.Kind(), raw); err != nil {
		return err
	}
	b.ids[o.ID] = true
	b.stored = append(b.stored, o)
	return nil
}

func (b *fakeBus) Publish(_ context.Context, o streams.Out) (uint64, error) { return 1, b.store(o) }

func (b *fakeBus) PublishAsync(_ context.Context, outs []streams.Out) error {
	var errs []error
	for _, o := range outs {
		errs = append(errs, b.store(o))
	}
	return errors.Join(errs...)
}

func (b *fakeBus) Hold(context.Context, string, time.Duration) (*streams.Lease, error) {
	return nil, errors.New("no leases here")
}
func (b *fakeBus) Close() { b.closed = true }

// metrics gives the stored messages of a host.
func (b *fakeBus) metrics(h schemas.HostID) (ms []*schemas.Metrics) {
	for _, o := range b.stored {
		if m, ok := o.Msg.(*schemas.Metrics); ok && m.Host == h {
			ms = append(ms, m)
		}
	}
	return ms
}

func (b *fakeBus) capacity(h schemas.HostID) (cs []*schemas.CapacityHost) {
	for _, o := range b.stored {
		if c, ok := o.Msg.(*schemas.CapacityHost); ok && c.Host == h {
			cs = append(cs, c)
		}
	}
	return cs
}

func (b *fakeBus) count(k schemas.Kind) (n int) {
	for _, o := range b.stored {
		if o.Msg.Kind() == k {
			n++
		}
	}
	return n
}

func newOutput(t testing.TB, b *fakeBus, change func(*Output)) *Output {
	t.Helper()
	b.ids = map[string]bool{}
	o := &Output{URL: "nats://test", Credentials: "/none", Role: "agent", Agent: "test", LeaseTTL: config.Duration(10 * time.Second),
		Timeout: config.Duration(5 * time.Second), Interval: config.Duration(10 * time.Second), Log: testutil.Logger{Quiet: true},
		connect: func(context.Context) (bus, error) { return b, nil }}
	if change != nil {
		change(o)
	}
	if err := o.Init(); err != nil {
		t.Fatal(err)
	}
	if err := o.Connect(); err != nil {
		t.Fatal(err)
	}
	return o
}

func vmID(n int) (v schemas.VMID) {
	v[0], v[14], v[15] = 1, byte(n>>8), byte(n)
	return v
}

var epoch = time.Unix(1_800_000_000, 0)

// at is gather n, ten seconds apart.
func at(n int) time.Time { return epoch.Add(time.Duration(n) * 10 * time.Second) }

// sampleVM is a foreshift_vm; the fields given go over the usual ones.
func sampleVM(host string, vm int, t time.Time, fields map[string]any) telegraf.Metric {
	f := map[string]any{"at_ns": t.UnixNano(), "state": "running", "migrating": false, "speed_ratio": 1.0, "vcpus": int64(2),
		"alloc_mcpu": 2000.0, "alloc_mem_bytes": uint64(1 << 30), "mem_used_bytes": uint64(1000)}
	for k, v := range fields {
		f[k] = v
	}
	return metric.New(measureVM, map[string]string{"host": host, "site": "a", "vm": vmID(vm).String(), "name": fmt.Sprint("vm-", vm)}, f, t.Round(time.Second))
}

// sampleHost is a foreshift_host whose inventory holds VMs 1..vms.
func sampleHost(host string, t time.Time, vms int, fields map[string]any) telegraf.Metric {
	c := schemas.CapacityHost{Host: schemas.HostID(host), Site: "a", Time: schemas.At(t), URI: "qemu:///system",
		Capacity: schemas.Amounts{CPU: 4000, Mem: 8 << 30}, Overcommit: schemas.Overcommit{CPU: 1, Mem: 1}, Speed: 1}
	for i := 1; i <= vms; i++ {
		c.VMs = append(c.VMs, schemas.InventoryVM{VM: vmID(i), Name: fmt.Sprint("vm-", i), State: schemas.VMRunning, VCPUs: 2, Movable: true})
	}
	b, err := schemas.Encode(&c)
	if err != nil {
		panic(err)
	}
	f := map[string]any{"at_ns": t.UnixNano(), "vms": int64(vms), "speed_ratio": 1.0, "usage": "vms", "inventory": string(b)}
	for k, v := range fields {
		f[k] = v
	}
	return metric.New(measureHost, map[string]string{"host": host, "site": "a"}, f, t.Round(time.Second))
}

func write(t testing.TB, o *Output, ms ...telegraf.Metric) {
	t.Helper()
	if err := o.Write(ms); err != nil {
		t.Fatal(err)
	}
}

func TestAGatherBecomesOneMessageHoweverItIsCut(t *testing.T) {
	var ms []telegraf.Metric
	for n := range 3 {
		for vm := 1; vm <= 5; vm++ {
			ms = append(ms, sampleVM("h1", vm, at(n), map[string]any{"cpu_time_ns": uint64(n * vm * 1e9)}))
		}
		ms = append(ms, sampleHost("h1", at(n), 5, nil))
	}
	for size := 1; size <= len(ms); size++ {
		b := &fakeBus{}
		o := newOutput(t, b, nil)
		for i := 0; i < len(ms); i += size {
			write(t, o, ms[i:min(i+size, len(ms))]...)
		}
		got := b.metrics("h1")
		if len(got) != 3 {
			t.Fatalf("cut by %d: %d messages, want 3", size, len(got))
		}
		for n, m := range got {
			if len(m.VM) != 6 || m.Seq != uint64(n+1) || !m.VM[5].IsZero() {
				t.Fatalf("cut by %d: message %d has %d rows, seq %d", size, n, len(m.VM), m.Seq)
			}
			if n > 0 && m.Cols[schemas.ColCPU][4] != 500 {
				t.Errorf("cut by %d: VM 5 ran %v mCPU, want 500", size, m.Cols[schemas.ColCPU][4])
			}
		}
	}
}

func TestGatherWithoutItsHostWaitsForTheNextOne(t *testing.T) {
	b := &fakeBus{}
	o := newOutput(t, b, nil)
	write(t, o, sampleVM("h1", 1, at(0), nil))
	if len(b.stored) != 0 {
		t.Fatal("half a gather must wait")
	}
	write(t, o, sampleVM("h1", 1, at(1), nil))
	if n := len(b.metrics("h1")); n != 1 {
		t.Fatalf("%d messages, want the overtaken one", n)
	}
	if err := o.Close(); err != nil {
		t.Fatal(err)
	}
	if n := len(b.metrics("h1")); n != 2 || !b.closed {
		t.Fatalf("%d messages after the last flush, want 2", n)
	}
}

func TestAFailedWriteIsRepeatedWithoutDoublesOrLoss(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		const hosts, gathers = 3, 6
		b := &fakeBus{}
		o := newOutput(t, b, nil)
		b.fail = func(streams.Out) error {
			if rapid.IntRange(0, 9).Draw(rt, "fate") == 0 {
				return errors.New("the bus is away")
			}
			return nil
		}
		var queue []telegraf.Metric
		flush := func() {
			for len(queue) > 0 {
				n := rapid.IntRange(1, len(queue)).Draw(rt, "batch")
				if o.Write(queue[:n]) != nil {
					return // Telegraf keeps the batch and offers it again
				}
				queue = queue[n:]
			}
		}
		for n := range gathers {
			for h := range hosts {
				host := fmt.Sprint("h", h)
				queue = append(queue, sampleVM(host, h+1, at(n), map[string]any{"cpu_time_ns": uint64(n+1) * uint64(n+1) * 1e9}), sampleHost(host, at(n), 1, nil))
			}
			flush()
		}
		b.fail = nil
		for len(queue) > 0 {
			flush()
		}
		for h := range hosts {
			ms := b.metrics(schemas.HostID(fmt.Sprint("h", h)))
			if len(ms) != gathers {
				rt.Fatalf("host %d: %d messages, want %d", h, len(ms), gathers)
			}
			var ran float64
			for n, m := range ms {
				if m.Seq != uint64(n+1) {
					rt.Fatalf("host %d: message %d has seq %d", h, n, m.Seq)
				}
				if cpu := m.Cols[schemas.ColCPU]; n > 0 {
					ran += float64(cpu[0]) / 1000 * float64(m.IntervalS[0])
				}
			}
			if want := float64(gathers*gathers - 1); math.Abs(ran-want) > 1e-3 {
				rt.Fatalf("host %d: the messages tell %v CPU-s, the counter %v", h, ran, want)
			}
		}
	})
}

func TestAMessageThatCanNeverBeStoredDoesNotStopTheOthers(t *testing.T) {
	b := &fakeBus{}
	o := newOutput(t, b, nil)
	b.fail = func(out streams.Out) error {
		if out.Subject == "metrics.h1" {
			return fmt.Errorf("%s: %w", out.Subject, streams.ErrDenied)
		}
		return nil
	}
	write(t, o, sampleHost("h1", at(0), 0, nil), sampleHost("h2", at(0), 0, nil))
	if len(b.metrics("h2")) != 1 || len(b.capacity("h1")) != 1 || o.lost.Get() == 0 {
		t.Error("want host h2 published, and the refused message counted")
	}
}

func TestBucketsAreWrittenOnChange(t *testing.T) {
	b := &fakeBus{}
	o := newOutput(t, b, nil)
	idle := map[string]any{"vms": int64(0)} // none of the VMs runs
	for n := range 3 {
		write(t, o, sampleHost("h1", at(n), 2, idle))
	}
	if h, v := b.count(schemas.KindHostEntry), b.count(schemas.KindVMEntry); h != 1 || v != 2 {
		t.Fatalf("%d host and %d VM entries, want 1 and 2", h, v)
	}
	write(t, o, sampleHost("h2", at(3), 2, idle)) // both VMs have moved
	if v := b.count(schemas.KindVMEntry); v != 2 {
		t.Errorf("%d VM entries after a move, want 2 still", v)
	}
	write(t, o, sampleHost("h1", at(4), 3, idle))
	if v := b.count(schemas.KindVMEntry); v != 3 {
		t.Errorf("%d VM entries after a new VM, want 3", v)
	}
}

func TestBrokenMetricsAreCountedAndLeftOut(t *testing.T) {
	b := &fakeBus{}
	o := newOutput(t, b, nil)
	before := o.broken.Get()
	bad := sampleVM("h1", 1, at(0), nil)
	bad.AddTag("vm", "not-a-uuid")
	nowhere := sampleVM("h 1", 1, at(0), nil)
	host := sampleHost("h1", at(0), 0, map[string]any{"inventory": "{"})
	write(t, o, bad, nowhere, host, testutil.TestMetric(1))
	if o.broken.Get()-before != 3 {
		t.Errorf("%d broken, want 3", o.broken.Get()-before)
	}
	if len(b.metrics("h1")) != 1 || len(b.capacity("h1")) != 0 {
		t.Error("the host's row is published, its broken inventory is not")
	}
}

func TestMemoryIsBoundedWhileTheBusIsAway(t *testing.T) {
	b := &fakeBus{}
	o := newOutput(t, b, nil)
	b.fail = func(streams.Out) error { return errors.New("the bus is away") }
	batch := make([]telegraf.Metric, 0, 4001)
	for vm := range 4000 {
		batch = append(batch, sampleVM("h1", vm, at(0), nil))
	}
	batch = append(batch, sampleHost("h1", at(0), 4000, map[string]any{"inventory": ""}))
	for n := range 70 { // 70 * 4000 rows are more than maxWaiting
		for _, m := range batch {
			m.AddField("at_ns", at(n).UnixNano())
			o.ingest(m)
		}
		o.bound()
	}
	if o.rows > maxWaiting || len(o.hosts["h1"].waiting) != maxWaiting/4000 {
		t.Errorf("%d rows in %d gathers wait", o.rows, len(o.hosts["h1"].waiting))
	}
}

func TestConfigurationIsChecked(t *testing.T) {
	o := &Output{Probes: map[string]string{"x": "y"}, OwnHost: "a b", Log: testutil.Logger{Quiet: true}}
	err := o.Init()
	for _, want := range []string{"url", "credentials", "timeout", "own_host", "probes"} {
		if err == nil || !contains(err.Error(), want) {
			t.Errorf("%q is not told in %v", want, err)
		}
	}
}

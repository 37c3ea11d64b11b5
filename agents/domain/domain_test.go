package domain

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/influxdata/telegraf"
	"github.com/influxdata/telegraf/config"
	"github.com/influxdata/telegraf/testutil"
	"go.uber.org/goleak"

	"github.com/foreshift/foreshift/schemas"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newInput(t testing.TB, change func(*Input), daemons ...*fakeDaemon) *Input {
	t.Helper()
	in := &Input{Timeout: config.Duration(5 * time.Second), Parallel: 8, DirtyVMs: 2, Log: testutil.Logger{Quiet: true}}
	for i, d := range daemons {
		in.Hosts = append(in.Hosts, &Host{ID: fmt.Sprintf("host-%d", i+1), Site: "site-a", URI: d.uri()})
	}
	if change != nil {
		change(in)
	}
	if err := in.Init(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(in.Stop)
	return in
}

// gatherHosts gathers until every named host has delivered, and gives the metrics.
func gatherHosts(t testing.TB, in *Input, acc *testutil.Accumulator, hosts ...string) {
	t.Helper()
	acc.ClearMetrics()
	if err := in.Gather(acc); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(10 * time.Second)
	for _, h := range hosts {
		for hostMetric(acc, h) == nil {
			if time.Now().After(deadline) {
				t.Fatalf("host %s delivered nothing; errors: %v", h, acc.Errors)
			}
			time.Sleep(time.Millisecond)
		}
	}
}

func hostMetric(acc *testutil.Accumulator, host string) telegraf.Metric {
	for _, m := range acc.GetTelegrafMetrics() {
		if h, _ := m.GetTag("host"); m.Name() == MeasurementHost && h == host {
			return m
		}
	}
	return nil
}

func inventoryOf(t testing.TB, acc *testutil.Accumulator, host string) *schemas.CapacityHost {
	t.Helper()
	v, ok := hostMetric(acc, host).GetField("inventory")
	if !ok {
		t.Fatal("no inventory")
	}
	m, err := schemas.Decode(schemas.KindCapacityHost, []byte(v.(string)))
	if err != nil {
		t.Fatal(err)
	}
	return m.(*schemas.CapacityHost)
}

func vmField(acc *testutil.Accumulator, vm schemas.VMID, field string) any {
	for _, m := range acc.GetTelegrafMetrics() {
		if id, _ := m.GetTag("vm"); id == vm.String() {
			v, _ := m.GetField(field)
			return v
		}
	}
	return nil
}

func TestGatherTellsWhatTheDaemonKnows(t *testing.T) {
	off := guest(2)
	off.id, off.stats = -1, []string{"state.state=5", "state.reason=1", "balloon.maximum=1048576", "vcpu.maximum=2"}
	g := guest(1)
	d := startDaemon(t, g, off)
	in := newInput(t, func(in *Input) {
		in.Hosts[0].Speed, in.Hosts[0].Labels, in.Hosts[0].Domain = 1.5, map[string]string{"tier": "gold"}, "rack-1"
		in.Hosts[0].Capacity = Capacity{Net: 1000}
		in.VMLabels = map[string]map[string]string{"vm-1": {"team": "blue"}}
	}, d)
	acc := &testutil.Accumulator{}
	gatherHosts(t, in, acc, "host-1")
	for field, want := range map[string]any{
		"state": "running", "migrating": false, "vcpus": int64(2), "alloc_mcpu": 3000.0, "alloc_mem_bytes": uint64(1 << 30),
		"cpu_time_ns": uint64(5000000000), "cpu_delay_ns": uint64(150), "net_rx_bytes": uint64(3000), "net_tx_bytes": uint64(30),
		"disk_rd_bytes": uint64(4096), "disk_wr_bytes": uint64(8192), "mem_used_bytes": uint64(400000 << 10), "swap_bytes": uint64(200 << 10),
		"dirty_bytes_per_second": nil,
	} {
		if got := vmField(acc, g.vm, field); got != want {
			t.Errorf("%s = %v (%T), want %v (%T)", field, got, got, want, want)
		}
	}
	if vmField(acc, off.vm, "state") != nil {
		t.Error("a VM that does not run must have no metric")
	}
	h := hostMetric(acc, "host-1")
	for field, want := range map[string]any{"vms": int64(1), "cpus": int64(4), "usage": "node", "cpu_busy_ns": uint64(3000), "cpu_total_ns": uint64(10000), "mem_used_bytes": uint64(6 << 30)} {
		if got, _ := h.GetField(field); got != want {
			t.Errorf("host %s = %v, want %v", field, got, want)
		}
	}
	c := inventoryOf(t, acc, "host-1")
	if c.Capacity != (schemas.Amounts{CPU: 6000, Mem: 8<<30 - hostReserve, Net: 1000}) || c.CPUModel != "EPYC" || !slices.Equal(c.CPUModels, []string{"EPYC", "qemu64"}) || c.Labels["tier"] != "gold" || c.Domain != "rack-1" {
		t.Errorf("capacity %+v", c)
	}
	if len(c.Pools) != 1 || c.Pools[0] != (schemas.StoragePool{Name: "images", Type: "netfs", Path: "/srv/images", Capacity: 1000, Free: 600, Shared: true}) {
		t.Errorf("pools %+v", c.Pools)
	}
	if len(c.VMs) != 2 || c.VMs[1].State != schemas.VMShutOff || c.VMs[1].VCPUs != 2 {
		t.Fatalf("inventory %+v", c.VMs)
	}
	v := c.VMs[0]
	if !v.Movable || !v.Persistent || v.Labels["app"] != "shop" || v.Labels["team"] != "blue" || len(v.Disks) != 1 ||
		v.Disks[0] != (schemas.VMDisk{Target: "vda", Path: "/srv/images/a.raw", Size: 1 << 30, Cache: "none"}) {
		t.Errorf("VM %+v", v)
	}
}

// The mean follows the measurements; the quantile is exceeded by about one in ten.
func TestDirtyRateIsSmoothed(t *testing.T) {
	var m vmMemory
	above := 0
	const n = 4000
	for i := range n {
		rate := float64(1+(i*7919)%100) * (1 << 20) // 1 to 100 MiB/s, each as often
		if m.dirtyRate > 0 && rate > m.dirtyHigh {
			above++
		}
		m.smooth(rate)
	}
	if got := m.dirtyRate / (1 << 20); got < 20 || got > 80 {
		t.Errorf("mean %.0f MiB/s of measurements whose mean is 50", got)
	}
	if share := float64(above) / n; share < .05 || share > .2 {
		t.Errorf("%.2f of the measurements are above the high quantile, want about .1", share)
	}
	var still vmMemory
	if still.smooth(0); still.dirtyRate != dirtyLeast {
		t.Errorf("a guest that dirties next to nothing has %v, which must not read as not measured", still.dirtyRate)
	}
}

func TestCPUOfAGuest(t *testing.T) {
	for want, cpu := range map[string]string{
		"EPYC-Rome":        `<cpu mode='custom' match='exact'><model fallback='forbid'> EPYC-Rome </model></cpu>`,
		"host-passthrough": `<cpu mode='host-passthrough' migratable='on'><model>EPYC</model></cpu>`,
		"qemu64":           `<cpu><model>qemu64</model></cpu>`,
		"":                 ``,
	} {
		f, err := parseDomain([]byte("<domain>"+cpu+"</domain>"), nil)
		if err != nil || f.cpuModel != want {
			t.Errorf("%s: %q, %v; want %q", cpu, f.cpuModel, err, want)
		}
	}
	if _, err := parseDomainCapabilities([]byte("<domainCap")); err == nil {
		t.Error("half a document is an error")
	}
}

func TestGuestWithoutBalloonDriverCountsItsResidentSet(t *testing.T) {
	s := sample{has: hasRSS, rss: 77}
	if v, ok := s.used(false); !ok || v != 77 {
		t.Error("resident set is wanted")
	}
	s = sample{has: hasRSS | hasAvailable | hasUnused, rss: 77, available: 100, unused: 30}
	if v, _ := s.used(false); v != 70 {
		t.Errorf("used %d, want available less unused", v)
	}
	if v, _ := s.used(true); v != 77 {
		t.Error("a stale report must not be believed")
	}
	s = sample{has: hasAvailable | hasUsable, available: 100, usable: 200}
	if v, ok := s.used(false); ok {
		t.Errorf("more usable than available cannot be, got %d", v)
	}
	s = sample{has: hasSwap, swapIn: 9, swapOut: 3}
	if v, ok := s.swapped(); !ok || v != 0 {
		t.Error("swap cannot be negative")
	}
}

func TestMigrationIsSeenWhoeverStartedIt(t *testing.T) {
	running, paused, saved := guest(1), guest(2), guest(3)
	running.job, running.operation = 2, 5
	paused.stats = append(paused.stats, "state.state=3", "state.reason=2")
	saved.job, saved.operation = 2, 2
	d := startDaemon(t, running, paused, saved)
	in := newInput(t, nil, d)
	acc := &testutil.Accumulator{}
	gatherHosts(t, in, acc, "host-1")
	if vmField(acc, running.vm, "migrating") != true || vmField(acc, paused.vm, "migrating") != true || vmField(acc, saved.vm, "migrating") != false {
		t.Error("want VM 1 (job) and 2 (paused for migration) migrating, 3 (saving) not")
	}
	if vmField(acc, paused.vm, "state") != "paused" {
		t.Error("VM 2 is paused")
	}
}

func TestDirtyRateIsMeasuredInTurnAndToldOnce(t *testing.T) {
	gs := []*fakeGuest{guest(1), guest(2), guest(3)}
	d := startDaemon(t, gs...)
	in := newInput(t, nil, d)
	acc := &testutil.Accumulator{}
	gatherHosts(t, in, acc, "host-1")
	if n := d.count(procStartDirtyRateCalc); n != 2 {
		t.Fatalf("%d measurements started, want dirty_rate_vms = 2", n)
	}
	d.set(func() {
		gs[0].stats = append(gs[0].stats, "dirtyrate.calc_status=2", "dirtyrate.calc_start_time=100", "dirtyrate.megabytes_per_second=3")
		gs[1].stats = append(gs[1].stats, "dirtyrate.calc_status=1", "dirtyrate.calc_start_time=100", "dirtyrate.megabytes_per_second=0")
	})
	gatherHosts(t, in, acc, "host-1")
	if got := vmField(acc, gs[0].vm, "dirty_bytes_per_second"); got != 3.0*(1<<20) {
		t.Errorf("dirty rate %v", got)
	}
	if got := vmField(acc, gs[1].vm, "dirty_bytes_per_second"); got != nil {
		t.Errorf("a measurement under way says nothing, got %v", got)
	}
	gatherHosts(t, in, acc, "host-1")
	if got := vmField(acc, gs[0].vm, "dirty_bytes_per_second"); got != nil {
		t.Errorf("an old measurement must not be told again, got %v", got)
	}
	vms := inventoryOf(t, acc, "host-1").VMs
	if vms[0].DirtyRate != 3<<20 || vms[0].DirtyHigh != 3<<20 || vms[1].DirtyRate != 0 {
		t.Errorf("inventory has dirty rates %v and %v, high %v", vms[0].DirtyRate, vms[1].DirtyRate, vms[0].DirtyHigh)
	}
	d.set(func() { d.refuse[procStartDirtyRateCalc] = 3 })
	gatherHosts(t, in, acc, "host-1")
	n := d.count(procStartDirtyRateCalc)
	gatherHosts(t, in, acc, "host-1")
	if d.count(procStartDirtyRateCalc) != n {
		t.Error("a daemon that does not know the call must not be asked again")
	}
}

func TestWithoutDirtyRateTheConnectionOnlyReads(t *testing.T) {
	d := startDaemon(t, guest(1))
	in := newInput(t, func(in *Input) { in.DirtyVMs = 0 }, d)
	gatherHosts(t, in, &testutil.Accumulator{}, "host-1")
	d.set(func() {
		if len(d.opened) != 1 || d.opened[0] != 1 {
			t.Errorf("flags of the connection %v, want read-only", d.opened)
		}
	})
	if d.count(procStartDirtyRateCalc) != 0 {
		t.Error("no measurement may be started")
	}
}

func TestDescriptionsAreReadOnceAndWhenTheVMChanges(t *testing.T) {
	g := guest(1)
	d := startDaemon(t, g)
	in := newInput(t, nil, d)
	acc := &testutil.Accumulator{}
	for range 3 {
		gatherHosts(t, in, acc, "host-1")
	}
	if n := d.count(procDomainGetXMLDesc); n != 1 {
		t.Errorf("description read %d times, want once", n)
	}
	d.set(func() {
		g.stats = append(g.stats, "vcpu.current=4")
		g.xml = strings.Replace(g.xml, "<devices>", "<devices><hostdev type='pci'/>", 1)
	})
	gatherHosts(t, in, acc, "host-1")
	v := inventoryOf(t, acc, "host-1").VMs[0]
	if v.VCPUs != 4 || v.Movable || !strings.Contains(v.WhyPinned, "pci") {
		t.Errorf("after a change: %+v", v)
	}
	if d.count(procAuthList) != 1 || d.count(procConnectOpen) != 1 {
		t.Error("the connection must be kept")
	}
}

func TestOldDaemonIsAskedOnlyWhatItKnows(t *testing.T) {
	d := startDaemon(t, guest(1))
	for _, p := range []uint32{procNodeGetInfo, procGetCapabilities, procNodeGetCPUStats, procNodeGetMemoryStats, procListAllPools, procDomainGetJobStats, procDomainIsPersistent, procGetLibVersion} {
		d.refuse[p] = 3
	}
	in := newInput(t, nil, d)
	acc := &testutil.Accumulator{}
	gatherHosts(t, in, acc, "host-1")
	h := hostMetric(acc, "host-1")
	for _, f := range []string{"cpus", "cpu_busy_ns", "mem_used_bytes"} {
		if v, ok := h.GetField(f); ok {
			t.Errorf("%s = %v although the daemon told nothing", f, v)
		}
	}
	if len(acc.Errors) > 0 {
		t.Errorf("errors %v", acc.Errors)
	}
}

func TestVMsThatShareAnIDCountOnce(t *testing.T) {
	a, b := guest(1), guest(1)
	b.name = "double"
	in := newInput(t, nil, startDaemon(t, a, b))
	acc := &testutil.Accumulator{}
	gatherHosts(t, in, acc, "host-1")
	if c := inventoryOf(t, acc, "host-1"); len(c.VMs) != 1 {
		t.Errorf("inventory %+v", c.VMs)
	}
}

package domain

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/influxdata/telegraf/config"
	"github.com/influxdata/telegraf/testutil"

	"github.com/foreshift/foreshift/schemas"
)

func TestOneBadHostNeverDelaysTheOthers(t *testing.T) {
	good, bad := startDaemon(t, guest(1)), startDaemon(t, guest(2))
	in := newInput(t, func(in *Input) { in.Timeout = config.Duration(time.Hour) }, good, bad)
	acc := &testutil.Accumulator{}
	gatherHosts(t, in, acc, "host-1", "host-2")
	bad.set(func() { bad.silent[procGetAllDomainStats] = true })
	for range 3 {
		in.last = time.Now().Add(-100 * time.Millisecond) // gathers are a tenth of a second apart
		gatherHosts(t, in, acc, "host-1")
		if hostMetric(acc, "host-2") != nil {
			t.Fatal("a silent host cannot deliver")
		}
	}
	if n := bad.count(procGetAllDomainStats); n != 2 {
		t.Errorf("the silent host was asked %d times, want 2: one call at a time", n)
	}
}

func TestCallHasADeadlineAndTheConnectionIsDialledAnew(t *testing.T) {
	d := startDaemon(t, guest(1))
	h := newHost(&Host{ID: "h", Site: "s", URI: d.uri(), Speed: 1}, &options{timeout: 50 * time.Millisecond})
	t.Cleanup(h.close)
	if _, err := h.poll(context.Background()); err != nil {
		t.Fatal(err)
	}
	d.set(func() { d.silent[procGetAllDomainStats] = true })
	if _, err := h.poll(context.Background()); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("error %v, want a deadline", err)
	}
	d.set(func() { d.silent[procGetAllDomainStats] = false })
	if _, err := h.poll(context.Background()); !errors.Is(err, errBackingOff) {
		t.Fatalf("error %v, want back-off", err)
	}
	first := h.wait
	h.retryAt = time.Time{}
	if _, err := h.poll(context.Background()); err != nil || h.wait != 0 {
		t.Fatalf("after the back-off: %v, back-off %v", err, h.wait)
	}
	if first != backoffMin {
		t.Errorf("first back-off %v", first)
	}
	for range 20 {
		h.drop()
	}
	if h.wait != backoffMax {
		t.Errorf("back-off %v, want it bounded by %v", h.wait, backoffMax)
	}
}

func TestCancelledContextEndsACall(t *testing.T) {
	d := startDaemon(t, guest(1))
	d.silent[procGetAllDomainStats] = true
	c, err := dial(context.Background(), d.uri(), false, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	defer c.conn.Close()
	ctx, cancel := context.WithCancel(context.Background())
	time.AfterFunc(10*time.Millisecond, cancel)
	if _, err := c.allStats(ctx, true, nil); err == nil {
		t.Error("want an error")
	}
}

func TestDaemonThatRestartsIsFoundAgain(t *testing.T) {
	d := startDaemon(t, guest(1))
	in := newInput(t, nil, d)
	acc := &testutil.Accumulator{}
	gatherHosts(t, in, acc, "host-1")
	d.hangUp()
	acc.ClearMetrics()
	if err := in.Gather(acc); err != nil {
		t.Fatal(err)
	}
	acc.WaitError(1) // a gather does not wait for a late poll
	if len(acc.Errors) != 1 || !strings.Contains(acc.Errors[0].Error(), "host host-1") {
		t.Fatalf("errors %v, want one that names the host", acc.Errors)
	}
	in.watched[0].retryAt = time.Time{}
	gatherHosts(t, in, acc, "host-1")
}

func TestJobThatBlocksCountsAsMigration(t *testing.T) {
	g := guest(1)
	d := startDaemon(t, g)
	h := newHost(&Host{ID: "h", Site: "s", URI: d.uri(), Speed: 1}, &options{timeout: 50 * time.Millisecond})
	t.Cleanup(h.close)
	d.silent[procDomainGetJobStats] = true
	if _, err := h.poll(context.Background()); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("error %v", err)
	}
	h.retryAt = time.Time{}
	r, err := h.poll(context.Background())
	if err != nil {
		t.Fatalf("the next poll must get through: %v", err)
	}
	if !r.memory[g.vm].migrating || d.count(procDomainGetJobStats) != 1 {
		t.Error("want the VM to count as migrating and the question to rest")
	}
}

func TestHostileRepliesAreErrors(t *testing.T) {
	one := func(fill func(w *xdrWriter)) []byte {
		w := &xdrWriter{}
		w.u32(1)
		w.text("vm")
		w.opaque(append(make([]byte, 15), 1))
		w.i32(1)
		fill(w)
		return w.b
	}
	for name, b := range map[string][]byte{
		"nothing":          {},
		"too many domains": {0xff, 0xff, 0xff, 0xff},
		"domains not sent": {0, 0, 1, 0},
		"no UUID":          append([]byte{0, 0, 0, 1, 0, 0, 0, 0}, make([]byte, 24)...),
		"huge string":      one(func(w *xdrWriter) { w.u32(1); w.u32(0x7fffffff) }),
		"many parameters":  one(func(w *xdrWriter) { w.u32(0x0fffffff) }),
		"unknown type":     one(func(w *xdrWriter) { w.u32(1); w.text("a"); w.u32(99) }),
		"cut short":        one(func(w *xdrWriter) { w.u32(2); w.text("cpu.time"); w.u32(4) }),
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := decodeStats(&xdrReader{b: b}, nil); err == nil {
				t.Error("want an error")
			}
		})
	}
}

func TestNumbersThatCannotBeAreMissing(t *testing.T) {
	var s sample
	for _, p := range []param{
		{name: []byte("cpu.time"), kind: 3, bits: 1 << 63},                          // negative
		{name: []byte("balloon.maximum"), kind: 4, bits: 1 << 60},                   // an exabyte of KiB
		{name: []byte("balloon.available"), kind: 5, bits: 0x7ff8 << 48},            // NaN
		{name: []byte("net.0.rx.bytes"), kind: 7, text: []byte("a string")},         // no number
		{name: []byte("vcpu.current"), kind: 4, bits: 1 << 40},                      // bounded
		{name: []byte("block.count"), kind: 2, bits: 0xffffffff},                    // not trusted
		{name: []byte("dirtyrate.megabytes_per_second"), kind: 3, bits: ^uint64(0)}, // negative
	} {
		s.take(&p)
	}
	if s.has != 0 || s.vcpus != maxVCPUs || len(s.disks) != 0 {
		t.Errorf("%+v", s)
	}
}

func TestConfigurationFaultsAreToldTogether(t *testing.T) {
	in := &Input{Parallel: 0, DirtyVMs: 99, Hosts: []*Host{
		{ID: "a b", Site: "s", URI: "qemu+ssh://x/system", Speed: -1},
		{ID: "h", Site: "", URI: "http://", Usage: "guess"},
		{ID: "h", Site: "s", URI: "qemu:///system", Capacity: Capacity{Cores: -1}},
	}}
	err := in.Init()
	if err == nil {
		t.Fatal("want an error")
	}
	for _, want := range []string{"timeout", "parallel", "dirty_rate_vms", `"a b"`, "qemu+ssh", "speed_ratio", "site", "usage", "there twice", "cores"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not told in:\n%v", want, err)
		}
	}
}

func TestRealReplyOfLibvirt(t *testing.T) {
	b, err := os.ReadFile("testdata/libvirt9-qemu10-domstats.bin")
	if err != nil {
		t.Fatal(err)
	}
	s, err := decodeStats(&xdrReader{b: b}, nil)
	if err != nil || len(s) != 1 {
		t.Fatal(err, len(s))
	}
	g := s[0]
	if g.name != "probe-1" || g.vm.String() != "3f1c8a52-0000-4000-8000-00000000002a" || g.vmState() != schemas.VMRunning || g.vcpus != 2 ||
		g.cpuTime != 1870000000 || g.delay != 583375639 || g.rss != 55959552 || g.maximum != 64<<20 || g.diskRd != 512 ||
		len(g.disks) != 1 || g.disks[0] != (diskStat{"vda", 64 << 20}) || g.dirtyStatus != dirtyMeasured {
		t.Errorf("%+v", g)
	}
	x, err := os.ReadFile("testdata/libvirt9-qemu10-domain.xml")
	if err != nil {
		t.Fatal(err)
	}
	f, err := parseDomain(x, nil)
	if err != nil || f.labels["app"] != "shop" || f.pinned != "" || f.maxVCPUs != 2 || len(f.disks) != 1 || f.disks[0].Cache != "none" {
		t.Errorf("%+v %v", f, err)
	}
}

func TestWhatPinsAVM(t *testing.T) {
	for xml, want := range map[string]string{
		`<devices><hostdev type='mdev'/></devices>`:                                     "mdev",
		`<devices><interface type='hostdev'/></devices>`:                                "network interface",
		`<devices><filesystem type='mount'/></devices>`:                                 "mount",
		`<devices><tpm><backend type='passthrough'/></tpm></devices>`:                   "TPM",
		`<devices><tpm><backend type='emulator'/></tpm></devices>`:                      "",
		`<launchSecurity type='sev'/>`:                                                  "sev",
		`<cpu><feature policy='require' name='invtsc'/></cpu>`:                          "invtsc",
		`<cpu migratable='off'/>`:                                                       "migratable",
		`<devices><interface type='bridge'/><memballoon/></devices>`:                    "",
		`<devices><disk device='cdrom'/></devices><cputune><quota>-1</quota></cputune>`: "",
	} {
		f, err := parseDomain([]byte("<domain>"+xml+"</domain>"), nil)
		if err != nil || (want == "") != (f.pinned == "") || !strings.Contains(f.pinned, want) {
			t.Errorf("%s: pinned %q, %v; want %q", xml, f.pinned, err, want)
		}
	}
	f, err := parseDomain([]byte(`<domain><cputune><quota>50000</quota></cputune><devices>
		<disk type='file'><source file='/srv/shared/../shared/a'/></disk><disk type='file'><source file='/srv/sharedx/a'/></disk>
		<disk type='network'><source protocol='rbd' name='p/v'/></disk></devices></domain>`), []string{"/srv/shared"})
	if err != nil || f.quota != .5 || len(f.disks) != 3 || !f.disks[0].Shared || f.disks[1].Shared || !f.disks[2].Shared || f.disks[2].Path != "rbd:p/v" {
		t.Errorf("%+v %v", f, err)
	}
}

func FuzzDecodeStats(f *testing.F) {
	if b, err := os.ReadFile("testdata/libvirt9-qemu10-domstats.bin"); err == nil {
		f.Add(b)
	}
	f.Add([]byte{0, 0, 0, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := decodeStats(&xdrReader{b: b}, nil)
		if err != nil && len(s) != 0 {
			t.Error("an error must give nothing")
		}
		if len(s) > len(b)/28 {
			t.Errorf("%d domains out of %d bytes", len(s), len(b))
		}
	})
}

func FuzzParseDomain(f *testing.F) {
	f.Add([]byte("<domain><vcpu current='1'>2</vcpu></domain>"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if d, err := parseDomain(b, []string{"/"}); err == nil && (len(d.disks) > maxDisks || len(d.labels) > maxLabels) {
			t.Error("bounds do not hold")
		}
	})
}

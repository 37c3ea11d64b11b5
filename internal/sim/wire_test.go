package sim

import (
	"fmt"
	"net"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/digitalocean/go-libvirt"

	"github.com/foreshift/foreshift/internal/sim/rpc"
)

// TestEveryCall goes through what go-libvirt offers of the procedures served.
func TestEveryCall(t *testing.T) {
	clock := &hand{t: epoch}
	cfg := quick()
	cfg.Now = clock.now
	f := serve(t, cfg)
	l := dial(t, f.Hosts()[0])
	vms := f.on(f.Hosts()[0].ID)
	clock.add(1500 * time.Millisecond)
	dom, err := l.DomainLookupByName(vms[0].Name)
	if err != nil {
		t.Fatal(err)
	}
	var got any
	for _, c := range []struct {
		name string
		call func() error
		want string
	}{
		{"type", func() (err error) { got, err = l.ConnectGetType(); return }, "QEMU"},
		{"version", func() (err error) { got, err = l.ConnectGetVersion(); return }, "10000002"},
		{"library version", func() (err error) { got, err = l.ConnectGetLibVersion(); return }, "9000000"},
		{"hostname", func() (err error) { got, err = l.ConnectGetHostname(); return }, "private-1"},
		{"uri", func() (err error) { got, err = l.ConnectGetUri(); return }, "qemu:///system"},
		{"secure", func() (err error) { got, err = l.ConnectIsSecure(); return }, "0"},
		{"max vcpus", func() (err error) { got, err = l.ConnectGetMaxVcpus(libvirt.OptString{"kvm"}); return }, "255"},
		{"lookup id", func() error { d, err := l.DomainLookupByID(dom.ID); got = d.Name; return err }, vms[0].Name},
		{"number", func() (err error) { got, err = l.ConnectNumOfDomains(); return }, fmt.Sprint(len(vms))},
		{"ids", func() error { ids, err := l.ConnectListDomains(64); got = len(ids); return err }, fmt.Sprint(len(vms))},
		{"inactive", func() (err error) { got, err = l.ConnectNumOfDefinedDomains(); return }, "0"},
		{"inactive names", func() error { n, err := l.ConnectListDefinedDomains(9); got = len(n); return err }, "0"},
		{"list active", func() error {
			d, _, err := l.ConnectListAllDomains(1, libvirt.ConnectListDomainsActive)
			got = len(d)
			return err
		}, fmt.Sprint(len(vms))},
		{"list shut off", func() error {
			d, n, err := l.ConnectListAllDomains(1, libvirt.ConnectListDomainsShutoff)
			got = fmt.Sprint(len(d), n)
			return err
		}, "0 0"},
		{"os", func() (err error) { got, err = l.DomainGetOsType(dom); return }, "hvm"},
		{"max memory", func() (err error) { got, err = l.DomainGetMaxMemory(dom); return }, fmt.Sprint(uint64(vms[0].AllocMem) / 1024)},
		{"vcpus", func() (err error) { got, err = l.DomainGetMaxVcpus(dom); return }, fmt.Sprint(vms[0].VCPUs)},
		{"active", func() (err error) { got, err = l.DomainIsActive(dom); return }, "1"},
		{"persistent", func() (err error) { got, err = l.DomainIsPersistent(dom); return }, "1"},
		{"cpu stats", func() error { s, _, err := l.NodeGetCPUStats(-1, 4, 0); got = len(s); return err }, "4"},
		{"cpu stats count", func() error { _, n, err := l.NodeGetCPUStats(-1, 0, 0); got = n; return err }, "4"},
		{"memory stats", func() error { s, _, err := l.NodeGetMemoryStats(4, -1, 0); got = s[0].Field; return err }, "total"},
		{"compare CPU", func() (err error) {
			got, err = l.ConnectCompareCPU("<cpu><model>Nehalem</model></cpu>", 0)
			return
		}, "2"},
		{"compare own CPU", func() (err error) {
			got, err = l.ConnectCompareHypervisorCPU(nil, nil, nil, nil, "<cpu><arch>x86_64</arch><model>Skylake-Server</model></cpu>", 0)
			return
		}, "1"},
		{"compare unknown CPU", func() (err error) {
			got, err = l.ConnectCompareHypervisorCPU(libvirt.OptString{"/usr/bin/x"}, nil, nil, nil, "<cpu><model>EPYC-Genoa</model></cpu>", 0)
			return
		}, "0"},
		{"memory of guest", func() error { s, err := l.DomainMemoryStats(dom, 20, 0); got = len(s) > 6; return err }, "true"},
		{"set speed", func() error { return l.DomainMigrateSetMaxSpeed(dom, 77, 0) }, ""},
		{"speed", func() (err error) { got, err = l.DomainMigrateGetMaxSpeed(dom, 0); return }, "77"},
		{"set downtime", func() error { return l.DomainMigrateSetMaxDowntime(dom, 450, 0) }, ""},
		{"downtime", func() (err error) { got, err = l.DomainMigrateGetMaxDowntime(dom, 0); return }, "450"},
		{"start dirty rate", func() error { return l.DomainStartDirtyRateCalc(dom, 1, 0) }, ""},
		{"suspend", func() error { return l.DomainSuspend(dom) }, ""},
		{"state", func() error { s, r, err := l.DomainGetState(dom, 0); got = fmt.Sprint(s, r); return err }, "3 1"},
		{"resume", func() error { return l.DomainResume(dom) }, ""},
		{"pools", func() error { p, _, err := l.ConnectListAllStoragePools(1, 0); got = p[0].Name; return err }, "shared"},
	} {
		got = ""
		if err := c.call(); err != nil {
			t.Errorf("%s: %v", c.name, err)
		} else if fmt.Sprint(got) != c.want {
			t.Errorf("%s: %v, want %s", c.name, got, c.want)
		}
	}
	wantCode(t, l.DomainResume(dom), 55)
	wantCode(t, l.DomainAbortJob(dom), 55)
	_, err = l.DomainLookupByName("nobody")
	wantCode(t, err, 42)
	_, err = l.StoragePoolLookupByName("other")
	wantCode(t, err, 49)
	_, err = l.ConnectCompareCPU("<cpu", 0)
	wantCode(t, err, 27)
	wantCode(t, l.DomainStartDirtyRateCalc(dom, 900, 0), 8)
	if _, err := l.ConnectNumOfNetworks(); err == nil {
		t.Error("an unserved procedure is answered")
	}

	// The measured dirty rate is the mean of what was dirtied.
	clock.add(1200 * time.Millisecond)
	recs, err := l.ConnectGetAllDomainStats([]libvirt.Domain{dom}, uint32(libvirt.DomainStatsDirtyrate), 0)
	if err != nil || len(recs) != 1 {
		t.Fatalf("%d records, %v", len(recs), err)
	}
	fields := map[string]any{}
	for _, p := range recs[0].Params {
		fields[p.Field] = p.Value.I
	}
	if fields["dirtyrate.calc_status"] != int32(2) || fields["state.state"] != nil {
		t.Errorf("dirty rate group: %v", fields)
	}
	if _, ok := fields["dirtyrate.megabytes_per_second"].(int64); !ok {
		t.Errorf("no rate in %v", fields)
	}
}

func TestSiteLinkIsShared(t *testing.T) {
	clock := &hand{t: epoch}
	cfg := Config{Seed: 3, Hosts: 4, VMs: 16, Base: time.Second, Now: clock.now, LinkBandwidth: 100e6}
	f := serve(t, cfg)
	h := newHandover(t, f, 3)
	if h.src.Site == h.dst.Site {
		t.Fatal("the test wants two sites")
	}
	h.must(h.begin())
	h.must(h.prepare())
	ended := make(chan error, 1)
	go func() { ended <- h.perform() }()
	other := dial(t, h.src)
	job := func() map[string]any {
		_, ps, err := other.DomainGetJobStats(h.dom, 0)
		h.must(err)
		m := map[string]any{}
		for _, p := range ps {
			m[p.Field] = p.Value.I
		}
		return m
	}
	eventually(t, "job runs", func() bool { return job()["memory_total"] != nil })
	clock.add(2 * time.Second)
	j := job()
	if j["memory_bps"] != uint64(100e6) {
		t.Errorf("speed over the link %v", j["memory_bps"])
	}
	h.must(other.DomainMigrateSetMaxSpeed(h.dom, 10, 0))
	if got := job()["memory_bps"]; got != uint64(10<<20) {
		t.Errorf("speed with a ceiling of 10 MiB/s: %v", got)
	}
	h.must(other.DomainAbortJob(h.dom))
	wantCode(t, <-ended, 78)
	h.want("1/1 absent")
	h.safe(h.src.ID)
}

func TestHostilePackets(t *testing.T) {
	f := serve(t, quick())
	h0 := f.Hosts()[0]
	for name, b := range map[string][]byte{
		"huge length":       {0xff, 0xff, 0xff, 0xff},
		"claims 32 MiB":     append([]byte{2, 0, 0, 0}, make([]byte, 24)...),
		"too short":         {0, 0, 0, 4},
		"noise":             []byte("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n..........."),
		"reply type":        packet(0x20008086, 1, 1, 1, nil),
		"unknown program":   packet(1, 1, 1, 0, nil),
		"open, no body":     packet(0x20008086, 1, uint32(rpc.ConnectOpen), 0, nil),
		"huge string":       packet(0x20008086, 1, uint32(rpc.DomainLookupByName), 0, []byte{0x7f, 0xff, 0xff, 0xff}),
		"huge params":       packet(0x20008086, 1, uint32(rpc.DomainMigratePrepare3Params), 0, []byte{0, 0, 0xff, 0xff, 1, 2, 3, 4}),
		"stats of millions": packet(0x20008086, 1, uint32(rpc.ConnectGetAllDomainStats), 0, []byte{0xff, 0xff, 0xff, 0xff}),
	} {
		c, err := net.Dial("tcp", address(h0.URI))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Write(b); err != nil {
			t.Logf("%s: %v", name, err) // the server may have hung up already
		}
		if err := c.SetReadDeadline(time.Now().Add(20 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		_, _ = c.Read(make([]byte, 1024)) // an error reply, a closed connection or nothing: all are right
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := dial(t, h0).ConnectNumOfDomains(); err != nil || n == 0 {
		t.Fatalf("after hostile packets: %d domains, %v", n, err)
	}
}

// packet is a whole packet with the given header and body.
func packet(prog, vers, proc, typ uint32, body []byte) []byte {
	e := rpc.Encoder{}
	for _, v := range []uint32{uint32(28 + len(body)), prog, vers, proc, typ, 1, 0} {
		e.U32(v)
	}
	return append(e.B, body...)
}

// bulk connects to every host and reads all statistics rounds times.
func bulk(t testing.TB, f *Fleet, rounds int) (connect, round time.Duration, domains int) {
	t.Helper()
	hosts := f.Hosts()
	conns := make([]*libvirt.Libvirt, len(hosts))
	each := func(do func(i int) (int, error)) (n int) {
		var wg sync.WaitGroup
		var mu sync.Mutex
		next := make(chan int)
		for w := 0; w < 16; w++ {
			wg.Add(1)
			go func() {
				defer wg.Done()
				for i := range next {
					k, err := do(i)
					mu.Lock()
					n += k
					if err != nil {
						t.Errorf("host %d: %v", i, err)
					}
					mu.Unlock()
				}
			}()
		}
		for i := range hosts {
			next <- i
		}
		close(next)
		wg.Wait()
		return n
	}
	begun := time.Now()
	each(func(i int) (int, error) {
		conns[i] = libvirt.NewWithDialer(dialer(address(hosts[i].URI)))
		return 0, conns[i].ConnectToURI(libvirt.QEMUSystem)
	})
	connect = time.Since(begun)
	begun = time.Now()
	for r := 0; r < rounds; r++ {
		domains = each(func(i int) (int, error) {
			recs, err := conns[i].ConnectGetAllDomainStats(nil, 0, 0)
			return len(recs), err
		})
	}
	round = time.Since(begun) / time.Duration(max(rounds, 1))
	each(func(i int) (int, error) { return 0, conns[i].Disconnect() })
	return connect, round, domains
}

func TestThousandHosts(t *testing.T) {
	if testing.Short() {
		t.Skip("short: a thousand hosts are left out")
	}
	f := serve(t, Config{Seed: 1, Hosts: 1000, VMs: 4000})
	connect, round, n := bulk(t, f, 1)
	if n != 4000 {
		t.Errorf("statistics of %d domains, want 4000", n)
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	t.Logf("1000 hosts: connected in %s, %d domains read in %s, heap %d MB with the clients", connect, n, round, m.HeapAlloc>>20)
}

func BenchmarkStatsRound(b *testing.B) {
	f := serve(b, Config{Seed: 1, Hosts: 1000, VMs: 20000})
	b.ResetTimer()
	connect, round, n := bulk(b, f, b.N)
	b.ReportMetric(connect.Seconds(), "s/connect")
	b.ReportMetric(float64(n)/round.Seconds(), "domains/s")
}

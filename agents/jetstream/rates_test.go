package jetstream

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/influxdata/telegraf/metric"

	"github.com/foreshift/foreshift/schemas"
)

func contains(s, sub string) bool { return strings.Contains(s, sub) }

func TestRates(t *testing.T) {
	const second = uint64(1e9)
	type want struct {
		flags    schemas.Flags
		interval float32
		cols     map[schemas.Column]float32 // all others are missing
	}
	gauges := map[schemas.Column]float32{schemas.ColMem: 130, schemas.ColSwap: 30}
	with := func(more map[schemas.Column]float32) map[schemas.Column]float32 {
		all := map[schemas.Column]float32{}
		for _, m := range []map[schemas.Column]float32{gauges, more} {
			for c, v := range m {
				all[c] = v
			}
		}
		return all
	}
	all := func(run, delay, rx, tx, rd, wr uint64) counters {
		return counters{[numCounters]uint64{run, delay, rx, tx, rd, wr}, 1<<numCounters - 1}
	}
	from := all(10*second, second, 100, 200, 300, 400)
	for _, c := range []struct {
		name   string
		gap    time.Duration // since the sample before; 0 = there is none
		count  counters
		change func(*vmSample)
		want   want
	}{
		{"first sight", 0, from, nil, want{0, 10, gauges}},
		{"ten seconds", 10 * time.Second, all(15*second, 2*second, 1100, 2200, 300, 4400), nil, want{0, 10, with(map[schemas.Column]float32{
			schemas.ColCPU: 600, schemas.ColSteal: 100, schemas.ColNetRx: 100, schemas.ColNetTx: 200, schemas.ColDiskRd: 0, schemas.ColDiskWr: 400})}},
		{"a faster host counts for more", 10 * time.Second, all(15*second, 2*second, 100, 200, 300, 400), func(s *vmSample) { s.speed = 2 }, want{0, 10, with(map[schemas.Column]float32{
			schemas.ColCPU: 1200, schemas.ColSteal: 200, schemas.ColNetRx: 0, schemas.ColNetTx: 0, schemas.ColDiskRd: 0, schemas.ColDiskWr: 0})}},
		{"a gap of two", 20 * time.Second, all(15*second, second, 100, 200, 300, 400), nil, want{0, 20, with(map[schemas.Column]float32{
			schemas.ColCPU: 250, schemas.ColSteal: 0, schemas.ColNetRx: 0, schemas.ColNetTx: 0, schemas.ColDiskRd: 0, schemas.ColDiskWr: 0})}},
		{"too long a gap", 36 * time.Second, all(15*second, second, 100, 200, 300, 400), nil, want{0, 10, gauges}},
		{"the clock went back", -time.Second, all(15*second, second, 100, 200, 300, 400), nil, want{0, 10, gauges}},
		{"the VM restarted", 10 * time.Second, all(second, 0, 0, 0, 0, 0), nil, want{schemas.FlagReset, 10, gauges}},
		{"a network card was taken out", 10 * time.Second, all(15*second, second, 50, 210, 300, 400), nil, want{schemas.FlagReset, 10, with(map[schemas.Column]float32{
			schemas.ColCPU: 500, schemas.ColSteal: 0, schemas.ColNetTx: 1, schemas.ColDiskRd: 0, schemas.ColDiskWr: 0})}},
		{"a counter that jumped", 10 * time.Second, all(math.MaxUint64, second, 100, 200, 300, math.MaxUint64), nil, want{schemas.FlagReset, 10, with(map[schemas.Column]float32{
			schemas.ColNetRx: 0, schemas.ColNetTx: 0, schemas.ColDiskRd: 0})}},
		{"delay is not told", 10 * time.Second, counters{[numCounters]uint64{15 * second}, 1 << cRun}, nil, want{0, 10, with(map[schemas.Column]float32{schemas.ColCPU: 500})}},
		{"paused and migrating", 10 * time.Second, counters{}, func(s *vmSample) { s.running, s.migrating = false, true }, want{schemas.FlagPaused | schemas.FlagMigrating, 10, gauges}},
		{"memory is not known", 0, from, func(s *vmSample) { s.used = schemas.NaN() }, want{0, 10, map[schemas.Column]float32{schemas.ColSwap: 30}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := vmSample{count: c.count, running: true, speed: 1, vcpus: 2, used: 100, swap: 30, dirty: schemas.NaN()}
			if c.change != nil {
				c.change(&s)
			}
			var prev *before
			if c.gap != 0 {
				prev = &before{at: 1e18 - int64(c.gap), count: from}
			}
			r := s.rates(1e18, prev, 10*time.Second, 35*time.Second)
			if r.flags != c.want.flags || r.interval != c.want.interval {
				t.Errorf("flags %b, interval %v; want %b, %v", r.flags, r.interval, c.want.flags, c.want.interval)
			}
			for col, v := range r.cols {
				w, there := c.want.cols[schemas.Column(col)]
				if there && v != w || !there && v == v {
					t.Errorf("%s = %v, want %v (there: %v)", schemas.Columns[col].Name, v, w, there)
				}
			}
		})
	}
}

func TestIntervalIsLearnt(t *testing.T) {
	b := &fakeBus{}
	o := newOutput(t, b, func(o *Output) { o.Interval = 0 })
	step := 60 * time.Second
	now, cpu := epoch, uint64(0)
	send := func(gap time.Duration) *schemas.Metrics {
		now, cpu = now.Add(gap), cpu+uint64(gap)
		write(t, o, sampleVM("h1", 1, now, map[string]any{"cpu_time_ns": cpu}), sampleHost("h1", now, 1, nil))
		ms := b.metrics("h1")
		return ms[len(ms)-1]
	}
	rated := func(m *schemas.Metrics) bool { c := m.Cols[schemas.ColCPU]; return c != nil && c[0] == 1000 }
	if rated(send(step)) {
		t.Error("the first row cannot have rates")
	}
	if !rated(send(step)) || !rated(send(3*step)) {
		t.Error("a gather and a gap of three give rates")
	}
	if m := send(4 * step); rated(m) {
		t.Error("a gap of four gives none")
	}
	if m := send(step); !rated(m) || m.IntervalS[0] != 60 {
		t.Error("and after it they go on")
	}
}

func TestAVMThatComesFromAnotherHostStartsAnew(t *testing.T) {
	b := &fakeBus{}
	o := newOutput(t, b, nil)
	cpu := func(n int) map[string]any { return map[string]any{"cpu_time_ns": uint64(n) * 1e9} }
	write(t, o, sampleVM("h1", 1, at(0), cpu(1000)), sampleHost("h1", at(0), 1, nil), sampleHost("h2", at(0), 0, nil))
	write(t, o, sampleVM("h1", 1, at(1), cpu(1010)), sampleHost("h1", at(1), 1, nil), sampleHost("h2", at(1), 0, nil))
	write(t, o, sampleHost("h1", at(2), 0, nil), sampleVM("h2", 1, at(2), cpu(1)), sampleHost("h2", at(2), 1, nil))
	write(t, o, sampleHost("h1", at(3), 0, nil), sampleVM("h2", 1, at(3), cpu(6)), sampleHost("h2", at(3), 1, nil))
	ms := b.metrics("h2")
	if c := ms[2].Cols[schemas.ColCPU]; c != nil && c[0] == c[0] || ms[2].Flags[0] != 0 {
		t.Errorf("first row at the destination: %v, flags %b; want no rate and no reset", c, ms[2].Flags[0])
	}
	if c := ms[3].Cols[schemas.ColCPU]; c == nil || c[0] != 500 {
		t.Errorf("second row %v, want 500 mCPU", c)
	}
	for range 4 {
		o.hosts["h1"].last[vmID(9)] = before{at: 1}
	}
	write(t, o, sampleHost("h1", at(9), 0, nil))
	if n := len(o.hosts["h1"].last); n != 0 {
		t.Errorf("%d VMs that left are still remembered", n)
	}
}

func TestHostRowAndUse(t *testing.T) {
	b := &fakeBus{}
	o := newOutput(t, b, func(o *Output) { o.OwnHost = "h2" })
	for n := range 2 {
		own := []map[string]any{{"usage_idle": 75.0}, {"total": uint64(1000), "available": uint64(400)}, {"avg10": 20.0}, {"avg10": 35.0}}
		write(t, o,
			metric.New(measureCPU, map[string]string{"cpu": "cpu-total", "host": "box"}, own[0], at(n)),
			metric.New(measureMem, nil, own[1], at(n)),
			metric.New(measurePSI, map[string]string{"resource": "cpu", "type": "some"}, own[2], at(n)),
			metric.New(measurePSI, map[string]string{"resource": "io", "type": "some"}, own[3], at(n)),
			metric.New(measureNet, map[string]string{"interface": "eth0"}, map[string]any{"bytes_recv": uint64(n * 1000), "bytes_sent": uint64(n * 2000)}, at(n)),
			sampleVM("h1", 1, at(n), map[string]any{"cpu_time_ns": uint64(n) * 5e9, "cpu_delay_ns": uint64(n) * 1e9, "disk_rd_bytes": uint64(n * 100)}),
			sampleVM("h1", 2, at(n), map[string]any{"cpu_time_ns": uint64(n) * 10e9}),
			sampleHost("h1", at(n), 2, map[string]any{"cpu_busy_ns": uint64(n) * 77e9}),
			sampleHost("h2", at(n), 0, map[string]any{"usage": "node", "cpu_busy_ns": uint64(n) * 20e9, "mem_used_bytes": uint64(123)}),
			sampleHost("h3", at(n), 0, map[string]any{"usage": "node", "cpu_busy_ns": uint64(n) * 20e9, "mem_used_bytes": uint64(123)}),
		)
	}
	for host, want := range map[schemas.HostID]struct {
		cpu, mem, psi float32
		used          schemas.Amounts
	}{
		"h1": {1600, 2000, schemas.NaN(), schemas.Amounts{CPU: 1500, Mem: 2000, Disk: 10}}, // by its VMs: demand has their wait
		"h2": {1000, 600, .35, schemas.Amounts{CPU: 1000, Mem: 600, Net: 300}},             // the agent's own machine
		"h3": {2000, 123, schemas.NaN(), schemas.Amounts{CPU: 2000, Mem: 123}},             // by its own counters
	} {
		m, c := b.metrics(host)[1], b.capacity(host)[1]
		row := len(m.VM) - 1
		get := func(col schemas.Column) float32 {
			if m.Cols[col] == nil {
				return schemas.NaN()
			}
			return m.Cols[col][row]
		}
		same := func(a, b float32) bool { return a == b || a != a && b != b }
		if !same(get(schemas.ColCPU), want.cpu) || !same(get(schemas.ColMem), want.mem) || !same(get(schemas.ColPSI), want.psi) {
			t.Errorf("%s: cpu %v mem %v psi %v, want %+v", host, get(schemas.ColCPU), get(schemas.ColMem), get(schemas.ColPSI), want)
		}
		if c.Used != want.used || m.AllocCPU[row] != 4000 {
			t.Errorf("%s: used %+v, want %+v", host, c.Used, want.used)
		}
	}
}

func TestProbesTellTheirVMsResponseTime(t *testing.T) {
	b := &fakeBus{}
	o := newOutput(t, b, func(o *Output) {
		o.Probes = map[string]string{"http://one/": vmID(1).String(), "two": vmID(2).String(), "10.0.0.3": vmID(3).String()}
	})
	http := func(tags map[string]string, seconds float64) {
		write(t, o, metric.New(measureResponse, tags, map[string]any{"response_time": seconds}, at(1)))
	}
	http(map[string]string{"server": "http://one/", "result": "success"}, .02)
	http(map[string]string{"server": "http://x/", "probe": "two", "result": "success"}, .03)
	http(map[string]string{"vm": vmID(4).String(), "result": "success"}, .04)
	http(map[string]string{"vm": vmID(5).String(), "result": "timeout"}, 5)
	write(t, o, metric.New(measurePing, map[string]string{"url": "10.0.0.3"}, map[string]any{"average_response_ms": 7.0}, at(1)),
		metric.New(measurePing, map[string]string{"probe": "two"}, map[string]any{"average_response_ms": 1.0}, at(1)))
	before := o.ignored.Get()
	http(map[string]string{"server": "http://nobody/"}, 1)
	if o.ignored.Get() != before+1 {
		t.Error("a probe of nobody is ignored and counted")
	}
	for vm := 1; vm <= 6; vm++ {
		write(t, o, sampleVM("h1", vm, at(1), nil))
	}
	write(t, o, sampleHost("h1", at(1), 6, nil))
	m := b.metrics("h1")[0]
	for i, want := range []float32{20, 30, 7, 40, schemas.NaN(), schemas.NaN()} {
		if got := m.Cols[schemas.ColAppMs][i]; got != want && (got == got || want == want) {
			t.Errorf("VM %d: app_ms %v, want %v", i+1, got, want)
		}
	}
	for n := 2; n < 9; n++ {
		write(t, o, sampleVM("h1", 1, at(n), nil), sampleHost("h1", at(n), 1, nil))
	}
	if c := b.metrics("h1")[7].Cols[schemas.ColAppMs]; c != nil {
		t.Error("an old answer must not be told for ever")
	}
}

// BenchmarkMake50 makes and encodes the messages of one gather of a host of 50 VMs.
func BenchmarkMake50(b *testing.B) {
	bus := &fakeBus{}
	o := newOutput(b, bus, nil)
	feed := func(n int) *gather {
		for vm := 1; vm <= 50; vm++ {
			c := uint64(n) * 1e9
			o.ingest(sampleVM("h1", vm, at(n), map[string]any{"cpu_time_ns": c, "cpu_delay_ns": c, "net_rx_bytes": c, "net_tx_bytes": c,
				"disk_rd_bytes": c, "disk_wr_bytes": c, "swap_bytes": uint64(1)}))
		}
		o.ingest(sampleHost("h1", at(n), 50, nil))
		return o.hosts["h1"].waiting[0]
	}
	g := feed(0)
	h := o.hosts["h1"]
	o.commit(o.build.make(h, g))
	g = feed(1)
	b.Run("make", func(b *testing.B) {
		b.ReportAllocs()
		for range b.N {
			o.build.make(h, g)
		}
	})
	d := o.build.make(h, g)
	b.Run("encode", func(b *testing.B) {
		b.ReportAllocs()
		size := 0
		for range b.N {
			raw, err := schemas.Encode(&d.metrics)
			if err != nil {
				b.Fatal(err)
			}
			size = len(raw)
		}
		b.ReportMetric(float64(size), "bytes/message")
		b.ReportMetric(float64(b.N*51*11)/b.Elapsed().Seconds(), "values/s")
	})
	vm := sampleVM("h1", 1, at(1), map[string]any{"cpu_time_ns": uint64(1), "cpu_delay_ns": uint64(1), "net_rx_bytes": uint64(1), "net_tx_bytes": uint64(1),
		"disk_rd_bytes": uint64(1), "disk_wr_bytes": uint64(1), "swap_bytes": uint64(1)})
	b.Run("ingest-one-VM", func(b *testing.B) {
		b.ReportAllocs()
		for range b.N {
			o.ingest(vm)
		}
	})
}

package jetstream

import (
	"math"
	"strings"

	"github.com/influxdata/telegraf"

	"github.com/foreshift/foreshift/schemas"
)

// Measurements that are understood.
const (
	measureVM       = "foreshift_vm"
	measureHost     = "foreshift_host"
	measureLink     = "foreshift_link"
	measureCPU      = "cpu"
	measureMem      = "mem"
	measureNet      = "net"
	measurePSI      = "pressure" // Telegraf's name of Linux PSI; not Foreshift's pressure
	measureResponse = "http_response"
	measurePing     = "ping"
)

// counter indexes the cumulative counters of a VM.
type counter uint8

const (
	cRun counter = iota // ns
	cDelay
	cNetRx // bytes
	cNetTx
	cDiskRd
	cDiskWr
	numCounters
)

// counters are the cumulative counters of one sample; has says which were told.
type counters struct {
	v   [numCounters]uint64
	has uint8
}

func (c *counters) set(i counter, v uint64) { c.v[i], c.has = v, c.has|1<<i }

// vmSample is one foreshift_vm.
type vmSample struct {
	vm        schemas.VMID
	count     counters
	running   bool
	migrating bool
	speed     float64
	vcpus     float64
	allocCPU  float32 // NaN = unknown, as are the next ones
	allocMem  float32
	used      float32
	swap      float32
	dirty     float32
}

// hostSample is one foreshift_host.
type hostSample struct {
	want      int // foreshift_vm of the same gather
	speed     float64
	byNode    bool
	cpuBusy   uint64 // ns
	hasCPU    bool
	memUsed   float64 // bytes; NaN = unknown
	inventory string
}

// gather is one poll of one host as it comes together.
type gather struct {
	at   int64 // ns
	site schemas.SiteID
	vms  []vmSample
	byVM map[schemas.VMID]int
	host hostSample
	done bool // foreshift_host is there
}

// add puts a sample in; the same one again changes nothing.
func (g *gather) add(s vmSample) {
	if i, ok := g.byVM[s.vm]; ok {
		g.vms[i] = s
		return
	}
	g.byVM[s.vm] = len(g.vms)
	g.vms = append(g.vms, s)
}

func (g *gather) complete() bool { return g.done && len(g.vms) >= g.host.want }

// number reads a field's value as Telegraf holds it.
func number(v any) (float64, bool) {
	switch v := v.(type) {
	case float64:
		return v, !math.IsNaN(v) && !math.IsInf(v, 0)
	case int64:
		return float64(v), true
	case uint64:
		return float64(v), true
	}
	return 0, false
}

// count reads a counter, which cannot be negative.
func count(v any) (uint64, bool) {
	switch v := v.(type) {
	case uint64:
		return v, true
	case int64:
		return uint64(v), v >= 0
	case float64:
		return uint64(v), v >= 0 && v < 1<<63
	}
	return 0, false
}

// quantity reads a value that cannot be negative; NaN if it is not one.
func quantity(v any) float32 {
	if f, ok := number(v); ok && f >= 0 && f <= math.MaxFloat32 {
		return float32(f)
	}
	return schemas.NaN()
}

// header is what every metric of ours has.
type header struct {
	host, site, vm string
	at             int64
}

func readHeader(m telegraf.Metric) header {
	h := header{at: m.Time().UnixNano()}
	for _, t := range m.TagList() {
		switch t.Key {
		case "host":
			h.host = t.Value
		case "site":
			h.site = t.Value
		case "vm":
			h.vm = t.Value
		}
	}
	// Telegraf rounds a metric's own time to its precision.
	if v, ok := m.GetField("at_ns"); ok {
		if at, ok := count(v); ok && at > 0 && at < math.MaxInt64 {
			h.at = int64(at)
		}
	}
	return h
}

func readVM(m telegraf.Metric, id schemas.VMID) vmSample {
	nan := schemas.NaN()
	s := vmSample{vm: id, speed: 1, running: true, allocCPU: nan, allocMem: nan, used: nan, swap: nan, dirty: nan}
	for _, f := range m.FieldList() {
		c, isCounter := counterOf(f.Key)
		if isCounter {
			if v, ok := count(f.Value); ok {
				s.count.set(c, v)
			}
			continue
		}
		switch f.Key {
		case "state":
			s.running = f.Value == string(schemas.VMRunning)
		case "migrating":
			s.migrating = f.Value == true
		case "speed_ratio":
			if v, ok := number(f.Value); ok && v > 0 && v <= 100 {
				s.speed = v
			}
		case "vcpus":
			if v, ok := number(f.Value); ok && v > 0 {
				s.vcpus = v
			}
		case "alloc_mcpu":
			s.allocCPU = quantity(f.Value)
		case "alloc_mem_bytes":
			s.allocMem = quantity(f.Value)
		case "mem_used_bytes":
			s.used = quantity(f.Value)
		case "swap_bytes":
			s.swap = quantity(f.Value)
		case "dirty_bytes_per_second":
			s.dirty = quantity(f.Value)
		}
	}
	return s
}

func counterOf(key string) (counter, bool) {
	switch key {
	case "cpu_time_ns":
		return cRun, true
	case "cpu_delay_ns":
		return cDelay, true
	case "net_rx_bytes":
		return cNetRx, true
	case "net_tx_bytes":
		return cNetTx, true
	case "disk_rd_bytes":
		return cDiskRd, true
	case "disk_wr_bytes":
		return cDiskWr, true
	}
	return 0, false
}

func readHost(m telegraf.Metric) hostSample {
	s := hostSample{speed: 1, memUsed: math.NaN()}
	for _, f := range m.FieldList() {
		switch f.Key {
		case "vms":
			if v, ok := count(f.Value); ok {
				s.want = int(min(v, schemas.MaxMetricsRows))
			}
		case "speed_ratio":
			if v, ok := number(f.Value); ok && v > 0 && v <= 100 {
				s.speed = v
			}
		case "usage":
			s.byNode = f.Value == "node"
		case "cpu_busy_ns":
			s.cpuBusy, s.hasCPU = count(f.Value)
		case "mem_used_bytes":
			if v, ok := number(f.Value); ok && v >= 0 {
				s.memUsed = v
			}
		case "inventory":
			if v, ok := f.Value.(string); ok {
				s.inventory = strings.Clone(v)
			}
		}
	}
	return s
}

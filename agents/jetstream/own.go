package jetstream

import (
	"math"
	"time"

	"github.com/influxdata/telegraf"

	"github.com/foreshift/foreshift/schemas"
)

// Bounds on what is remembered of other inputs.
const (
	maxInterfaces = 64
	maxProbes     = 4096
)

// own is what Telegraf's inputs say of the agent's own machine, which is folded
// into the row of the host that it is. The latest word counts, so that the same
// metrics again change nothing.
type own struct {
	cpuIdle reading // percent
	memUsed reading // bytes
	psi     [3]reading
	net     map[string]*wire
}

// reading is a value and when it was measured, in ns.
type reading struct {
	v  float64
	at int64
}

func (r *reading) set(v float64, at int64) {
	if at > r.at {
		*r = reading{v, at}
	}
}

// fresh gives the value if it was measured within the last age before at.
func (r *reading) fresh(at int64, age time.Duration) (float64, bool) {
	return r.v, r.at > 0 && at-r.at <= int64(age)
}

// wire is one interface: its last two readings of the counters.
type wire struct {
	at, since int64
	rx, tx    uint64
	rate      [2]float64 // rx, tx in bytes/s; NaN = unknown
}

func (w *wire) set(at int64, rx, tx uint64) {
	if at <= w.at {
		return
	}
	w.rate = [2]float64{math.NaN(), math.NaN()}
	if dt := float64(at-w.at) / 1e9; w.at > 0 && rx >= w.rx && tx >= w.tx && dt < 3600 {
		w.rate = [2]float64{float64(rx-w.rx) / dt, float64(tx-w.tx) / dt}
	}
	w.since, w.at, w.rx, w.tx = w.at, at, rx, tx
}

// ingest folds one metric of the own machine.
func (o *own) ingest(m telegraf.Metric) {
	at := m.Time().UnixNano()
	get := func(key string) (float64, bool) {
		v, ok := m.GetField(key)
		if !ok {
			return 0, false
		}
		f, ok := number(v)
		return f, ok && f >= 0
	}
	switch m.Name() {
	case measureCPU:
		if v, ok := get("usage_idle"); ok && v <= 100 && tag(m, "cpu") == "cpu-total" {
			o.cpuIdle.set(v, at)
		}
	case measureMem:
		total, ok := get("total")
		avail, ok2 := get("available")
		if ok && ok2 && avail <= total {
			o.memUsed.set(total-avail, at)
		}
	case measurePSI:
		i := psiIndex(tag(m, "resource"))
		if v, ok := get("avg10"); ok && v <= 100 && i >= 0 && tag(m, "type") == "some" {
			o.psi[i].set(v/100, at)
		}
	case measureNet:
		o.ingestNet(m, at)
	}
}

func psiIndex(resource string) int {
	switch resource {
	case "cpu":
		return 0
	case "memory":
		return 1
	case "io":
		return 2
	}
	return -1
}

func (o *own) ingestNet(m telegraf.Metric, at int64) {
	name := tag(m, "interface")
	rx, ok := m.GetField("bytes_recv")
	tx, ok2 := m.GetField("bytes_sent")
	if !ok || !ok2 || name == "" || name == "all" || name == "lo" {
		return
	}
	r, ok := count(rx)
	t, ok2 := count(tx)
	if !ok || !ok2 {
		return
	}
	w := o.net[name]
	if w == nil {
		if len(o.net) >= maxInterfaces {
			return
		}
		w = &wire{}
		o.net[name] = w
	}
	w.set(at, r, t)
}

// fold writes what is known of the own machine into the host's row. Linux PSI is
// the share of the last 10 s in which some task waited for the resource that made
// them wait most.
func (o *own) fold(r *row, at int64, age time.Duration, cores float64) {
	set := func(c schemas.Column, v float64) { r.cols[c] = float32(v) }
	if idle, ok := o.cpuIdle.fresh(at, age); ok && cores > 0 {
		r.run = float32(cores * 1000 * (100 - idle) / 100)
	}
	if v, ok := o.memUsed.fresh(at, age); ok {
		set(schemas.ColMem, v)
	}
	worst := math.NaN()
	for i := range o.psi {
		if v, ok := o.psi[i].fresh(at, age); ok && !(worst >= v) {
			worst = v
		}
	}
	set(schemas.ColPSI, worst)
	rx, tx := math.NaN(), math.NaN()
	for _, w := range o.net {
		if at-w.at > int64(age) || math.IsNaN(w.rate[0]) {
			continue
		}
		if math.IsNaN(rx) {
			rx, tx = 0, 0
		}
		rx, tx = rx+w.rate[0], tx+w.rate[1]
	}
	if !math.IsNaN(rx) {
		set(schemas.ColNetRx, rx)
		set(schemas.ColNetTx, tx)
	}
}

func tag(m telegraf.Metric, key string) string {
	v, _ := m.GetTag(key)
	return v
}

// probes hold the response times of applications.
type probes struct {
	names map[string]schemas.VMID // URL, or tag "probe", to VM
	http  map[schemas.VMID]*reading
	ping  map[schemas.VMID]*reading
}

// ingest takes a response time. Whose it is tells the tag "vm", or the map from
// the tag "probe" or the URL. It reports whether somebody's it was.
func (p *probes) ingest(m telegraf.Metric) bool {
	vm, ok := p.whose(m)
	if !ok {
		return false
	}
	into, field, scale := p.http, "response_time", 1000.0
	if m.Name() == measurePing {
		into, field, scale = p.ping, "average_response_ms", 1
	} else if r := tag(m, "result"); r != "" && r != "success" {
		return true // no answer is no response time
	}
	v, ok := m.GetField(field)
	if !ok {
		return true
	}
	f, ok := number(v)
	if !ok || f < 0 {
		return true
	}
	r := into[vm]
	if r == nil {
		if len(into) >= maxProbes {
			return true
		}
		r = &reading{}
		into[vm] = r
	}
	r.set(f*scale, m.Time().UnixNano())
	return true
}

func (p *probes) whose(m telegraf.Metric) (schemas.VMID, bool) {
	if v := tag(m, "vm"); v != "" {
		id, err := schemas.ParseVMID(v)
		return id, err == nil
	}
	for _, key := range [...]string{"probe", "server", "url"} {
		if v := tag(m, key); v != "" {
			if id, ok := p.names[v]; ok {
				return id, true
			}
		}
	}
	return schemas.VMID{}, false
}

// of gives the response time of a VM's application in ms: by HTTP, or else by
// ping; NaN when there is none that is fresh.
func (p *probes) of(vm schemas.VMID, at int64, age time.Duration) float32 {
	for _, m := range [...]map[schemas.VMID]*reading{p.http, p.ping} {
		if r := m[vm]; r != nil {
			if v, ok := r.fresh(at, age); ok {
				return float32(v)
			}
		}
	}
	return schemas.NaN()
}

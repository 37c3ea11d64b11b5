package load

import (
	"bufio"
	"compress/gzip"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/foreshift/foreshift/schemas"
)

// Bounds of a trace file.
const (
	maxTraceSteps = 1 << 17 // 455 days of 5 minutes
	maxTraceVMs   = 1 << 16
	referenceMHz  = 2600 // one core of reference speed
)

// Trace is measured demand, per VM and step.
type Trace struct {
	Names []string
	Steps int // length; the trace is wrapped

	vms   []traceVM
	usual [][]float64
}

type traceVM struct {
	cores, memCap float64
	d             []traceRow
	seen          []bool
}

type traceRow struct{ cpu, mem, rx, tx, rd, wr float32 }

// ReadTrace reads the first most VMs of a CSV file with a header: vm, t (index of
// the 5-minute bin), cpu_pct or cpu_avg_pct, and optionally cores, cpu_cap_mhz,
// mem_mb, mem_cap_mb, mem_pct, disk_r_kbs, disk_w_kbs, net_rx_kbs, net_tx_kbs. A
// name that ends in .gz is read as it is. CPU is min(pct,100) of cpu_cap_mhz/2600
// cores, or of cores, or of 2 cores. A missing bin keeps the last value.
func ReadTrace(path string, most int) (t *Trace, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("trace: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	var r io.Reader = bufio.NewReaderSize(f, 1<<16)
	if strings.HasSuffix(path, ".gz") {
		z, err := gzip.NewReader(r)
		if err != nil {
			return nil, fmt.Errorf("trace %s: %w", path, err)
		}
		r = z
	}
	t, err = parseTrace(r, min(most, maxTraceVMs))
	if err != nil {
		return nil, fmt.Errorf("trace %s: %w", path, err)
	}
	return t, nil
}

func parseTrace(r io.Reader, most int) (*Trace, error) {
	c := csv.NewReader(r)
	c.ReuseRecord = true
	head, err := c.Read()
	if err != nil {
		return nil, fmt.Errorf("header: %w", err)
	}
	col := map[string]int{}
	for i, h := range head {
		col[strings.Clone(strings.TrimSpace(h))] = i
	}
	if _, ok := col["cpu_pct"]; !ok {
		if i, ok := col["cpu_avg_pct"]; ok {
			col["cpu_pct"] = i
		}
	}
	for _, need := range []string{"vm", "t", "cpu_pct"} {
		if _, ok := col[need]; !ok {
			return nil, fmt.Errorf("header has no column %q; it has %s", need, strings.Join(head, ","))
		}
	}
	t := &Trace{}
	index := map[string]int{}
	for line := 2; ; line++ {
		rec, err := c.Read()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, err
		}
		i, ok := index[rec[col["vm"]]]
		if !ok {
			if len(t.vms) >= most {
				continue
			}
			i = len(t.vms)
			name := strings.Clone(rec[col["vm"]])
			index[name] = i
			t.Names = append(t.Names, name)
			t.vms = append(t.vms, traceVM{cores: 2, memCap: 4 << 30})
		}
		if err := t.vms[i].row(rec, col); err != nil {
			return nil, fmt.Errorf("line %d: %w", line, err)
		}
	}
	if len(t.vms) == 0 {
		return nil, errors.New("no rows")
	}
	t.finish()
	return t, nil
}

// row adds one line of the file.
func (v *traceVM) row(rec []string, col map[string]int) error {
	get := func(name string, missing float64) (float64, error) {
		i, ok := col[name]
		if !ok || i >= len(rec) || rec[i] == "" {
			return missing, nil
		}
		x, err := strconv.ParseFloat(rec[i], 64)
		if err != nil {
			return 0, fmt.Errorf("column %s: %q is not a number", name, rec[i])
		}
		if !schemas.Finite(x) || x < 0 || x > 1e15 {
			return 0, fmt.Errorf("column %s: %v is out of range", name, x)
		}
		return x, nil
	}
	var x [11]float64
	for i, n := range [...]string{"t", "cpu_pct", "cores", "cpu_cap_mhz", "mem_mb", "mem_cap_mb", "mem_pct", "disk_r_kbs", "disk_w_kbs", "net_rx_kbs", "net_tx_kbs"} {
		var err error
		missing := 0.0
		if n == "cores" {
			missing = v.cores
		}
		if x[i], err = get(n, missing); err != nil {
			return err
		}
	}
	at := int(x[0])
	if at >= maxTraceSteps {
		return fmt.Errorf("column t: %d, at most %d", at, maxTraceSteps-1)
	}
	full := max(x[2], 1)
	v.cores = full
	if x[3] > 0 {
		full = x[3] / referenceMHz
		v.cores = max(v.cores, full)
	}
	if x[5] > 0 {
		v.memCap = x[5] * 1e6
	}
	mem := x[4] * 1e6
	if mem == 0 {
		mem = x[6] / 100 * v.memCap
	}
	for len(v.d) <= at {
		v.d = append(v.d, traceRow{})
		v.seen = append(v.seen, false)
	}
	v.d[at] = traceRow{float32(min(x[1], 100) / 100 * full * 1000), float32(mem),
		float32(x[9] * 1e3), float32(x[10] * 1e3), float32(x[7] * 1e3), float32(x[8] * 1e3)}
	v.seen[at] = true
	return nil
}

// finish carries last values over gaps, gives every VM the same length and works
// out the usual day.
func (t *Trace) finish() {
	for i := range t.vms {
		t.Steps = max(t.Steps, len(t.vms[i].d))
	}
	t.usual = make([][]float64, len(t.vms))
	for i := range t.vms {
		v := &t.vms[i]
		var last traceRow
		for k := range v.seen { // what stands before the first row is that row
			if v.seen[k] {
				last = v.d[k]
				break
			}
		}
		v.d = append(v.d, make([]traceRow, t.Steps-len(v.d))...)
		u := make([]float64, day)
		n := make([]float64, day)
		for k := range v.d {
			if k < len(v.seen) && v.seen[k] {
				last = v.d[k]
			}
			v.d[k] = last
			u[k%day] += float64(last.cpu)
			n[k%day]++
		}
		for k := range u {
			if n[k] > 0 {
				u[k] /= n[k]
			}
		}
		v.seen = nil
		t.usual[i] = u
	}
}

// Size is the vCPUs and the memory in bytes of VM i.
func (t *Trace) Size(i int) (vcpus int, mem float64) {
	v := &t.vms[i%len(t.vms)]
	return max(1, int(v.cores+.999)), v.memCap
}

// at is VM i's demand at offset k, wrapped. VMs beyond those of the file are its
// VMs again, nine days later each time round.
func (t *Trace) at(i int, k int64) Demand {
	n := len(t.vms)
	k += int64(i/n) * 9 * day
	v := &t.vms[i%n]
	r := v.d[k-floorDiv(k, int64(t.Steps))*int64(t.Steps)]
	share := float64(r.cpu) / (v.cores * 1000)
	return Demand{
		CPU: float64(r.cpu), Mem: min(float64(r.mem), .9*v.memCap), NetRx: float64(r.rx), NetTx: float64(r.tx),
		DiskRd: float64(r.rd), DiskWr: float64(r.wr), Dirty: 3e5 + 5e7*share,
	}
}

// FromTrace makes a source of n VMs over a trace, whose fleet-wide usual peak comes
// peakIn steps after start. Start falls into the ninth day where the trace is long
// enough, so that a week of history precedes it without wrapping.
func FromTrace(t *Trace, n int, start schemas.Step, peakIn int) *Source {
	s := &Source{trace: t}
	own := len(t.vms)
	for i := own; i < n; i++ {
		t.usual = append(t.usual, t.usual[i%own])
	}
	best, at := -1.0, 0
	for tod := 0; tod < day; tod++ {
		sum := 0.0
		for i := 0; i < n; i++ {
			sum += t.usual[i][tod]
		}
		if sum > best {
			best, at = sum, tod
		}
	}
	s.midnight = start + schemas.Step(peakIn-at)
	if t.Steps > 9*day {
		s.midnight -= 8 * day
	}
	return s
}

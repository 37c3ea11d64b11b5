package schemas

import (
	"fmt"
	"strconv"
	"time"
)

// Names of the columns that metrics, steps and forecasts share.
const (
	colTime     = "time"
	colVM       = "vm"
	colHost     = "host"
	colInterval = "interval_seconds"
	colCoverage = "coverage_ratio"
	colFlags    = "flags"
	colAllocCPU = "alloc_mcpu"
	colAllocMem = "alloc_mem_bytes"
)

func encodeArrow(m Message) ([]byte, error) {
	switch m := m.(type) {
	case *Metrics:
		return m.encode()
	case *Steps:
		return m.encode()
	case *Forecasts:
		return m.encode()
	}
	return nil, fmt.Errorf("%T is not an Arrow message", m)
}

func decodeArrow(m Message, b []byte) error {
	switch m := m.(type) {
	case *Metrics:
		return m.decode(b)
	case *Steps:
		return m.decode(b)
	case *Forecasts:
		return m.decode(b)
	}
	return fmt.Errorf("%T is not an Arrow message", m)
}

func (m *Metrics) encode() ([]byte, error) {
	n := len(m.VM)
	s := newSheet(n, n*(8+16+4+1+(4+1)*(2+NumColumns))+64*NumColumns)
	s.meta("schema", headers[KindMetrics])
	s.meta("host", string(m.Host))
	s.meta("site", string(m.Site))
	s.meta("agent", m.Agent)
	s.meta("seq", strconv.FormatUint(m.Seq, 10))
	s.times(colTime, m.Time)
	s.vms(colVM, m.VM)
	s.required(colInterval, m.IntervalS)
	s.flags(colFlags, m.Flags)
	s.measured(m.AllocCPU, m.AllocMem, &m.Cols)
	return s.stream(), nil
}

func (m *Metrics) decode(b []byte) (err error) {
	bt, err := readBatch(b, MaxMetricsRows)
	if err != nil {
		return err
	}
	md := metaReader{kind: KindMetrics, m: bt.meta}
	md.schema()
	m.Host, m.Site, m.Agent = HostID(md.text("host")), SiteID(md.text("site")), md.text("agent")
	m.Seq = md.unsigned("seq")
	if md.err != nil {
		return md.err
	}
	if m.Time, err = bt.times(colTime); err != nil {
		return err
	}
	if m.VM, err = bt.vms(colVM); err != nil {
		return err
	}
	if m.IntervalS, err = bt.required(colInterval); err != nil {
		return err
	}
	if m.Flags, err = bt.flags(colFlags); err != nil {
		return err
	}
	return bt.measured(&m.AllocCPU, &m.AllocMem, &m.Cols)
}

// measured writes what metrics and steps have in common.
func (s *sheet) measured(cpu, mem []float32, cols *[NumColumns][]float32) {
	s.floats(colAllocCPU, cpu)
	s.floats(colAllocMem, mem)
	for c := range cols {
		s.floats(Columns[c].Name, cols[c])
	}
}

// measured reads what metrics and steps have in common.
func (bt *batch) measured(cpu, mem *[]float32, cols *[NumColumns][]float32) (err error) {
	if *cpu, err = bt.floats(colAllocCPU); err != nil {
		return err
	}
	if *mem, err = bt.floats(colAllocMem); err != nil {
		return err
	}
	for c := range cols {
		if cols[c], err = bt.floats(Columns[c].Name); err != nil {
			return err
		}
	}
	return nil
}

// rows checks a column's length: as many as there are VMs, or none where it may be
// absent.
func (c *check) rows(field string, have, want int, optional bool) {
	if have != want && (have != 0 || !optional) {
		c.fail(field, "%d rows, want %d", have, want)
	}
}

// quantities checks a column of what cannot be negative; NaN is missing.
func (c *check) quantities(field string, vs []float32, rows int) {
	if vs == nil {
		return
	}
	c.rows(field, len(vs), rows, false)
	for i, v := range vs {
		if v < 0 || isInf32(v) {
			c.fail("column "+field, "row %d is %v", i, v)
			return
		}
	}
}

func (c *check) measured(cpu, mem []float32, cols *[NumColumns][]float32, rows int) {
	c.quantities(colAllocCPU, cpu, rows)
	c.quantities(colAllocMem, mem, rows)
	for i := range cols {
		c.quantities(Columns[i].Name, cols[i], rows)
	}
}

// Validate implements [Message].
func (m *Metrics) Validate() error {
	var c check
	n := len(m.VM)
	token(&c, "host", m.Host)
	token(&c, "site", m.Site)
	c.given("agent", m.Agent, MaxName)
	c.sequence("seq", m.Seq)
	c.count("rows", n, MaxMetricsRows)
	c.rows(colTime, len(m.Time), n, false)
	c.rows(colInterval, len(m.IntervalS), n, false)
	c.rows(colFlags, len(m.Flags), n, false)
	for i, t := range m.Time {
		if t < earliest || t > latestTime {
			c.fail("column "+colTime, "row %d: %s is out of range 1971..2250", i, t)
			break
		}
	}
	for i, v := range m.IntervalS {
		if !(v > 0 && v <= maxInterval) {
			c.fail("column "+colInterval, "row %d: %v is not within 0..%d", i, v, maxInterval)
			break
		}
	}
	for _, col := range [...]Column{ColCPUMax, ColMemMax} {
		if m.Cols[col] != nil {
			c.fail("column "+Columns[col].Name, "stands in steps only")
		}
	}
	c.measured(m.AllocCPU, m.AllocMem, &m.Cols, n)
	return c.err
}

func (m *Steps) encode() ([]byte, error) {
	n := len(m.VM)
	s := newSheet(n, n*(16+4+24+4+1+(4+1)*(2+NumColumns))+64*NumColumns)
	s.meta("schema", headers[KindSteps])
	s.meta("partition", strconv.Itoa(m.Partition))
	s.meta("step", strconv.FormatInt(int64(m.Step), 10))
	s.meta("revision", strconv.Itoa(m.Revision))
	s.meta("lease", strconv.FormatUint(m.Lease, 10))
	s.meta("base_ns", strconv.FormatInt(int64(m.Base), 10))
	if m.Metrics != 0 {
		s.meta("metrics_seq", strconv.FormatUint(m.Metrics, 10))
	}
	s.vms(colVM, m.VM)
	s.hosts(colHost, m.Host)
	s.required(colCoverage, m.Coverage)
	s.flags(colFlags, m.Flags)
	s.measured(m.AllocCPU, m.AllocMem, &m.Cols)
	return s.stream(), nil
}

func (m *Steps) decode(b []byte) (err error) {
	bt, err := readBatch(b, MaxStepsRows)
	if err != nil {
		return err
	}
	md := metaReader{kind: KindSteps, m: bt.meta}
	md.schema()
	m.Partition, m.Step, m.Revision = md.small("partition"), Step(md.signed("step")), md.small("revision")
	m.Lease, m.Base = md.unsigned("lease"), time.Duration(md.signed("base_ns"))
	if _, told := bt.meta["metrics_seq"]; told {
		m.Metrics = md.unsigned("metrics_seq")
	}
	if md.err != nil {
		return md.err
	}
	if m.VM, err = bt.vms(colVM); err != nil {
		return err
	}
	if m.Host, err = bt.hosts(colHost); err != nil {
		return err
	}
	if m.Coverage, err = bt.required(colCoverage); err != nil {
		return err
	}
	if m.Flags, err = bt.flags(colFlags); err != nil {
		return err
	}
	return bt.measured(&m.AllocCPU, &m.AllocMem, &m.Cols)
}

// partitionOf checks a message's partition, its rows' VMs and their hosts.
func (c *check) partitionOf(partition int, vms []VMID, hosts []HostID) {
	if partition < 0 || partition >= Partitions {
		c.fail("partition", "%d is not within 0..%d", partition, Partitions-1)
	}
	c.rows(colHost, len(hosts), len(vms), false)
	if c.err != nil {
		return
	}
	for i, v := range vms {
		if v.IsZero() {
			c.fail("column "+colVM, "row %d is missing", i)
			return
		}
		if p := v.Partition(); p != partition {
			c.fail("column "+colVM, "row %d: %s is of partition %d, not %d", i, v, p, partition)
			return
		}
		if i > 0 && hosts[i] == hosts[i-1] {
			continue
		}
		if optToken(c, "column "+colHost, hosts[i]); c.err != nil {
			return
		}
	}
}

func (c *check) base(d time.Duration) {
	if d < minBase || d > maxBase {
		c.fail("base_ns", "%s is not within %s..%s", d, minBase, maxBase)
	}
}

// step bounds a step so that its start and end are times.
func (c *check) step(field string, s Step, base time.Duration) {
	if s < 0 || base <= 0 || int64(s) > int64(latestTime)/int64(base) {
		c.fail(field, "%d is out of range for base steps of %s", s, base)
	}
}

// Validate implements [Message].
func (m *Steps) Validate() error {
	var c check
	n := len(m.VM)
	c.count("rows", n, MaxStepsRows)
	c.partitionOf(m.Partition, m.VM, m.Host)
	c.base(m.Base)
	c.step("step", m.Step, m.Base)
	c.atLeast("revision", m.Revision, 0)
	c.rows(colCoverage, len(m.Coverage), n, false)
	c.rows(colFlags, len(m.Flags), n, false)
	for i, v := range m.Coverage {
		if !(v >= 0 && v <= 1) {
			c.fail("column "+colCoverage, "row %d: %v is not within 0..1", i, v)
			break
		}
	}
	c.measured(m.AllocCPU, m.AllocMem, &m.Cols, n)
	return c.err
}

// metaReader reads the message-level fields from a schema's metadata and keeps the
// first fault.
type metaReader struct {
	kind Kind
	m    map[string]string
	err  error
}

func (r *metaReader) text(key string) string {
	v, ok := r.m[key]
	if !ok && r.err == nil {
		r.err = fmt.Errorf("metadata %s: is missing", key)
	}
	return v
}

// schema makes sure that the stream says it is what it is taken for.
func (r *metaReader) schema() {
	v := r.text("schema")
	if r.err != nil {
		return
	}
	k, major, _, err := ParseSchemaHeader(v)
	if err != nil || k != r.kind || major != specByKind[r.kind].Major {
		r.err = fmt.Errorf("metadata schema: %q, want %s", clip(v), headers[r.kind])
	}
}

func (r *metaReader) unsigned(key string) uint64 {
	v := r.text(key)
	if r.err != nil {
		return 0
	}
	n, err := strconv.ParseUint(v, 10, 64)
	if err != nil {
		r.err = fmt.Errorf("metadata %s: %q is not a whole number", key, clip(v))
	}
	return n
}

func (r *metaReader) signed(key string) int64 {
	v := r.text(key)
	if r.err != nil {
		return 0
	}
	n, err := strconv.ParseInt(v, 10, 64)
	if err != nil {
		r.err = fmt.Errorf("metadata %s: %q is not a whole number", key, clip(v))
	}
	return n
}

// small is a whole number of at most 31 bits.
func (r *metaReader) small(key string) int {
	n := r.signed(key)
	if r.err == nil && (n < 0 || n > 1<<31-1) {
		r.err = fmt.Errorf("metadata %s: %d is out of range", key, n)
	}
	return int(n)
}

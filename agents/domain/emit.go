package domain

import (
	"fmt"

	"github.com/influxdata/telegraf"
	"github.com/influxdata/telegraf/metric"

	"github.com/foreshift/foreshift/schemas"
)

// Measurements that the input makes.
const (
	MeasurementVM   = "foreshift_vm"
	MeasurementHost = "foreshift_host"
)

// How the use of a host is told.
const (
	usageNode = "node" // by the host's own counters
	usageVMs  = "vms"  // by the sum of its VMs: for hosts that share a machine
)

// hostReserve is what a host keeps for its own system where its memory is measured, as
// Nova's reserved_host_memory_mb does by default.
const hostReserve = 512 << 20

// fill completes the report with the host's capacity and inventory.
func (h *host) fill(r *report) {
	c := &h.cfg.Capacity
	cores := c.Cores
	if cores == 0 {
		cores = float64(h.node.cpus)
	}
	mem := float64(c.Mem)
	if mem == 0 {
		mem = max(float64(h.node.memory)-hostReserve, float64(h.node.memory)/2)
	}
	r.capacity = schemas.CapacityHost{
		Host: schemas.HostID(h.cfg.ID), Site: schemas.SiteID(h.cfg.Site), Time: schemas.At(r.at), URI: h.cfg.URI,
		Capacity: schemas.Amounts{
			CPU: schemas.MilliCPU(cores * 1000 * h.cfg.Speed), Mem: schemas.Bytes(mem),
			Net: schemas.BytesPerSecond(c.Net), Disk: schemas.BytesPerSecond(c.Disk),
		},
		Overcommit: schemas.Overcommit{CPU: schemas.Ratio(h.cfg.Overcommit.CPU), Mem: schemas.Ratio(h.cfg.Overcommit.Mem)},
		Speed:      schemas.Ratio(h.cfg.Speed), CPUModel: h.model, Domain: h.cfg.Domain, Labels: h.cfg.Labels,
		Simulated: h.cfg.Simulated, Libvirt: h.libVer, QEMU: h.hvVer,
		Pools: h.pools, CPUModels: h.models, CPUDigest: h.cpuDigest, VMs: make([]schemas.InventoryVM, 0, len(r.vms)),
	}
	for i := range r.vms {
		r.capacity.VMs = append(r.capacity.VMs, h.inventory(&r.vms[i]))
	}
}

func (h *host) inventory(s *sample) schemas.InventoryVM {
	m := h.vms[s.vm]
	v := schemas.InventoryVM{
		VM: s.vm, Name: s.name, State: s.vmState(), VCPUs: h.vcpus(s, m),
		AllocCPU: schemas.MilliCPU(h.allocCPU(s, m)), AllocMem: schemas.Bytes(s.maximum), Resident: schemas.Bytes(s.rss),
		Labels: m.facts.labels, Persistent: m.facts.persistent, Migrating: m.migrating,
		Movable: m.known && m.facts.pinned == "", WhyPinned: m.facts.pinned,
		CPUModel: m.facts.cpuModel, CPUDigest: m.facts.cpuDigest, DirtyRate: schemas.BytesPerSecond(m.dirtyRate), DirtyHigh: schemas.BytesPerSecond(m.dirtyHigh),
	}
	if !m.known {
		v.WhyPinned = "its description has not been read yet"
	}
	v.Disks = make([]schemas.VMDisk, len(m.facts.disks))
	copy(v.Disks, m.facts.disks)
	for i := range v.Disks {
		for _, d := range s.disks {
			if d.target == v.Disks[i].Target && d.capacity <= 1<<60 {
				v.Disks[i].Size = schemas.Bytes(d.capacity)
			}
		}
	}
	return v
}

func (h *host) vcpus(s *sample, m *vmMemory) int {
	if s.vcpus > 0 {
		return s.vcpus
	}
	return m.facts.maxVCPUs
}

// allocCPU is what the VM may use, in mCPU of reference speed: its vCPUs, or
// less where a quota limits them.
func (h *host) allocCPU(s *sample, m *vmMemory) float64 {
	share := 1.0
	if q := m.facts.quota; q > 0 && q < 1 {
		share = q
	}
	return float64(h.vcpus(s, m)) * share * 1000 * h.cfg.Speed
}

// usage tells how the use of the host is measured. A host whose cores are
// declared may share its machine with others: then only its VMs speak for it.
func (h *host) usage() string {
	if h.cfg.Usage != "" && h.cfg.Usage != "auto" {
		return h.cfg.Usage
	}
	if h.cfg.Capacity.Cores > 0 {
		return usageVMs
	}
	return usageNode
}

// emit turns a report into metrics: the active VMs first, then the host, so that
// a reader who sees the host has the whole gather.
func (h *host) emit(acc telegraf.Accumulator, r *report) error {
	inventory, err := schemas.Encode(&r.capacity)
	if err != nil {
		return fmt.Errorf("inventory: %w", err)
	}
	n := int64(0)
	for i := range r.vms {
		if s := &r.vms[i]; s.active() {
			acc.AddMetric(h.vmMetric(r, s))
			n++
		}
	}
	m := metric.New(MeasurementHost, nil, nil, r.at)
	m.AddTag("host", h.cfg.ID)
	m.AddTag("site", h.cfg.Site)
	m.AddField("at_ns", r.at.UnixNano())
	m.AddField("vms", n)
	m.AddField("speed_ratio", h.cfg.Speed)
	m.AddField("usage", h.usage())
	if r.cpus > 0 {
		m.AddField("cpus", int64(r.cpus))
	}
	if r.total > 0 {
		m.AddField("cpu_busy_ns", r.busy)
		m.AddField("cpu_total_ns", r.total)
	}
	if r.memOK {
		m.AddField("mem_used_bytes", r.memUsed)
	}
	m.AddField("inventory", string(inventory))
	acc.AddMetric(m)
	return nil
}

func (h *host) vmMetric(r *report, s *sample) telegraf.Metric {
	mem := h.vms[s.vm]
	m := metric.New(MeasurementVM, nil, nil, r.at)
	m.AddTag("host", h.cfg.ID)
	m.AddTag("site", h.cfg.Site)
	m.AddTag("vm", s.vm.String())
	m.AddTag("name", s.name)
	m.AddField("at_ns", r.at.UnixNano())
	m.AddField("state", string(s.vmState()))
	m.AddField("migrating", mem.migrating)
	m.AddField("speed_ratio", h.cfg.Speed)
	if n := h.vcpus(s, mem); n > 0 {
		m.AddField("vcpus", int64(n))
		m.AddField("alloc_mcpu", h.allocCPU(s, mem))
	}
	counter := func(bit has, name string, v uint64) {
		if s.has&bit != 0 {
			m.AddField(name, v)
		}
	}
	counter(hasMaximum, "alloc_mem_bytes", s.maximum)
	counter(hasCPU, "cpu_time_ns", s.cpuTime)
	counter(hasDelay, "cpu_delay_ns", s.delay)
	counter(hasRSS, "rss_bytes", s.rss)
	counter(hasNet, "net_rx_bytes", s.netRx)
	counter(hasNet, "net_tx_bytes", s.netTx)
	counter(hasDisk, "disk_rd_bytes", s.diskRd)
	counter(hasDisk, "disk_wr_bytes", s.diskWr)
	if v, ok := s.used(mem.stale); ok {
		m.AddField("mem_used_bytes", v)
	}
	if v, ok := s.swapped(); ok {
		m.AddField("swap_bytes", v)
	}
	if v, ok := mem.dirty(s); ok {
		m.AddField("dirty_bytes_per_second", v)
	}
	return m
}

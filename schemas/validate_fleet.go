package schemas

import (
	"bytes"
	"cmp"
	"maps"
	"slices"
)

// sortedKeys gives map keys in order, so that the first fault found is always the
// same one.
func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K {
	if len(m) == 0 {
		return nil
	}
	return slices.Sorted(maps.Keys(m))
}

// sortedVMs does the same for ids.
func sortedVMs[V any](m map[VMID]V) []VMID {
	if len(m) == 0 {
		return nil
	}
	return slices.SortedFunc(maps.Keys(m), func(a, b VMID) int { return bytes.Compare(a[:], b[:]) })
}

func (a Amounts) check(c *check) {
	amount(c, "cpu_mcpu", a.CPU)
	amount(c, "mem_bytes", a.Mem)
	amount(c, "net_bytes_per_second", a.Net)
	amount(c, "disk_bytes_per_second", a.Disk)
}

// Validate implements [Message].
func (m *CapacityHost) Validate() error {
	var c check
	token(&c, "host", m.Host)
	token(&c, "site", m.Site)
	c.when("time", m.Time)
	c.text("uri", m.URI, MaxText)
	c.under("capacity", m.Capacity.check)
	c.under("used", m.Used.check)
	within(&c, "overcommit.cpu_ratio", m.Overcommit.CPU, 0.01, 100)
	within(&c, "overcommit.mem_ratio", m.Overcommit.Mem, 0.01, 100)
	within(&c, "speed_ratio", m.Speed, 0.01, 100)
	c.text("cpu_model", m.CPUModel, MaxName)
	c.text("failure_domain", m.Domain, MaxName)
	c.labels("labels", m.Labels)
	c.count("pools", len(m.Pools), maxSmallList)
	for i := range m.Pools {
		c.in("pools", i, m.Pools[i].check)
	}
	c.count("cpu_models", len(m.CPUModels), maxSmallList)
	for _, name := range m.CPUModels {
		c.given("cpu_models", name, MaxName)
	}
	c.digest("cpu_digest", m.CPUDigest)
	c.count("vms", len(m.VMs), MaxInventory)
	for i := range m.VMs {
		c.in("vms", i, m.VMs[i].check)
	}
	c.uniqueVMs("vms", len(m.VMs), func(i int) VMID { return m.VMs[i].VM })
	return c.err
}

func (p *StoragePool) check(c *check) {
	c.given("name", p.Name, MaxName)
	c.text("type", p.Type, MaxName)
	c.text("path", p.Path, MaxText)
	amount(c, "capacity_bytes", p.Capacity)
	amount(c, "free_bytes", p.Free)
}

func (v *InventoryVM) check(c *check) {
	c.vm("vm", v.VM)
	c.text("name", v.Name, MaxName)
	oneOf(c, "state", v.State, VMRunning, VMPaused, VMShutOff, VMCrashed, VMOther, VMStopping)
	within(c, "vcpus", v.VCPUs, 0, 65536)
	amount(c, "alloc_mcpu", v.AllocCPU)
	amount(c, "alloc_mem_bytes", v.AllocMem)
	amount(c, "resident_bytes", v.Resident)
	c.count("disks", len(v.Disks), maxSmallList)
	for i := range v.Disks {
		c.in("disks", i, func(c *check) {
			d := &v.Disks[i]
			c.text("target", d.Target, MaxName)
			c.text("path", d.Path, MaxText)
			amount(c, "size_bytes", d.Size)
			c.text("cache", d.Cache, MaxName)
		})
	}
	c.labels("labels", v.Labels)
	c.text("why_pinned", v.WhyPinned, MaxText)
	c.text("cpu_model", v.CPUModel, MaxName)
	c.digest("cpu_digest", v.CPUDigest)
	amount(c, "dirty_rate_bytes_per_second", v.DirtyRate)
	amount(c, "dirty_high_bytes_per_second", v.DirtyHigh)
}

// sites says that a link's two sites stand in their one order.
func (c *check) sites(a, b SiteID) {
	token(c, "site_a", a)
	token(c, "site_b", b)
	if a >= b {
		c.fail("site_a", "%q must sort before site_b %q", clip(string(a)), clip(string(b)))
	}
}

// Validate implements [Message].
func (m *CapacityLink) Validate() error {
	var c check
	c.sites(m.A, m.B)
	c.when("time", m.Time)
	amount(&c, "rtt_ms", m.RTT)
	amount(&c, "bandwidth_bytes_per_second", m.Bandwidth)
	amount(&c, "free_bytes_per_second", m.Free)
	share(&c, "loss_ratio", m.Loss)
	c.text("by", m.By, MaxName)
	amount(&c, "left_bytes_per_second", m.Left)
	c.atLeast("moves", m.Moves, 0)
	amount(&c, "reserved_bytes_per_second", m.Reserved)
	c.shares(m.Shares)
	return c.err
}

// Validate implements [Message].
func (m *HostEntry) Validate() error {
	var c check
	token(&c, "host", m.Host)
	c.text("name", m.Name, MaxName)
	token(&c, "site", m.Site)
	c.labels("labels", m.Labels)
	c.when("time", m.Time)
	return c.err
}

// Validate implements [Message].
func (m *VMEntry) Validate() error {
	var c check
	c.vm("vm", m.VM)
	c.text("name", m.Name, MaxName)
	c.labels("labels", m.Labels)
	c.when("time", m.Time)
	return c.err
}

func (c *check) chances(m map[string]Chance) {
	for _, k := range sortedKeys(m) {
		c.resourceName("chances key", k)
		v := m[k]
		c.under("chances."+k, func(c *check) {
			share(c, "h1_ratio", v.H1)
			share(c, "h6_ratio", v.H6)
			share(c, "h24_ratio", v.H24)
		})
	}
}

func (c *check) whys(ws []Why) {
	c.count("why", len(ws), maxSmallList)
	for i := range ws {
		c.in("why", i, func(c *check) {
			c.text("kind", ws[i].Kind, MaxName)
			c.text("text", ws[i].Text, MaxText)
			share(c, "share_ratio", ws[i].Share)
		})
	}
}

// Validate implements [Message].
func (m *PressureVM) Validate() error {
	var c check
	c.vm("vm", m.VM)
	optToken(&c, "host", m.Host)
	oneOf(&c, "cause", m.Cause, CauseOwnLimit, CauseHostContention)
	c.when("time", m.Time)
	c.optResource("resource", m.Resource)
	share(&c, "score_ratio", m.Score)
	c.chances(m.Chances)
	c.optWhen("onset", m.Onset)
	finite(&c, "peak", m.Peak)
	amount(&c, "limit", m.Limit)
	oneOf(&c, "advice", m.Advice, "", "move", "resize_advised")
	c.whys(m.Why)
	return c.err
}

// Validate implements [Message].
func (m *PressureHost) Validate() error {
	var c check
	token(&c, "host", m.Host)
	token(&c, "site", m.Site)
	c.when("time", m.Time)
	c.optResource("resource", m.Resource)
	share(&c, "score_ratio", m.Score)
	c.chances(m.Chances)
	c.optWhen("onset", m.Onset)
	finite(&c, "peak", m.Peak)
	amount(&c, "limit", m.Limit)
	amount(&c, "unmet_resource_seconds", m.Unmet)
	c.whys(m.Why)
	return c.err
}

// Validate implements [Message].
func (m *Shortfall) Validate() error {
	var c check
	token(&c, "site", m.Site)
	c.when("time", m.Time)
	c.resourceName("resource", m.Resource)
	c.optWhen("onset", m.Onset)
	amount(&c, "amount", m.Amount)
	amount(&c, "unmet_resource_seconds", m.Unmet)
	return c.err
}

// Validate implements [Message].
func (m *Calendar) Validate() error {
	var c check
	token(&c, "id", m.ID)
	c.text("name", m.Name, MaxName)
	c.text("class", m.Class, MaxName)
	if m.Removed {
		c.optWhen("start", m.Start)
		c.optWhen("end", m.End)
	} else {
		c.when("start", m.Start)
		c.when("end", m.End)
	}
	c.order("start", m.Start, "end", m.End)
	c.text("repeat", m.Repeat, MaxText)
	c.text("zone", m.Zone, MaxName)
	c.labels("match", m.Match)
	for _, k := range sortedKeys(m.Expected) {
		c.resourceName("expected key", k)
		within(&c, "expected "+clip(k), m.Expected[k], -1, 1000)
	}
	return c.err
}

// Validate implements [Message].
func (m *External) Validate() error {
	var c check
	token(&c, "id", m.ID)
	c.text("name", m.Name, MaxName)
	c.labels("match", m.Match)
	c.when("start", m.Start)
	within(&c, "every_seconds", m.Every, 1e-3, 366*24*3600)
	c.count("value", len(m.Value), MaxSeries)
	for i, v := range m.Value {
		if !Finite(v) {
			c.fail("value", "item %d: %v is not a finite number", i, v)
		}
	}
	return c.err
}

// Validate implements [Message].
func (m *Model) Validate() error {
	var c check
	token(&c, "name", m.Name)
	c.sequence("version", m.Version)
	c.when("time", m.Time)
	c.hex("digest", m.Digest, 16)
	c.atLeast("size_bytes", m.Size, 0)
	c.count("scores", len(m.Scores), maxSmallList)
	for _, k := range sortedKeys(m.Scores) {
		c.given("scores key", k, MaxName)
		finite(&c, "scores "+clip(k), m.Scores[k])
	}
	return c.err
}

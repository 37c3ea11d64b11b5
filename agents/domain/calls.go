package domain

import (
	"context"
	"fmt"

	"github.com/foreshift/foreshift/schemas"
)

// The other calls that a poll makes, in the order of how often.

// domainArg writes remote_nonnull_domain.
func (c *client) domainArg(s *sample) {
	c.begin()
	c.w.text(s.name)
	c.w.opaque(s.vm[:])
	c.w.i32(s.id)
}

// migrationJob reports whether a migration of the VM runs, in or out, whoever
// started it.
func (c *client) migrationJob(ctx context.Context, s *sample) (bool, error) {
	c.domainArg(s)
	c.w.u32(0)
	r, err := c.call(ctx, procDomainGetJobStats)
	if err != nil {
		return false, fmt.Errorf("job of %s: %w", s.name, err)
	}
	kind := r.i32()
	operation := uint64(0)
	for n := r.count(12); n > 0 && r.err == nil; n-- {
		p := r.param()
		if v, ok := p.count(); ok && string(p.name) == "operation" {
			operation = v
		}
	}
	if r.err != nil {
		return false, fmt.Errorf("job of %s: %w", s.name, r.err)
	}
	// VIR_DOMAIN_JOB_BOUNDED and UNBOUNDED run; an operation that is not told
	// (old libvirt) is taken for a migration: the interval is then left out of
	// learning, which costs less than learning a migration's noise.
	running := kind == 1 || kind == 2
	return running && (operation == 0 || operation == 4 || operation == 5), nil
}

// startDirtyRate starts a measurement of one second; its result is in the
// statistics of a later call.
func (c *client) startDirtyRate(ctx context.Context, s *sample) error {
	c.domainArg(s)
	c.w.i32(1)
	c.w.u32(0)
	if _, err := c.call(ctx, procStartDirtyRateCalc); err != nil {
		return fmt.Errorf("start dirty rate of %s: %w", s.name, err)
	}
	return nil
}

// domainXML gives the VM's description as it is now; it aliases the reply.
func (c *client) domainXML(ctx context.Context, s *sample) ([]byte, error) {
	c.domainArg(s)
	c.w.u32(0)
	r, err := c.call(ctx, procDomainGetXMLDesc)
	if err != nil {
		return nil, fmt.Errorf("description of %s: %w", s.name, err)
	}
	b := r.text()
	if r.err != nil {
		return nil, fmt.Errorf("description of %s: %w", s.name, r.err)
	}
	return b, nil
}

func (c *client) persistent(ctx context.Context, s *sample) (bool, error) {
	c.domainArg(s)
	r, err := c.call(ctx, procDomainIsPersistent)
	if err != nil {
		return false, fmt.Errorf("persistence of %s: %w", s.name, err)
	}
	v := r.i32()
	return v != 0, r.err
}

// nodeInfo is what the host's hardware is.
type nodeInfo struct {
	memory uint64 // bytes
	cpus   int
}

func (c *client) nodeInfo(ctx context.Context) (n nodeInfo, err error) {
	r, err := c.call(ctx, procNodeGetInfo)
	if err != nil {
		return n, fmt.Errorf("node info: %w", err)
	}
	r.take(32 * 4) // the model, one word per character
	kib, cpus := r.u64(), r.i32()
	if r.err != nil {
		return n, fmt.Errorf("node info: %w", r.err)
	}
	if kib > 1<<50 || cpus < 1 || cpus > maxVCPUs {
		return n, fmt.Errorf("node info: %d KiB of memory and %d CPUs are not believable", kib, cpus)
	}
	return nodeInfo{memory: kib << 10, cpus: int(cpus)}, nil
}

// fields reads an array of {string name; unsigned hyper value}.
func fields(r *xdrReader, each func(name []byte, v uint64)) error {
	for n := r.count(12); n > 0 && r.err == nil; n-- {
		name := r.text()
		v := r.u64()
		if r.err == nil {
			each(name, v)
		}
	}
	return r.err
}

// countOf reads how many fields there are, as the daemon answers who asks for none.
func countOf(r *xdrReader) (uint32, error) {
	if err := fields(r, func([]byte, uint64) {}); err != nil {
		return 0, err
	}
	n := r.u32()
	return n, r.err
}

// nodeCPUStats gives the busy and the total CPU time of the host, in ns since it
// booted, summed over its CPUs.
func (c *client) nodeCPUStats(ctx context.Context) (busy, total uint64, err error) {
	ask := func(n uint32) (xdrReader, error) {
		c.begin()
		c.w.i32(-1) // all CPUs
		c.w.u32(n)
		c.w.u32(0)
		return c.call(ctx, procNodeGetCPUStats)
	}
	if c.nodeCPU == 0 {
		r, err := ask(0)
		if err != nil {
			return 0, 0, fmt.Errorf("node CPU stats: %w", err)
		}
		if c.nodeCPU, err = countOf(&r); err != nil {
			return 0, 0, fmt.Errorf("node CPU stats: %w", err)
		}
	}
	r, err := ask(c.nodeCPU)
	if err != nil {
		return 0, 0, fmt.Errorf("node CPU stats: %w", err)
	}
	err = fields(&r, func(name []byte, v uint64) {
		switch string(name) {
		case "idle", "iowait":
			total += v
		case "kernel", "user":
			busy += v
			total += v
		}
	})
	return busy, total, err
}

// nodeMemory gives the memory of the host that is in use and could not be given
// out by dropping caches, in bytes.
func (c *client) nodeMemory(ctx context.Context) (used uint64, ok bool, err error) {
	ask := func(n uint32) (xdrReader, error) {
		c.begin()
		c.w.u32(n)
		c.w.i32(-1) // all cells
		c.w.u32(0)
		return c.call(ctx, procNodeGetMemoryStats)
	}
	if c.nodeMem == 0 {
		r, err := ask(0)
		if err != nil {
			return 0, false, fmt.Errorf("node memory stats: %w", err)
		}
		if c.nodeMem, err = countOf(&r); err != nil {
			return 0, false, fmt.Errorf("node memory stats: %w", err)
		}
	}
	r, err := ask(c.nodeMem)
	if err != nil {
		return 0, false, fmt.Errorf("node memory stats: %w", err)
	}
	var total, free uint64
	err = fields(&r, func(name []byte, v uint64) {
		switch string(name) {
		case "total":
			total = v
		case "free", "buffers", "cached":
			free += v
		}
	})
	if err != nil || total == 0 || total > 1<<50 || free > total {
		return 0, false, err
	}
	return (total - free) << 10, true, nil
}

// versions gives libvirt's and the hypervisor's version.
func (c *client) versions(ctx context.Context) (lib, hypervisor uint64, err error) {
	r, err := c.call(ctx, procGetLibVersion)
	if err != nil {
		return 0, 0, fmt.Errorf("libvirt version: %w", err)
	}
	lib = r.u64()
	if r, err = c.call(ctx, procConnectGetVersion); err != nil {
		return lib, 0, fmt.Errorf("hypervisor version: %w", err)
	}
	return lib, r.u64(), r.err
}

// cpu gives the host's CPU model from its capabilities, and a digest of what it can do.
func (c *client) cpu(ctx context.Context) (model, can string, err error) {
	r, err := c.call(ctx, procGetCapabilities)
	if err != nil {
		return "", "", fmt.Errorf("capabilities: %w", err)
	}
	b := r.text()
	if r.err != nil {
		return "", "", fmt.Errorf("capabilities: %w", r.err)
	}
	return parseCapabilities(b)
}

// cpuModels gives the models of guest CPUs that the host can run, from the domain
// capabilities of its default emulator.
func (c *client) cpuModels(ctx context.Context) ([]string, error) {
	c.begin()
	for range 4 { // emulator, architecture, machine and type of virtualisation: the default ones
		c.w.u32(0)
	}
	c.w.u32(0)
	r, err := c.call(ctx, procGetDomainCaps)
	if err != nil {
		return nil, fmt.Errorf("domain capabilities: %w", err)
	}
	b := r.text()
	if r.err != nil {
		return nil, fmt.Errorf("domain capabilities: %w", r.err)
	}
	return parseDomainCapabilities(b)
}

// pool is one storage pool by name and UUID.
type pool struct {
	name string
	uuid [16]byte
}

func (c *client) pools(ctx context.Context) ([]pool, error) {
	const active = 2
	c.begin()
	c.w.i32(1)
	c.w.u32(active)
	r, err := c.call(ctx, procListAllPools)
	if err != nil {
		return nil, fmt.Errorf("storage pools: %w", err)
	}
	n := r.count(20)
	if n > maxPools {
		return nil, fmt.Errorf("storage pools: %d of them, at most %d are believed", n, maxPools)
	}
	ps := make([]pool, 0, n)
	for ; n > 0 && r.err == nil; n-- {
		var p pool
		b := r.text()
		p.name = clean(b, maxName)
		copy(p.uuid[:], r.opaque(16))
		ps = append(ps, p)
	}
	if r.err != nil {
		return nil, fmt.Errorf("storage pools: %w", r.err)
	}
	return ps, nil
}

const maxPools = 256

func (c *client) poolArg(p pool) {
	c.begin()
	c.w.text(p.name)
	c.w.opaque(p.uuid[:])
}

// poolSpace gives the capacity and the free space of a pool.
func (c *client) poolSpace(ctx context.Context, p pool) (capacity, free schemas.Bytes, err error) {
	c.poolArg(p)
	r, err := c.call(ctx, procStoragePoolInfo)
	if err != nil {
		return 0, 0, fmt.Errorf("storage pool %s: %w", p.name, err)
	}
	r.u32() // state
	total := r.u64()
	r.u64() // allocation
	avail := r.u64()
	if r.err == nil && (total > 1<<60 || avail > total) {
		return 0, 0, fmt.Errorf("storage pool %s: %d bytes free of %d is not believable", p.name, avail, total)
	}
	return schemas.Bytes(total), schemas.Bytes(avail), r.err
}

func (c *client) poolXML(ctx context.Context, p pool) ([]byte, error) {
	c.poolArg(p)
	c.w.u32(0)
	r, err := c.call(ctx, procStoragePoolXML)
	if err != nil {
		return nil, fmt.Errorf("storage pool %s: %w", p.name, err)
	}
	b := r.text()
	return b, r.err
}

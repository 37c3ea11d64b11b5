package domain

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"time"

	"github.com/digitalocean/go-libvirt"

	"github.com/foreshift/foreshift/schemas"
)

// How often what changes seldom is asked again.
const (
	factsAge     = 5 * time.Minute  // descriptions of VMs
	poolsAge     = time.Minute      // space of storage pools
	balloonAge   = 5 * time.Minute  // a guest that reported nothing for so long is not believed
	refreshBurst = 8                // descriptions renewed in one poll, besides new VMs
	dirtyRest    = 10 * time.Minute // pause after libvirt refused a measurement
	jobRest      = 30 * time.Second // pause after asking for a job timed out
	backoffMin   = time.Second
	backoffMax   = time.Minute
)

// errBackingOff says that the host is not due to be dialled again.
var errBackingOff = errors.New("backing off")

// vmMemory is what is remembered of a VM from poll to poll.
type vmMemory struct {
	facts      facts
	known      bool
	factsAt    time.Time
	state      int
	vcpus      int
	polled     uint64 // number of the poll that saw it last
	migrating  bool
	jobAfter   time.Time // ask for its job not before
	dirtyAfter time.Time // measure its dirty rate not before
	dirtyStart uint64    // start of the last measurement that was reported
	dirtyRate  float64   // bytes/s, smoothed; 0 = not measured
	dirtyHigh  float64   // bytes/s, about the .9 quantile
	balloon    uint64
	balloonAt  time.Time
	stale      bool // the balloon's report is
}

// report is one poll of one host. It is valid until the next poll.
type report struct {
	at       time.Time // middle of the statistics call
	vms      []sample
	memory   map[schemas.VMID]*vmMemory
	capacity schemas.CapacityHost // without use
	cpus     int
	busy     uint64 // ns
	total    uint64 // ns; 0 = unknown
	memUsed  uint64
	memOK    bool
}

// host polls one libvirt host. Only one poll runs at a time.
type host struct {
	cfg     *Host
	opt     *options
	c       *client
	wait    time.Duration // current back-off
	retryAt time.Time

	noWait    bool // the daemon knows the flag
	noJobs    bool // and these calls
	noDirty   bool
	node      nodeInfo
	libVer    uint64
	hvVer     uint64
	model     string
	cpuDigest string
	models    []string // of guest CPUs that it can run

	samples []sample
	vms     map[schemas.VMID]*vmMemory
	polls   uint64
	next    int // round-robin of the dirty rate
	pools   []schemas.StoragePool
	kinds   map[[16]byte]schemas.StoragePool
	poolsAt time.Time
}

// options are what all hosts share.
type options struct {
	timeout  time.Duration
	dirty    int
	shared   []string
	vmLabels map[string]map[string]string
}

func newHost(cfg *Host, opt *options) *host {
	return &host{cfg: cfg, opt: opt, vms: map[schemas.VMID]*vmMemory{}, kinds: map[[16]byte]schemas.StoragePool{}}
}

// poll asks the host once. An error that is not the daemon's answer drops the
// connection; the next poll dials anew, after a back-off.
func (h *host) poll(ctx context.Context) (*report, error) {
	if h.c == nil {
		if time.Now().Before(h.retryAt) {
			return nil, errBackingOff
		}
		if err := h.connect(ctx); err != nil {
			h.drop()
			return nil, err
		}
	}
	r, err := h.ask(ctx)
	if err != nil {
		h.drop()
		return nil, err
	}
	h.wait = 0
	return r, nil
}

// drop closes the connection and sets when to dial again: 1 s doubling to 1 min,
// spread by the host's name, so that many agents do not knock at once.
func (h *host) drop() {
	if h.c != nil {
		h.c.conn.Close()
		h.c = nil
	}
	h.wait = min(max(2*h.wait, backoffMin), backoffMax)
	f := fnv.New32a()
	f.Write([]byte(h.cfg.ID))
	spread := time.Duration(f.Sum32()%256) * h.wait / 1024
	h.retryAt = time.Now().Add(h.wait + spread)
}

func (h *host) close() {
	if h.c != nil {
		h.c.close()
		h.c = nil
	}
}

// connect dials and asks what does not change while the daemon lives.
func (h *host) connect(ctx context.Context) error {
	c, err := dial(ctx, h.cfg.URI, h.opt.dirty == 0, h.opt.timeout)
	if err != nil {
		return err
	}
	h.c = c
	h.noWait, h.noJobs, h.noDirty = true, false, false
	if h.node, err = c.nodeInfo(ctx); soft(err) != nil {
		return err
	}
	if h.libVer, h.hvVer, err = c.versions(ctx); soft(err) != nil {
		return err
	}
	if h.model, h.cpuDigest, err = c.cpu(ctx); soft(err) != nil {
		return err
	}
	if h.models, err = c.cpuModels(ctx); soft(err) != nil {
		return err
	}
	return nil
}

// soft passes over what the daemon merely refused: the connection is sound and
// the quantity is missing.
func soft(err error) error {
	var re *remoteError
	if errors.As(err, &re) {
		return nil
	}
	return err
}

func (h *host) ask(ctx context.Context) (*report, error) {
	begin := time.Now()
	vms, err := h.c.allStats(ctx, h.noWait, h.samples)
	if unsupported(err) && h.noWait {
		h.noWait = false
		begin = time.Now()
		vms, err = h.c.allStats(ctx, false, h.samples)
	}
	if err != nil {
		return nil, err
	}
	end := time.Now()
	vms = unique(vms)
	h.samples = vms
	h.polls++
	r := &report{at: begin.Add(end.Sub(begin) / 2), vms: vms, memory: h.vms, cpus: h.node.cpus}
	if err := h.askNode(ctx, r); err != nil {
		return nil, err
	}
	burst := refreshBurst
	for i := range vms {
		if err := h.askVM(ctx, &vms[i], end, &burst); err != nil {
			return nil, err
		}
	}
	for id, m := range h.vms {
		if m.polled != h.polls {
			delete(h.vms, id)
		}
	}
	if err := h.askPools(ctx, end); err != nil {
		return nil, err
	}
	if err := h.askDirty(ctx, end); err != nil {
		return nil, err
	}
	h.fill(r)
	return r, nil
}

// unique keeps the first of the VMs that share a UUID: one host cannot carry two.
func unique(vms []sample) []sample {
	seen := make(map[schemas.VMID]struct{}, len(vms))
	kept := 0
	for i := range vms {
		if _, double := seen[vms[i].vm]; double {
			continue
		}
		seen[vms[i].vm] = struct{}{}
		if kept != i {
			vms[kept], vms[i] = vms[i], vms[kept]
		}
		kept++
	}
	return vms[:kept]
}

func (h *host) askNode(ctx context.Context, r *report) (err error) {
	if r.busy, r.total, err = h.c.nodeCPUStats(ctx); soft(err) != nil {
		return err
	} else if err != nil {
		r.busy, r.total = 0, 0
	}
	if r.memUsed, r.memOK, err = h.c.nodeMemory(ctx); soft(err) != nil {
		return err
	}
	return nil
}

// askVM renews what is remembered of a VM: its description when it is new, has
// changed or is old; whether a migration of it runs.
func (h *host) askVM(ctx context.Context, s *sample, now time.Time, burst *int) error {
	m := h.vms[s.vm]
	if m == nil {
		m = &vmMemory{balloonAt: now}
		h.vms[s.vm] = m
	}
	m.polled = h.polls
	if s.balloonUpdate != m.balloon {
		m.balloon, m.balloonAt = s.balloonUpdate, now
	}
	m.stale = s.balloonUpdate != 0 && now.Sub(m.balloonAt) > balloonAge
	changed := m.state != s.state || m.vcpus != s.vcpus
	if !m.known || (changed || now.Sub(m.factsAt) > factsAge) && *burst > 0 {
		if m.known {
			*burst--
		}
		if err := h.askFacts(ctx, s, m, now); err != nil {
			return err
		}
	}
	m.migrating = m.migrating && now.Before(m.jobAfter)
	switch {
	case !s.active():
		m.migrating = false
		return nil
	case s.inMigration():
		m.migrating = true
		return nil
	case h.noJobs || now.Before(m.jobAfter):
		return nil
	}
	running, err := h.c.migrationJob(ctx, s)
	if err == nil {
		m.migrating = running
		return nil
	}
	if soft(err) != nil {
		// Libvirt answers nothing about a job whose link is cut. The VM counts as
		// migrating and the question rests, so that the next poll gets through.
		m.migrating, m.jobAfter = true, now.Add(jobRest)
		return err
	}
	h.noJobs = unknownCall(err)
	return nil
}

func (h *host) askFacts(ctx context.Context, s *sample, m *vmMemory, now time.Time) error {
	b, err := h.c.domainXML(ctx, s)
	if err != nil {
		return soft(err) // the VM went away in between, or may not be read: asked again
	}
	f, err := parseDomain(b, h.opt.shared)
	if err != nil {
		f = facts{pinned: clean([]byte("its description cannot be read: "+err.Error()), maxText), disks: []schemas.VMDisk{}}
	}
	if f.persistent, err = h.c.persistent(ctx, s); soft(err) != nil {
		return err
	}
	for _, key := range [2]string{s.name, s.vm.String()} {
		for k, v := range h.opt.vmLabels[key] {
			if f.labels == nil {
				f.labels = map[string]string{}
			}
			f.labels[k] = v
		}
	}
	m.facts, m.known, m.factsAt, m.state, m.vcpus = f, true, now, s.state, s.vcpus
	return nil
}

func (h *host) askPools(ctx context.Context, now time.Time) error {
	if !h.poolsAt.IsZero() && now.Sub(h.poolsAt) < poolsAge {
		return nil
	}
	list, err := h.c.pools(ctx)
	if err != nil {
		h.poolsAt = now
		return soft(err)
	}
	pools := make([]schemas.StoragePool, 0, len(list))
	seen := make(map[[16]byte]schemas.StoragePool, len(list))
	for _, p := range list {
		sp, known := h.kinds[p.uuid]
		if !known {
			b, err := h.c.poolXML(ctx, p)
			if err == nil {
				sp, err = parsePool(b, h.opt.shared)
			} else if soft(err) != nil {
				return err
			}
			if err != nil {
				continue
			}
			sp.Name = p.name
		}
		if sp.Capacity, sp.Free, err = h.c.poolSpace(ctx, p); err != nil {
			if soft(err) != nil {
				return err
			}
			continue // stopped in between
		}
		seen[p.uuid] = sp
		pools = append(pools, sp)
	}
	h.pools, h.kinds, h.poolsAt = pools, seen, now
	return nil
}

// askDirty starts the next few dirty rate measurements in turn.
func (h *host) askDirty(ctx context.Context, now time.Time) error {
	left := h.opt.dirty
	for i := 0; i < len(h.samples) && left > 0 && !h.noDirty; i++ {
		h.next++
		s := &h.samples[h.next%len(h.samples)]
		m := h.vms[s.vm]
		if libvirt.DomainState(s.state) != libvirt.DomainRunning || m == nil || m.migrating || now.Before(m.dirtyAfter) {
			continue
		}
		left--
		if s.dirtyStatus == dirtyMeasuring {
			continue // the one before has not ended: wait for its result
		}
		err := h.c.startDirtyRate(ctx, s)
		if soft(err) != nil {
			return err
		}
		if err != nil {
			m.dirtyAfter = now.Add(dirtyRest)
			h.noDirty = unknownCall(err)
		}
	}
	return nil
}

// States of a dirty rate measurement (virDomainDirtyRateStatus).
const (
	dirtyMeasuring = 1
	dirtyMeasured  = 2
)

// dirty gives the VM's dirty rate in bytes/s when a new measurement has ended.
func (m *vmMemory) dirty(s *sample) (float64, bool) {
	if s.has&hasDirty == 0 || s.dirtyStatus != dirtyMeasured || s.dirtyStart == m.dirtyStart || s.dirtyRate > 1<<24 {
		return 0, false
	}
	m.dirtyStart = s.dirtyStart
	rate := float64(s.dirtyRate) * (1 << 20)
	m.smooth(rate)
	return rate, true
}

// How measurements of the dirty rate are smoothed.
const (
	dirtyAlpha = .3      // weight of the newest
	dirtyStep  = .2      // of the quantile tracker, relative to the quantile
	dirtyLeast = 1 << 18 // bytes/s: libvirt rounds to MiB/s, and less than half of one is not nothing
	dirtyLevel = .9      // of the quantile
)

// smooth takes in a measurement: an exponentially weighted mean, and a quantile
// that rises by .9 of a step when it is exceeded and falls by .1 when it is not.
func (m *vmMemory) smooth(rate float64) {
	rate = max(rate, dirtyLeast)
	if m.dirtyRate == 0 {
		m.dirtyRate, m.dirtyHigh = rate, rate
		return
	}
	m.dirtyRate += dirtyAlpha * (rate - m.dirtyRate)
	step := dirtyStep * m.dirtyHigh
	if rate > m.dirtyHigh {
		m.dirtyHigh += step * dirtyLevel
	} else {
		m.dirtyHigh -= step * (1 - dirtyLevel)
	}
	m.dirtyHigh = max(m.dirtyHigh, m.dirtyRate)
}

// String names the host in errors.
func (h *host) String() string { return fmt.Sprintf("host %s (%s)", h.cfg.ID, h.cfg.URI) }

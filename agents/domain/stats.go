package domain

import (
	"bytes"
	"context"
	"fmt"
	"strings"

	"github.com/digitalocean/go-libvirt"

	"github.com/foreshift/foreshift/schemas"
)

// Bounds on what one host may claim. Beyond them a reply is refused, since it is
// more likely broken than true.
const (
	maxVMs   = schemas.MaxInventory
	maxDisks = 256
	maxVCPUs = 8192
	maxName  = schemas.MaxName
)

// clean bounds foreign text and makes it valid UTF-8.
func clean(b []byte, most int) string {
	if len(b) > most {
		b = b[:most]
	}
	return strings.ToValidUTF8(string(b), "?")
}

// has marks the quantities that a reply held; what is not there is missing,
// never zero.
type has uint16

const (
	hasCPU has = 1 << iota
	hasDelay
	hasAvailable
	hasUsable
	hasUnused
	hasRSS
	hasSwap
	hasNet
	hasDisk
	hasMaximum
	hasDirty
)

// sample is what one GetAllDomainStats says of one VM. Counters are cumulative
// since the VM started on this host.
type sample struct {
	name string
	vm   schemas.VMID
	id   int32 // libvirt's number of the running VM, -1 when it does not run
	has  has

	state, reason int

	cpuTime, delay               uint64 // ns
	vcpus                        int    // present now
	available, usable, unused    uint64 // bytes, as the guest's balloon driver says
	rss, maximum                 uint64 // bytes
	swapIn, swapOut              uint64 // bytes, cumulative
	balloonUpdate                uint64 // s, when the guest last reported; 0 = unknown
	netRx, netTx, diskRd, diskWr uint64 // bytes
	dirtyStatus                  int
	dirtyStart                   uint64 // s
	dirtyRate                    uint64 // MiB/s
	disks                        []diskStat
}

// diskStat is the size of one disk.
type diskStat struct {
	target   string
	capacity uint64
}

const statGroups = uint32(libvirt.DomainStatsState | libvirt.DomainStatsCPUTotal | libvirt.DomainStatsBalloon |
	libvirt.DomainStatsVCPU | libvirt.DomainStatsInterface | libvirt.DomainStatsBlock | libvirt.DomainStatsDirtyrate)

// allStats fetches the statistics of all domains, running or not, in one call.
// The samples are written over those of the call before; names are reused when
// they are the same. With noWait a guest that another job holds gives what can
// be told at once, and does not hold up the others.
func (c *client) allStats(ctx context.Context, noWait bool, into []sample) ([]sample, error) {
	var flags uint32
	if noWait {
		flags = uint32(libvirt.ConnectGetAllDomainsStatsNowait)
	}
	c.begin()
	c.w.u32(0) // all domains
	c.w.u32(statGroups)
	c.w.u32(flags)
	r, err := c.call(ctx, procGetAllDomainStats)
	if err != nil {
		return into[:0], fmt.Errorf("domain stats: %w", err)
	}
	return decodeStats(&r, into)
}

func decodeStats(r *xdrReader, into []sample) ([]sample, error) {
	n := r.count(28)
	if n > maxVMs {
		return into[:0], fmt.Errorf("domain stats: %d domains, at most %d are believed", n, maxVMs)
	}
	old := into[:cap(into)]
	into = into[:0]
	for i := 0; i < n && r.err == nil; i++ {
		if i < len(old) {
			into = append(into, old[i])
		} else {
			into = append(into, sample{})
		}
		into[i].decode(r)
		if s := &into[i]; r.err == nil && s.vm.IsZero() {
			return into[:0], fmt.Errorf("domain stats: VM %q has no UUID", s.name)
		}
	}
	if r.err != nil {
		return into[:0], fmt.Errorf("domain stats: %w", r.err)
	}
	return into, nil
}

func (s *sample) decode(r *xdrReader) {
	name, disks := s.name, s.disks[:0]
	*s = sample{disks: disks, name: name}
	if b := r.text(); string(b) != name {
		s.name = clean(b, maxName)
	}
	copy(s.vm[:], r.opaque(16))
	s.id = r.i32()
	for n := r.count(12); n > 0 && r.err == nil; n-- {
		p := r.param()
		s.take(&p)
	}
}

// take folds one typed parameter. Names are those of virConnectGetAllDomainStats
// (libvirt.org/html/libvirt-libvirt-domain.html); unknown ones are passed over.
func (s *sample) take(p *param) {
	group, rest, _ := bytes.Cut(p.name, dot)
	v, ok := p.count()
	switch string(group) {
	case "state":
		if !ok {
			return
		}
		switch string(rest) {
		case "state":
			s.state = int(min(v, 1<<20))
		case "reason":
			s.reason = int(min(v, 1<<20))
		}
	case "cpu":
		if ok && string(rest) == "time" {
			s.cpuTime, s.has = v, s.has|hasCPU
		}
	case "vcpu":
		if !ok {
			return
		}
		if string(rest) == "current" {
			s.vcpus = int(min(v, maxVCPUs))
		} else if field(rest, "delay") {
			s.delay, s.has = s.delay+v, s.has|hasDelay
		}
	case "net":
		switch {
		case !ok:
		case field(rest, "rx.bytes"):
			s.netRx, s.has = s.netRx+v, s.has|hasNet
		case field(rest, "tx.bytes"):
			s.netTx, s.has = s.netTx+v, s.has|hasNet
		}
	case "block":
		s.block(p, rest, v, ok)
	case "balloon":
		if ok {
			s.balloon(rest, v)
		}
	case "dirtyrate":
		if !ok {
			return
		}
		switch string(rest) {
		case "calc_status":
			s.dirtyStatus = int(min(v, 1<<20))
		case "calc_start_time":
			s.dirtyStart = v
		case "megabytes_per_second":
			s.dirtyRate, s.has = v, s.has|hasDirty
		}
	}
}

var dot = []byte{'.'}

// field reports whether "3.rx.bytes" ends in the field after the index.
func field(rest []byte, name string) bool {
	_, f, ok := bytes.Cut(rest, dot)
	return ok && string(f) == name
}

func (s *sample) block(p *param, rest []byte, v uint64, ok bool) {
	_, f, indexed := bytes.Cut(rest, dot)
	if !indexed {
		return
	}
	switch string(f) {
	case "name":
		if len(s.disks) < maxDisks {
			// The name of the same place in the sample before saves an allocation.
			if n := len(s.disks); n < cap(s.disks) && s.disks[:n+1][n].target == string(p.text) {
				s.disks = s.disks[:n+1]
				s.disks[n].capacity = 0
				return
			}
			s.disks = append(s.disks, diskStat{target: clean(p.text, maxName)})
		}
	case "rd.bytes":
		if ok {
			s.diskRd, s.has = s.diskRd+v, s.has|hasDisk
		}
	case "wr.bytes":
		if ok {
			s.diskWr, s.has = s.diskWr+v, s.has|hasDisk
		}
	case "capacity":
		if n := len(s.disks); ok && n > 0 {
			s.disks[n-1].capacity = v
		}
	}
}

// balloon folds memory statistics; libvirt gives KiB.
func (s *sample) balloon(rest []byte, v uint64) {
	const most = 1 << 50 // KiB: beyond it the number is not memory
	if v > most && string(rest) != "last-update" {
		return
	}
	switch string(rest) {
	case "maximum":
		s.maximum, s.has = v<<10, s.has|hasMaximum
	case "available":
		s.available, s.has = v<<10, s.has|hasAvailable
	case "usable":
		s.usable, s.has = v<<10, s.has|hasUsable
	case "unused":
		s.unused, s.has = v<<10, s.has|hasUnused
	case "rss":
		s.rss, s.has = v<<10, s.has|hasRSS
	case "swap_in":
		s.swapIn, s.has = v<<10, s.has|hasSwap
	case "swap_out":
		s.swapOut, s.has = v<<10, s.has|hasSwap
	case "last-update":
		s.balloonUpdate = v
	}
}

// used is the memory the guest uses: what its kernel manages less what it could
// give out without swapping ("usable", MemAvailable), or less what is free on
// older guests; the resident set where no balloon driver answers or its report
// is stale. False: nobody knows.
func (s *sample) used(stale bool) (uint64, bool) {
	if !stale && s.has&hasAvailable != 0 && s.available > 0 {
		switch {
		case s.has&hasUsable != 0 && s.usable <= s.available:
			return s.available - s.usable, true
		case s.has&hasUnused != 0 && s.unused <= s.available:
			return s.available - s.unused, true
		}
	}
	if s.has&hasRSS != 0 {
		return s.rss, true
	}
	return 0, false
}

// swapped is what the guest has swapped out and not taken back. The counters
// also hold pages that were written twice, so it is an upper estimate.
func (s *sample) swapped() (uint64, bool) {
	if s.has&hasSwap == 0 {
		return 0, false
	}
	if s.swapOut < s.swapIn {
		return 0, true
	}
	return s.swapOut - s.swapIn, true
}

// active reports whether the VM has a process on the host.
func (s *sample) active() bool { return s.id >= 0 && s.state != int(libvirt.DomainShutoff) }

// vmState puts libvirt's state into the words of the schema.
func (s *sample) vmState() schemas.VMState {
	switch libvirt.DomainState(s.state) {
	case libvirt.DomainRunning, libvirt.DomainBlocked:
		return schemas.VMRunning
	case libvirt.DomainPaused, libvirt.DomainPmsuspended:
		return schemas.VMPaused
	case libvirt.DomainShutdown:
		return schemas.VMStopping
	case libvirt.DomainShutoff:
		return schemas.VMShutOff
	case libvirt.DomainCrashed:
		return schemas.VMCrashed
	}
	return schemas.VMOther
}

// inMigration reports whether the reason of the pause is a migration.
func (s *sample) inMigration() bool {
	if libvirt.DomainState(s.state) != libvirt.DomainPaused {
		return false
	}
	switch libvirt.DomainPausedReason(s.reason) {
	case libvirt.DomainPausedMigration, libvirt.DomainPausedPostcopy, libvirt.DomainPausedPostcopyFailed:
		return true
	}
	return false
}

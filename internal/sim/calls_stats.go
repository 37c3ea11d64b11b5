package sim

import (
	"strconv"

	"github.com/foreshift/foreshift/internal/sim/rpc"
	"github.com/foreshift/foreshift/internal/sim/world"
	"github.com/foreshift/foreshift/schemas"
)

// Groups of GetAllDomainStats, as in libvirt/libvirt-domain.h.
const (
	statState     = 1
	statCPU       = 2
	statBalloon   = 4
	statVCPU      = 8
	statInterface = 16
	statBlock     = 32
	statDirtyRate = 512
	statKnown     = 1023
	statAll       = 1<<31 - 1
	enforceStats  = 1 << 31
)

// allStats is ConnectGetAllDomainStats: the domains named, or all that the flags
// let through, each with the groups asked for (none asked: all).
func allStats(r *request) error {
	doms := r.in.Domains()
	groups, flags := r.in.U32(), r.in.U32()
	if err := r.args(); err != nil {
		return err
	}
	if groups == 0 {
		groups = statAll
	} else if groups&^statKnown != 0 && flags&enforceStats != 0 {
		return rpc.Errorf(rpc.CodeNoSupport, "this function is not supported by the connection driver: Stats types bits 0x%x are not supported", groups&^statKnown)
	}
	type one struct {
		dom  rpc.Domain
		spec *world.VMSpec
		st   [2]int32
		up   bool
		m    world.Reading
	}
	// Readings are taken under the lock; the reply is written outside of it.
	f := r.d.f
	f.lock()
	if r.d.world.Down() {
		f.unlock()
		return rpc.ErrNoReply
	}
	var list []one
	add := func(g *world.Guest) {
		o := one{dom: domainOf(g), spec: g.VM, st: [2]int32{g.State, g.Reason}, up: g.Active()}
		if o.up {
			o.m = g.Read()
		}
		list = append(list, o)
	}
	if len(doms) > 0 {
		for _, d := range doms {
			if g := r.d.world.Find(d.UUID); g != nil { // one that is gone is left out, as libvirt does
				add(g)
			}
		}
	} else {
		guests := r.d.world.Guests()
		list = make([]one, 0, len(guests))
		for _, g := range guests {
			if matches(g, flags) {
				add(g)
			}
		}
	}
	f.unlock()

	r.out.U32(uint32(len(list)))
	for i := range list {
		o := &list[i]
		r.out.Domain(o.dom)
		w := paramWriter{e: r.out, at: r.out.Count()}
		if groups&statState != 0 {
			w.int("state.state", o.st[0])
			w.int("state.reason", o.st[1])
		}
		w.domain(o.spec, &o.m, f.diskPath(o.spec.Name), o.up, groups)
		r.out.SetCount(w.at, w.n)
	}
	return nil
}

// paramWriter appends typed parameters and counts them.
type paramWriter struct {
	e  *rpc.Encoder
	at int
	n  int
}

func (w *paramWriter) int(k string, v int32)  { w.n++; w.e.Param(rpc.Int(k, v)) }
func (w *paramWriter) uint(k string, v int)   { w.n++; w.e.Param(rpc.Uint(k, uint32(v))) }
func (w *paramWriter) u64(k string, v uint64) { w.n++; w.e.Param(rpc.Ullong(k, v)) }
func (w *paramWriter) i64(k string, v int64)  { w.n++; w.e.Param(rpc.Llong(k, v)) }
func (w *paramWriter) str(k string, v string) { w.n++; w.e.Param(rpc.String(k, v)) }

func (w *paramWriter) domain(s *world.VMSpec, m *world.Reading, disk string, up bool, groups uint32) {
	if groups&statCPU != 0 && up {
		w.u64("cpu.time", uint64(m.CPU))
		w.u64("cpu.user", uint64(m.CPU*.9))
		w.u64("cpu.system", uint64(m.CPU*.1))
	}
	if groups&statBalloon != 0 {
		kib := uint64(s.Mem) / 1024
		w.u64("balloon.current", kib)
		w.u64("balloon.maximum", kib)
		if up {
			b := balloonFrom(s, m)
			w.u64("balloon.swap_in", 0)
			w.u64("balloon.swap_out", 0)
			w.u64("balloon.unused", b.unused)
			w.u64("balloon.available", b.available)
			w.u64("balloon.usable", b.usable)
			w.u64("balloon.last-update", b.updated)
			w.u64("balloon.disk_caches", b.caches)
			w.u64("balloon.rss", b.rss)
		}
	}
	if groups&statVCPU != 0 {
		w.vcpus(s, m, up)
	}
	if groups&statInterface != 0 && up {
		w.uint("net.count", 1)
		w.str("net.0.name", "vnet0")
		w.u64("net.0.rx.bytes", uint64(m.NetRx))
		w.u64("net.0.rx.pkts", uint64(m.NetRx/900))
		w.u64("net.0.rx.errs", 0)
		w.u64("net.0.rx.drop", 0)
		w.u64("net.0.tx.bytes", uint64(m.NetTx))
		w.u64("net.0.tx.pkts", uint64(m.NetTx/900))
		w.u64("net.0.tx.errs", 0)
		w.u64("net.0.tx.drop", 0)
	}
	if groups&statBlock != 0 {
		w.uint("block.count", 1)
		w.str("block.0.name", "vda")
		w.str("block.0.path", disk)
		if up {
			w.u64("block.0.rd.reqs", uint64(m.DiskRd/16384))
			w.u64("block.0.rd.bytes", uint64(m.DiskRd))
			w.u64("block.0.rd.times", uint64(m.DiskRd*2))
			w.u64("block.0.wr.reqs", uint64(m.DiskWr/16384))
			w.u64("block.0.wr.bytes", uint64(m.DiskWr))
			w.u64("block.0.wr.times", uint64(m.DiskWr*3))
			w.u64("block.0.allocation", uint64(s.Disk*.6))
			w.u64("block.0.capacity", uint64(s.Disk))
			w.u64("block.0.physical", uint64(s.Disk*.6))
		}
	}
	if groups&statDirtyRate != 0 && up {
		w.int("dirtyrate.calc_status", m.DirtyStatus)
		w.i64("dirtyrate.calc_start_time", m.DirtyStart/1e9)
		w.int("dirtyrate.calc_period", m.DirtyPeriod)
		if m.DirtyStatus == 2 {
			w.str("dirtyrate.calc_mode", "page-sampling")
			w.i64("dirtyrate.megabytes_per_second", m.DirtyRate)
		}
	}
}

// vcpuKeys are the names of the first vCPUs' fields, made once.
var vcpuKeys = func() (k [64][4]string) {
	for i := range k {
		k[i] = vcpuKey(i)
	}
	return k
}()

func vcpuKey(i int) [4]string {
	p := "vcpu." + strconv.Itoa(i) + "."
	return [4]string{p + "state", p + "time", p + "wait", p + "delay"}
}

func (w *paramWriter) vcpus(s *world.VMSpec, m *world.Reading, up bool) {
	w.uint("vcpu.current", s.VCPUs)
	w.uint("vcpu.maximum", s.VCPUs)
	if !up {
		return
	}
	n := float64(s.VCPUs)
	for i := 0; i < s.VCPUs; i++ {
		var k [4]string
		if i < len(vcpuKeys) {
			k = vcpuKeys[i]
		} else {
			k = vcpuKey(i)
		}
		w.int(k[0], 1)
		w.u64(k[1], uint64(m.CPU/n))
		w.u64(k[2], 0)
		w.u64(k[3], uint64(m.Delay/n))
	}
}

// balloon is what a guest's balloon driver reports, in KiB and seconds.
type balloon struct{ unused, available, usable, current, rss, updated, caches uint64 }

// balloonFrom splits the guest's memory: what it uses is available - usable; a
// tenth of the rest is cache.
func balloonFrom(s *world.VMSpec, m *world.Reading) balloon {
	total := uint64(s.Mem) / 1024
	usable := total - min(total, uint64(m.Memory)/1024)
	return balloon{available: total, usable: usable, unused: usable - usable/10, caches: usable / 10, current: total,
		rss: uint64(m.Resident) / 1024, updated: uint64(schemas.Time(m.Balloon).Std().Unix())}
}

func balloonOf(g *world.Guest) balloon {
	m := g.Read()
	return balloonFrom(g.VM, &m)
}

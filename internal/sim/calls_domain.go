package sim

import (
	"github.com/foreshift/foreshift/internal/sim/rpc"
	"github.com/foreshift/foreshift/internal/sim/world"
	"github.com/foreshift/foreshift/schemas"
)

// matches says whether a guest passes the filter flags of ListAllDomains and
// GetAllDomainStats: groups active/inactive, persistent/transient, state; the
// groups have the same bits in both calls save their position.
func matches(g *world.Guest, f uint32) bool {
	in := func(group uint32, bit uint32) bool { return f&group == 0 || f&bit != 0 }
	pick := func(cond bool, yes, no uint32) uint32 {
		if cond {
			return yes
		}
		return no
	}
	state := uint32(128)
	switch g.State {
	case world.Running:
		state = 16
	case world.Paused:
		state = 32
	case world.Shutoff:
		state = 64
	}
	return in(1|2, pick(g.Active(), 1, 2)) && in(4|8, pick(g.Persistent, 4, 8)) && in(16|32|64|128, state)
}

var domainCalls = map[rpc.Proc]handler{
	rpc.ConnectListAllDomains: locked(func(r *request) error {
		results, flags := r.in.I32(), r.in.U32()
		if err := r.args(); err != nil {
			return err
		}
		at, n := r.out.Count(), 0
		for _, g := range r.d.world.Guests() {
			// Managed save, autostart and snapshots: nobody has any.
			if flags&(256|1024|4096) != 0 || !matches(g, flags) {
				continue
			}
			n++
			if results != 0 {
				r.out.Domain(domainOf(g))
			}
		}
		if results != 0 {
			r.out.SetCount(at, n)
		}
		r.out.U32(uint32(n))
		return nil
	}),
	rpc.ConnectNumOfDomains: locked(func(r *request) error {
		n := int32(0)
		for _, g := range r.d.world.Guests() {
			if g.Active() {
				n++
			}
		}
		r.out.I32(n)
		return nil
	}),
	rpc.ConnectListDomains: locked(func(r *request) error {
		most := r.in.I32()
		if err := r.args(); err != nil {
			return err
		}
		at, n := r.out.Count(), 0
		for _, g := range r.d.world.Guests() {
			if g.Active() && n < int(most) {
				r.out.I32(g.ID)
				n++
			}
		}
		r.out.SetCount(at, n)
		return nil
	}),
	rpc.ConnectNumOfDefinedDomains: locked(func(r *request) error {
		n := int32(0)
		for _, g := range r.d.world.Guests() {
			if !g.Active() {
				n++
			}
		}
		r.out.I32(n)
		return nil
	}),
	rpc.ConnectListDefinedDomains: locked(func(r *request) error {
		most := r.in.I32()
		if err := r.args(); err != nil {
			return err
		}
		at, n := r.out.Count(), 0
		for _, g := range r.d.world.Guests() {
			if !g.Active() && n < int(most) {
				r.out.Str(g.VM.Name)
				n++
			}
		}
		r.out.SetCount(at, n)
		return nil
	}),
	rpc.DomainLookupByID: locked(func(r *request) error {
		id := r.in.I32()
		if err := r.args(); err != nil {
			return err
		}
		for _, g := range r.d.world.Guests() {
			if g.Active() && g.ID == id {
				r.out.Domain(domainOf(g))
				return nil
			}
		}
		return notFound("id", itoa(int(id)))
	}),
	rpc.DomainLookupByName: locked(func(r *request) error {
		name := r.in.Str()
		if err := r.args(); err != nil {
			return err
		}
		g := r.d.world.FindName(name)
		if g == nil {
			return notFound("name", name)
		}
		r.out.Domain(domainOf(g))
		return nil
	}),
	rpc.DomainLookupByUUID: locked(func(r *request) error {
		id := r.in.UUID()
		if err := r.args(); err != nil {
			return err
		}
		g := r.d.world.Find(id)
		if g == nil {
			return notFound("uuid", schemas.VMID(id).String())
		}
		r.out.Domain(domainOf(g))
		return nil
	}),
	rpc.DomainGetState: onGuest(func(r *request, g *world.Guest) *rpc.Error {
		r.out.I32(g.State)
		r.out.I32(g.Reason)
		return nil
	}),
	rpc.DomainGetInfo: onGuest(func(r *request, g *world.Guest) *rpc.Error {
		m := g.Read()
		r.out.U32(uint32(g.State))
		r.out.U64(uint64(g.VM.Mem) / 1024)
		r.out.U64(uint64(g.VM.Mem) / 1024)
		r.out.U32(uint32(g.VM.VCPUs))
		r.out.U64(uint64(m.CPU))
		return nil
	}),
	rpc.DomainGetXMLDesc: onGuest(func(r *request, g *world.Guest) *rpc.Error {
		r.out.Str(r.d.f.domainXML(g))
		return nil
	}),
	rpc.DomainGetMetadata: onGuest(func(r *request, g *world.Guest) *rpc.Error {
		kind := r.in.I32()
		uri, _ := r.in.Opt()
		if kind != 2 || uri != labelNamespace { // VIR_DOMAIN_METADATA_ELEMENT
			return rpc.Errorf(rpc.CodeNoMetadata, "metadata not found: Requested metadata element is not present")
		}
		r.out.Str(labelsXML(r.d.f.labels(g)))
		return nil
	}),
	rpc.DomainMemoryStats: onGuest(func(r *request, g *world.Guest) *rpc.Error {
		most := int(r.in.U32())
		if !g.Active() {
			return rpc.Errorf(rpc.CodeOperationInvalid, "Requested operation is not valid: domain is not running")
		}
		b := balloonOf(g)
		stats := []struct {
			tag   int32
			value uint64
		}{{0, 0}, {1, 0}, {4, b.unused}, {5, b.available}, {6, b.current}, {7, b.rss}, {8, b.usable}, {9, b.updated}, {10, b.caches}}
		stats = stats[:min(most, len(stats))]
		r.out.U32(uint32(len(stats)))
		for _, s := range stats {
			r.out.I32(s.tag)
			r.out.U64(s.value)
		}
		return nil
	}),
	rpc.DomainGetOSType:           onGuest(func(r *request, _ *world.Guest) *rpc.Error { r.out.Str("hvm"); return nil }),
	rpc.DomainGetMaxMemory:        onGuest(func(r *request, g *world.Guest) *rpc.Error { r.out.U64(uint64(g.VM.Mem) / 1024); return nil }),
	rpc.DomainGetMaxVcpus:         onGuest(func(r *request, g *world.Guest) *rpc.Error { r.out.I32(int32(g.VM.VCPUs)); return nil }),
	rpc.DomainIsActive:            onGuest(func(r *request, g *world.Guest) *rpc.Error { r.out.Bool(g.Active()); return nil }),
	rpc.DomainIsPersistent:        onGuest(func(r *request, g *world.Guest) *rpc.Error { r.out.Bool(g.Persistent); return nil }),
	rpc.DomainIsUpdated:           onGuest(func(r *request, _ *world.Guest) *rpc.Error { r.out.Bool(false); return nil }),
	rpc.DomainGetAutostart:        onGuest(func(r *request, _ *world.Guest) *rpc.Error { r.out.I32(0); return nil }),
	rpc.DomainHasManagedSaveImage: onGuest(func(r *request, _ *world.Guest) *rpc.Error { r.out.I32(0); return nil }),
	rpc.DomainGetSecurityLabel: onGuest(func(r *request, _ *world.Guest) *rpc.Error {
		r.out.U32(0)
		r.out.I32(0)
		return nil
	}),
	rpc.DomainSuspend:   onGuest(func(_ *request, g *world.Guest) *rpc.Error { return g.Suspend() }),
	rpc.DomainResume:    onGuest(func(_ *request, g *world.Guest) *rpc.Error { return g.Resume() }),
	rpc.DomainCreateXML: locked(create),
	rpc.DomainDestroy: locked(func(r *request) error {
		d := r.in.Domain()
		if err := r.args(); err != nil {
			return err
		}
		if r.d.f.release(func(path string, by *rpc.Conn) bool { return by == r.c && path == d.Name }) > 0 {
			return nil
		}
		g, err := r.find(d.UUID, d.Name)
		if err != nil {
			return err
		}
		return errOf(g.Destroy())
	}),
	rpc.DomainDestroyFlags:  onGuest(func(_ *request, g *world.Guest) *rpc.Error { return g.Destroy() }),
	rpc.DomainUndefine:      onGuest(func(_ *request, g *world.Guest) *rpc.Error { return g.Undefine() }),
	rpc.DomainUndefineFlags: onGuest(func(_ *request, g *world.Guest) *rpc.Error { return g.Undefine() }),
	rpc.DomainStartDirtyRateCalc: onGuest(func(r *request, g *world.Guest) *rpc.Error {
		return g.StartDirtyRate(r.in.I32())
	}),
	rpc.ConnectGetAllDomainStats: allStats,
}

func (f *Fleet) labels(g *world.Guest) map[string]string { return f.vms[f.byVM[g.VM.ID]].Labels }

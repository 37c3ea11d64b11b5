package fleet

import (
	"fmt"
	"time"

	"github.com/foreshift/foreshift/placer/policy"
	"github.com/foreshift/foreshift/schemas"
)

// hostState is the last report of a host. Fields are exported for the snapshot.
type hostState struct {
	Msg  *schemas.CapacityHost
	Seq  uint64
	At   schemas.Time // stream time
	Prev schemas.Time // stream time of the report before
	// Since is when the host began to report each VM as running, without a break.
	Since map[schemas.VMID]schemas.Time
}

// goneAfter is how long a silent host is remembered; its VMs are stale long before.
const goneAfter = time.Hour

func (f *Fleet) applyHost(in Input, m *schemas.CapacityHost) error {
	if m.Capacity.CPU <= 0 || m.Capacity.Mem <= 0 {
		return fmt.Errorf("capacity of host %s: cpu %g mCPU, memory %g bytes: want both above 0", m.Host, float64(m.Capacity.CPU), float64(m.Capacity.Mem))
	}
	h := f.hosts[m.Host]
	if h == nil {
		h = &hostState{Since: map[schemas.VMID]schemas.Time{}}
		f.hosts[m.Host] = h
	} else if in.Seq <= h.Seq {
		return nil // an older report redelivered
	}
	since := make(map[schemas.VMID]schemas.Time, len(m.VMs))
	for i := range m.VMs {
		v := &m.VMs[i]
		if v.State != schemas.VMRunning {
			continue
		}
		if t, ok := h.Since[v.VM]; ok {
			since[v.VM] = t
		} else {
			since[v.VM] = in.Time
		}
	}
	h.Msg, h.Seq, h.Prev, h.At, h.Since = m, in.Seq, h.At, in.Time, since
	if in.Time > f.hostClock {
		f.hostClock = in.Time
		for id, o := range f.hosts {
			if f.hostClock.Sub(o.At) > goneAfter {
				delete(f.hosts, id)
			}
		}
	}
	return nil
}

type linkState struct {
	Free schemas.BytesPerSecond
	RTT  schemas.Millis
	Seq  uint64
	At   schemas.Time
}

func (f *Fleet) applyLink(in Input, m *schemas.CapacityLink) error {
	if m.A == m.B {
		return fmt.Errorf("link %s-%s: want two different sites", m.A, m.B)
	}
	key := policy.LinkOf(m.A, m.B)
	if l, ok := f.links[key]; ok && in.Seq <= l.Seq {
		return nil
	}
	free := m.Free
	if m.Bandwidth > 0 && free > m.Bandwidth {
		free = m.Bandwidth
	}
	f.links[key] = linkState{free, m.RTT, in.Seq, in.Time}
	return nil
}

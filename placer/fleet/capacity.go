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
	// Models are the guest CPU models the host can run; nil = unknown. It is made of
	// Msg when that list changes.
	Models map[string]bool
	// CPUSince is when the host began to report the CPU and the hypervisor it has.
	CPUSince schemas.Time
}

// goneAfter is how long a silent host is remembered; its VMs are stale long before.
const goneAfter = time.Hour

// maxLinks is how many links are kept before those of the last hour alone are.
const maxLinks = 4096

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
	if h.Msg == nil || !sameCPU(h.Msg, m) {
		h.Models, h.CPUSince = modelSet(m.CPUModels), in.Time
	}
	h.Msg, h.Seq, h.Prev, h.At, h.Since = m, in.Seq, h.At, in.Time, since
	f.noteDirty(m, in)
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

func modelSet(names []string) map[string]bool {
	if len(names) == 0 {
		return nil
	}
	set := make(map[string]bool, len(names))
	for _, n := range names {
		set[n] = true
	}
	return set
}

// linkState is the last measurement of a link between two sites.
type linkState struct {
	Free      schemas.BytesPerSecond
	Bandwidth schemas.BytesPerSecond
	RTT       schemas.Millis
	Loss      schemas.Ratio
	By        string
	Seq       uint64
	At        schemas.Time
	// Where a tunnel role shares the link out: what one more move could have, how many
	// moves are counted in that, and how many wait to be let in, which are not.
	Shared bool
	Left   schemas.BytesPerSecond
	Moves  int
	Waits  int
}

// sharedAge is how long the word of a tunnel role stands before another's measurement
// of the link, which knows nothing of shares, counts again. It is said every 2 s.
const sharedAge = 15 * time.Second

func (f *Fleet) applyLink(in Input, m *schemas.CapacityLink) error {
	if m.A == m.B {
		return fmt.Errorf("link %s-%s: want two different sites", m.A, m.B)
	}
	key := policy.LinkOf(m.A, m.B)
	if l, ok := f.links[key]; ok && (in.Seq <= l.Seq || l.Shared && !m.Shared && in.Time.Sub(l.At) < sharedAge) {
		return nil
	}
	free := m.Free
	if m.Bandwidth > 0 && free > m.Bandwidth {
		free = m.Bandwidth
	}
	if len(f.links) >= maxLinks {
		for k, l := range f.links {
			if in.Time.Sub(l.At) > goneAfter {
				delete(f.links, k)
			}
		}
	}
	waits := 0
	for i := range m.Shares {
		if m.Shares[i].Waits {
			waits++
		}
	}
	f.links[key] = linkState{Free: free, Bandwidth: m.Bandwidth, RTT: m.RTT, Loss: m.Loss, By: m.By, Seq: in.Seq, At: in.Time, Shared: m.Shared, Left: min(m.Left, free), Moves: max(0, m.Moves-waits), Waits: waits}
	return nil
}

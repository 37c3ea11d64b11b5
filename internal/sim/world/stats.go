package world

import (
	"time"

	"github.com/foreshift/foreshift/internal/sim/load"
	"github.com/foreshift/foreshift/internal/sim/rpc"
)

// Reading is a guest's counters at the present time.
type Reading struct {
	CPU, Delay       float64 // core-ns run, and waited for a core, since its QEMU started
	NetRx, NetTx     float64 // bytes
	DiskRd, DiskWr   float64 // bytes
	Memory, Resident float64 // bytes used in the guest, and held by QEMU
	Balloon          int64   // ns when the guest last reported its memory
	Want             load.Demand
	DirtyStatus      int32 // 0 never measured, 1 measuring, 2 measured
	DirtyStart       int64 // ns
	DirtyPeriod      int32 // seconds
	DirtyRate        int64 // MiB/s
}

// Read reads the guest.
func (g *Guest) Read() Reading {
	t := g.host.w.now
	g.host.to(t)
	c := g.count.grown(&g.rate, float64(t-g.host.segment))
	r := Reading{CPU: c.CPU, Delay: c.Delay, NetRx: c.NetRx, NetTx: c.NetTx, DiskRd: c.DiskRd, DiskWr: c.DiskWr,
		Memory: g.memory, Resident: g.resident(), Balloon: t, Want: g.want,
		DirtyStatus: g.dirty.status, DirtyStart: g.dirty.start, DirtyPeriod: g.dirty.period, DirtyRate: g.dirty.rate}
	if !g.Alive {
		r.Balloon = g.balloonAt
	}
	return r
}

// dirtyCalc is a measurement of the rate at which memory is dirtied.
type dirtyCalc struct {
	status int32
	start  int64
	period int32
	from   float64
	rate   int64
	serial uint64
}

// StartDirtyRate is DomainStartDirtyRateCalc: it measures for that many seconds.
func (g *Guest) StartDirtyRate(seconds int32) *rpc.Error {
	if !g.Active() {
		return errNotRunning
	}
	if seconds < 1 || seconds > 60 {
		return rpc.Errorf(rpc.CodeInvalidArg, "invalid argument: seconds=%d is invalid, please choose value within [1, 60].", seconds)
	}
	if g.dirty.status == 1 {
		return rpc.Errorf(rpc.CodeInternal, "internal error: unable to execute QEMU command 'calc-dirty-rate': the dirty rate is already being measured.")
	}
	w := g.host.w
	w.serial++
	serial := w.serial
	g.host.to(w.now)
	dirtied := func() float64 { return g.count.Dirty + g.rate.Dirty*float64(w.now-g.host.segment) }
	g.dirty = dirtyCalc{status: 1, start: w.now, period: seconds, from: dirtied(), serial: serial}
	w.after(time.Duration(seconds)*time.Second, func() {
		if g.dirty.serial != serial {
			return
		}
		g.host.to(w.now)
		g.dirty.status = 2
		g.dirty.rate = int64((dirtied()-g.dirty.from)/float64(seconds)/mib + .5)
	})
	return nil
}

// Types and operations of a job, as in libvirt/libvirt-domain.h.
const (
	JobNone         = 0
	JobUnbounded    = 2
	JobCompleted    = 3
	jobMigrationIn  = 4
	jobMigrationOut = 5
)

// JobStats is a job as libvirt reports it; times in ns, amounts in bytes.
type JobStats struct {
	Type, Operation             int32
	Elapsed, Setup              float64
	Downtime, DowntimeNet       float64 // expected while it runs, real afterwards
	Total, Processed, Remaining float64
	Constant                    float64
	DiskTotal, DiskRemaining    float64
	Bps, DirtyRate              float64 // bytes/s
	Iteration                   int32
	Throttle                    float64 // 0..1
}

// stats is the flow at t.
func (f *flow) stats(t int64) JobStats {
	remaining, _, sent := f.view(t)
	s := JobStats{Type: JobUnbounded, Operation: jobMigrationOut, Elapsed: float64(t - f.src.out.started),
		Setup: setupTime, Total: f.src.VM.Mem, Processed: sent, Remaining: remaining,
		Constant: max(0, f.src.VM.Mem-f.src.memory*1.04), Bps: f.rate * 1e9, DirtyRate: f.lastDirty,
		Iteration: f.round, Throttle: f.throttle, DiskTotal: f.disks}
	if f.disk > 0 { // memory has not begun
		return JobStats{Type: s.Type, Operation: s.Operation, Elapsed: s.Elapsed, DiskTotal: f.disks, DiskRemaining: max(0, f.disk-f.moved(t))}
	}
	if f.rate > 0 {
		s.Downtime = remaining/f.rate + deviceState
	}
	return s
}

// Job is the state of the guest's job now, or of the one that completed last.
func (g *Guest) Job(completed, keep bool) (JobStats, *rpc.Error) {
	if completed {
		if g.last == nil {
			return JobStats{}, nil
		}
		s := *g.last
		if !keep {
			g.last = nil
		}
		return s, nil
	}
	now := g.host.w.now
	switch {
	case !g.Active():
		return JobStats{}, errNotRunning
	case g.out != nil && g.out.flow != nil:
		return g.out.flow.stats(now), nil
	case g.out != nil && g.out.stats != nil:
		s := *g.out.stats
		s.Elapsed = float64(now - g.out.started)
		return s, nil
	case g.out != nil:
		return JobStats{Type: JobUnbounded, Operation: jobMigrationOut, Elapsed: float64(now - g.out.started)}, nil
	case g.in != nil:
		return JobStats{Type: JobUnbounded, Operation: jobMigrationIn, Elapsed: float64(now - g.in.started)}, nil
	}
	return JobStats{}, nil
}

// SetMaxSpeed sets the ceiling of the guest's transfers in MiB/s, now and later.
func (g *Guest) SetMaxSpeed(mibps uint64) *rpc.Error {
	if mibps > unlimitedSpeed {
		return rpc.Errorf(rpc.CodeInvalidArg, "invalid argument: bandwidth must be less than %d", uint64(unlimitedSpeed)+1)
	}
	w := g.host.w
	w.commitFlows()
	g.maxSpeed = float64(mibps) * mib
	if mibps == unlimitedSpeed {
		g.maxSpeed = 0
	}
	w.rateFlows()
	return nil
}

// MaxSpeed is the ceiling in MiB/s.
func (g *Guest) MaxSpeed() uint64 {
	if g.maxSpeed <= 0 {
		return unlimitedSpeed
	}
	return uint64(g.maxSpeed / mib)
}

// SetMaxDowntime sets the downtime that a switch-over may take.
func (g *Guest) SetMaxDowntime(ms uint64) *rpc.Error {
	if !g.Active() {
		return errNotRunning
	}
	if ms == 0 || ms > 2000000 {
		return rpc.Errorf(rpc.CodeInvalidArg, "invalid argument: downtime must be within 1..2000000 ms")
	}
	g.maxDowntime = float64(ms) * 1e6
	return nil
}

// MaxDowntime is that limit in ms.
func (g *Guest) MaxDowntime() uint64 {
	if g.maxDowntime > 0 {
		return uint64(g.maxDowntime / 1e6)
	}
	return defaultMaxDowntimeNs / 1e6
}

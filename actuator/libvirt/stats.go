package libvirt

import (
	"context"
	"time"

	lv "github.com/digitalocean/go-libvirt"

	"github.com/foreshift/foreshift/actuator/migration"
	"github.com/foreshift/foreshift/schemas"
)

// number reads any numeric typed parameter; false for strings.
func number(v any) (float64, bool) {
	switch n := v.(type) {
	case int32:
		return float64(n), true
	case uint32:
		return float64(n), true
	case int64:
		return float64(n), true
	case uint64:
		return float64(n), true
	case float64:
		return n, true
	}
	return 0, false
}

// jobStats maps libvirt's typed parameters (virDomainGetJobStats). The dirty rate
// comes in pages per second.
func jobStats(kind int32, params []lv.TypedParam) migration.JobStats {
	j := migration.JobStats{Active: kind != int32(lv.DomainJobNone) && kind != int32(lv.DomainJobCompleted) &&
		kind != int32(lv.DomainJobFailed) && kind != int32(lv.DomainJobCancelled)}
	page, pages, diskTotal := 4096.0, 0.0, 0.0
	var disk [3]schemas.Bytes
	for _, p := range params {
		n, ok := number(p.Value.I)
		if !ok || n < 0 {
			continue
		}
		switch p.Field {
		case lv.DomainJobTimeElapsed:
			j.Elapsed = time.Duration(n) * time.Millisecond
		case lv.DomainJobMemoryIteration:
			j.Round = int(n)
		case lv.DomainJobMemoryTotal:
			j.Total = schemas.Bytes(n)
		case lv.DomainJobMemoryProcessed:
			j.Processed = schemas.Bytes(n)
		case lv.DomainJobMemoryRemaining:
			j.Remaining = schemas.Bytes(n)
		case lv.DomainJobMemoryBps:
			j.Speed = schemas.BytesPerSecond(n)
		case lv.DomainJobMemoryDirtyRate:
			pages = n
		case lv.DomainJobMemoryPageSize:
			page = n
		case lv.DomainJobDowntime:
			j.Downtime = schemas.Millis(n)
		case lv.DomainJobDiskTotal:
			diskTotal, disk[0] = n, schemas.Bytes(n)
		case lv.DomainJobDiskProcessed:
			disk[1] = schemas.Bytes(n)
		case lv.DomainJobDiskRemaining:
			disk[2] = schemas.Bytes(n)
		}
	}
	j.DirtyRate = schemas.BytesPerSecond(pages * page)
	if j.Total == 0 && diskTotal > 0 {
		j.Disk, j.Total, j.Processed, j.Remaining = true, disk[0], disk[1], disk[2]
	}
	return j
}

func (c *conn) jobStats(ctx context.Context, dom lv.Domain, flags lv.DomainGetJobStatsFlags) (migration.JobStats, error) {
	type answer struct {
		kind   int32
		params []lv.TypedParam
	}
	a, err := call(ctx, c, "job statistics", c.lim.Quick, func() (a answer, err error) {
		a.kind, a.params, err = c.l.DomainGetJobStats(dom, flags)
		return a, err
	})
	if err != nil {
		return migration.JobStats{}, err
	}
	return jobStats(a.kind, a.params), nil
}

// see observes one VM: its state and, when it runs, its job and its signs of life.
// An error means that the host could not be asked; no VM is no error.
func (c *conn) see(ctx context.Context, vm schemas.VMID) (migration.Seen, error) {
	dom, err := c.lookup(ctx, vm)
	if isNotFound(err) {
		return migration.Seen{Copy: migration.Absent}, nil
	}
	if err != nil {
		return migration.Seen{}, err
	}
	type state struct{ state, reason int32 }
	st, err := call(ctx, c, "state of "+vm.String(), c.lim.Quick, func() (s state, err error) {
		s.state, s.reason, err = c.l.DomainGetState(dom, 0)
		return s, err
	})
	if isNotFound(err) {
		return migration.Seen{Copy: migration.Absent}, nil
	}
	if err != nil {
		return migration.Seen{}, err
	}
	s := migration.Seen{}
	switch lv.DomainState(st.state) {
	case lv.DomainRunning, lv.DomainBlocked, lv.DomainShutdown:
		s.Copy = migration.Running
	case lv.DomainPaused, lv.DomainPmsuspended:
		s.Copy = migration.Paused
		migrating := lv.DomainPausedReason(st.reason) == lv.DomainPausedMigration || lv.DomainPausedReason(st.reason) == lv.DomainPausedStartingUp
		reason := lv.DomainPausedReason(st.reason)
		s.PostCopy = reason == lv.DomainPausedPostcopy || reason == lv.DomainPausedPostcopyFailed
		s.Incoming, s.Foreign = migrating, !migrating && !s.PostCopy
		return s, nil
	default: // shut off, crashed, no state
		s.Copy = migration.ShutOff
		return s, nil
	}
	job, err := c.jobStats(ctx, dom, 0)
	switch {
	case isNotFound(err), isRefused(err):
		// It went, or the daemon is busy with it: the next look will tell.
	case err != nil:
		return migration.Seen{}, err
	default:
		s.Job = job.Active
	}
	return s, c.life(ctx, dom, &s)
}

// life reads what only a living guest changes.
func (c *conn) life(ctx context.Context, dom lv.Domain, s *migration.Seen) error {
	records, err := call(ctx, c, "statistics", c.lim.Quick, func() ([]lv.DomainStatsRecord, error) {
		return c.l.ConnectGetAllDomainStats([]lv.Domain{dom}, uint32(lv.DomainStatsCPUTotal|lv.DomainStatsBalloon), uint32(lv.ConnectGetAllDomainsStatsNowait))
	})
	if isRefused(err) || isNotFound(err) {
		return nil // no sign is no error
	}
	if err != nil {
		return err
	}
	for _, r := range records {
		for _, p := range r.Params {
			n, ok := number(p.Value.I)
			if !ok || n < 0 {
				continue
			}
			switch p.Field {
			case "cpu.time":
				s.CPU = uint64(n)
			case "balloon.last-update":
				s.Balloon = uint64(n)
			}
		}
	}
	return nil
}

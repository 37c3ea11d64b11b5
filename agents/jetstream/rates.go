package jetstream

import (
	"time"

	"github.com/foreshift/foreshift/schemas"
)

// before is what is remembered of a VM's last sample on a host.
type before struct {
	at    int64
	count counters
}

// maxGaps is over how many gathers a rate may reach.
const maxGaps = 3

// mostBytes is a rate per second that no VM's network or disk reaches.
const mostBytes = 1e13

// row is one VM's line of a message.
type row struct {
	interval float32
	flags    schemas.Flags
	cols     [schemas.NumColumns]float32
	run      float32 // mCPU the VM ran, without what it waited; NaN = unknown
}

// rates turns a sample into a row, given the one before. Without one, or after
// too long a gap, there are gauges only, and the row stands for one nominal
// interval.
//
// CPU demand is what the VM ran plus what its vCPUs waited for a core, in mCPU of
// reference speed: 1000 * speed * (run + delay) / interval.
func (s *vmSample) rates(at int64, prev *before, nominal, longest time.Duration) row {
	nan := schemas.NaN()
	r := row{interval: float32(nominal.Seconds()), run: nan}
	for c := range r.cols {
		r.cols[c] = nan
	}
	r.cols[schemas.ColSwap] = s.swap
	r.cols[schemas.ColMem] = s.used
	if s.swap == s.swap {
		r.cols[schemas.ColMem] += s.swap
	}
	r.cols[schemas.ColDirtyRate] = s.dirty
	if !s.running {
		r.flags |= schemas.FlagPaused
	}
	if s.migrating {
		r.flags |= schemas.FlagMigrating
	}
	if prev == nil || at <= prev.at || time.Duration(at-prev.at) > longest {
		return r
	}
	seconds := float64(at-prev.at) / 1e9
	r.interval = float32(seconds)
	var rate [numCounters]float64
	both := s.count.has & prev.count.has
	for c := range numCounters {
		if both&(1<<c) == 0 {
			continue
		}
		if s.count.v[c] < prev.count.v[c] {
			r.flags |= schemas.FlagReset
			if c == cRun { // the VM started anew: all its counters did
				return r
			}
			both &^= 1 << c
			continue
		}
		rate[c] = float64(s.count.v[c]-prev.count.v[c]) / seconds
	}
	r.fill(s, &rate, both)
	return r
}

// fill sets the columns of the rates that are there and can be.
func (r *row) fill(s *vmSample, rate *[numCounters]float64, has uint8) {
	if has&(1<<cRun) != 0 {
		run, wait := rate[cRun]/1e6*s.speed, 0.0
		if has&(1<<cDelay) != 0 {
			wait = rate[cDelay] / 1e6 * s.speed
		}
		// More than twice what the vCPUs and a few helper threads can take is a
		// counter that jumped, not work.
		most := 2000 * (s.vcpus + 8) * s.speed
		if run > most || wait > most {
			r.flags |= schemas.FlagReset
		} else {
			r.run = float32(run)
			r.cols[schemas.ColCPU] = float32(run + wait)
			if has&(1<<cDelay) != 0 {
				r.cols[schemas.ColSteal] = float32(wait)
			}
		}
	}
	for _, x := range [...]struct {
		c   counter
		col schemas.Column
	}{{cNetRx, schemas.ColNetRx}, {cNetTx, schemas.ColNetTx}, {cDiskRd, schemas.ColDiskRd}, {cDiskWr, schemas.ColDiskWr}} {
		switch {
		case has&(1<<x.c) == 0:
		case rate[x.c] > mostBytes:
			r.flags |= schemas.FlagReset
		default:
			r.cols[x.col] = float32(rate[x.c])
		}
	}
}

// spacing learns the interval of a host's gathers: the shortest of the last few,
// so that a missed gather does not widen it.
type spacing struct {
	last [4]time.Duration
	n    int
}

func (s *spacing) note(d time.Duration) {
	s.last[s.n%len(s.last)] = d
	s.n++
}

// nominal is the interval, or zero while it is not known.
func (s *spacing) nominal() time.Duration {
	var least time.Duration
	for _, d := range s.last[:min(s.n, len(s.last))] {
		if least == 0 || d < least {
			least = d
		}
	}
	return least
}

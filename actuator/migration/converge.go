package migration

import (
	"fmt"
	"time"

	"github.com/foreshift/foreshift/schemas"
)

// The detector of transfers that come to no end. What is left to send is a saw
// tooth: it rises with every round, so that only its lowest point counts, and that
// must fall by a share of what the link carried meanwhile. The smoothing, the share
// and the patience are KubeVirt's.
const (
	smoothing = .4 // weight of the newest bandwidth
	margin    = .04
	patience  = 40 * time.Second
)

// The steps in which the allowed downtime is raised: half of it at first, all of it
// after two steps. A step is taken when a later round begins or the transfer has
// stood still for a while.
const (
	downtimeSteps  = 2
	roundsPerStep  = 2
	stillPerStep   = 10 * time.Second
	roundsAtLittle = 3
)

// Convergence is how a transfer gets on. Its zero value is one that has not begun.
type Convergence struct {
	Rate    float64       // bytes/s, smoothed
	Least   schemas.Bytes // lowest that was ever left
	Sent    schemas.Bytes // processed when Least was last counted as progress
	Forward int64         // ns: when that was
	Step    int           // how often the downtime was raised
	last    JobStats
	at      int64
}

// Watch takes in one reading of the job; the same reading twice changes nothing.
func (c Convergence) Watch(j JobStats, now int64) Convergence {
	if j == c.last {
		return c
	}
	first := c.at == 0 || j.Disk != c.last.Disk || blank(c.last) && !blank(j)
	if dt := float64(now-c.at) / 1e9; !first && dt > 0 && j.Processed >= c.last.Processed {
		r := float64(j.Processed-c.last.Processed) / dt
		if c.Rate == 0 {
			c.Rate = r
		}
		c.Rate += smoothing * (r - c.Rate)
	}
	gain := float64(c.Least - j.Remaining)
	if first || gain > 0 && gain >= margin*float64(j.Processed-c.Sent) {
		c.Least, c.Sent, c.Forward = j.Remaining, j.Processed, now
	}
	c.last, c.at = j, now
	return c
}

// blank reports a reading of a job that has not counted its memory yet: nothing left
// to send is then no low point that later ones have to beat.
func blank(j JobStats) bool { return j.Remaining == 0 && j.Processed == 0 }

// Stalled says why a transfer is given up, or nothing.
func (c Convergence) Stalled(now int64) schemas.Reason {
	if c.at == 0 || now-c.Forward < int64(patience) {
		return schemas.Reason{}
	}
	return schemas.Reason{Code: schemas.ReasonStalled, Detail: fmt.Sprintf("no progress for %s: %.0f MB left at %.1f MB/s, the guest writes %.1f MB/s",
		time.Duration(now-c.Forward).Round(time.Second), float64(c.Least)/1e6, c.Rate/1e6, float64(c.last.DirtyRate)/1e6)}
}

// moving is how fresh a reading must be for the link to count as alive.
const moving = 5 * time.Second

// Moving reports that the link carries the transfer at this time: post-copy over one
// that drops packets would lose the VM.
func (c Convergence) Moving(now int64) bool {
	return c.at != 0 && c.at <= now && now-c.at < int64(moving) && c.Rate > 0 && c.last.Speed > 0
}

// widen reports that the allowed downtime is due to be raised by a step.
func (c Convergence) widen(now int64) bool {
	if c.at == 0 || c.Step >= downtimeSteps || c.last.Disk {
		return false
	}
	return c.last.Round >= roundsAtLittle+roundsPerStep*c.Step || now-c.Forward >= int64(stillPerStep)*int64(c.Step+1)
}

// Downtime is what is allowed after so many steps, of the most that may be.
func Downtime(most schemas.Millis, step int) schemas.Millis {
	return most * schemas.Millis(downtimeSteps+min(step, downtimeSteps)) / (2 * downtimeSteps)
}

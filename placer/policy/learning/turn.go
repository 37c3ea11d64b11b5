package learning

import (
	"fmt"
	"time"

	"github.com/foreshift/foreshift/placer/policy"
	"github.com/foreshift/foreshift/schemas"
)

// Set is one change of the policy, in the order of time.
type Set struct {
	At       schemas.Time
	Evidence *schemas.Evidence // nil: a person set it
	Rollback bool
}

const (
	pace  = 7 * schemas.StepsPerDay  // steps from one look at a setting to the next
	rests = 28 * schemas.StepsPerDay // steps for which a setting rests that a person has taken back
)

// Turn says which setting is to be looked at now, or why none is: looks are a week of
// steps apart, an operator's word stands for a week, and a setting whose change was rolled
// back rests for four. last is the setting that was looked at last and when.
func Turn(p *policy.Policy, past []Set, last string, lookedAt, now schemas.Time, base time.Duration) (string, schemas.Reason) {
	if p.Learning == nil || len(p.Learning.Bounds) == 0 {
		return "", schemas.Reason{Code: schemas.ReasonNoBounds, Detail: "the policy has no bounds for learning"}
	}
	resting := map[string]bool{}
	learnt := ""
	for _, s := range past {
		switch {
		case s.Evidence != nil:
			learnt = s.Evidence.Setting
		case s.Rollback && learnt != "":
			resting[learnt] = now.Sub(s.At) < rests*base
			learnt = ""
		}
		lookedAt = max(lookedAt, s.At)
	}
	if wait := pace*base - now.Sub(lookedAt); lookedAt != 0 && wait > 0 {
		return "", schemas.Reason{Code: schemas.ReasonHold, Detail: fmt.Sprintf("settings are looked at once in %d days of steps; the next time in %s", pace/schemas.StepsPerDay, wait.Round(time.Second))}
	}
	at := last
	for range settings {
		s, _ := Next(p, at)
		if s != "" && !resting[s] {
			return s, schemas.Reason{Code: schemas.ReasonOK}
		}
		at = s
	}
	return "", schemas.Reason{Code: schemas.ReasonSkipped, Detail: "what was learnt was rolled back: the settings rest"}
}

package learning

import (
	"fmt"
	"slices"
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
	pace  = 7 * schemas.StepsPerDay  // steps from one look at the settings to the next
	rests = 28 * schemas.StepsPerDay // steps for which a setting rests that a person has taken back
)

// Due says whether the settings are to be looked at now, or why not: looks are a week of
// steps apart, an operator's word stands for a week, and settings whose change was rolled
// back rest for four: those are told.
func Due(p *policy.Policy, past []Set, lookedAt, now schemas.Time, base time.Duration) (resting []string, why schemas.Reason) {
	if p.Learning == nil || len(p.Learning.Bounds) == 0 {
		return nil, schemas.Reason{Code: schemas.ReasonNoBounds, Detail: "the policy has no bounds for learning"}
	}
	var learnt []string
	for _, s := range past {
		switch {
		case s.Evidence != nil:
			learnt = []string{s.Evidence.Setting}
			for _, m := range s.Evidence.With {
				learnt = append(learnt, m.Setting)
			}
		case s.Rollback:
			if now.Sub(s.At) < rests*base {
				resting = append(resting, learnt...)
			}
			learnt = nil
		}
		lookedAt = max(lookedAt, s.At)
	}
	if wait := pace*base - now.Sub(lookedAt); lookedAt != 0 && wait > 0 {
		return nil, schemas.Reason{Code: schemas.ReasonHold, Detail: fmt.Sprintf("settings are looked at once in %d days of steps; the next time in %s", pace/schemas.StepsPerDay, wait.Round(time.Second))}
	}
	for s := range p.Learning.Bounds {
		if !slices.Contains(resting, s) {
			return resting, schemas.Reason{Code: schemas.ReasonOK}
		}
	}
	return resting, schemas.Reason{Code: schemas.ReasonSkipped, Detail: "what was learnt was rolled back: the settings rest"}
}

package learning

import (
	"slices"
	"testing"
	"time"

	"github.com/foreshift/foreshift/schemas"
)

func TestDue(t *testing.T) {
	const week = 7 * 24 * time.Hour
	now := schemas.Time(1.75e18)
	ago := func(weeks float64) schemas.Time { return now.Add(-time.Duration(weeks * float64(week))) }
	learnt := func(weeks float64, setting string) Set {
		return Set{At: ago(weeks), Evidence: &schemas.Evidence{Changed: schemas.Changed{Setting: setting}}}
	}
	for name, c := range map[string]struct {
		past    []Set
		looked  schemas.Time
		code    schemas.ReasonCode
		resting []string
	}{
		"the first":                 {code: schemas.ReasonOK},
		"the next":                  {looked: ago(1), code: schemas.ReasonOK},
		"too soon":                  {looked: ago(.9), code: schemas.ReasonHold},
		"too soon after a change":   {past: []Set{learnt(.5, Trigger)}, looked: ago(3), code: schemas.ReasonHold},
		"an operator's word stands": {past: []Set{{At: ago(.5)}}, code: schemas.ReasonHold},
		"what was rolled back rests": {past: []Set{learnt(4, MinBenefit), {At: ago(3), Rollback: true}}, looked: ago(2), code: schemas.ReasonOK,
			resting: []string{MinBenefit}},
		"with what was changed together": {past: []Set{{At: ago(4), Evidence: &schemas.Evidence{Changed: schemas.Changed{Setting: MinBenefit}, With: []schemas.Changed{{Setting: Trigger}}}}, {At: ago(3), Rollback: true}},
			looked: ago(2), code: schemas.ReasonOK, resting: []string{MinBenefit, Trigger}},
		"and comes back":                  {past: []Set{learnt(9, MinBenefit), {At: ago(5), Rollback: true}}, looked: ago(2), code: schemas.ReasonOK},
		"a rollback of a person's change": {past: []Set{{At: ago(4)}, {At: ago(3), Rollback: true}}, looked: ago(2), code: schemas.ReasonOK},
		"all rest": {past: []Set{learnt(3, MinBenefit), {At: ago(2.9), Rollback: true}, learnt(2.8, Trigger), {At: ago(2.7), Rollback: true},
			learnt(2.6, Hold), {At: ago(2.5), Rollback: true}}, code: schemas.ReasonSkipped, resting: []string{MinBenefit, Trigger, Hold}},
	} {
		p := bounded()
		got, why := Due(&p, c.past, c.looked, now, 5*time.Minute)
		if why.Code != c.code || !slices.Equal(got, c.resting) {
			t.Errorf("%s: %v, %v", name, got, why)
		}
	}
	p := bounded()
	p.Learning = nil
	if _, why := Due(&p, nil, 0, now, time.Minute); why.Code != schemas.ReasonNoBounds {
		t.Errorf("without bounds: %v", why)
	}
}

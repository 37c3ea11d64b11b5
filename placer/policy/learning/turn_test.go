package learning

import (
	"testing"
	"time"

	"github.com/foreshift/foreshift/schemas"
)

func TestTurn(t *testing.T) {
	const week = 7 * 24 * time.Hour
	now := schemas.Time(1.75e18)
	ago := func(weeks float64) schemas.Time { return now.Add(-time.Duration(weeks * float64(week))) }
	learnt := func(weeks float64, setting string) Set {
		return Set{At: ago(weeks), Evidence: &schemas.Evidence{Setting: setting}}
	}
	for name, c := range map[string]struct {
		past   []Set
		last   string
		looked schemas.Time
		want   string
		code   schemas.ReasonCode
	}{
		"the first":                       {want: MinBenefit},
		"the next":                        {last: MinBenefit, looked: ago(1), want: Trigger},
		"round":                           {last: Hold, looked: ago(2), want: MinBenefit},
		"too soon":                        {last: MinBenefit, looked: ago(.9), code: schemas.ReasonHold},
		"too soon after a change":         {past: []Set{learnt(.5, Trigger)}, last: MinBenefit, looked: ago(3), code: schemas.ReasonHold},
		"an operator's word stands":       {past: []Set{{At: ago(.5)}}, code: schemas.ReasonHold},
		"what was rolled back rests":      {past: []Set{learnt(4, MinBenefit), {At: ago(3), Rollback: true}}, last: Hold, looked: ago(2), want: Trigger},
		"and comes back":                  {past: []Set{learnt(9, MinBenefit), {At: ago(5), Rollback: true}}, last: Hold, looked: ago(2), want: MinBenefit},
		"a rollback of a person's change": {past: []Set{{At: ago(4)}, {At: ago(3), Rollback: true}}, last: Hold, looked: ago(2), want: MinBenefit},
		"all rest": {past: []Set{learnt(3, MinBenefit), {At: ago(2.9), Rollback: true}, learnt(2.8, Trigger), {At: ago(2.7), Rollback: true},
			learnt(2.6, Hold), {At: ago(2.5), Rollback: true}}, code: schemas.ReasonSkipped},
	} {
		p := bounded()
		got, why := Turn(&p, c.past, c.last, c.looked, now, 5*time.Minute)
		if got != c.want || c.want == "" && why.Code != c.code {
			t.Errorf("%s: %q, %v", name, got, why)
		}
	}
	p := bounded()
	p.Learning = nil
	if _, why := Turn(&p, nil, "", 0, now, time.Minute); why.Code != schemas.ReasonNoBounds {
		t.Errorf("without bounds: %v", why)
	}
}

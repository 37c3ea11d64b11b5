package replay

import (
	"context"
	"fmt"

	"github.com/foreshift/foreshift/placer/policy"
	"github.com/foreshift/foreshift/placer/policy/learning"
)

// LookOptions say how a setting is looked at.
type LookOptions struct {
	Days       int     // that are played; as many before are needed to learn from
	Hosts      int     // of one size
	Cores      float64 // of a host
	GiB        float64 // of a host
	Placements int
	Model      string
	Workers    int
}

// mostLooked bounds the VMs of a fleet whose settings are looked at: the play holds the
// forecasts of all.
const mostLooked = 2000

// Look plays the last days of a history in shadow, at every point of the grid that a
// policy's bounds leave, and tells what each of them lost, day by day. Nothing is decided
// and nothing is changed by that: [learning.Decide] does it on those days and the ones before.
func Look(ctx context.Context, h *History, o LookOptions, p policy.Policy) ([]learning.Day, error) {
	if len(h.VMs) > mostLooked {
		return nil, fmt.Errorf("learning: %d VMs; settings are learnt of fleets of at most %d", len(h.VMs), mostLooked)
	}
	f := Fleet{H: o.Hosts, C: o.Cores, M: o.GiB, Start: max(warmDays*day, h.Steps-o.Days*day), End: h.Steps}
	if f.H < 2 || !(f.C > 0) || !(f.M > 0) || f.End-f.Start < day {
		return nil, fmt.Errorf("learning: %d hosts of %.3g cores and %.3g GiB, and %d days of history: want two hosts, and %d days", f.H, f.C, f.M, h.Steps/day, warmDays+1)
	}
	src, err := newPredictive(h, o.Model)
	if err != nil {
		return nil, err
	}
	l := &learner{ctx: ctx, h: h, f: f, opt: &Options{Workers: max(1, o.Workers)}, src: src}
	for s := range o.Placements {
		at, _ := Place(h, f, int64(s+1))
		l.at = append(l.at, at)
	}
	s, why := l.shadows(p)
	if !why.OK() {
		return nil, fmt.Errorf("learning: %s", why)
	}
	missing := float64(h.Filled) / float64(len(h.D))
	first := int(h.First/day) + f.Start/day
	err = l.days(s.rides, func(n int) { s.note(first+n-1, missing) })
	return s.days, err
}

// settingsIn are those of a policy that the world has a use for.
func settingsIn(p *policy.Policy) Settings {
	return Settings{MinBenefit: p.MinBenefit, LookAhead: p.LookAheadSteps, Trigger: float64(p.Trigger), SoftWeight: float64(p.SoftWeight), PerDay: max(1, p.MaxPerVMDay), HoldSteps: p.HoldSteps, Trust: true}
}

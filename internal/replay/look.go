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

// Look plays the last days of a history under a policy, and beside it with the values of
// one setting that are to be tried, and decides whether the setting is to change. Nothing
// is changed by that: who asks may make an act of the answer.
func Look(ctx context.Context, h *History, o LookOptions, p policy.Policy, setting string, seed uint64) (learning.Change, error) {
	none := learning.Change{Policy: p}
	if len(h.VMs) > mostLooked {
		return none, fmt.Errorf("learning: %d VMs; settings are learnt of fleets of at most %d", len(h.VMs), mostLooked)
	}
	f := Fleet{H: o.Hosts, C: o.Cores, M: o.GiB, Start: max(warmDays*day, h.Steps-o.Days*day), End: h.Steps}
	if f.H < 2 || !(f.C > 0) || !(f.M > 0) || f.End-f.Start < day {
		return none, fmt.Errorf("learning: %d hosts of %.3g cores and %.3g GiB, and %d days of history: want two hosts, and %d days", f.H, f.C, f.M, h.Steps/day, warmDays+1)
	}
	src, err := newPredictive(h, o.Model)
	if err != nil {
		return none, err
	}
	l := &learner{ctx: ctx, h: h, f: f, opt: &Options{Workers: max(1, o.Workers)}, lo: LearnOptions{Every: day / 4}, src: src}
	for s := range o.Placements {
		at, _ := Place(h, f, int64(s+1))
		l.at = append(l.at, at)
	}
	set := settingsIn(&p)
	all := []*ride{l.begin(Start{}, set)}
	tries := learning.Candidates(&p, setting, p.Learning.Bounds[setting])
	for _, v := range tries {
		all = append(all, l.begin(Start{}, set.with(learning.With(p, setting, v))))
	}
	for t := f.Start; t < f.End; t += l.lo.Every {
		if err := l.steps(all, t, t+l.lo.Every); err != nil {
			return none, err
		}
		for _, r := range all {
			r.look()
		}
	}
	missing := float64(h.Filled) / float64(len(h.D))
	var shadows []learning.Shadow
	for i, v := range tries {
		shadows = append(shadows, shadowOf(v, all[0], all[i+1], len(all[0].by), float64(l.lo.Every)/day, missing))
	}
	return learning.Decide(p, setting, shadows, seed), nil
}

// settingsIn are those of a policy that the world has a use for.
func settingsIn(p *policy.Policy) Settings {
	return Settings{MinBenefit: p.MinBenefit, LookAhead: p.LookAheadSteps, Trigger: float64(p.Trigger), SoftWeight: float64(p.SoftWeight), PerDay: max(1, p.MaxPerVMDay), HoldSteps: p.HoldSteps, Trust: true}
}

// shadowOf is the evidence of the last n looks, by day: what all placements lost in it
// together, a placement's share. Placements have the same demand and the hours of a day
// much the same, so that a day counts once.
func shadowOf(tried float64, now, then *ride, n int, days, missing float64) learning.Shadow {
	s := learning.Shadow{Tried: tried, Missing: missing}
	per := max(1, int(1/days+.5))
	at := len(now.by)
	for at -= n - n%per; at < len(now.by); at += per {
		a, b := 0.0, 0.0
		for _, i := range now.by[at : at+per] {
			a += sum(i)
		}
		for _, i := range then.by[at : at+per] {
			b += sum(i)
		}
		s.Now, s.Then = append(s.Now, a/float64(len(now.runs))), append(s.Then, b/float64(len(now.runs)))
	}
	return s
}

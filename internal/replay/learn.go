package replay

import (
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/foreshift/foreshift/placer/policy"
	"github.com/foreshift/foreshift/placer/policy/learning"
	"github.com/foreshift/foreshift/schemas"
)

// LearnOptions are how settings are learnt on a history.
type LearnOptions struct {
	Every  int     // days from one look at the settings to the next
	Window int     // days that a shadow looks back on
	Start  []Start // from where learning begins
	Costs  float64 // what the placer believes of a link's speed, as a share of the truth; 0: the truth
}

// Start is a place to begin from.
type Start struct {
	Name string   `json:"name"`
	Set  Settings `json:"-"`
}

// Learnt is what became of a start, with learning and without.
type Learnt struct {
	Name      string             `json:"name"`
	Off       float64            `json:"loss_off_core_hours"`   // of the days scored at the end, settings as at the start
	On        float64            `json:"loss_on_core_hours"`    // settings as learnt on the way
	Final     float64            `json:"loss_final_core_hours"` // the whole time, with the settings learnt in the end
	Whole     float64            `json:"loss_start_core_hours"` // the whole time, with those of the start
	From      map[string]float64 `json:"from"`
	To        map[string]float64 `json:"to"`
	Changes   []schemas.Evidence `json:"changes"`
	Refusals  map[string]int     `json:"refusals"` // why nothing was changed, by reason
	Path      []Point            `json:"path"`
	Durations [2]float64         `json:"duration_errors"` // median relative error: arithmetic alone, corrected
}

// Point is where the settings stand after a day, and what that day lost.
type Point struct {
	Day             int                `json:"day"`
	Set             map[string]float64 `json:"settings"`
	LossOn, LossOff float64            `json:"-"`
}

// LearnResult is the comparison.
type LearnResult struct {
	History string   `json:"history"`
	U       float64  `json:"u"`
	Days    int      `json:"days"`
	Judged  int      `json:"days_judged"`                 // the last ones, on which on and off are compared
	Tuned   float64  `json:"loss_tuned_core_hours"`       // of the judged days, with the defaults
	Full    float64  `json:"loss_tuned_whole_core_hours"` // of all
	Starts  []Learnt `json:"starts"`
	CPU     float64  `json:"cpu_s"`
	tuned   []float64
}

// movePrice is what a move counts as in the loss, in core-seconds, besides its bytes: what
// the world charges for it is little, and a fleet that never rests is no gain.
const (
	movePrice = 120
	gibPrice  = 5
)

// loss is what a day and placement lost, in core-seconds.
func (w *World) loss(day0 int) (out []float64) {
	out = make([]float64, (w.F.End-w.F.Start)/day)
	for d := range out {
		out[d] = 3600 * w.score.daily(d)
	}
	for _, m := range w.log {
		out[(m.Step-w.F.Start)/day] += movePrice + gibPrice*w.H.VMs[m.VM].GiB
	}
	return out[day0:]
}

// Learn plays a history under the predictive policy with settings that are learnt on the
// way, from each start, and compares with the tuned ones and with leaving them alone.
func Learn(ctx context.Context, h *History, opt Options, lo LearnOptions) (*LearnResult, error) {
	if err := opt.Check(); err != nil {
		return nil, err
	}
	f, err := Size(h, opt.U, opt.Hosts, opt.From, opt.To)
	if err != nil {
		return nil, err
	}
	if opt.Forecasts == "" {
		return nil, fmt.Errorf("backtest: learning reads forecasts many times: name a file with --forecasts, made by a run without --learn")
	}
	src, ok, err := openCache(h, opt.Model, warmDays*day, opt.Forecasts)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, fmt.Errorf("backtest: %s is not there: a run without --learn makes it", opt.Forecasts)
	}
	defer src.close()
	l := &learner{ctx: ctx, h: h, f: f, opt: &opt, lo: lo, src: src}
	l.total = lo.steps((f.End - f.Start) / day)
	for seed := range opt.Placements {
		at, _ := Place(h, f, int64(seed+1))
		l.at = append(l.at, at)
	}
	days := (f.End - f.Start) / day
	res := &LearnResult{History: h.Name, U: opt.U, Days: days, Judged: max(1, days/2)}
	tuned, _ := settingsOf("predictive")
	base, err := l.plain(f, tuned)
	if err != nil {
		return nil, err
	}
	res.tuned = byDay(base, days)
	res.Full, res.Tuned = sum(res.tuned), sum(res.tuned[days-res.Judged:])
	for _, s := range lo.Start {
		one, err := l.learn(s, res)
		if err != nil {
			return nil, err
		}
		res.Starts = append(res.Starts, *one)
	}
	return res, nil
}

type learner struct {
	ctx context.Context
	h   *History
	f   Fleet
	opt *Options
	lo  LearnOptions
	src *reader
	at  [][]int32

	done, total int // steps played of all runs together
}

// steps is how many steps Learn plays: the tuned settings, and from each start those
// as they were, those learnt, every look back, and what was learnt in the end.
func (lo *LearnOptions) steps(days int) int {
	looks := 0
	for to := lo.Every; to < days; to += lo.Every {
		if to >= lo.Window {
			looks++
		}
	}
	return day * (days + len(lo.Start)*(3*days+looks*lo.Window))
}

// runs makes one run a placement.
func (l *learner) runs(f Fleet, set Settings, at [][]int32) (out []*run) {
	for _, a := range at {
		o := newOurs("learn", l.h, set)
		if l.lo.Costs > 0 {
			o.bandwidth(l.lo.Costs)
		}
		out = append(out, &run{kind: "predictive", world: NewWorld(l.h, f, a), policy: o, ours: o})
	}
	return out
}

// steps plays runs through the steps from..to-1; all share the frames.
func (l *learner) steps(runs []*run, from, to int) error {
	fr := newFrame(l.h)
	frames := map[string]*Frame{"predictive": fr}
	for t := from; t < to; t++ {
		if err := l.ctx.Err(); err != nil {
			return fmt.Errorf("backtest: %w", err)
		}
		if err := l.src.After(t, fr); err != nil {
			return err
		}
		each(l.opt.Workers, len(runs), func(i int) { runs[i].step(t, frames, t+1 >= runs[i].world.F.End) })
		if l.done++; l.opt.Progress != nil {
			l.opt.Progress(l.done, l.total)
		}
	}
	for _, r := range runs {
		if r.ours.foul != nil {
			return r.ours.foul
		}
	}
	return nil
}

// plain plays a stretch with settings that stay, from all placements.
func (l *learner) plain(f Fleet, set Settings) ([]*run, error) {
	runs := l.runs(f, set, l.at)
	return runs, l.steps(runs, f.Start, f.End)
}

func byDay(runs []*run, days int) []float64 {
	out := make([]float64, days)
	for _, r := range runs {
		for d, x := range r.world.loss(0) {
			out[d] += x / 3600
		}
	}
	return out
}

func sum(x []float64) (s float64) {
	for _, v := range x {
		s += v
	}
	return s
}

// learn plays the time from one start: at every look the setting whose turn it is is
// tried in shadow on the days before, from where the placements began, and at most a
// tenth is changed.
func (l *learner) learn(s Start, res *LearnResult) (*Learnt, error) {
	off, err := l.plain(l.f, s.Set)
	if err != nil {
		return nil, err
	}
	offs := byDay(off, res.Days)
	out := &Learnt{Name: s.Name, Off: sum(offs[res.Days-res.Judged:]), Whole: sum(offs), From: values(s.Set), Refusals: map[string]int{}, Changes: []schemas.Evidence{}}
	set := s.Set
	runs := l.runs(l.f, set, l.at)
	turn := ""
	for d := 0; d < res.Days; d += l.lo.Every {
		to := min(res.Days, d+l.lo.Every)
		if err := l.steps(runs, l.f.Start+d*day, l.f.Start+to*day); err != nil {
			return nil, err
		}
		p := set.policy()
		p.Learning = &schemas.Learning{Settings: true, Bounds: learning.DefaultBounds()}
		delete(p.Learning.Bounds, learning.Hold) // the world decides without a hold
		turn, _ = learning.Next(&p, turn)
		if to < l.lo.Window || to >= res.Days {
			out.Path = append(out.Path, Point{Day: to, Set: values(set)})
			continue
		}
		ch, err := l.look(&p, set, turn, to)
		if err != nil {
			return nil, err
		}
		if ch.Reason.OK() {
			set = set.with(ch.Policy)
			out.Changes = append(out.Changes, ch.Evidence)
			for _, r := range runs {
				r.ours.settle(set)
			}
		} else {
			out.Refusals[string(ch.Reason.Code)]++
		}
		out.Path = append(out.Path, Point{Day: to, Set: values(set)})
	}
	ons := byDay(runs, res.Days)
	for i := range out.Path {
		from := 0
		if i > 0 {
			from = out.Path[i-1].Day
		}
		out.Path[i].LossOn, out.Path[i].LossOff = sum(ons[from:out.Path[i].Day]), sum(offs[from:out.Path[i].Day])
	}
	out.On, out.To = sum(ons[res.Days-res.Judged:]), values(set)
	final, err := l.plain(l.f, set)
	if err != nil {
		return nil, err
	}
	out.Final = sum(byDay(final, res.Days))
	v := runs[0].ours.fleet.View(0)
	out.Durations[0], out.Durations[1], _ = v.Costs.Errors()
	return out, nil
}

// look tries the values of a setting on the last days before a day.
func (l *learner) look(p *policy.Policy, set Settings, setting string, to int) (learning.Change, error) {
	f := l.f
	f.Start, f.End = l.f.Start+(to-l.lo.Window)*day, l.f.Start+to*day
	tries := learning.Candidates(p, setting, p.Learning.Bounds[setting])
	all := l.runs(f, set, l.at)
	for _, v := range tries {
		all = append(all, l.runs(f, set.with(learning.With(*p, setting, v)), l.at)...)
	}
	if err := l.steps(all, f.Start, f.End); err != nil {
		return learning.Change{}, err
	}
	n := len(l.at)
	losses := func(runs []*run) (out []float64) {
		for _, r := range runs {
			out = append(out, r.world.loss(0)...)
		}
		return out
	}
	now := losses(all[:n])
	var shadows []learning.Shadow
	for k, v := range tries {
		shadows = append(shadows, learning.Shadow{Tried: v, Now: now, Then: losses(all[(k+1)*n : (k+2)*n])})
	}
	return learning.Decide(*p, setting, shadows, uint64(to)), nil
}

// with takes from a policy what may be learnt.
func (s Settings) with(p policy.Policy) Settings {
	s.MinBenefit, s.Trigger = p.MinBenefit, float64(p.Trigger)
	return s
}

func values(s Settings) map[string]float64 {
	round := func(x float64) float64 { return math.Round(x*1e4) / 1e4 }
	return map[string]float64{learning.MinBenefit: round(s.MinBenefit), learning.Trigger: round(s.Trigger)}
}

// settle changes the settings of a placer at work.
func (o *ours) settle(set Settings) { o.set, o.policy = set, set.policy() }

// BadStarts are settings that are wrong on purpose, either way.
func BadStarts() []Start {
	tuned, _ := settingsOf("predictive")
	timid, hasty := tuned, tuned
	timid.MinBenefit, timid.Trigger = 3*tuned.MinBenefit, min(.8, 2*tuned.Trigger)
	hasty.MinBenefit, hasty.Trigger = tuned.MinBenefit/4, tuned.Trigger/4
	return slices.Clone([]Start{{"tuned", tuned}, {"too timid", timid}, {"too hasty", hasty}})
}

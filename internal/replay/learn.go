package replay

import (
	"context"
	"fmt"
	"math"

	"github.com/foreshift/foreshift/placer/policy"
	"github.com/foreshift/foreshift/placer/policy/learning"
	"github.com/foreshift/foreshift/schemas"
)

// Start is a place to begin from.
type Start struct {
	Name string
	Set  Settings
	// Costs is what the placer believes of a link's speed, as a share of the truth; 0:
	// the truth. Without learning it goes on believing that.
	Costs float64
}

// Learnt is what became of a start, with learning and without.
type Learnt struct {
	Name      string             `json:"name"`
	Off       float64            `json:"loss_off_core_hours"`   // of the days scored at the end, all as at the start
	On        float64            `json:"loss_on_core_hours"`    // as learnt on the way
	Final     float64            `json:"loss_final_core_hours"` // the whole time, with the settings learnt in the end
	Whole     float64            `json:"loss_start_core_hours"` // the whole time, with those of the start
	From      map[string]float64 `json:"from"`
	To        map[string]float64 `json:"to"`
	Changes   []schemas.Evidence `json:"changes"`
	Refusals  map[string]int     `json:"refusals"` // why nothing was changed, by reason
	Path      []Point            `json:"path"`
	Durations [2]float64         `json:"duration_errors"` // median relative error: arithmetic alone, corrected
}

// Point is where the settings stand after a day, and what was lost in it.
type Point struct {
	Day     float64            `json:"day"`
	Set     map[string]float64 `json:"settings"`
	LossOn  float64            `json:"loss_on_core_hours"`
	LossOff float64            `json:"loss_off_core_hours"`
}

// LearnResult is the comparison.
type LearnResult struct {
	History    string    `json:"history"`
	U          float64   `json:"u"`
	Placements int       `json:"placements"`
	Days       int       `json:"days"`
	Judged     int       `json:"days_judged"`                 // the last ones, on which on and off are compared
	Tuned      float64   `json:"loss_tuned_core_hours"`       // of the judged days, with the defaults
	Full       float64   `json:"loss_tuned_whole_core_hours"` // of all
	Starts     []Learnt  `json:"starts"`
	CPU        float64   `json:"cpu_s"`
	Curve      []float64 `json:"loss_tuned_by_day_core_hours"`
}

// movePrice is what a move counts as in the loss, in core-seconds, besides its bytes: what
// the world charges for it is little, and a fleet that never rests is no gain.
const (
	movePrice = 120
	gibPrice  = 5
)

// loss is what a run has lost so far, in core-seconds.
func (w *World) loss() float64 {
	return 3600*w.score.Unmet + movePrice*float64(w.score.Moves) + gibPrice*w.score.GiB
}

// Learn plays a history under the predictive policy with settings that are learnt on the
// way, from each start, and compares with the tuned ones and with leaving them alone.
// All of them go through the history together, and beside them, once for all starts, every
// point of the grid in shadow: a value tried has been lived with for as long as the one in
// force. A look comes after every day, on all days so far.
func Learn(ctx context.Context, h *History, opt Options, starts []Start) (*LearnResult, error) {
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
	l := &learner{ctx: ctx, h: h, f: f, opt: &opt, src: src, total: 2 * (f.End - f.Start)}
	for seed := range opt.Placements {
		at, _ := Place(h, f, int64(seed+1))
		l.at = append(l.at, at)
	}
	days := (f.End - f.Start) / day
	res := &LearnResult{History: h.Name, U: opt.U, Placements: opt.Placements, Days: days, Judged: max(1, days/2)}
	tuned, _ := settingsOf("predictive")
	base := l.begin(Start{}, tuned)
	p := learnt(tuned)
	s, why := l.shadows(p)
	if !why.OK() {
		return nil, fmt.Errorf("backtest: %s", why)
	}
	var schools []*school
	for _, one := range starts {
		schools = append(schools, l.school(one))
	}
	if err := l.play(base, s, schools); err != nil {
		return nil, err
	}
	res.Curve = hours(base.by)
	from := days - res.Judged
	res.Full, res.Tuned = sum(res.Curve), sum(res.Curve[from:])
	for _, s := range schools {
		res.Starts = append(res.Starts, s.result(from))
	}
	// Once more from the beginning, with what was learnt in the end.
	var finals []*ride
	for _, s := range schools {
		finals = append(finals, l.begin(s.Start, s.on.set))
	}
	if err := l.days(finals, nil); err != nil {
		return nil, err
	}
	for i, r := range finals {
		res.Starts[i].Final = sum(hours(r.by))
	}
	return res, nil
}

// learnt is the policy of settings, with bounds for learning.
func learnt(s Settings) policy.Policy {
	p := s.policy()
	p.Learning = &schemas.Learning{Settings: true, FixedCosts: s.FixedCosts, Bounds: learning.DefaultBounds()}
	delete(p.Learning.Bounds, learning.Hold) // the world decides without a hold
	return p
}

type learner struct {
	ctx context.Context
	h   *History
	f   Fleet
	opt *Options
	src Source
	at  [][]int32

	done, total int // steps played
}

// shadows are rides at all points of a grid, and what they have lost so far.
type shadows struct {
	grid  learning.Grid
	rides []*ride
	days  []learning.Day
}

func (l *learner) shadows(p policy.Policy) (*shadows, schemas.Reason) {
	g, why := learning.GridOf(&p)
	s := &shadows{grid: g}
	set := settingsIn(&p)
	for i := range g.Len() {
		s.rides = append(s.rides, l.begin(Start{}, set.with(g.At(i).Policy(p))))
	}
	return s, why
}

// note adds the last day: what all placements lost in it together, a placement's share.
// Placements have the same demand, so that a day counts once.
func (s *shadows) note(at int, missing float64) {
	d := learning.Day{At: at, Missing: missing}
	for _, r := range s.rides {
		d.Lost = append(d.Lost, sum(r.by[len(r.by)-1])/float64(len(r.runs)))
	}
	s.days = append(s.days, d)
}

// ride is one way to set the placer, from all placements.
type ride struct {
	set  Settings
	runs []*run
	lost []float64   // by run, up to the end of the last day
	by   [][]float64 // by day and run: core-seconds lost in it
}

// begin starts a ride from all placements.
func (l *learner) begin(s Start, set Settings) *ride {
	r := &ride{set: set, lost: make([]float64, len(l.at))}
	for _, a := range l.at {
		o := newOurs("learn", l.h, set)
		if s.Costs > 0 {
			o.bandwidth(s.Costs * gibPerStep * (1 << 30) / stepSeconds)
		}
		r.runs = append(r.runs, &run{kind: "predictive", world: NewWorld(l.h, l.f, a), policy: o, ours: o})
	}
	return r
}

// close notes what was lost since the day before.
func (r *ride) close() {
	now := make([]float64, len(r.runs))
	for i, one := range r.runs {
		x := one.world.loss()
		now[i], r.lost[i] = x-r.lost[i], x
	}
	r.by = append(r.by, now)
}

// settle changes the settings from here on.
func (r *ride) settle(set Settings) {
	r.set = set
	for _, one := range r.runs {
		one.ours.settle(set)
	}
}

// school is one start on its way: as it was, and as it learns.
type school struct {
	Start
	on, off *ride
	out     Learnt
}

func (l *learner) school(s Start) *school {
	still := s.Set
	still.FixedCosts = true
	return &school{Start: s, on: l.begin(s, s.Set), off: l.begin(s, still),
		out: Learnt{Name: s.Name, From: values(s.Set), Refusals: map[string]int{}, Changes: []schemas.Evidence{}}}
}

// decide changes the settings on what all days so far have shown.
func (c *school) decide(s *shadows) {
	ch := learning.Decide(learnt(c.on.set), s.grid, s.days, nil)
	if !ch.Reason.OK() {
		c.out.Refusals[string(ch.Reason.Code)]++
		return
	}
	c.out.Changes = append(c.out.Changes, ch.Evidence)
	c.on.settle(c.on.set.with(ch.Policy))
}

// result sums up; the days from the given one on are judged.
func (c *school) result(from int) Learnt {
	on, off := hours(c.on.by), hours(c.off.by)
	for i := range c.out.Path {
		c.out.Path[i].LossOn, c.out.Path[i].LossOff = on[i], off[i]
	}
	c.out.Off, c.out.On, c.out.Whole, c.out.To = sum(off[from:]), sum(on[from:]), sum(off), values(c.on.set)
	c.out.Durations[0], c.out.Durations[1], _ = c.on.runs[0].ours.fleet.View(0).Costs.Errors()
	return c.out
}

// play takes the tuned settings, the shadows and all schools through the history.
func (l *learner) play(base *ride, s *shadows, schools []*school) error {
	all := append([]*ride{base}, s.rides...)
	for _, c := range schools {
		all = append(all, c.on, c.off)
	}
	return l.days(all, func(n int) {
		s.note(n, 0)
		for _, c := range schools {
			c.decide(s)
			c.out.Path = append(c.out.Path, Point{Day: float64(n), Set: values(c.on.set)})
		}
	})
}

// days plays rides from beginning to end and closes every day of theirs; then is called
// after each with the number of those closed.
func (l *learner) days(rides []*ride, then func(n int)) error {
	for k := range (l.f.End - l.f.Start) / day {
		from := l.f.Start + k*day
		if err := l.steps(rides, from, from+day); err != nil {
			return err
		}
		for _, r := range rides {
			r.close()
		}
		if then != nil {
			then(k + 1)
		}
	}
	return nil
}

// steps plays rides through the steps from..to-1; all share the frames.
func (l *learner) steps(rides []*ride, from, to int) error {
	var runs []*run
	for _, r := range rides {
		runs = append(runs, r.runs...)
	}
	fr := newFrame(l.h)
	frames := map[string]*Frame{"predictive": fr}
	for t := from; t < to; t++ {
		if err := l.ctx.Err(); err != nil {
			return fmt.Errorf("backtest: %w", err)
		}
		if err := l.src.After(t, fr); err != nil {
			return err
		}
		each(l.opt.Workers, len(runs), func(i int) { runs[i].step(t, frames, t+1 >= l.f.End) })
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

// hours sums the losses of all placements by day, in core-hours.
func hours(by [][]float64) []float64 {
	out := make([]float64, len(by))
	for i, x := range by {
		out[i] = sum(x) / 3600
	}
	return out
}

func sum(x []float64) (s float64) {
	for _, v := range x {
		s += v
	}
	return s
}

// with takes from a policy what may be learnt.
func (s Settings) with(p policy.Policy) Settings {
	s.MinBenefit, s.Trigger, s.HoldSteps = p.MinBenefit, float64(p.Trigger), p.HoldSteps
	return s
}

func values(s Settings) map[string]float64 {
	round := func(x float64) float64 { return math.Round(x*1e4) / 1e4 }
	return map[string]float64{learning.MinBenefit: round(s.MinBenefit), learning.Trigger: round(s.Trigger)}
}

// settle changes the settings of a placer at work.
func (o *ours) settle(set Settings) { o.set, o.policy = set, set.policy() }

// BadStarts are the tuned settings, settings that are wrong on purpose either way, and
// the tuned ones with a belief in links that is wrong by three either way.
func BadStarts() []Start {
	tuned, _ := settingsOf("predictive")
	timid, hasty := tuned, tuned
	timid.MinBenefit, timid.Trigger = 4*tuned.MinBenefit, min(.8, 2*tuned.Trigger)
	hasty.MinBenefit, hasty.Trigger = tuned.MinBenefit/4, tuned.Trigger/4
	return []Start{{"tuned", tuned, 0}, {"too timid", timid, 0}, {"too hasty", hasty, 0}, {"links x 1/3", tuned, 1. / 3}, {"links x 3", tuned, 3}}
}

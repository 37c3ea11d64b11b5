package learning

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/foreshift/foreshift/placer/policy"
	"github.com/foreshift/foreshift/schemas"
)

// Day is what a day would have lost, moves paid for, at each point of a grid, all on the
// same demand from the same placements.
type Day struct {
	At      int       `json:"day"`     // number of the day: of its first step, in days of steps
	Lost    []float64 `json:"lost"`    // by point, core-seconds
	Missing float64   `json:"missing"` // share of the input that was missing
}

const (
	// stepMost is by how much a setting changes at a time.
	stepMost = .6
	// harm is the share of the loss by which a change must not make it worse but for a chance
	// of doubt.
	harm, doubt = .05, .25
	// worth is the share of the loss that a change is to save at the least.
	worth = .02
	// fewestDays is how many days a comparison needs; mostMissing the share of missing input
	// from which a day is left out.
	fewestDays  = 5
	mostMissing = .2
	// typical is what share of the loss another point saves or costs, before anything is known:
	// what is measured is drawn towards 0 by that. coarse is the least by which differences of
	// two days are believed to differ, as a share of a day's loss: a few quiet days say little.
	typical, coarse = .3, .3
	// kin is how much a neighbour on the grid says of a point, beside its own days. More is
	// of use where a day was played from two or three placements only.
	kin = .2
	// z is the quantile of a 90 % interval.
	z = 1.645
)

// Change is a proposal, or why there is none.
type Change struct {
	Policy   policy.Policy
	Evidence schemas.Evidence
	Reason   schemas.Reason // ok: Policy is to come into force
}

// Decide weighs all days so far and proposes a step towards the point of the grid that is
// expected to lose least, if a step there is worth it and hardly can do harm. Settings
// that rest stay as they are.
func Decide(p policy.Policy, g Grid, days []Day, resting []string) Change {
	no := func(code schemas.ReasonCode, format string, args ...any) Change {
		return Change{Policy: p, Reason: schemas.Reason{Code: code, Detail: fmt.Sprintf(format, args...)}}
	}
	var good [][]float64
	for _, d := range days {
		if d.Missing <= mostMissing && len(d.Lost) == g.Len() {
			good = append(good, g.smooth(d.Lost))
		}
	}
	if len(good) < fewestDays {
		return no(schemas.ReasonPoorData, "%d days of which enough was measured, %d are needed", len(good), fewestDays)
	}
	from := PointOf(&p)
	now := g.read(good, from)
	best, to := gain{}, from
	for i := range g.Len() {
		x := g.At(i)
		for a, s := range settings {
			for _, r := range resting {
				if r == s {
					x[a] = from[a]
				}
			}
		}
		if e := weigh(now, g.read(good, x)); e.saved > best.saved {
			best, to = e, x
		}
	}
	loss := mean(now)
	if best.saved <= worth*loss {
		return no(schemas.ReasonNotCertain, "in %d days no other setting is expected to lose %.0f %% less", len(good), 100*worth)
	}
	next := toward(from, to, stepMost)
	// Between two points a step may be worse than either end.
	for _, e := range []gain{best, weigh(now, g.read(good, next))} {
		if chance := e.below(-harm * loss); chance > doubt || e.saved <= 0 {
			return no(schemas.ReasonNotCertain, "%s would be expected to save %.3g core-seconds a day (90 %%: %.3g to %.3g), and lose more than %.0f %% with a chance of %.2f",
				told(from, to), e.saved, e.low(), e.high(), 100*harm, chance)
		}
	}
	return change(p, from, next, to, best, len(good))
}

// change is the proposal of a step with its evidence.
func change(p policy.Policy, from, next, to Point, e gain, days int) Change {
	ch := Change{Policy: next.Policy(p)}
	for a, s := range settings {
		if next[a] == from[a] {
			continue
		}
		m := schemas.Changed{Setting: s, From: from[a], To: next[a], Tried: to[a]}
		if ch.Evidence.Setting == "" {
			ch.Evidence.Changed = m
			continue
		}
		ch.Evidence.With = append(ch.Evidence.With, m)
	}
	ch.Evidence.Saved, ch.Evidence.Low, ch.Evidence.High, ch.Evidence.Samples = e.saved, e.low(), e.high(), days
	ch.Reason = schemas.Reason{Code: schemas.ReasonOK, Detail: fmt.Sprintf("%s: in shadow %s would have saved %.3g core-seconds a day (90 %%: %.3g to %.3g) in %d days", told(from, next), values(from, to), e.saved, e.low(), e.high(), days)}
	return ch
}

// told says what goes where.
func told(from, to Point) string {
	var out []string
	for a, s := range settings {
		if from[a] != to[a] {
			out = append(out, fmt.Sprintf("%s from %.4g to %.4g", s, from[a], to[a]))
		}
	}
	return strings.Join(out, ", ")
}

// values are those of a point that differ.
func values(from, to Point) string {
	var out []string
	for a := range settings {
		if from[a] != to[a] {
			out = append(out, fmt.Sprintf("%.4g", to[a]))
		}
	}
	return strings.Join(out, " and ")
}

// gain is what is expected to be saved a day, and how well that is known.
type gain struct{ saved, sd float64 }

func (e gain) low() float64  { return e.saved - z*e.sd }
func (e gain) high() float64 { return e.saved + z*e.sd }

// below is the chance that less than x is saved.
func (e gain) below(x float64) float64 {
	if e.sd <= 0 {
		if e.saved < x {
			return 1
		}
		return 0
	}
	return .5 * math.Erfc((e.saved-x)/(e.sd*math.Sqrt2))
}

// weigh compares two ways by the days of both: the mean difference, drawn towards 0 as
// far as it may be luck.
func weigh(now, then []float64) gain {
	n, loss := float64(len(now)), mean(now)
	d, s := 0.0, 0.0
	for i := range now {
		d += (now[i] - then[i]) / n
	}
	for i := range now {
		s += (now[i] - then[i] - d) * (now[i] - then[i] - d)
	}
	v := s/max(1, n-1)/n + coarse*coarse*loss*loss/n
	prior := typical * typical * loss * loss
	if prior == 0 {
		return gain{}
	}
	return gain{d * prior / (prior + v), math.Sqrt(prior * v / (prior + v))}
}

func mean(x []float64) (m float64) {
	for _, y := range x {
		m += y / float64(len(x))
	}
	return m
}

// read is what days lost at a point, on the grid or between.
func (g *Grid) read(days [][]float64, x Point) []float64 {
	at := g.shares(x)
	out := make([]float64, len(days))
	for d := range days {
		for _, s := range at {
			out[d] += s.weight * days[d][s.point]
		}
	}
	return out
}

// smooth lets neighbours on the grid share what they lost: what sets them apart in a few
// days is luck to a part, since a single move done otherwise changes all that
// follows. Points at an edge, with a neighbour on one side only, and steps in whole
// numbers, which lie far apart, stay as they are: they would be drawn to one side.
func (g *Grid) smooth(lost []float64) []float64 {
	out := slices.Clone(lost)
	unit := 1
	for a, axis := range g.axes {
		n := len(axis)
		if was := slices.Clone(out); settings[a] != Hold {
			for i := range out {
				if k := i / unit % n; k > 0 && k < n-1 {
					out[i] = (was[i] + kin*(was[i-unit]+was[i+unit])) / (1 + 2*kin)
				}
			}
		}
		unit *= n
	}
	return out
}

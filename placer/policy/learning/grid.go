package learning

import (
	"fmt"
	"math"
	"slices"

	"github.com/foreshift/foreshift/placer/policy"
	"github.com/foreshift/foreshift/schemas"
)

// Settings that may be learnt.
const (
	Trigger    = "trigger_ratio"
	MinBenefit = "min_benefit_core_seconds"
	Hold       = "hold_steps"
)

var settings = []string{MinBenefit, Trigger, Hold}

// Settings lists what may be learnt.
func Settings() []string { return slices.Clone(settings) }

// DefaultBounds are proposed where an operator has set none; nothing is changed without
// bounds in the policy.
func DefaultBounds() map[string]schemas.Range {
	return map[string]schemas.Range{Trigger: {Low: .05, High: .8}, MinBenefit: {Low: 50, High: 3000}, Hold: {Low: 0, High: 6}}
}

// Value of a setting in a policy.
func Value(p *policy.Policy, setting string) float64 {
	switch setting {
	case Trigger:
		return float64(p.Trigger)
	case MinBenefit:
		return p.MinBenefit
	}
	return float64(p.HoldSteps)
}

// With is the policy with a setting at a value.
func With(p policy.Policy, setting string, v float64) policy.Policy {
	switch setting {
	case Trigger:
		p.Trigger = schemas.Ratio(v)
	case MinBenefit:
		p.MinBenefit = v
	case Hold:
		p.HoldSteps = int(math.Round(v))
	}
	return p
}

const (
	// stride is by how much neighbours on a grid differ at the most: less shows nothing.
	stride = 2.6
	// mostValues bounds the values of a setting, narrowest what a share of the highest the
	// lowest may be, since a scale of ratios has no 0.
	mostValues = 6
	narrowest  = 1e-3
)

// Grid are the values that are played in shadow, all combinations of them: of each setting
// with bounds a few from bound to bound, of others the one in force. The zero value has
// no points.
type Grid struct {
	axes [3][]float64
}

// GridOf is the grid of a policy's bounds.
func GridOf(p *policy.Policy) (Grid, schemas.Reason) {
	var g Grid
	no := func(format string, args ...any) (Grid, schemas.Reason) {
		return Grid{}, schemas.Reason{Code: schemas.ReasonNoBounds, Detail: fmt.Sprintf(format, args...)}
	}
	if p.Learning == nil || len(p.Learning.Bounds) == 0 {
		return no("the policy has no bounds for learning")
	}
	for i, name := range settings {
		now := Value(p, name)
		b, ok := p.Learning.Bounds[name]
		switch {
		case !ok:
			g.axes[i] = []float64{now}
			continue
		case now < b.Low || now > b.High:
			return no("%s is at %g, outside its bounds: an operator wanted it so", name, now)
		case name == Hold: // steps are whole
			low, high := math.Ceil(b.Low), math.Floor(b.High)
			g.axes[i] = slices.Compact([]float64{low, math.Round(low + (high-low)/3), high})
			continue
		}
		low := max(b.Low, narrowest*b.High)
		n := min(max(int(math.Ceil(math.Log(b.High/low)/math.Log(stride)-1e-9)), 1), mostValues-1)
		if !(b.High > low) {
			n = 0
		}
		for k := range n + 1 {
			g.axes[i] = append(g.axes[i], low*math.Pow(b.High/low, float64(k)/float64(max(1, n))))
		}
	}
	if g.Len() < 2 {
		return no("the bounds leave nothing to be tried")
	}
	return g, schemas.Reason{Code: schemas.ReasonOK}
}

// Key names what days were played under: those of another key cannot be compared.
func (g *Grid) Key(p *policy.Policy) string {
	return schemas.HashJSON([]any{g.axes, p.LookAheadSteps, p.SoftWeight, p.MaxPerVMDay})
}

// Len is the number of points.
func (g *Grid) Len() int { return len(g.axes[0]) * len(g.axes[1]) * len(g.axes[2]) }

// Point is a value of each setting, in the order of [Settings].
type Point [3]float64

// At is the i-th point.
func (g *Grid) At(i int) (x Point) {
	for a := range g.axes {
		n := len(g.axes[a])
		x[a], i = g.axes[a][i%n], i/n
	}
	return x
}

// PointOf is where a policy stands.
func PointOf(p *policy.Policy) (x Point) {
	for i, s := range settings {
		x[i] = Value(p, s)
	}
	return x
}

// Policy is a policy at the point.
func (x Point) Policy(p policy.Policy) policy.Policy {
	for i, s := range settings {
		p = With(p, s, x[i])
	}
	return p
}

// share is the weight of a point of the grid for what lies between the points: that of
// straight lines on a scale of ratios, of steps in whole numbers.
type share struct {
	point  int
	weight float64
}

// shares reads a point off the grid: what it lost is the sum of what those points lost, by
// weight. What lies beyond the grid counts as its edge.
func (g *Grid) shares(x Point) []share {
	out := []share{{0, 1}}
	unit := 1
	for a, axis := range g.axes {
		k, _ := slices.BinarySearch(axis, x[a])
		lower, part := max(0, min(k-1, len(axis)-2)), 0.0
		if len(axis) > 1 {
			part = min(max(along(a, axis[lower], x[a])/along(a, axis[lower], axis[lower+1]), 0), 1)
		}
		var next []share
		for _, s := range out {
			if part < 1 {
				next = append(next, share{s.point + lower*unit, s.weight * (1 - part)})
			}
			if part > 0 {
				next = append(next, share{s.point + (lower+1)*unit, s.weight * part})
			}
		}
		out = next
		unit *= len(axis)
	}
	return out
}

// along is how far apart two values of a setting are.
func along(setting int, from, to float64) float64 {
	if settings[setting] == Hold {
		return to - from
	}
	return math.Log(max(to, 1e-12) / max(from, 1e-12))
}

// toward goes from one point straight to another, so far that no setting changes by more
// than a factor of 1 + most, or by one step; fixed settings stay.
func toward(from, to Point, most float64) Point {
	part := 1.0
	for a := range from {
		far := math.Abs(along(a, from[a], to[a]))
		if settings[a] != Hold && far > math.Log1p(most) {
			part = min(part, math.Log1p(most)/far)
		}
	}
	out := from
	for a := range from {
		switch far := along(a, from[a], to[a]); {
		case far == 0:
		case settings[a] == Hold:
			out[a] += math.Copysign(1, far)
		case part == 1:
			out[a] = to[a]
		default:
			out[a] *= math.Exp(part * far)
		}
	}
	return out
}

package learning

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/foreshift/foreshift/placer/policy"
	"github.com/foreshift/foreshift/schemas"
)

// Settings that may be learnt, in the order in which they have their turn.
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

const (
	// biggest is the largest change of a setting at a time.
	biggest = .1
	// probe is by how much the values tried in shadow differ: a tenth shows nothing.
	probe = 2.5
	// fewestSamples is how many days and placements a comparison needs.
	fewestSamples = 5
	// mostMissing is the share of missing input from which data are poor.
	mostMissing = .2
	resamples   = 1000
)

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

// Candidates are the values of a setting to be tried in shadow beside the one in force:
// one clearly below and one clearly above, inside the bounds.
func Candidates(p *policy.Policy, setting string, bounds schemas.Range) []float64 {
	now := Value(p, setting)
	tries := []float64{now / probe, now * probe}
	if setting == Hold {
		tries = []float64{now - 1, now + 1}
	}
	var out []float64
	for _, v := range tries {
		if v = min(max(v, bounds.Low), bounds.High); math.Abs(v-now) > 1e-9*max(1, now) {
			out = append(out, v)
		}
	}
	return out
}

// Shadow is what one value of a setting did beside the one in force: by day and
// placement, on the same demand, core-seconds lost, moves paid for.
type Shadow struct {
	Tried     float64
	Now, Then []float64 // of the value in force, and of the tried one
	Missing   float64   // share of the input that was missing
}

// Change is a proposal, or why there is none.
type Change struct {
	Policy   policy.Policy
	Evidence schemas.Evidence
	Reason   schemas.Reason // ok: Policy is to come into force
}

// Decide looks at the shadows of one setting and proposes at most a tenth in the
// direction of the better one, when it is certain that it is better.
func Decide(p policy.Policy, setting string, shadows []Shadow, seed uint64) Change {
	no := func(code schemas.ReasonCode, format string, args ...any) Change {
		return Change{Policy: p, Reason: schemas.Reason{Code: code, Detail: fmt.Sprintf(format, args...)}}
	}
	l := p.Learning
	if l == nil || l.Bounds == nil {
		return no(schemas.ReasonNoBounds, "the policy has no bounds for learning")
	}
	bounds, ok := l.Bounds[setting]
	if !ok {
		return no(schemas.ReasonNoBounds, "the policy has no bounds for %s", setting)
	}
	now := Value(&p, setting)
	if now < bounds.Low || now > bounds.High {
		return no(schemas.ReasonNoBounds, "%s is at %g, outside its bounds: an operator wanted it so", setting, now)
	}
	best := schemas.Evidence{Setting: setting, From: now}
	for _, s := range shadows {
		switch n := len(s.Now); {
		case n != len(s.Then) || n < fewestSamples:
			return no(schemas.ReasonPoorData, "%d comparable days, %d are needed", min(n, len(s.Then)), fewestSamples)
		case s.Missing > mostMissing:
			return no(schemas.ReasonPoorData, "%.0f %% of the input is missing", 100*s.Missing)
		}
		e := schemas.Evidence{Setting: setting, From: now, Tried: s.Tried, Samples: len(s.Now)}
		e.Saved, e.Low, e.High = saved(s.Now, s.Then, seed)
		if e.Low > 0 && (best.Tried == 0 && best.Samples == 0 || e.Saved > best.Saved) {
			best = e
		}
	}
	if best.Samples == 0 {
		return no(schemas.ReasonNotCertain, "no value tried for %s is certainly better than %g", setting, now)
	}
	to := now * (1 + biggest)
	if best.Tried < now {
		to = now * (1 - biggest)
	}
	if setting == Hold { // steps are whole: one is the least change there is
		to = now + 1
		if best.Tried < now {
			to = now - 1
		}
	}
	if to = min(max(to, bounds.Low), bounds.High); to == now {
		return no(schemas.ReasonNoBounds, "%s is at its bound of %g", setting, now)
	}
	best.To = to
	return Change{Policy: With(p, setting, to), Evidence: best, Reason: schemas.Reason{Code: schemas.ReasonOK,
		Detail: fmt.Sprintf("%s from %g to %g: in shadow %g would have saved %.3g core-seconds a day (90 %%: %.3g to %.3g) in %d comparisons", setting, now, to, best.Tried, best.Saved, best.Low, best.High, best.Samples)}}
}

// saved is the mean difference a day with its 90 % interval, by bootstrap over pairs.
func saved(now, then []float64, seed uint64) (mean, low, high float64) {
	n := len(now)
	diff := make([]float64, n)
	for i := range diff {
		diff[i] = now[i] - then[i]
		mean += diff[i] / float64(n)
	}
	rng := rand.New(rand.NewPCG(seed, 0x1ea2))
	means := make([]float64, resamples)
	for i := range means {
		for range n {
			means[i] += diff[rng.IntN(n)] / float64(n)
		}
	}
	slices.Sort(means)
	return mean, means[resamples/20], means[resamples-1-resamples/20]
}

// Next is the setting whose turn comes after another's, of those with bounds.
func Next(p *policy.Policy, after string) (string, bool) {
	if p.Learning == nil {
		return "", false
	}
	at := slices.Index(settings, after)
	for i := range settings {
		s := settings[(at+1+i)%len(settings)]
		if _, ok := p.Learning.Bounds[s]; ok {
			return s, true
		}
	}
	return "", false
}

package learning

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/foreshift/foreshift/placer/policy"
	"github.com/foreshift/foreshift/schemas"
)

func bounded() policy.Policy {
	p := policy.Default()
	p.MinBenefit = 1000
	p.Learning = &schemas.Learning{Settings: true, Bounds: DefaultBounds()}
	return p
}

// days with a certain difference between the value in force and the tried one.
func days(n int, better, noise float64) (now, then []float64) {
	rng := rand.New(rand.NewPCG(9, uint64(n)))
	for range n {
		load := 5000 * math.Exp(rng.NormFloat64()) // good and bad days alike for both
		now, then = append(now, load), append(then, load-better+noise*rng.NormFloat64())
	}
	return now, then
}

func TestDecide(t *testing.T) {
	for name, c := range map[string]struct {
		better, noise float64
		n             int
		missing       float64
		change        func(*policy.Policy)
		tried, to     float64
		says          string
	}{
		"clearly better below":   {better: 500, noise: 300, n: 14, tried: 600, to: 900},
		"clearly better above":   {better: 500, noise: 300, n: 14, tried: 1600, to: 1100},
		"not certain":            {better: 100, noise: 2000, n: 14, tried: 600, says: "not_certain"},
		"worse":                  {better: -500, noise: 300, n: 14, tried: 600, says: "not_certain"},
		"too few days":           {better: 500, noise: 1, n: 4, tried: 600, says: "poor_data"},
		"holes in the telemetry": {better: 500, noise: 1, n: 14, missing: .3, tried: 600, says: "poor_data"},
		"at the bound": {better: 500, noise: 1, n: 14, tried: 1600, says: "bound", change: func(p *policy.Policy) {
			p.Learning.Bounds = map[string]schemas.Range{MinBenefit: {Low: 100, High: 1000}}
		}},
		"stops at the bound": {better: 500, noise: 1, n: 14, tried: 1600, to: 1040, change: func(p *policy.Policy) {
			p.Learning.Bounds = map[string]schemas.Range{MinBenefit: {Low: 100, High: 1040}}
		}},
		"outside the bounds": {better: 500, noise: 1, n: 14, tried: 1600, says: "operator", change: func(p *policy.Policy) {
			p.Learning.Bounds = map[string]schemas.Range{MinBenefit: {Low: 100, High: 500}}
		}},
		"no bounds": {better: 500, noise: 1, n: 14, tried: 1600, says: "no bounds", change: func(p *policy.Policy) { p.Learning = nil }},
	} {
		p := bounded()
		if c.change != nil {
			c.change(&p)
		}
		now, then := days(c.n, c.better, c.noise)
		got := Decide(p, MinBenefit, []Shadow{{Tried: c.tried, Now: now, Then: then, Missing: c.missing}}, 1)
		if c.to == 0 {
			if got.Reason.OK() || !strings.Contains(got.Reason.String(), c.says) || got.Policy.MinBenefit != p.MinBenefit {
				t.Errorf("%s: %v", name, got.Reason)
			}
			continue
		}
		e := got.Evidence
		if !got.Reason.OK() || math.Abs(got.Policy.MinBenefit-c.to) > 1e-9 || e.To != got.Policy.MinBenefit || e.Low <= 0 || e.Samples != c.n {
			t.Errorf("%s: %v %+v", name, got.Reason, e)
		}
		if err := policy.Validate(got.Policy); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Whatever the shadows say, one setting changes, by a tenth at most, inside its bounds.
func TestChangesAreSmall(t *testing.T) {
	rng := rand.New(rand.NewPCG(4, 4))
	for range 500 {
		p := bounded()
		p.MinBenefit, p.Trigger, p.HoldSteps = 50+2950*rng.Float64(), schemas.Ratio(.05+.75*rng.Float64()), rng.IntN(7)
		s := Settings()[rng.IntN(3)]
		var shadows []Shadow
		for _, v := range Candidates(&p, s, p.Learning.Bounds[s]) {
			now, then := days(5+rng.IntN(20), 2000*rng.NormFloat64(), 100)
			shadows = append(shadows, Shadow{Tried: v, Now: now, Then: then})
		}
		got := Decide(p, s, shadows, rng.Uint64())
		for _, x := range Settings() {
			a, b := Value(&p, x), Value(&got.Policy, x)
			most := .1*a + 1e-9
			if x == Hold {
				most = 1
			}
			r := p.Learning.Bounds[x]
			if x != s && a != b || math.Abs(a-b) > most || b < r.Low || b > r.High {
				t.Fatalf("%s: %s went from %g to %g", s, x, a, b)
			}
		}
	}
}

func TestTurns(t *testing.T) {
	p := bounded()
	delete(p.Learning.Bounds, Trigger)
	a, ok := Next(&p, MinBenefit)
	b, _ := Next(&p, a)
	if !ok || a != Hold || b != MinBenefit {
		t.Errorf("%s %s", a, b)
	}
	p.Learning.Bounds = nil
	if _, ok := Next(&p, ""); ok {
		t.Error("a turn without bounds")
	}
}

// Auto is earned by decisions in shadow that came true, and by nothing else.
